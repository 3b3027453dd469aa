//! The names of things: ids that we make, and keys that callers choose (see `key`).
//!
//! An id is a UUID behind a prefix that says what it names, so that the id of a delivery cannot be taken for the id of an attempt, neither by the compiler nor by a person.
//! Nothing here makes an id: the shells make UUIDv7s, because that takes a clock.

mod key;

use std::fmt;

use uuid::Uuid;

pub use key::{
    CategoryKey, CollectionKey, DeadlineKey, DedupeKey, EscalationKey, IdempotencyKey, JobKey, KeyError, PolicyKey,
    RecipientKey, TemplateKey,
};

/// Says that a text is not an id of the wanted kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdError {
    /// The form that was wanted, for a message.
    pub expected: &'static str,
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not {}", self.expected)
    }
}

impl std::error::Error for IdError {}

/// Lower-case hex and nothing else: `Uuid` itself would also take upper case, braces and URNs, and then one id would have many spellings.
fn parse_lower_hex(text: &str) -> Option<Uuid> {
    let is_lower_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() == 32 && text.bytes().all(is_lower_hex) { Uuid::try_parse(text).ok() } else { None }
}

macro_rules! prefixed_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        ///
        #[doc = concat!("Printed as `", $prefix, "` and 32 lower-case hex digits.")]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// What the printed form starts with.
            pub const PREFIX: &'static str = $prefix;

            /// Wraps a UUID that a shell made or that a row holds.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID without its prefix, as a row holds it.
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }

            /// Reads the printed form, and no other spelling of it.
            ///
            /// # Errors
            ///
            /// When the prefix is another, or what follows is not 32 lower-case hex digits.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                text.strip_prefix(Self::PREFIX)
                    .and_then(parse_lower_hex)
                    .map(Self)
                    .ok_or(IdError {
                        expected: concat!("`", $prefix, "` and 32 lower-case hex digits"),
                    })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", Self::PREFIX, self.0.as_simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

prefixed_id! {
    /// Names one request to tell one recipient one thing.
    NotificationId, "ntf_"
}
prefixed_id! {
    /// Names one notification on one channel.
    DeliveryId, "dlv_"
}
prefixed_id! {
    /// Names one provider call for a delivery.
    AttemptId, "att_"
}
prefixed_id! {
    /// Names one event on the bus.
    EventId, "evt_"
}
prefixed_id! {
    /// Names one file that leaves with the mails of a request.
    AttachmentId, "file_"
}
prefixed_id! {
    /// Names one running escalation.
    EscalationId, "esc_"
}
prefixed_id! {
    /// Names one message that ended in the dead-letter queue.
    DeadLetterId, "dl_"
}
prefixed_id! {
    /// Names one execution of a job.
    JobRunId, "run_"
}

/// Names a customer organisation, the owner of every row.
///
/// Printed as a hyphenated lower-case UUID, without prefix: that is how the claim `tenant_id` of a token carries it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(Uuid);

impl TenantId {
    /// What the printed form starts with: nothing.
    pub const PREFIX: &'static str = "";

    /// Wraps a UUID of a token or of a row.
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The operator of the deployment, who owns what belongs to nobody else.
    pub const OPERATOR: Self = Self(Uuid::nil());

    /// The UUID, as a row holds it.
    pub const fn as_uuid(self) -> Uuid {
        self.0
    }

    /// Reads the printed form, and no other spelling of it.
    ///
    /// # Errors
    ///
    /// When the text is not a hyphenated lower-case UUID.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let error = IdError { expected: "a hyphenated lower-case UUID" };
        let id = Self(Uuid::try_parse(text).map_err(|_| error)?);
        if id.to_string() == text { Ok(id) } else { Err(error) }
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_hyphenated())
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UUID: Uuid = Uuid::from_u128(0x0193_5f0a_7bcd_7e11_8a2b_0c0d_0e0f_a0b1);
    const HEX: &str = "01935f0a7bcd7e118a2b0c0d0e0fa0b1";

    #[test]
    fn each_id_prints_its_own_prefix() {
        let printed = [
            NotificationId::from_uuid(UUID).to_string(),
            DeliveryId::from_uuid(UUID).to_string(),
            AttemptId::from_uuid(UUID).to_string(),
            EventId::from_uuid(UUID).to_string(),
            AttachmentId::from_uuid(UUID).to_string(),
            DeadLetterId::from_uuid(UUID).to_string(),
        ];
        let wanted = ["ntf_", "dlv_", "att_", "evt_", "file_", "dl_"].map(|prefix| format!("{prefix}{HEX}"));
        assert_eq!(printed, wanted);
        assert_eq!(TenantId::from_uuid(UUID).to_string(), "01935f0a-7bcd-7e11-8a2b-0c0d0e0fa0b1");
    }

    #[test]
    fn an_id_has_one_spelling() {
        let refused = [
            String::new(),
            "ntf_".to_owned(),
            HEX.to_owned(),
            format!("dlv_{HEX}"),
            format!("NTF_{HEX}"),
            format!("ntf_{}", HEX.to_uppercase()),
            format!("ntf_{HEX}0"),
            format!(" ntf_{HEX}"),
            format!("ntf_{HEX}\n"),
            format!("ntf_+{}", &HEX[1..]),
            format!("ntf_{}", UUID.as_hyphenated()),
            format!("ntf_{{{}}}", &HEX[2..]),
            format!("ntf_{}é", &HEX[2..]),
        ];
        for text in refused {
            assert!(NotificationId::parse(&text).is_err(), "{text:?}");
        }
        let hyphenated = UUID.as_hyphenated().to_string();
        for text in
            [HEX.to_owned(), hyphenated.to_uppercase(), format!("{{{hyphenated}}}"), format!("urn:uuid:{hyphenated}")]
        {
            assert!(TenantId::parse(&text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_id_error_says_the_wanted_form() {
        let error = NotificationId::parse("x").unwrap_err();
        assert_eq!(error.to_string(), "not `ntf_` and 32 lower-case hex digits");
    }

    proptest! {
        #[test]
        fn an_id_is_read_back_as_printed(number: u128) {
            let uuid = Uuid::from_u128(number);
            let delivery = DeliveryId::from_uuid(uuid);
            prop_assert_eq!(DeliveryId::parse(&delivery.to_string()), Ok(delivery));
            let tenant = TenantId::from_uuid(uuid);
            prop_assert_eq!(TenantId::parse(&tenant.to_string()), Ok(tenant));
        }

        #[test]
        fn an_accepted_id_prints_as_it_was_written(text in "(ntf_|dlv_)?[0-9a-fA-F+-]{30,38}") {
            if let Ok(id) = NotificationId::parse(&text) {
                prop_assert_eq!(id.to_string(), text.as_str());
            }
            if let Ok(id) = TenantId::parse(&text) {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
