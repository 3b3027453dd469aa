//! Signatures of calls, as Standard Webhooks has them: <https://www.standardwebhooks.com>.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use core::fmt;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// What a call of an endpoint is signed with; the endpoint knows it, too. It is overwritten when it is dropped.
pub struct SigningSecret(Zeroizing<Vec<u8>>);

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(..)")
    }
}

impl SigningSecret {
    /// Takes its bytes.
    pub fn of(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    /// Its bytes, to be sealed.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As people are given it: `whsec_` and its bytes in base64.
    pub fn print(&self) -> String {
        format!("whsec_{}", STANDARD.encode(&*self.0))
    }

    fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

/// The header `webhook-signature` of a message: one signature by each secret, of which the receiver knows one.
pub fn print_signatures(secrets: &[SigningSecret], id: &str, timestamp: i64, body: &str) -> String {
    let signatures: Vec<_> = secrets.iter().map(|secret| secret.sign(id, timestamp, body)).collect();
    signatures.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example that Standard Webhooks' own libraries are tested with.
    #[test]
    fn a_signature_is_what_every_library_of_the_standard_verifies() {
        let bytes = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("base64");
        let secret = SigningSecret::of(Zeroizing::new(bytes));
        assert_eq!(secret.print(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let (id, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", r#"{"test": 2432232314}"#);
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(print_signatures(&[secret], id, 1_614_265_330, body), signature);
    }

    #[test]
    fn while_a_secret_is_replaced_both_sign() {
        let secrets = [1, 2].map(|byte| SigningSecret::of(Zeroizing::new(vec![byte; 32])));
        let both = print_signatures(&secrets, "id", 1, "{}");
        let each: Vec<_> = secrets.iter().map(|secret| secret.sign("id", 1, "{}")).collect();
        assert_eq!(both.split(' ').collect::<Vec<_>>(), each);
        assert_ne!(each.first(), each.last());
        assert_eq!(format!("{secrets:?}"), "[SigningSecret(..), SigningSecret(..)]");
    }
}
