//! What an attempt came to, and what becomes of its delivery.
//!
//! The channel says what the provider did ([`SendOutcome`]); [`settle_attempt`] decides what follows;
//! the store writes it, fenced by the attempt's number.

use crate::breaker::hold_time;
use crate::category::{DeliveryRules, UnknownPolicy};
use crate::delivery::{AttemptOutcome, DeliveryState, Reason};
use crate::render::RenderError;
use crate::retry::{self, Jitter, Wake};
use std::time::Duration;

/// What the provider said, in its own words, for people and logs.
#[derive(Clone, PartialEq, Eq)]
pub struct ProviderError {
    /// The provider's code, or a short name of what went wrong on the way there.
    pub code: String,
    /// The provider's message; never an address or a body.
    pub detail: String,
}

crate::masked_debug!(ProviderError, "ProviderError", code);

/// How one provider call ended, as far as anybody can tell. Classified once, in the channel's adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// Accepted.
    Sent {
        /// The provider's id of the message; an empty 200 carries none.
        provider_message_id: Option<String>,
    },
    /// Surely not sent, and another try may go through: no connection was made.
    Transient(ProviderError),
    /// Surely not sent: the provider did not believe who asked, because credentials had expired or a clock is off.
    /// It says nothing about the mail.
    Unauthorized(ProviderError),
    /// Surely not sent: too many requests for now.
    Throttled(ProviderError),
    /// Surely not sent: the account or identity cannot send for now.
    Held(Reason, ProviderError),
    /// Refused for good.
    Rejected(ProviderError),
    /// The provider failed (5xx), and does not document whether it may have sent.
    ServerFailed(ProviderError),
    /// The request went out and no readable answer came back: it may have been sent.
    Unknown(ProviderError),
}

/// What the processor decided about a claimed delivery, with the outcome of what it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conclusion {
    /// The provider was called.
    Called(SendOutcome),
    /// A sandbox notification: rendered, and kept from the provider.
    Sandboxed,
    /// Its `expires_at` has passed.
    Expired,
    /// It was decided not to send it.
    Skipped(Reason),
    /// It was decided not to send it yet.
    Postponed {
        /// Why.
        reason: Reason,
        /// For how long.
        wait: Duration,
    },
    /// It cannot be sent to this recipient, whoever tries.
    Impossible(Reason, String),
    /// The template did not render.
    RenderFailed(RenderError),
    /// Nothing was done: the time of the invocation ran out, or the record's own code failed.
    HandedBack(ProviderError),
}

/// What is written for an attempt, and when its delivery is looked at again.
#[derive(Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The delivery's next state.
    pub state: DeliveryState,
    /// Why, where the state wants a reason.
    pub reason: Option<Reason>,
    /// What is said about it to people.
    pub detail: Option<String>,
    /// How the attempt ended.
    pub outcome: AttemptOutcome,
    /// The provider's words.
    pub error: Option<ProviderError>,
    /// The provider's id of the message.
    pub provider_message_id: Option<String>,
    /// Whether the attempt counts against the category's limit.
    pub counted: bool,
    /// What happens next, and when.
    pub next: Next,
}

crate::masked_debug!(Settlement, "Settlement", state, reason, outcome, error, provider_message_id, counted, next);

/// What a delivery waits for after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it has ended, or only feedback can change it.
    Nothing,
    /// Another attempt after `wait`, brought back by `wake`.
    Retry {
        /// How long it waits.
        wait: Duration,
        /// Who brings it back.
        wake: Wake,
    },
    /// Feedback, until the reconcile window ends.
    Feedback {
        /// How long feedback may take.
        window: Duration,
    },
    /// Its message belongs in the dead-letter queue.
    DeadLetter,
}

/// Attempts spent and allowed, as they stand with the attempt that is being settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptBudget {
    /// Attempts that count, this one included.
    pub spent: u32,
    /// Attempts made in all, this one included; spaces the retries that do not count.
    pub made: u32,
}

