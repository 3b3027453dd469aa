//! Lambda as it is: event source mappings that hand batches to functions, functions that run out of time, and whatever
//! becomes of a batch whose function did not answer.

use super::executor::{MILLI, Micros, SECOND};
use super::fault::Fault;
use super::plan::{HOUR, MINUTE};
use super::queue::Record;
use super::workers;
use super::world::{Busy, QUEUES, Worker, World, next_minute};
use crate::history::{BatchAnswer, QueueName};
use std::collections::BTreeSet;
use std::rc::Rc;

/// The time of a function that takes batches.
const BATCH_TIMEOUT: Micros = 30 * SECOND;
/// The time of the dispatcher.
const DISPATCH_TIMEOUT: Micros = 55 * SECOND;
/// How long a poller takes between two receives.
const POLL: Micros = 20 * MILLI;
/// The longest that a sandbox goes on after its invocation was given up.
const AFTERLIFE: Micros = HOUR;

/// A batch that a function has, as the event source mapping knows it.
pub(super) struct Invocation {
    queue: QueueName,
    records: Vec<Record>,
}

impl World {
    /// Begins what brings messages and minutes to functions.
    pub(super) fn start_services(self: &Rc<Self>) {
        for name in QUEUES {
            let task = self.executor.reserve();
            self.pollers.borrow_mut().insert(name, task);
            self.executor.start(task, poll_queue(Rc::clone(self), name));
        }
        self.executor.spawn(tick(Rc::clone(self)));
        if self.plan.has_provider_list {
            self.executor.spawn(reconcile(Rc::clone(self)));
        }
    }

    /// A new sandbox.
    pub(super) fn worker(&self, name: &'static str, time: Micros) -> Worker {
        let day = 24 * HOUR;
        let skew = if self.fails(Fault::ClockSkew) {
            self.dice.within(0..2 * day).cast_signed() - day.cast_signed()
        } else {
            0
        };
        Worker { name, deadline: self.now() + time, skew }
    }

    fn invoke(self: &Rc<Self>, queue: QueueName, records: Vec<Record>) {
        let id = self.new_id();
        self.running.borrow_mut().insert(id, Invocation { queue, records: records.clone() });
        let worker = self.worker(
            match queue {
                QueueName::Deliveries => "processor",
                QueueName::DeadLetters => "dead_letter",
                QueueName::Feedback | QueueName::FeedbackDeadLetters => "feedback",
            },
            BATCH_TIMEOUT,
        );
        let task = self.executor.reserve();
        let (world, ending) = (Rc::clone(self), Ending { world: Rc::clone(self), id, _busy: self.busy() });
        self.executor.start(task, async move {
            let failed = match queue {
                QueueName::Deliveries => workers::process_batch(&world, &worker, &records).await,
                QueueName::DeadLetters => workers::store_dead_letters(&world, &worker, &records).await,
                QueueName::Feedback | QueueName::FeedbackDeadLetters => {
                    workers::hear_feedback(&world, &worker, &records).await
                }
            };
            // The answer itself may be late, or never leave.
            world.step(&worker).await;
            ending.answer(failed);
        });
        self.limit_time(task, id, BATCH_TIMEOUT);
    }

    /// Ends an invocation when its time is over; now and then its sandbox goes on all the same.
    fn limit_time(self: &Rc<Self>, task: u64, id: u64, time: Micros) {
        let time = if self.fails(Fault::Timeout) { self.dice.within(1..time) } else { time };
        let world = Rc::clone(self);
        self.executor.spawn(async move {
            world.pause(time).await;
            let has_ended = !world.running.borrow().contains_key(&id);
            if has_ended {
                return;
            }
            world.tell(None, || format!("invocation {id} runs out of time"));
            world.give_up(id, None);
            if world.fails(Fault::Zombie) {
                world.pause(world.dice.within(0..AFTERLIFE)).await;
            }
            world.executor.kill(task);
        });
    }

