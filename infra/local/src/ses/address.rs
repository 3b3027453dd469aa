//! Addresses as SES reads them: `local@domain`, or a display name and the address in angle brackets.

use super::refusal::Refusal;

/// RFC 5321: the longest local part, in bytes.
const LOCAL_PART_MAX: usize = 64;
/// RFC 5321: the longest address, in bytes; SES's own limit is 320 for the whole field.
const ADDRESS_MAX: usize = 254;
const FIELD_MAX: usize = 320;
/// Characters that RFC 5322 does not allow in an unquoted local part or display name.
const LOCAL_SPECIALS: &str = "()<>[]:;@\\,\"";

/// An address that passed SES's rules. `Display` is not offered: the ledger wants the bare, lower-cased form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    local: String,
    domain: String,
}

impl Address {
    /// Reads one mailbox field (`a@b.example`, `Name <a@b.example>`).
    ///
    /// Errors: `BadRequestException` in SES's words.
    pub(super) fn parse(field: &str) -> Result<Self, Refusal> {
        if field.len() > FIELD_MAX {
            return Err(Refusal::bad_request("Address is too long"));
        }
        let address = match field.strip_suffix('>') {
            None => field,
            Some(rest) => {
                let (name, address) = rest.rsplit_once('<').ok_or_else(|| Refusal::bad_request("Illegal address"))?;
                check_display_name(name)?;
                address
            }
        };
        let (local, domain) =
            address.rsplit_once('@').ok_or_else(|| Refusal::bad_request("Missing final '@domain'"))?;
        check_local_part(local)?;
        check_domain(domain)?;
        if address.len() > ADDRESS_MAX {
            return Err(Refusal::bad_request("Address is too long"));
        }
        Ok(Self { local: local.to_owned(), domain: domain.to_ascii_lowercase() })
    }

    /// The part before the `@`, as it came.
    pub(super) fn local(&self) -> &str {
        &self.local
    }

    /// The part after the `@`, in lower case.
    pub(super) fn domain(&self) -> &str {
        &self.domain
    }

    /// The bare address in lower case, the key under which faults and the ledger know it.
    pub(super) fn key(&self) -> String {
        format!("{}@{}", self.local.to_ascii_lowercase(), self.domain)
    }
}

fn check_display_name(name: &str) -> Result<(), Refusal> {
    let name = name.trim_end_matches(' ');
    if name.chars().any(|c| c.is_control()) {
        return Err(Refusal::bad_request("Illegal address"));
    }
    if !name.is_ascii() {
        return Err(Refusal::bad_request("Display name must be ASCII or an RFC 2047 encoded-word"));
    }
    if let Some(quoted) = name.strip_prefix('"') {
        let inner = quoted.strip_suffix('"').ok_or_else(|| Refusal::bad_request("Unbalanced quote in display name"))?;
        return check_quoted_string(inner);
    }
    if name.chars().any(|c| LOCAL_SPECIALS.contains(c)) {
        return Err(Refusal::bad_request("Illegal address"));
    }
    Ok(())
}

fn check_quoted_string(inner: &str) -> Result<(), Refusal> {
    let mut escaped = false;
    for c in inner.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Err(Refusal::bad_request("Unbalanced quote in display name")),
            _ => {}
        }
    }
    if escaped {
        return Err(Refusal::bad_request("Unbalanced quote in display name"));
    }
    Ok(())
}

fn check_local_part(local: &str) -> Result<(), Refusal> {
    if local.is_empty() {
        return Err(Refusal::bad_request("Missing local part"));
    }
    if local.len() > LOCAL_PART_MAX {
        return Err(Refusal::bad_request("Local address is too long"));
    }
    if local.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(Refusal::bad_request("Local address contains control or whitespace"));
    }
    if !local.is_ascii() || local.chars().any(|c| LOCAL_SPECIALS.contains(c)) {
        return Err(Refusal::bad_request("Local address contains illegal character"));
    }
    if local.split('.').any(str::is_empty) {
        return Err(Refusal::bad_request("Local address contains dot-dot or an outer dot"));
    }
    Ok(())
}

fn check_domain(domain: &str) -> Result<(), Refusal> {
    if domain.is_empty() {
        return Err(Refusal::bad_request("Missing domain"));
    }
    if domain.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(Refusal::bad_request("Domain contains control or whitespace"));
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if !domain.chars().all(legal) {
        return Err(Refusal::bad_request("Domain contains illegal character"));
    }
    let labels_are_sound = domain
        .split('.')
        .all(|label| (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-'));
    if !labels_are_sound || !domain.contains('.') {
        return Err(Refusal::bad_request("Missing domain"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_common_way_to_write_a_mailbox_is_read() {
        for (field, key) in [
            ("asha@example.in", "asha@example.in"),
            ("Asha@Example.IN", "asha@example.in"),
            ("Asha Rao <asha@example.in>", "asha@example.in"),
            ("\"Rao, Asha\" <asha@example.in>", "asha@example.in"),
            ("\"say \\\"hi\\\"\" <asha@example.in>", "asha@example.in"),
            ("<asha@example.in>", "asha@example.in"),
            ("=?UTF-8?B?4KSG4KS24KS+?= <asha@example.in>", "asha@example.in"),
            ("fail+3--x@simulator.harkara.test", "fail+3--x@simulator.harkara.test"),
            ("a@xn--bcher-kva.example", "a@xn--bcher-kva.example"),
        ] {
            assert_eq!(Address::parse(field).map(|a| a.key()), Ok(key.to_owned()), "{field}");
        }
    }

    #[test]
    fn an_address_that_ses_refuses_is_refused_in_its_words() {
        let long_local = format!("{}@example.in", "a".repeat(65));
        for (field, message) in [
            ("asha", "Missing final '@domain'"),
            ("", "Missing final '@domain'"),
            ("@example.in", "Missing local part"),
            ("asha@", "Missing domain"),
            ("asha@example", "Missing domain"),
            ("asha@example..in", "Missing domain"),
            ("asha@-example.in", "Missing domain"),
            ("asha @example.in", "Local address contains control or whitespace"),
            ("asha\r\nBcc: b@example.in@example.in", "Local address contains control or whitespace"),
            ("asha\0@example.in", "Local address contains control or whitespace"),
            ("आशा@example.in", "Local address contains illegal character"),
            ("a,b@example.in", "Local address contains illegal character"),
            ("a..b@example.in", "Local address contains dot-dot or an outer dot"),
            ("asha@exa mple.in", "Domain contains control or whitespace"),
            ("asha@example.in\r\n", "Domain contains control or whitespace"),
            ("asha@bücher.example", "Domain contains illegal character"),
            ("Rao, Asha <asha@example.in>", "Illegal address"),
            ("Asha\r\n <asha@example.in>", "Illegal address"),
            ("Asha asha@example.in>", "Illegal address"),
            ("\"Asha <asha@example.in>", "Unbalanced quote in display name"),
            ("आशा <asha@example.in>", "Display name must be ASCII or an RFC 2047 encoded-word"),
            (long_local.as_str(), "Local address is too long"),
        ] {
            assert_eq!(Address::parse(field), Err(Refusal::bad_request(message)), "{field:?}");
        }
    }
}
