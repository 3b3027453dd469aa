//! Where a message goes: e-mail addresses and phone numbers.
//!
//! Neither the SDK nor SES's emulators refuse an address that would break a header, so these types do (RELIABILITY, header injection).
//! `Debug` masks them, because logs print values with `{:?}`; the whole text comes out only through `as_str` and `Display`.

use std::fmt;

use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};

/// The longest local part, in bytes (RFC 5321, 4.5.3.1.1).
const MAX_LOCAL_PART: usize = 64;
/// The longest address, in bytes: a path of 256 less its angle brackets (RFC 5321, 4.5.3.1.3).
const MAX_ADDRESS: usize = 254;
/// The longest text that is looked at: IDNA takes more than linear time, and no domain of this length can become a short one.
const MAX_INPUT: usize = 1024;

/// An e-mail address that SES takes: `local@domain`, all ASCII, the domain in lower case and Punycode.
///
/// The local part stays as it was written, because only its own server knows whether case matters.
/// Quoted local parts and address literals are refused: no provider of mailboxes hands them out, and they are how headers get broken.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EmailAddress {
    text: String,
    at: usize,
}

/// Says why a text is not an e-mail address that can be sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmailError {
    /// The text has no characters.
    Empty,
    /// The address is longer than 254 bytes once its domain is in ASCII.
    TooLong,
    /// There is no `@`.
    NoAt,
    /// Nothing stands before the `@`.
    LocalPartEmpty,
    /// More than 64 bytes stand before the `@`.
    LocalPartTooLong,
    /// The local part is quoted.
    LocalPartQuoted,
    /// The local part has a character that is not allowed: SES takes ASCII only.
    LocalPartCharacter,
    /// The local part starts or ends with a dot or has two in a row.
    LocalPartDots,
    /// The domain is not a domain name.
    Domain,
    /// The domain has no dot, so it is not a public one.
    DomainWithoutDot,
}

impl fmt::Display for EmailError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "an e-mail address must not be empty",
            Self::TooLong => "an e-mail address may have at most 254 bytes",
            Self::NoAt => "an e-mail address must have an @",
            Self::LocalPartEmpty => "nothing stands before the @",
            Self::LocalPartTooLong => "at most 64 bytes may stand before the @",
            Self::LocalPartQuoted => "a quoted local part is not supported",
            Self::LocalPartCharacter => "before the @ only ASCII letters, digits and .!#$%&'*+-/=?^_`{|}~ are allowed",
            Self::LocalPartDots => "the part before the @ must not start or end with a dot or have two in a row",
            Self::Domain => "what follows the @ is not a domain name",
            Self::DomainWithoutDot => "the domain must have at least one dot",
        })
    }
}

impl std::error::Error for EmailError {}

impl EmailAddress {
    /// Reads an address and brings its domain into lower-case ASCII.
    ///
    /// What it returns prints as a text that parses to the same address.
    ///
    /// # Errors
    ///
    /// When the text is not one address of RFC 5321 with an unquoted ASCII local part and a domain of at least two labels.
    pub fn parse(text: &str) -> Result<Self, EmailError> {
        if text.is_empty() {
            return Err(EmailError::Empty);
        }
        if text.len() > MAX_INPUT {
            return Err(EmailError::TooLong);
        }
        let (local, domain) = text.rsplit_once('@').ok_or(EmailError::NoAt)?;
        check_local_part(local)?;
        let domain = Uts46::new()
            .to_ascii(domain.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast, DnsLength::Verify)
            .map_err(|_| EmailError::Domain)?;
        let Some((_, last_label)) = domain.rsplit_once('.') else {
            return Err(EmailError::DomainWithoutDot);
        };
        // A last label of digits is an IP address to every resolver, and no top-level domain.
        if last_label.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(EmailError::Domain);
        }
        let text = format!("{local}@{domain}");
        if text.len() > MAX_ADDRESS {
            return Err(EmailError::TooLong);
        }
        Ok(Self { text, at: local.len() })
    }

    /// The whole address, for the provider and for the row.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What stands before the `@`, as it was written.
    pub fn local_part(&self) -> &str {
        &self.text[..self.at]
    }

    /// What stands after the `@`, in lower-case ASCII.
    pub fn domain(&self) -> &str {
        &self.text[self.at + 1..]
    }

    /// Enough to recognise an address by and too little to write to: `a***@d***.in`.
    pub fn masked(&self) -> String {
        let (name, ending) = self.domain().rsplit_once('.').expect("parse refuses a domain without a dot");
        format!("{}***@{}***.{ending}", &self.local_part()[..1], &name[..1])
    }
}