/// Decides what becomes of a delivery after an attempt.
pub fn settle_attempt(
    conclusion: Conclusion,
    budget: AttemptBudget,
    rules: &DeliveryRules,
    jitter: Jitter,
) -> Settlement {
    match conclusion {
        Conclusion::Called(SendOutcome::Sent { provider_message_id }) => {
            Settlement { provider_message_id, ..end(DeliveryState::Sent, None, AttemptOutcome::Sent, None) }
        }
        Conclusion::Sandboxed => end(DeliveryState::Sent, None, AttemptOutcome::Sandboxed, None),
        Conclusion::Called(SendOutcome::Transient(error)) => {
            retry_or_die(AttemptOutcome::Transient, error, budget, rules, jitter)
        }
        Conclusion::Called(SendOutcome::ServerFailed(error)) => match rules.unknown_policy {
            UnknownPolicy::AtLeastOnce => retry_or_die(AttemptOutcome::Unknown, error, budget, rules, jitter),
            UnknownPolicy::AtMostOnce => wait_for_feedback(error, rules),
        },
        Conclusion::Called(SendOutcome::Unknown(error)) => wait_for_feedback(error, rules),
        Conclusion::Called(SendOutcome::Throttled(error)) => {
            retry_uncounted(AttemptOutcome::Throttled, error, retry::backoff(budget.made, jitter))
        }
        // The next worker has its own credentials; until there is one, mail waits, however long that takes.
        Conclusion::Called(SendOutcome::Unauthorized(error)) => {
            retry_uncounted(AttemptOutcome::Transient, error, retry::backoff(budget.made, jitter))
        }
        Conclusion::HandedBack(error) => hand_back(error, budget.made, jitter),
        Conclusion::Called(SendOutcome::Held(reason, error)) => {
            let wait = retry::hold(hold_time(reason), jitter);
            Settlement {
                state: DeliveryState::Held,
                reason: Some(reason),
                detail: Some(error.detail.clone()),
                ..retry_uncounted(AttemptOutcome::Held, error, wait)
            }
        }
        Conclusion::Called(SendOutcome::Rejected(error)) => Settlement {
            detail: Some(error.detail.clone()),
            ..end(DeliveryState::Failed, Some(Reason::ProviderRejected), AttemptOutcome::Rejected, Some(error))
        },
        Conclusion::Expired => Settlement {
            counted: false,
            ..end(DeliveryState::Expired, Some(Reason::ExpiryPassed), AttemptOutcome::NotSent, None)
        },
        Conclusion::Skipped(reason) => {
            Settlement { counted: false, ..end(DeliveryState::Skipped, Some(reason), AttemptOutcome::NotSent, None) }
        }
        Conclusion::Postponed { reason, wait } => Settlement {
            counted: false,
            next: Next::Retry { wait, wake: retry::wake_after(wait) },
            ..end(DeliveryState::Held, Some(reason), AttemptOutcome::NotSent, None)
        },
        Conclusion::Impossible(reason, detail) => Settlement {
            detail: Some(detail),
            ..end(DeliveryState::Failed, Some(reason), AttemptOutcome::NotSent, None)
        },
        Conclusion::RenderFailed(error) => Settlement {
            detail: Some(error.to_string()),
            ..end(DeliveryState::Failed, Some(Reason::RenderFailed), AttemptOutcome::NotSent, None)
        },
    }
}

/// Where an attempt leaves a delivery that was withdrawn while it was being made, and would be left in `state` otherwise: what
/// surely was not sent is not tried again, and of what may have been, feedback is waited for.
/// The database holds the same in `harkara.state_after`, and a test compares the two.
pub const fn state_when_withdrawn(state: DeliveryState, outcome: AttemptOutcome) -> DeliveryState {
    match (state, outcome) {
        (DeliveryState::Queued | DeliveryState::Held | DeliveryState::Dead, AttemptOutcome::Unknown) => {
            DeliveryState::Unknown
        }
        (DeliveryState::Queued | DeliveryState::Held | DeliveryState::Dead, _) => DeliveryState::Canceled,
        _ => state,
    }
}

/// What becomes of a delivery with which nothing was done; `made` is how many attempts there were in all.
/// It is tried again at once, unless something is missing for longer.
pub fn hand_back(error: ProviderError, made: u32, jitter: Jitter) -> Settlement {
    let wait = if made <= 2 { Duration::from_secs(1) } else { retry::backoff(made, jitter) };
    retry_uncounted(AttemptOutcome::NotSent, error, wait)
}

fn end(
    state: DeliveryState,
    reason: Option<Reason>,
    outcome: AttemptOutcome,
    error: Option<ProviderError>,
) -> Settlement {
    Settlement {
        state,
        reason,
        detail: None,
        outcome,
        error,
        provider_message_id: None,
        counted: true,
        next: Next::Nothing,
    }
}

fn retry_or_die(
    outcome: AttemptOutcome,
    error: ProviderError,
    budget: AttemptBudget,
    rules: &DeliveryRules,
    jitter: Jitter,
) -> Settlement {
    if budget.spent >= rules.max_attempts {
        return Settlement {
            detail: Some(format!("{}: {}", error.code, error.detail)),
            next: Next::DeadLetter,
            ..end(DeliveryState::Dead, Some(Reason::AttemptsUsedUp), outcome, Some(error))
        };
    }
    let wait = retry::backoff(budget.spent, jitter);
    Settlement {
        next: Next::Retry { wait, wake: retry::wake_after(wait) },
        ..end(DeliveryState::Queued, None, outcome, Some(error))
    }
}

fn retry_uncounted(outcome: AttemptOutcome, error: ProviderError, wait: Duration) -> Settlement {
    Settlement {
        counted: false,
        next: Next::Retry { wait, wake: retry::wake_after(wait) },
        ..end(DeliveryState::Queued, None, outcome, Some(error))
    }
}

