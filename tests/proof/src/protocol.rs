//! What the store's statements do to one delivery, as a pure step: the specification of that SQL.
//!
//! The cast: `domain` decides (how a delivery begins, what an attempt leads to, what is done when something is due);
//! [`step`] has the guards and assignments of the statements around those decisions, one function for each statement,
//! and no decision of its own. A test drives both with the same input and compares every row.
//!
//! Which worker acts, and what of it is lost on the way, is not the step's business: the simulator and the model do that.

use domain::category::{DeliveryRules, UnknownPolicy};
use domain::delivery::{AttemptOutcome, DeliveryState, Reason};
use domain::due::{DueDelivery, DueState, DueStep, decide_due};
use domain::event::event_type;
use domain::feedback::{AddressStep, AttemptStanding, DeliveryStanding, Feedback, MailEvent, decide_feedback};
use domain::notification::start_delivery;
use domain::outcome::{AttemptBudget, Next, Settlement, state_when_withdrawn};
use domain::retry::{self, LONGEST_EARLY, Wake};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// How long a claim holds.
pub const LEASE: Duration = Duration::from_secs(90);

/// A delivery as its row and the rows of its attempts and dead letters show it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    /// Where it stands.
    pub state: DeliveryState,
    /// Why.
    pub reason: Option<Reason>,
    /// The number of the latest attempt.
    pub attempt_count: u32,
    /// Those that do not count.
    pub uncounted_attempt_count: u32,
    /// Those that may be spent.
    pub max_attempts: u32,
    /// What becomes of an attempt of unknown outcome.
    pub unknown_policy: UnknownPolicy,
    /// How long feedback may take, in seconds.
    pub reconcile_window_seconds: u32,
    /// No attempt may begin earlier.
    pub not_before: Timestamp,
    /// When the dispatcher has to look at it.
    pub due_at: Option<Timestamp>,
    /// The time in line that it was promised.
    pub slot_at: Option<Timestamp>,
    /// How often it was published without being claimed.
    pub publish_count: u32,
    /// When the provider took it.
    pub sent_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Whether it was withdrawn when it was too late to cancel it.
    pub is_withdrawn: bool,
    /// When it is too late to send it: the notification's.
    pub expires_at: Option<Timestamp>,
    /// Whether the provider must not be called: the notification's.
    pub is_sandbox: bool,
    /// Its attempts, by number.
    pub attempts: Vec<AttemptRow>,
    /// Its dead letters.
    pub dead_letters: Vec<DeadLetterRow>,
}

/// An attempt as its row shows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AttemptRow {
    /// Its number, from 1.
    pub number: u32,
    /// Its id, which the worker made before it claimed.
    pub id: u64,
    /// How it ended; `None` while it runs.
    pub outcome: Option<AttemptOutcome>,
    /// When `unknown` was first written as its outcome; the audit log shows it.
    pub declared_unknown_at: Option<Timestamp>,
    /// Whether the provider failed, and `at_least_once` repeats it without waiting for feedback.
    pub has_server_failed: bool,
    /// The strongest thing that was said of its mail.
    pub feedback: Option<Feedback>,
    /// When anything was first said of it; the audit log shows it.
    pub feedback_at: Option<Timestamp>,
    /// When it was claimed.
    pub started_at: Timestamp,
    /// When its outcome was written.
    pub finished_at: Option<Timestamp>,
}

/// A dead letter as its row shows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DeadLetterRow {
    /// The queue's id of its message.
    pub message: u64,
    /// Why it died.
    pub reason: String,
    /// Whether it was redriven.
    pub is_redriven: bool,
}

/// What a notification asks of its delivery.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The rules of its category.
    pub rules: DeliveryRules,
    /// When to send.
    pub send_at: Timestamp,
    /// When it is too late.
    pub expires_at: Option<Timestamp>,
    /// Whether the provider must not be called.
    pub is_sandbox: bool,
}

