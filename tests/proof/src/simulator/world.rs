//! A simulated world: the database, the queues, the provider, and the network between them and the workers.
//!
//! Everything that a worker asks of the outside goes through here: each call takes time, may fail before it has done
//! anything, or do its work and lose the answer, and the worker may die before and after it.

use super::database::{Blocked, Database};
use super::dice::Dice;
use super::executor::{Executor, MILLI, Micros, SECOND, TaskId};
use super::fault::{Fault, FaultCounts};
use super::plan::{IncidentKind, MINUTE, Plan};
use super::provider::{FakeProvider, Mail, ProviderEvent, Reply, lateness};
use super::queue::{Body, FakeQueue};
use super::trace::Trace;
use crate::history::{BatchAnswer, QueueName, Request};
use domain::feedback::MailEvent;
use domain::outcome::{ProviderError, SendOutcome};
use jiff::Timestamp;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// When worlds begin, by the database's clock.
const BEGIN_SECONDS: i64 = 1_795_000_000;
/// How long a call to the provider may take before it is given up.
const ATTEMPT_TIMEOUT: Micros = 6 * SECOND;
/// How long a statement waits for a lock.
const LOCK_TIMEOUT: Micros = 2 * SECOND;
/// How long a statement may run.
const STATEMENT_TIMEOUT: Micros = 5 * SECOND;
/// How long it takes until the server notices that a client is gone, at most.
const LONGEST_LINGER: Micros = 10 * SECOND;

/// The database did not answer, or said no. Whether anything was done, nobody knows.
#[derive(Debug)]
pub(super) struct Unavailable;

/// A running function, as its code sees itself.
#[derive(Clone)]
pub(super) struct Worker {
    pub(super) name: &'static str,
    /// When its time runs out, by the clock that never steps.
    pub(super) deadline: Micros,
    /// How far its wall clock is off.
    pub(super) skew: i64,
}

pub(super) struct World {
    pub(super) executor: Executor,
    pub(super) dice: Dice,
    pub(super) plan: Plan,
    pub(super) database: RefCell<Database>,
    pub(super) queues: RefCell<BTreeMap<QueueName, FakeQueue>>,
    pub(super) pollers: RefCell<BTreeMap<QueueName, TaskId>>,
    pub(super) provider: RefCell<FakeProvider>,
    pub(super) requests: RefCell<Vec<Request>>,
    pub(super) batches: RefCell<Vec<BatchAnswer>>,
    pub(super) counts: RefCell<FaultCounts>,
    pub(super) trace: RefCell<Trace>,
    /// Callers, people and provider events that are still to come, and functions that run.
    pub(super) busy: Cell<usize>,
    next_id: Cell<u64>,
    pub(super) running: RefCell<BTreeMap<u64, super::lambda::Invocation>>,
}

/// Something that is still going on; the world is not quiet before it is dropped.
pub(super) struct Busy(Rc<World>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.set(self.0.busy.get() - 1);
    }
}

/// A transaction that is open until it is committed, or its client dies.
pub(super) struct Open<'a> {
    pub(super) world: &'a World,
    pub(super) transaction: u64,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.world.abandon(self.transaction);
    }
}

/// The queues whose messages a function gets.
pub(super) const QUEUES: [QueueName; 3] = [QueueName::Deliveries, QueueName::DeadLetters, QueueName::Feedback];

impl World {
    pub(super) fn new(seed: u64, plan: Plan, trace: Trace, keeps_history: bool) -> Rc<Self> {
        let names = plan.addresses.iter().map(|address| address.name.clone()).collect();
        let database = Database::new(names, plan.sends_per_second, keeps_history);
        let queue = |name: QueueName| {
            let (visibility, max_receive_count) = match name {
                QueueName::Deliveries => (180, plan.max_receive_count),
                QueueName::Feedback => (360, plan.max_receive_count.max(10)),
                // What is dead already has nowhere to go.
                QueueName::DeadLetters | QueueName::FeedbackDeadLetters => (180, u32::MAX),
            };
            // The ids of the queues must not meet: a dead letter is known by its message's.
            (name, FakeQueue::new((name as u64) << 32, visibility * SECOND, max_receive_count))
        };
        let queues = QUEUES.into_iter().chain([QueueName::FeedbackDeadLetters]).map(queue).collect();
        Rc::new(Self {
            executor: Executor::default(),
            // What the plan drew must not shift what happens in it.
            dice: Dice::of(seed ^ 0x9e37_79b9_7f4a_7c15),
            plan,
            database: RefCell::new(database),
            queues: RefCell::new(queues),
            pollers: RefCell::default(),
            provider: RefCell::default(),
            requests: RefCell::default(),
            batches: RefCell::default(),
            counts: RefCell::default(),
            trace: RefCell::new(trace),
            busy: Cell::new(0),
            next_id: Cell::new(0),
            running: RefCell::default(),
        })
    }

