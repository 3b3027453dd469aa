//! The tags that SES keeps beside a mail and repeats in its events.

use std::fmt;

/// The longest name or value of a tag that SES takes, in bytes.
const MAX_TAG: usize = 256;

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
mod tests {
    use proptest::prelude::*;

    use super::*;

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

    proptest! {
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
