//! `processor`: claim, send, record, and say what is to be received again.

use super::super::database::{Claim, delivery_id};
use super::super::executor::{MILLI, Micros, SECOND, join_bounded};
use super::super::fault::Fault;
use super::super::provider::Mail;
use super::super::queue::{Body, Record};
use super::super::world::{Worker, World, words};
use crate::history::QueueName;
use crate::protocol::Claimed;
use domain::outcome::{Conclusion, Next, Settlement, settle_attempt};
use domain::retry::{Jitter, LONGEST_EARLY, Wake};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

/// Provider calls side by side.
const CONCURRENCY: usize = 5;
/// Nothing new is begun with less time than this left.
const RESERVE: Micros = 8 * SECOND;
/// What stays of an invocation's time for its answer.
const ANSWER_RESERVE: Micros = SECOND;
/// A message for a delivery that is not there is tried this often.
const MISSING_RECEIVES: u32 = 3;
const MISSING_WAIT: Duration = Duration::from_secs(5);
/// How long is waited before each try to hand back a claim.
const HAND_BACK_PAUSES: [Micros; 3] = [100 * MILLI, 400 * MILLI, 1600 * MILLI];
/// Tries to record a batch.
const RECORD_TRIES: u64 = 3;

type Key = (usize, usize);

enum Disposal {
    Delete,
    Return(Duration),
    Fail,
    Bury(&'static str),
}

enum Known {
    Settled(Settlement),
    TooEarly(Duration),
    NotOpen,
    NotRecorded,
    Missing,
}

/// Works through a batch: the messages that are to be received again.
pub(in super::super) async fn process_batch(world: &Rc<World>, worker: &Worker, records: &[Record]) -> Vec<u64> {
    let key_of = |record: &Record| match record.body {
        Body::Delivery { tenant, delivery } => Some((tenant, delivery)),
        Body::Poison | Body::Event(_) => None,
    };
    let asked: BTreeSet<Key> = records.iter().filter_map(key_of).collect();
    let mut events = Vec::new();
    let known = match claim(world, worker, asked).await {
        Some(claims) => Some(conclude_claims(world, worker, claims, &mut events).await),
        None => None,
    };
    let mut seen = BTreeSet::new();
    let disposals: Vec<Disposal> = records
        .iter()
        .map(|record| match (key_of(record), &known) {
            (None, _) => Disposal::Bury("poison"),
            (Some(_), None) => Disposal::Fail,
            (Some(key), Some(_)) if !seen.insert(key) => Disposal::Delete,
            (Some(key), Some(known)) => dispose(record, known.get(&key)),
        })
        .collect();
    let failing = dispose_records(world, worker, records, &disposals).await;
    if world.time_left(worker) > ANSWER_RESERVE {
        tell(world, worker, &events).await;
    }
    failing
}

/// Claims; what may have been claimed without an answer is handed back.
async fn claim(world: &Rc<World>, worker: &Worker, asked: BTreeSet<Key>) -> Option<Vec<(Key, Claim)>> {
    if asked.is_empty() {
        return Some(Vec::new());
    }
    let asked: Vec<(Key, u64)> = asked.into_iter().map(|key| (key, world.new_id())).collect();
    let is_late = world.fails(Fault::CommitLate);
    if is_late {
        let (late, asked) = (Rc::clone(world), asked.clone());
        world.later(move |at, now| drop(late.database.borrow_mut().claim(&asked, at, now, &late.dice)));
    } else {
        let claiming = world.query(worker, |database, at, now| Ok(database.claim(&asked, at, now, &world.dice)));
        if let Ok(claims) = claiming.await {
            return Some(claims);
        }
    }
    for pause in HAND_BACK_PAUSES {
        world.pause(pause).await;
        if world.query(worker, |database, at, now| database.hand_back(&asked, at, now)).await.is_ok() {
            world.tell(None, || format!("what an unanswered claim had taken is handed back: {asked:?}"));
            break;
        }
    }
    None
}

/// Puts events on the bus and takes them off the outbox.
pub(super) async fn tell(world: &Rc<World>, worker: &Worker, events: &[u64]) -> bool {
    if events.is_empty() {
        return true;
    }
    if !world.put_events(worker).await {
        return false;
    }
    let deleted = world.query(worker, |database, _, now| {
        database.delete_events(events, now);
        Ok(())
    });
    deleted.await.is_ok()
}

async fn conclude_claims(
    world: &Rc<World>,
    worker: &Worker,
    claims: Vec<(Key, Claim)>,
    events: &mut Vec<u64>,
) -> BTreeMap<Key, Known> {
    let mut known = BTreeMap::new();
    let mut claimed = Vec::new();
    for (key, claim) in claims {
        match claim {
            Claim::Claimed(it) => claimed.push((key, it)),
            Claim::TooEarly(wait) => drop(known.insert(key, Known::TooEarly(wait))),
            Claim::NotOpen => drop(known.insert(key, Known::NotOpen)),
            Claim::Missing => drop(known.insert(key, Known::Missing)),
        }
    }
    if claimed.is_empty() {
        return known;
    }
    for (key, claim) in &claimed {
        world.tell(Some(key.1), || format!("attempt {} of {} is claimed", claim.attempt, delivery_id(key.1)));
    }
    let concluding = claimed.iter().map(|(key, claim)| {
        let settled: Pin<Box<dyn Future<Output = Settlement>>> = Box::pin(conclude(world, worker, *key, *claim));
        settled
    });
    let settlements = join_bounded(concluding.collect(), CONCURRENCY).await;
    let records: Vec<(usize, u32, Settlement)> =
        claimed.iter().zip(&settlements).map(|((key, claim), it)| (key.1, claim.attempt, it.clone())).collect();
    match record(world, worker, &records).await {
        Some((recorded, told)) => {
            events.extend(told);
            for ((key, claim), settlement) in claimed.iter().zip(settlements) {
                let is_recorded = recorded.contains(&key.1);
                world.tell(Some(key.1), || {
                    let how = if is_recorded { "is recorded" } else { "is fenced" };
                    format!("attempt {} {how}: {} ({})", claim.attempt, settlement.outcome, settlement.state)
                });
                known.insert(*key, if is_recorded { Known::Settled(settlement) } else { Known::NotOpen });
            }
        }
        None => known.extend(claimed.iter().map(|(key, _)| (*key, Known::NotRecorded))),
    }
    known
}

async fn conclude(world: &Rc<World>, worker: &Worker, key: Key, claim: Claimed) -> Settlement {
    let conclusion = if world.time_left(worker) < RESERVE {
        Conclusion::HandedBack(words("OutOfTime"))
    } else if claim.is_expired {
        Conclusion::Expired
    } else if claim.is_sandbox {
        Conclusion::Sandboxed
    } else {
        let address = world.database.borrow().deliveries[key.1].address;
        let mail = Mail { tenant: key.0, delivery: key.1, attempt: claim.attempt, address };
        Conclusion::Called(world.send_mail(worker, mail).await)
    };
    settle_attempt(conclusion, claim.budget, &claim.rules, Jitter::new(world.dice.number()))
}

async fn record(
    world: &Rc<World>,
    worker: &Worker,
    records: &[(usize, u32, Settlement)],
) -> Option<(BTreeSet<usize>, Vec<u64>)> {
    for wait in 1..=RECORD_TRIES {
        if world.fails(Fault::CommitLate) {
            let (late, records) = (Rc::clone(world), records.to_vec());
            world.later(move |at, now| drop(late.database.borrow_mut().record(&records, at, now)));
            continue;
        }
        let recorded = world.query(worker, |database, at, now| {
            let recorded = database.record(records, at, now)?;
            let events = database.events_of(&recorded);
            Ok((recorded, events))
        });
        if let Ok(recorded) = recorded.await {
            return Some(recorded);
        }
        if wait < RECORD_TRIES {
            world.pause(wait * 200 * MILLI).await;
        }
    }
    None
}

fn dispose(record: &Record, known: Option<&Known>) -> Disposal {
    match known {
        Some(Known::Settled(settlement)) => match settlement.next {
            Next::Retry { wait, wake: Wake::Message } => Disposal::Return(wait),
            Next::DeadLetter => Disposal::Bury("attempts_used_up"),
            Next::Nothing | Next::Retry { wake: Wake::Dispatcher, .. } | Next::Feedback { .. } => Disposal::Delete,
        },
        Some(Known::TooEarly(wait)) if *wait <= LONGEST_EARLY => Disposal::Return(*wait),
        Some(Known::TooEarly(_) | Known::NotOpen) => Disposal::Delete,
        Some(Known::NotRecorded) => Disposal::Fail,
        Some(Known::Missing) | None if record.receive_count < MISSING_RECEIVES => Disposal::Return(MISSING_WAIT),
        Some(Known::Missing) | None => Disposal::Bury("unknown_delivery"),
    }
}

async fn dispose_records(world: &Rc<World>, worker: &Worker, records: &[Record], disposals: &[Disposal]) -> Vec<u64> {
    let (mut failing, mut hidden, mut buried, mut dead) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (record, disposal) in records.iter().zip(disposals) {
        match disposal {
            Disposal::Delete => {}
            Disposal::Fail => failing.push(record.id),
            Disposal::Return(wait) => {
                hidden.push((record.id, record.receipt, wait.as_secs() * SECOND));
                failing.push(record.id);
            }
            Disposal::Bury(reason) => {
                buried.push(record.id);
                dead.push((0, record.body.clone(), 0, Some(*reason)));
            }
        }
    }
    world.hide(worker, QueueName::Deliveries, &hidden).await;
    let not_buried = world.publish(worker, QueueName::DeadLetters, dead).await;
    failing.extend(not_buried.into_iter().filter_map(|place| buried.get(place)));
    failing
}
