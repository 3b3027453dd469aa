//! What holds mail back that is not the mail's own fault, and for how long.
//!
//! A refusal of the account or of a sender opens a breaker that every worker shares: other deliveries then wait as
//! `held` without being tried, one probe at a time finds out whether it is over, and the first mail that goes through
//! closes it.

use crate::delivery::Reason;
use std::time::Duration;

/// Whose mail a breaker holds back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerScope {
    /// Everything that the deployment's provider account sends.
    Account,
    /// What one sender's address sends.
    Identity,
}

/// The breaker that a refusal opens; `None` where it concerns the one delivery only.
pub const fn breaker_scope(reason: Reason) -> Option<BreakerScope> {
    match reason {
        Reason::QuotaReached | Reason::SendingPaused | Reason::AccountSuspended | Reason::ConfigurationMissing => {
            Some(BreakerScope::Account)
        }
        Reason::IdentityUnverified => Some(BreakerScope::Identity),
        _ => None,
    }
}

/// How long is waited at least before the first probe. Whatever is mended by hand takes people minutes.
pub const fn hold_time(reason: Reason) -> Duration {
    Duration::from_secs(match reason {
        Reason::AccountSuspended => 30 * 60,
        // <https://docs.aws.amazon.com/ses/latest/dg/manage-sending-quotas-errors.html> asks for up to 10 minutes.
        Reason::QuotaReached => 10 * 60,
        _ => 6 * 60,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_one_recipient_holds_nobody_else_back() {
        assert_eq!(breaker_scope(Reason::RecipientUnverified), None);
        assert_eq!(breaker_scope(Reason::ProviderRejected), None);
    }

    #[test]
    fn a_sender_that_is_not_verified_holds_back_its_own_mail_only() {
        assert_eq!(breaker_scope(Reason::IdentityUnverified), Some(BreakerScope::Identity));
        assert_eq!(breaker_scope(Reason::QuotaReached), Some(BreakerScope::Account));
    }
}
