//! The queue as the flows see it: a hint that there is work.

use crate::id::{DeliveryId, TenantId};
use std::future::{Future, ready};
use std::time::Duration;

/// Says that a delivery has work. Ids only: the database decides what happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryMessage {
    /// Whose delivery.
    pub tenant: TenantId,
    /// Which one.
    pub delivery: DeliveryId,
    /// The caller's trace, passed on.
    pub traceparent: Option<String>,
}

/// A message to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// What it says.
    pub message: DeliveryMessage,
    /// How long the queue holds it back; at most 15 minutes.
    pub delay: Duration,
}

/// A message on its way to the dead-letter queue.
#[derive(Clone, PartialEq, Eq)]
pub struct DeadMessage {
    /// The body as it was received or published.
    pub body: String,
    /// A code that programs can rely on.
    pub reason: String,
    /// What is said about it to people.
    pub detail: String,
    /// How often the queue had handed it out; none where the dispatcher made it.
    pub receive_count: u32,
    /// When the queue got it first, in milliseconds since 1970; none where the dispatcher made it.
    pub sent_at_millis: Option<i64>,
}

crate::masked_debug!(DeadMessage, "DeadMessage", reason, receive_count, sent_at_millis);

/// What the queue did not take, by its place in the request.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct NotTaken(pub Vec<usize>);

impl NotTaken {
    /// Whether the entry at `place` was taken.
    pub fn took(&self, place: usize) -> bool {
        !self.0.contains(&place)
    }
}

/// The queue and its dead-letter queue. No call fails as a whole: each entry is taken or not.
pub trait Queue {
    /// Publishes messages, in batches of ten, side by side.
    fn publish(&self, publications: &[Publication]) -> impl Future<Output = NotTaken> + Send;
    /// Puts messages into the dead-letter queue.
    fn bury(&self, dead: &[DeadMessage]) -> impl Future<Output = NotTaken> + Send;
    /// Hides received messages for longer (or shorter); an entry that was not taken comes back at its own time.
    fn hide(&self, hidden: &[(String, Duration)]) -> impl Future<Output = NotTaken> + Send;
}

/// The queue of a function that may not send: it takes nothing, and what it does not take the dispatcher publishes.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoQueue;

impl Queue for NoQueue {
    fn publish(&self, publications: &[Publication]) -> impl Future<Output = NotTaken> + Send {
        ready(NotTaken((0..publications.len()).collect()))
    }

    fn bury(&self, dead: &[DeadMessage]) -> impl Future<Output = NotTaken> + Send {
        ready(NotTaken((0..dead.len()).collect()))
    }

    fn hide(&self, hidden: &[(String, Duration)]) -> impl Future<Output = NotTaken> + Send {
        ready(NotTaken((0..hidden.len()).collect()))
    }
}
