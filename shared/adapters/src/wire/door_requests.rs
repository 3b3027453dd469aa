//! What came through the SQL door, as callers read it.

use crate::store::door_requests::{DoorRequestView, DoorStatus};
use serde_json::{Value, json};

/// A request and what became of it.
pub fn print_door_request(view: &DoorRequestView) -> Value {
    let DoorRequestView { id, status, category, recipient, errors, created_at, due_at, refused_at } = view;
    json!({
        "id": id.to_string(),
        "status": status.as_str(),
        "category": category,
        "recipient": recipient.as_ref().map(|id| json!({"id": id})),
        "errors": errors.clone().unwrap_or_else(|| json!([])),
        "notification_id": (*status == DoorStatus::Accepted).then(|| id.to_string()),
        "created_at": created_at,
        "due_at": due_at,
        "refused_at": refused_at,
    })
}
