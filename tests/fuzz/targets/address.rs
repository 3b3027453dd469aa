//! What is taken for an address can stand in a mail, has one spelling, and its masked form gives nothing more away.

#![no_main]

use domain::address::{EmailAddress, PhoneNumber};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(address) = EmailAddress::parse(text) {
        check_address(&address);
    }
    if let Ok(number) = PhoneNumber::parse(text) {
        check_number(&number, text);
    }
});

fn check_address(address: &EmailAddress) {
    let text = address.as_str();
    assert!(text.len() <= 254, "RFC 5321 allows no more");
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
    assert!(!text.contains(['<', '>', ',', ';', ':', '"', '\\', '(', ')', '[', ']']), "would end an address list");
    assert_eq!(text, format!("{}@{}", address.local_part(), address.domain()));
    assert!(!address.local_part().contains('@'));
    assert!((1..=64).contains(&address.local_part().len()));
    assert_eq!(address.domain(), address.domain().to_ascii_lowercase());
    assert_eq!(EmailAddress::parse(text).as_ref(), Ok(address), "what is printed is read again");

    let (name, ending) = address.domain().rsplit_once('.').expect("an address has a public domain");
    let shown = format!("{}***@{}***.{ending}", &address.local_part()[..1], &name[..1]);
    assert_eq!(address.masked(), shown);
    assert_eq!(format!("{address:?}"), shown);
}

fn check_number(number: &PhoneNumber, text: &str) {
    assert_eq!(number.as_str(), text);
    let digits = text.strip_prefix('+').expect("E.164 begins with a plus");
    assert!((7..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()));
    assert_eq!(number.masked(), format!("+{}***{}", &digits[..1], &digits[digits.len() - 2..]));
    assert_eq!(format!("{number:?}"), number.masked());
}
