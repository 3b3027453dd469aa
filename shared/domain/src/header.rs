//! What stands in the head of a mail: headers, the subject, and the tags that SES keeps beside it.
//!
//! Neither the SDK nor SES's emulators look at these texts: a CR LF in a header value or in a subject goes to the wire as it is (RELIABILITY, finding 5 and section 2.2).
//! So nothing that could end a line, or be rewritten on the way, gets into these types.

pub(crate) mod subject;
mod tag;

use std::fmt;

pub use subject::{Subject, SubjectError};
pub use tag::{TagError, TagName, TagValue};

pub(crate) use subject::{breaks_line, encode_words, is_plain};

/// The longest header name that SES takes, in bytes.
const MAX_NAME: usize = 126;
/// The longest header value that SES takes, in bytes.
const MAX_VALUE: usize = 995;
/// The longest name and value together that SES takes, in bytes.
const MAX_HEADER: usize = 996;

/// Says why something is not a header that SES takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderError {
    /// The name has no characters.
    NameEmpty,
    /// The name is longer than 126 bytes.
    NameTooLong,
    /// The name has a character that is not allowed in names.
    NameCharacter,
    /// The value has no characters.
    ValueEmpty,
    /// The value is longer than 995 bytes.
    ValueTooLong,
    /// The value has a character other than printable ASCII.
    ValueCharacter,
    /// Name and value together are longer than 996 bytes.
    TooLong,
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NameEmpty => "a header name must not be empty",
            Self::NameTooLong => "a header name may have at most 126 bytes",
            Self::NameCharacter => "a header name may have printable ASCII only, without space and colon",
            Self::ValueEmpty => "a header value must not be empty",
            Self::ValueTooLong => "a header value may have at most 995 bytes",
            Self::ValueCharacter => "a header value may have printable ASCII only",
            Self::TooLong => "a header may have at most 996 bytes of name and value",
        })
    }
}

impl std::error::Error for HeaderError {}

/// The name of a header: 1 to 126 of printable ASCII, without space and colon.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderName(String);

impl HeaderName {
    /// Takes a name as it was written; its case is kept.
    ///
    /// # Errors
    ///
    /// When the text is not `^[!-9;-@A-~]{1,126}$`, which is what SES takes.
    pub fn parse(text: &str) -> Result<Self, HeaderError> {
        if text.is_empty() {
            return Err(HeaderError::NameEmpty);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':') {
            return Err(HeaderError::NameCharacter);
        }
        if text.len() > MAX_NAME {
            return Err(HeaderError::NameTooLong);
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The value of a header: 1 to 995 of printable ASCII.
///
/// `Debug` shows only its length, because values carry links with tokens and addresses.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderValue(String);

impl HeaderValue {
    /// Takes a value as it was written.
    ///
    /// # Errors
    ///
    /// When the text is not `^[ -~]{1,995}$`, which is what SES takes.
    pub fn parse(text: &str) -> Result<Self, HeaderError> {
        if text.is_empty() {
            return Err(HeaderError::ValueEmpty);
        }
        if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(HeaderError::ValueCharacter);
        }
        if text.len() > MAX_VALUE {
            return Err(HeaderError::ValueTooLong);
        }
        Ok(Self(text.to_owned()))
    }

    /// The value as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeaderValue({} bytes)", self.0.len())
    }
}

/// One header that SES takes beside the ones it writes itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Header {
    name: HeaderName,
    value: HeaderValue,
}

impl Header {
    /// Puts a name and its value together.
    ///
    /// # Errors
    ///
    /// When they have more than 996 bytes together.
    pub fn new(name: HeaderName, value: HeaderValue) -> Result<Self, HeaderError> {
        if name.0.len() + value.0.len() > MAX_HEADER {
            return Err(HeaderError::TooLong);
        }
        Ok(Self { name, value })
    }

    /// What stands before the colon.
    pub fn name(&self) -> &HeaderName {
        &self.name
    }