/// What the claim may do with a delivery that is ready, as suppressions, breakers and the pace have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send it.
    Claim,
    /// Its address is suppressed.
    Skip,
    /// A breaker is open.
    Hold {
        /// Why.
        reason: Reason,
        /// Until when.
        until: Timestamp,
    },
    /// The account's rate is used up.
    Pace {
        /// Until when.
        until: Timestamp,
        /// The time in line that it keeps.
        slot_at: Option<Timestamp>,
    },
}

/// What a statement is asked to do to a delivery.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// `claim_deliveries`: claim it, where it is ready; the verdict holds for a ready one.
    Claim {
        /// An id for the attempt.
        id: u64,
        /// What may be done with it.
        verdict: Verdict,
    },
    /// `hand_back_claims`: the claim with this id was never answered; nothing was sent for it.
    HandBack {
        /// The attempt's id.
        id: u64,
    },
    /// `record_attempts`: write what an attempt came to.
    Record {
        /// The attempt's number.
        attempt: u32,
        /// As `domain` settled it.
        settlement: Settlement,
    },
    /// `take_due` and `write_due_steps`: see to it, where its time has come.
    Due,
    /// `release`: the queue did not take its message.
    Release,
    /// `take_feedback` and `write_feedback`: the provider said something of an attempt's mail.
    Feedback {
        /// The attempt's number.
        attempt: u32,
        /// What it said.
        event: MailEvent,
    },
    /// `cancel_notification`.
    Cancel,
    /// `redrive_dead_letters`.
    Redrive,
    /// `store_dead_letters`: a message that names it came to the dead-letter queue.
    StoreDeadLetter {
        /// The queue's id of the message.
        message: u64,
        /// Why.
        reason: String,
    },
}

/// What follows outside of the row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The attempt is the caller's to make.
    Claimed(Claimed),
    /// It is not its time yet.
    TooEarly(Duration),
    /// Nothing is to be done.
    NotOpen,
    /// The outcome is the delivery's.
    Recorded,
    /// The outcome is an attempt's that the delivery does not wait for any more.
    Fenced,
    /// Publish a message for it, held back for so long.
    Publish(Duration),
    /// Put its message into the dead-letter queue.
    Bury,
    /// Do this to the address, for the delivery's tenant.
    Address(AddressStep),
    /// Tell others, with this type of event.
    Tell(&'static str),
    /// The audit log has a row for it.
    Moved(DeliveryState, DeliveryState),
}

/// What a worker knows of its claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The attempt's number.
    pub attempt: u32,
    /// Attempts, this one included.
    pub budget: AttemptBudget,
    /// The rules that the delivery began with.
    pub rules: DeliveryRules,
    /// Whether its expiry has passed.
    pub is_expired: bool,
    /// Whether the provider must not be called.
    pub is_sandbox: bool,
}

/// A delivery as `accept_notifications` stores it, and how long its first message is held back where it is published.
pub fn accept(asked: &Asked, now: Timestamp) -> (Row, Option<Duration>) {
    let start = start_delivery(asked.send_at.max(now), now);
    let row = Row {
        state: start.state,
        reason: None,
        attempt_count: 0,
        uncounted_attempt_count: 0,
        max_attempts: asked.rules.max_attempts,
        unknown_policy: asked.rules.unknown_policy,
        reconcile_window_seconds: asked.rules.reconcile_window_seconds,
        not_before: asked.send_at.max(now),
        due_at: Some(start.due_at),
        slot_at: None,
        publish_count: u32::from(start.state == DeliveryState::Queued),
        sent_at: None,
        finished_at: None,
        is_withdrawn: false,
        expires_at: asked.expires_at,
        is_sandbox: asked.is_sandbox,
        attempts: Vec::new(),
        dead_letters: Vec::new(),
    };
    (row, start.publish_delay)
}

