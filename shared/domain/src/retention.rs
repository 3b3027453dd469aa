//! For how long a tenant keeps what has ended.

use crate::category::Class;
use std::collections::BTreeMap;

/// The fewest days.
pub const LEAST_DAYS: u32 = 1;
/// The most days: ten years, which is what auditors and tax offices ask for.
pub const MOST_DAYS: u32 = 3650;
/// What holds where a tenant says nothing.
pub const DEFAULT_DAYS: u32 = 365;

/// Days since the last change of a notification that has ended, after which it is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// For classes that have none of their own.
    pub default_days: u32,
    /// By the class of the notification's category.
    pub by_class: BTreeMap<Class, u32>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { default_days: DEFAULT_DAYS, by_class: BTreeMap::new() }
    }
}
