//! Whatever is taken for a part of a mail's head stands on one line of printable ASCII within SES's limits, and says
//! the same once a reader has decoded it.

#![no_main]

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use domain::address::EmailAddress;
use domain::header::{Header, HeaderName, HeaderValue, Subject, TagName, TagValue};
use domain::name::DisplayName;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (name, value) = text.split_once(':').unwrap_or((text, text));
    check_header(name, value);
    check_tag(text);
    if let Ok(subject) = Subject::parse(text) {
        check_subject(&subject);
    }
    if let Ok(name) = DisplayName::parse(text) {
        check_name(&name);
    }
});

fn check_header(name: &str, value: &str) {
    let (Ok(name), Ok(value)) = (HeaderName::parse(name), HeaderValue::parse(value)) else {
        return;
    };
    assert!(is_line(name.as_str()) && is_line(value.as_str()));
    assert!(!name.as_str().contains([' ', ':']));
    assert!(name.as_str().len() <= 126 && value.as_str().len() <= 995);
    if let Ok(header) = Header::new(name, value) {
        assert!(header.name().as_str().len() + header.value().as_str().len() <= 996);
        let bytes = header.value().as_str().len();
        assert_eq!(format!("{:?}", header.value()), format!("HeaderValue({bytes} bytes)"));
    }
}

fn check_tag(text: &str) {
    if let Ok(tag) = TagValue::parse(text) {
        assert!(TagName::parse(text).is_ok());
        assert!((1..=256).contains(&tag.as_str().len()));
        assert!(tag.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)));
    }
}

fn check_subject(subject: &Subject) {
    let encoded = subject.encoded();
    assert!(is_line(&encoded) && encoded.len() <= 998);
    assert_eq!(decode_phrase(&encoded), subject.as_str());
    assert_eq!(Subject::parse(subject.as_str()).as_ref(), Ok(subject));
    assert!(!subject.as_str().contains(['\r', '\n', '\0']), "SES gets the subject as it is");
}

fn check_name(name: &DisplayName) {
    let address = EmailAddress::parse("a@example.in").expect("an address");
    let mailbox = name.mailbox(&address);
    assert!(is_line(&mailbox));
    let shown = mailbox.strip_suffix(" <a@example.in>").expect("ends with the one address");
    assert_eq!(read_shown(shown), name.as_str());
    assert_eq!(DisplayName::parse(name.as_str()).as_ref(), Ok(name));
    assert!(name.masked().chars().count() == 4, "the mask shows one character");
}

/// A quoted string of RFC 5322, or encoded words.
fn read_shown(shown: &str) -> String {
    let Some(quoted) = shown.strip_prefix('"') else {
        return decode_phrase(shown);
    };
    let quoted = quoted.strip_suffix('"').expect("a closed quotation");
    let mut text = String::new();
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.push(characters.next().expect("something is escaped")),
            '"' => panic!("the quotation ends early: {shown}"),
            other => text.push(other),
        }
    }
    text
}

/// Decodes as a mail reader does: RFC 2047.
fn decode_phrase(phrase: &str) -> String {
    if !phrase.contains("=?") {
        return phrase.to_owned();
    }
    phrase
        .split(' ')
        .map(|word| {
            assert!(word.len() <= 75, "an encoded word has at most 75 characters");
            let inner = word.strip_prefix("=?UTF-8?B?").and_then(|rest| rest.strip_suffix("?=")).expect("encoded");
            String::from_utf8(BASE64_STANDARD.decode(inner).expect("base64")).expect("no character is cut in two")
        })
        .collect()
}

fn is_line(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}
