//! `feedback`: what the provider tells, and what its own list says that it did not tell.

use super::super::database::Heard;
use super::super::executor::{MILLI, Micros, SECOND};
use super::super::provider::ProviderEvent;
use super::super::queue::{Body, Record};
use super::super::world::{Open, Unavailable, Worker, World};
use crate::history::QueueName;
use std::collections::BTreeSet;
use std::rc::Rc;

/// Tries to take an attempt that somebody else is writing.
const TAKE_TRIES: u64 = 6;
/// What stays of an invocation's time for its answer.
const ANSWER_RESERVE: Micros = 2 * SECOND;
/// How long a message is hidden whose event could not be applied, at first and at most.
const FIRST_RETURN: Micros = 10 * SECOND;
const LONGEST_RETURN: Micros = 240 * SECOND;

/// Writes what a batch of events says: the messages that are to be received again.
pub(in super::super) async fn hear_feedback(world: &Rc<World>, worker: &Worker, records: &[Record]) -> Vec<u64> {
    // What nobody can read comes back until the queue gives up on it.
    let malformed = records.iter().filter(|record| !matches!(record.body, Body::Event(_))).map(|record| record.id);
    let mut failing: Vec<u64> = malformed.collect();
    let event = |record: &Record| match &record.body {
        Body::Event(event) => Some((record.id, event.clone())),
        Body::Poison | Body::Delivery { .. } => None,
    };
    let mut waiting: Vec<(u64, ProviderEvent)> = records.iter().filter_map(event).collect();
    let mut unheard = BTreeSet::new();
    for tries in 1..=TAKE_TRIES {
        if waiting.is_empty() {
            break;
        }
        match apply(world, worker, &waiting).await {
            Ok(busy) => waiting.retain(|(id, _)| busy.contains(id)),
            Err(Unavailable) => unheard.extend(waiting.drain(..).map(|(id, _)| id)),
        }
        if waiting.is_empty() || world.time_left(worker) < ANSWER_RESERVE {
            break;
        }
        world.pause(tries * 50 * MILLI).await;
    }
    unheard.extend(waiting.iter().map(|(id, _)| *id));
    let returned = records.iter().filter(|record| unheard.contains(&record.id));
    let hidden: Vec<_> = returned.map(|record| (record.id, record.receipt, return_after(record))).collect();
    world.hide(worker, QueueName::Feedback, &hidden).await;
    failing.extend(unheard);
    failing
}

/// Applies events in one transaction: the messages of those that somebody else is writing.
async fn apply(
    world: &Rc<World>,
    worker: &Worker,
    waiting: &[(u64, ProviderEvent)],
) -> Result<BTreeSet<u64>, Unavailable> {
    let events: Vec<ProviderEvent> = waiting.iter().map(|(_, event)| event.clone()).collect();
    let taking = world.query(worker, |database, at, now| {
        let (transaction, heard) = database.take_feedback(&events, at, now);
        Ok((Open { world, transaction }, heard))
    });
    let (open, heard) = taking.await?;
    let taken = events.iter().zip(&heard).filter(|(_, heard)| **heard == Heard::Taken).map(|(event, _)| event);
    let taken: Vec<&ProviderEvent> = taken.collect();
    let writing = world.query(worker, |database, _, _| Ok(database.write_feedback(open.transaction, &taken)));
    writing.await?.ok_or(Unavailable)?;
    for event in taken {
        world.tell(Some(event.delivery), || format!("{:?} of attempt {} is heard", event.event, event.attempt));
    }
    let busy = waiting.iter().zip(&heard).filter(|(_, heard)| **heard == Heard::Busy).map(|((id, _), _)| *id);
    Ok(busy.collect())
}

fn return_after(record: &Record) -> Micros {
    let doublings = record.receive_count.saturating_sub(1).min(8);
    LONGEST_RETURN.min(FIRST_RETURN << doublings)
}

/// Suppresses for everybody what the provider does not deliver to any more.
pub(in super::super) async fn reconcile_list(world: &Rc<World>, worker: &Worker) {
    let listed: Vec<usize> = world.provider.borrow().listed.iter().copied().collect();
    if listed.is_empty() {
        return;
    }
    // What fails is done by the next run.
    let done = world.query(worker, |database, _, now| {
        listed.iter().for_each(|address| database.suppress(None, *address, now));
        Ok(())
    });
    drop(done.await);
}