/// What a statement makes of a delivery, and what follows.
pub fn step(row: &Row, input: &Input, now: Timestamp) -> (Row, Vec<Effect>) {
    let mut next = row.clone();
    let mut effects = match input {
        Input::Claim { id, verdict } => claim(&mut next, *id, *verdict, now),
        Input::HandBack { id } => hand_back(&mut next, *id, now),
        Input::Record { attempt, settlement } => record(&mut next, *attempt, settlement, now),
        Input::Due => see_to(&mut next, now),
        Input::Release => release(&mut next, now),
        Input::Feedback { attempt, event } => hear(&mut next, *attempt, *event, now),
        Input::Cancel => cancel(&mut next, now),
        Input::Redrive => redrive(&mut next, now),
        Input::StoreDeadLetter { message, reason } => store_dead_letter(&mut next, *message, reason, now),
    };
    if next.state != row.state {
        effects.push(Effect::Moved(row.state, next.state));
    }
    (next, effects)
}

impl Row {
    /// The rules that it began with.
    pub const fn rules(&self) -> DeliveryRules {
        DeliveryRules {
            max_attempts: self.max_attempts,
            unknown_policy: self.unknown_policy,
            reconcile_window_seconds: self.reconcile_window_seconds,
        }
    }

    /// Attempts that count.
    pub const fn spent(&self) -> u32 {
        self.attempt_count.saturating_sub(self.uncounted_attempt_count)
    }

    /// Whether a claim may take it.
    pub fn is_ready(&self, now: Timestamp) -> bool {
        matches!(self.state, DeliveryState::Queued | DeliveryState::Held)
            && self.not_before <= now
            && self.spent() < self.max_attempts
    }

    /// The table's constraint that the row breaks, if any.
    pub fn broken_constraint(&self) -> Option<&'static str> {
        use DeliveryState::*;
        let is_one_of = |states: &[DeliveryState]| states.contains(&self.state);
        let ended = [Delivered, Bounced, Complained, Skipped, Canceled, Expired, Failed, Dead, Absorbed];
        let reasoned = [Held, Unknown, Bounced, Complained, Skipped, Canceled, Expired, Failed, Dead, Absorbed];
        let rules = [
            ("open_delivery_is_due", self.state == Dead || self.state.is_open() == self.due_at.is_some()),
            (
                "sent_delivery_has_a_send_time",
                is_one_of(&[Sent, Delivered, Bounced, Complained]) == self.sent_at.is_some(),
            ),
            ("ended_delivery_has_an_end_time", is_one_of(&ended) == self.finished_at.is_some()),
            ("unsuccessful_delivery_has_a_reason", is_one_of(&reasoned) == self.reason.is_some()),
            ("uncounted_attempts_were_made", self.uncounted_attempt_count <= self.attempt_count),
            ("attempts_are_bounded", self.spent() <= self.max_attempts),
            ("sending_delivery_has_an_attempt", self.state != Sending || self.attempt_count > 0),
        ];
        rules.into_iter().find(|(_, holds)| !holds).map(|(name, _)| name)
    }
}

