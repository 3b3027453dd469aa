//! What reached the provider: I2, I3 and I7.

use super::lookup::{Lookup, Story};
use super::{Found, Invariant};
use crate::history::ProviderCall;
use domain::category::UnknownPolicy;
use jiff::SignedDuration;

/// I2: every provider call carries the tags of an attempt that had been claimed, and is the attempt's only one.
///
/// The provider's clock is compared with the database's, so both have to run on one machine.
pub(super) fn check_i2(lookup: &Lookup<'_>, found: &mut Found) {
    for call in &lookup.stray_calls {
        found.add(Invariant::I2, format!("a call at {} names no notification that is there", call.at));
    }
    for (key, story) in lookup.stories() {
        for call in &story.calls {
            let Some(number) = call.attempt else {
                found.add_of(Invariant::I2, key, format!("the call at {} names no attempt", call.at));
                continue;
            };
            match story.claim(number) {
                None => found.add_of(Invariant::I2, key, format!("attempt {number} was sent and never claimed")),
                Some(claim) if claim.committed_at > call.at => {
                    let what =
                        format!("attempt {number} was sent at {} and claimed at {} only", call.at, claim.committed_at);
                    found.add_of(Invariant::I2, key, what);
                }
                Some(_) => {}
            }
        }
        for pair in story.calls.windows(2) {
            if pair[0].attempt.is_some() && pair[0].attempt == pair[1].attempt {
                let what = format!("attempt {} made two calls", pair[0].attempt.unwrap_or_default());
                found.add_of(Invariant::I2, key, what);
            }
        }
        if story.delivery.is_some_and(|delivery| delivery.is_sandbox) && !story.calls.is_empty() {
            found.add_of(Invariant::I2, key, "is a sandbox notification and reached the provider");
        }
    }
}

/// Mails that are one too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Duplicates {
    /// Sent again by the category's policy, with an attempt that says `unknown` before each.
    pub(super) declared: u64,
    /// Any other.
    pub(super) undeclared: u64,
}

/// I3: a second mail follows only an attempt that had been declared unknown, under `at_least_once`, and after the window
/// without any feedback about it.
pub(super) fn check_i3(lookup: &Lookup<'_>, found: &mut Found) {
    for (key, story) in lookup.stories() {
        let accepted: Vec<&ProviderCall> = story.calls.iter().filter(|call| call.was_accepted).copied().collect();
        for call in accepted.iter().rev().skip(1) {
            if let Err(what) = is_declared(story, call) {
                found.add_of(Invariant::I3, key, what);
            }
        }
    }
}

/// The mails of a delivery that are one too many.
pub(super) fn count_duplicates(story: &Story<'_>) -> Duplicates {
    let mut duplicates = Duplicates::default();
    let accepted = story.calls.iter().filter(|call| call.was_accepted);
    for call in accepted.rev().skip(1) {
        match is_declared(story, call) {
            Ok(()) => duplicates.declared += 1,
            Err(_) => duplicates.undeclared += 1,
        }
    }
    duplicates
}

/// Whether a later mail was allowed although this one had been accepted.
fn is_declared(story: &Story<'_>, call: &ProviderCall) -> Result<(), String> {
    let Some((delivery, attempt)) = story.delivery.zip(call.attempt.and_then(|number| story.attempt(number))) else {
        return Err("was sent twice, and one of the attempts is not there".to_owned());
    };
    let number = attempt.number;
    if delivery.unknown_policy == UnknownPolicy::AtMostOnce {
        return Err(format!("is at_most_once, and was sent again after attempt {number}"));
    }
    let Some(declared_at) = attempt.declared_unknown_at else {
        return Err(format!("was sent again after attempt {number}, which never was unknown"));
    };
    let Some(next) = story.claim(number + 1) else {
        return Err(format!("attempt {number} was sent twice"));
    };
    let window = SignedDuration::from_secs(delivery.reconcile_window_seconds.into());
    let may_be_claimed_at = if attempt.has_server_failed { declared_at } else { declared_at + window };
    if next.committed_at < may_be_claimed_at {
        return Err(format!(
            "attempt {} was claimed at {}, and attempt {number} was to wait for feedback until {may_be_claimed_at}",
            next.attempt, next.committed_at
        ));
    }
    match attempt.feedback_at {
        Some(at) if at < next.committed_at => Err(format!(
            "attempt {} was claimed at {} although feedback about attempt {number} had come at {at}",
            next.attempt, next.committed_at
        )),
        _ => Ok(()),
    }
}

/// I7: no claim commits after a suppression of its address, by its tenant or by the provider account, has.
///
/// Both times are those of the commits; the order of two transactions shows in nothing else.
pub(super) fn check_i7(lookup: &Lookup<'_>, found: &mut Found) {
    if lookup.history.suppressions.is_empty() {
        return;
    }
    for (key, story) in lookup.stories() {
        let Some(delivery) = story.delivery else { continue };
        for claim in &story.claims {
            let suppression = lookup.history.suppressions.iter().find(|suppression| {
                suppression.address == delivery.address
                    && suppression.tenant.is_none_or(|tenant| tenant == delivery.tenant)
                    && suppression.committed_at < claim.committed_at
                    && suppression.lifted_at.is_none_or(|lifted_at| lifted_at > claim.committed_at)
            });
            if let Some(suppression) = suppression {
                let what = format!(
                    "attempt {} was claimed at {}, and its address was suppressed at {}",
                    claim.attempt, claim.committed_at, suppression.committed_at
                );
                found.add_of(Invariant::I7, key, what);
            }
        }
    }
}
