//! The body of `POST /v1/notifications`: one object, or `{"notifications": [...]}`.

use super::attachments::read_attachments;
use super::calendar::{print_calendar, read_calendar};
use super::collections::read_collect;
use super::fields::{FieldError, Fields};
use super::problem::Problem;
use domain::address::{EmailAddress, PhoneNumber};
use domain::category::Priority;
use domain::delivery::Channel;
use domain::id::{CategoryKey, DedupeKey, RecipientKey, TemplateKey};
use domain::locale::Locale;
use domain::moment::{TimeZoneName, Window, parse_timestamp};
use domain::name::DisplayName;
use domain::notification::{
    Dedupe, InlineContent, InlineRecipient, MAX_NOTIFICATIONS, MAX_RECIPIENTS, NotificationRequest, Recipient, Refusal,
    dedupe_seconds, is_plain_subject_valid,
};
use domain::render::check_context;
use serde_json::Value;

/// The longest inline part or subject, in bytes.
pub(super) const MAX_PART_BYTES: usize = 256 * 1024;

/// The largest metadata, in bytes: it travels with every event, of which ten share a request of 1 MB.
pub(super) const MAX_METADATA_BYTES: usize = 4096;
/// The most content of a request, counted once for each recipient, in bytes: each has a row of its own. Files are
/// counted once, because the recipients share them.
const MAX_EXPANDED_BYTES: usize = 16 * 1024 * 1024;

/// A request as it came: how its answer is shaped, and its items.
#[derive(Debug)]
pub struct NotificationsBody {
    /// One object, or a list.
    pub shape: Shape,
    /// Each item, read or not.
    pub items: Vec<Item>,
}

/// How the request was given, and so how it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One notification to one recipient: the answer is one id, or a problem.
    One,
    /// Several notifications or recipients: the answer is a list.
    Many,
}

/// One notification of a request.
#[derive(Debug)]
pub struct Item {
    /// Where it stands in the request.
    pub pointer: String,
    /// Whether it names its recipients as a list.
    pub has_list: bool,
    /// The notification, or what is wrong with it.
    pub request: Result<NotificationRequest, Vec<FieldError>>,
}

/// Reads the body. What is wrong with one item is that item's; limits are the whole request's.
pub fn read_notifications(body: &Value) -> Result<NotificationsBody, Problem> {
    let list = match body.get("notifications") {
        None => None,
        Some(_) => {
            let mut fields = Fields::of(body, "").map_err(|error| Problem::invalid(vec![error]))?;
            let list = fields.list("notifications");
            fields.finish().map_err(Problem::invalid)?;
            list
        }
    };
    let Some(list) = list else {
        if !body.is_object() {
            return Err(Problem::invalid(vec![FieldError::new("", "must be an object")]));
        }
        let item = read_item(body, String::new());
        let shape = if item.has_list { Shape::Many } else { Shape::One };
        return within_limits(NotificationsBody { shape, items: vec![item] });
    };
    if list.is_empty() || list.len() > MAX_NOTIFICATIONS {
        let detail = format!("must have 1 to {MAX_NOTIFICATIONS} entries, not {}", list.len());
        return Err(Problem::invalid(vec![FieldError::new("/notifications", detail)]));
    }
    let items =
        list.iter().enumerate().map(|(place, value)| read_item(value, format!("/notifications/{place}"))).collect();
    within_limits(NotificationsBody { shape: Shape::Many, items })
}

/// Where in the request a refusal belongs; wrong data may be wrong in several places.
pub fn locate_refusal(item: &Item, refusal: &Refusal) -> Vec<FieldError> {
    let recipient = |place: &usize| {
        if item.has_list {
            format!("{}/recipients/{place}", item.pointer)
        } else {
            format!("{}/recipient", item.pointer)
        }
    };
    let pointer = match refusal {
        Refusal::UnknownCategory => format!("{}/category", item.pointer),
        Refusal::UnknownRecipient(place) => format!("{}/id", recipient(place)),
        Refusal::NoAddress(place) => recipient(place),
        Refusal::UnknownTemplate | Refusal::UnpublishedTemplate | Refusal::NoContent => {
            format!("{}/template", item.pointer)
        }
        Refusal::WrongData(errors) => {
            return errors
                .iter()
                .map(|(at, detail)| FieldError::new(format!("{}{at}", item.pointer), detail))
                .collect();
        }
        Refusal::SendTooFarAhead => format!("{}/send_at", item.pointer),
        Refusal::ExpiresBeforeSend => format!("{}/expires_at", item.pointer),
    };
    vec![FieldError::new(pointer, refusal)]
}

