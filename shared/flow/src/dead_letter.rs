//! Stores what came to the dead-letter queue, marks its deliveries, and tells people.
//!
//! A message that comes twice is the same dead letter by its message id. If nothing can be stored, nothing is
//! acknowledged, and the messages stay in the queue.

use crate::outbox::publish_events;
use adapters::ids::new_uuid;
use adapters::store::claims::DeliveryKey;
use adapters::store::database::{Database, StoreError};
use adapters::store::dead_letters::{NewDeadLetter, store_across_tenants};
use adapters::telemetry::chain;
use adapters::wire::queue_message::read_message;
use adapters::wire::sqs_event::Record;
use domain::event::EventBus;
use domain::id::{DeadLetterId, EventId};

/// The reason of a message that the queue itself gave up on.
const RECEIVED_TOO_OFTEN: &str = "received_too_often";
/// The reason of a message that nobody can read, where it came without one: a body may leave no room for it.
const POISON: &str = "poison";

/// The flow with what it needs.
pub struct DeadLetter<B> {
    /// As `harkara_worker`.
    pub database: Database,
    /// The project's bus.
    pub bus: B,
}

impl<B: EventBus> DeadLetter<B> {
    /// Stores a batch, whole or not at all.
    pub async fn store_batch(&self, records: &[Record]) -> Result<(), StoreError> {
        let letters: Vec<NewDeadLetter> = records.iter().map(read_letter).collect();
        adapters::failpoint!("D1_batch", Err(StoreError::Corrupt("failpoint")));
        let events = store_across_tenants(&self.database, &letters).await?;
        adapters::failpoint!("D2_stored", Err(StoreError::Corrupt("failpoint")));
        for letter in &letters {
            tracing::error!(
                dead_letter_id = %letter.id,
                delivery_id = letter.named.map(|key| key.delivery.to_string()),
                reason = letter.reason,
                receive_count = letter.receive_count,
                "message {} is a dead letter: {}", letter.queue_message_id, letter.reason
            );
        }
        if let Err(error) = publish_events(&self.database, &self.bus, &events).await {
            tracing::warn!(error = chain(&error), "published events stay in the outbox and will be published again");
        }
        Ok(())
    }
}

fn read_letter(record: &Record) -> NewDeadLetter {
    let named = read_message(&record.body).ok();
    let unsaid = if named.is_some() { RECEIVED_TOO_OFTEN } else { POISON };
    NewDeadLetter {
        id: DeadLetterId::from_uuid(new_uuid()),
        event_id: EventId::from_uuid(new_uuid()),
        queue_message_id: record.message_id.clone(),
        named: named.map(|message| DeliveryKey { tenant: message.tenant, delivery: message.delivery }),
        body: record.body.clone(),
        reason: record.reason.clone().unwrap_or_else(|| unsaid.to_owned()),
        reason_detail: record.reason_detail.clone(),
        receive_count: record.receive_count,
        sent_at_millis: record.sent_at_millis,
    }
}
