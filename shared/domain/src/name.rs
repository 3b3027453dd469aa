//! The name that stands beside an address, of a sender or of a recipient.

use std::fmt;

use icu_normalizer::ComposingNormalizer;

use crate::address::EmailAddress;
use crate::header::{breaks_line, encode_words, is_plain};

/// The most characters of a name.
const MAX_NAME: usize = 128;

/// A person's or organisation's name as a mail reader shows it: 1 to 128 characters of one line, in Unicode's composed form.
///
/// `Debug` masks it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DisplayName(String);

/// Says why a text is not a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// The text has no characters, or only spaces.
    Empty,
    /// The name has more than 128 characters.
    TooLong,
    /// The name has a line break, a NUL, another control character, or one that turns the direction of what follows.
    Control,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "a name must not be empty",
            Self::TooLong => "a name may have at most 128 characters",
            Self::Control => "a name must not have line breaks or other control characters",
        })
    }
}

impl std::error::Error for NameError {}

/// Characters that make what follows read backwards: they let a name swallow the address beside it.
pub(crate) fn turns_direction(character: char) -> bool {
    matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl DisplayName {
    /// Reads a name and composes its characters (NFC), without trimming.
    ///
    /// It looks at the composed text, so that nothing can hide behind an odd spelling.
    ///
    /// # Errors
    ///
    /// When the text is blank, has more than 128 characters, or has a character that could end its line or turn its direction.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        // At most four characters compose into one, so a long text need not be composed to know.
        if text.chars().count() > MAX_NAME * 4 {
            return Err(NameError::TooLong);
        }
        let name = ComposingNormalizer::new_nfc().normalize(text);
        if name.chars().any(|c| breaks_line(c) || turns_direction(c)) {
            return Err(NameError::Control);
        }
        if name.trim().is_empty() {
            return Err(NameError::Empty);
        }
        if name.chars().count() > MAX_NAME {
            return Err(NameError::TooLong);
        }
        Ok(Self(name.into_owned()))
    }

    /// The name as a person reads it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Enough to recognise a name by: `A***`.
    pub fn masked(&self) -> String {
        let first: String = self.0.chars().take(1).collect();
        format!("{first}***")
    }

    /// The mailbox of RFC 5322 that shows this name for an address, in 7-bit ASCII.
    ///
    /// The name is quoted, or written as encoded words (RFC 2047) where quotes could not carry it.
    pub fn mailbox(&self, address: &EmailAddress) -> String {
        if is_plain(&self.0) {
            let escaped = self.0.replace('\\', "\\\\").replace('"', "\\\"");
            format!("\"{escaped}\" <{address}>")
        } else {
            // An encoded word inside quotes would be shown as it is written.
            format!("{} <{address}>", encode_words(&self.0))
        }
    }
}

