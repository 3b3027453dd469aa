//! What happened in a run, independent of where it ran.
//!
//! A loader fills it from Postgres, from the provider's ledger and from the log of HTTP requests; the simulator writes it
//! itself. Every list may be empty: a check looks at what is there, and says in its doc what it cannot see without it.
//! Times are the database's, except where a field says otherwise.

use domain::category::UnknownPolicy;
use domain::delivery::{AttemptOutcome, DeliveryState, Reason};
use domain::id::{AttemptId, DeadLetterId, DeliveryId, NotificationId, TenantId};
use jiff::Timestamp;

/// What happened in a run.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// What callers asked for, and what they were answered.
    pub requests: Vec<Request>,
    /// The deliveries as they stand at the end.
    pub deliveries: Vec<Delivery>,
    /// Their attempts.
    pub attempts: Vec<Attempt>,
    /// What reached the provider.
    pub calls: Vec<ProviderCall>,
    /// The committed claims: `deliveries` rows of the audit log that raise `attempt_count`.
    pub claims: Vec<Claim>,
    /// Every change of a delivery's state: its rows of the audit log.
    pub transitions: Vec<Transition>,
    /// Addresses that must not be sent to.
    pub suppressions: Vec<Suppression>,
    /// Dead letters.
    pub dead_letters: Vec<DeadLetter>,
    /// Messages that are in a queue at the end.
    pub left_messages: Vec<LeftMessage>,
    /// Events that are in the outbox at the end.
    pub untold_events: usize,
    /// Runs of schedules.
    pub occurrences: Vec<Occurrence>,
    /// Uses of single-use tokens.
    pub token_uses: Vec<TokenUse>,
    /// What a function answered for a batch.
    pub batches: Vec<BatchAnswer>,
    /// Rows that somebody got to see.
    pub sightings: Vec<Sighting>,
    /// Everything that was logged, line by line.
    pub log_lines: Vec<String>,
    /// Secrets, tokens, bodies and whole addresses that were planted in the run, to be looked for in the log.
    pub planted_words: Vec<String>,
    /// What was measured against a bound.
    pub measures: Vec<Measure>,
    /// The database's clock at the begin and at the end of the run.
    pub database_clock: Option<(Timestamp, Timestamp)>,
    /// When the last fault was over; `None` where there was none.
    pub faults_cleared_at: Option<Timestamp>,
    /// When nothing was left to do; `None` where the run was stopped before.
    pub quiet_at: Option<Timestamp>,
}

/// A request for notifications over HTTP, as its caller saw it.
#[derive(Clone, Debug)]
pub struct Request {
    /// When it was sent, by the caller's clock.
    pub sent_at: Timestamp,
    /// As whom.
    pub tenant: TenantId,
    /// Its `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// A digest of its body: equal bodies have equal ones.
    pub body_hash: u64,
    /// How many notifications it may make at most.
    pub asked_count: usize,
    /// What came back.
    pub answer: Answer,
}

/// What a caller came to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A 2xx, with the notifications that it names, those of dedupe keys included.
    Accepted(Vec<NotificationId>),
    /// A 4xx: surely nothing was stored.
    Refused(u16),
    /// A 5xx, or no answer: it may have been stored.
    Unknown,
}

/// A delivery as it stands at the end.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub id: DeliveryId,
    /// Of which notification.
    pub notification: NotificationId,
    /// The recipient's address, in lower case.
    pub address: String,
    /// Whether the provider must not be called.
    pub is_sandbox: bool,
    /// Where it stands.
    pub state: DeliveryState,
    /// Why.
    pub reason: Option<Reason>,
    /// Attempts made.
    pub attempt_count: u32,
    /// Those that do not count.
    pub uncounted_attempt_count: u32,
    /// Those that may be spent.
    pub max_attempts: u32,
    /// What becomes of an attempt of unknown outcome.
    pub unknown_policy: UnknownPolicy,
    /// How long feedback may take, in seconds.
    pub reconcile_window_seconds: u32,
    /// When the dispatcher has to look at it.
    pub due_at: Option<Timestamp>,
    /// When it was stored.
    pub created_at: Timestamp,
    /// When the provider took it.
    pub sent_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// An attempt as it stands at the end.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Whose.
    pub tenant: TenantId,
    /// Of which delivery.
    pub delivery: DeliveryId,
    /// Its id; `None` where the run has none.
    pub id: Option<AttemptId>,
    /// Its number.
    pub number: u32,
    /// How it ended; `None` while it runs.
    pub outcome: Option<AttemptOutcome>,
    /// When `unknown` was first recorded as its outcome, whatever is known now: from the audit log of `attempts`.
    pub declared_unknown_at: Option<Timestamp>,
    /// Whether the provider answered with a failure of its own (5xx), which `at_least_once` repeats without waiting.
    pub has_server_failed: bool,
    /// When feedback about it was first recorded.
    pub feedback_at: Option<Timestamp>,
    /// When it was claimed.
    pub started_at: Timestamp,
    /// When its outcome was recorded.
    pub finished_at: Option<Timestamp>,
}

