//! What is accepted, as the functions of the database take it.

use super::{Accepted, known_key};
use crate::wire::calendar::print_calendar;
use domain::attachment::Attachment;
use domain::collection::Collect;
use domain::delivery::{Channel, DeliveryState};
use domain::id::{AttachmentId, DeliveryId, TenantId};
use domain::notification::Recipient;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use std::io;

/// Files by their columns.
pub(super) struct Files<'a> {
    pub(super) ids: Vec<uuid::Uuid>,
    pub(super) file_names: Vec<String>,
    pub(super) content_types: Vec<String>,
    pub(super) contents: Vec<&'a [u8]>,
}

impl<'a> Files<'a> {
    pub(super) fn of(attachments: &[(AttachmentId, &'a Attachment)]) -> Self {
        let column =
            |read: fn(&Attachment) -> &str| attachments.iter().map(|(_, file)| read(file).to_owned()).collect();
        Self {
            ids: attachments.iter().map(|(id, _)| id.as_uuid()).collect(),
            file_names: column(|file| file.file_name.as_str()),
            content_types: column(|file| file.content_type.as_str()),
            contents: attachments.iter().map(|(_, file)| &*file.content).collect(),
        }
    }
}

/// The rows for `harkara.collect_members`.
pub(super) fn print_members(accepted: &[Accepted<'_>]) -> Value {
    let member = |accepted: &Accepted<'_>| {
        let Collect { kind, key: _, window_seconds, max_seconds } = accepted.request.collect.as_ref()?;
        Some(json!({
            "notification_id": accepted.id.as_uuid(),
            "kind": kind.as_str(),
            "category_key": accepted.request.category.as_str(),
            "recipient_id": known_key(accepted.recipient),
            "collection_key": accepted.collection_key.as_ref()?,
            "sandbox": accepted.request.sandbox,
            "window_seconds": window_seconds,
            "max_seconds": max_seconds,
        }))
    };
    accepted.iter().filter_map(member).collect()
}

/// A row for `harkara.accept_notifications`. It borrows what may be large and the same for very many, so that this is
/// copied once, into the statement.
#[derive(Serialize)]
pub(super) struct Row<'a> {
    notification_id: uuid::Uuid,
    category_key: &'a str,
    recipient_id: Option<&'a str>,
    email: Option<&'a str>,
    phone: Option<&'a str>,
    name: Option<&'a str>,
    locale: Option<&'a str>,
    time_zone: Option<&'a str>,
    template_key: Option<&'a str>,
    subject: Option<&'a str>,
    text_body: Option<&'a str>,
    html_body: Option<&'a str>,
    data: &'a Value,
    metadata: &'a Value,
    attachments: Vec<uuid::Uuid>,
    calendar: Option<Value>,
    priority: &'a str,
    sandbox: bool,
    send_at: Timestamp,
    expires_at: Option<Timestamp>,
    traceparent: Option<&'a str>,
    deliveries: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dedupe: Option<Value>,
    event_id: uuid::Uuid,
    event: Value,
}

/// How many bytes of JSON a row is.
pub(super) fn count_bytes(row: &Row<'_>) -> usize {
    struct Counter(usize);
    impl io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    serde_json::to_writer(&mut counter, row).expect("strings, numbers and JSON always print");
    counter.0
}

/// What is accepted, as a row.
pub(super) fn print_accepted<'a>(tenant: TenantId, accepted: &'a Accepted<'_>) -> Row<'a> {
    let Accepted {
        id,
        event_id,
        request,
        recipient,
        plan,
        data,
        deliveries,
        attachments,
        dedupe_key,
        collection_key: _,
        traceparent,
    } = accepted;
    let dedupe = dedupe_key.as_ref().zip(request.dedupe.as_ref());
    let inline = match recipient {
        Recipient::Known(_) => None,
        Recipient::Inline(inline) => Some(inline),
    };
    let delivery = |(channel, id): (&Channel, &DeliveryId)| {
        json!({
            "delivery_id": id.as_uuid(),
            "channel": channel.as_str(),
            "state": plan.start.state.as_str(),
            "max_attempts": plan.rules.max_attempts,
            "unknown_policy": plan.rules.unknown_policy.as_str(),
            "reconcile_window_seconds": plan.rules.reconcile_window_seconds,
            "not_before": plan.send_at,
            "due_at": plan.start.due_at,
            "publish_count": i32::from(plan.start.state == DeliveryState::Queued),
        })
    };
    let event = json!({
        "event_id": event_id.to_string(),
        "tenant_id": tenant.to_string(),
        "notification_id": id.to_string(),
        "category": request.category.as_str(),
        "recipient": known_key(recipient),
        "metadata": request.metadata,
    });
    Row {
        notification_id: id.as_uuid(),
        category_key: request.category.as_str(),
        recipient_id: known_key(recipient),
        email: inline.and_then(|inline| inline.email.as_ref()).map(|email| email.as_str()),
        phone: inline.and_then(|inline| inline.phone.as_ref()).map(|phone| phone.as_str()),
        name: inline.and_then(|inline| inline.name.as_ref()).map(|name| name.as_str()),
        locale: inline.and_then(|inline| inline.locale.as_ref()).map(|locale| locale.as_str()),
        time_zone: inline.and_then(|inline| inline.time_zone.as_ref()).map(|zone| zone.as_str()),
        template_key: plan.template.as_deref(),
        subject: request.content.subject.as_deref(),
        text_body: request.content.text.as_deref(),
        html_body: request.content.html.as_deref(),
        data: data.as_deref().unwrap_or(&request.data),
        metadata: &request.metadata,
        attachments: attachments.iter().map(|id| id.as_uuid()).collect(),
        calendar: request.invitation.as_ref().map(print_calendar),
        priority: request.priority.as_str(),
        sandbox: request.sandbox,
        send_at: plan.send_at,
        expires_at: request.expires_at,
        traceparent: traceparent.as_deref(),
        deliveries: plan.channels.iter().zip(deliveries).map(delivery).collect(),
        dedupe: dedupe.map(|(key, asked)| json!({"key": key, "seconds": asked.window_seconds})),
        event_id: event_id.as_uuid(),
        event,
    }
}
