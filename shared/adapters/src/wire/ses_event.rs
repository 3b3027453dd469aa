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
#[derive(Clone, PartialEq, Eq)]
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

domain::masked_debug!(SesEvent, "SesEvent", event, tags, message_id, destinations);

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
mod tests;