fn check_local_part(local: &str) -> Result<(), EmailError> {
    if local.is_empty() {
        return Err(EmailError::LocalPartEmpty);
    }
    if local.starts_with('"') {
        return Err(EmailError::LocalPartQuoted);
    }
    // The atext of RFC 5322 and the dot.
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".!#$%&'*+-/=?^_`{|}~".contains(&byte);
    if !local.bytes().all(is_allowed) {
        return Err(EmailError::LocalPartCharacter);
    }
    if local.starts_with('.') || local.ends_with('.') || local.contains("..") {
        return Err(EmailError::LocalPartDots);
    }
    if local.len() > MAX_LOCAL_PART {
        return Err(EmailError::LocalPartTooLong);
    }
    Ok(())
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

/// A phone number in E.164: `+` and 7 to 15 digits, the first not 0.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhoneNumber(String);

/// Says why a text is not a phone number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhoneError {
    /// The text does not start with `+`.
    NoPlus,
    /// Something other than a digit follows the `+`.
    Digits,
    /// There are fewer than 7 or more than 15 digits.
    Length,
    /// The first digit is 0, and no country code starts so.
    LeadingZero,
}

impl fmt::Display for PhoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoPlus => "a phone number must start with + and the country code",
            Self::Digits => "only digits may follow the + of a phone number",
            Self::Length => "a phone number must have 7 to 15 digits",
            Self::LeadingZero => "no country code starts with 0",
        })
    }
}

impl std::error::Error for PhoneError {}

impl PhoneNumber {
    /// Reads a number in E.164 and nothing around it.
    ///
    /// # Errors
    ///
    /// When the text is not `+` and 7 to 15 ASCII digits, the first not 0.
    pub fn parse(text: &str) -> Result<Self, PhoneError> {
        let digits = text.strip_prefix('+').ok_or(PhoneError::NoPlus)?;
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(PhoneError::Digits);
        }
        if !(7..=15).contains(&digits.len()) {
            return Err(PhoneError::Length);
        }
        if digits.starts_with('0') {
            return Err(PhoneError::LeadingZero);
        }
        Ok(Self(text.to_owned()))
    }

    /// The whole number, for the provider and for the row.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Enough to recognise a number by and too little to call: `+9***10`.
    pub fn masked(&self) -> String {
        format!("{}***{}", &self.0[..2], &self.0[self.0.len() - 2..])
    }
}

