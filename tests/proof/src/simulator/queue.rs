//! A queue as SQS is: at least once, in no order, with delays, visibility, receive counts, fairness by group, and a
//! dead-letter queue beside it.

use super::dice::Dice;
use super::executor::{Micros, SECOND};
use super::plan::HOUR;
use super::provider::ProviderEvent;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The longest that a message may be held back.
const LONGEST_DELAY: Micros = 900 * SECOND;
/// The longest that a message may be hidden in all after one receive.
const LONGEST_HIDE: Micros = 12 * HOUR;
/// How many messages of a group a receive may pick from: a standard queue has no order.
const DISORDER: usize = 16;
/// What a batch holds at most.
pub(super) const BATCH: usize = 10;
/// What may be received and not deleted.
pub(super) const IN_FLIGHT_LIMIT: usize = 120_000;

#[derive(Clone, Debug)]
pub(super) enum Body {
    /// There is work for a delivery of a tenant. Either may not be there.
    Delivery { tenant: usize, delivery: usize },
    /// Nobody can read it.
    Poison,
    /// The provider tells of a mail.
    Event(ProviderEvent),
}

#[derive(Clone, Debug)]
struct Message {
    group: usize,
    body: Body,
    receive_count: u32,
    receipt: u64,
    received_at: Micros,
    visible_at: Micros,
    place: Place,
    /// What the dead-letter queue is told.
    reason: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Ready,
    HeldBack,
    InFlight,
}

/// A message as a function gets it.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) id: u64,
    pub(super) receipt: u64,
    pub(super) body: Body,
    pub(super) receive_count: u32,
    pub(super) reason: Option<&'static str>,
}

/// A message that was received too often.
pub(super) struct Dead {
    pub(super) id: u64,
    pub(super) group: usize,
    pub(super) body: Body,
}

pub(super) struct FakeQueue {
    visibility: Micros,
    max_receive_count: u32,
    next_id: u64,
    next_receipt: u64,
    messages: BTreeMap<u64, Message>,
    ready: BTreeMap<usize, VecDeque<u64>>,
    /// Messages that become visible by themselves: held back or in flight.
    waking: BTreeSet<(Micros, u64)>,
    in_flight: BTreeMap<usize, usize>,
    in_flight_count: usize,
    /// The most that were in flight at once.
    pub(super) in_flight_peak: usize,
}

