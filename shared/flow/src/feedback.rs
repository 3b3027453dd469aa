//! Hears what SES tells of mails that it took, and asks it what it may not have told.
//!
//! The cast: SES publishes each event twice, through EventBridge and through SNS, into one queue, because neither says
//! that it delivers every event. `wire::ses_event` reads either form; `store::feedback` takes the attempts that the tags
//! name and writes what becomes of them; `domain::feedback` decides. A delivery whose attempt ended `unknown` is settled
//! here, if an event comes before its window ends.
//!
//! What makes a second copy harmless, and any order: an attempt keeps the strongest thing that was said of its mail,
//! and an event that says nothing stronger changes nothing. A COMMIT whose answer is lost is repeated to no effect.
//!
//! Whom an event concerns: the tags name a notification and a tenant together, and the row that is found under both is
//! the authority. Where there is none, or the mail's id is another than SES gave to the attempt, the event is dropped
//! with a line of log that a metric counts. Only the delivery's own address is ever suppressed.
//!
//! What no event ever said: a schedule compares the addresses that SES does not deliver to, and reads the rate that the
//! account may send at.

use crate::job::{Done, Failure};
use crate::outbox::tell_until;
use crate::progress::Progress;
use adapters::store::database::{Database, StoreError};
use adapters::store::feedback::{
    AttemptTag, FeedbackRecord, Taken, TakenAttempt, add_listed_across_tenants, begin_listing_across_tenants,
    remove_unlisted_across_tenants, set_send_rate_across_tenants, take_feedback_across_tenants,
};
use adapters::telemetry::chain;
use adapters::wire::ses_event::{SesEvent, read_ses_event};
use adapters::wire::sqs_event::{BatchResponse, Record};
use domain::account::MailAccount;
use domain::address::EmailAddress;
use domain::delivery::AttemptOutcome;
use domain::event::{Event, EventBus};
use domain::feedback::{AddressStep, FeedbackStep, decide_feedback};
use domain::outcome::ProviderError;
use domain::queue::Queue;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// What stays of an invocation's time for its answer.
const ANSWER_RESERVE: Duration = Duration::from_secs(2);
/// One event alone may wait for a lock, and for the database's answer, before the batch is answered.
const APART_RESERVE: Duration = Duration::from_secs(10);
/// Nothing more is asked of the provider with less time than this left: a call may take nine seconds.
const RECONCILE_RESERVE: Duration = Duration::from_secs(12);
/// Tries to take an attempt that somebody else is writing: the processor writes for milliseconds.
const TAKE_TRIES: u32 = 6;
/// How long a message is hidden whose event could not be applied, the first time. Each time doubles it.
const FIRST_RETURN: Duration = Duration::from_secs(10);
/// The longest that it is hidden. Together they outlast an hour before the queue gives up on a message.
const LONGEST_RETURN: Duration = Duration::from_secs(240);
/// Pages of the provider's list in one run, of a thousand addresses each.
const MOST_PAGES: u32 = 500;

/// The flow with what it needs.
pub struct Feedback<A, Q, B> {
    /// As `harkara_worker`.
    pub database: Database,
    /// The provider's account.
    pub account: A,
    /// The queue of the provider's events; nothing is ever sent there.
    pub queue: Q,
    /// The project's bus.
    pub bus: B,
}

/// An event that was read, with its record's place in the batch.
struct Heard {
    place: usize,
    event: SesEvent,
}

/// What a reconcile found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReconcileCounts {
    /// Mails that the account may send in a second.
    pub sends_per_second: Option<NonZeroU32>,
    /// Addresses on the provider's list, as far as it was read.
    pub listed: usize,
    /// Those that were new here.
    pub added: u64,
    /// Those that had left the list.
    pub removed: u64,
    /// Whether the whole list was read.
    pub is_complete: bool,
}

impl ReconcileCounts {
    /// As the function answers.
    pub fn print(&self) -> Value {
        let Self { sends_per_second, listed, added, removed, is_complete } = self;
        json!({
            "sends_per_second": sends_per_second, "listed": listed, "added": added, "removed": removed,
            "is_complete": is_complete,
        })
    }
}

