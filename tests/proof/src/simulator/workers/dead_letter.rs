//! `dead_letter`: stores what came to the dead-letter queue, a batch whole or not at all.

use super::super::queue::{Body, Record};
use super::super::world::{Worker, World};
use std::rc::Rc;

/// The reason of a message that the queue itself gave up on.
const RECEIVED_TOO_OFTEN: &str = "received_too_often";

/// Stores a batch: the messages that are to be received again.
pub(in super::super) async fn store_dead_letters(world: &Rc<World>, worker: &Worker, records: &[Record]) -> Vec<u64> {
    let letters: Vec<_> = records
        .iter()
        .map(|record| {
            let named = match record.body {
                Body::Delivery { tenant, delivery } => Some((tenant, delivery)),
                Body::Poison | Body::Event(_) => None,
            };
            (record.id, named, record.reason.unwrap_or(RECEIVED_TOO_OFTEN))
        })
        .collect();
    let stored = world.query(worker, |database, at, now| database.store_dead_letters(&letters, at, now)).await;
    if stored.is_err() {
        return records.iter().map(|record| record.id).collect();
    }
    for (message, named, reason) in letters {
        world.tell(named.map(|(_, number)| number), || format!("message {message} is a dead letter: {reason}"));
    }
    Vec::new()
}