impl fmt::Display for DisplayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DisplayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::header::subject::tests::{hostile_text, is_printable_line, read_phrase};

    /// What a reader shows for a phrase of RFC 5322: a quotation without its escapes, or encoded words decoded.
    fn read_shown(phrase: &str) -> String {
        let Some(quoted) = phrase.strip_prefix('"') else { return read_phrase(phrase) };
        let mut characters = quoted.strip_suffix('"').expect("a closed quotation").chars();
        let mut shown = String::new();
        while let Some(character) = characters.next() {
            assert_ne!(character, '"', "the quotation ends early: {phrase}");
            shown.push(if character == '\\' { characters.next().expect("an escaped character") } else { character });
        }
        shown
    }

    #[test]
    fn a_name_is_one_line() {
        let long = "é".repeat(129);
        let cases = [
            ("Asha Rao", Ok("Asha Rao")),
            ("आशा राव", Ok("आशा राव")),
            ("e\u{301}", Ok("é")),
            (&long[2..], Ok(&long[2..])),
            (&long, Err(NameError::TooLong)),
            ("", Err(NameError::Empty)),
            (" \u{a0} ", Err(NameError::Empty)),
            ("a\r\nBcc: b@example.in", Err(NameError::Control)),
            ("a\nb", Err(NameError::Control)),
            ("a\0b", Err(NameError::Control)),
            ("a\u{7f}b", Err(NameError::Control)),
            ("a\u{85}b", Err(NameError::Control)),
            ("a\u{2028}b", Err(NameError::Control)),
            ("a\u{202e}b", Err(NameError::Control)),
            ("a\u{2066}b", Err(NameError::Control)),
        ];
        for (text, wanted) in cases {
            assert_eq!(DisplayName::parse(text).map(|name| name.to_string()), wanted.map(str::to_owned), "{text:?}");
        }
        assert_eq!(DisplayName::parse(&"a".repeat(10_000)), Err(NameError::TooLong));
    }

    #[test]
    fn a_mailbox_is_quoted_or_encoded() {
        let address = EmailAddress::parse("a@example.in").unwrap();
        let cases = [
            ("Asha Rao", r#""Asha Rao" <a@example.in>"#),
            ("Rao, Asha", r#""Rao, Asha" <a@example.in>"#),
            (r#"a "b" \c"#, r#""a \"b\" \\c" <a@example.in>"#),
            ("x@evil.test>, <y", r#""x@evil.test>, <y" <a@example.in>"#),
            ("आशा", "=?UTF-8?B?4KSG4KS24KS+?= <a@example.in>"),
            ("=?UTF-8?B?DQo=?=", "=?UTF-8?B?PT9VVEYtOD9CP0RRbz0/PQ==?= <a@example.in>"),
        ];
        for (name, wanted) in cases {
            assert_eq!(DisplayName::parse(name).unwrap().mailbox(&address), wanted);
        }
    }

    #[test]
    fn debug_masks_a_name() {
        let name = DisplayName::parse("Asha Rao").unwrap();
        assert_eq!(format!("{name:?}"), "A***");
    }

    proptest! {
        #[test]
        fn a_name_is_read_back_as_printed(text in "\\PC{0,140}|.{0,10}") {
            if let Ok(name) = DisplayName::parse(&text) {
                prop_assert_eq!(DisplayName::parse(&name.to_string()), Ok(name));
            }
        }

        #[test]
        fn a_name_is_refused_or_a_reader_sees_it_as_it_is(text in hostile_text()) {
            let address = EmailAddress::parse("a@example.in").unwrap();
            if let Ok(name) = DisplayName::parse(&text) {
                let mailbox = name.mailbox(&address);
                prop_assert!(is_printable_line(&mailbox), "{mailbox}");
                prop_assert_eq!(read_shown(mailbox.strip_suffix(" <a@example.in>").unwrap()), name.as_str());
            }
        }

        #[test]
        fn a_mask_shows_one_character_of_a_name(text in "\\PC{1,128}") {
            if let Ok(name) = DisplayName::parse(&text) {
                let first: String = name.as_str().chars().take(1).collect();
                prop_assert_eq!(name.masked(), format!("{first}***"));
                prop_assert_eq!(format!("{name:?}"), name.masked());
            }
        }

        #[test]
        fn a_mailbox_is_one_line_of_ascii_and_has_one_address(text in "\\PC{1,128}") {
            let address = EmailAddress::parse("a@example.in").unwrap();
            if let Ok(name) = DisplayName::parse(&text) {
                let mailbox = name.mailbox(&address);
                prop_assert!(mailbox.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
                let shown = mailbox.strip_suffix(" <a@example.in>").unwrap();
                if let Some(quoted) = shown.strip_prefix('"') {
                    let inside = quoted.strip_suffix('"').unwrap();
                    let unescaped = inside.replace("\\\\", "").replace("\\\"", "");
                    prop_assert!(!unescaped.contains(['"', '\\']));
                } else {
                    prop_assert!(!shown.contains(['<', '>', '@', ',', '"']));
                }
            }
        }
    }
}
