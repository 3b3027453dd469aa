//! One standard queue: what is in it, who has it, and when it is seen again.
//!
//! Source: the API model of SQS (2012-11-05) and the SQS developer guide.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Map, Value};
use uuid::Uuid;

use super::refusal::Refused;

/// Seconds that a message may be hidden in all, from the receive on.
pub(super) const VISIBILITY_MAX: u64 = 43_200;

/// How a queue is set up.
#[derive(Clone, Debug)]
pub struct QueueSetup {
    /// Its name, the last part of its URL.
    pub name: &'static str,
    /// How long a received message is hidden, unless its receiver says otherwise.
    pub visibility: Duration,
    /// How long a message is kept.
    pub retention: Duration,
    /// Where a message goes that was received this often without being deleted.
    pub redrive: Option<(&'static str, u32)>,
    /// Messages that may be received and not deleted at a time.
    pub in_flight_max: usize,
}

/// A message as it is kept.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) id: String,
    pub(super) body: String,
    pub(super) attributes: Map<String, Value>,
    pub(super) group: Option<String>,
    pub(super) sent_at: Duration,
    pub(super) first_received_at: Option<Duration>,
    pub(super) receive_count: u32,
    visible_at: Duration,
    /// The latest receive: its handle, and when it was.
    received: Option<(String, Duration)>,
    /// It has been received and its time is not over.
    in_flight: bool,
    /// The next receive leaves it visible, so that a second one gets it, too.
    twice: bool,
}

/// A message as a receiver gets it.
#[derive(Clone, Debug)]
pub struct Received {
    /// The message's id; the same at every receive.
    pub id: String,
    /// This receive's handle.
    pub receipt_handle: String,
    /// What was sent.
    pub body: String,
    /// The message attributes, as SQS's API prints them.
    pub attributes: Map<String, Value>,
    /// The message group, where one was named.
    pub group: Option<String>,
    /// How often it has been received, this time included.
    pub receive_count: u32,
    /// When it was first sent.
    pub sent_at: Duration,
    /// When it was first received.
    pub first_received_at: Duration,
}

/// A message as a test sees it.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The message's id.
    pub id: String,
    /// What was sent.
    pub body: String,
    /// The message group, where one was named.
    pub group: Option<String>,
    /// How often it has been received.
    pub receive_count: u32,
    /// How long it is still hidden or held back.
    pub wait: Duration,
    /// Whether somebody has received it and may still be at work.
    pub in_flight: bool,
}

/// In which order messages are received. A standard queue promises none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The oldest first.
    #[default]
    AsSent,
    /// The newest first.
    Reversed,
}

#[derive(Debug)]
pub(super) struct Queue {
    pub(super) setup: QueueSetup,
    messages: VecDeque<Message>,
    /// Messages that were deleted, for a delete that is undone.
    deleted: Vec<Message>,
    pub(super) order: Order,
    /// So many of the next sends are stored twice, as a retried request would.
    pub(super) sent_count: u64,
}

impl Queue {
    pub(super) fn new(setup: QueueSetup) -> Self {
        Self { setup, messages: VecDeque::new(), deleted: Vec::new(), order: Order::AsSent, sent_count: 0 }
    }

    /// Takes a message that has passed the rules.
    pub(super) fn send(
        &mut self,
        body: String,
        attributes: Map<String, Value>,
        group: Option<String>,
        delay: Duration,
        now: Duration,
    ) -> String {
        self.sent_count += 1;
        let id = Uuid::new_v4().to_string();
        self.messages.push_back(Message {
            id: id.clone(),
            body,
            attributes,
            group,
            sent_at: now,
            first_received_at: None,
            receive_count: 0,
            visible_at: now + delay,
            received: None,
            in_flight: false,
            twice: false,
        });
        id
    }

    /// Takes a message that another queue gave up on. It keeps its id and its time.
    pub(super) fn adopt(&mut self, message: Message, now: Duration) {
        let message = Message {
            visible_at: now,
            received: None,
            in_flight: false,
            receive_count: 0,
            first_received_at: None,
            ..message
        };
        self.messages.push_back(message);
    }

    /// Hands out up to `max` visible messages, and gives up those that were received too often.
    pub(super) fn receive(
        &mut self,
        max: usize,
        visibility: Option<Duration>,
        now: Duration,
    ) -> Result<(Vec<Received>, Vec<Message>), Refused> {
        let retention = self.setup.retention;
        self.messages.retain(|message| now.saturating_sub(message.sent_at) < retention);
        let mut given_up = Vec::new();
        if let Some((_, most)) = self.setup.redrive {
            let (over, rest) = std::mem::take(&mut self.messages)
                .into_iter()
                .partition(|message: &Message| message.visible_at <= now && message.receive_count >= most);
            self.messages = rest;
            given_up = Vec::from_iter::<VecDeque<Message>>(over);
        }
        let in_flight = self.messages.iter().filter(|message| message.is_in_flight(now)).count();
        if in_flight >= self.setup.in_flight_max {
            return Err(Refused::new("OverLimit", format!("{in_flight} messages are in flight")));
        }
        let room = max.min(self.setup.in_flight_max - in_flight);
        let mut places: Vec<usize> =
            (0..self.messages.len()).filter(|place| self.messages[*place].visible_at <= now).collect();
        if self.order == Order::Reversed {
            places.reverse();
        }
        let hidden_for = visibility.unwrap_or(self.setup.visibility);
        let mut received = Vec::new();
        for place in places.into_iter().take(room) {
            let Some(message) = self.messages.get_mut(place) else { continue };
            received.push(message.hand_out(hidden_for, now));
        }
        Ok((received, given_up))
    }

