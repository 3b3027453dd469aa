//! The subject of a mail, and how text outside ASCII stands in a head.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// The longest line of a mail without its CR LF, in bytes (RFC 5322, 2.1.1).
const MAX_SUBJECT: usize = 998;

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

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

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
    fn debug_shows_no_subject() {
        let subject = Subject::parse("Asha owes 5").unwrap();
        assert_eq!(format!("{subject:?}"), "Subject(11 bytes)");
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
    }
}