    pub(super) fn now(&self) -> Micros {
        self.executor.now()
    }

    /// The database's clock.
    pub(super) fn clock(&self) -> Timestamp {
        clock_at(self.now())
    }

    pub(super) fn busy(self: &Rc<Self>) -> Busy {
        self.busy.set(self.busy.get() + 1);
        Busy(Rc::clone(self))
    }

    /// Whether this goes wrong now.
    pub(super) fn fails(&self, fault: Fault) -> bool {
        if self.now() >= self.plan.clear_at {
            return false;
        }
        let happens = self.plan.faults.get(&fault).is_some_and(|probability| self.dice.happens(*probability));
        if happens {
            self.counts.borrow_mut().count(fault);
        }
        happens
    }

    /// Whether something is the matter now.
    pub(super) fn is_on(&self, kind: IncidentKind) -> bool {
        let now = self.now();
        let is_on = self.plan.incidents.iter().any(|incident| {
            incident.kind == kind && (incident.from..incident.to.min(self.plan.clear_at)).contains(&now)
        });
        if is_on {
            self.counts.borrow_mut().count(match kind {
                IncidentKind::DatabaseDown => Fault::DatabaseDown,
                IncidentKind::QueueDown => Fault::QueueThrottled,
                IncidentKind::BusDown => Fault::BusRefused,
                IncidentKind::ProviderDown => Fault::ProviderUnreachable,
                IncidentKind::ProviderFailing | IncidentKind::FailingFor { .. } => Fault::ProviderFailed,
                IncidentKind::ProviderThrottling => Fault::ProviderThrottled,
                IncidentKind::Quota => Fault::QuotaReached,
                IncidentKind::Paused => Fault::SendingPaused,
                IncidentKind::IdentityUnverified { .. } => Fault::IdentityUnverified,
                IncidentKind::EventsLost => Fault::EventLost,
            });
        }
        is_on
    }

    pub(super) fn tell(&self, delivery: Option<usize>, text: impl FnOnce() -> String) {
        self.trace.borrow_mut().add(self.now(), delivery, text);
    }

    pub(super) async fn pause(&self, wait: Micros) {
        self.executor.until(self.now() + wait).await;
    }

    /// Between two steps of a worker: it may die here, or stall.
    pub(super) async fn step(&self, worker: &Worker) {
        if self.fails(Fault::Crash) {
            self.tell(None, || format!("{} dies", worker.name));
            self.executor.kill(self.executor.current());
            std::future::pending::<()>().await;
        }
        if self.fails(Fault::Stall) {
            self.pause(self.dice.within(1..60) * SECOND).await;
        }
    }

    /// How much of its time a worker has left, as it works it out itself.
    pub(super) fn time_left(&self, worker: &Worker) -> Micros {
        let left = worker.deadline.cast_signed() - self.now().cast_signed() - worker.skew;
        u64::try_from(left).unwrap_or(0)
    }

    async fn travel(&self) {
        self.pause(self.dice.within(1..5) * MILLI).await;
    }

    /// One statement, or one transaction: `statement` is whole or not at all.
    pub(super) async fn query<T>(
        &self,
        worker: &Worker,
        mut statement: impl FnMut(&mut Database, Micros, Timestamp) -> Result<T, Blocked>,
    ) -> Result<T, Unavailable> {
        self.step(worker).await;
        self.travel().await;
        if self.is_on(IncidentKind::DatabaseDown) || self.fails(Fault::DatabaseDown) {
            self.pause(self.dice.within(1..1000) * MILLI).await;
            return Err(Unavailable);
        }
        if self.fails(Fault::CommitLost) {
            return Err(Unavailable);
        }
        if self.fails(Fault::StatementTimeout) {
            self.pause(STATEMENT_TIMEOUT).await;
            return Err(Unavailable);
        }
        // `now()` is the begin of the transaction, however long it waits.
        let (began_at, clock) = (self.now(), self.clock());
        let done = loop {
            let done = statement(&mut self.database.borrow_mut(), self.now(), clock);
            match done {
                Ok(done) => break done,
                Err(Blocked) if self.now() < began_at + LOCK_TIMEOUT => self.pause(5 * MILLI).await,
                Err(Blocked) => return Err(Unavailable),
            }
        };
        self.step(worker).await;
        if self.fails(Fault::CommitReplyLost) {
            self.pause(self.dice.within(1..1000) * MILLI).await;
            return Err(Unavailable);
        }
        self.travel().await;
        Ok(done)
    }