fn within_limits(body: NotificationsBody) -> Result<NotificationsBody, Problem> {
    let recipients: usize =
        body.items.iter().filter_map(|item| item.request.as_ref().ok()).map(|request| request.recipients.len()).sum();
    if recipients > MAX_RECIPIENTS {
        let detail = format!("the request has {recipients} recipients, at most {MAX_RECIPIENTS} are taken");
        return Err(Problem::invalid(vec![FieldError::new("", detail)]));
    }
    let expanded: usize = body.items.iter().filter_map(|item| item.request.as_ref().ok()).map(expanded_bytes).sum();
    if expanded > MAX_EXPANDED_BYTES {
        let detail = format!(
            "content and data come to {expanded} bytes for all recipients together, at most {MAX_EXPANDED_BYTES} are taken; \
             use a template, or several requests"
        );
        return Err(Problem::invalid(vec![FieldError::new("", detail)]));
    }
    Ok(body)
}

fn expanded_bytes(request: &NotificationRequest) -> usize {
    let content = &request.content;
    let parts = [&content.subject, &content.text, &content.html].into_iter().flatten().map(String::len).sum::<usize>();
    let calendar = request.invitation.as_ref().map_or(0, |invitation| print_calendar(invitation).to_string().len());
    let files: usize = request.attachments.iter().map(|attachment| attachment.content.len()).sum();
    let own = parts + request.data.to_string().len() + request.metadata.to_string().len() + calendar;
    own * request.recipients.len() + files
}

fn read_item(value: &Value, pointer: String) -> Item {
    let has_list = value.get("recipients").is_some();
    Item { has_list, request: read_request(value, pointer.clone()), pointer }
}

fn read_request(value: &Value, pointer: String) -> Result<NotificationRequest, Vec<FieldError>> {
    let mut fields = Fields::of(value, pointer).map_err(|error| vec![error])?;

    let category = fields.parsed("category", CategoryKey::parse);
    fields.require("category", &category);
    let recipients = read_recipients(&mut fields);
    let channels = fields.parsed_list("channels", parse_channel);
    if channels.as_ref().is_some_and(Vec::is_empty) {
        fields.wrong("channels", "must name at least one channel");
    }
    let channels = channels.map(|mut channels| {
        channels.sort_unstable();
        channels.dedup();
        channels
    });
    let template = fields.parsed("template", TemplateKey::parse);
    let content = InlineContent {
        subject: read_part(&mut fields, "subject"),
        text: read_part(&mut fields, "text"),
        html: read_part(&mut fields, "html"),
    };
    if content.subject.as_deref().is_some_and(|subject| !is_plain_subject_valid(subject)) {
        fields.wrong("subject", "must be 1 to 998 bytes without line breaks or control characters");
    }
    let data = fields.opaque("data");
    if let Err(error) = check_context(&data) {
        fields.wrong("data", error);
    }
    let attachments = read_attachments(&mut fields);
    let invitation = fields.object("calendar", read_calendar);
    let metadata = fields.opaque("metadata");
    if metadata.to_string().len() > MAX_METADATA_BYTES {
        fields.wrong("metadata", format_args!("must have at most {MAX_METADATA_BYTES} bytes as JSON"));
    }
    let send_at = fields.parsed("send_at", parse_timestamp);
    let expires_at = fields.parsed("expires_at", parse_timestamp);
    let dedupe = fields.object("dedupe", read_dedupe);
    let collect = read_collect(&mut fields);
    let priority = fields.named("priority", Priority::parse, Priority::ALL, Priority::as_str);
    let sandbox = fields.flag("sandbox");
    fields.finish()?;

    // `finish` has refused a request that lacks either; no default could stand in for them.
    let (Some(category), Some(recipients)) = (category, recipients) else { return Err(Vec::new()) };
    Ok(NotificationRequest {
        category,
        recipients,
        channels,
        template,
        content,
        data,
        attachments,
        invitation,
        send_at,
        expires_at,
        dedupe,
        collect,
        priority: priority.unwrap_or(Priority::Normal),
        sandbox,
        metadata,
    })
}