impl From<ReconcileCounts> for Done {
    fn from(counts: ReconcileCounts) -> Self {
        Self { counts: counts.print(), leaves_work: !counts.is_complete }
    }
}

/// Why a reconcile ended early. What it did until then stays done, and the next one does the rest.
#[derive(Debug)]
pub enum ReconcileError {
    /// The database could not be asked.
    Store(StoreError),
    /// The provider could not be asked.
    Provider(ProviderError),
}

impl fmt::Display for ReconcileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(_) => f.write_str("the provider's list could not be written"),
            Self::Provider(error) => write!(f, "the provider's account could not be read ({})", error.code),
        }
    }
}

impl std::error::Error for ReconcileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store(error) => Some(error),
            Self::Provider(_) => None,
        }
    }
}

impl From<ReconcileError> for Failure {
    fn from(error: ReconcileError) -> Self {
        let code = match &error {
            ReconcileError::Store(error) => error.code(),
            ReconcileError::Provider(_) => "provider_failed",
        };
        Self { code, error: Box::new(error) }
    }
}

impl From<StoreError> for ReconcileError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl<A: MailAccount + Sync, Q: Queue + Sync, B: EventBus + Sync> Feedback<A, Q, B> {
    /// Applies a batch of events. Each record has its own outcome, whatever its neighbours hold.
    ///
    /// What says nothing of a mail of ours is deleted. What SES would never write is reported as failed until the
    /// queue itself moves it to its dead-letter queue, where people look at it: this function may send nowhere.
    /// What could not be applied comes back soon, and later each time.
    pub async fn hear_batch(&self, records: &[Record], deadline: Instant) -> BatchResponse {
        adapters::failpoint!("V1_batch", BatchResponse::failing(records));
        let mut malformed = BTreeSet::new();
        let mut failing = BTreeSet::new();
        let mut waiting = Vec::new();
        for (place, record) in records.iter().enumerate() {
            match read_ses_event(&record.body) {
                Ok(event) => waiting.push(Heard { place, event }),
                Err(error) if error.is_ignored() => ignore(record, error.code(), None),
                Err(error) => {
                    tracing::error!(
                        metric = "feedback_malformed",
                        message_id = record.message_id,
                        reason = error.code(),
                        "message {} is no event: {error}",
                        record.message_id
                    );
                    malformed.insert(place);
                }
            }
        }

        let mut events = Vec::new();
        for tries in 1..=TAKE_TRIES {
            waiting = self.apply_apart(records, waiting, deadline, &mut events, &mut failing).await;
            let pause = Duration::from_millis(50) * tries;
            if waiting.is_empty() || deadline.saturating_duration_since(Instant::now()) < ANSWER_RESERVE + pause {
                break;
            }
            tokio::time::sleep(pause).await;
        }
        failing.extend(waiting.iter().map(|heard| heard.place));
        let back = failing.iter().filter_map(|place| records.get(*place));
        let hidden: Vec<_> = back.map(|record| (record.receipt_handle.clone(), return_after(record))).collect();
        // A message that could not be hidden comes back at the queue's own time.
        let (_, ()) = tokio::join!(
            self.queue.hide(&hidden),
            tell_until(&self.database, &self.bus, &events, deadline - ANSWER_RESERVE)
        );
        adapters::failpoint!("V5_reply", BatchResponse::failing(records));
        BatchResponse::failing(malformed.union(&failing).filter_map(|place| records.get(*place)))
    }

    /// Applies events together, or each apart where one of them fails all. Returns those whose attempts somebody else is
    /// writing; what cannot be applied is `failing`, and by the time that its message comes back the cause may be mended.
    async fn apply_apart(
        &self,
        records: &[Record],
        mut heard: Vec<Heard>,
        deadline: Instant,
        events: &mut Vec<Event>,
        failing: &mut BTreeSet<usize>,
    ) -> Vec<Heard> {
        if heard.is_empty() {
            return heard;
        }
        let mut busy = BTreeSet::new();
        match self.apply(records, &heard, events).await {
            Ok(places) => busy = places,
            Err(error) if error.stops_all() => {
                tracing::error!(error = chain(&error), event_count = heard.len(), "events could not be applied");
                failing.extend(heard.iter().map(|heard| heard.place));
            }
            Err(_) => {
                for one in heard.chunks(1) {
                    if deadline.saturating_duration_since(Instant::now()) < APART_RESERVE {
                        failing.extend(one.iter().map(|heard| heard.place));
                        continue;
                    }
                    match self.apply(records, one, events).await {
                        Ok(places) => busy.extend(places),
                        Err(error) => {
                            tracing::error!(error = chain(&error), "an event could not be applied");
                            failing.extend(one.iter().map(|heard| heard.place));
                        }
                    }
                }
            }
        }
        heard.retain(|heard| busy.contains(&heard.place));
        heard
    }

