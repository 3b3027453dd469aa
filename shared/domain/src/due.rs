//! What the dispatcher does with a delivery whose due time has come.

use crate::category::{DeliveryRules, UnknownPolicy};
use crate::delivery::{DeliveryState, Reason};
use crate::retry;
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// How long before its time a scheduled delivery is published, so that it leaves on the second:
/// the queue holds it back for the rest. More than the dispatcher's minute, less than the queue's 15 minutes.
pub const PUBLISH_LEAD: SignedDuration = SignedDuration::from_secs(120);

/// The longest that a queue holds a message back (`DelaySeconds`).
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-delay-queues.html>
pub const LONGEST_DELAY: SignedDuration = SignedDuration::from_secs(900);

/// What a due delivery was waiting for. The states that no delivery can be due in have no place here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DueState {
    /// `scheduled`, `queued` or `held`: its message.
    Publishing,
    /// `sending`: the outcome, which its worker did not record within the lease.
    Recording,
    /// `unknown`: feedback, which did not come within the window.
    Settling,
    /// `dead`: its dead letter, which is not stored yet.
    Burying,
}

impl DueState {
    /// What a delivery in this state waits for; `None` for the ends, which are never due.
    pub const fn of(state: DeliveryState) -> Option<Self> {
        match state {
            DeliveryState::Scheduled | DeliveryState::Queued | DeliveryState::Held => Some(Self::Publishing),
            DeliveryState::Sending => Some(Self::Recording),
            DeliveryState::Unknown => Some(Self::Settling),
            DeliveryState::Dead => Some(Self::Burying),
            _ => None,
        }
    }
}

/// A delivery as the dispatcher takes it, with the database's clock.
#[derive(Clone, Debug)]
pub struct DueDelivery {
    /// What it was waiting for.
    pub state: DueState,
    /// The database's time.
    pub now: Timestamp,
    /// No attempt may begin earlier.
    pub not_before: Timestamp,
    /// When it is too late to send it.
    pub expires_at: Option<Timestamp>,
    /// Attempts that count.
    pub spent: u32,
    /// How often it was published without being claimed.
    pub publish_count: u32,
    /// Whether it was withdrawn, too late to cancel what had begun.
    pub is_withdrawn: bool,
    /// The rules that it began with.
    pub rules: DeliveryRules,
}

/// What becomes of a due delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DueStep {
    /// Publish a message for it, held back for `delay`.
    Publish {
        /// How long the queue holds the message back.
        delay: Duration,
        /// How long after now it is published again if nobody claims it.
        again_after: Duration,
    },
    /// Its lease is over and no outcome was recorded: wait for feedback.
    AwaitFeedback {
        /// How long feedback may take.
        window: Duration,
    },
    /// Its message belongs in the dead-letter queue; `Reason` where it dies only now.
    DeadLetter(Option<Reason>),
    /// It ends here.
    End(DeliveryState, Reason),
}

/// Decides what becomes of a due delivery.
pub fn decide_due(due: &DueDelivery) -> DueStep {
    let expired = due.expires_at.is_some_and(|at| at <= due.now);
    match due.state {
        DueState::Publishing if due.is_withdrawn => DueStep::End(DeliveryState::Canceled, Reason::CanceledByCaller),
        DueState::Publishing if expired => DueStep::End(DeliveryState::Expired, Reason::ExpiryPassed),
        DueState::Publishing => publish(due),
        DueState::Recording => {
            DueStep::AwaitFeedback { window: Duration::from_secs(due.rules.reconcile_window_seconds.into()) }
        }
        // It may have been sent, and nobody wants it sent again.
        DueState::Settling if due.is_withdrawn => DueStep::End(DeliveryState::Failed, Reason::OutcomeUnknown),
        DueState::Settling => match due.rules.unknown_policy {
            UnknownPolicy::AtMostOnce => DueStep::End(DeliveryState::Failed, Reason::OutcomeUnknown),
            UnknownPolicy::AtLeastOnce if due.spent >= due.rules.max_attempts => {
                DueStep::DeadLetter(Some(Reason::AttemptsUsedUp))
            }
            UnknownPolicy::AtLeastOnce => publish(due),
        },
        DueState::Burying => DueStep::DeadLetter(None),
    }
}

/// How long the queue should hold a message back so that it arrives at `not_before`.
pub fn delay_until(not_before: Timestamp, now: Timestamp) -> Duration {
    let wait = not_before.duration_since(now).clamp(SignedDuration::ZERO, LONGEST_DELAY);
    let seconds = wait.as_secs() + i64::from(wait.subsec_nanos() > 0);
    Duration::from_secs(seconds.unsigned_abs().min(LONGEST_DELAY.as_secs().unsigned_abs()))
}

