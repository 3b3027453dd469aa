//! What is told of escalations, by events in the outbox.

use adapters::ids::new_uuid;
use adapters::store::database::{StoreError, TenantTransaction};
use adapters::store::escalations::tell;
use domain::event::Event;
use domain::id::{EscalationId, EventId, TenantId};
use serde_json::{Map, Value, json};

/// An event of an escalation, with what else there is to say.
pub(super) fn event(tenant: TenantId, id: EscalationId, detail_type: &str, more: Value) -> Event {
    let event_id = EventId::from_uuid(new_uuid());
    let mut detail = Map::from_iter([
        ("event_id".to_owned(), event_id.to_string().into()),
        ("tenant_id".to_owned(), tenant.to_string().into()),
        ("escalation_id".to_owned(), id.to_string().into()),
    ]);
    if let Value::Object(more) = more {
        detail.extend(more);
    }
    Event { id: event_id, tenant, detail_type: detail_type.to_owned(), detail: Value::Object(detail) }
}

/// Tells that an escalation could not be dealt with, by what the database said of it, and waits.
pub(super) async fn tell_put_off(
    transaction: &mut TenantTransaction,
    id: EscalationId,
    error: &StoreError,
) -> Result<(), StoreError> {
    let reason = match error {
        StoreError::TimedOut(_) => "timed_out",
        _ => "not_stored",
    };
    let event = event(transaction.tenant(), id, "escalation.put_off", json!({"reason": reason}));
    tell(transaction, &[event]).await
}
