//! The one source of chance of a run: the same seed gives the same numbers on every machine.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use std::cell::RefCell;
use std::ops::Range;

/// Chance, from a seed.
pub(super) struct Dice(RefCell<Xoshiro256PlusPlus>);

impl Dice {
    pub(super) fn of(seed: u64) -> Self {
        Self(RefCell::new(Xoshiro256PlusPlus::seed_from_u64(seed)))
    }

    /// A number from 0 to below 1.
    pub(super) fn number(&self) -> f64 {
        self.0.borrow_mut().random()
    }

    /// Whether something happens that happens with this probability.
    pub(super) fn happens(&self, probability: f64) -> bool {
        probability > 0.0 && self.number() < probability
    }

    /// A whole number of the range.
    pub(super) fn within(&self, range: Range<u64>) -> u64 {
        self.0.borrow_mut().random_range(range)
    }

    /// One of these.
    pub(super) fn pick<T: Copy>(&self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }

    /// The place of one of so many.
    pub(super) fn index(&self, count: usize) -> usize {
        usize::try_from(self.within(0..count as u64)).expect("it is below a usize")
    }
}
