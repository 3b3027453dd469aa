//! Keys: text by which callers name things. It stays as it was written.

use std::fmt;

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