fn read_recipients(fields: &mut Fields<'_>) -> Option<Vec<Recipient>> {
    let one = fields.object("recipient", read_recipient);
    let has_one = fields.value("recipient").is_some();
    let Some(entries) = fields.list("recipients") else {
        if !has_one && fields.value("recipients").is_none() {
            fields.wrong("recipient", "is required");
        }
        return one.map(|recipient| vec![recipient]);
    };
    if has_one {
        fields.wrong("recipient", "cannot be given together with recipients");
    }
    if entries.is_empty() || entries.len() > MAX_RECIPIENTS {
        fields.wrong("recipients", format_args!("must have 1 to {MAX_RECIPIENTS} entries, not {}", entries.len()));
        return None;
    }
    let mut recipients = Vec::with_capacity(entries.len());
    for (place, entry) in entries.iter().enumerate() {
        match read_recipient(entry, format!("{}/{place}", fields.at("recipients"))) {
            Ok(recipient) => recipients.push(recipient),
            Err(errors) => fields.extend(errors),
        }
    }
    Some(recipients)
}

fn read_recipient(value: &Value, pointer: String) -> Result<Recipient, Vec<FieldError>> {
    let mut fields = Fields::of(value, pointer.clone()).map_err(|error| vec![error])?;
    if fields.value("id").is_some() {
        let key = fields.parsed("id", RecipientKey::parse);
        fields.finish()?;
        return key.map(Recipient::Known).ok_or_else(Vec::new);
    }
    let inline = InlineRecipient {
        email: fields.parsed("email", EmailAddress::parse),
        phone: fields.parsed("phone", PhoneNumber::parse),
        name: fields.parsed("name", DisplayName::parse),
        locale: fields.parsed("locale", Locale::parse),
        time_zone: fields.parsed("time_zone", TimeZoneName::parse),
    };
    if fields.value("email").is_none() && fields.value("phone").is_none() {
        fields.extend([FieldError::new(pointer, "must have an id of a known recipient, or an email or phone")]);
    }
    fields.finish()?;
    Ok(Recipient::Inline(inline))
}

fn read_dedupe(value: &Value, pointer: String) -> Result<Dedupe, Vec<FieldError>> {
    let mut fields = Fields::of(value, pointer).map_err(|error| vec![error])?;
    let key = fields.parsed("key", DedupeKey::parse);
    fields.require("key", &key);
    let window = fields.parsed("window", Window::parse);
    fields.finish()?;
    key.map(|key| Dedupe { key, window_seconds: dedupe_seconds(window) }).ok_or_else(Vec::new)
}

fn read_part(fields: &mut Fields<'_>, name: &'static str) -> Option<String> {
    let text = fields.string(name)?;
    if text.is_empty() || text.len() > MAX_PART_BYTES {
        fields.wrong(name, format_args!("must have 1 to {MAX_PART_BYTES} bytes"));
        return None;
    }
    Some(text.to_owned())
}