impl FakeQueue {
    pub(super) fn new(first_id: u64, visibility: Micros, max_receive_count: u32) -> Self {
        Self {
            visibility,
            max_receive_count,
            next_id: first_id,
            next_receipt: 0,
            messages: BTreeMap::new(),
            ready: BTreeMap::new(),
            waking: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            in_flight_count: 0,
            in_flight_peak: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// When something becomes visible next, if nothing is.
    pub(super) fn next_waking_at(&self) -> Option<Micros> {
        self.waking.first().map(|(at, _)| *at)
    }

    pub(super) fn bodies(&self) -> impl Iterator<Item = (u64, &Body)> {
        self.messages.iter().map(|(id, message)| (*id, &message.body))
    }

    /// Takes a message; `reason` is what the dead-letter queue is told.
    pub(super) fn send(&mut self, group: usize, body: Body, reason: Option<&'static str>, delay: Micros, now: Micros) {
        self.next_id += 1;
        self.put(self.next_id, group, body, reason, delay, now);
    }

    /// Takes a message that has an id already, as the queue does when it moves one to its dead-letter queue.
    pub(super) fn put(
        &mut self,
        id: u64,
        group: usize,
        body: Body,
        reason: Option<&'static str>,
        delay: Micros,
        now: Micros,
    ) {
        assert!(delay <= LONGEST_DELAY, "the queue refuses a delay of {} s", delay / SECOND);
        let place = if delay == 0 { Place::Ready } else { Place::HeldBack };
        let message = Message {
            group,
            body,
            receive_count: 0,
            receipt: 0,
            received_at: 0,
            visible_at: now + delay,
            place,
            reason,
        };
        if place == Place::Ready {
            self.ready.entry(group).or_default().push_back(id);
        } else {
            self.waking.insert((message.visible_at, id));
        }
        self.messages.insert(id, message);
    }

    /// Makes visible what has been hidden long enough.
    pub(super) fn refresh(&mut self, now: Micros) {
        while let Some(&(at, id)) = self.waking.first().filter(|(at, _)| *at <= now) {
            self.waking.remove(&(at, id));
            let Some(message) = self.messages.get_mut(&id) else { continue };
            let group = message.group;
            if std::mem::replace(&mut message.place, Place::Ready) == Place::InFlight {
                self.land(group);
            }
            self.ready.entry(group).or_default().push_back(id);
        }
    }

    fn land(&mut self, group: usize) {
        self.in_flight_count -= 1;
        if let Some(count) = self.in_flight.get_mut(&group) {
            *count -= 1;
            if *count == 0 {
                self.in_flight.remove(&group);
            }
        }
    }

    /// Receives up to a batch, of the groups in turn that have the fewest in flight. What was received too often is
    /// given apart.
    pub(super) fn receive(
        &mut self,
        now: Micros,
        dice: &Dice,
        duplicate: impl Fn() -> bool,
    ) -> (Vec<Record>, Vec<Dead>) {
        self.refresh(now);
        let (mut records, mut dead) = (Vec::new(), Vec::new());
        while records.len() + dead.len() < BATCH && self.in_flight_count < IN_FLIGHT_LIMIT {
            let fewest = self.ready.keys().map(|group| (self.in_flight.get(group).copied().unwrap_or(0), *group)).min();
            let Some((_, group)) = fewest else { break };
            let Some(waiting) = self.ready.get_mut(&group) else { break };
            let place = dice.index(waiting.len().min(DISORDER));
            let Some(id) = waiting.swap_remove_front(place) else { break };
            if waiting.is_empty() {
                self.ready.remove(&group);
            }
            let Some(message) = self.messages.get_mut(&id) else { continue };
            if message.receive_count >= self.max_receive_count {
                if let Some(message) = self.messages.remove(&id) {
                    dead.push(Dead { id, group, body: message.body });
                }
                continue;
            }
            self.next_receipt += 1;
            message.receive_count += 1;
            message.receipt = self.next_receipt;
            message.received_at = now;
            // A duplicate is visible again although somebody has it.
            message.visible_at = now + if duplicate() { SECOND } else { self.visibility };
            message.place = Place::InFlight;
            self.waking.insert((message.visible_at, id));
            *self.in_flight.entry(group).or_default() += 1;
            self.in_flight_count += 1;
            self.in_flight_peak = self.in_flight_peak.max(self.in_flight_count);
            records.push(Record {
                id,
                receipt: message.receipt,
                body: message.body.clone(),
                receive_count: message.receive_count,
                reason: message.reason,
            });
        }
        (records, dead)
    }

    /// Deletes a received message. With a receipt that is not its latest, the queue says yes and may do nothing.
    pub(super) fn delete(&mut self, id: u64, receipt: u64) {
        if self.messages.get(&id).is_some_and(|message| message.receipt == receipt) {
            self.remove(id);
        }
    }

    /// Takes a message back that had been deleted.
    pub(super) fn undelete(&mut self, record: &Record, group: usize, delay: Micros, now: Micros) {
        if !self.messages.contains_key(&record.id) {
            self.put(record.id, group, record.body.clone(), record.reason, delay.max(1), now);
            if let Some(message) = self.messages.get_mut(&record.id) {
                message.receive_count = record.receive_count;
            }
        }
    }

    fn remove(&mut self, id: u64) {
        let Some(message) = self.messages.remove(&id) else { return };
        match message.place {
            Place::Ready => {
                if let Some(waiting) = self.ready.get_mut(&message.group) {
                    waiting.retain(|other| *other != id);
                    if waiting.is_empty() {
                        self.ready.remove(&message.group);
                    }
                }
            }
            Place::HeldBack => drop(self.waking.remove(&(message.visible_at, id))),
            Place::InFlight => {
                self.waking.remove(&(message.visible_at, id));
                self.land(message.group);
            }
        }
    }

    /// Forgets one message, whichever.
    pub(super) fn lose(&mut self, dice: &Dice) -> Option<Body> {
        if self.messages.is_empty() {
            return None;
        }
        let id = *self.messages.keys().nth(dice.index(self.messages.len()))?;
        let body = self.messages.get(&id).map(|message| message.body.clone());
        self.remove(id);
        body
    }

    /// Hides a received message for so long from now. False where it is not in flight any more, or for too long.
    pub(super) fn hide(&mut self, id: u64, receipt: u64, wait: Micros, now: Micros) -> bool {
        let Some(message) = self.messages.get_mut(&id) else { return false };
        let is_held = message.place == Place::InFlight && message.receipt == receipt && message.visible_at > now;
        if !is_held || now + wait > message.received_at + LONGEST_HIDE {
            return false;
        }
        self.waking.remove(&(message.visible_at, id));
        message.visible_at = now + wait;
        self.waking.insert((message.visible_at, id));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(n: usize) -> Body {
        Body::Delivery { tenant: 0, delivery: n }
    }

    fn received(queue: &mut FakeQueue, now: Micros) -> Vec<Record> {
        queue.receive(now, &Dice::of(1), || false).0
    }

    #[test]
    fn a_message_that_is_not_deleted_comes_back_and_dies_of_too_many_receives() {
        let mut queue = FakeQueue::new(0, 180 * SECOND, 2);
        queue.send(0, delivery(1), None, 0, 0);
        let first = received(&mut queue, 0);
        assert_eq!(first[0].receive_count, 1);
        assert!(received(&mut queue, 179 * SECOND).is_empty(), "it is hidden");
        let second = received(&mut queue, 180 * SECOND);
        assert_eq!(second[0].receive_count, 2);
        queue.delete(first[0].id, first[0].receipt);
        assert_eq!(queue.len(), 1, "an old receipt deletes nothing");
        let (records, dead) = queue.receive(360 * SECOND, &Dice::of(1), || false);
        assert_eq!((records.len(), dead.len(), queue.len()), (0, 1, 0));
    }

    #[test]
    fn who_has_few_in_flight_is_served_before_who_has_many() {
        let mut queue = FakeQueue::new(0, 180 * SECOND, 25);
        for n in 0..30 {
            queue.send(0, delivery(n), None, 0, 0);
        }
        assert_eq!(received(&mut queue, 0).len(), BATCH);
        queue.send(1, delivery(99), None, 0, 1);
        let batch = received(&mut queue, 1);
        assert!(batch.iter().any(|record| matches!(record.body, Body::Delivery { delivery: 99, .. })));
    }

    #[test]
    fn a_message_is_hidden_only_while_it_is_in_flight_and_for_twelve_hours_in_all() {
        let mut queue = FakeQueue::new(0, 180 * SECOND, 25);
        queue.send(0, delivery(1), None, 5 * SECOND, 0);
        assert!(received(&mut queue, 0).is_empty(), "it is held back");
        let record = received(&mut queue, 5 * SECOND).remove(0);
        assert!(!queue.hide(record.id, record.receipt, 13 * HOUR, 6 * SECOND));
        assert!(queue.hide(record.id, record.receipt, 10 * SECOND, 6 * SECOND));
        assert!(!queue.hide(record.id, record.receipt, SECOND, 16 * SECOND), "its time is over");
        assert_eq!(queue.in_flight_peak, 1);
    }
}