    /// Applies events in one transaction. Returns the places of those whose attempts somebody else is writing.
    async fn apply(
        &self,
        records: &[Record],
        heard: &[Heard],
        events: &mut Vec<Event>,
    ) -> Result<BTreeSet<usize>, StoreError> {
        let asked: BTreeSet<AttemptTag> = heard.iter().map(|heard| tag_of(&heard.event)).collect();
        let asked: Vec<AttemptTag> = asked.into_iter().collect();
        let mut taken = take_feedback_across_tenants(&self.database, &asked).await?;
        adapters::failpoint!("V2_taken", Err(StoreError::Corrupt("failpoint")));
        let mut record = FeedbackRecord::default();
        let mut busy = BTreeSet::new();
        for Heard { place, event } in heard {
            let tag = tag_of(event);
            let attempt = match taken.attempts.get(&tag) {
                Some(Taken::Attempt(attempt)) => attempt.clone(),
                Some(Taken::Busy) => {
                    busy.insert(*place);
                    continue;
                }
                None | Some(Taken::Missing) => {
                    ignore(&records[*place], "unknown_attempt", Some(event));
                    continue;
                }
            };
            if let Err(reason) = check_sender(&attempt, event) {
                ignore(&records[*place], reason, Some(event));
            } else if let Some(step) = decide_feedback(attempt.delivery_standing, attempt.standing, event.event) {
                note_step(&mut record, tag, &attempt, event, step);
                stand_by(&mut taken.attempts, tag, &attempt, step, &event.message_id);
            }
        }
        events.extend(taken.write_feedback(&record).await?);
        adapters::failpoint!("V4_committed", Err(StoreError::Corrupt("failpoint")));
        Ok(busy)
    }

    /// Brings the provider's own list of addresses and the account's rate here.
    ///
    /// An address that left the list is removed only by a run that has read the whole of it. The list is read even where the
    /// account says nothing of its rate.
    pub async fn reconcile(
        &self,
        deadline: Instant,
        progress: &Progress<'_>,
    ) -> Result<ReconcileCounts, ReconcileError> {
        let followed = self.follow_rate().await;
        let counts = self.follow_list(deadline, progress).await?;
        let counts = ReconcileCounts { sends_per_second: Some(followed?), ..counts };
        let ReconcileCounts { sends_per_second, listed, added, removed, is_complete } = counts;
        tracing::info!(sends_per_second, listed, added, removed, is_complete, "compared the provider's list");
        Ok(counts)
    }

    async fn follow_rate(&self) -> Result<NonZeroU32, ReconcileError> {
        let sends_per_second = self.account.read_send_rate().await.map_err(ReconcileError::Provider)?;
        set_send_rate_across_tenants(&self.database, sends_per_second).await?;
        Ok(sends_per_second)
    }

    async fn follow_list(&self, deadline: Instant, progress: &Progress<'_>) -> Result<ReconcileCounts, ReconcileError> {
        let mut counts = ReconcileCounts::default();
        let began_at = begin_listing_across_tenants(&self.database).await?;
        let mut listed = Vec::new();
        let mut after: Option<String> = None;
        for _ in 0..MOST_PAGES {
            if deadline.saturating_duration_since(Instant::now()) < RECONCILE_RESERVE {
                break;
            }
            let page = self.account.list_suppressed(after.as_deref()).await.map_err(ReconcileError::Provider)?;
            counts.added += add_listed_across_tenants(&self.database, &page.addresses).await?;
            listed.extend(page.addresses.into_iter().map(|listed| listed.address));
            after = page.next;
            counts.listed = listed.len();
            counts.is_complete = after.is_none();
            if counts.is_complete {
                break;
            }
            progress.note(counts).await;
        }
        if counts.is_complete {
            counts.removed = remove_unlisted_across_tenants(&self.database, &listed, began_at).await?;
        }
        Ok(counts)
    }
}

