//! What SES tells of a mail, as it stands on the feedback queue: EventBridge's event, or SNS's envelope around the same
//! record, or the record itself where the subscription delivers raw messages.
//!
//! The record: <https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-sns-contents.html>,
//! with examples at <https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-sns-examples.html>.
//! EventBridge's event has it as its detail: <https://docs.aws.amazon.com/ses/latest/dg/monitoring-eventbridge.html>;
//! the detail-types: <https://docs.aws.amazon.com/eventbridge/latest/ref/events-ref-ses.html>.
//! The envelope: <https://docs.aws.amazon.com/sns/latest/dg/sns-sqs-as-subscriber.html>.
//!
//! SNS's signature is not checked: the queue's policy lets in what comes from our rule and our topic and nothing else,
//! and the topic's policy lets SES publish for our configuration set and nobody else.
//! Nothing in a record is believed further than its tags lead: see `flow::feedback`.

use domain::address::EmailAddress;
use domain::feedback::{Bounce, MailEvent};
use domain::id::{NotificationId, TenantId};
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

/// SES, SNS and EventBridge write far less: a record holds a mail's headers up to 10 KB, and never its content.
const MAX_BODY_BYTES: usize = 256 * 1024;
/// A mail has at most 50 recipients, and ours have one.
const MAX_DESTINATIONS: usize = 50;
/// The longest id that SES gives has about 60 characters.
const MAX_MESSAGE_ID_CHARS: usize = 200;
/// The longest account of a bounce that is kept, in characters.
const MAX_DETAIL_CHARS: usize = 500;
/// What SES publishes to a topic, once, when it becomes an event destination. It is no JSON.
const TOPIC_NOTICE: &str = "Successfully validated SNS topic for Amazon SES event publishing";

/// One thing that SES said of one of our mails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SesEvent {
    /// What it said.
    pub event: MailEvent,
    /// Whose mail, by its tags.
    pub tags: EventTags,
    /// SES's id of the mail.
    pub message_id: String,
    /// The addresses that the mail went to; what is none is left out.
    pub destinations: Vec<EmailAddress>,
    /// Why, for people; without any address.
    pub detail: Option<String>,
}

/// The tags that the processor put on the mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventTags {
    /// `t`: where to look for the notification. Whose it is, its row says.
    pub tenant: TenantId,
    /// `nid`.
    pub notification: NotificationId,
    /// `att`: the attempt's number.
    pub attempt_number: u32,
}

/// Why a body says nothing of a mail of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventError {
    /// Longer than anything that SES writes.
    TooLong,
    /// Neither of the three forms, or a part of it is missing or of another kind.
    Form(&'static str),
    /// A kind of event that says nothing of where a mail is, such as an opened one.
    OtherKind,
    /// SES's notice that the topic was set up.
    TopicNotice,
    /// The mail has none of our tags: somebody else sent it through the same configuration set.
    Untagged,
    /// A tag is not of the form that we give it, or is there twice.
    Tag(&'static str),
}

impl EventError {
    /// Whether SES may well send it, so that it is dropped with a note; what it never sends is looked at by people.
    pub const fn is_ignored(self) -> bool {
        match self {
            Self::OtherKind | Self::TopicNotice | Self::Untagged | Self::Tag(_) => true,
            Self::TooLong | Self::Form(_) => false,
        }
    }

    /// A word for metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Form(_) => "malformed",
            Self::OtherKind => "other_kind",
            Self::TopicNotice => "topic_notice",
            Self::Untagged => "untagged",
            Self::Tag(_) => "forged_tag",
        }
    }
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "the body has more than {MAX_BODY_BYTES} bytes"),
            Self::Form(what) => write!(f, "the body is no event of SES: {what}"),
            Self::OtherKind => f.write_str("the event says nothing of where the mail is"),
            Self::TopicNotice => f.write_str("the topic was set up"),
            Self::Untagged => f.write_str("the mail is not one of ours"),
            Self::Tag(name) => write!(f, "the tag {name} is not one that we give"),
        }
    }
}

impl std::error::Error for EventError {}

