//! What the service tells others, and the bus that carries it.

use crate::delivery::DeliveryState;
use crate::id::{EventId, TenantId};
use crate::queue::NotTaken;
use std::future::Future;

/// Something that happened, as it stands in the outbox.
#[derive(Clone, PartialEq)]
pub struct Event {
    /// Its own id; a repeated publication carries the same one.
    pub id: EventId,
    /// Whose event.
    pub tenant: TenantId,
    /// `noun.past_verb`.
    pub detail_type: String,
    /// The facts.
    pub detail: serde_json::Value,
}

crate::masked_debug!(Event, "Event", id, tenant, detail_type);

/// The event that tells of a delivery's state; waiting and trying are told by none.
pub fn event_type(state: DeliveryState) -> Option<&'static str> {
    match state {
        DeliveryState::Sent => Some("delivery.sent"),
        DeliveryState::Delivered => Some("delivery.delivered"),
        DeliveryState::Bounced => Some("delivery.bounced"),
        DeliveryState::Complained => Some("delivery.complained"),
        DeliveryState::Failed | DeliveryState::Dead => Some("delivery.failed"),
        DeliveryState::Skipped => Some("delivery.skipped"),
        DeliveryState::Canceled => Some("delivery.canceled"),
        DeliveryState::Expired => Some("delivery.expired"),
        DeliveryState::Held => Some("delivery.held"),
        DeliveryState::Unknown => Some("delivery.unknown"),
        DeliveryState::Scheduled | DeliveryState::Queued | DeliveryState::Sending | DeliveryState::Absorbed => None,
    }
}

/// The bus. Takes each event or not.
pub trait EventBus {
    /// Puts events on the bus, in batches of ten, side by side.
    fn publish_events(&self, events: &[Event]) -> impl Future<Output = NotTaken> + Send;
}
