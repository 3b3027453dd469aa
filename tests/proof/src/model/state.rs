//! A state of the model: each delivery with its messages and its mails, and what each worker has in its hands.

use super::{Answer, Bounds, MOST_COPIES, bit, seconds};
use crate::check::Invariant;
use crate::protocol::{Effect, Input, Row, step};
use domain::category::UnknownPolicy;
use domain::delivery::{DeliveryState, Reason};
use domain::feedback::Feedback;
use jiff::{SignedDuration, Timestamp};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::Duration;

/// The present: all times of a state are relative to it.
pub(super) const NOW: Timestamp = Timestamp::UNIX_EPOCH;
/// Publications after which no further one changes anything but its spacing.
const MOST_PUBLICATIONS: u32 = 1;

/// A delivery, with everything outside of its row that concerns it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lane {
    pub(super) row: Row,
    /// Its messages in the queue.
    pub(super) messages: u8,
    /// Its messages in the dead-letter queue.
    pub(super) dead_messages: u8,
    /// Attempts for which the provider was called.
    pub(super) called: u16,
    /// Attempts whose mail it took.
    pub(super) accepted: u16,
    pub(super) is_suppressed: bool,
    /// The first invariant that was broken.
    pub(super) broken: Option<Invariant>,
}

/// What a worker has in its hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Hand {
    /// Nothing.
    Free,
    /// An attempt that it may make.
    Claimed {
        /// Of which delivery.
        place: usize,
        /// Its number.
        attempt: u32,
        /// Attempts that count.
        spent: u32,
        /// Attempts in all.
        made: u32,
    },
    /// An attempt whose end it has to record.
    Answered {
        /// Of which delivery.
        place: usize,
        /// Its number.
        attempt: u32,
        /// Attempts that count.
        spent: u32,
        /// Attempts in all.
        made: u32,
        /// What it knows.
        answer: Answer,
    },
}

impl Hand {
    pub(super) const fn place(&self) -> Option<usize> {
        match self {
            Self::Free => None,
            Self::Claimed { place, .. } | Self::Answered { place, .. } => Some(*place),
        }
    }

    const fn attempt(&self) -> Option<u32> {
        match self {
            Self::Free => None,
            Self::Claimed { attempt, .. } | Self::Answered { attempt, .. } => Some(*attempt),
        }
    }
}

/// A state of the model.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub(super) lanes: Vec<Lane>,
    pub(super) hands: [Hand; 2],
    pub(super) left: Bounds,
}

impl Lane {
    /// What a statement does to the row; a move that is not allowed is kept in mind.
    pub(super) fn apply(&mut self, input: &Input) -> Vec<Effect> {
        let before = self.row.clone();
        let (row, effects) = step(&self.row, input, NOW);
        self.row = row;
        let is_allowed = before.state == self.row.state || before.state.may_become(self.row.state);
        if !is_allowed {
            self.break_rule(Invariant::I5);
        }
        match self.row.broken_constraint() {
            Some("attempts_are_bounded" | "uncounted_attempts_were_made") => self.break_rule(Invariant::I6),
            Some("open_delivery_is_due") => self.break_rule(Invariant::I1),
            Some(_) => self.break_rule(Invariant::I5),
            None => {}
        }
        let has_claimed = effects.iter().any(|effect| matches!(effect, Effect::Claimed(_)));
        if self.row.attempt_count != before.attempt_count + u32::from(has_claimed) {
            self.break_rule(Invariant::I6);
        }
        effects
    }

    pub(super) fn break_rule(&mut self, invariant: Invariant) {
        self.broken = self.broken.or(Some(invariant));
    }

    /// The provider gets an attempt's mail.
    pub(super) fn call(&mut self, attempt: u32, was_accepted: bool) {
        let is_claimed = self.row.attempts.iter().any(|claimed| claimed.number == attempt);
        if !is_claimed || self.called & bit(attempt) != 0 {
            self.break_rule(Invariant::I2);
        }
        self.called |= bit(attempt);
        if was_accepted {
            self.accepted |= bit(attempt);
        }
    }