/// Everything that tells the three forms apart. What else there is, is left unread.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, rename = "detail-type")]
    detail_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    source: Option<Cow<'a, str>>,
    #[serde(borrow)]
    detail: Option<&'a serde_json::value::RawValue>,
    #[serde(borrow, rename = "Type")]
    envelope_type: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "TopicArn")]
    topic_arn: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "Message")]
    message: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SesRecord<'a> {
    #[serde(borrow)]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    mail: MailPart<'a>,
    #[serde(borrow)]
    bounce: Option<BouncePart<'a>>,
    #[serde(borrow)]
    reject: Option<ReasonPart<'a>>,
    #[serde(borrow)]
    complaint: Option<ComplaintPart<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MailPart<'a> {
    #[serde(borrow)]
    message_id: Cow<'a, str>,
    #[serde(borrow, default)]
    destination: Vec<Cow<'a, str>>,
    #[serde(borrow, default)]
    tags: HashMap<Cow<'a, str>, Vec<Cow<'a, str>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BouncePart<'a> {
    #[serde(borrow)]
    bounce_type: Cow<'a, str>,
    #[serde(borrow)]
    bounce_sub_type: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    bounced_recipients: Vec<BouncedRecipient<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BouncedRecipient<'a> {
    #[serde(borrow)]
    diagnostic_code: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ComplaintPart<'a> {
    #[serde(borrow)]
    complaint_feedback_type: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct ReasonPart<'a> {
    #[serde(borrow)]
    reason: Option<Cow<'a, str>>,
}

/// Reads a body.
pub fn read_ses_event(body: &str) -> Result<SesEvent, EventError> {
    if body.len() > MAX_BODY_BYTES {
        return Err(EventError::TooLong);
    }
    if body.starts_with(TOPIC_NOTICE) {
        return Err(EventError::TopicNotice);
    }
    let outer: Body<'_> = serde_json::from_str(body).map_err(|_| EventError::Form("it is no JSON object"))?;
    match outer {
        Body { detail_type: Some(detail_type), detail: Some(detail), source, .. } => {
            if source.as_deref() != Some("aws.ses") {
                return Err(EventError::Form("its source is not aws.ses"));
            }
            let record = read_record(detail.get())?;
            if detail_type_of(&record.event_type).is_some_and(|expected| expected != detail_type) {
                return Err(EventError::Form("its detail-type and its eventType differ"));
            }
            read_event(&record)
        }
        Body { envelope_type: Some(kind), topic_arn, message, .. } => {
            let message = message.filter(|_| kind == "Notification" && topic_arn.is_some());
            let message = message.ok_or(EventError::Form("it is no notification of a topic"))?;
            if message.starts_with(TOPIC_NOTICE) {
                return Err(EventError::TopicNotice);
            }
            read_event(&read_record(&message)?)
        }
        _ => read_event(&read_record(body)?),
    }
}

fn read_record(text: &str) -> Result<SesRecord<'_>, EventError> {
    serde_json::from_str(text).map_err(|_| EventError::Form("it has no eventType or no mail"))
}

fn read_event(record: &SesRecord<'_>) -> Result<SesEvent, EventError> {
    let (event, detail) = read_kind(record)?;
    let mail = &record.mail;
    let tags = read_tags(&mail.tags)?;
    let message_id = mail.message_id.as_ref();
    let is_id =
        (1..=MAX_MESSAGE_ID_CHARS).contains(&message_id.len()) && message_id.chars().all(|c| c.is_ascii_graphic());
    if !is_id {
        return Err(EventError::Form("its messageId is none"));
    }
    if mail.destination.len() > MAX_DESTINATIONS {
        return Err(EventError::Form("it has more recipients than a mail may have"));
    }
    Ok(SesEvent {
        event,
        tags,
        message_id: message_id.to_owned(),
        destinations: mail.destination.iter().filter_map(|field| read_address(field)).collect(),
        detail,
    })
}