fn claim(row: &mut Row, id: u64, verdict: Verdict, now: Timestamp) -> Vec<Effect> {
    if !row.is_ready(now) {
        let wait = whole_seconds_up(row.not_before.duration_since(now));
        let is_early = matches!(row.state, DeliveryState::Queued | DeliveryState::Held) && !wait.is_zero();
        return vec![if is_early { Effect::TooEarly(wait) } else { Effect::NotOpen }];
    }
    row.reason = None;
    row.slot_at = None;
    row.publish_count = 0;
    match verdict {
        Verdict::Claim => {
            let is_expired = row.expires_at.is_some_and(|at| at <= now);
            row.state = DeliveryState::Sending;
            row.attempt_count += 1;
            row.due_at = Some(after(now, LEASE));
            row.attempts.push(AttemptRow {
                number: row.attempt_count,
                id,
                outcome: None,
                declared_unknown_at: None,
                has_server_failed: false,
                feedback: None,
                feedback_at: None,
                started_at: now,
                finished_at: None,
            });
            vec![Effect::Claimed(Claimed {
                attempt: row.attempt_count,
                budget: AttemptBudget { spent: row.spent(), made: row.attempt_count },
                rules: row.rules(),
                is_expired,
                is_sandbox: row.is_sandbox,
            })]
        }
        Verdict::Skip => {
            row.state = DeliveryState::Skipped;
            row.reason = Some(Reason::AddressSuppressed);
            row.due_at = None;
            row.finished_at = Some(now);
            told(vec![Effect::NotOpen], row.state)
        }
        Verdict::Hold { reason, until } => {
            row.state = DeliveryState::Held;
            row.reason = Some(reason);
            row.not_before = until;
            row.due_at = Some(until);
            vec![Effect::NotOpen]
        }
        Verdict::Pace { until, slot_at } => {
            row.state = DeliveryState::Queued;
            row.not_before = until;
            let keeps_message = until <= after(now, LONGEST_EARLY);
            let grace = if keeps_message { retry::republish_after(1) } else { Duration::ZERO };
            row.due_at = Some(after(until, grace));
            row.slot_at = slot_at;
            vec![Effect::TooEarly(whole_seconds_up(until.duration_since(now)))]
        }
    }
}

fn hand_back(row: &mut Row, id: u64, now: Timestamp) -> Vec<Effect> {
    let open = row.attempts.iter_mut().find(|attempt| attempt.id == id && attempt.finished_at.is_none());
    let Some(attempt) = open else { return vec![Effect::NotOpen] };
    attempt.outcome = Some(AttemptOutcome::NotSent);
    attempt.finished_at = Some(now);
    if row.state != DeliveryState::Sending || row.attempt_count != attempt.number {
        return vec![Effect::Fenced];
    }
    row.uncounted_attempt_count += 1;
    if row.is_withdrawn {
        return give_up(row, now);
    }
    row.state = DeliveryState::Queued;
    row.due_at = Some(now);
    vec![Effect::Recorded]
}

fn record(row: &mut Row, number: u32, settlement: &Settlement, now: Timestamp) -> Vec<Effect> {
    let Settlement { state, reason, outcome, counted, next, .. } = settlement;
    if let Some(attempt) = row.attempts.iter_mut().find(|attempt| attempt.number == number) {
        attempt.outcome = Some(*outcome);
        attempt.finished_at = Some(now);
        if *outcome == AttemptOutcome::Unknown {
            attempt.declared_unknown_at = attempt.declared_unknown_at.or(Some(now));
            attempt.has_server_failed = *state != DeliveryState::Unknown;
        }
    }
    let is_awaited =
        row.state == DeliveryState::Sending || (row.state == DeliveryState::Unknown && *state == DeliveryState::Sent);
    if row.attempt_count != number || !is_awaited {
        return vec![Effect::Fenced];
    }
    let (wait, due) = match *next {
        Next::Nothing => (None, None),
        Next::Retry { wait, wake: Wake::Message } => (Some(wait), Some(wait + retry::republish_after(1))),
        Next::Retry { wait, wake: Wake::Dispatcher } => (Some(wait), Some(wait)),
        Next::Feedback { window } => (None, Some(window)),
        Next::DeadLetter => (None, Some(retry::rebury_after(0))),
    };
    row.uncounted_attempt_count += u32::from(!counted);
    row.not_before = wait.map_or(row.not_before, |wait| after(now, wait));
    if row.is_withdrawn && state_when_withdrawn(*state, *outcome) != *state {
        if state_when_withdrawn(*state, *outcome) == DeliveryState::Canceled {
            return give_up(row, now);
        }
        row.state = DeliveryState::Unknown;
        row.reason = Some(Reason::OutcomeUnknown);
        row.due_at = Some(after(now, Duration::from_secs(row.reconcile_window_seconds.into())));
        return told(vec![Effect::Fenced], row.state);
    }
    row.state = *state;
    row.reason = *reason;
    row.due_at = due.map(|due| after(now, due));
    row.sent_at = (*state == DeliveryState::Sent).then_some(now);
    let is_end =
        matches!(state, DeliveryState::Failed | DeliveryState::Expired | DeliveryState::Dead | DeliveryState::Skipped);
    row.finished_at = is_end.then_some(now);
    told(vec![Effect::Recorded], *state)
}

