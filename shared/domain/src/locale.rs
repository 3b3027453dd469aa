//! Languages as callers and recipients name them.

use std::fmt;

use icu_locale_core::LanguageIdentifier;

/// The longest tag: what RFC 5646, 4.4.1 asks every program to have room for.
const MAX_LOCALE: usize = 35;

/// A language by its BCP 47 tag: language, then script, region and variants where they are told, such as `hi`, `sr-Latn` or `en-IN`.
///
/// Kept in canonical case.
/// Whether a subtag is registered is not asked: templates are found by comparing tags.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locale(String);

/// Says why a text is not a locale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocaleError {
    /// The text is longer than 35 characters.
    TooLong,
    /// The text is not language, script, region and variants in that order.
    Form,
    /// The tag says that the language is not known.
    Undetermined,
}

impl fmt::Display for LocaleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "a locale may have at most 35 characters",
            Self::Form => "not a BCP 47 language tag such as hi, en-IN or sr-Latn",
            Self::Undetermined => "a locale must name a language",
        })
    }
}

impl std::error::Error for LocaleError {}

impl Locale {
    /// Reads a tag in any case and brings it into canonical case.
    ///
    /// # Errors
    ///
    /// When the text is not a language with at most a script, a region and variants: extensions and private tags choose no template.
    pub fn parse(text: &str) -> Result<Self, LocaleError> {
        if text.len() > MAX_LOCALE {
            return Err(LocaleError::TooLong);
        }
        let tag = LanguageIdentifier::try_from_str(text).map_err(|_| LocaleError::Form)?;
        if tag.language.is_unknown() {
            return Err(LocaleError::Undetermined);
        }
        Ok(Self(tag.to_string()))
    }

    /// The tag in canonical case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The language alone, such as `hi` of `hi-IN`.
    pub fn language(&self) -> &str {
        self.0.split('-').next().unwrap_or(&self.0)
    }

    /// Ever less specific locales to look for after this one, the most specific first (RFC 4647, 3.4): `hi-Deva-IN` gives `hi-Deva`, then `hi`.
    pub fn fallbacks(&self) -> Vec<Locale> {
        let mut fallbacks = Vec::new();
        let mut tag = self.0.as_str();
        while let Some((shorter, _)) = tag.rsplit_once('-') {
            fallbacks.push(Self(shorter.to_owned()));
            tag = shorter;
        }
        fallbacks
    }
}

impl fmt::Display for Locale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_locale_prints_in_canonical_case() {
        let cases = [
            ("hi", "hi"),
            ("HI", "hi"),
            ("hi-in", "hi-IN"),
            ("EN-in", "en-IN"),
            ("sr-LATN-rs", "sr-Latn-RS"),
            ("es-419", "es-419"),
            ("de-CH-1996", "de-CH-1996"),
            ("sl-ROZAJ", "sl-rozaj"),
            ("mni-Beng", "mni-Beng"),
        ];
        for (text, wanted) in cases {
            assert_eq!(Locale::parse(text).map(|locale| locale.to_string()), Ok(wanted.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_locale_is_refused_for_its_reason() {
        for text in [
            "",
            "-",
            "h",
            "1",
            "hi_IN",
            "hi-",
            "-IN",
            "hi--IN",
            "hi IN",
            "hi-IN\n",
            "hi-I",
            "hi-IN-IN",
            "IN-hi-Deva",
            "en-u-ca-indian",
            "x-private",
            "i-klingon",
            "हिंदी",
            "english-language",
            "de-1996-1996",
        ] {
            assert_eq!(Locale::parse(text), Err(LocaleError::Form), "{text:?}");
        }
        assert_eq!(Locale::parse("und"), Err(LocaleError::Undetermined));
        assert_eq!(Locale::parse("und-IN"), Err(LocaleError::Undetermined));
        assert_eq!(Locale::parse("de-variant1-variant2-variant3-variant4"), Err(LocaleError::TooLong));
    }

    #[test]
    fn a_locale_falls_back_to_its_language() {
        let cases: [(&str, &[&str]); 5] = [
            ("hi", &[]),
            ("hi-IN", &["hi"]),
            ("hi-Deva-IN", &["hi-Deva", "hi"]),
            ("es-419", &["es"]),
            ("de-CH-1996", &["de-CH", "de"]),
        ];
        for (text, wanted) in cases {
            let locale = Locale::parse(text).unwrap();
            let fallbacks: Vec<String> = locale.fallbacks().iter().map(Locale::to_string).collect();
            assert_eq!(fallbacks, wanted, "{text}");
        }
        assert_eq!(Locale::parse("hi-IN").unwrap().language(), "hi");
        assert_eq!(Locale::parse("hi").unwrap().language(), "hi");
    }

    proptest! {
        #[test]
        fn a_locale_and_its_fallbacks_are_read_back_as_printed(
            text in "[a-zA-Z]{2,8}(-[a-zA-Z]{4})?(-([a-zA-Z]{2}|[0-9]{3}))?(-[a-z0-9]{4,8}){0,2}|.{0,12}"
        ) {
            if let Ok(locale) = Locale::parse(&text) {
                prop_assert!(locale.as_str().eq_ignore_ascii_case(&text) || text.matches('-').count() > 1);
                for fallback in locale.fallbacks() {
                    prop_assert_eq!(Locale::parse(fallback.as_str()), Ok(fallback));
                }
                prop_assert_eq!(Locale::parse(locale.as_str()), Ok(locale));
            }
        }
    }
}
