//! What callers read: stored rows as JSON. Each field of a row is named here once, so that a new one is a decision.

use super::pages::{Cursor, Found, print_cursor, print_key_cursor};
use crate::store::dead_letters::DeadLetter;
use crate::store::memberships::Members;
use crate::store::notifications::{AttemptView, DeliveryView, DigestMembers, DigestView, NotificationView};
use domain::collection::{Membership, explain_membership};
use domain::delivery::{DeliveryState, notification_state};
use domain::explain::{AttemptStory, DeliveryStory, DigestStory, explain_delivery};
use serde_json::{Value, json};

/// Whether an answer says where mail went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// To whoever may see the recipient.
    Shown,
    /// To everybody else, and in answers that are kept.
    Hidden,
}

/// A notification with its deliveries and attempts.
pub fn print_notification(view: &NotificationView, addresses: Addresses) -> Value {
    let NotificationView {
        id,
        category,
        recipient,
        template,
        priority,
        sandbox,
        metadata,
        send_at,
        expires_at,
        created_at,
        collected,
        deliveries,
        holds,
    } = view;
    json!({
        "id": id.to_string(),
        "state": notification_state(deliveries.iter().map(|delivery| delivery.state)).map(|state| state.as_str()),
        "category": category,
        "recipient": recipient.as_ref().map(|id| json!({"id": id})),
        "template": template,
        "priority": priority,
        "sandbox": sandbox,
        "metadata": metadata,
        "send_at": send_at,
        "expires_at": expires_at,
        "created_at": created_at,
        "collected": membership_of(view).map(print_membership),
        "members": collected.members.as_ref().map(print_members),
        "deliveries": deliveries.iter().map(|delivery| print_delivery(delivery, addresses)).collect::<Value>(),
        "holds": holds.as_ref().map(print_digest_members),
    })
}

fn print_digest_members(members: &DigestMembers) -> Value {
    let DigestMembers { count, notifications } = members;
    json!({"count": count, "notifications": notifications.iter().map(ToString::to_string).collect::<Value>()})
}

fn print_digest(view: &DigestView) -> Value {
    let DigestView { category, due, notification, standing } = view;
    json!({
        "category": category,
        "due": due,
        "notification_id": notification.map(|id| id.to_string()),
        "state": standing.map(|(state, _)| state.as_str()),
        "reason": standing.and_then(|(_, reason)| reason).map(|reason| reason.as_str()),
    })
}

/// Where it stands in its collection: the message is that of those who left in it, and not of one that was canceled.
fn membership_of(view: &NotificationView) -> Option<Membership> {
    let mut membership = view.collected.membership.clone()?;
    let was_absorbed = view.deliveries.iter().any(|delivery| delivery.state == DeliveryState::Absorbed);
    membership.message = membership.message.filter(|_| was_absorbed);
    Some(membership)
}

fn print_membership(membership: Membership) -> Value {
    let Membership { kind, closes_at, message } = membership;
    json!({"as": kind.as_str(), "closes_at": closes_at, "message": message.map(|id| id.to_string())})
}

