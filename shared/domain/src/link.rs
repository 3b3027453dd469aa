//! Links in mails that act for whoever holds them: to leave a category, and to manage all preferences.
//!
//! A link carries a token and the token is the authentication: no session, no JWT.
//! Its holder is not trusted with more than it says: one tenant, one subject and at most one category, none of it personal.
//! [`LinkKeyRing`] signs and verifies with HMAC-SHA256 (RFC 2104); nobody can make a token, or turn one into another.
//! Nothing random and no time is in a token, so that the same mail can be rendered again byte for byte, and it never
//! expires: a mail may be read years later, and CAN-SPAM and RFC 8058 know no end of the wish to leave.
//!
//! The form, before base64url without padding: version 1 | key id, 2 bytes | tenant, 16 | subject, 16 | category's key,
//! 0 to 128, none for all of them | MAC, 16.

mod action;
mod collected;
mod headers;
#[cfg(test)]
mod tests;

pub use action::{ActionToken, LINK_LIFETIME_DEFAULT_SECONDS, LinkAction, UnverifiedAction};
pub use collected::CollectedLink;
pub use headers::{PublicUrl, PublicUrlError, unsubscribe_headers};

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::id::{CategoryKey, TenantId};

/// The form that is written; another one is another version.
const VERSION: u8 = 1;
/// What stands before every text that is signed, so that the key's signature of anything else is none of a link.
const LABEL: &[u8] = b"harkara link";
/// Version, key id, tenant and subject, in bytes.
const FIXED: usize = 1 + 2 + 16 + 16;
/// The part of the MAC that is kept, in bytes: half of it, which is what RFC 2104, 5 asks for at least.
const MAC: usize = 16;
/// The longest token, in characters: with a category's key of 128.
pub const MAX_TOKEN: usize = (FIXED + 128 + MAC) * 4 / 3 + 1;

/// The opaque id of a person for preferences, consents and links.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectId(Uuid);

impl SubjectId {
    /// Wraps a UUID of a row.
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The UUID, as a row holds it.
    pub const fn as_uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Debug for SubjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_hyphenated())
    }
}

/// What a link lets its holder do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LinkToken {
    /// Whose recipient.
    pub tenant: TenantId,
    /// Which person.
    pub subject: SubjectId,
    /// The category to leave; `None` for all of them, as in the preference centre.
    pub category: Option<CategoryKey>,
}

/// Names a link key within its tenant: 1 and up, one more with each rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkKeyId(u16);

impl LinkKeyId {
    /// Takes a row's number; `None` where it is not 1 to 65535.
    pub fn of(number: i32) -> Option<Self> {
        u16::try_from(number).ok().filter(|number| *number > 0).map(Self)
    }

    /// The number, as a row holds it.
    pub fn number(self) -> i32 {
        self.0.into()
    }
}

/// A secret that signs a tenant's links. It is overwritten when it is dropped, and its `Debug` shows none of it.
pub struct LinkKey {
    /// Its number.
    pub id: LinkKeyId,
    /// 32 random bytes.
    pub secret: Zeroizing<[u8; 32]>,
    /// Whether everybody who verifies has had time to hear of it.
    pub is_settled: bool,
}

impl fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkKey({} of its tenant)", self.id.0)
    }
}

/// Says that a text is no link of ours. One error for every reason: a forger learns nothing of how far it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForgedLink;

impl fmt::Display for ForgedLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a link of this service")
    }
}

impl std::error::Error for ForgedLink {}

/// A token as somebody sent it. Only what finds the key that verifies it can be read.
pub struct UnverifiedLink {
    bytes: Vec<u8>,
    tenant: TenantId,
    key: LinkKeyId,
}

