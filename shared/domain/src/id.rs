//! The names of things: ids that we make, and keys that callers choose.
//!
//! An id is a UUID behind a prefix that says what it names, so that the id of a delivery cannot be taken for the id of an attempt, neither by the compiler nor by a person.
//! Nothing here makes an id: the shells make UUIDv7s, because that takes a clock.
//! A key is text of a caller and stays as it was written.

use std::fmt;

use uuid::Uuid;

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

/// Says why a text is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyError {
    /// The text has no characters.
    Empty,
    /// The text is longer than keys may be.
    TooLong {
        /// The most characters that this kind of key may have.
        max: usize,
    },
    /// The first character is not a letter or a digit.
    FirstCharacter,
    /// A character is not allowed.
    Character {
        /// Where it is, counted in bytes from 0.
        at: usize,
        /// The characters that are allowed, for a message.
        allowed: &'static str,
    },
    /// The text starts with a quotation mark and is not an RFC 8941 string.
    Quoting,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a key must have at least one character"),
            Self::TooLong { max } => write!(f, "a key may have at most {max} characters"),
            Self::FirstCharacter => f.write_str("a key must start with a letter or a digit"),
            Self::Character { at, allowed } => {
                write!(f, "the character at {at} is not allowed: a key may have {allowed}")
            }
            Self::Quoting => f.write_str("a quoted key must be one RFC 8941 string"),
        }
    }
}

impl std::error::Error for KeyError {}

fn check_characters(
    text: &str,
    max: usize,
    allowed: &'static str,
    is_allowed: impl Fn(u8) -> bool,
) -> Result<(), KeyError> {
    if text.is_empty() {
        return Err(KeyError::Empty);
    }
    if let Some(at) = text.bytes().position(|byte| !is_allowed(byte)) {
        return Err(KeyError::Character { at, allowed });
    }
    // Only ASCII is left, so bytes are characters.
    if text.len() > max {
        return Err(KeyError::TooLong { max });
    }
    Ok(())
}

fn check_name(text: &str) -> Result<(), KeyError> {
    check_characters(text, 128, "ASCII letters, digits and ._:@+-", |byte| {
        matches!(byte, b'.' | b'_' | b':' | b'@' | b'+' | b'-') || byte.is_ascii_alphanumeric()
    })?;
    if text.as_bytes()[0].is_ascii_alphanumeric() { Ok(()) } else { Err(KeyError::FirstCharacter) }
}

fn check_printable(text: &str) -> Result<(), KeyError> {
    check_characters(text, 255, "printable ASCII", |byte| (b' '..=b'~').contains(&byte))
}

/// A caller may use an address as its key, and logs print keys with `{:?}`.
fn debug_key(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match text.split_once('@') {
        None => write!(f, "{text:?}"),
        Some((before, _)) => {
            let first: String = before.chars().take(1).collect();
            write!(f, "\"{first}***@***\"")
        }
    }
}

macro_rules! key {
    ($(#[$doc:meta])* $name:ident, $check:ident, $errors:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Takes a key as it was written, without trimming or changing case.
            ///
            /// # Errors
            ///
            #[doc = $errors]
            pub fn parse(text: &str) -> Result<Self, KeyError> {
                $check(text)?;
                Ok(Self(text.to_owned()))
            }

            /// The key as it was written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                debug_key(&self.0, f)
            }
        }
    };
}

key! {
    /// Names a recipient within a tenant.
    RecipientKey, check_name,
    "When it is not 1 to 128 of `A-Z a-z 0-9 . _ : @ + -`, or starts with none of the letters and digits."
}
key! {
    /// Names a category within a tenant.
    CategoryKey, check_name,
    "When it is not 1 to 128 of `A-Z a-z 0-9 . _ : @ + -`, or starts with none of the letters and digits."
}
key! {
    /// Names a template within a tenant.
    TemplateKey, check_name,
    "When it is not 1 to 128 of `A-Z a-z 0-9 . _ : @ + -`, or starts with none of the letters and digits."
}
key! {
    /// Names a deadline within a tenant.
    DeadlineKey, check_name,
    "When it is not 1 to 128 of `A-Z a-z 0-9 . _ : @ + -`, or starts with none of the letters and digits."
}
key! {
    /// Names an escalation policy within a tenant.
    PolicyKey, check_name,
    "When it is not 1 to 128 of `A-Z a-z 0-9 . _ : @ + -`, or starts with none of the letters and digits."
}
key! {
    /// Names a job that a tenant's domain has registered.
    JobKey, check_name,
    "When it is not 1 to 128 of `A-Z a-z 0-9 . _ : @ + -`, or starts with none of the letters and digits."
}
key! {
    /// Names what an escalation is about, within a tenant.
    EscalationKey, check_name,
    "When it is not 1 to 128 of `A-Z a-z 0-9 . _ : @ + -`, or starts with none of the letters and digits."
}
key! {
    /// Says that two notifications tell the same thing.
    DedupeKey, check_printable,
    "When it is not 1 to 255 printable ASCII characters."
}
key! {
    /// Says that notifications belong together: in a batch, or in a debounce.
    CollectionKey, check_printable,
    "When it is not 1 to 255 printable ASCII characters."
}
key! {
    /// Says that two requests are the same request.
    IdempotencyKey, check_printable,
    "When it is not 1 to 255 printable ASCII characters."
}

