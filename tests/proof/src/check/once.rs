//! What happens once, and what happens alone: I9, I10 and I11.

use super::{Found, Invariant};
use crate::history::History;
use std::collections::HashSet;

/// I9: no schedule ran twice for one instant.
pub(super) fn check_i9(history: &History, found: &mut Found) {
    let mut seen = HashSet::new();
    for occurrence in &history.occurrences {
        if !seen.insert((occurrence.tenant, &occurrence.schedule, occurrence.due_at)) {
            let what = format!("schedule {} ran twice for {}", occurrence.schedule, occurrence.due_at);
            found.add(Invariant::I9, what);
        }
    }
}

/// I10: no token changed something twice.
pub(super) fn check_i10(history: &History, found: &mut Found) {
    let mut used = HashSet::new();
    for token_use in history.token_uses.iter().filter(|token_use| token_use.changed_state) {
        if !used.insert(&token_use.token) {
            found.add(Invariant::I10, format!("token {} changed something twice", token_use.token));
        }
    }
}

/// I11: an answer for a batch names messages of that batch only, and a message that nobody can read fails neither the
/// invocation nor all of its neighbours.
///
/// That the neighbours' outcomes are the same ones as without it is shown by I1 to I3 over the same history.
pub(super) fn check_i11(history: &History, found: &mut Found) {
    for batch in &history.batches {
        let strangers = batch.failed.iter().filter(|id| !batch.received.contains(id)).count();
        if strangers > 0 {
            found.add(Invariant::I11, format!("{strangers} messages were reported failed that were not in the batch"));
        }
        if batch.has_failed && !batch.poison.is_empty() {
            found.add(Invariant::I11, "a batch with a message that nobody can read failed as a whole");
        }
    }
}
