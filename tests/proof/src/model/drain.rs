//! Whether a delivery ends, were nothing to fail any more: I1's "eventually", from every state.

use super::claim;
use super::state::Lane;
use crate::protocol::{Effect, Input, Verdict};
use domain::delivery::DeliveryState;
use domain::outcome::{Conclusion, SendOutcome, settle_attempt};
use domain::retry::Jitter;

/// Steps within which every delivery has to end. The longest way is a lease, a window and a few publications.
const MOST_STEPS: usize = 40;

/// A delivery whose workers have died.
pub(super) struct Drained {
    pub(super) lane: Lane,
}

impl Drained {
    /// As it stands when every worker that has it in its hands dies, and its message comes back. A worker that lives
    /// could only end it sooner.
    pub(super) fn of(lane: &Lane, held: usize) -> Self {
        let mut lane = lane.clone();
        lane.messages = (lane.messages + u8::try_from(held).unwrap_or(u8::MAX)).min(super::MOST_COPIES);
        Self { lane }
    }
}

/// Lets one healthy worker, one dispatcher and the dead-letter function act until the delivery has ended.
pub(super) fn ends(mut lane: Lane) -> bool {
    for _ in 0..MOST_STEPS {
        let has_ended = !lane.row.state.is_open() && lane.row.due_at.is_none();
        if has_ended && lane.dead_messages == 0 {
            let is_buried = lane.row.dead_letters.iter().any(|letter| !letter.is_redriven);
            return lane.row.state != DeliveryState::Dead || is_buried;
        }
        if lane.dead_messages > 0 {
            lane.store_dead_letter();
        } else if lane.messages > 0 && lane.row.not_before <= super::NOW {
            work(&mut lane);
        } else if lane.row.due_at.is_some_and(|at| at <= super::NOW) {
            lane.see_to(true);
        } else if let Some(time) = lane.next_moment() {
            lane.pass(time);
        } else {
            return false;
        }
        lane.tidy(0);
    }
    false
}

/// A worker that nothing happens to.
fn work(lane: &mut Lane) {
    let verdict = if lane.is_suppressed { Verdict::Skip } else { Verdict::Claim };
    lane.messages -= 1;
    let effects = claim(lane, verdict);
    let Some(Effect::Claimed(claimed)) = effects.into_iter().next() else { return };
    lane.call(claimed.attempt, true);
    let conclusion = Conclusion::Called(SendOutcome::Sent { provider_message_id: None });
    let settlement = settle_attempt(conclusion, claimed.budget, &claimed.rules, Jitter::new(0.0));
    lane.apply(&Input::Record { attempt: claimed.attempt, settlement });
}