    /// What becomes of a batch: without an answer all of it comes back when it is visible again.
    fn give_up(&self, id: u64, failed: Option<Vec<u64>>) {
        let Some(Invocation { queue, records }) = self.running.borrow_mut().remove(&id) else { return };
        let now = self.now();
        if let Some(failed) = &failed {
            // As AWS does: an answer that names a stranger fails the whole batch.
            let is_valid = failed.iter().all(|id| records.iter().any(|record| record.id == *id));
            let failed: BTreeSet<u64> = failed.iter().copied().collect();
            for record in records.iter().filter(|record| is_valid && !failed.contains(&record.id)) {
                self.with_queue(queue, |queue| queue.delete(record.id, record.receipt));
                if self.fails(Fault::DeleteUndone) {
                    let later = self.dice.within(1..900) * SECOND;
                    self.with_queue(queue, |queue| queue.undelete(record, 0, later, now));
                }
            }
        }
        if self.database.borrow().keeps_history {
            let name = |id: &u64| id.to_string();
            self.batches.borrow_mut().push(BatchAnswer {
                received: records.iter().map(|record| name(&record.id)).collect(),
                failed: failed.iter().flatten().map(name).collect(),
                ..BatchAnswer::default()
            });
        }
        self.wake_poller(queue);
    }

    fn running_in(&self, name: QueueName) -> usize {
        self.running.borrow().values().filter(|invocation| invocation.queue == name).count()
    }
}

/// Ends an invocation however its task ends.
struct Ending {
    world: Rc<World>,
    id: u64,
    _busy: Busy,
}

impl Ending {
    fn answer(&self, failed: Vec<u64>) {
        self.world.give_up(self.id, Some(failed));
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.world.give_up(self.id, None);
    }
}

/// An event source mapping: receives while there is something to receive and a function free to take it.
async fn poll_queue(world: Rc<World>, name: QueueName) {
    let concurrency = match name {
        QueueName::Deliveries => world.plan.processor_concurrency,
        _ => 2,
    };
    loop {
        let now = world.now();
        world.with_queue(name, |queue| queue.refresh(now));
        let (has_ready, next) = world.with_queue(name, |queue| (queue.has_ready(), queue.next_waking_at()));
        if !has_ready || world.running_in(name) >= concurrency {
            let next = next.filter(|_| !has_ready).unwrap_or(Micros::MAX);
            world.executor.until_woken(next).await;
            continue;
        }
        let duplicate = || world.fails(Fault::MessageDuplicated);
        let (records, dead) = world.with_queue(name, |queue| queue.receive(now, &world.dice, duplicate));
        for dead in dead {
            let queue = match name {
                QueueName::Feedback => QueueName::FeedbackDeadLetters,
                _ => QueueName::DeadLetters,
            };
            world.with_queue(queue, |queue| queue.put(dead.id, dead.group, dead.body, None, 0, now));
            world.wake_poller(queue);
        }
        // A throttled function has received, and done nothing.
        if !records.is_empty() && !world.fails(Fault::ReceiveThrottled) {
            world.invoke(name, records);
        }
        world.pause(POLL).await;
    }
}

/// The schedule of the dispatcher. A tick may come twice.
async fn tick(world: Rc<World>) {
    loop {
        world.executor.until(next_minute(world.now())).await;
        let is_due = world.database.borrow().next_due_at().is_some_and(|at| at <= world.clock());
        if !is_due {
            continue;
        }
        let ticks = if world.fails(Fault::MessageDuplicated) { 2 } else { 1 };
        for _ in 0..ticks {
            let (worker, busy) = (world.worker("dispatcher", DISPATCH_TIMEOUT), world.busy());
            let inner = Rc::clone(&world);
            let task = world.executor.spawn(async move {
                workers::dispatch_due(&inner, &worker).await;
                drop(busy);
            });
            let outer = Rc::clone(&world);
            world.executor.spawn(async move {
                outer.pause(DISPATCH_TIMEOUT).await;
                outer.executor.kill(task);
            });
        }
    }
}

/// The look, every quarter of an hour, at the provider's own list of addresses.
async fn reconcile(world: Rc<World>) {
    loop {
        world.pause(15 * MINUTE).await;
        let worker = world.worker("reconcile", BATCH_TIMEOUT);
        let (inner, busy) = (Rc::clone(&world), world.busy());
        world.executor.spawn(async move {
            workers::reconcile_list(&inner, &worker).await;
            drop(busy);
        });
    }
}