/// A request that reached the provider, by its ledger.
#[derive(Clone, Debug)]
pub struct ProviderCall {
    /// When, by the provider's clock.
    pub at: Timestamp,
    /// Tag `nid`; `None` where it is missing or not readable.
    pub notification: Option<NotificationId>,
    /// Tag `att`.
    pub attempt: Option<u32>,
    /// Tag `t`.
    pub tenant: Option<TenantId>,
    /// To whom, in lower case.
    pub address: String,
    /// Whether the provider took it, whatever it answered.
    pub was_accepted: bool,
}

/// A committed claim.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Whose delivery.
    pub tenant: TenantId,
    /// Which.
    pub delivery: DeliveryId,
    /// The attempt's number.
    pub attempt: u32,
    /// When it was committed: `pg_xact_commit_timestamp(xmin)` of its row, not the begin of its transaction.
    pub committed_at: Timestamp,
}

/// A change of a delivery's state, or its making.
#[derive(Clone, Debug)]
pub struct Transition {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub delivery: DeliveryId,
    /// When.
    pub at: Timestamp,
    /// What it was; `None` when it was made.
    pub from: Option<DeliveryState>,
    /// What it became.
    pub to: DeliveryState,
    /// Its attempts afterwards.
    pub attempt_count: u32,
}

/// An address that must not be sent to.
#[derive(Clone, Debug)]
pub struct Suppression {
    /// By whom; `None` is the provider account's own list, which holds for every tenant.
    pub tenant: Option<TenantId>,
    /// Which, in lower case.
    pub address: String,
    /// When it was committed: `pg_xact_commit_timestamp(xmin)` of its row.
    pub committed_at: Timestamp,
    /// When it was lifted again, if it was.
    pub lifted_at: Option<Timestamp>,
}

/// A dead letter.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// Whose; the operator's where nobody's is named.
    pub tenant: TenantId,
    /// Its id; `None` where the run has none.
    pub id: Option<DeadLetterId>,
    /// The delivery, where it names one of the tenant's.
    pub delivery: Option<DeliveryId>,
    /// Why; empty where it says nothing.
    pub reason: String,
    /// Whether it was redriven.
    pub is_redriven: bool,
}

/// A queue of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QueueName {
    /// The deliveries queue.
    Deliveries,
    /// Its dead-letter queue.
    DeadLetters,
    /// The queue of the provider's events.
    Feedback,
    /// Its dead-letter queue.
    FeedbackDeadLetters,
}

/// A message that is in a queue at the end.
#[derive(Clone, Debug)]
pub struct LeftMessage {
    /// Where.
    pub queue: QueueName,
    /// The queue's id of it.
    pub message_id: String,
    /// The delivery that it names, if it names one.
    pub delivery: Option<(TenantId, DeliveryId)>,
}

/// A run of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Occurrence {
    /// Whose.
    pub tenant: TenantId,
    /// Which schedule.
    pub schedule: String,
    /// The instant that it was due at.
    pub due_at: Timestamp,
    /// The notification that it made, if any: nobody asked for that one.
    pub notification: Option<NotificationId>,
}

/// A use of a single-use token.
#[derive(Clone, Debug)]
pub struct TokenUse {
    /// Which token: a digest.
    pub token: String,
    /// Whether it changed anything.
    pub changed_state: bool,
}

/// What a function answered for a batch of messages.
#[derive(Clone, Debug, Default)]
pub struct BatchAnswer {
    /// The ids of the messages that it was given.
    pub received: Vec<String>,
    /// The ids that it reported as failed.
    pub failed: Vec<String>,
    /// The ids of those among them that nobody could read.
    pub poison: Vec<String>,
    /// Whether the invocation failed as a whole.
    pub has_failed: bool,
}

/// A row that somebody got to see, by any way out: an answer, an event, a log.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// Who saw it.
    pub seen_by: TenantId,
    /// Whose it is.
    pub owner: TenantId,
    /// What it is, for people.
    pub what: String,
}

/// A number that was measured, and what it may be at most.
#[derive(Clone, Debug)]
pub struct Measure {
    /// What was measured, with its unit.
    pub name: String,
    /// What it was.
    pub value: f64,
    /// What it may be at most.
    pub limit: f64,
}
