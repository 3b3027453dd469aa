//! Puts events of committed changes on the bus and takes them off the outbox.
//!
//! A crash in between publishes an event twice, with one id; what the bus does not take stays for the dispatcher.

use adapters::store::attempts::delete_events_across_tenants;
use adapters::store::database::{Database, StoreError};
use adapters::telemetry::chain;
use domain::event::{Event, EventBus};
use std::time::Instant;

/// How many events the bus took, and how many it did not.
pub(crate) struct Published {
    pub(crate) taken: usize,
    pub(crate) refused: usize,
}

/// Publishes events and deletes from the outbox those that the bus took.
pub(crate) async fn publish_events(
    database: &Database,
    bus: &impl EventBus,
    events: &[Event],
) -> Result<Published, StoreError> {
    let not_taken = bus.publish_events(events).await;
    let taken: Vec<&Event> =
        events.iter().enumerate().filter(|(place, _)| not_taken.took(*place)).map(|(_, event)| event).collect();
    delete_events_across_tenants(database, &taken).await?;
    Ok(Published { taken: taken.len(), refused: not_taken.0.len() })
}

/// Publishes events as long as there is time. The outbox keeps the others for the dispatcher, so nobody waits for them.
pub(crate) async fn tell_until(database: &Database, bus: &impl EventBus, events: &[Event], deadline: Instant) {
    match tokio::time::timeout_at(deadline.into(), publish_events(database, bus, events)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            tracing::warn!(error = chain(&error), "published events stay in the outbox and will be published again");
        }
        Err(_) => {
            tracing::warn!(event_count = events.len(), "there was no time to publish events; they stay in the outbox")
        }
    }
}
