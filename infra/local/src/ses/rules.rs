//! SES's rules on one `SendEmail`, in the order in which a caller learns of them.
//!
//! Sources: the SES v2 API model (patterns, lengths, counts) and SES's developer guide (header fields, quotas).

use std::collections::{BTreeMap, BTreeSet};

use super::address::Address;
use super::attachment::{SentFile, check_attachments};
use super::refusal::Refusal;
use super::request::{Content, Message, MessageHeader, MessageTag, SendEmail};
use super::server::Allowed;

/// Recipients of one message, over To, Cc and Bcc together.
const RECIPIENTS_MAX: usize = 50;
/// Custom headers of one message.
const HEADERS_MAX: usize = 15;
const HEADER_NAME_MAX: usize = 126;
const HEADER_VALUE_MAX: usize = 995;
const HEADER_TOTAL_MAX: usize = 996;
/// Tags of one message.
const TAGS_MAX: usize = 50;
const TAG_PART_MAX: usize = 256;
const CONFIGURATION_SET_MAX: usize = 64;

/// Headers that SES writes itself with simple content and refuses from the caller.
const HEADERS_OF_SES: [&str; 12] = [
    "bcc",
    "cc",
    "content-disposition",
    "content-type",
    "date",
    "from",
    "message-id",
    "mime-version",
    "reply-to",
    "return-path",
    "subject",
    "to",
];

/// Character sets that this stand-in can vouch for beyond ASCII.
const CHARSETS: [&str; 1] = ["UTF-8"];

/// What the account has been set up with.
#[derive(Clone, Debug)]
pub(super) struct Account {
    /// Addresses and domains that may send; a domain covers its subdomains.
    pub(super) identities: Allowed,
    /// Names of the configuration sets that exist.
    pub(super) configuration_sets: Allowed,
}

/// A request that SES would accept, in the form that the ledger keeps.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CheckedMail {
    pub(super) from: String,
    pub(super) to: Vec<Address>,
    pub(super) cc: Vec<Address>,
    pub(super) bcc: Vec<Address>,
    pub(super) subject: String,
    pub(super) text: Option<String>,
    pub(super) html: Option<String>,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) attachments: Vec<SentFile>,
    pub(super) configuration_set: Option<String>,
}

/// Checks a request whole. Errors: the first rule that it breaks, as SES answers it.
pub(super) fn check_request(request: SendEmail, account: &Account) -> Result<CheckedMail, Refusal> {
    let from_field = request.from_email_address.ok_or_else(|| Refusal::bad_request("The from address is missing."))?;
    let from = Address::parse(&from_field)?;
    let to = parse_all(&request.destination.to_addresses)?;
    let cc = parse_all(&request.destination.cc_addresses)?;
    let bcc = parse_all(&request.destination.bcc_addresses)?;
    parse_all(&request.reply_to_addresses)?;
    if let Some(address) = &request.feedback_forwarding_email_address {
        Address::parse(address)?;
    }
    match to.len() + cc.len() + bcc.len() {
        0 => return Err(Refusal::bad_request("The destination has no recipients.")),
        count if count > RECIPIENTS_MAX => {
            return Err(Refusal::bad_request(format!("Recipient count exceeds {RECIPIENTS_MAX}.")));
        }
        _ => {}
    }
    let Message { subject, body, headers, attachments } = request.content.simple;
    check_content("Subject", &subject)?;
    if subject.data.chars().any(char::is_control) {
        return Err(Refusal::bad_request("The subject contains a line break or another control character."));
    }
    if body.text.is_none() && body.html.is_none() {
        return Err(Refusal::bad_request("The body has neither Text nor Html."));
    }
    for (name, part) in [("Text", &body.text), ("Html", &body.html)] {
        if let Some(content) = part {
            check_content(name, content)?;
        }
    }
    let headers = check_headers(headers)?;
    let attachments = check_attachments(attachments)?;
    let tags = check_tags(request.email_tags)?;
    if let Some(name) = &request.configuration_set_name {
        check_configuration_set(name, account)?;
    }
    check_identity(&from, account)?;
    Ok(CheckedMail {
        from: from_field,
        to,
        cc,
        bcc,
        subject: subject.data,
        text: body.text.map(|content| content.data),
        html: body.html.map(|content| content.data),
        tags,
        headers,
        attachments,
        configuration_set: request.configuration_set_name,
    })
}

fn parse_all(fields: &[String]) -> Result<Vec<Address>, Refusal> {
    fields.iter().map(|field| Address::parse(field)).collect()
}

