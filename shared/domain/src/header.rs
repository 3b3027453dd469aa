//! What stands in the head of a mail: headers, the subject, and the tags that SES keeps beside it.
//!
//! Neither the SDK nor SES's emulators look at these texts: a CR LF in a header value or in a subject goes to the wire as it is (RELIABILITY, finding 5 and section 2.2).
//! So nothing that could end a line, or be rewritten on the way, gets into these types.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// The longest header name that SES takes, in bytes.
const MAX_NAME: usize = 126;
/// The longest header value that SES takes, in bytes.
const MAX_VALUE: usize = 995;
/// The longest name and value together that SES takes, in bytes.
const MAX_HEADER: usize = 996;
/// The longest line of a mail without its CR LF, in bytes (RFC 5322, 2.1.1).
const MAX_SUBJECT: usize = 998;
/// The longest name or value of a tag that SES takes, in bytes.
const MAX_TAG: usize = 256;

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

/// Says why a text is not a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubjectError {
    /// The text has no characters, or only spaces.
    Empty,
    /// The subject is longer than 998 bytes as it stands in the mail.
    TooLong,
    /// The subject has a line break, a NUL or another control character.
    Control,
}

impl fmt::Display for SubjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "a subject must not be empty",
            Self::TooLong => "a subject may have at most 998 bytes as it stands in the mail",
            Self::Control => "a subject must not have line breaks, NUL or other control characters",
        })
    }
}

impl std::error::Error for SubjectError {}

/// The subject of a mail: one line of Unicode text.
///
/// It stays Unicode, because SES's simple content takes a subject with its charset and encodes it itself; `encoded` is for whatever does not.
/// `Debug` shows only its length, because subjects name people and their affairs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject(String);

impl Subject {
    /// Takes a subject as it was written, without trimming.
    ///
    /// # Errors
    ///
    /// When the text is blank, has a control character or a line separator, or is longer than 998 bytes as `encoded` prints it.
    pub fn parse(text: &str) -> Result<Self, SubjectError> {
        if text.trim().is_empty() {
            return Err(SubjectError::Empty);
        }
        if text.chars().any(breaks_line) {
            return Err(SubjectError::Control);
        }
        // Encoding only makes a text longer, so a long one need not be encoded to know.
        if text.len() > MAX_SUBJECT || encode_phrase(text).len() > MAX_SUBJECT {
            return Err(SubjectError::TooLong);
        }
        Ok(Self(text.to_owned()))
    }

    /// The subject as a person reads it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the subject can stand in a mail as it is.
    pub fn is_ascii(&self) -> bool {
        self.0.is_ascii()
    }

    /// The subject in 7-bit ASCII: itself, or as encoded words (RFC 2047) where a mail could not carry it as it is.
    pub fn encoded(&self) -> Cow<'_, str> {
        encode_phrase(&self.0)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subject({} bytes)", self.0.len())
    }
}

/// Control characters, and the two separators that some programs take for a line break.
pub(crate) fn breaks_line(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

/// Whether a header can carry a text as it is and a reader sees the same text.
///
/// Text that only looks like an encoded word cannot: a reader would decode it, line breaks and all.
pub(crate) fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && !text.contains("=?")
}

/// The most bytes of text in one encoded word, so that it has at most 75 characters (RFC 2047, 2): 12 around 60 of base64.
const MAX_WORD: usize = 45;

/// Writes text as encoded words with spaces between them, which readers drop.
///
/// No character is cut in two, because each word is decoded alone.
pub(crate) fn encode_words(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() * 2);
    let mut rest = text;
    while !rest.is_empty() {
        let (word, after) = rest.split_at(rest.floor_char_boundary(MAX_WORD));
        if !encoded.is_empty() {
            encoded.push(' ');
        }
        encoded.push_str("=?UTF-8?B?");
        BASE64_STANDARD.encode_string(word, &mut encoded);
        encoded.push_str("?=");
        rest = after;
    }
    encoded
}

fn encode_phrase(text: &str) -> Cow<'_, str> {
    if is_plain(text) { Cow::Borrowed(text) } else { Cow::Owned(encode_words(text)) }
}

