//! `feedback`: what the provider tells, and what its own list says that it did not tell.

use super::super::provider::ProviderEvent;
use super::super::queue::{Body, Record};
use super::super::world::{Worker, World};
use std::rc::Rc;

/// Writes what a batch of events says: the messages that are to be received again.
pub(in super::super) async fn hear_feedback(world: &Rc<World>, worker: &Worker, records: &[Record]) -> Vec<u64> {
    let events: Vec<ProviderEvent> = records
        .iter()
        .filter_map(|record| match &record.body {
            Body::Event(event) => Some(event.clone()),
            Body::Poison | Body::Delivery { .. } => None,
        })
        .collect();
    let heard = world.query(worker, |database, at, now| database.hear(&events, at, now)).await;
    for event in &events {
        world.tell(Some(event.delivery), || {
            let how = if heard.is_ok() { "is heard" } else { "is not heard yet" };
            format!("{:?} of attempt {} {how}", event.event, event.attempt)
        });
    }
    if heard.is_ok() { Vec::new() } else { records.iter().map(|record| record.id).collect() }
}

/// Suppresses for everybody what the provider does not deliver to any more.
pub(in super::super) async fn reconcile_list(world: &Rc<World>, worker: &Worker) {
    let listed: Vec<usize> = world.provider.borrow().listed.iter().copied().collect();
    if listed.is_empty() {
        return;
    }
    // What fails is done an hour later.
    let done = world.query(worker, |database, _, now| {
        listed.iter().for_each(|address| database.suppress(None, *address, now));
        Ok(())
    });
    drop(done.await);
}