/// What happened, and why in words. A kind that is not among SES's is malformed; one of which we ask nothing is not.
fn read_kind(record: &SesRecord<'_>) -> Result<(MailEvent, Option<String>), EventError> {
    match record.event_type.as_ref() {
        "Send" => Ok((MailEvent::Sent, None)),
        "DeliveryDelay" => Ok((MailEvent::Delayed, None)),
        "Delivery" => Ok((MailEvent::Delivered, None)),
        "Complaint" => {
            let kind = record.complaint.as_ref().and_then(|complaint| complaint.complaint_feedback_type.as_deref());
            Ok((MailEvent::Complained, kind.map(clean_words)))
        }
        "Reject" => {
            let reason = record.reject.as_ref().and_then(|reject| reject.reason.as_deref());
            Ok((MailEvent::Rejected, Some(clean_words(reason.unwrap_or("the provider refused the content")))))
        }
        "Rendering Failure" => {
            Ok((MailEvent::RenderingFailed, Some("the provider could not render its own template".to_owned())))
        }
        "Bounce" => {
            let bounce = record.bounce.as_ref().ok_or(EventError::Form("a bounce does not say which"))?;
            let kind = read_bounce(&bounce.bounce_type, bounce.bounce_sub_type.as_deref().unwrap_or_default())?;
            let diagnosis =
                bounce.bounced_recipients.first().and_then(|recipient| recipient.diagnostic_code.as_deref());
            let words = [Some(bounce.bounce_type.as_ref()), bounce.bounce_sub_type.as_deref(), diagnosis];
            let words: Vec<&str> = words.into_iter().flatten().collect();
            Ok((MailEvent::Bounced(kind), Some(clean_words(&words.join(", ")))))
        }
        "Open" | "Click" | "Subscription" => Err(EventError::OtherKind),
        _ => Err(EventError::Form("its eventType is none of SES's")),
    }
}

/// <https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-sns-contents.html#event-publishing-retrieving-sns-contents-bounce-types>
///
/// `Suppressed` and `OnAccountSuppressionList` are permanent ones: SES did not even try.
fn read_bounce(kind: &str, sub_type: &str) -> Result<Bounce, EventError> {
    match (kind, sub_type) {
        (_, "MessageTooLarge" | "ContentRejected" | "AttachmentRejected") => Ok(Bounce::Content),
        ("Permanent", _) => Ok(Bounce::Hard),
        ("Transient" | "Undetermined", _) => Ok(Bounce::Soft),
        _ => Err(EventError::Form("its bounceType is none of SES's")),
    }
}

/// What EventBridge calls a kind.
fn detail_type_of(event_type: &str) -> Option<&'static str> {
    Some(match event_type {
        "Send" => "Email Sent",
        "Delivery" => "Email Delivered",
        "Bounce" => "Email Bounced",
        "Complaint" => "Email Complaint Received",
        "Reject" => "Email Rejected",
        "Rendering Failure" => "Email Rendering Failed",
        "DeliveryDelay" => "Email Delivery Delayed",
        _ => return None,
    })
}

fn read_tags(tags: &HashMap<Cow<'_, str>, Vec<Cow<'_, str>>>) -> Result<EventTags, EventError> {
    if !["nid", "att", "t"].iter().any(|name| tags.contains_key(*name)) {
        return Err(EventError::Untagged);
    }
    let one = |name: &'static str| match tags.get(name).map(Vec::as_slice) {
        Some([value]) => Ok(value.as_ref()),
        _ => Err(EventError::Tag(name)),
    };
    let number = one("att")?;
    // One spelling for each number, as the processor prints it.
    let attempt_number =
        number.parse().ok().filter(|n: &u32| *n > 0 && *n <= i32::MAX.unsigned_abs() && n.to_string() == number);
    Ok(EventTags {
        tenant: TenantId::parse(one("t")?).map_err(|_| EventError::Tag("t"))?,
        notification: NotificationId::parse(one("nid")?).map_err(|_| EventError::Tag("nid"))?,
        attempt_number: attempt_number.ok_or(EventError::Tag("att"))?,
    })
}

/// The address of a mailbox field, which may have a display name before it.
fn read_address(field: &str) -> Option<EmailAddress> {
    let field = field.trim();
    let address = field.strip_suffix('>').and_then(|rest| rest.rsplit_once('<')).map_or(field, |(_, address)| address);
    EmailAddress::parse(address).ok()
}

