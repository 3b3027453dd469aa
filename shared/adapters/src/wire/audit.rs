//! The audit log as callers ask for it and read it: which row, by whom, from what to what.

use super::pages::Cursor;
use crate::store::audit::{ChainCheck, ChangeRow, Operation, cursor_of};
use domain::id::{AttemptId, DeadLetterId, DeliveryId, EventId, NotificationId};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// An operation's name in a query; the log has it in capitals.
pub fn read_operation(text: &str) -> Result<Operation, &'static str> {
    let found = Operation::ALL.iter().copied().find(|operation| print_operation(*operation) == text);
    found.ok_or("must be one of insert, update, delete")
}

fn print_operation(operation: Operation) -> &'static str {
    match operation {
        Operation::Insert => "insert",
        Operation::Update => "update",
        Operation::Delete => "delete",
    }
}

/// A row's key in a query, as the log has it: a printed id becomes the bare one.
pub fn read_row_key(text: &str) -> String {
    let id = NotificationId::parse(text)
        .map(NotificationId::as_uuid)
        .or_else(|_| DeliveryId::parse(text).map(DeliveryId::as_uuid))
        .or_else(|_| AttemptId::parse(text).map(AttemptId::as_uuid))
        .or_else(|_| EventId::parse(text).map(EventId::as_uuid))
        .or_else(|_| DeadLetterId::parse(text).map(DeadLetterId::as_uuid));
    id.map_or_else(|_| text.to_owned(), |id| id.to_string())
}

/// A key's column, where it holds an id, as the rest of the API prints that id.
fn print_key_value(column: &str, value: &Value) -> Value {
    let Some(id) = value.as_str().and_then(|text| Uuid::try_parse(text).ok()) else { return value.clone() };
    let printed = match column {
        "notification_id" => NotificationId::from_uuid(id).to_string(),
        "delivery_id" => DeliveryId::from_uuid(id).to_string(),
        "attempt_id" => AttemptId::from_uuid(id).to_string(),
        "event_id" => EventId::from_uuid(id).to_string(),
        "dead_letter_id" => DeadLetterId::from_uuid(id).to_string(),
        _ => return value.clone(),
    };
    printed.into()
}

/// A change: each column that changed, from what to what.
pub fn print_change(row: &ChangeRow) -> Value {
    let ChangeRow { audit_id, changed_at, actor, table_name, operation, row_key, old_values, new_values } = row;
    let key: Map<String, Value> = row_key
        .as_object()
        .into_iter()
        .flatten()
        .map(|(column, value)| (column.clone(), print_key_value(column, value)))
        .collect();
    let values = |values: &Option<Value>| values.as_ref().and_then(Value::as_object).cloned().unwrap_or_default();
    let (old, new) = (values(old_values), values(new_values));
    let columns: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let changes: Map<String, Value> = columns
        .into_iter()
        .map(|column| (column.clone(), json!({"from": old.get(column), "to": new.get(column)})))
        .collect();
    json!({
        "id": audit_id,
        "changed_at": changed_at,
        "actor": actor,
        "table": table_name,
        "operation": print_operation(*operation),
        "key": key,
        "changes": changes,
    })
}

/// Where the page after this row begins.
pub fn change_cursor(row: &ChangeRow) -> Cursor {
    cursor_of(row.changed_at, row.audit_id)
}

/// What verifying came to.
pub fn print_check(check: &ChainCheck) -> Value {
    let ChainCheck { block_count, row_count, head, next_block, broken, unsealed_count, dropped_to } = check;
    json!({
        "is_intact": broken.is_none(),
        "block_count": block_count,
        "row_count": row_count,
        "head": head.as_ref().map(|(block, hash)| json!({"block": block, "hash": print_hash(hash)})),
        "next_block": next_block,
        "broken": broken.as_ref().map(|(block, reason)| json!({"block": block, "reason": reason})),
        "unsealed_count": unsealed_count,
        "dropped_to_block": Some(dropped_to).filter(|block| **block > 0),
    })
}

/// A hash in lower-case hex.
pub fn print_hash(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_asked_for_as_it_is_printed() {
        let id = Uuid::from_u128(0x018f_0000_0000_7000_8000_0000_0000_0abc);
        for (column, printed) in [
            ("notification_id", "ntf_018f0000000070008000000000000abc"),
            ("delivery_id", "dlv_018f0000000070008000000000000abc"),
            ("attempt_id", "att_018f0000000070008000000000000abc"),
            ("event_id", "evt_018f0000000070008000000000000abc"),
            ("dead_letter_id", "dl_018f0000000070008000000000000abc"),
        ] {
            assert_eq!(print_key_value(column, &json!(id)), printed);
            assert_eq!(read_row_key(printed), id.to_string());
        }
        assert_eq!(print_key_value("category_key", &json!("greeting")), "greeting");
        assert_eq!(read_row_key("greeting"), "greeting");
    }
}
