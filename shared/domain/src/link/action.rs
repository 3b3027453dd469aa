//! Links that act: whoever holds one acknowledges or resolves an escalation, once and for a time, as one recipient.
//!
//! The token says all of it and is signed like the other links, under a label of its own, so that neither can be turned into
//! the other. Nothing secret has to be stored for it: what is kept of a link that was used is its SHA-256.
//! Nothing random is in it, and its end is its notification's, so that the same mail can be rendered again byte for byte.
//!
//! The form, before base64url without padding: version 2 | key id, 2 bytes | tenant, 16 | escalation, 16 | notification, 16 |
//! subject, 16 | action, 1 | end in seconds since 1970, 8 | MAC, 16.

use super::{ForgedLink, LinkKey, LinkKeyId, LinkKeyRing, MAC, SubjectId};
use crate::delivery::named;
use crate::id::{EscalationId, NotificationId, TenantId};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use std::fmt;
use uuid::Uuid;

const VERSION: u8 = 2;
/// What stands before every text that is signed.
const LABEL: &[u8] = b"harkara action link";
/// All but the MAC, in bytes.
const PAYLOAD: usize = 1 + 2 + 16 + 16 + 16 + 16 + 1 + 8;
/// How long a link acts where its policy does not say, in seconds: 72 hours.
pub const LINK_LIFETIME_DEFAULT_SECONDS: u32 = 72 * 60 * 60;

named! {
    /// What a link does.
    LinkAction {
        /// Acknowledges.
        Acknowledge = "acknowledge",
        /// Resolves.
        Resolve = "resolve",
    }
}

/// What an action link lets its holder do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActionToken {
    /// Whose recipient.
    pub tenant: TenantId,
    /// On which escalation.
    pub escalation: EscalationId,
    /// By the mail of which notification.
    pub notification: NotificationId,
    /// Who acts.
    pub subject: SubjectId,
    /// What.
    pub action: LinkAction,
    /// Until when, to the second.
    pub expires_at: Timestamp,
}

/// A token as somebody sent it. Only what finds the key that verifies it can be read.
pub struct UnverifiedAction {
    bytes: [u8; PAYLOAD + MAC],
    tenant: TenantId,
    key: LinkKeyId,
}

impl UnverifiedAction {
    /// Takes a token apart, without believing any of it.
    ///
    /// # Errors
    ///
    /// When the text cannot be a token, whatever the key.
    pub fn parse(text: &str) -> Result<Self, ForgedLink> {
        if text.len() > (PAYLOAD + MAC) * 4 / 3 + 1 {
            return Err(ForgedLink);
        }
        // Takes one spelling only: no padding, and no bits beyond the last byte.
        let decoded = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| ForgedLink)?;
        let bytes: [u8; PAYLOAD + MAC] = decoded.try_into().map_err(|_| ForgedLink)?;
        if bytes[0] != VERSION {
            return Err(ForgedLink);
        }
        let key = LinkKeyId::of(u16::from_be_bytes([bytes[1], bytes[2]]).into()).ok_or(ForgedLink)?;
        let tenant = TenantId::from_uuid(uuid_at(&bytes, 3)?);
        Ok(Self { bytes, tenant, key })
    }

    /// The tenant whose keys verify the token, if it is one.
    pub fn claimed_tenant(&self) -> TenantId {
        self.tenant
    }

    /// What is kept of a token that was used.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.bytes).into()
    }

    fn read(&self) -> Result<ActionToken, ForgedLink> {
        let end = self.bytes[PAYLOAD - 8..PAYLOAD].try_into().map_err(|_| ForgedLink)?;
        Ok(ActionToken {
            tenant: self.tenant,
            escalation: EscalationId::from_uuid(uuid_at(&self.bytes, 19)?),
            notification: NotificationId::from_uuid(uuid_at(&self.bytes, 35)?),
            subject: SubjectId::from_uuid(uuid_at(&self.bytes, 51)?),
            action: *LinkAction::ALL.get(usize::from(self.bytes[67])).ok_or(ForgedLink)?,
            expires_at: Timestamp::from_second(i64::from_be_bytes(end)).map_err(|_| ForgedLink)?,
        })
    }
}

