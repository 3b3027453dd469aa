//! The figures that the checker counts, as it prints them.

use std::ops::AddAssign;

use serde::Deserialize;

/// Those of the checker's figures that are published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Figures {
    /// Notifications that were accepted.
    pub(super) accepted: u64,
    /// Those of them that are not there, have not ended, or ended as sent and were not.
    pub(super) lost: u64,
    /// Mails sent again after an unknown outcome, by the category's policy, and shown.
    pub(super) duplicates_declared: u64,
    /// Mails sent again otherwise.
    pub(super) duplicates_undeclared: u64,
    /// Attempts whose outcome was unknown for a time.
    pub(super) unknown: u64,
}

impl AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.lost += other.lost;
        self.duplicates_declared += other.duplicates_declared;
        self.duplicates_undeclared += other.duplicates_undeclared;
        self.unknown += other.unknown;
    }
}