fn return_after(record: &Record) -> Duration {
    let doublings = record.receive_count.unsigned_abs().saturating_sub(1).min(8);
    LONGEST_RETURN.min(FIRST_RETURN * 2_u32.pow(doublings))
}

fn tag_of(event: &SesEvent) -> AttemptTag {
    let tags = event.tags;
    AttemptTag { tenant: tags.tenant, notification: tags.notification, attempt_number: tags.attempt_number }
}

/// Whether the event can be of the attempt's mail, as far as the row tells.
fn check_sender(attempt: &TakenAttempt, event: &SesEvent) -> Result<(), &'static str> {
    if matches!(attempt.outcome, Some(AttemptOutcome::Sandboxed | AttemptOutcome::NotSent)) {
        // The provider was never called, so somebody else put our tags on a mail.
        return Err("attempt_not_sent");
    }
    match attempt.provider_message_id.as_deref() {
        Some(known) if known != event.message_id => Err("other_message_id"),
        Some(_) => Ok(()),
        // Nobody knows its id, so anybody may have guessed our tags: it has to be a mail to the delivery's address.
        None if attempt.address.as_deref().is_none_or(|address| went_to(event, address)) => Ok(()),
        None => Err("other_address"),
    }
}

fn note_step(
    record: &mut FeedbackRecord,
    tag: AttemptTag,
    attempt: &TakenAttempt,
    event: &SesEvent,
    step: FeedbackStep,
) {
    record.keep_feedback(tag.tenant, attempt, step.feedback, &event.message_id);
    if let Some(standing) = step.delivery {
        record.move_delivery(tag.tenant, attempt, standing, event.detail.clone(), &event.message_id);
    }
    if let Some(address) = attempt.address.as_deref().filter(|_| step.address != AddressStep::Nothing) {
        if went_to(event, address) {
            record.note_address(tag.tenant, address, step.address);
        } else {
            tracing::info!(delivery_id = %attempt.delivery, "the recipient has another address by now; nothing is held against it");
        }
    }
    tracing::info!(
        tenant_id = %tag.tenant,
        notification_id = %tag.notification,
        delivery_id = %attempt.delivery,
        attempt_number = tag.attempt_number,
        feedback = step.feedback.as_str(),
        state = step.delivery.map_or(attempt.delivery_standing.state, |standing| standing.state).as_str(),
        "attempt {} of {} was {}", tag.attempt_number, attempt.delivery, step.feedback
    );
}

/// Later events of the batch find what the earlier ones made of the attempt and of its delivery.
fn stand_by(
    attempts: &mut HashMap<AttemptTag, Taken>,
    tag: AttemptTag,
    decided: &TakenAttempt,
    step: FeedbackStep,
    message_id: &str,
) {
    for (other, taken) in attempts {
        let Taken::Attempt(attempt) = taken else { continue };
        if attempt.delivery != decided.delivery {
            continue;
        }
        attempt.delivery_standing = step.delivery.unwrap_or(attempt.delivery_standing);
        if *other == tag {
            attempt.standing.feedback = Some(step.feedback);
            attempt.provider_message_id.get_or_insert_with(|| message_id.to_owned());
        }
    }
}

/// Whether the mail went to the address that the delivery has now.
fn went_to(event: &SesEvent, address: &str) -> bool {
    let own = EmailAddress::parse(address).ok();
    own.is_some_and(|own| event.destinations.iter().any(|to| to.as_str().eq_ignore_ascii_case(own.as_str())))
}

/// Drops an event with a line that a metric counts.
fn ignore(record: &Record, reason: &'static str, event: Option<&SesEvent>) {
    tracing::warn!(
        metric = "feedback_ignored",
        reason,
        message_id = record.message_id,
        tenant_id = event.map(|event| event.tags.tenant.to_string()),
        notification_id = event.map(|event| event.tags.notification.to_string()),
        "message {} is ignored: {reason}",
        record.message_id
    );
}