/// A server's words, without any address that they quote and without what the database would not take.
fn clean_words(words: &str) -> String {
    // Cut first: what a server says is as long as it likes.
    let words: String =
        words.chars().take(2 * MAX_DETAIL_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let hide = |word: &str| if word.contains('@') { "(address)".to_owned() } else { word.to_owned() };
    let words: Vec<String> = words.split_whitespace().map(hide).collect();
    words.join(" ").chars().take(MAX_DETAIL_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const NID: &str = "ntf_018f0000000070008000000000000001";
    const T: &str = "018f0000-0000-7000-8000-000000000001";

    fn record(kind: &str) -> Value {
        json!({
            "eventType": kind,
            "mail": {
                "timestamp": "2026-11-21T10:00:00.000Z", "messageId": "0100-m-000000", "source": "Post <post@example.org>",
                "sendingAccountId": "123456789012", "destination": ["Ada <Ada@Example.org>"], "headersTruncated": false,
                "headers": [{"name": "To", "value": "ada@example.org"}], "commonHeaders": {"subject": "s"},
                "tags": {"ses:configuration-set": ["harkara"], "nid": [NID], "att": ["1"], "t": [T]},
            },
        })
    }

    fn bounce(kind: &str, sub_type: &str) -> Value {
        let mut record = record("Bounce");
        record["bounce"] = json!({
            "bounceType": kind, "bounceSubType": sub_type, "feedbackId": "f", "timestamp": "2026-11-21T10:00:01.000Z",
            "bouncedRecipients": [{"emailAddress": "ada@example.org", "action": "failed", "status": "5.1.1",
                "diagnosticCode": "smtp; 550 5.1.1 <ada@example.org> user\r\nunknown"}],
        });
        record
    }

    fn on_the_bus(detail_type: &str, record: &Value) -> String {
        json!({
            "version": "0", "id": "e", "detail-type": detail_type, "source": "aws.ses", "account": "123456789012",
            "time": "2026-11-21T10:00:02Z", "region": "ap-south-1", "resources": [], "detail": record,
        })
        .to_string()
    }

    fn of_a_topic(message: &str) -> String {
        json!({
            "Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:ap-south-1:123456789012:t",
            "Message": message, "Timestamp": "2026-11-21T10:00:02.000Z", "SignatureVersion": "1", "Signature": "x",
            "SigningCertURL": "https://sns", "UnsubscribeURL": "https://sns",
        })
        .to_string()
    }

    fn read(record: &Value) -> Result<SesEvent, EventError> {
        read_ses_event(&record.to_string())
    }

    #[test]
    fn the_three_forms_say_the_same() {
        let delivery = record("Delivery");
        let expected = SesEvent {
            event: MailEvent::Delivered,
            tags: EventTags {
                tenant: TenantId::parse(T).expect("an id"),
                notification: NotificationId::parse(NID).expect("an id"),
                attempt_number: 1,
            },
            message_id: "0100-m-000000".to_owned(),
            destinations: vec![EmailAddress::parse("Ada@example.org").expect("an address")],
            detail: None,
        };
        assert_eq!(read_ses_event(&on_the_bus("Email Delivered", &delivery)), Ok(expected.clone()));
        assert_eq!(read_ses_event(&of_a_topic(&delivery.to_string())), Ok(expected.clone()));
        assert_eq!(read(&delivery), Ok(expected));
    }

    #[test]
    fn every_kind_of_event_is_read() {
        let table = [
            ("Send", "Email Sent", MailEvent::Sent),
            ("Delivery", "Email Delivered", MailEvent::Delivered),
            ("DeliveryDelay", "Email Delivery Delayed", MailEvent::Delayed),
            ("Complaint", "Email Complaint Received", MailEvent::Complained),
            ("Reject", "Email Rejected", MailEvent::Rejected),
            ("Rendering Failure", "Email Rendering Failed", MailEvent::RenderingFailed),
        ];
        for (kind, detail_type, event) in table {
            let read = read_ses_event(&on_the_bus(detail_type, &record(kind)));
            assert_eq!(read.map(|read| read.event), Ok(event), "{kind}");
        }
        for kind in ["Open", "Click", "Subscription"] {
            assert_eq!(read(&record(kind)), Err(EventError::OtherKind), "{kind}");
        }
    }

    #[test]
    fn a_bounce_is_the_addresss_fault_or_the_days_or_the_contents() {
        let table = [
            ("Permanent", "General", Bounce::Hard),
            ("Permanent", "NoEmail", Bounce::Hard),
            ("Permanent", "Suppressed", Bounce::Hard),
            ("Permanent", "OnAccountSuppressionList", Bounce::Hard),
            ("Transient", "General", Bounce::Soft),
            ("Transient", "MailboxFull", Bounce::Soft),
            ("Transient", "CustomTimeoutExceeded", Bounce::Soft),
            ("Transient", "MessageTooLarge", Bounce::Content),
            ("Transient", "ContentRejected", Bounce::Content),
            ("Transient", "AttachmentRejected", Bounce::Content),
            ("Undetermined", "Undetermined", Bounce::Soft),
        ];
        for (kind, sub_type, expected) in table {
            let read = read(&bounce(kind, sub_type)).expect("read");
            assert_eq!(read.event, MailEvent::Bounced(expected), "{kind} {sub_type}");
        }
        let said = read(&bounce("Permanent", "NoEmail")).expect("read").detail;
        assert_eq!(said.as_deref(), Some("Permanent, NoEmail, smtp; 550 5.1.1 (address) user unknown"));
    }

    #[test]
    fn what_ses_never_writes_is_malformed() {
        let mut no_mail = record("Send");
        no_mail.as_object_mut().expect("an object").remove("mail");
        let mut forged_source: Value = serde_json::from_str(&on_the_bus("Email Sent", &record("Send"))).expect("JSON");
        forged_source["source"] = "com.example".into();
        let mut other_envelope: Value = serde_json::from_str(&of_a_topic("{}")).expect("JSON");
        other_envelope["Type"] = "SubscriptionConfirmation".into();
        let mut strange_id = record("Send");
        strange_id["mail"]["messageId"] = "a b\u{0}".into();
        let mut crowded = record("Send");
        crowded["mail"]["destination"] = vec!["a@example.org"; 51].into();
        let mut tag_is_text = record("Send");
        tag_is_text["mail"]["tags"]["nid"] = NID.into();
        for body in [
            String::new(),
            "no json".to_owned(),
            "[]".to_owned(),
            "null".to_owned(),
            "{}".to_owned(),
            "[".repeat(100_000),
            format!("{{\"eventType\":\"Send\",\"mail\":{}}}", "[".repeat(1000)),
            no_mail.to_string(),
            forged_source.to_string(),
            other_envelope.to_string(),
            strange_id.to_string(),
            crowded.to_string(),
            tag_is_text.to_string(),
            of_a_topic("not json"),
            on_the_bus("Email Delivered", &record("Complaint")),
            record("Bounce").to_string(),
            record("Exploded").to_string(),
            bounce("Sideways", "General").to_string(),
        ] {
            let error = read_ses_event(&body).expect_err(&body[..body.len().min(100)]);
            assert!(matches!(error, EventError::Form(_)) && !error.is_ignored(), "{error:?}: {body:.100}");
        }
        let long = format!("{}{}", record("Send"), " ".repeat(MAX_BODY_BYTES));
        assert_eq!(read_ses_event(&long), Err(EventError::TooLong));
    }

    #[test]
    fn a_mail_that_is_not_ours_is_ignored_and_a_forged_tag_too() {
        let mut untagged = record("Send");
        untagged["mail"]["tags"] = json!({"ses:configuration-set": ["harkara"]});
        assert_eq!(read(&untagged), Err(EventError::Untagged));
        untagged["mail"].as_object_mut().expect("an object").remove("tags");
        assert_eq!(read(&untagged), Err(EventError::Untagged));
        for (tag, value) in [
            ("nid", json!(["ntf_1"])),
            ("nid", json!([NID, NID])),
            ("nid", json!([])),
            ("nid", json!([NID.to_uppercase()])),
            ("t", json!(["'; DROP TABLE deliveries"])),
            ("t", json!([T.to_uppercase().replace('8', "F")])),
            ("att", json!(["0"])),
            ("att", json!(["+1"])),
            ("att", json!(["01"])),
            ("att", json!(["4294967295"])),
            ("att", json!(["99999999999999999999"])),
        ] {
            let mut forged = record("Send");
            forged["mail"]["tags"][tag] = value;
            assert_eq!(read(&forged), Err(EventError::Tag(tag)), "{forged}");
            assert!(EventError::Tag(tag).is_ignored());
        }
    }

    #[test]
    fn the_notice_that_a_topic_was_set_up_is_no_event() {
        let notice = format!("{TOPIC_NOTICE}.");
        assert_eq!(read_ses_event(&notice), Err(EventError::TopicNotice));
        assert_eq!(read_ses_event(&of_a_topic(&notice)), Err(EventError::TopicNotice));
        assert!(EventError::TopicNotice.is_ignored());
    }
}
