//! A database as Postgres is: each statement happens whole or not at all, rows can be locked, commits have an order.
//!
//! What a statement does to a delivery is [`crate::protocol::step`]; what is here is the rest of the
//! tables: keys, the outbox, breakers and pace, and the audit log that the history is made of.

use super::dice::Dice;
use super::executor::Micros;
use super::plan::PlannedNotification;
use super::provider::ProviderEvent;
use crate::admission::{Account, Identity, Ready, RecordedAttempt};
use crate::history;
use crate::protocol::{self, Asked, Claimed, Effect, Input, Row, Verdict};
use domain::delivery::DeliveryState;
use domain::feedback::{AddressStep, suppresses_after};
use domain::id::{DeliveryId, NotificationId, TenantId};
use domain::outcome::{Next, Settlement};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

/// A row of `deliveries`, with what the simulator knows of its notification.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub(super) tenant: usize,
    pub(super) address: usize,
    pub(super) row: Row,
    pub(super) created_at: Timestamp,
}

/// A stored answer.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    pub(super) body_hash: u64,
    pub(super) notifications: Vec<usize>,
}

/// A row of the outbox.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) delivery: Option<usize>,
    pub(super) at: Timestamp,
}

/// A statement waits for a row that somebody else has locked.
#[derive(Debug)]
pub(super) struct Blocked;

#[derive(Clone, Copy, Debug)]
struct Lock {
    transaction: u64,
    /// When the server lets go of it, where its client has died.
    until: Option<Micros>,
}

pub(super) enum Accepted {
    Stored { notifications: Vec<usize>, publications: Vec<(usize, Duration)> },
    Replayed(Vec<usize>),
    KeyReused,
}

/// What there is under the tags of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Taken,
    Busy,
    Missing,
}

/// What a claim came to, for one delivery that was asked for.
#[derive(Clone, Debug)]
pub(super) enum Claim {
    Claimed(Claimed),
    TooEarly(Duration),
    NotOpen,
    Missing,
}

pub(super) struct Database {
    pub(super) deliveries: Vec<Delivery>,
    pub(super) account: Account,
    outbox: BTreeMap<u64, Told>,
    outbox_of: BTreeSet<(usize, u64)>,
    pub(super) transitions: Vec<history::Transition>,
    pub(super) claims: Vec<history::Claim>,
    pub(super) suppressions: Vec<history::Suppression>,
    /// What a real table would have refused; a run that has any has failed.
    pub(super) broken: Vec<(Option<usize>, String)>,
    pub(super) keeps_history: bool,
    keys: HashMap<(usize, u64), Answered>,
    soft_bounces: HashMap<(usize, usize), u32>,
    suppressed_softly: BTreeSet<(usize, usize)>,
    /// What is due, by tenant.
    due: BTreeMap<usize, BTreeSet<(Timestamp, usize)>>,
    locks: HashMap<usize, Lock>,
    transactions: HashMap<u64, Timestamp>,
    address_names: Vec<String>,
    next_number: u64,
    last_commit: Timestamp,
}

/// An id that shows in a trace which row it is.
pub(super) fn delivery_id(number: usize) -> DeliveryId {
    DeliveryId::from_uuid(uuid::Uuid::from_u128(number as u128 + 1))
}

pub(super) fn notification_id(number: usize) -> NotificationId {
    NotificationId::from_uuid(uuid::Uuid::from_u128(number as u128 + 1))
}

pub(super) fn tenant_id(number: usize) -> TenantId {
    TenantId::from_uuid(uuid::Uuid::from_u128(number as u128 + 1))
}