fn see_to(row: &mut Row, now: Timestamp) -> Vec<Effect> {
    let Some(waits_for) = DueState::of(row.state).filter(|_| row.due_at.is_some_and(|at| at <= now)) else {
        return vec![Effect::NotOpen];
    };
    let due = DueDelivery {
        state: waits_for,
        now,
        not_before: row.not_before,
        expires_at: row.expires_at,
        spent: row.spent(),
        publish_count: row.publish_count,
        is_withdrawn: row.is_withdrawn,
        rules: row.rules(),
    };
    let mut effects = Vec::new();
    match decide_due(&due) {
        DueStep::Publish { delay, again_after } => {
            row.state = DeliveryState::Queued;
            row.reason = None;
            row.due_at = Some(after(now, again_after));
            row.publish_count += 1;
            row.finished_at = None;
            effects.push(Effect::Publish(delay));
        }
        DueStep::AwaitFeedback { window } => {
            row.state = DeliveryState::Unknown;
            row.reason = Some(Reason::LeaseExpired);
            row.due_at = Some(after(now, window));
            row.finished_at = None;
            let number = row.attempt_count;
            let open = row.attempts.iter_mut().find(|it| it.number == number && it.finished_at.is_none());
            if let Some(attempt) = open {
                attempt.outcome = Some(AttemptOutcome::Unknown);
                attempt.declared_unknown_at = attempt.declared_unknown_at.or(Some(now));
                attempt.finished_at = Some(now);
            }
            effects = told(effects, row.state);
        }
        DueStep::DeadLetter(died_now) => {
            row.state = DeliveryState::Dead;
            row.reason = Some(died_now.unwrap_or(Reason::AttemptsUsedUp));
            row.due_at = Some(after(now, retry::rebury_after(row.publish_count)));
            row.publish_count += 1;
            row.finished_at = row.finished_at.or(Some(now));
            effects.push(Effect::Bury);
            if died_now.is_some() {
                effects = told(effects, row.state);
            }
        }
        DueStep::End(state, reason) => {
            row.state = state;
            row.reason = Some(reason);
            row.due_at = None;
            row.finished_at = row.finished_at.or(Some(now));
            effects = told(effects, state);
        }
    }
    effects
}

fn release(row: &mut Row, now: Timestamp) -> Vec<Effect> {
    if matches!(row.state, DeliveryState::Queued | DeliveryState::Dead) {
        row.due_at = Some(now);
        row.publish_count = row.publish_count.saturating_sub(1);
    }
    Vec::new()
}

fn hear(row: &mut Row, number: u32, event: MailEvent, now: Timestamp) -> Vec<Effect> {
    let standing = DeliveryStanding { state: row.state, reason: row.reason };
    let is_latest = number == row.attempt_count;
    let Some(attempt) = row.attempts.iter_mut().find(|attempt| attempt.number == number) else {
        return vec![Effect::NotOpen];
    };
    // The provider was never called: somebody else put our tags on a mail.
    if matches!(attempt.outcome, Some(AttemptOutcome::Sandboxed | AttemptOutcome::NotSent)) {
        return vec![Effect::NotOpen];
    }
    let known = AttemptStanding { feedback: attempt.feedback, is_latest };
    let Some(step) = decide_feedback(standing, known, event) else { return vec![Effect::NotOpen] };
    attempt.feedback = Some(step.feedback);
    attempt.feedback_at = attempt.feedback_at.or(Some(now));
    attempt.outcome = attempt.outcome.or(Some(AttemptOutcome::Sent));
    attempt.finished_at = attempt.finished_at.or(Some(now));
    let mut effects = vec![Effect::Address(step.address)];
    if let Some(DeliveryStanding { state, reason }) = step.delivery {
        let has_moved = state != row.state;
        row.state = state;
        row.reason = reason;
        row.due_at = None;
        row.slot_at = None;
        row.publish_count = 0;
        row.sent_at = if state == DeliveryState::Failed { None } else { row.sent_at.or(Some(now)) };
        row.finished_at = (state != DeliveryState::Sent).then_some(now);
        if has_moved {
            effects = told(effects, state);
        }
    }
    effects
}