impl fmt::Display for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse_email(text: &str) -> Result<String, EmailError> {
        EmailAddress::parse(text).map(|address| address.to_string())
    }

    #[test]
    fn an_address_prints_with_its_domain_in_lower_case_ascii() {
        let cases = [
            ("asha@example.in", "asha@example.in"),
            ("Asha.Rao+tag@Example.IN", "Asha.Rao+tag@example.in"),
            ("o'brien!#$%&*-/=?^_`{|}~@a.b", "o'brien!#$%&*-/=?^_`{|}~@a.b"),
            ("a@münchen.de", "a@xn--mnchen-3ya.de"),
            ("a@MÜNCHEN.DE", "a@xn--mnchen-3ya.de"),
            ("a@xn--mnchen-3ya.de", "a@xn--mnchen-3ya.de"),
            ("a@उदाहरण.भारत", "a@xn--p1b6ci4b4b3a.xn--h2brj9c"),
            ("a@example。com", "a@example.com"),
            ("fail+3--abc@simulator.harkara.test", "fail+3--abc@simulator.harkara.test"),
        ];
        for (text, wanted) in cases {
            assert_eq!(parse_email(text), Ok(wanted.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn what_would_break_a_header_is_no_address() {
        for broken in [
            "\r",
            "\n",
            "\r\nBcc: x@y.z\r\n",
            "\0",
            " ",
            "\t",
            "\u{85}",
            "\u{2028}",
            "\u{202e}",
            ",",
            "<",
            ">",
            "\"",
            "\\",
            ";",
            "\u{a0}",
        ] {
            for text in [
                format!("a{broken}b@example.in"),
                format!("{broken}a@example.in"),
                format!("a@exa{broken}mple.in"),
                format!("a@example.in{broken}"),
            ] {
                assert!(EmailAddress::parse(&text).is_err(), "{text:?}");
            }
        }
    }

    #[test]
    fn an_address_is_refused_for_its_reason() {
        let long = |count| format!("{}@example.in", "a".repeat(count));
        let label = "b".repeat(63);
        // 63 + 3 * 64 = 255 bytes of domain are too many, whatever stands before it.
        let long_domain = format!("a@{label}.{label}.{label}.{label}");
        // 64 + 1 + 189 = 254, and one more.
        let longest = format!("{}@{label}.{label}.{}", "a".repeat(64), &label[2..]);
        let too_long = format!("{}@{label}.{label}.{}", "a".repeat(64), &label[1..]);
        let cases: [(&str, Result<(), EmailError>); 28] = [
            (&long(64), Ok(())),
            (&long(65), Err(EmailError::LocalPartTooLong)),
            (&longest, Ok(())),
            (&too_long, Err(EmailError::TooLong)),
            (&long_domain, Err(EmailError::Domain)),
            (&format!("a@{}", "b".repeat(2000)), Err(EmailError::TooLong)),
            ("", Err(EmailError::Empty)),
            ("example.in", Err(EmailError::NoAt)),
            ("@example.in", Err(EmailError::LocalPartEmpty)),
            ("a@", Err(EmailError::Domain)),
            ("a@.", Err(EmailError::Domain)),
            ("a@localhost", Err(EmailError::DomainWithoutDot)),
            ("a@.in", Err(EmailError::Domain)),
            ("a@example..in", Err(EmailError::Domain)),
            ("a@example.in.", Err(EmailError::Domain)),
            ("a@-example.in", Err(EmailError::Domain)),
            ("a@exa_mple.in", Err(EmailError::Domain)),
            ("a@[127.0.0.1]", Err(EmailError::Domain)),
            ("a@127.0.0.1", Err(EmailError::Domain)),
            ("a@xn--a.in", Err(EmailError::Domain)),
            ("a@b@example.in", Err(EmailError::LocalPartCharacter)),
            ("a b@example.in", Err(EmailError::LocalPartCharacter)),
            ("jürgen@example.de", Err(EmailError::LocalPartCharacter)),
            ("\"a b\"@example.in", Err(EmailError::LocalPartQuoted)),
            (".a@example.in", Err(EmailError::LocalPartDots)),
            ("a.@example.in", Err(EmailError::LocalPartDots)),
            ("a..b@example.in", Err(EmailError::LocalPartDots)),
            ("Asha <a@example.in>", Err(EmailError::LocalPartCharacter)),
        ];
        for (text, wanted) in cases {
            assert_eq!(parse_email(text).map(|_| ()), wanted, "{text:?}");
        }
    }

    #[test]
    fn an_address_knows_its_parts() {
        let address = EmailAddress::parse("Asha.Rao@Mail.Example.in").unwrap();
        assert_eq!(address.local_part(), "Asha.Rao");
        assert_eq!(address.domain(), "mail.example.in");
    }

    #[test]
    fn debug_masks_addresses_and_numbers() {
        let address = EmailAddress::parse("asha.rao@dvara.in").unwrap();
        assert_eq!(format!("{address:?}"), "a***@d***.in");
        assert_eq!(address.masked(), "a***@d***.in");
        let number = PhoneNumber::parse("+919876543210").unwrap();
        assert_eq!(format!("{number:?}"), "+9***10");
        assert_eq!(number.masked(), "+9***10");
        assert_eq!(format!("{:?}", Some(address)), "Some(a***@d***.in)");
    }

    #[test]
    fn a_phone_number_is_e164() {
        let cases = [
            ("+919876543210", Ok(())),
            ("+1234567", Ok(())),
            ("+123456789012345", Ok(())),
            ("", Err(PhoneError::NoPlus)),
            ("919876543210", Err(PhoneError::NoPlus)),
            (" +919876543210", Err(PhoneError::NoPlus)),
            ("+", Err(PhoneError::Length)),
            ("+123456", Err(PhoneError::Length)),
            ("+1234567890123456", Err(PhoneError::Length)),
            ("+0123456789", Err(PhoneError::LeadingZero)),
            ("+91 98765 43210", Err(PhoneError::Digits)),
            ("+91987654321\n", Err(PhoneError::Digits)),
            ("++19876543210", Err(PhoneError::Digits)),
            ("+९१९८७६५४३२१०", Err(PhoneError::Digits)),
        ];
        for (text, wanted) in cases {
            assert_eq!(PhoneNumber::parse(text).map(|_| ()), wanted, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn an_address_is_read_back_as_printed(
            text in "[!-~]{1,70}@[a-zA-Z0-9äßẞİéभारत。.-]{1,80}\\.[a-z]{2,6}|\\PC{0,30}@\\PC{0,30}"
        ) {
            if let Ok(address) = EmailAddress::parse(&text) {
                prop_assert_eq!(EmailAddress::parse(address.as_str()), Ok(address.clone()));
                prop_assert!(address.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
                prop_assert!(address.as_str().len() <= 254);
                let debug = format!("{address:?}");
                prop_assert!(!debug.contains(address.as_str()));
            }
        }

        #[test]
        fn no_text_breaks_the_parsers(text: String) {
            let _ = EmailAddress::parse(&text);
            let _ = PhoneNumber::parse(&text);
        }

        /// Whoever reads a log learns the first characters and the ending, and nothing of what is between them.
        #[test]
        fn a_mask_is_the_same_for_all_that_begin_and_end_alike(
            local in "[a-z0-9]", name in "[a-z]", ending in "[a-z]{2,6}",
            one in ("[a-zA-Z0-9._*+-]{0,30}", "[a-zA-Z0-9.-]{0,30}"),
            other in ("[a-zA-Z0-9._*+-]{0,30}", "[a-zA-Z0-9.-]{0,30}"),
        ) {
            let read = |(local_rest, name_rest): (String, String)| {
                EmailAddress::parse(&format!("{local}{local_rest}@{name}{name_rest}.{ending}"))
            };
            if let (Ok(one), Ok(other)) = (read(one), read(other)) {
                prop_assert_eq!(one.masked(), other.masked());
                prop_assert_eq!(format!("{one:?}"), one.masked());
            }
        }

        #[test]
        fn a_masked_number_keeps_its_first_and_last_digits(number in "[1-9][0-9]{6,14}") {
            let masked = PhoneNumber::parse(&format!("+{number}")).unwrap().masked();
            prop_assert_eq!(masked, format!("+{}***{}", &number[..1], &number[number.len() - 2..]));
        }

        #[test]
        fn a_number_prints_as_it_was_written(text in "\\+?[0-9٠-٩ ]{0,17}") {
            if let Ok(number) = PhoneNumber::parse(&text) {
                prop_assert_eq!(number.to_string(), text);
            }
        }
    }
}