fn print_members(members: &Members) -> Value {
    let Members { kind, count, ids } = members;
    json!({
        "as": kind.as_str(),
        "count": count,
        "ids": ids.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// Why each delivery of a notification was sent or was not, as a person would say it.
pub fn print_explanation(view: &NotificationView) -> Value {
    json!({
        "id": view.id.to_string(),
        "state": notification_state(view.deliveries.iter().map(|delivery| delivery.state)).map(|state| state.as_str()),
        "deliveries": view.deliveries.iter().map(|delivery| explain(delivery, view)).collect::<Value>(),
    })
}

fn explain(view: &DeliveryView, notification: &NotificationView) -> Value {
    let attempt = |attempt: &'_ AttemptView| AttemptStory {
        number: attempt.number,
        started_at: attempt.started_at,
        outcome: attempt.outcome,
        error: attempt.error_code.clone().map(|code| (code, attempt.error_detail.clone())),
        feedback: attempt.feedback.map(|feedback| (feedback, attempt.feedback_at)),
    };
    let story = DeliveryStory {
        channel: view.channel,
        state: view.state,
        reason: view.reason,
        detail: view.reason_detail.as_deref(),
        not_before: view.not_before,
        withdrawn_at: view.withdrawn_at,
        findings: &view.findings,
        attempts: view.attempts.iter().map(attempt).collect(),
        digest: view.digest.as_ref().map(|digest| DigestStory {
            category: &digest.category,
            due: digest.due,
            notification: digest.notification,
            standing: digest.standing,
        }),
    };
    let mut explanation = explain_delivery(&story);
    explanation.extend(membership_of(notification).as_ref().and_then(explain_membership));
    explanation.extend(notification.collected.members.as_ref().map(|members| {
        format!(
            "It is the message of {} notifications; GET /v1/notifications?message={} lists them.",
            members.count, notification.id
        )
    }));
    json!({
        "id": view.id.to_string(),
        "channel": view.channel.as_str(),
        "state": view.state.as_str(),
        "reason": view.reason.map(|reason| reason.as_str()),
        "explanation": explanation,
    })
}

fn print_delivery(view: &DeliveryView, addresses: Addresses) -> Value {
    let DeliveryView {
        id,
        channel,
        state,
        reason,
        reason_detail,
        spent,
        max_attempts,
        not_before,
        provider_message_id,
        sent_at,
        finished_at,
        withdrawn_at,
        updated_at,
        findings: _,
        attempts,
        digest,
    } = view;
    json!({
        "id": id.to_string(),
        "channel": channel.as_str(),
        "state": state.as_str(),
        "reason": reason.map(|reason| reason.as_str()),
        "detail": reason_detail,
        "attempt_count": spent,
        "max_attempts": max_attempts,
        "not_before": not_before,
        "provider_message_id": provider_message_id,
        "sent_at": sent_at,
        "finished_at": finished_at,
        "withdrawn_at": withdrawn_at,
        "updated_at": updated_at,
        "resent_after_unknown": view.resent_after_unknown(),
        "attempts": attempts.iter().map(|attempt| print_attempt(attempt, addresses)).collect::<Value>(),
        "digest": digest.as_ref().map(print_digest),
    })
}

fn print_attempt(view: &AttemptView, addresses: Addresses) -> Value {
    let AttemptView {
        id,
        number,
        outcome,
        error_code,
        error_detail,
        provider_message_id,
        feedback,
        feedback_at,
        template_version,
        to_address,
        to_name,
        started_at,
        finished_at,
    } = view;
    let mut printed = json!({
        "id": id.to_string(),
        "number": number,
        "outcome": outcome.map(|outcome| outcome.as_str()),
        "error": error_code.as_ref().map(|code| json!({"code": code, "detail": error_detail})),
        "provider_message_id": provider_message_id,
        "feedback": feedback.map(|feedback| feedback.as_str()),
        "feedback_at": feedback_at,
        "template_version": template_version,
        "started_at": started_at,
        "finished_at": finished_at,
    });
    if addresses == Addresses::Shown {
        printed["to"] = to_address.as_ref().map(|address| json!({"address": address, "name": to_name})).into();
    }
    printed
}

/// A dead letter.
pub fn print_dead_letter(letter: &DeadLetter) -> Value {
    let DeadLetter {
        id,
        delivery,
        notification,
        category,
        body,
        reason,
        reason_detail,
        receive_count,
        first_sent_at,
        created_at,
        redriven_at,
    } = letter;
    json!({
        "id": id.to_string(),
        "delivery_id": delivery.map(|id| id.to_string()),
        "notification_id": notification.map(|id| id.to_string()),
        "category": category,
        "body": body,
        "reason": reason,
        "detail": reason_detail,
        "receive_count": receive_count,
        "first_sent_at": first_sent_at,
        "created_at": created_at,
        "redriven_at": redriven_at,
    })
}

/// A page: `rows` holds one more than `size` where there is another page.
pub fn print_page<T>(
    name: &str,
    rows: &[T],
    size: u32,
    print: impl Fn(&T) -> Value,
    cursor: impl Fn(&T) -> Cursor,
) -> Value {
    print_rows(name, rows, size, print, cursor, None)
}

/// A page of a search: there is another one behind it where there are more rows to be looked at.
pub fn print_found<T>(
    name: &str,
    found: &Found<T>,
    size: u32,
    print: impl Fn(&T) -> Value,
    cursor: impl Fn(&T) -> Cursor,
) -> Value {
    print_rows(name, &found.rows, size, print, cursor, found.looked_to)
}

fn print_rows<T>(
    name: &str,
    rows: &[T],
    size: u32,
    print: impl Fn(&T) -> Value,
    cursor: impl Fn(&T) -> Cursor,
    looked_to: Option<Cursor>,
) -> Value {
    let size = size as usize;
    let shown = &rows[..rows.len().min(size)];
    let after = if rows.len() > size { shown.last().map(cursor) } else { looked_to };
    json!({
        name: shown.iter().map(print).collect::<Value>(),
        "page_info": {"after": after.as_ref().map(print_cursor), "page_size": size},
    })
}

/// A page in the order of keys: `rows` holds one more than `size` where there is another page.
pub fn print_key_page<T>(
    name: &str,
    rows: &[T],
    size: u32,
    print: impl Fn(&T) -> Value,
    key: impl Fn(&T) -> String,
) -> Value {
    let size = size as usize;
    let shown = &rows[..rows.len().min(size)];
    let after = if rows.len() > size { shown.last().map(|row| print_key_cursor(&key(row))) } else { None };
    json!({
        name: shown.iter().map(print).collect::<Value>(),
        "page_info": {"after": after, "page_size": size},
    })
}