    /// What stands after the colon.
    pub fn value(&self) -> &HeaderValue {
        &self.value
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::subject::tests::{hostile_text, is_printable_line};
    use super::*;

    #[test]
    fn a_header_name_is_what_ses_takes() {
        let long = "X".repeat(127);
        let cases = [
            ("X-Harkara-Id", Ok(())),
            ("!", Ok(())),
            ("~", Ok(())),
            (&long[1..], Ok(())),
            (&long, Err(HeaderError::NameTooLong)),
            ("", Err(HeaderError::NameEmpty)),
            ("X-A:", Err(HeaderError::NameCharacter)),
            ("X A", Err(HeaderError::NameCharacter)),
            ("X-A\r\nBcc", Err(HeaderError::NameCharacter)),
            ("X-A\0", Err(HeaderError::NameCharacter)),
            ("X-\u{7f}", Err(HeaderError::NameCharacter)),
            ("X-é", Err(HeaderError::NameCharacter)),
        ];
        for (text, wanted) in cases {
            assert_eq!(HeaderName::parse(text).map(|_| ()), wanted, "{text:?}");
        }
    }

    #[test]
    fn a_header_value_is_one_line_of_printable_ascii() {
        let long = "v".repeat(996);
        let cases = [
            ("<https://example.in/u?t=1>, <mailto:u@example.in>", Ok(())),
            (" ", Ok(())),
            (&long[1..], Ok(())),
            (&long, Err(HeaderError::ValueTooLong)),
            ("", Err(HeaderError::ValueEmpty)),
            ("a\r\nBcc: b@example.in", Err(HeaderError::ValueCharacter)),
            ("a\nb", Err(HeaderError::ValueCharacter)),
            ("a\rb", Err(HeaderError::ValueCharacter)),
            ("a\0b", Err(HeaderError::ValueCharacter)),
            ("a\tb", Err(HeaderError::ValueCharacter)),
            ("a\u{7f}b", Err(HeaderError::ValueCharacter)),
            ("a\u{2028}b", Err(HeaderError::ValueCharacter)),
            ("नमस्ते", Err(HeaderError::ValueCharacter)),
        ];
        for (text, wanted) in cases {
            assert_eq!(HeaderValue::parse(text).map(|_| ()), wanted, "{text:?}");
        }
    }

    #[test]
    fn name_and_value_together_have_a_limit() {
        let name = HeaderName::parse("Ab").unwrap();
        let value = |count| HeaderValue::parse(&"v".repeat(count)).unwrap();
        let header = Header::new(name.clone(), value(994)).unwrap();
        assert_eq!(header.name().as_str(), "Ab");
        assert_eq!(header.value().as_str().len(), 994);
        assert_eq!(Header::new(name, value(995)), Err(HeaderError::TooLong));
    }

    #[test]
    fn debug_shows_no_value() {
        let header = Header::new(HeaderName::parse("X-Link").unwrap(), HeaderValue::parse("secret").unwrap()).unwrap();
        let debug = format!("{header:?}");
        assert!(debug.contains("X-Link") && !debug.contains("secret"), "{debug}");
    }

    proptest! {
        #[test]
        fn a_header_is_refused_or_stands_on_one_line_within_its_limits(name in hostile_text(), value in hostile_text()) {
            if let (Ok(name), Ok(value)) = (HeaderName::parse(&name), HeaderValue::parse(&value)) {
                prop_assert!(is_printable_line(name.as_str()) && is_printable_line(value.as_str()));
                prop_assert!(!name.as_str().contains([' ', ':']));
                let length = name.as_str().len() + value.as_str().len();
                prop_assert_eq!(Header::new(name, value).is_ok(), length <= 996);
            }
        }

        #[test]
        fn an_accepted_header_is_read_back_and_is_one_line(name: String, value: String) {
            if let Ok(name) = HeaderName::parse(&name) {
                prop_assert_eq!(HeaderName::parse(&name.to_string()), Ok(name));
            }
            if let Ok(value) = HeaderValue::parse(&value) {
                prop_assert_eq!(HeaderValue::parse(&value.to_string()), Ok(value.clone()));
                prop_assert!(!value.as_str().contains(['\r', '\n', '\0']));
            }
        }
    }
}