    /// Deletes by a handle. One of an earlier receive succeeds and deletes nothing, as AWS's does.
    pub(super) fn delete(&mut self, handle: &str) -> Result<(), Refused> {
        let id = read_handle(handle)?;
        let place = self.messages.iter().position(|message| message.id == id && message.is_held_by(handle));
        if let Some(message) = place.and_then(|place| self.messages.remove(place)) {
            self.deleted.push(message);
        }
        Ok(())
    }

    /// Hides a received message until `timeout` from now.
    pub(super) fn change_visibility(&mut self, handle: &str, timeout: u64, now: Duration) -> Result<(), Refused> {
        let id = read_handle(handle)?;
        if timeout > VISIBILITY_MAX {
            return Err(Refused::invalid(format!(
                "Value {timeout} for parameter VisibilityTimeout is invalid. Reason: Must be between 0 and {VISIBILITY_MAX}."
            )));
        }
        let Some(message) = self.messages.iter_mut().find(|message| message.id == id) else {
            return Err(Refused::invalid(format!(
                "Value {handle} for parameter ReceiptHandle is invalid. \
                 Reason: Message does not exist or is not available for visibility timeout change."
            )));
        };
        if !message.is_in_flight(now) {
            return Err(Refused::new("MessageNotInflight", "the message is not in flight".to_owned()));
        }
        let received_at = match &message.received {
            Some((latest, at)) if latest == handle => *at,
            _ => return Err(Refused::unknown_handle(handle)),
        };
        let timeout = Duration::from_secs(timeout);
        if now.saturating_sub(received_at) + timeout > Duration::from_secs(VISIBILITY_MAX) {
            return Err(Refused::invalid(format!(
                "Value {} for parameter VisibilityTimeout is invalid. \
                 Reason: Total VisibilityTimeout for the message is beyond the limit [{VISIBILITY_MAX} seconds].",
                timeout.as_secs()
            )));
        }
        message.visible_at = now + timeout;
        message.in_flight = !timeout.is_zero();
        Ok(())
    }

    /// The deletes so far did not last: every copy of these messages is there again.
    pub(super) fn undo_deletes(&mut self, now: Duration) -> usize {
        let back = std::mem::take(&mut self.deleted);
        let count = back.len();
        self.messages.extend(back.into_iter().map(|message| Message { visible_at: now, in_flight: false, ..message }));
        count
    }

    /// The next receive of each message that is here now leaves it visible for another receiver.
    pub(super) fn deliver_twice(&mut self) {
        self.messages.iter_mut().for_each(|message| message.twice = true);
    }

    pub(super) fn waiting(&self, now: Duration) -> Vec<Waiting> {
        let view = |message: &Message| Waiting {
            id: message.id.clone(),
            body: message.body.clone(),
            group: message.group.clone(),
            receive_count: message.receive_count,
            wait: message.visible_at.saturating_sub(now),
            in_flight: message.is_in_flight(now),
        };
        self.messages.iter().map(view).collect()
    }
}

impl Message {
    fn is_in_flight(&self, now: Duration) -> bool {
        self.in_flight && self.visible_at > now
    }

    fn is_held_by(&self, handle: &str) -> bool {
        self.received.as_ref().is_some_and(|(latest, _)| latest == handle)
    }

    fn hand_out(&mut self, hidden_for: Duration, now: Duration) -> Received {
        self.receive_count += 1;
        let first_received_at = *self.first_received_at.get_or_insert(now);
        let handle = format!("{}#{}#{}", self.id, self.receive_count, Uuid::new_v4());
        if std::mem::take(&mut self.twice) {
            // Another server of the queue still shows it; the handle of the later receive is the one that counts.
            self.received = Some((handle.clone(), now));
        } else {
            self.received = Some((handle.clone(), now));
            self.visible_at = now + hidden_for;
            self.in_flight = !hidden_for.is_zero();
        }
        Received {
            id: self.id.clone(),
            receipt_handle: handle,
            body: self.body.clone(),
            attributes: self.attributes.clone(),
            group: self.group.clone(),
            receive_count: self.receive_count,
            sent_at: self.sent_at,
            first_received_at,
        }
    }
}

/// The message id in a handle of ours.
fn read_handle(handle: &str) -> Result<&str, Refused> {
    let mut parts = handle.split('#');
    match (parts.next(), parts.next().and_then(|count| count.parse::<u32>().ok()), parts.next(), parts.next()) {
        (Some(id), Some(_), Some(nonce), None) if Uuid::parse_str(id).is_ok() && Uuid::parse_str(nonce).is_ok() => {
            Ok(id)
        }
        _ => Err(Refused::unknown_handle(handle)),
    }
}
