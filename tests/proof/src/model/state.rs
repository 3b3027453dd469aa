//! A state of the model: each delivery with its messages and its mails, and what each worker has in its hands.

use super::{Answer, Bounds, MOST_COPIES, bit, seconds};
use crate::check::Invariant;
use crate::protocol::{Effect, Input, Row, step};
use domain::category::UnknownPolicy;
use jiff::{SignedDuration, Timestamp};
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

    pub(super) fn store_dead_letter(&mut self) {
        self.dead_messages = 0;
        self.apply(&Input::StoreDeadLetter { message: 0, reason: "attempts_used_up".to_owned() });
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

    /// Makes equal what differs only in how long ago it was.
    pub(super) fn tidy(&mut self) {
        let row = &mut self.row;
        let window = SignedDuration::from_secs(row.reconcile_window_seconds.into());
        row.not_before = row.not_before.max(NOW);
        row.due_at = row.due_at.map(|at| at.max(NOW));
        row.sent_at = row.sent_at.map(|_| NOW);
        row.finished_at = row.finished_at.map(|_| NOW);
        row.publish_count = row.publish_count.min(MOST_PUBLICATIONS);
        let latest = row.attempt_count;
        for attempt in &mut row.attempts {
            attempt.started_at = NOW;
            attempt.feedback_at = attempt.feedback_at.map(|_| NOW);
            // Whether it has an outcome matters to the end of a lease, and which one to nothing.
            attempt.outcome = None;
            attempt.finished_at = attempt.finished_at.map(|_| NOW).or_else(|| (attempt.number < latest).then_some(NOW));
            // Only of a mail that was taken, or may be yet, it matters what was declared.
            let declared_at = attempt
                .declared_unknown_at
                .filter(|_| self.accepted & bit(attempt.number) != 0 || self.called & bit(attempt.number) == 0);
            // A repetition that need not wait is like one that has waited.
            attempt.declared_unknown_at =
                declared_at.map(|at| if attempt.has_server_failed { NOW - window } else { at.max(NOW - window) });
            attempt.has_server_failed = false;
        }
    }
}

impl State {
    /// Time goes on to the next moment that anything waits for. `None` where nothing waits.
    pub(super) fn pass(&mut self) -> Option<()> {
        let time = self.lanes.iter().filter_map(Lane::next_moment).min()?;
        self.lanes.iter_mut().for_each(|lane| lane.pass(time));
        Some(())
    }

    /// Makes equal what is alike: times long ago, and two workers.
    pub(super) fn tidy(&mut self) {
        self.lanes.iter_mut().for_each(Lane::tidy);
        let rank = |hand: &Hand| match *hand {
            Hand::Free => (0, 0, 0, 0),
            Hand::Claimed { place, attempt, .. } => (1, place, attempt, 0),
            Hand::Answered { place, attempt, answer, .. } => (2, place, attempt, answer as u8),
        };
        self.hands.sort_by_key(rank);
    }
}
