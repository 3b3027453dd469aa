//! `dispatcher`: brings everything whose time has come.

use super::super::executor::{Micros, SECOND};
use super::super::queue::Body;
use super::super::world::{Open, Worker, World};
use super::processor::tell;
use crate::history::QueueName;
use crate::protocol::Effect;
use std::rc::Rc;

/// Deliveries taken at a time.
const BATCH: usize = 500;
/// Nothing new is taken with less time than this left.
const RESERVE: Micros = 10 * SECOND;

/// Works until nothing is due or the deadline is near.
pub(in super::super) async fn dispatch_due(world: &Rc<World>, worker: &Worker) {
    let (mut more_deliveries, mut more_events) = (true, true);
    while (more_deliveries || more_events) && world.time_left(worker) > RESERVE {
        if more_deliveries {
            let Some(more) = dispatch_deliveries(world, worker).await else { return };
            more_deliveries = more;
        }
        if more_events {
            let Some(more) = dispatch_events(world, worker).await else { return };
            more_events = more;
        }
    }
}

/// One batch; whether it leaves more. `None` where the database failed.
async fn dispatch_deliveries(world: &Rc<World>, worker: &Worker) -> Option<bool> {
    let taking = world.query(worker, |database, at, now| {
        let (transaction, taken, leaves_more) = database.take_due(BATCH, at, now);
        Ok((Open { world, transaction }, taken, leaves_more))
    });
    let (open, taken, leaves_more) = taking.await.ok()?;
    if taken.is_empty() {
        return Some(false);
    }
    let writing = world.query(worker, |database, _, _| Ok(database.write_due(open.transaction, &taken)));
    let effects = writing.await.ok()??;
    let (mut published, mut buried) = (Vec::new(), Vec::new());
    let (mut publications, mut dead) = (Vec::new(), Vec::new());
    for (number, effects) in effects {
        world.tell(Some(number), || format!("was due: {effects:?}"));
        let tenant = world.database.borrow().deliveries[number].tenant;
        let body = Body::Delivery { tenant, delivery: number };
        for effect in effects {
            match effect {
                Effect::Publish(delay) => {
                    published.push(number);
                    publications.push((tenant, body.clone(), delay.as_secs() * SECOND, None));
                }
                Effect::Bury => {
                    buried.push(number);
                    dead.push((tenant, body.clone(), 0, Some("attempts_used_up")));
                }
                _ => {}
            }
        }
    }
    let unpublished = world.publish(worker, QueueName::Deliveries, publications).await;
    let unburied = world.publish(worker, QueueName::DeadLetters, dead).await;
    let refused: Vec<usize> = unpublished
        .into_iter()
        .filter_map(|place| published.get(place))
        .chain(unburied.into_iter().filter_map(|place| buried.get(place)))
        .copied()
        .collect();
    if !refused.is_empty() {
        world.query(worker, |database, at, now| database.release(&refused, at, now)).await.ok()?;
    }
    Some(leaves_more && refused.len() * 2 < taken.len())
}

async fn dispatch_events(world: &Rc<World>, worker: &Worker) -> Option<bool> {
    let reading = world.query(worker, |database, _, now| Ok(database.waiting_events(BATCH, now)));
    let events = reading.await.ok()?;
    let is_told = tell(world, worker, &events).await;
    Some(is_told && events.len() == BATCH)
}