    /// A transaction whose client has died.
    fn abandon(&self, transaction: u64) {
        let until = self.now() + self.dice.within(0..LONGEST_LINGER);
        self.database.borrow_mut().abandon(transaction, until);
    }

    /// A statement whose client has given up, and which the server gets to all the same.
    pub(super) fn later(self: &Rc<Self>, statement: impl FnOnce(Micros, Timestamp) + 'static) {
        let (world, busy, clock) = (Rc::clone(self), self.busy(), self.clock());
        self.executor.spawn(async move {
            world.pause(world.dice.within(0..STATEMENT_TIMEOUT)).await;
            statement(world.now(), clock);
            drop(busy);
        });
    }

    /// An id that nothing else has.
    pub(super) fn new_id(&self) -> u64 {
        self.next_id.set(self.next_id.get() + 1);
        self.next_id.get()
    }

    /// Puts a message on a queue.
    pub(super) fn send(&self, name: QueueName, group: usize, body: Body, reason: Option<&'static str>, delay: Micros) {
        let late = if self.fails(Fault::MessageDelayed) { self.dice.within(1..120) * SECOND } else { 0 };
        let delay = (delay + late).min(900 * SECOND);
        if let Some(queue) = self.queues.borrow_mut().get_mut(&name) {
            queue.send(group, body, reason, delay, self.now());
            if self.fails(Fault::MessageLost) {
                queue.lose(&self.dice);
            }
        }
        self.wake_poller(name);
    }

    pub(super) fn wake_poller(&self, name: QueueName) {
        if let Some(&task) = self.pollers.borrow().get(&name) {
            self.executor.wake_at(task, self.now());
        }
    }

    pub(super) fn with_queue<T>(&self, name: QueueName, act: impl FnOnce(&mut FakeQueue) -> T) -> T {
        let mut queues = self.queues.borrow_mut();
        act(queues.get_mut(&name).expect("every queue that has a name is there"))
    }

