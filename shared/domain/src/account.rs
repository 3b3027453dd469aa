//! What the provider's account says of itself, and the port that asks it.

use crate::feedback::SuppressionReason;
use crate::outcome::ProviderError;
use std::fmt;
use std::future::Future;
use std::num::NonZeroU32;

/// An address on the provider's own list: it takes a mail to it and never delivers it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ListedAddress {
    /// As the provider has it.
    pub address: String,
    /// Why it is there.
    pub reason: SuppressionReason,
}

impl fmt::Debug for ListedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "(address) for {}", self.reason)
    }
}

/// A page of the provider's list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPage {
    /// Its addresses.
    pub addresses: Vec<ListedAddress>,
    /// What to ask for the next page with; `None` on the last one.
    pub next: Option<String>,
}

/// The provider's account. It only reads, so that a call may be repeated.
pub trait MailAccount {
    /// Reads a page of the addresses that the provider does not deliver to.
    fn list_suppressed(&self, after: Option<&str>) -> impl Future<Output = Result<ListPage, ProviderError>> + Send;

    /// Reads how many mails the account may send in a second.
    fn read_send_rate(&self) -> impl Future<Output = Result<NonZeroU32, ProviderError>> + Send;
}