/// A dead letter: its message, the delivery that it names by tenant and place, and the reason.
pub(super) type Letter = (u64, Option<(usize, usize)>, &'static str);

impl Database {
    pub(super) fn new(address_names: Vec<String>, sends_per_second: Option<f64>, keeps_history: bool) -> Self {
        Self {
            deliveries: Vec::new(),
            account: Account::of_rate(sends_per_second),
            outbox: BTreeMap::new(),
            outbox_of: BTreeSet::new(),
            transitions: Vec::new(),
            claims: Vec::new(),
            suppressions: Vec::new(),
            broken: Vec::new(),
            keeps_history,
            keys: HashMap::new(),
            soft_bounces: HashMap::new(),
            suppressed_softly: BTreeSet::new(),
            due: BTreeMap::new(),
            locks: HashMap::new(),
            transactions: HashMap::new(),
            address_names,
            next_number: 0,
            last_commit: Timestamp::MIN,
        }
    }

    /// How many rows the dispatcher has to look at some time.
    pub(super) fn due_count(&self) -> usize {
        self.due.values().map(BTreeSet::len).sum()
    }

    /// When the dispatcher has something to do next.
    pub(super) fn next_due_at(&self) -> Option<Timestamp> {
        let told = self.outbox.values().next().map(|told| told.at + SignedDuration::from_secs(10));
        let due = self.due.values().filter_map(|due| due.first()).map(|(at, _)| *at);
        due.chain(told).min()
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// A moment after every other commit.
    fn commit(&mut self, now: Timestamp) -> Timestamp {
        self.last_commit = now.max(self.last_commit + SignedDuration::from_nanos(1));
        self.last_commit
    }

    fn is_locked(&self, delivery: usize, at: Micros) -> bool {
        self.locks.get(&delivery).is_some_and(|lock| lock.until.is_none_or(|until| until > at))
    }

    fn wait_for(&self, delivery: usize, at: Micros) -> Result<(), Blocked> {
        if self.is_locked(delivery, at) { Err(Blocked) } else { Ok(()) }
    }

    /// Applies a statement to one row.
    fn apply(&mut self, number: usize, input: &Input, now: Timestamp) -> Vec<Effect> {
        let delivery = &mut self.deliveries[number];
        let (row, effects) = protocol::step(&delivery.row, input, now);
        if let Some(constraint) = row.broken_constraint() {
            self.broken.push((Some(number), format!("{constraint} is broken by {input:?}: {row:?}")));
        }
        if delivery.row.due_at != row.due_at {
            let due = self.due.entry(delivery.tenant).or_default();
            delivery.row.due_at.map(|at| due.remove(&(at, number)));
            row.due_at.map(|at| due.insert((at, number)));
        }
        let (tenant, attempt_count) = (delivery.tenant, row.attempt_count);
        delivery.row = row;
        for effect in &effects {
            match effect {
                Effect::Moved(from, to) => {
                    if !from.may_become(*to) {
                        self.broken.push((Some(number), format!("delivery_moves_forward: {from} to {to}")));
                    }
                    self.log_transition(number, tenant, Some(*from), *to, attempt_count, now);
                }
                Effect::Tell(_) => self.tell(Some(number), now),
                _ => {}
            }
        }
        effects
    }

    fn log_transition(
        &mut self,
        number: usize,
        tenant: usize,
        from: Option<DeliveryState>,
        to: DeliveryState,
        attempt_count: u32,
        at: Timestamp,
    ) {
        if self.keeps_history {
            let (tenant, delivery) = (tenant_id(tenant), delivery_id(number));
            self.transitions.push(history::Transition { tenant, delivery, at, from, to, attempt_count });
        }
    }

    fn tell(&mut self, delivery: Option<usize>, at: Timestamp) {
        let number = self.number();
        self.outbox.insert(number, Told { delivery, at });
        self.outbox_of.extend(delivery.map(|delivery| (delivery, number)));
    }

    /// `accept_notifications`.
    pub(super) fn accept(
        &mut self,
        tenant: usize,
        key: Option<u64>,
        body_hash: u64,
        planned: &[PlannedNotification],
        now: Timestamp,
    ) -> Accepted {
        if let Some(stored) = key.and_then(|key| self.keys.get(&(tenant, key))) {
            let is_same = stored.body_hash == body_hash;
            return if is_same { Accepted::Replayed(stored.notifications.clone()) } else { Accepted::KeyReused };
        }
        let (mut notifications, mut publications) = (Vec::new(), Vec::new());
        for planned in planned {
            let send_at = now + micros(planned.send_after);
            let asked = Asked {
                rules: planned.rules,
                send_at,
                expires_at: planned.expires_after.map(|wait| send_at + micros(wait)),
                is_sandbox: planned.is_sandbox,
            };
            let (row, delay) = protocol::accept(&asked, now);
            let number = self.deliveries.len();
            row.due_at.map(|at| self.due.entry(tenant).or_default().insert((at, number)));
            self.log_transition(number, tenant, None, row.state, 0, now);
            self.deliveries.push(Delivery { tenant, address: planned.address, row, created_at: now });
            self.tell(Some(number), now);
            publications.extend(delay.map(|delay| (number, delay)));
            notifications.push(number);
        }
        if let Some(key) = key {
            self.keys.insert((tenant, key), Answered { body_hash, notifications: notifications.clone() });
        }
        Accepted::Stored { notifications, publications }
    }

    /// `claim_deliveries`, for deliveries that are each asked for once.
    pub(super) fn claim(
        &mut self,
        asked: &[((usize, usize), u64)],
        at: Micros,
        now: Timestamp,
        dice: &Dice,
    ) -> Vec<((usize, usize), Claim)> {
        let is_there = |&&((tenant, number), _): &&((usize, usize), u64)| {
            self.deliveries.get(number).is_some_and(|delivery| delivery.tenant == tenant)
        };
        let mut ready: Vec<usize> = asked.iter().filter(is_there).map(|((_, number), _)| *number).collect();
        ready.retain(|&number| self.deliveries[number].row.is_ready(now) && !self.is_locked(number, at));
        ready.sort_unstable();
        let mut account = std::mem::take(&mut self.account);
        let questions: Vec<Ready<'_>> = ready.iter().map(|&number| self.question(number)).collect();
        let verdicts: Vec<Verdict> = account.admit(&questions, now, || dice.number());
        self.account = account;
        let verdicts: HashMap<usize, Verdict> = ready.into_iter().zip(verdicts).collect();

        let claim = |this: &mut Self, key: (usize, usize), id: u64| {
            if this.deliveries.get(key.1).is_none_or(|delivery| delivery.tenant != key.0) {
                return Claim::Missing;
            }
            let verdict = match verdicts.get(&key.1) {
                Some(verdict) => *verdict,
                // Somebody else has it: it is passed over, not waited for.
                None if this.deliveries[key.1].row.is_ready(now) => return Claim::NotOpen,
                None => Verdict::Claim,
            };
            let effects = this.apply(key.1, &Input::Claim { id, verdict }, now);
            let answer = effects.into_iter().find_map(|effect| match effect {
                Effect::Claimed(claimed) => Some(Claim::Claimed(claimed)),
                Effect::TooEarly(wait) => Some(Claim::TooEarly(wait)),
                _ => None,
            });
            answer.unwrap_or(Claim::NotOpen)
        };
        let answers: Vec<_> = asked.iter().map(|&(key, id)| (key, claim(self, key, id))).collect();
        let committed_at = self.commit(now);
        if self.keeps_history {
            let claimed = answers.iter().filter_map(|(key, claim)| match claim {
                Claim::Claimed(claimed) => Some((key, claimed.attempt)),
                _ => None,
            });
            self.claims.extend(claimed.map(|(&(tenant, number), attempt)| history::Claim {
                tenant: tenant_id(tenant),
                delivery: delivery_id(number),
                attempt,
                committed_at,
            }));
        }
        answers
    }

    fn question(&self, number: usize) -> Ready<'_> {
        let delivery = &self.deliveries[number];
        Ready {
            tenant: tenant_id(delivery.tenant),
            address: Some(&self.address_names[delivery.address]),
            identity: identity_of(delivery.tenant),
            is_sandbox: delivery.row.is_sandbox,
            slot_at: delivery.row.slot_at,
        }
    }

    /// `record_attempts`: the deliveries whose state it changed.
    pub(super) fn record(
        &mut self,
        records: &[(usize, u32, Settlement)],
        at: Micros,
        now: Timestamp,
    ) -> Result<BTreeSet<usize>, Blocked> {
        records.iter().try_for_each(|(number, ..)| self.wait_for(*number, at))?;
        let mut recorded = BTreeSet::new();
        let mut attempts = Vec::with_capacity(records.len());
        for (number, attempt, settlement) in records {
            let row = &self.deliveries[*number].row;
            let opened = row.attempts.iter().find(|opened| opened.number == *attempt);
            attempts.extend(opened.map(|opened| RecordedAttempt {
                outcome: settlement.outcome,
                reason: settlement.reason,
                wait: match settlement.next {
                    Next::Retry { wait, .. } => Some(wait),
                    _ => None,
                },
                identity: identity_of(self.deliveries[*number].tenant),
                started_at: opened.started_at,
            }));
            let input = Input::Record { attempt: *attempt, settlement: settlement.clone() };
            if self.apply(*number, &input, now).contains(&Effect::Recorded) {
                recorded.insert(*number);
            }
        }
        self.account.record(&attempts, now);
        self.commit(now);
        Ok(recorded)
    }

    /// `take_due`: about `limit` rows whose time has come, the same share of each tenant, locked by a new transaction;
    /// and whether a tenant may have more.
    pub(super) fn take_due(&mut self, limit: usize, at: Micros, now: Timestamp) -> (u64, Vec<usize>, bool) {
        let is_waiting = |due: &&BTreeSet<(Timestamp, usize)>| due.first().is_some_and(|(at, _)| *at <= now);
        let share = limit.div_ceil(self.due.values().filter(is_waiting).count().max(1));
        let (mut taken, mut leaves_more) = (Vec::new(), false);
        for due in self.due.values().filter(is_waiting) {
            let due = due.iter().take_while(|(due_at, _)| *due_at <= now).map(|(_, number)| *number);
            let before = taken.len();
            taken.extend(due.filter(|number| !self.is_locked(*number, at)).take(share));
            leaves_more |= taken.len() - before >= share;
        }
        (self.lock(&taken, now), taken, leaves_more)
    }

    fn lock(&mut self, numbers: &[usize], now: Timestamp) -> u64 {
        let transaction = self.number();
        for number in numbers {
            self.locks.insert(*number, Lock { transaction, until: None });
        }
        self.transactions.insert(transaction, now);
        transaction
    }

    /// `write_due_steps`, and the commit: what follows for each. `None` where the server has ended the transaction.
    pub(super) fn write_due(&mut self, transaction: u64, taken: &[usize]) -> Option<Vec<(usize, Vec<Effect>)>> {
        let began_at = self.transactions.remove(&transaction)?;
        let effects = taken.iter().map(|&number| (number, self.apply(number, &Input::Due, began_at))).collect();
        self.locks.retain(|_, lock| lock.transaction != transaction);
        self.commit(began_at);
        Some(effects)
    }

    /// The client of a transaction is gone: nothing of it happens, and its locks go when the server notices.
    pub(super) fn abandon(&mut self, transaction: u64, until: Micros) {
        if self.transactions.remove(&transaction).is_some() {
            for lock in self.locks.values_mut().filter(|lock| lock.transaction == transaction) {
                lock.until = Some(until);
            }
        }
    }

    /// `release`: their message was not taken.
    pub(super) fn release(&mut self, numbers: &[usize], at: Micros, now: Timestamp) -> Result<(), Blocked> {
        numbers.iter().try_for_each(|number| self.wait_for(*number, at))?;
        for number in numbers {
            self.apply(*number, &Input::Release, now);
        }
        self.commit(now);
        Ok(())
    }

    /// `store_dead_letters`.
    pub(super) fn store_dead_letters(&mut self, letters: &[Letter], at: Micros, now: Timestamp) -> Result<(), Blocked> {
        let numbers = letters.iter().filter_map(|(_, named, _)| *named);
        let there: Vec<_> = numbers
            .filter(|(tenant, number)| self.deliveries.get(*number).is_some_and(|delivery| delivery.tenant == *tenant))
            .collect();
        there.iter().try_for_each(|(_, number)| self.wait_for(*number, at))?;
        for (message, named, reason) in letters {
            match named.filter(|key| there.contains(key)) {
                Some((_, number)) => {
                    let input = Input::StoreDeadLetter { message: *message, reason: (*reason).to_owned() };
                    self.apply(number, &input, now);
                }
                // The operator's, who owns what nobody owns.
                None => self.tell(None, now),
            }
        }
        self.commit(now);
        Ok(())
    }

    /// `take_feedback`: locks what events speak of and nobody else is writing. For each event, whether it was taken.
    pub(super) fn take_feedback(&mut self, events: &[ProviderEvent], at: Micros, now: Timestamp) -> (u64, Vec<Heard>) {
        let heard: Vec<Heard> =
            events
                .iter()
                .map(|event| match self.deliveries.get(event.delivery) {
                    Some(delivery)
                        if delivery.tenant == event.tenant
                            && (1..=delivery.row.attempt_count).contains(&event.attempt) =>
                    {
                        if self.is_locked(event.delivery, at) { Heard::Busy } else { Heard::Taken }
                    }
                    _ => Heard::Missing,
                })
                .collect();
        let taken = events.iter().zip(&heard).filter(|(_, heard)| **heard == Heard::Taken);
        let taken: Vec<usize> = taken.map(|(event, _)| event.delivery).collect();
        (self.lock(&taken, now), heard)
    }

    /// `write_feedback`, and the commit. `None` where the server has ended the transaction.
    pub(super) fn write_feedback(&mut self, transaction: u64, events: &[&ProviderEvent]) -> Option<()> {
        let began_at = self.transactions.remove(&transaction)?;
        for event in events {
            let input = Input::Feedback { attempt: event.attempt, event: event.event };
            for effect in self.apply(event.delivery, &input, began_at) {
                if let Effect::Address(step) = effect {
                    let address = self.deliveries[event.delivery].address;
                    self.move_address(event.tenant, address, step, began_at);
                }
            }
        }
        self.locks.retain(|_, lock| lock.transaction != transaction);
        self.commit(began_at);
        Some(())
    }

    /// `hand_back_claims`: claims with these ids were never answered.
    pub(super) fn hand_back(
        &mut self,
        asked: &[((usize, usize), u64)],
        at: Micros,
        now: Timestamp,
    ) -> Result<(), Blocked> {
        let claimed: Vec<_> = asked
            .iter()
            .filter(|((tenant, number), _)| self.deliveries.get(*number).is_some_and(|it| it.tenant == *tenant))
            .map(|((_, number), id)| (*number, *id))
            .collect();
        claimed.iter().try_for_each(|(number, _)| self.wait_for(*number, at))?;
        for (number, id) in claimed {
            self.apply(number, &Input::HandBack { id }, now);
        }
        self.commit(now);
        Ok(())
    }

    fn move_address(&mut self, tenant: usize, address: usize, step: AddressStep, now: Timestamp) {
        match step {
            AddressStep::Nothing => {}
            AddressStep::CountSoftBounce => {
                let count = self.soft_bounces.entry((tenant, address)).or_default();
                *count += 1;
                if suppresses_after(*count)
                    && !self.account.is_suppressed(tenant_id(tenant), &self.address_names[address])
                {
                    self.suppress(Some(tenant), address, now);
                    self.suppressed_softly.insert((tenant, address));
                }
            }
            AddressStep::ForgetSoftBounces => {
                self.soft_bounces.remove(&(tenant, address));
                self.lift_soft_bounces(tenant, address, now);
            }
            AddressStep::Suppress(_) => {
                // Whatever it was suppressed for before, a delivery does not lift it any more.
                self.suppressed_softly.remove(&(tenant, address));
                self.suppress(Some(tenant), address, now);
            }
        }
    }

    /// A suppression that soft bounces led to ends with the first mail that arrives.
    fn lift_soft_bounces(&mut self, tenant: usize, address: usize, now: Timestamp) {
        if !self.suppressed_softly.remove(&(tenant, address)) {
            return;
        }
        let lifted_at = self.commit(now);
        let (tenant, address) = (Some(tenant_id(tenant)), &self.address_names[address]);
        if let Some(by) = self.account.suppressions.get_mut(address) {
            by.remove(&tenant);
        }
        let row = self.suppressions.iter_mut().rev().find(|row| row.tenant == tenant && row.address == *address);
        if let Some(row) = row {
            row.lifted_at = Some(lifted_at);
        }
    }

    /// An address must not be sent to from now on, for a tenant, or for all where the provider says so.
    pub(super) fn suppress(&mut self, tenant: Option<usize>, address: usize, now: Timestamp) {
        let committed_at = self.commit(now);
        let (tenant, address) = (tenant.map(tenant_id), self.address_names[address].clone());
        if self.account.suppressions.entry(address.clone()).or_default().insert(tenant) && self.keeps_history {
            self.suppressions.push(history::Suppression { tenant, address, committed_at, lifted_at: None });
        }
    }

    /// `cancel_notification`.
    pub(super) fn cancel(&mut self, number: usize, at: Micros, now: Timestamp) -> Result<(), Blocked> {
        if number < self.deliveries.len() {
            self.wait_for(number, at)?;
            self.apply(number, &Input::Cancel, now);
            self.commit(now);
        }
        Ok(())
    }

    /// `redrive_dead_letters`: those of a tenant that are dead, as messages to publish.
    pub(super) fn redrive(&mut self, tenant: usize, at: Micros, now: Timestamp) -> Result<Vec<usize>, Blocked> {
        let dead = self.deliveries.iter().enumerate().filter(|(_, delivery)| {
            delivery.tenant == tenant
                && delivery.row.state == DeliveryState::Dead
                && !delivery.row.dead_letters.is_empty()
        });
        let dead: Vec<usize> = dead.map(|(number, _)| number).collect();
        dead.iter().try_for_each(|number| self.wait_for(*number, at))?;
        let mut redriven = Vec::new();
        for number in dead {
            let effects = self.apply(number, &Input::Redrive, now);
            redriven.extend(effects.iter().any(|effect| matches!(effect, Effect::Publish(_))).then_some(number));
        }
        self.commit(now);
        Ok(redriven)
    }

    /// How many events are not on the bus yet.
    pub(super) fn untold_count(&self) -> usize {
        self.outbox.len()
    }

    /// Events of these deliveries that are not on the bus yet.
    pub(super) fn events_of(&self, deliveries: &BTreeSet<usize>) -> Vec<u64> {
        let of = |number: &usize| self.outbox_of.range((*number, 0)..=(*number, u64::MAX)).map(|(_, id)| *id);
        deliveries.iter().flat_map(of).collect()
    }

    /// Takes events off the outbox that are on the bus.
    pub(super) fn delete_events(&mut self, events: &[u64], now: Timestamp) {
        for id in events {
            if let Some(Told { delivery: Some(delivery), .. }) = self.outbox.remove(id) {
                self.outbox_of.remove(&(delivery, *id));
            }
        }
        self.commit(now);
    }

    /// Events that have waited in the outbox.
    pub(super) fn waiting_events(&self, limit: usize, now: Timestamp) -> Vec<u64> {
        let late = now - SignedDuration::from_secs(10);
        self.outbox.iter().take_while(|(_, told)| told.at <= late).take(limit).map(|(id, _)| *id).collect()
    }
}

/// Every second tenant has a sender of its own.
pub(super) fn identity_of(tenant: usize) -> Identity {
    if tenant.is_multiple_of(2) { Identity::Default } else { Identity::Of(tenant_id(tenant)) }
}

fn micros(wait: Micros) -> SignedDuration {
    SignedDuration::from_micros(wait.cast_signed())
}
