//! Suppressed addresses as callers name them in a path and read them.

use super::pages::Cursor;
use crate::store::suppressions::Suppression;
use domain::address::{EmailAddress, PhoneNumber};
use jiff::Timestamp;
use serde_json::{Value, json};

/// An address in a path: of a mail, or a phone number, whichever it can be. In lower case, as it is looked for.
pub fn read_address(text: &str) -> Result<String, String> {
    match text.starts_with('+') && !text.contains('@') {
        true => PhoneNumber::parse(text).map(|number| number.as_str().to_owned()).map_err(|error| error.to_string()),
        false => EmailAddress::parse(text)
            .map(|address| address.as_str().to_ascii_lowercase())
            .map_err(|error| error.to_string()),
    }
}

/// A suppression of the tenant's own.
pub fn print_suppression(suppression: &Suppression) -> Value {
    let Suppression { id: _, address, reason, source, created_at } = suppression;
    json!({"address": address, "reason": reason.as_str(), "source": source.as_str(), "created_at": created_at})
}

/// What is known of an address that is on the provider's own list only. Why it came there is another tenant's business.
pub fn print_listing(address: &str, since: Timestamp) -> Value {
    json!({"address": address, "reason": null, "source": "provider_list", "created_at": since})
}

/// Where the page after this one begins.
pub fn suppression_cursor(suppression: &Suppression) -> Cursor {
    Cursor { at: suppression.created_at, id: suppression.id }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_of_mail_or_a_phone_number_in_lower_case() {
        for (text, address) in [
            ("Ada@Example.ORG", "ada@example.org"),
            ("+tag@example.org", "+tag@example.org"),
            ("a%2Bb@example.org", "a%2bb@example.org"),
            ("+4915112345678", "+4915112345678"),
        ] {
            assert_eq!(read_address(text).as_deref(), Ok(address));
        }
        for text in ["", "ada", "ada@", "+49 151", "4915112345678", "a@b.org\r\n", "ada@example.org,eve@example.org"] {
            assert!(read_address(text).is_err(), "{text:?}");
        }
    }
}
