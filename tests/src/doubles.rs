//! Doubles of the queue, the bus, the provider and its account. They keep what they were given, and misbehave on request.

use adapters::wire::queue_message::print_message;
use adapters::wire::sqs_event::Record;
use domain::account::{ListPage, ListedAddress, MailAccount};
use domain::event::{Event, EventBus};
use domain::feedback::SuppressionReason;
use domain::mail::{Mail, MailSender};
use domain::outcome::{ProviderError, SendOutcome};
use domain::queue::{DeadMessage, NotTaken, Publication, Queue};
use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A message that waits in the queue.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The record as Lambda would hand it over.
    pub record: Record,
    /// How long the queue holds it back, or hides it.
    pub wait: Duration,
}

#[derive(Debug, Default)]
struct QueueState {
    waiting: Vec<Waiting>,
    hidden: HashMap<String, Duration>,
    buried: Vec<(Record, DeadMessage)>,
    sent_count: usize,
    refuses: bool,
}

/// A queue that keeps its messages until the test delivers them.
#[derive(Clone, Debug, Default)]
pub struct RecordingQueue(Arc<Mutex<QueueState>>);

impl RecordingQueue {
    /// From now on takes nothing, or takes everything again.
    pub fn refuse(&self, refuses: bool) {
        lock(&self.0).refuses = refuses;
    }

    /// Puts any body on the queue, as an operator's hand might.
    pub fn put(&self, body: &str) {
        lock(&self.0).push(body.to_owned(), Duration::ZERO);
    }

    /// What waits, in order.
    pub fn waiting(&self) -> Vec<Waiting> {
        lock(&self.0).waiting.clone()
    }

    /// Takes up to ten messages whose wait is over within `passed`, each received once more.
    pub fn receive(&self, passed: Duration) -> Vec<Record> {
        let mut state = lock(&self.0);
        let mut received = Vec::new();
        let mut rest = Vec::new();
        for mut waiting in std::mem::take(&mut state.waiting) {
            if received.len() < 10 && waiting.wait <= passed {
                waiting.record.receive_count += 1;
                received.push(waiting.record);
            } else {
                waiting.wait = waiting.wait.saturating_sub(passed);
                rest.push(waiting);
            }
        }
        state.waiting = rest;
        received
    }

    /// Puts received messages back, as Lambda does with failed items, for as long as they were hidden.
    pub fn give_back(&self, records: Vec<Record>) {
        let mut state = lock(&self.0);
        for record in records {
            let wait = state.hidden.remove(&record.receipt_handle).unwrap_or(Duration::from_secs(180));
            state.waiting.push(Waiting { record, wait });
        }
    }

    /// Takes what is in the dead-letter queue, as records of it.
    pub fn receive_dead(&self) -> Vec<Record> {
        lock(&self.0).buried.drain(..).map(|(record, _)| record).collect()
    }

    /// What is in the dead-letter queue.
    pub fn buried(&self) -> Vec<DeadMessage> {
        lock(&self.0).buried.iter().map(|(_, dead)| dead.clone()).collect()
    }

    /// Whether nothing waits in either queue.
    pub fn is_empty(&self) -> bool {
        let state = lock(&self.0);
        state.waiting.is_empty() && state.buried.is_empty()
    }
}

impl QueueState {
    fn push(&mut self, body: String, wait: Duration) {
        self.sent_count += 1;
        let record = Record {
            message_id: format!("message-{}", self.sent_count),
            receipt_handle: format!("receipt-{}", self.sent_count),
            body,
            ..Record::default()
        };
        self.waiting.push(Waiting { record, wait });
    }

    fn refuse_all(&self, count: usize) -> Option<NotTaken> {
        self.refuses.then(|| NotTaken((0..count).collect()))
    }
}

impl Queue for RecordingQueue {
    async fn publish(&self, publications: &[Publication]) -> NotTaken {
        let mut state = lock(&self.0);
        if let Some(none) = state.refuse_all(publications.len()) {
            return none;
        }
        for Publication { message, delay } in publications {
            assert!(*delay <= Duration::from_secs(900), "SQS refuses a delay of {delay:?}");
            state.push(print_message(message), *delay);
        }
        NotTaken::default()
    }

    async fn bury(&self, dead: &[DeadMessage]) -> NotTaken {
        let mut state = lock(&self.0);
        if let Some(none) = state.refuse_all(dead.len()) {
            return none;
        }
        for message in dead {
            state.sent_count += 1;
            let record = Record {
                message_id: format!("dead-{}", state.sent_count),
                receipt_handle: format!("dead-receipt-{}", state.sent_count),
                body: message.body.clone(),
                receive_count: message.receive_count.cast_signed(),
                sent_at_millis: message.sent_at_millis,
                reason: Some(message.reason.clone()),
                reason_detail: Some(message.detail.clone()),
            };
            state.buried.push((record, message.clone()));
        }
        NotTaken::default()
    }