/// What was withdrawn while its attempt was made, which surely sent nothing.
fn give_up(row: &mut Row, now: Timestamp) -> Vec<Effect> {
    row.state = DeliveryState::Canceled;
    row.reason = Some(Reason::CanceledByCaller);
    row.due_at = None;
    row.finished_at = Some(now);
    told(vec![Effect::Fenced], row.state)
}

fn cancel(row: &mut Row, now: Timestamp) -> Vec<Effect> {
    use DeliveryState::{Absorbed, Dead, Held, Queued, Scheduled, Sending, Unknown};
    if !matches!(row.state, Scheduled | Queued | Held) {
        // Too late; it is not sent again.
        row.is_withdrawn |= matches!(row.state, Sending | Unknown | Dead | Absorbed);
        return vec![Effect::NotOpen];
    }
    row.state = DeliveryState::Canceled;
    row.reason = Some(Reason::CanceledByCaller);
    row.due_at = None;
    row.finished_at = Some(now);
    told(Vec::new(), row.state)
}

fn redrive(row: &mut Row, now: Timestamp) -> Vec<Effect> {
    // What the provider has told of an attempt's mail says that it went out: it would be sent twice. What was withdrawn is to
    // be sent by nobody.
    let was_heard_of = row.attempts.iter().any(|attempt| attempt.feedback.is_some());
    if row.state != DeliveryState::Dead || row.dead_letters.is_empty() || was_heard_of || row.is_withdrawn {
        return vec![Effect::NotOpen];
    }
    row.state = DeliveryState::Queued;
    row.reason = None;
    row.finished_at = None;
    row.uncounted_attempt_count = row.attempt_count;
    row.not_before = now;
    row.due_at = Some(after(now, retry::republish_after(1)));
    row.publish_count = 1;
    row.dead_letters.iter_mut().for_each(|letter| letter.is_redriven = true);
    vec![Effect::Publish(Duration::ZERO)]
}

fn store_dead_letter(row: &mut Row, message: u64, reason: &str, now: Timestamp) -> Vec<Effect> {
    let is_stored = row
        .dead_letters
        .iter()
        .any(|letter| letter.message == message || (!letter.is_redriven && letter.reason == reason));
    let mut effects = Vec::new();
    if !is_stored {
        row.dead_letters.push(DeadLetterRow { message, reason: reason.to_owned(), is_redriven: false });
        effects.push(Effect::Tell("dead_letter.added"));
    }
    match row.state {
        // The message of an earlier death, which was redriven, may come again: this death's is still to come then.
        DeliveryState::Dead if row.dead_letters.iter().all(|letter| letter.is_redriven) => {}
        DeliveryState::Dead => row.due_at = None,
        DeliveryState::Queued | DeliveryState::Held if row.not_before <= now => row.due_at = Some(now),
        _ => {}
    }
    effects
}

fn told(mut effects: Vec<Effect>, state: DeliveryState) -> Vec<Effect> {
    effects.extend(event_type(state).map(Effect::Tell));
    effects
}

/// As `now() + make_interval(secs => …)` has it: parts of a second are cut off before.
fn after(now: Timestamp, wait: Duration) -> Timestamp {
    now + SignedDuration::from_secs(wait.as_secs().cast_signed())
}

/// As `greatest(0, ceil(extract(epoch FROM …)))` has it.
fn whole_seconds_up(wait: SignedDuration) -> Duration {
    let seconds = wait.as_secs() + i64::from(wait.subsec_nanos() > 0);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