    /// Publishes messages, in batches of ten side by side: the places of those that the caller has to take for not taken.
    pub(super) async fn publish(
        &self,
        worker: &Worker,
        name: QueueName,
        messages: Vec<(usize, Body, Micros, Option<&'static str>)>,
    ) -> Vec<usize> {
        if messages.is_empty() {
            return Vec::new();
        }
        self.step(worker).await;
        self.travel().await;
        let count = messages.len();
        if self.is_on(IncidentKind::QueueDown) {
            self.pause(2 * SECOND).await;
            return (0..count).collect();
        }
        let mut not_taken = Vec::new();
        let mut is_throttled = false;
        let mut is_reply_lost = false;
        for (place, (group, body, delay, reason)) in messages.into_iter().enumerate() {
            if place % 10 == 0 {
                is_throttled = self.fails(Fault::QueueThrottled);
                is_reply_lost = self.fails(Fault::QueueReplyLost);
            }
            if is_throttled || self.fails(Fault::QueueEntryFailed) {
                not_taken.push(place);
                continue;
            }
            self.send(name, group, body, reason, delay);
            if is_reply_lost {
                not_taken.push(place);
            }
        }
        if self.fails(Fault::PoisonMessage) {
            self.send_poison(name);
        }
        self.step(worker).await;
        self.travel().await;
        not_taken
    }

    /// What no code of ours would publish.
    fn send_poison(&self, name: QueueName) {
        let stored = self.database.borrow().deliveries.len();
        let body = match self.dice.within(0..3) {
            0 => Body::Poison,
            1 => Body::Delivery { tenant: 0, delivery: stored + 1_000_000 },
            // Another tenant's.
            _ if stored > 0 => {
                let delivery = self.dice.index(stored);
                let owner = self.database.borrow().deliveries[delivery].tenant;
                Body::Delivery { tenant: owner + 1, delivery }
            }
            _ => Body::Poison,
        };
        self.send(name, 0, body, None, 0);
    }

    /// Hides received messages for longer.
    pub(super) async fn hide(&self, worker: &Worker, name: QueueName, hidden: &[(u64, u64, Micros)]) {
        if hidden.is_empty() {
            return;
        }
        self.step(worker).await;
        self.travel().await;
        if self.is_on(IncidentKind::QueueDown) || self.fails(Fault::QueueThrottled) {
            return;
        }
        let now = self.now();
        for &(id, receipt, wait) in hidden {
            if !self.fails(Fault::QueueEntryFailed) {
                self.with_queue(name, |queue| queue.hide(id, receipt, wait, now));
            }
        }
        self.wake_poller(name);
    }

    /// Puts events on the bus: whether it took them.
    pub(super) async fn put_events(&self, worker: &Worker) -> bool {
        self.step(worker).await;
        self.travel().await;
        !(self.is_on(IncidentKind::BusDown) || self.fails(Fault::BusRefused))
    }

    /// One request to the provider, and what its adapter makes of the answer.
    pub(super) async fn send_mail(self: &Rc<Self>, worker: &Worker, mail: Mail) -> SendOutcome {
        self.step(worker).await;
        let sent_at = self.now();
        self.pause(self.dice.within(1..self.plan.provider_latency)).await;
        if self.is_on(IncidentKind::ProviderDown) || self.fails(Fault::ProviderUnreachable) {
            return SendOutcome::Transient(words("ConnectFailed"));
        }
        if self.fails(Fault::CredentialsExpired) {
            return SendOutcome::Unauthorized(words("ExpiredToken"));
        }
        let number = mail.delivery;
        self.tell(Some(number), || format!("the provider gets attempt {}", mail.attempt));
        let reply = self.provider.borrow_mut().receive(
            mail.clone(),
            self.plan.provider_rate,
            self.now(),
            |fault| self.fails(fault),
            |kind| self.is_on(kind),
        );
        let was_accepted = self.provider.borrow().calls.last().is_some_and(|call| call.was_accepted);
        if was_accepted {
            self.schedule_events(&mail);
        }
        self.step(worker).await;
        self.pause(self.dice.within(1..self.plan.provider_latency)).await;
        if self.now() > sent_at + ATTEMPT_TIMEOUT {
            return SendOutcome::Unknown(words("Timeout"));
        }
        match reply {
            Reply::Refused(outcome) => outcome,
            Reply::Accepted if self.fails(Fault::ProviderReplyLost) => SendOutcome::Unknown(words("ConnectionLost")),
            Reply::Accepted => SendOutcome::Sent { provider_message_id: None },
        }
    }

    /// The provider tells of a mail, as well as it can.
    fn schedule_events(self: &Rc<Self>, mail: &Mail) {
        let fate = self.plan.addresses[mail.address].fate;
        let lists = self.plan.has_provider_list;
        let events = self.provider.borrow_mut().events_of(mail, fate, lists, &self.dice);
        for (delay, event) in events {
            if self.is_on(IncidentKind::EventsLost) || self.fails(Fault::EventLost) {
                self.tell(Some(mail.delivery), || format!("the event {event:?} of attempt {} is lost", mail.attempt));
                continue;
            }
            let copies = if self.fails(Fault::EventDuplicated) { 2 } else { 1 };
            for _ in 0..copies {
                let late = if self.fails(Fault::EventDelayed) { lateness(&self.dice) } else { 0 };
                self.schedule_event(mail, event, delay + late);
            }
        }
    }

    fn schedule_event(self: &Rc<Self>, mail: &Mail, event: MailEvent, delay: Micros) {
        let (world, busy, mut mail) = (Rc::clone(self), self.busy(), mail.clone());
        let is_forged = self.fails(Fault::EventForged);
        let is_poison = is_forged && self.dice.happens(0.1);
        if is_forged {
            match self.dice.within(0..3) {
                0 => mail.tenant += 1,
                1 => mail.attempt += 100,
                _ => mail.delivery += 1_000_000,
            }
        }
        self.executor.spawn(async move {
            world.pause(delay).await;
            let Mail { tenant, delivery, attempt, .. } = mail;
            let event = ProviderEvent { tenant, delivery, attempt, event };
            let body = if is_poison { Body::Poison } else { Body::Event(event) };
            world.send(QueueName::Feedback, tenant, body, None, 0);
            drop(busy);
        });
    }

    /// Whether nothing is left to do.
    pub(super) fn is_quiet(&self) -> bool {
        if self.busy.get() > 0 || !self.running.borrow().is_empty() {
            return false;
        }
        let database = self.database.borrow();
        database.due_count() == 0
            && database.untold_count() == 0
            && QUEUES.iter().all(|name| self.queues.borrow()[name].len() == 0)
    }
}

pub(super) fn clock_at(at: Micros) -> Timestamp {
    let micros = BEGIN_SECONDS * 1_000_000 + at.cast_signed();
    Timestamp::from_microsecond(micros).expect("a world does not last for millennia")
}

pub(super) fn words(code: &str) -> ProviderError {
    ProviderError { code: code.to_owned(), detail: String::new() }
}

/// The next full minute.
pub(super) fn next_minute(at: Micros) -> Micros {
    (at / MINUTE + 1) * MINUTE
}