fn wait_for_feedback(error: ProviderError, rules: &DeliveryRules) -> Settlement {
    Settlement {
        detail: Some(error.detail.clone()),
        next: Next::Feedback { window: Duration::from_secs(rules.reconcile_window_seconds.into()) },
        ..end(DeliveryState::Unknown, Some(Reason::OutcomeUnknown), AttemptOutcome::Unknown, Some(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::DeliveryState::*;
    use proptest::prelude::*;

    fn error() -> ProviderError {
        ProviderError { code: "Code".into(), detail: "words".into() }
    }

    fn rules(unknown_policy: UnknownPolicy) -> DeliveryRules {
        DeliveryRules { max_attempts: 3, unknown_policy, reconcile_window_seconds: 600 }
    }

    fn settle(outcome: SendOutcome, spent: u32, policy: UnknownPolicy) -> Settlement {
        settle_attempt(
            Conclusion::Called(outcome),
            AttemptBudget { spent, made: spent },
            &rules(policy),
            Jitter::new(0.5),
        )
    }

    #[test]
    fn each_outcome_leads_where_the_table_says() {
        use UnknownPolicy::*;
        let sent = SendOutcome::Sent { provider_message_id: Some("m".into()) };
        let held = SendOutcome::Held(Reason::QuotaReached, error());
        let table = [
            (sent.clone(), 1, AtLeastOnce, Sent, true),
            (SendOutcome::Transient(error()), 1, AtLeastOnce, Queued, true),
            (SendOutcome::Transient(error()), 3, AtLeastOnce, Dead, true),
            (SendOutcome::Throttled(error()), 3, AtLeastOnce, Queued, false),
            (SendOutcome::Unauthorized(error()), 3, AtLeastOnce, Queued, false),
            (held, 3, AtLeastOnce, Held, false),
            (SendOutcome::Rejected(error()), 1, AtLeastOnce, Failed, true),
            (SendOutcome::ServerFailed(error()), 1, AtLeastOnce, Queued, true),
            (SendOutcome::ServerFailed(error()), 3, AtLeastOnce, Dead, true),
            (SendOutcome::ServerFailed(error()), 1, AtMostOnce, Unknown, true),
            (SendOutcome::Unknown(error()), 1, AtLeastOnce, Unknown, true),
            (SendOutcome::Unknown(error()), 3, AtMostOnce, Unknown, true),
        ];
        for (outcome, spent, policy, state, counted) in table {
            let settlement = settle(outcome.clone(), spent, policy);
            assert_eq!(
                (settlement.state, settlement.counted),
                (state, counted),
                "{outcome:?} after {spent} under {policy}"
            );
        }
    }

    #[test]
    fn what_was_withdrawn_meanwhile_is_never_tried_again() {
        for &state in DeliveryState::ALL {
            for &outcome in AttemptOutcome::ALL {
                let next = state_when_withdrawn(state, outcome);
                assert!(
                    !matches!(next, Scheduled | Queued | Held | Dead) || state == Scheduled,
                    "{state} after {outcome}"
                );
                assert!(next == state || Sending.may_become(next), "{state} after {outcome}");
                assert!(
                    next != Canceled || state == Canceled || outcome != AttemptOutcome::Unknown,
                    "it may have been sent"
                );
            }
        }
    }

    #[test]
    fn a_held_delivery_is_parked_in_the_database() {
        let settlement = settle(SendOutcome::Held(Reason::SendingPaused, error()), 1, UnknownPolicy::AtLeastOnce);
        assert!(matches!(settlement.next, Next::Retry { wake: Wake::Dispatcher, .. }));
        assert_eq!(settlement.reason, Some(Reason::SendingPaused));
    }

    #[test]
    fn an_outcome_nobody_knows_waits_for_feedback_and_is_never_retried_at_once() {
        for policy in UnknownPolicy::ALL {
            let settlement = settle(SendOutcome::Unknown(error()), 1, *policy);
            assert_eq!(settlement.next, Next::Feedback { window: Duration::from_secs(600) });
        }
    }

    fn any_outcome() -> impl Strategy<Value = SendOutcome> {
        prop_oneof![
            Just(SendOutcome::Sent { provider_message_id: None }),
            Just(SendOutcome::Transient(error())),
            Just(SendOutcome::Throttled(error())),
            Just(SendOutcome::Unauthorized(error())),
            Just(SendOutcome::Held(Reason::QuotaReached, error())),
            Just(SendOutcome::Rejected(error())),
            Just(SendOutcome::ServerFailed(error())),
            Just(SendOutcome::Unknown(error())),
        ]
    }

    proptest! {
        #[test]
        fn every_settlement_is_a_move_that_the_state_machine_allows(
            outcome in any_outcome(), spent in 1u32..=3, most_once in any::<bool>(), number in 0f64..1.0,
        ) {
            let policy = if most_once { UnknownPolicy::AtMostOnce } else { UnknownPolicy::AtLeastOnce };
            let settlement = settle_attempt(
                Conclusion::Called(outcome), AttemptBudget { spent, made: spent }, &rules(policy), Jitter::new(number));
            prop_assert!(Sending.may_become(settlement.state));
            let waits = matches!(settlement.next, Next::Retry { .. } | Next::Feedback { .. });
            prop_assert_eq!(waits, settlement.state.is_open());
            prop_assert_eq!(settlement.next == Next::DeadLetter, settlement.state == Dead);
        }
    }
}
