//! Escalations: the bodies that start, acknowledge and resolve them, and what is shown of them.

use super::fields::{FieldError, Fields};
use super::problem::Problem;
use crate::store::escalations::{EscalationRow, EscalationView, StepView};
use domain::escalation::RESERVED;
use domain::id::{EscalationKey, PolicyKey, RecipientKey};
use domain::render::check_context;
use serde_json::Value;
use serde_json::json;

/// The most data of an escalation, in bytes of JSON: each notification of each of its steps has a copy.
pub const MAX_DATA_BYTES: usize = 16 * 1024;

/// What is to be started.
#[derive(Clone)]
pub struct StartBody {
    /// By which policy.
    pub policy: PolicyKey,
    /// What it is about, where there may be only one open at a time.
    pub key: Option<EscalationKey>,
    /// For its notifications.
    pub data: Value,
}

domain::masked_debug!(StartBody, "StartBody", policy, key);

/// Reads the body of `POST /v1/escalations`.
pub fn read_start(body: &Value) -> Result<StartBody, Problem> {
    let mut fields = Fields::of(body, "").map_err(|error| Problem::invalid(vec![error]))?;
    let policy = fields.parsed("policy", PolicyKey::parse);
    fields.require("policy", &policy);
    let key = fields.parsed("key", EscalationKey::parse);
    let data = fields.opaque("data");
    if data.to_string().len() > MAX_DATA_BYTES {
        fields.wrong("data", format_args!("must have at most {MAX_DATA_BYTES} bytes of JSON"));
    }
    if let Err(error) = check_context(&data) {
        fields.wrong("data", error.detail);
    }
    if data.get(RESERVED).is_some() {
        fields.extend([FieldError::new(format!("/data/{RESERVED}"), "is where the escalation itself is told of")]);
    }
    fields.finish().map_err(Problem::invalid)?;
    let policy = policy.ok_or_else(|| Problem::invalid(Vec::new()))?;
    Ok(StartBody { policy, key, data })
}

/// Reads the body of an acknowledgement: for whom, where it is not the token's own.
pub fn read_acknowledgement(body: &Value) -> Result<Option<RecipientKey>, Problem> {
    let mut fields = Fields::of(body, "").map_err(|error| Problem::invalid(vec![error]))?;
    let recipient = fields.parsed("recipient", RecipientKey::parse);
    fields.finish().map_err(Problem::invalid)?;
    Ok(recipient)
}

/// An escalation as it stands in a list.
pub fn print_row(row: &EscalationRow) -> Value {
    let EscalationRow {
        id,
        key,
        policy,
        state,
        reason,
        repeat,
        level,
        tier,
        next_step_at,
        acknowledged_at,
        acknowledged_by,
        finished_at,
        created_at,
        updated_at,
        step_count,
        notification_count,
        acknowledgement_count,
    } = row;
    json!({
        "id": id.to_string(), "key": key, "policy": policy, "state": state.as_str(), "reason": reason,
        "repeat": repeat, "level": level, "tier": tier, "next_step_at": next_step_at,
        "acknowledged": acknowledged_at.zip(acknowledged_by.as_ref()).map(|(at, by)| json!({"at": at, "by": by})),
        "step_count": step_count, "notification_count": notification_count,
        "acknowledgement_count": acknowledgement_count,
        "started_at": created_at, "finished_at": finished_at, "updated_at": updated_at,
    })
}

/// An escalation with what it says and has fired.
pub fn print_escalation(view: &EscalationView) -> Value {
    let EscalationView { row, definition, data, steps, acknowledgements } = view;
    let acknowledgement = |(recipient, at): &(String, jiff::Timestamp)| json!({"recipient": recipient, "at": at});
    let mut printed = print_row(row);
    printed["definition"] = definition.clone();
    printed["data"] = data.clone();
    printed["steps"] = steps.iter().map(print_step).collect();
    printed["acknowledgements"] = acknowledgements.iter().map(acknowledgement).collect();
    printed
}

fn print_step(view: &StepView) -> Value {
    let StepView {
        repeat,
        level,
        tier,
        fired_at,
        recipients,
        recipient_count,
        reason,
        note,
        notifications,
        notification_count,
    } = view;
    let notification =
        |(id, recipient): &(domain::id::NotificationId, String)| json!({"id": id.to_string(), "recipient": recipient});
    json!({
        "repeat": repeat, "level": level, "tier": tier, "fired_at": fired_at, "recipients": recipients,
        "recipient_count": recipient_count, "reason": reason, "note": note,
        "notifications": notifications.iter().map(notification).collect::<Value>(),
        "notification_count": notification_count,
    })
}
