//! The issuer of tokens: OIDC discovery, its keys, and any token that a test or a person asks for.
//!
//! Only the local stack trusts it, by the parameter `JwtIssuer`.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::failure::{Failure, Outcome, While};
use crate::python::Environment;

/// The audience of every token; the template's default.
pub const AUDIENCE: &str = "harkara";

/// Every scope that a route asks for.
pub const ALL_SCOPES: &str = "notifications:write notifications:read manage jobs:run";

/// How long a token is good unless it is asked for otherwise: longer than anybody keeps a local stack up.
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// What a token shall say.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// The tenant's id; a token without one is a token that no route may accept.
    pub tenant_id: Option<String>,
    /// Scopes with spaces between; absent: all of them.
    #[serde(default = "all_scopes")]
    pub scope: String,
    /// Who acts.
    #[serde(default = "default_actor")]
    pub sub: String,
    /// Of a recipient who logged in by phone.
    #[serde(default)]
    pub phone_number: Option<String>,
    /// Seconds until it expires; may be negative.
    #[serde(default = "default_lifetime")]
    pub expires_in: i64,
}

fn all_scopes() -> String {
    ALL_SCOPES.to_owned()
}

fn default_actor() -> String {
    "developer".to_owned()
}

fn default_lifetime() -> i64 {
    LIFETIME.as_secs().cast_signed()
}

impl TokenRequest {
    /// A token of a tenant with all scopes.
    pub fn for_tenant(tenant_id: &str) -> Self {
        Self {
            tenant_id: Some(tenant_id.to_owned()),
            scope: all_scopes(),
            sub: default_actor(),
            phone_number: None,
            expires_in: default_lifetime(),
        }
    }
}

/// The issuer's key.
#[derive(Debug)]
pub struct Issuer {
    url: String,
    key: RsaKeyPair,
    public: Value,
}

#[derive(Serialize, Deserialize)]
struct KeyFile {
    pkcs8: String,
    public: Value,
}

impl Issuer {
    /// Makes the key file when there is none. The key is made by Python's `cryptography`, because `ring` makes no RSA keys.
    ///
    /// Errors: Python fails, or the file cannot be written.
    pub fn make_key(environment: &Environment, file: &Path) -> Outcome<()> {
        if file.exists() {
            return Ok(());
        }
        let output = Command::new(environment.program("python"))
            .args(["-c", MAKE_KEY])
            .output()
            .while_doing("making the issuer's key")?;
        if !output.status.success() {
            return Err(Failure::new(format!(
                "making the issuer's key failed: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )));
        }
        std::fs::write(file, output.stdout).while_doing(format_args!("writing {}", file.display()))
    }

    /// Reads the key file.
    ///
    /// Errors: there is none, or it is none.
    pub fn read(file: &Path, url: impl Into<String>) -> Outcome<Self> {
        let text = std::fs::read_to_string(file).while_doing(format_args!("reading {}", file.display()))?;
        let file: KeyFile = serde_json::from_str(&text).while_doing("reading the issuer's key")?;
        let der = STANDARD.decode(&file.pkcs8).while_doing("reading the issuer's key")?;
        Ok(Self {
            url: url.into(),
            key: RsaKeyPair::from_pkcs8(&der).while_doing("reading the issuer's key")?,
            public: file.public,
        })
    }

    /// The discovery document.
    pub fn discovery(&self) -> Value {
        json!({
            "issuer": self.url,
            "jwks_uri": format!("{}/jwks.json", self.url),
            "response_types_supported": ["token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        })
    }

    /// The public keys.
    pub fn keys(&self) -> Value {
        json!({"keys": [self.public]})
    }

    /// Signs a token.
    ///
    /// Errors: the signature fails.
    pub fn sign(&self, request: &TokenRequest) -> Outcome<String> {
        let now =
            SystemTime::now().duration_since(UNIX_EPOCH).while_doing("reading the clock")?.as_secs().cast_signed();
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": self.public["kid"]});
        let mut claims = json!({
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": request.sub,
            "iat": now,
            "exp": now + request.expires_in,
            "scope": request.scope,
        });
        if let Some(tenant_id) = &request.tenant_id {
            claims["tenant_id"] = json!(tenant_id);
        }
        if let Some(phone_number) = &request.phone_number {
            claims["phone_number"] = json!(phone_number);
        }
        let text =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
            .while_doing("signing a token")?;
        Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

const MAKE_KEY: &str = r#"
import base64, json
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
number = lambda n: base64.urlsafe_b64encode(n.to_bytes((n.bit_length() + 7) // 8, "big")).rstrip(b"=").decode()
public = key.public_key().public_numbers()
print(json.dumps({
    "pkcs8": base64.b64encode(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())).decode(),
    "public": {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "local", "n": number(public.n), "e": number(public.e)},
}))
"#;
