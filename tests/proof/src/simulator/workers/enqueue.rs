//! A client, and `enqueue` as it answers it: the row first, then the message.

use super::super::database::{Accepted, notification_id, tenant_id};
use super::super::executor::{Micros, SECOND};
use super::super::plan::{PlannedNotification, PlannedRequest};
use super::super::queue::Body;
use super::super::world::{Worker, World};
use crate::history::{Answer, QueueName, Request};
use std::cell::RefCell;
use std::rc::Rc;

/// The function's time.
const TIMEOUT: Micros = 10 * SECOND;
/// How long a client waits for an answer.
const PATIENCE: Micros = 11 * SECOND;

/// Sends a request; with a key, again until it is answered.
pub(in super::super) async fn ask(world: Rc<World>, number: usize, planned: PlannedRequest) {
    world.executor.until(planned.at).await;
    let key = planned.has_key.then_some(number as u64);
    let mut longest = 4;
    loop {
        let answer = send(&world, planned.tenant, key, 0, &planned.notifications).await;
        if key.is_none() || answer != Answer::Unknown {
            break;
        }
        world.pause(world.dice.within(1..longest) * SECOND).await;
        longest = (longest * 2).min(600);
    }
    if planned.reuses_key {
        send(&world, planned.tenant, key, 1, &planned.notifications).await;
    }
}

async fn send(
    world: &Rc<World>,
    tenant: usize,
    key: Option<u64>,
    body_hash: u64,
    planned: &[PlannedNotification],
) -> Answer {
    let sent_at = world.clock();
    let slot: Rc<RefCell<Option<Answer>>> = Rc::default();
    let client = world.executor.current();
    let worker = world.worker("enqueue", TIMEOUT);
    let (inner, filled, wanted, busy) = (Rc::clone(world), Rc::clone(&slot), planned.to_vec(), world.busy());
    let task = world.executor.spawn(async move {
        let answer = accept(&inner, &worker, tenant, key, body_hash, &wanted).await;
        inner.step(&worker).await;
        *filled.borrow_mut() = Some(answer);
        inner.executor.wake_at(client, inner.now());
        drop(busy);
    });
    let gives_up_at = world.now() + PATIENCE;
    while slot.borrow().is_none() && world.now() < gives_up_at {
        world.executor.until_woken(gives_up_at).await;
    }
    world.executor.kill(task);
    let answer = slot.borrow_mut().take().unwrap_or(Answer::Unknown);
    world.tell(None, || format!("request {key:?} of tenant {tenant} is answered {answer:?}"));
    world.requests.borrow_mut().push(Request {
        sent_at,
        tenant: tenant_id(tenant),
        idempotency_key: key.map(|key| key.to_string()),
        body_hash,
        asked_count: planned.len(),
        answer: answer.clone(),
    });
    answer
}

async fn accept(
    world: &Rc<World>,
    worker: &Worker,
    tenant: usize,
    key: Option<u64>,
    body_hash: u64,
    planned: &[PlannedNotification],
) -> Answer {
    // Reads what the request names.
    if world.query(worker, |_, _, _| Ok(())).await.is_err() {
        return Answer::Unknown;
    }
    let stored =
        world.query(worker, |database, _, now| Ok(database.accept(tenant, key, body_hash, planned, now))).await;
    let named = |notifications: &[usize]| {
        Answer::Accepted(notifications.iter().map(|number| notification_id(*number)).collect())
    };
    match stored {
        Err(_) => Answer::Unknown,
        Ok(Accepted::KeyReused) => Answer::Refused(422),
        Ok(Accepted::Replayed(notifications)) => named(&notifications),
        Ok(Accepted::Stored { notifications, publications }) => {
            for number in &notifications {
                world.tell(Some(*number), || format!("is stored for tenant {tenant}"));
            }
            let messages = publications
                .into_iter()
                .map(|(delivery, delay)| (tenant, Body::Delivery { tenant, delivery }, micros(delay), None));
            world.publish(worker, QueueName::Deliveries, messages.collect()).await;
            named(&notifications)
        }
    }
}

fn micros(wait: std::time::Duration) -> Micros {
    wait.as_secs() * SECOND
}