/// SES takes 7-bit ASCII unless a character set is named; without one, other characters arrive broken, so they are
/// refused here.
fn check_content(part: &str, content: &Content) -> Result<(), Refusal> {
    match &content.charset {
        None if content.data.is_ascii() => Ok(()),
        None => Err(Refusal::bad_request(format!("{part} has characters outside of 7-bit ASCII and no Charset."))),
        Some(charset) if CHARSETS.iter().any(|known| known.eq_ignore_ascii_case(charset)) => Ok(()),
        Some(charset) => Err(Refusal::bad_request(format!("Unknown Charset <{charset}>."))),
    }
}

fn check_headers(headers: Vec<MessageHeader>) -> Result<BTreeMap<String, String>, Refusal> {
    if headers.len() > HEADERS_MAX {
        return Err(Refusal::bad_request(format!("A message has at most {HEADERS_MAX} headers.")));
    }
    let mut seen = BTreeSet::new();
    let mut checked = BTreeMap::new();
    for MessageHeader { name, value } in headers {
        let name_is_legal =
            (1..=HEADER_NAME_MAX).contains(&name.len()) && name.bytes().all(|b| (33..=126).contains(&b) && b != b':');
        if !name_is_legal {
            return Err(Refusal::bad_request(format!("Illegal header name {name:?}.")));
        }
        let value_is_legal =
            (1..=HEADER_VALUE_MAX).contains(&value.len()) && value.bytes().all(|b| (32..=126).contains(&b));
        if !value_is_legal {
            return Err(Refusal::bad_request(format!("Illegal value of header {name}.")));
        }
        if name.len() + value.len() > HEADER_TOTAL_MAX {
            return Err(Refusal::bad_request(format!("Header {name} is longer than {HEADER_TOTAL_MAX} characters.")));
        }
        let key = name.to_ascii_lowercase();
        if HEADERS_OF_SES.contains(&key.as_str()) {
            return Err(Refusal::bad_request(format!("Header {name} is not allowed here.")));
        }
        if !seen.insert(key) {
            return Err(Refusal::bad_request(format!("Duplicate header {name}.")));
        }
        checked.insert(name, value);
    }
    Ok(checked)
}

fn check_tags(tags: Vec<MessageTag>) -> Result<BTreeMap<String, String>, Refusal> {
    if tags.len() > TAGS_MAX {
        return Err(Refusal::bad_request(format!("A message has at most {TAGS_MAX} tags.")));
    }
    let mut checked = BTreeMap::new();
    for MessageTag { name, value } in tags {
        for part in [&name, &value] {
            let is_legal = (1..=TAG_PART_MAX).contains(&part.len()) && part.chars().all(is_name_character);
            if !is_legal {
                return Err(Refusal::bad_request(format!("Illegal message tag {name:?}: {value:?}.")));
            }
        }
        if checked.insert(name.clone(), value).is_some() {
            return Err(Refusal::bad_request(format!("Duplicate message tag {name}.")));
        }
    }
    Ok(checked)
}

fn check_configuration_set(name: &str, account: &Account) -> Result<(), Refusal> {
    let is_legal = (1..=CONFIGURATION_SET_MAX).contains(&name.len()) && name.chars().all(is_name_character);
    if !is_legal {
        return Err(Refusal::bad_request(format!("Invalid configuration set name <{name}>.")));
    }
    match &account.configuration_sets {
        Allowed::Any => Ok(()),
        Allowed::Only(names) if names.iter().any(|known| known == name) => Ok(()),
        Allowed::Only(_) => Err(Refusal::unknown_configuration_set(name)),
    }
}

fn check_identity(from: &Address, account: &Account) -> Result<(), Refusal> {
    let Allowed::Only(identities) = &account.identities else {
        return Ok(());
    };
    let covers = |identity: &String| {
        let identity = identity.to_ascii_lowercase();
        from.key() == identity
            || from.domain() == identity
            || from.domain().strip_suffix(&identity).is_some_and(|parent| parent.ends_with('.'))
    };
    if identities.iter().any(covers) { Ok(()) } else { Err(Refusal::unknown_identity(&from.key())) }
}

fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn account() -> Account {
        Account {
            identities: Allowed::only(["example.in", "desk@partner.example"]),
            configuration_sets: Allowed::only(["harkara"]),
        }
    }

    fn sound() -> Value {
        json!({
            "FromEmailAddress": "Post <post@example.in>",
            "Destination": {"ToAddresses": ["asha@example.org"]},
            "Content": {"Simple": {
                "Attachments": [{"FileName": "a.txt", "RawContent": "aGk="}],
                "Subject": {"Data": "नमस्ते", "Charset": "UTF-8"},
                "Body": {"Text": {"Data": "hello"}, "Html": {"Data": "<p>hello</p>"}},
                "Headers": [{"Name": "List-Unsubscribe", "Value": "<https://example.in/u>"}]
            }},
            "EmailTags": [{"Name": "nid", "Value": "ntf_1"}, {"Name": "att", "Value": "1"}],
            "ConfigurationSetName": "harkara"
        })
    }

    fn check(request: Value) -> Result<CheckedMail, Refusal> {
        let request = serde_json::from_value(request).expect("the test's request has the right form");
        check_request(request, &account())
    }

    /// Checks the sound request with the value at `pointer` replaced (and made where it is missing).
    fn check_with(pointer: &str, value: Value) -> Result<CheckedMail, Refusal> {
        let mut request = sound();
        let (parent, member) = pointer.rsplit_once('/').expect("a pointer has a slash");
        let parent = request.pointer_mut(parent).expect("the parent exists");
        match parent {
            Value::Array(items) => items[member.parse::<usize>().expect("an index")] = value,
            parent => parent[member] = value,
        }
        check(request)
    }

    fn headers(pairs: &[(&str, &str)]) -> Value {
        pairs.iter().map(|(name, value)| json!({"Name": name, "Value": value})).collect()
    }

    #[test]
    fn a_sound_request_is_accepted_and_kept_whole() {
        let mail = check(sound()).expect("accepted");
        assert_eq!(mail.from, "Post <post@example.in>");
        assert_eq!(mail.to[0].key(), "asha@example.org");
        assert_eq!(mail.subject, "नमस्ते");
        assert_eq!(mail.text.as_deref(), Some("hello"));
        assert_eq!(mail.html.as_deref(), Some("<p>hello</p>"));
        assert_eq!(mail.tags["nid"], "ntf_1");
        assert_eq!((mail.attachments[0].file_name.as_str(), mail.attachments[0].size_bytes), ("a.txt", 2));
        assert_eq!(mail.headers["List-Unsubscribe"], "<https://example.in/u>");
        assert_eq!(mail.configuration_set.as_deref(), Some("harkara"));
    }

    #[test]
    fn a_request_that_breaks_a_rule_gets_the_error_of_that_rule() {
        const SIMPLE: &str = "/Content/Simple";
        let at = |member: &str| format!("{SIMPLE}/{member}");
        let bad = "BadRequestException";
        let fifty_one: Vec<String> = (0..51).map(|n| format!("r{n}@example.org")).collect();
        let sixteen: Vec<Value> = (0..16).map(|n| json!({"Name": format!("X-N{n}"), "Value": "v"})).collect();
        let fifty_one_tags: Vec<Value> = (0..51).map(|n| json!({"Name": format!("n{n}"), "Value": "v"})).collect();
        for (rule, pointer, value, code) in [
            ("no sender", "/FromEmailAddress".into(), Value::Null, bad),
            ("sender is no address", "/FromEmailAddress".into(), json!("post"), bad),
            ("sender unknown", "/FromEmailAddress".into(), json!("post@other.example"), "MessageRejected"),
            (
                "sender's suffix is no subdomain",
                "/FromEmailAddress".into(),
                json!("p@notexample.in"),
                "MessageRejected",
            ),
            (
                "other address of a verified address",
                "/FromEmailAddress".into(),
                json!("x@partner.example"),
                "MessageRejected",
            ),
            ("no recipient", "/Destination/ToAddresses".into(), json!([]), bad),
            ("51 recipients", "/Destination/ToAddresses".into(), json!(fifty_one), bad),
            ("51 recipients over three lists", "/Destination/CcAddresses".into(), json!(fifty_one[..50]), bad),
            ("recipient outside ASCII", "/Destination/ToAddresses/0".into(), json!("आशा@example.org"), bad),
            ("recipient with a line break", "/Destination/BccAddresses".into(), json!(["a@example.org\r\nX: y"]), bad),
            ("reply-to is no address", "/ReplyToAddresses".into(), json!(["x"]), bad),
            ("feedback address is none", "/FeedbackForwardingEmailAddress".into(), json!("x"), bad),
            ("CR in subject", at("Subject"), json!({"Data": "a\rb"}), bad),
            ("LF in subject", at("Subject"), json!({"Data": "a\nBcc: b@example.org"}), bad),
            ("NUL in subject", at("Subject"), json!({"Data": "a\u{0}b"}), bad),
            ("subject beyond ASCII without charset", at("Subject"), json!({"Data": "é"}), bad),
            ("unknown charset", at("Subject"), json!({"Data": "a", "Charset": "UTF-9"}), bad),
            ("no body", at("Body"), json!({}), bad),
            ("text beyond ASCII without charset", at("Body"), json!({"Text": {"Data": "é"}}), bad),
            ("html beyond ASCII without charset", at("Body"), json!({"Html": {"Data": "é"}}), bad),
            ("header name empty", at("Headers"), headers(&[("", "v")]), bad),
            ("header name with colon", at("Headers"), headers(&[("X:Y", "v")]), bad),
            ("header name with space", at("Headers"), headers(&[("X Y", "v")]), bad),
            ("header name of 127", at("Headers"), headers(&[(&"n".repeat(127), "v")]), bad),
            ("header value empty", at("Headers"), headers(&[("X-A", "")]), bad),
            ("header value with CRLF", at("Headers"), headers(&[("X-A", "v\r\nBcc: b@example.org")]), bad),
            ("header value beyond ASCII", at("Headers"), headers(&[("X-A", "é")]), bad),
            ("header value of 996", at("Headers"), headers(&[("X", &"v".repeat(996))]), bad),
            ("header of 997 in all", at("Headers"), headers(&[("XY", &"v".repeat(995))]), bad),
            ("16 headers", at("Headers"), json!(sixteen), bad),
            ("header that SES writes", at("Headers"), headers(&[("subject", "v")]), bad),
            ("header twice", at("Headers"), headers(&[("X-A", "1"), ("x-a", "2")]), bad),
            ("tag with an address", "/EmailTags/0/Value".into(), json!("asha@example.org"), bad),
            ("tag empty", "/EmailTags/0/Value".into(), json!(""), bad),
            ("tag of 257", "/EmailTags/0/Value".into(), json!("v".repeat(257)), bad),
            ("tag name with a dot", "/EmailTags/0/Name".into(), json!("a.b"), bad),
            ("tag twice", "/EmailTags/0/Name".into(), json!("att"), bad),
            ("51 tags", "/EmailTags".into(), json!(fifty_one_tags), bad),
            ("configuration set unknown", "/ConfigurationSetName".into(), json!("other"), "NotFoundException"),
            ("configuration set with a space", "/ConfigurationSetName".into(), json!("a b"), bad),
        ] {
            let refusal = check_with(&pointer, value).expect_err(rule);
            assert_eq!(refusal.code.as_deref(), Some(code), "{rule}: {}", refusal.message);
        }
    }

    #[test]
    fn the_largest_of_everything_is_accepted() {
        let fifty: Vec<String> = (0..50).map(|n| format!("r{n}@example.org")).collect();
        for (limit, pointer, value) in [
            ("50 recipients", "/Destination/ToAddresses", json!(fifty)),
            ("header of 996 in all", "/Content/Simple/Headers", headers(&[("X", &"v".repeat(995))])),
            ("header name of 126", "/Content/Simple/Headers", headers(&[(&"n".repeat(126), "v")])),
            ("tag of 256", "/EmailTags/0/Value", json!("v".repeat(256))),
            ("subdomain of a verified domain", "/FromEmailAddress", json!("p@mail.example.in")),
            ("verified address", "/FromEmailAddress", json!("Desk@partner.example")),
            ("no configuration set", "/ConfigurationSetName", Value::Null),
            ("only html", "/Content/Simple/Body", json!({"Html": {"Data": "é", "Charset": "utf-8"}})),
        ] {
            assert!(check_with(pointer, value).is_ok(), "{limit}");
        }
    }

    #[test]
    fn a_member_that_is_not_checked_here_is_refused() {
        for (pointer, value) in [
            ("/TenantName", json!("t")),
            ("/Content/Raw", json!({"Data": ""})),
            ("/Content/Simple/Preheader", json!("p")),
            ("/Content/Simple/Attachments", json!([{"FileName": "a.txt", "RawContent": "aGk=", "Url": "u"}])),
            ("/Destination/Extra", json!([])),
        ] {
            let mut request = sound();
            let (parent, member) = pointer.rsplit_once('/').expect("a pointer has a slash");
            request.pointer_mut(parent).expect("the parent exists")[member] = value;
            assert!(serde_json::from_value::<SendEmail>(request).is_err(), "{pointer}");
        }
    }
}