    async fn hide(&self, hidden: &[(String, Duration)]) -> NotTaken {
        let mut state = lock(&self.0);
        if let Some(none) = state.refuse_all(hidden.len()) {
            return none;
        }
        for (receipt, wait) in hidden {
            assert!(*wait <= Duration::from_secs(300), "a message is hidden for {wait:?}, which keeps it in flight");
            state.hidden.insert(receipt.clone(), *wait);
        }
        NotTaken::default()
    }
}

#[derive(Debug, Default)]
struct BusState {
    events: Vec<Event>,
    refuses: bool,
}

/// A bus that keeps its events.
#[derive(Clone, Debug, Default)]
pub struct RecordingBus(Arc<Mutex<BusState>>);

impl RecordingBus {
    /// From now on takes nothing, or takes everything again.
    pub fn refuse(&self, refuses: bool) {
        lock(&self.0).refuses = refuses;
    }

    /// The detail-types so far, in order.
    pub fn detail_types(&self) -> Vec<String> {
        lock(&self.0).events.iter().map(|event| event.detail_type.clone()).collect()
    }

    /// The events so far.
    pub fn events(&self) -> Vec<Event> {
        lock(&self.0).events.clone()
    }
}

impl EventBus for RecordingBus {
    async fn publish_events(&self, events: &[Event]) -> NotTaken {
        let mut state = lock(&self.0);
        if state.refuses {
            return NotTaken((0..events.len()).collect());
        }
        state.events.extend_from_slice(events);
        NotTaken::default()
    }
}

/// What the provider does next for an address.
type Script = VecDeque<fn() -> SendOutcome>;

#[derive(Debug, Default)]
struct MailState {
    mails: Vec<Mail>,
    scripts: HashMap<String, Script>,
}

/// A provider that accepts every mail, except where a script says otherwise.
#[derive(Clone, Debug, Default)]
pub struct ScriptedMailSender(Arc<Mutex<MailState>>);

impl ScriptedMailSender {
    /// The next calls for an address end like this; a step may panic.
    pub fn script(&self, address: &str, steps: impl IntoIterator<Item = fn() -> SendOutcome>) {
        lock(&self.0).scripts.insert(address.to_owned(), steps.into_iter().collect());
    }

    /// Every mail that the provider was asked to send, accepted or not.
    pub fn asked(&self) -> Vec<Mail> {
        lock(&self.0).mails.clone()
    }

    /// How often the provider was asked for an address.
    pub fn count(&self, address: &str) -> usize {
        lock(&self.0).mails.iter().filter(|mail| mail.to.as_str() == address).count()
    }
}

impl MailSender for ScriptedMailSender {
    async fn send_mail(&self, mail: &Mail) -> SendOutcome {
        let step = {
            let mut state = lock(&self.0);
            state.mails.push(mail.clone());
            let count = state.mails.len();
            let script = state.scripts.get_mut(mail.to.as_str()).and_then(VecDeque::pop_front);
            script.ok_or(count)
        };
        match step {
            Ok(step) => step(),
            Err(count) => SendOutcome::Sent { provider_message_id: Some(format!("provider-{count}")) },
        }
    }
}

#[derive(Debug, Default)]
struct AccountState {
    listed: Vec<ListedAddress>,
    sends_per_second: Option<NonZeroU32>,
    calls_left: Option<usize>,
}

/// An account whose list the test writes; it gives two addresses a page.
#[derive(Clone, Debug, Default)]
pub struct ScriptedAccount(Arc<Mutex<AccountState>>);

impl ScriptedAccount {
    /// From now on lists these addresses, and has this rate.
    pub fn set(&self, listed: &[(&str, SuppressionReason)], sends_per_second: u32) {
        let mut state = lock(&self.0);
        let listed =
            listed.iter().map(|(address, reason)| ListedAddress { address: (*address).into(), reason: *reason });
        state.listed = listed.collect();
        state.sends_per_second = NonZeroU32::new(sends_per_second);
    }

    /// Answers so many calls, and fails every one after them.
    pub fn fail_after(&self, calls: usize) {
        lock(&self.0).calls_left = Some(calls);
    }
}

impl AccountState {
    fn answer(&mut self) -> Result<(), ProviderError> {
        match &mut self.calls_left {
            Some(0) => Err(ProviderError { code: "TooManyRequestsException".into(), detail: "words".into() }),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl MailAccount for ScriptedAccount {
    async fn list_suppressed(&self, after: Option<&str>) -> Result<ListPage, ProviderError> {
        let mut state = lock(&self.0);
        state.answer()?;
        let begin: usize = after.map_or(0, |after| after.parse().expect("a token that this account gave"));
        let addresses: Vec<_> = state.listed.iter().skip(begin).take(2).cloned().collect();
        let end = begin + addresses.len();
        Ok(ListPage { addresses, next: (end < state.listed.len()).then(|| end.to_string()) })
    }

    async fn read_send_rate(&self) -> Result<NonZeroU32, ProviderError> {
        let mut state = lock(&self.0);
        state.answer()?;
        Ok(state.sends_per_second.expect("the test says which"))
    }
}