impl LinkKeyRing {
    /// The token as a link carries it. The same token and key always give the same text.
    ///
    /// `None` for a token of another tenant.
    pub fn print_action(&self, token: &ActionToken) -> Option<String> {
        if token.tenant != self.tenant {
            return None;
        }
        let key = &self.keys[self.signing];
        let mut bytes = Vec::with_capacity(PAYLOAD + MAC);
        bytes.push(VERSION);
        bytes.extend(key.id.0.to_be_bytes());
        for id in
            [token.tenant.as_uuid(), token.escalation.as_uuid(), token.notification.as_uuid(), token.subject.as_uuid()]
        {
            bytes.extend(id.as_bytes());
        }
        let place = LinkAction::ALL.iter().position(|action| *action == token.action)?;
        bytes.push(u8::try_from(place).ok()?);
        bytes.extend(token.expires_at.as_second().to_be_bytes());
        let mac = sign(key, &bytes).finalize().into_bytes();
        bytes.extend(&mac[..MAC]);
        Some(BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }

    /// What a token says, where one of the tenant's keys has signed it. Its end may have passed.
    ///
    /// # Errors
    ///
    /// When it was forged, changed, cut, signed by a withdrawn key, or is another tenant's.
    pub fn verify_action(&self, link: &UnverifiedAction) -> Result<ActionToken, ForgedLink> {
        if link.tenant != self.tenant {
            return Err(ForgedLink);
        }
        let key = self.keys.iter().find(|key| key.id == link.key).ok_or(ForgedLink)?;
        let (payload, mac) = link.bytes.split_at(PAYLOAD);
        // Compares in constant time.
        sign(key, payload).verify_truncated_left(mac).map_err(|_| ForgedLink)?;
        link.read()
    }
}

fn uuid_at(bytes: &[u8], at: usize) -> Result<Uuid, ForgedLink> {
    bytes.get(at..at + 16).and_then(|bytes| Uuid::from_slice(bytes).ok()).ok_or(ForgedLink)
}

fn sign(key: &LinkKey, payload: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(&*key.secret).expect("HMAC takes a key of any length");
    mac.update(LABEL);
    mac.update(payload);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::{LinkToken, UnverifiedLink};
    use zeroize::Zeroizing;

    fn tenant(number: u128) -> TenantId {
        TenantId::from_uuid(Uuid::from_u128(number))
    }

    fn ring(tenant: TenantId, secret: u8) -> LinkKeyRing {
        let id = LinkKeyId::of(1).expect("a number");
        let key = LinkKey { id, secret: Zeroizing::new([secret; 32]), is_settled: true };
        LinkKeyRing::of(tenant, vec![key]).expect("a key")
    }

    fn token(action: LinkAction) -> ActionToken {
        ActionToken {
            tenant: tenant(1),
            escalation: EscalationId::from_uuid(Uuid::from_u128(2)),
            notification: NotificationId::from_uuid(Uuid::from_u128(3)),
            subject: SubjectId::from_uuid(Uuid::from_u128(4)),
            action,
            expires_at: Timestamp::from_second(1_800_000_000).expect("a time"),
        }
    }

    fn verify(ring: &LinkKeyRing, text: &str) -> Result<ActionToken, ForgedLink> {
        ring.verify_action(&UnverifiedAction::parse(text)?)
    }

    #[test]
    fn a_token_is_read_as_it_was_printed_and_only_by_its_tenants_keys() {
        for &action in LinkAction::ALL {
            let text = ring(tenant(1), 7).print_action(&token(action)).expect("printed");
            assert_eq!(verify(&ring(tenant(1), 7), &text), Ok(token(action)));
            assert_eq!(verify(&ring(tenant(1), 8), &text), Err(ForgedLink));
            assert_eq!(verify(&ring(tenant(2), 7), &text), Err(ForgedLink));
        }
        assert_eq!(ring(tenant(2), 7).print_action(&token(LinkAction::Resolve)), None);
    }

    #[test]
    fn no_byte_of_it_can_be_changed_and_no_other_link_is_one() {
        let ring = ring(tenant(1), 7);
        let text = ring.print_action(&token(LinkAction::Acknowledge)).expect("printed");
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(&text).expect("decoded");
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(verify(&ring, &BASE64_URL_SAFE_NO_PAD.encode(changed)), Err(ForgedLink), "byte {at}");
        }
        assert_eq!(verify(&ring, &text[1..]), Err(ForgedLink));
        assert_eq!(verify(&ring, &format!("{text}A")), Err(ForgedLink));
        let leaving =
            LinkToken { tenant: tenant(1), subject: SubjectId::from_uuid(Uuid::from_u128(4)), category: None };
        assert_eq!(verify(&ring, &ring.print(&leaving).expect("printed")), Err(ForgedLink));
        assert!(UnverifiedLink::parse(&text).is_err());
    }
}