    /// Whether another mail would be one that the policy declares: after each that was taken, `unknown` was written and
    /// the window has passed without feedback.
    pub(super) fn may_be_sent_again(&self) -> bool {
        let window = SignedDuration::from_secs(self.row.reconcile_window_seconds.into());
        self.row.attempts.iter().filter(|attempt| self.accepted & bit(attempt.number) != 0).all(|attempt| {
            self.row.unknown_policy == UnknownPolicy::AtLeastOnce
                && attempt.feedback.is_none()
                && attempt.declared_unknown_at.is_some_and(|at| attempt.has_server_failed || at + window <= NOW)
        })
    }

    /// Whether a cancel changes anything.
    pub(super) fn may_be_withdrawn(&self) -> bool {
        use DeliveryState::{Dead, Held, Queued, Sending, Unknown};
        matches!(self.row.state, Queued | Held)
            || (!self.row.is_withdrawn && matches!(self.row.state, Sending | Unknown | Dead))
    }

    /// The dispatcher sees to it, and publishes, or dies before.
    pub(super) fn see_to(&mut self, publishes: bool) {
        let effects = self.apply(&Input::Due);
        if publishes {
            self.publish(&effects);
        }
    }

    /// Does what a step wants of the queues.
    pub(super) fn publish(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Publish(_) => self.messages = (self.messages + 1).min(MOST_COPIES),
                Effect::Bury => self.dead_messages = 1,
                _ => {}
            }
        }
    }

    /// The dead-letter function gets its message. Each burial is a message of its own.
    pub(super) fn store_dead_letter(&mut self) {
        self.dead_messages = 0;
        self.store_letter_of(self.row.dead_letters.len() as u64);
    }

    /// It gets a message that has been stored before.
    pub(super) fn store_dead_letter_again(&mut self) {
        self.store_letter_of(0);
    }

    fn store_letter_of(&mut self, message: u64) {
        self.apply(&Input::StoreDeadLetter { message, reason: "attempts_used_up".to_owned() });
    }

    /// How long until the next moment that it waits for.
    pub(super) fn next_moment(&self) -> Option<Duration> {
        let due = self.row.due_at;
        // Its message is hidden until then.
        let begin = Some(self.row.not_before).filter(|_| self.messages > 0);
        let moments = due.into_iter().chain(begin).filter(|at| *at > NOW);
        moments.min().map(|at| seconds(at.duration_since(NOW).as_secs().unsigned_abs()))
    }

    /// Time goes on.
    pub(super) fn pass(&mut self, time: Duration) {
        let time = SignedDuration::from_secs(time.as_secs().cast_signed());
        let row = &mut self.row;
        row.not_before -= time;
        row.due_at = row.due_at.map(|at| at - time);
        for attempt in &mut row.attempts {
            attempt.declared_unknown_at = attempt.declared_unknown_at.map(|at| at - time);
        }
    }

    /// Makes equal what nothing that follows can tell apart. `held` are the attempts that workers have in their hands.
    pub(super) fn tidy(&mut self, held: u16) {
        let row = &mut self.row;
        let window = SignedDuration::from_secs(row.reconcile_window_seconds.into());
        // Whoever has no worker any more is never going to be called.
        self.called |= (bit(row.attempt_count + 1) - 1) & !held;
        row.not_before = row.not_before.max(NOW);
        row.due_at = row.due_at.map(|at| at.max(NOW));
        row.sent_at = row.sent_at.map(|_| NOW);
        row.finished_at = row.finished_at.map(|_| NOW);
        row.publish_count = row.publish_count.min(MOST_PUBLICATIONS);
        if row.state == DeliveryState::Unknown {
            row.reason = Some(Reason::OutcomeUnknown);
        }
        let has_ended = !row.state.is_open();
        let may_be_redriven = row.state == DeliveryState::Dead && !row.is_withdrawn;
        // Nothing more follows of what has ended; whether it was withdrawn tells only what is dead from what may be redriven.
        row.is_withdrawn &= !has_ended || row.state == DeliveryState::Dead;
        // A redrive asks whether anything was heard of any attempt, and nothing else does once it has ended.
        let was_heard_of = may_be_redriven && row.attempts.iter().any(|attempt| attempt.feedback.is_some());
        let awaited = if row.state == DeliveryState::Sending { row.attempt_count } else { 0 };
        for attempt in &mut row.attempts {
            attempt.started_at = NOW;
            // Whether it has an outcome matters to the end of a lease, and which one to nothing.
            attempt.outcome = None;
            if attempt.number != awaited {
                attempt.finished_at = Some(NOW);
            }
            if has_ended {
                attempt.feedback = (was_heard_of && attempt.number == 1).then_some(Feedback::Sent);
            }
            attempt.feedback_at = attempt.feedback.map(|_| NOW);
            // Only of a mail that was taken, or may be yet, it matters what was declared; and only where one may follow.
            let declared_at = attempt.declared_unknown_at.filter(|_| {
                (!has_ended || may_be_redriven)
                    && (self.accepted & bit(attempt.number) != 0 || self.called & bit(attempt.number) == 0)
            });
            // A repetition that need not wait is like one that has waited.
            attempt.declared_unknown_at =
                declared_at.map(|at| if attempt.has_server_failed { NOW - window } else { at.max(NOW - window) });
            attempt.has_server_failed = false;
        }
    }

    /// Makes equal what a worker may know, where the delivery does not wait for it any more.
    fn tidy_hand(&self, hand: &mut Hand) {
        let is_awaited = |attempt: u32| {
            attempt == self.row.attempt_count
                && matches!(self.row.state, DeliveryState::Sending | DeliveryState::Unknown)
        };
        match hand {
            Hand::Claimed { attempt, spent, .. } if !is_awaited(*attempt) => *spent = 0,
            Hand::Answered { attempt, spent, answer, .. } => {
                *answer = match *answer {
                    Answer::Lost | Answer::Silent => Answer::Silent,
                    Answer::FailedAfter | Answer::Failed => Answer::Failed,
                    // What is fenced is told apart by nothing. The one that would do the most harm stands for all.
                    _ if !is_awaited(*attempt) => Answer::Unreached,
                    other => other,
                };
                if !is_awaited(*attempt) {
                    *spent = 0;
                }
            }
            Hand::Claimed { .. } | Hand::Free => {}
        }
    }
}

