//! Links to everything that a message tells of: where what a batch or a digest has no room for can be read.
//!
//! Such a link is not signed: a secret is in it, and it is held against the data of its message, where it stands as the mail
//! has it. So it is made where no key is at hand, is the same however often the mail is rendered, and ends with the message's
//! data: when its recipient is erased, and when it is kept no longer. It shows what its mail was of, and acts on nothing.
//!
//! The form, before base64url without padding: version 3 | tenant, 16 bytes | notification, 16 | secret, 16.

use super::ForgedLink;
use crate::id::{NotificationId, TenantId};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use std::fmt;
use uuid::Uuid;

const VERSION: u8 = 3;
/// In bytes.
const LENGTH: usize = 1 + 16 + 16 + 16;

/// A link to everything that a message tells of.
#[derive(Clone, PartialEq, Eq)]
pub struct CollectedLink {
    tenant: TenantId,
    notification: NotificationId,
    secret: [u8; 16],
}

crate::masked_debug!(CollectedLink, "CollectedLink", tenant, notification);

impl CollectedLink {
    /// The link of a message; `secret` is random.
    pub fn new(tenant: TenantId, notification: NotificationId, secret: [u8; 16]) -> Self {
        Self { tenant, notification, secret }
    }

    /// Takes a token apart, without believing any of it: see [`CollectedLink::stands_in`].
    ///
    /// # Errors
    ///
    /// When the text cannot be a token.
    pub fn parse(text: &str) -> Result<Self, ForgedLink> {
        if text.len() > LENGTH * 4 / 3 + 1 {
            return Err(ForgedLink);
        }
        // Takes one spelling only: no padding, and no bits beyond the last byte.
        let decoded = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| ForgedLink)?;
        let ([VERSION], rest) = decoded.split_first_chunk().ok_or(ForgedLink)? else { return Err(ForgedLink) };
        let (tenant, rest) = rest.split_first_chunk().ok_or(ForgedLink)?;
        let (notification, secret) = rest.split_first_chunk().ok_or(ForgedLink)?;
        Ok(Self {
            tenant: TenantId::from_uuid(Uuid::from_bytes(*tenant)),
            notification: NotificationId::from_uuid(Uuid::from_bytes(*notification)),
            secret: secret.try_into().map_err(|_| ForgedLink)?,
        })
    }

    /// The tenant that it is said to be of.
    pub fn claimed_tenant(&self) -> TenantId {
        self.tenant
    }

    /// The message that it is said to be of.
    pub fn claimed_notification(&self) -> NotificationId {
        self.notification
    }

    /// Whether it is the one at the end of `url`, as the message's data has it.
    pub fn stands_in(&self, url: &str) -> bool {
        let token = url.rsplit('/').next().unwrap_or_default();
        // How long this takes says nothing of how much is right.
        Sha256::digest(token) == Sha256::digest(self.to_string())
    }
}

/// As it stands in an address.
impl fmt::Display for CollectedLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.push(VERSION);
        bytes.extend(self.tenant.as_uuid().as_bytes());
        bytes.extend(self.notification.as_uuid().as_bytes());
        bytes.extend(self.secret);
        f.write_str(&BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(secret: u8) -> CollectedLink {
        let (tenant, notification) = (Uuid::from_bytes([1; 16]), Uuid::from_bytes([2; 16]));
        CollectedLink::new(TenantId::from_uuid(tenant), NotificationId::from_uuid(notification), [secret; 16])
    }

    #[test]
    fn parse_accepts_exactly_what_is_printed() {
        let printed = link(7).to_string();
        assert_eq!(CollectedLink::parse(&printed), Ok(link(7)));
        for wrong in ["", "AA", &printed[1..], &format!("{printed}A"), &format!("{printed}="), &"A".repeat(66)] {
            assert_eq!(CollectedLink::parse(wrong), Err(ForgedLink), "{wrong}");
        }
    }

    #[test]
    fn a_link_is_only_the_one_that_its_message_has() {
        let url = format!("https://notify.example.in/v1/collected/{}", link(7));
        assert!(link(7).stands_in(&url));
        assert!(!link(8).stands_in(&url));
        assert!(!link(7).stands_in(""));
    }
}