impl IdempotencyKey {
    /// Reads the value of an `Idempotency-Key` header, bare or as an RFC 8941 string.
    ///
    /// `a-1` and `"a-1"` are the same key: the draft standard asks for the quoted form, and nearly every client sends the bare one.
    /// Spaces and tabs around the value are not part of it.
    ///
    /// # Errors
    ///
    /// When the quoted form is broken or followed by anything, or the key itself is not 1 to 255 printable ASCII characters.
    pub fn parse_header(value: &str) -> Result<Self, KeyError> {
        let value = value.trim_matches([' ', '\t']);
        match value.strip_prefix('"') {
            None => Self::parse(value),
            Some(quoted) => Self::parse(&unquote(quoted)?),
        }
    }
}

/// Reads the rest of an RFC 8941 string after its opening quotation mark.
fn unquote(quoted: &str) -> Result<String, KeyError> {
    let mut text = String::with_capacity(quoted.len());
    let mut characters = quoted.chars();
    loop {
        match characters.next() {
            Some('"') if characters.as_str().is_empty() => return Ok(text),
            Some('\\') => match characters.next() {
                Some(escaped @ ('"' | '\\')) => text.push(escaped),
                _ => return Err(KeyError::Quoting),
            },
            None | Some('"') => return Err(KeyError::Quoting),
            Some(plain) => text.push(plain),
        }
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

    #[test]
    fn a_name_is_refused_for_its_reason() {
        let too_long = "a".repeat(129);
        let character = |at| Err(KeyError::Character { at, allowed: "ASCII letters, digits and ._:@+-" });
        let cases: [(&str, Result<(), KeyError>); 12] = [
            ("auditor-7", Ok(())),
            ("OBSERVATION_ASSIGNED", Ok(())),
            ("7.a_b:c@d+e-f", Ok(())),
            (&too_long[1..], Ok(())),
            ("", Err(KeyError::Empty)),
            (&too_long, Err(KeyError::TooLong { max: 128 })),
            ("-a", Err(KeyError::FirstCharacter)),
            ("_a", Err(KeyError::FirstCharacter)),
            ("a b", character(1)),
            ("a\r\nb", character(1)),
            ("ab/", character(2)),
            ("é", character(0)),
        ];
        for (text, wanted) in cases {
            assert_eq!(RecipientKey::parse(text).map(|_| ()), wanted, "{text:?}");
            assert_eq!(CategoryKey::parse(text).map(|_| ()), wanted, "{text:?}");
            assert_eq!(TemplateKey::parse(text).map(|_| ()), wanted, "{text:?}");
        }
    }

    #[test]
    fn a_quoted_key_is_the_same_key_as_the_bare_one() {
        let cases = [
            ("a-1", "a-1"),
            ("\"a-1\"", "a-1"),
            (" \t\"a-1\" ", "a-1"),
            ("  a-1  ", "a-1"),
            (r#""a\"b\\c""#, r#"a"b\c"#),
            ("\" a \"", " a "),
            ("a\"b", "a\"b"),
        ];
        for (header, wanted) in cases {
            assert_eq!(
                IdempotencyKey::parse_header(header).map(|key| key.as_str().to_owned()),
                Ok(wanted.to_owned()),
                "{header:?}"
            );
        }
    }

    #[test]
    fn a_broken_key_header_is_refused() {
        for header in ["\"", "\"a", "\"a\\\"", "\"a\\n\"", "\"a\";p=1", "\"a\"b\"", "\"a\", \"b\""] {
            assert_eq!(IdempotencyKey::parse_header(header), Err(KeyError::Quoting), "{header:?}");
        }
        assert_eq!(IdempotencyKey::parse_header("  "), Err(KeyError::Empty));
        assert_eq!(IdempotencyKey::parse_header("\"\""), Err(KeyError::Empty));
        assert!(IdempotencyKey::parse_header("a\u{7f}").is_err());
        assert!(IdempotencyKey::parse_header("\"é\"").is_err());
        assert_eq!(IdempotencyKey::parse_header(&"a".repeat(256)), Err(KeyError::TooLong { max: 255 }));
    }

    #[test]
    fn debug_never_prints_an_address_that_serves_as_a_key() {
        let key = RecipientKey::parse("asha@example.in").unwrap();
        assert_eq!(format!("{key:?}"), "\"a***@***\"");
        assert_eq!(key.to_string(), "asha@example.in");
        let key = DedupeKey::parse("welcome-asha@example.in").unwrap();
        assert!(!format!("{key:?}").contains("asha"));
        assert_eq!(format!("{:?}", RecipientKey::parse("a7").unwrap()), "\"a7\"");
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

        #[test]
        fn an_accepted_key_prints_as_it_was_written(text in "\\PC{0,140}|[ -~]{0,260}") {
            if let Ok(key) = RecipientKey::parse(&text) {
                prop_assert_eq!(key.to_string(), text.as_str());
            }
            if let Ok(key) = IdempotencyKey::parse(&text) {
                prop_assert_eq!(key.to_string(), text);
            }
        }

        #[test]
        fn every_key_survives_quoting(text in "[ -~]{1,255}") {
            let quoted = format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
            let key = IdempotencyKey::parse_header(&quoted).unwrap();
            prop_assert_eq!(key.as_str(), text);
        }
    }
}