/// Says why a text is not the name or the value of a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagError {
    /// The text has no characters.
    Empty,
    /// The text is longer than 256 bytes.
    TooLong,
    /// The text has something other than ASCII letters, digits, `_` and `-`.
    Character,
}

impl fmt::Display for TagError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "a tag must not be empty",
            Self::TooLong => "a tag may have at most 256 bytes",
            Self::Character => "a tag may have ASCII letters, digits, _ and - only",
        })
    }
}

impl std::error::Error for TagError {}

fn check_tag(text: &str) -> Result<(), TagError> {
    if text.is_empty() {
        return Err(TagError::Empty);
    }
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-') {
        return Err(TagError::Character);
    }
    if text.len() > MAX_TAG {
        return Err(TagError::TooLong);
    }
    Ok(())
}

macro_rules! tag {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Takes a text as it was written.
            ///
            /// # Errors
            ///
            /// When the text is not `^[A-Za-z0-9_-]{1,256}$`, which is what SES takes.
            pub fn parse(text: &str) -> Result<Self, TagError> {
                check_tag(text)?;
                Ok(Self(text.to_owned()))
            }

            /// The text as it was written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

tag! {
    /// The name of a tag that SES keeps beside a mail and repeats in its events.
    TagName
}
tag! {
    /// The value of a tag: an id fits, an e-mail address does not.
    TagValue
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

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
    fn a_subject_is_one_line() {
        let cases = [
            ("Your booking is confirmed", Ok(())),
            ("आपकी बुकिंग हो गई ✅", Ok(())),
            (" spaces stay ", Ok(())),
            ("", Err(SubjectError::Empty)),
            ("  ", Err(SubjectError::Empty)),
            ("\r\n", Err(SubjectError::Empty)),
            ("a\r\nBcc: b@example.in", Err(SubjectError::Control)),
            ("a\nb", Err(SubjectError::Control)),
            ("a\rb", Err(SubjectError::Control)),
            ("a\0", Err(SubjectError::Control)),
            ("a\tb", Err(SubjectError::Control)),
            ("a\u{85}b", Err(SubjectError::Control)),
            ("a\u{2028}b", Err(SubjectError::Control)),
            ("a\u{2029}b", Err(SubjectError::Control)),
        ];
        for (text, wanted) in cases {
            assert_eq!(Subject::parse(text).map(|_| ()), wanted, "{text:?}");
        }
        assert!(Subject::parse(&"a".repeat(998)).is_ok());
        assert_eq!(Subject::parse(&"a".repeat(999)), Err(SubjectError::TooLong));
        // 13 words of 15 letters have 13 * 72 + 12 bytes; a fourteenth word is too much.
        assert!(Subject::parse(&"क".repeat(13 * 15)).is_ok());
        assert_eq!(Subject::parse(&"क".repeat(14 * 15)), Err(SubjectError::TooLong));
    }

    #[test]
    fn a_subject_is_encoded_only_where_it_must_be() {
        let cases = [
            ("Plain", "Plain"),
            ("é", "=?UTF-8?B?w6k=?="),
            // Looks encoded, and would be decoded into a line break.
            ("=?UTF-8?B?DQo=?=", "=?UTF-8?B?PT9VVEYtOD9CP0RRbz0/PQ==?="),
        ];
        for (text, wanted) in cases {
            let subject = Subject::parse(text).unwrap();
            assert_eq!(subject.encoded(), wanted, "{text:?}");
            assert_eq!(subject.is_ascii(), text.is_ascii());
        }
    }

    #[test]
    fn a_tag_is_what_ses_takes() {
        let long = "a".repeat(257);
        let cases = [
            ("nid", Ok(())),
            ("ntf_01935f0a7bcd7e118a2b0c0d0e0fa0b1", Ok(())),
            ("A-Z_9", Ok(())),
            (&long[1..], Ok(())),
            (&long, Err(TagError::TooLong)),
            ("", Err(TagError::Empty)),
            ("a.b", Err(TagError::Character)),
            ("a@b", Err(TagError::Character)),
            ("a b", Err(TagError::Character)),
            ("a\r\n", Err(TagError::Character)),
            ("é", Err(TagError::Character)),
        ];
        for (text, wanted) in cases {
            assert_eq!(TagName::parse(text).map(|_| ()), wanted, "{text:?}");
            assert_eq!(TagValue::parse(text).map(|_| ()), wanted, "{text:?}");
        }
    }

    #[test]
    fn debug_shows_neither_subject_nor_value() {
        let subject = Subject::parse("Asha owes 5").unwrap();
        assert_eq!(format!("{subject:?}"), "Subject(11 bytes)");
        let header = Header::new(HeaderName::parse("X-Link").unwrap(), HeaderValue::parse("secret").unwrap()).unwrap();
        let debug = format!("{header:?}");
        assert!(debug.contains("X-Link") && !debug.contains("secret"), "{debug}");
    }

    /// Reads encoded words as a mail reader does.
    pub(crate) fn decode_words(encoded: &str) -> String {
        encoded
            .split(' ')
            .map(|word| {
                assert!(word.len() <= 75, "{word}");
                let inner = word.strip_prefix("=?UTF-8?B?").and_then(|rest| rest.strip_suffix("?=")).unwrap();
                String::from_utf8(BASE64_STANDARD.decode(inner).unwrap()).unwrap()
            })
            .collect()
    }

    /// Text that wants out of its header: line ends in all their spellings, quotation, encoded words, long runs.
    pub(crate) fn hostile_text() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            4 => "[ -~]{1,40}",
            4 => "\\PC{1,40}",
            1 => proptest::sample::select(vec![
                "\r\nBcc: x@example.in", "\r", "\n", "\0", "\t", "\u{b}", "\u{7f}", "\u{85}", "\u{2028}", "\u{2029}",
                "\u{202e}", "=?UTF-8?B?", "DQo=", "?=", "=?", "\"", "\\", "<", ">", ",", ";", ":", "@", " ", "é", "e\u{301}",
            ]).prop_map(str::to_owned),
            1 => (1usize..600).prop_map(|count| "क".repeat(count)),
            1 => (1usize..1_000).prop_map(|count| "a".repeat(count)),
        ];
        proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    pub(crate) fn is_printable_line(text: &str) -> bool {
        text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
    }

    /// What a reader sees of a phrase: itself, or its encoded words decoded.
    pub(crate) fn read_phrase(phrase: &str) -> String {
        if phrase.contains("=?") { decode_words(phrase) } else { phrase.to_owned() }
    }

    proptest! {
        #[test]
        fn a_subject_is_refused_or_stands_on_one_line_and_says_what_was_written(text in hostile_text()) {
            if let Ok(subject) = Subject::parse(&text) {
                prop_assert!(!subject.as_str().contains(['\r', '\n', '\0']));
                let encoded = subject.encoded();
                prop_assert!(is_printable_line(&encoded) && encoded.len() <= 998);
                prop_assert_eq!(read_phrase(&encoded), text);
            }
        }

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
        fn encoded_words_are_read_back(text in "\\PC{1,300}") {
            prop_assert_eq!(decode_words(&encode_words(&text)), text);
        }

        #[test]
        fn a_subject_is_read_back_as_printed(text in "\\PC{0,200}|[ -~]{0,1000}|.{0,20}") {
            if let Ok(subject) = Subject::parse(&text) {
                prop_assert_eq!(Subject::parse(&subject.to_string()), Ok(subject.clone()));
                let encoded = subject.encoded();
                prop_assert!(encoded.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
                prop_assert!(encoded.len() <= 998);
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

        #[test]
        fn an_accepted_tag_is_read_back(text in "[a-zA-Z0-9_-]{0,258}|[ -~]{0,4}") {
            if let Ok(name) = TagName::parse(&text) {
                prop_assert_eq!(name.to_string(), text.as_str());
            }
            if let Ok(value) = TagValue::parse(&text) {
                prop_assert_eq!(value.to_string(), text);
            }
        }
    }
}