fn parse_channel(text: &str) -> Result<Channel, String> {
    Channel::parse_sendable(text).ok_or_else(|| {
        let names: Vec<_> = Channel::SENDABLE.iter().map(|channel| channel.as_str()).collect();
        format!("must be one of {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn errors_of(body: Value) -> Vec<String> {
        match read_notifications(&body) {
            Err(problem) => problem.errors.into_iter().map(|error| error.pointer).collect(),
            Ok(read) => read
                .items
                .into_iter()
                .filter_map(|item| item.request.err())
                .flatten()
                .map(|error| error.pointer)
                .collect(),
        }
    }

    fn valid() -> Value {
        json!({"category": "INVITATION", "recipient": {"email": "ada@example.org"}})
    }

    fn with(name: &str, value: Value) -> Value {
        let mut body = valid();
        body[name] = value;
        body
    }

    #[test]
    fn a_whole_request_is_read() {
        let body = json!({
            "category": "OBSERVATION_ASSIGNED", "recipient": {"id": "auditor-7"}, "data": {"observation": "42"},
            "channels": ["email"], "template": "observation_assigned", "subject": "s", "html": "h", "text": "t",
            "send_at": "2026-11-22T03:30:00Z", "expires_at": "2026-11-23T03:30:00Z",
            "attachments": [{"filename": "a.txt", "content_type": "text/plain", "content": "aGk="}],
            "calendar": {"start": "2026-11-24T10:00:00Z", "end": "2026-11-24T11:00:00Z", "summary": "Visit"},
            "dedupe": {"key": "obs-42-assigned", "window": "PT24H"}, "priority": "high", "sandbox": false,
            "metadata": {"appointment": "a-1"},
        });
        let read = read_notifications(&body).expect("read");
        assert_eq!(read.shape, Shape::One);
        let request = read.items[0].request.as_ref().expect("valid");
        assert_eq!((request.attachments.len(), request.invitation.is_some()), (1, true));
        assert_eq!(request.dedupe.as_ref().map(|dedupe| dedupe.window_seconds), Some(86_400));
    }

    #[test]
    fn each_mistake_is_named_by_its_pointer() {
        let table = [
            (json!([]), vec![""]),
            (json!({"category": "X"}), vec!["/recipient"]),
            (json!({"recipient": {"email": "a@b.in"}}), vec!["/category"]),
            (with("nonsense", json!(1)), vec!["/nonsense"]),
            (with("recipient", json!({"email": "a\r\nBcc: x@y.z"})), vec!["/recipient/email"]),
            (with("recipient", json!({"email": "ä@example.org"})), vec!["/recipient/email"]),
            (with("recipient", json!({"name": "Ada"})), vec!["/recipient"]),
            (with("recipient", json!({"email": "a@b.in", "time_zone": "Mars/Olympus"})), vec!["/recipient/time_zone"]),
            (with("recipient", json!("ada")), vec!["/recipient"]),
            (with("recipients", json!([{"id": "x"}])), vec!["/recipient"]),
            (with("channels", json!(["pigeon"])), vec!["/channels/0"]),
            (with("send_at", json!("tomorrow")), vec!["/send_at"]),
            (with("dedupe", json!({"key": "k", "window": "a day"})), vec!["/dedupe/window"]),
            (with("dedupe", json!({})), vec!["/dedupe/key"]),
            (with("sandbox", json!("no")), vec!["/sandbox"]),
            (with("subject", json!("a\nb")), vec!["/subject"]),
            (with("data", json!([])), vec!["/data"]),
            (
                with("attachments", json!([{"filename": "a.txt", "content_type": "a/b", "content": "?"}])),
                vec!["/attachments/0/content"],
            ),
            (
                with(
                    "calendar",
                    json!({"start": "2026-11-24T10:00:00Z", "end": "2026-11-24T09:00:00Z", "summary": "s"}),
                ),
                vec!["/calendar/end"],
            ),
            (json!({"notifications": []}), vec!["/notifications"]),
            (json!({"notifications": [valid(), {"category": "X"}]}), vec!["/notifications/1/recipient"]),
            (json!({"notifications": vec![valid(); 101]}), vec!["/notifications"]),
        ];
        for (body, pointers) in table {
            assert_eq!(errors_of(body.clone()), pointers, "{body}");
        }
    }

    #[test]
    fn files_are_counted_once_for_all_recipients_and_calendars_for_each() {
        let file =
            json!({"filename": "a.bin", "content_type": "application/octet-stream", "content": "A".repeat(512 * 1024)});
        let mut many = with("recipients", json!(vec![json!({"id": "x"}); 1000]));
        many.as_object_mut().expect("an object").remove("recipient");
        many["attachments"] = json!([file]);
        assert_eq!(errors_of(many.clone()), [""; 0]);
        many["calendar"] = json!({"start": "2026-11-24T10:00:00Z", "end": "2026-11-24T11:00:00Z", "summary": "s", "description": "अ".repeat(8000)});
        assert_eq!(errors_of(many), [""]);
    }

    #[test]
    fn a_thousand_recipients_are_the_limit_of_a_request() {
        let many = json!({"category": "X", "recipients": vec![json!({"id": "x"}); 501]});
        assert_eq!(errors_of(json!({"notifications": [many, many]})), [""]);
    }
}