impl UnverifiedLink {
    /// Takes a token apart, without believing any of it.
    ///
    /// # Errors
    ///
    /// When the text cannot be a token, whatever the key.
    pub fn parse(text: &str) -> Result<Self, ForgedLink> {
        if text.len() > MAX_TOKEN {
            return Err(ForgedLink);
        }
        // Takes one spelling only: no padding, and no bits beyond the last byte.
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| ForgedLink)?;
        let ([VERSION, high, low], rest) = bytes.split_first_chunk().ok_or(ForgedLink)? else {
            return Err(ForgedLink);
        };
        let key = LinkKeyId::of(u16::from_be_bytes([*high, *low]).into()).ok_or(ForgedLink)?;
        let (tenant, rest) = rest.split_first_chunk().ok_or(ForgedLink)?;
        let tenant = TenantId::from_uuid(Uuid::from_bytes(*tenant));
        if rest.len() < FIXED - 19 + MAC {
            return Err(ForgedLink);
        }
        Ok(Self { bytes, tenant, key })
    }

    /// The tenant whose keys verify the token, if it is one.
    pub fn claimed_tenant(&self) -> TenantId {
        self.tenant
    }

    /// What the token says, if `key` is the one that signed it.
    fn verify(&self, key: &LinkKey) -> Result<LinkToken, ForgedLink> {
        let (payload, mac) = self.bytes.split_last_chunk::<MAC>().ok_or(ForgedLink)?;
        // Compares in constant time.
        sign(key, payload).verify_truncated_left(mac).map_err(|_| ForgedLink)?;
        let (subject, category) = payload[19..].split_first_chunk().ok_or(ForgedLink)?;
        let category = match category {
            [] => None,
            key => Some(std::str::from_utf8(key).ok().and_then(|key| CategoryKey::parse(key).ok()).ok_or(ForgedLink)?),
        };
        Ok(LinkToken { tenant: self.tenant, subject: SubjectId(Uuid::from_bytes(*subject)), category })
    }
}

/// The keys of one tenant that verify, and the one that signs.
#[derive(Debug)]
pub struct LinkKeyRing {
    tenant: TenantId,
    keys: Vec<LinkKey>,
    signing: usize,
}

impl LinkKeyRing {
    /// Puts a tenant's keys together; `None` without any.
    ///
    /// The newest settled key signs, so that no link is in a mail before everybody knows its key.
    /// Where none is settled the oldest signs: it is the tenant's first, or all before it were withdrawn.
    pub fn of(tenant: TenantId, mut keys: Vec<LinkKey>) -> Option<Self> {
        keys.sort_by_key(|key| key.id);
        let newest_settled = keys.iter().rposition(|key| key.is_settled);
        let signing = newest_settled.or_else(|| (!keys.is_empty()).then_some(0))?;
        Some(Self { tenant, keys, signing })
    }

    /// The token as a link carries it. The same token and key always give the same text.
    ///
    /// `None` for a token of another tenant.
    pub fn print(&self, token: &LinkToken) -> Option<String> {
        if token.tenant != self.tenant {
            return None;
        }
        let key = &self.keys[self.signing];
        let mut bytes = Vec::with_capacity(MAX_TOKEN);
        bytes.push(VERSION);
        bytes.extend(key.id.0.to_be_bytes());
        bytes.extend(token.tenant.as_uuid().as_bytes());
        bytes.extend(token.subject.0.as_bytes());
        bytes.extend(token.category.as_ref().map(CategoryKey::as_str).unwrap_or_default().as_bytes());
        let mac = sign(key, &bytes).finalize().into_bytes();
        bytes.extend(&mac[..MAC]);
        Some(BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }

    /// What a token says, where one of the tenant's keys has signed it.
    ///
    /// # Errors
    ///
    /// When it was forged, changed, cut, signed by a withdrawn key, or is another tenant's.
    pub fn verify(&self, link: &UnverifiedLink) -> Result<LinkToken, ForgedLink> {
        if link.tenant != self.tenant {
            return Err(ForgedLink);
        }
        let key = self.keys.iter().find(|key| key.id == link.key).ok_or(ForgedLink)?;
        link.verify(key)
    }
}

fn sign(key: &LinkKey, payload: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(&*key.secret).expect("HMAC takes a key of any length");
    mac.update(LABEL);
    mac.update(payload);
    mac
}
