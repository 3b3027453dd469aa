//! Holds a history to the invariants I1 to I16, and counts what is published.
//!
//! Each check is a function named for its invariant and looks at the whole [`History`]. What a history cannot show is said
//! in the check's doc; it is then the business of another test. A check never guesses: what nobody came to know is
//! [`Answer::Unknown`](crate::history::Answer::Unknown) or an attempt of outcome `unknown`, and has rules of its own.

mod accepted;
mod figures;
mod lookup;
mod measured;
mod once;
mod sends;
mod states;
mod tenants;

#[cfg(test)]
mod tests;

pub use figures::{Figures, count_figures};

use crate::history::History;
use domain::id::{DeliveryId, TenantId};
use lookup::Lookup;
use std::fmt;

/// What must hold whatever fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// What was accepted is there once, and ends.
    I1,
    /// No provider call without a committed claim for that attempt, and one call for each.
    I2,
    /// One mail, and one more for each attempt of unknown outcome that was repeated by its policy.
    I3,
    /// Nothing of one tenant is reached as another.
    I4,
    /// Ends absorb, and feedback only makes an outcome worse.
    I5,
    /// Attempts are bounded, rise by claims only, and holds cost none.
    I6,
    /// No claim commits after a suppression of its address.
    I7,
    /// One idempotency key, one body, one answer.
    I8,
    /// One run for each instant of a schedule.
    I9,
    /// A token changes something at most once.
    I10,
    /// A bad record changes nothing for its neighbours.
    I11,
    /// Nothing is left behind, and what died has a dead letter with a reason.
    I12,
    /// No secret and no whole address in a log.
    I13,
    /// Each transition is in the audit log.
    I14,
    /// What is bounded stays within its bound.
    I15,
    /// Only the database's clock decides.
    I16,
}

impl Invariant {
    /// Its number, as in `I3`.
    pub const fn number(self) -> u32 {
        self as u32 + 1
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "I{}", self.number())
    }
}

/// Something that must not have happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What it breaks.
    pub invariant: Invariant,
    /// The delivery that it concerns.
    pub delivery: Option<(TenantId, DeliveryId)>,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.delivery {
            Some((_, delivery)) => write!(f, "{}: {delivery}: {}", self.invariant, self.what),
            None => write!(f, "{}: {}", self.invariant, self.what),
        }
    }
}

/// Holds a history to every invariant. The figures where all hold, else everything that breaks one.
pub fn check_history(history: &History) -> Result<Figures, Vec<Violation>> {
    let lookup = Lookup::of(history);
    let mut found = check_so_far(&lookup);
    accepted::check_i1_end(&lookup, &mut found);
    accepted::check_i12(&lookup, &mut found);
    found.judge(&lookup)
}

/// Holds the history of something that goes on to what must hold at every moment: not that everything has ended.
pub fn check_running(history: &History) -> Result<Figures, Vec<Violation>> {
    let lookup = Lookup::of(history);
    check_so_far(&lookup).judge(&lookup)
}

fn check_so_far(lookup: &Lookup<'_>) -> Found {
    let (history, mut found) = (lookup.history, Found::default());
    accepted::check_i1(lookup, &mut found);
    sends::check_i2(lookup, &mut found);
    sends::check_i3(lookup, &mut found);
    tenants::check_i4(lookup, &mut found);
    states::check_i5(lookup, &mut found);
    states::check_i6(lookup, &mut found);
    sends::check_i7(lookup, &mut found);
    accepted::check_i8(history, &mut found);
    once::check_i9(history, &mut found);
    once::check_i10(history, &mut found);
    once::check_i11(history, &mut found);
    measured::check_i13(history, &mut found);
    states::check_i14(lookup, &mut found);
    measured::check_i15(history, &mut found);
    measured::check_i16(history, &mut found);
    found
}

/// What the checks have found.
#[derive(Default)]
struct Found {
    violations: Vec<Violation>,
}

impl Found {
    fn judge(self, lookup: &Lookup<'_>) -> Result<Figures, Vec<Violation>> {
        if self.violations.is_empty() { Ok(figures::count(lookup)) } else { Err(self.violations) }
    }

    fn add(&mut self, invariant: Invariant, what: impl Into<String>) {
        self.violations.push(Violation { invariant, delivery: None, what: what.into() });
    }

    fn add_of(&mut self, invariant: Invariant, delivery: (TenantId, DeliveryId), what: impl Into<String>) {
        self.violations.push(Violation { invariant, delivery: Some(delivery), what: what.into() });
    }
}
