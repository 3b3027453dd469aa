//! What was logged, what was measured, and whose clock it was: I13, I15 and I16.

use super::{Found, Invariant};
use crate::history::History;
use aho_corasick::{AhoCorasick, AhoCorasickKind};
use jiff::Timestamp;
use std::collections::BTreeSet;

/// Bytes of a planted word that are looked for.
const LONGEST_WORD: usize = 100;

/// I13: no planted word is in the log.
///
/// The word itself is not repeated in the report, which is a log too.
pub(super) fn check_i13(history: &History, found: &mut Found) {
    // All words at once: a long run has thousands of them, and as many lines. Of a long text, its begin is enough.
    let words = history.planted_words.iter().map(|word| &word[..word.floor_char_boundary(LONGEST_WORD)]);
    let words = words.filter(|word| !word.is_empty());
    let Ok(words) = AhoCorasick::builder().kind(Some(AhoCorasickKind::NoncontiguousNFA)).build(words) else {
        found.add(Invariant::I13, "the planted words are too many to be looked for");
        return;
    };
    let mut seen = BTreeSet::new();
    for (line, text) in history.log_lines.iter().enumerate() {
        for place in words.find_overlapping_iter(text).map(|word| word.pattern().as_usize()) {
            if seen.insert(place) {
                found.add(Invariant::I13, format!("planted word {place} is in line {line} of the log"));
            }
        }
    }
}

/// I15: whatever was measured stays within its bound.
///
/// Connections, memory and the time that is left of an invocation show in runs of the real functions only; the simulator
/// measures what waits in flight and how long it took to recover.
pub(super) fn check_i15(history: &History, found: &mut Found) {
    for measure in &history.measures {
        // Not `>`: what is no number is within no bound.
        if !matches!(
            measure.value.partial_cmp(&measure.limit),
            Some(std::cmp::Ordering::Less | std::cmp::Ordering::Equal)
        ) {
            let what = format!("{}: {} is more than {}", measure.name, measure.value, measure.limit);
            found.add(Invariant::I15, what);
        }
    }
}

/// I16: every stored time lies within what the database's clock showed during the run.
///
/// A time that a worker's clock had decided would lie outside, where the workers' clocks are a day off.
pub(super) fn check_i16(history: &History, found: &mut Found) {
    let Some((began_at, ended_at)) = history.database_clock else { return };
    let is_inside = |at: Timestamp| (began_at..=ended_at).contains(&at);
    for delivery in &history.deliveries {
        let times = [Some(delivery.created_at), delivery.sent_at, delivery.finished_at];
        if !times.into_iter().flatten().all(is_inside) {
            found.add_of(
                Invariant::I16,
                (delivery.tenant, delivery.id),
                format!("has a time of another clock: {times:?}"),
            );
        }
    }
    for attempt in &history.attempts {
        let times = [Some(attempt.started_at), attempt.finished_at, attempt.feedback_at, attempt.declared_unknown_at];
        if !times.into_iter().flatten().all(is_inside) {
            let what = format!("attempt {} has a time of another clock: {times:?}", attempt.number);
            found.add_of(Invariant::I16, (attempt.tenant, attempt.delivery), what);
        }
    }
}