fn publish(due: &DueDelivery) -> DueStep {
    let delay = delay_until(due.not_before, due.now);
    DueStep::Publish { delay, again_after: delay + retry::republish_after(due.publish_count + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(state: DeliveryState) -> DueDelivery {
        let state = DueState::of(state).expect("a state that can be due");
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().expect("a timestamp");
        DueDelivery {
            state,
            now,
            not_before: now,
            expires_at: None,
            spent: 1,
            publish_count: 0,
            is_withdrawn: false,
            rules: DeliveryRules {
                max_attempts: 3,
                unknown_policy: UnknownPolicy::AtLeastOnce,
                reconcile_window_seconds: 600,
            },
        }
    }

    #[test]
    fn a_scheduled_delivery_is_published_ahead_and_held_back_to_the_second() {
        let mut delivery = due(DeliveryState::Scheduled);
        delivery.not_before = delivery.now + SignedDuration::from_millis(99_500);
        let (delay, again) = (Duration::from_secs(100), Duration::from_secs(130));
        assert_eq!(decide_due(&delivery), DueStep::Publish { delay, again_after: again });
    }

    #[test]
    fn what_expired_while_it_waited_is_not_published() {
        for state in [DeliveryState::Scheduled, DeliveryState::Queued, DeliveryState::Held] {
            let mut delivery = due(state);
            delivery.expires_at = Some(delivery.now);
            assert_eq!(decide_due(&delivery), DueStep::End(DeliveryState::Expired, Reason::ExpiryPassed));
        }
    }

    #[test]
    fn an_ended_lease_is_unknown_and_never_sent_again_at_once() {
        let step = decide_due(&due(DeliveryState::Sending));
        assert_eq!(step, DueStep::AwaitFeedback { window: Duration::from_secs(600) });
    }

    #[test]
    fn an_unknown_delivery_follows_its_policy_once_the_window_is_over() {
        let mut delivery = due(DeliveryState::Unknown);
        assert!(matches!(decide_due(&delivery), DueStep::Publish { .. }));
        delivery.spent = 3;
        assert_eq!(decide_due(&delivery), DueStep::DeadLetter(Some(Reason::AttemptsUsedUp)));
        delivery.rules.unknown_policy = UnknownPolicy::AtMostOnce;
        assert_eq!(decide_due(&delivery), DueStep::End(DeliveryState::Failed, Reason::OutcomeUnknown));
    }

    #[test]
    fn what_was_withdrawn_is_never_published_again() {
        for &state in DeliveryState::ALL.iter().filter(|state| DueState::of(**state).is_some()) {
            let delivery = DueDelivery { is_withdrawn: true, ..due(state) };
            assert!(!matches!(decide_due(&delivery), DueStep::Publish { .. }), "{state}");
        }
        let unknown = DueDelivery { is_withdrawn: true, spent: 3, ..due(DeliveryState::Unknown) };
        assert_eq!(
            decide_due(&unknown),
            DueStep::End(DeliveryState::Failed, Reason::OutcomeUnknown),
            "nor is it redriven"
        );
        let sending = DueDelivery { is_withdrawn: true, ..due(DeliveryState::Sending) };
        assert!(
            matches!(decide_due(&sending), DueStep::AwaitFeedback { .. }),
            "whether it was sent, feedback may tell"
        );
    }

    #[test]
    fn every_step_is_a_move_that_the_state_machine_allows() {
        for &state in DeliveryState::ALL.iter().filter(|state| DueState::of(**state).is_some()) {
            for is_withdrawn in [false, true] {
                let next = match decide_due(&DueDelivery { is_withdrawn, ..due(state) }) {
                    DueStep::Publish { .. } => DeliveryState::Queued,
                    DueStep::AwaitFeedback { .. } => DeliveryState::Unknown,
                    DueStep::DeadLetter(_) => DeliveryState::Dead,
                    DueStep::End(end, _) => end,
                };
                assert!(next == state || state.may_become(next), "{state} to {next}");
            }
        }
    }

    #[test]
    fn every_open_state_can_be_due() {
        for &state in DeliveryState::ALL {
            assert_eq!(DueState::of(state).is_some(), state.is_open() || state == DeliveryState::Dead, "{state}");
        }
    }

    #[test]
    fn no_delay_is_longer_than_the_queue_allows() {
        let now = due(DeliveryState::Queued).now;
        assert_eq!(delay_until(now + SignedDuration::from_hours(2), now), Duration::from_secs(900));
        assert_eq!(delay_until(now - SignedDuration::from_hours(2), now), Duration::ZERO);
    }
}
