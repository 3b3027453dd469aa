//! How deliveries moved: I5, I6 and I14.

use super::lookup::Lookup;
use super::{Found, Invariant};
use domain::delivery::{AttemptOutcome, DeliveryState};

/// I5: every transition is one that the state machine allows.
pub(super) fn check_i5(lookup: &Lookup<'_>, found: &mut Found) {
    for (key, story) in lookup.stories() {
        for transition in &story.transitions {
            if let Some(from) = transition.from
                && from != transition.to
                && !from.may_become(transition.to)
            {
                let what = format!("was {from} and became {} at {}", transition.to, transition.at);
                found.add_of(Invariant::I5, key, what);
            }
        }
    }
}

/// I6: spent attempts stay within their limit, numbers are given once and in order, only a claim gives one, and what the
/// account or the rate refused is not counted.
pub(super) fn check_i6(lookup: &Lookup<'_>, found: &mut Found) {
    for (key, story) in lookup.stories() {
        let Some(delivery) = story.delivery else { continue };
        let spent = delivery.attempt_count.saturating_sub(delivery.uncounted_attempt_count);
        if spent > delivery.max_attempts {
            let what = format!("spent {spent} attempts of {}", delivery.max_attempts);
            found.add_of(Invariant::I6, key, what);
        }
        let numbers: Vec<u32> = story.claims.iter().map(|claim| claim.attempt).collect();
        let expected: Vec<u32> = (1..=delivery.attempt_count).collect();
        if numbers != expected {
            let what = format!("has {} attempts and the claims {numbers:?}", delivery.attempt_count);
            found.add_of(Invariant::I6, key, what);
        }
        let attempts: Vec<u32> = story.attempts.iter().map(|attempt| attempt.number).collect();
        if attempts != expected {
            let what = format!("has {} attempts and the rows {attempts:?}", delivery.attempt_count);
            found.add_of(Invariant::I6, key, what);
        }
        for pair in story.transitions.windows(2) {
            let risen = pair[1].attempt_count.checked_sub(pair[0].attempt_count);
            let is_claim = pair[1].to == DeliveryState::Sending && pair[1].from != Some(DeliveryState::Sending);
            if risen != Some(u32::from(is_claim)) {
                let what = format!(
                    "went from {} to {} attempts as it became {}",
                    pair[0].attempt_count, pair[1].attempt_count, pair[1].to
                );
                found.add_of(Invariant::I6, key, what);
            }
        }
        // One that was declared unknown first spent its attempt; that it was a refusal came to be known too late.
        // And the last one's cost is nobody's, where feedback about an earlier one has ended the delivery meanwhile.
        let refused = story.attempts.iter().filter(|attempt| {
            matches!(attempt.outcome, Some(AttemptOutcome::Held | AttemptOutcome::Throttled))
                && attempt.declared_unknown_at.is_none()
                && attempt.number < delivery.attempt_count
        });
        let refused = refused.count();
        if refused > delivery.uncounted_attempt_count as usize {
            let what = format!(
                "was refused {refused} times by account or rate, and {} attempts do not count",
                delivery.uncounted_attempt_count
            );
            found.add_of(Invariant::I6, key, what);
        }
    }
}

/// I14: the audit log tells the whole way of each delivery, from its making to the state that it is in.
///
/// That each row was written in the transaction of its change shows in tests of the trigger.
pub(super) fn check_i14(lookup: &Lookup<'_>, found: &mut Found) {
    for (key, story) in lookup.stories() {
        let Some(delivery) = story.delivery else {
            found.add_of(Invariant::I14, key, "is named, and is not there");
            continue;
        };
        let mut state = None;
        for transition in &story.transitions {
            if transition.from != state {
                let shown = |state: Option<DeliveryState>| state.map_or("nothing", DeliveryState::as_str);
                let what = format!(
                    "was {} by the audit log, which then tells how it went from {} to {}",
                    shown(state),
                    shown(transition.from),
                    transition.to
                );
                found.add_of(Invariant::I14, key, what);
            }
            state = Some(transition.to);
        }
        if state != Some(delivery.state) {
            let last = state.map_or("never made", DeliveryState::as_str);
            found.add_of(Invariant::I14, key, format!("is {}, and was {last} by the audit log", delivery.state));
        }
    }
}