impl State {
    /// Makes equal what is alike: what does not matter any more, two workers, and two deliveries of one policy.
    pub(super) fn tidy(&mut self) {
        for hand in &mut self.hands {
            if let Some(place) = hand.place() {
                self.lanes[place].tidy_hand(hand);
            }
        }
        for (place, lane) in self.lanes.iter_mut().enumerate() {
            let held = self.hands.iter().filter(|hand| hand.place() == Some(place));
            lane.tidy(held.filter_map(Hand::attempt).fold(0, |bits, attempt| bits | bit(attempt)));
        }
        self.sort_lanes();
        let rank = |hand: &Hand| match *hand {
            Hand::Free => (0, 0, 0, 0),
            Hand::Claimed { place, attempt, .. } => (1, place, attempt, 0),
            Hand::Answered { place, attempt, answer, .. } => (2, place, attempt, answer as u8),
        };
        self.hands.sort_by_key(rank);
    }

    /// Two deliveries of one policy are alike: which of them is the first does not matter.
    fn sort_lanes(&mut self) {
        let [first, second] = self.lanes.as_mut_slice() else { return };
        // Any order will do that is always the same.
        let hash = BuildHasherDefault::<DefaultHasher>::default();
        if first.row.unknown_policy == second.row.unknown_policy && hash.hash_one(&*first) > hash.hash_one(&*second) {
            std::mem::swap(first, second);
            for hand in &mut self.hands {
                if let Hand::Claimed { place, .. } | Hand::Answered { place, .. } = hand {
                    *place = 1 - *place;
                }
            }
        }
    }
}
