//! What the service tells others, and the bus that carries it.

use crate::id::{EventId, TenantId};
use crate::queue::NotTaken;
use std::future::Future;

/// Something that happened, as it stands in the outbox.
#[derive(Clone, Debug, PartialEq)]
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

/// The bus. Takes each event or not.
pub trait EventBus {
    /// Puts events on the bus, in batches of ten, side by side.
    fn publish_events(&self, events: &[Event]) -> impl Future<Output = NotTaken> + Send;
}
