//! What kind of notification something is, and what that asks of its deliveries.

use crate::delivery::named;
use std::fmt;

named! {
    /// What a category is for; decides what a recipient may mute, where the category itself does not.
    Class {
        /// Answers something that the recipient did.
        Transactional = "transactional",
        /// Concerns the recipient's account or safety.
        Security = "security",
        /// The law or a regulator wants it sent.
        Regulatory = "regulatory",
        /// Sells something; needs consent and a way out.
        Marketing = "marketing",
        /// Something is due.
        Reminder = "reminder",
        /// Collects other notifications.
        Digest = "digest",
    }
}

impl Class {
    /// Whether a category of this class is sent whatever recipients prefer, where it does not say.
    pub const fn is_mandatory(self) -> bool {
        matches!(self, Self::Security | Self::Regulatory)
    }

    /// Whether a category of this class keeps quiet hours, where it does not say: what somebody waits for does not.
    pub const fn keeps_quiet_hours(self) -> bool {
        matches!(self, Self::Marketing | Self::Reminder | Self::Digest)
    }

    /// The purpose that recipients of this class have to have agreed to, where the category does not say.
    pub const fn needs_consent(self) -> Option<&'static str> {
        match self {
            Self::Marketing => Some("marketing"),
            _ => None,
        }
    }
}

named! {
    /// What to do with a delivery whose attempt may or may not have been sent, when nobody came to know in time.
    UnknownPolicy {
        /// Send again: better twice than never. The default.
        AtLeastOnce = "at_least_once",
        /// Give up: better never than twice.
        AtMostOnce = "at_most_once",
    }
}

named! {
    /// How urgent a notification is for its sender.
    Priority {
        /// Somebody has to act now.
        Critical = "critical",
        /// Before the rest.
        High = "high",
        /// The default.
        Normal = "normal",
        /// After the rest.
        Low = "low",
    }
}

/// The most attempts that a category may ask for.
pub const MAX_ATTEMPTS_LIMIT: u32 = 8;
/// The attempts of a category that does not say.
pub const MAX_ATTEMPTS_DEFAULT: u32 = 3;
/// How long feedback may take to settle an `unknown` attempt, in seconds, where the category does not say.
pub const RECONCILE_WINDOW_DEFAULT_SECONDS: u32 = 600;
/// The longest reconcile window, in seconds.
pub const RECONCILE_WINDOW_LIMIT_SECONDS: u32 = 86_400;

/// At most so many in so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The most.
    pub limit: u32,
    /// In how long, in seconds.
    pub window_seconds: u32,
}

/// The rules that a delivery takes from its category.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryRules {
    /// Attempts that may be spent.
    pub max_attempts: u32,
    /// How an attempt of unknown outcome is settled.
    pub unknown_policy: UnknownPolicy,
    /// How long to wait for feedback before it is settled, in seconds.
    pub reconcile_window_seconds: u32,
}

impl Default for DeliveryRules {
    fn default() -> Self {
        Self {
            max_attempts: MAX_ATTEMPTS_DEFAULT,
            unknown_policy: UnknownPolicy::AtLeastOnce,
            reconcile_window_seconds: RECONCILE_WINDOW_DEFAULT_SECONDS,
        }
    }
}
