//! What can go wrong in a simulated world, and how often it did.

use serde::Serialize;
use std::collections::BTreeMap;

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// Something that goes wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Fault { $($(#[$doc])* $name,)+ }

        impl Fault {
            /// Every fault.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Its name in figures.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

faults! {
    /// A worker dies between two steps.
    Crash = "worker_crashed",
    /// An invocation runs out of time.
    Timeout = "invocation_timed_out",
    /// A worker goes on after its invocation was given up.
    Zombie = "worker_outlived_its_invocation",
    /// A worker stalls between two steps.
    Stall = "worker_stalled",
    /// A worker's clock is up to a day off.
    ClockSkew = "clock_skewed",
    /// The database is not there.
    DatabaseDown = "database_down",
    /// The connection breaks before the commit.
    CommitLost = "commit_reset",
    /// The commit is applied, and its reply lost.
    CommitReplyLost = "commit_reply_lost",
    /// A statement is given up, and happens later all the same.
    CommitLate = "commit_late",
    /// A statement is cut off by the server.
    StatementTimeout = "statement_timed_out",
    /// The queue takes nothing of a call.
    QueueThrottled = "queue_throttled",
    /// The queue takes some entries of a call.
    QueueEntryFailed = "queue_entry_failed",
    /// The queue takes a call, and its reply is lost.
    QueueReplyLost = "queue_reply_lost",
    /// A message is handed out twice at once.
    MessageDuplicated = "message_duplicated",
    /// A deleted message comes back.
    DeleteUndone = "message_delete_undone",
    /// A message arrives later than it should.
    MessageDelayed = "message_delayed",
    /// The queue forgets a message.
    MessageLost = "message_lost",
    /// A batch is received, and the function is throttled.
    ReceiveThrottled = "invocation_throttled",
    /// A message that nobody can read, or that names what is not there.
    PoisonMessage = "message_poisoned",
    /// The bus takes nothing.
    BusRefused = "bus_refused",
    /// The provider takes a mail, and its reply is lost or says nothing.
    ProviderReplyLost = "provider_reply_lost",
    /// The provider answers 5xx, having sent or not.
    ProviderFailed = "provider_server_failed",
    /// The provider wants fewer requests.
    ProviderThrottled = "provider_throttled",
    /// The daily quota is used up.
    QuotaReached = "provider_quota_reached",
    /// Sending is paused or suspended.
    SendingPaused = "provider_sending_paused",
    /// One sender is not verified.
    IdentityUnverified = "provider_identity_unverified",
    /// No connection to the provider.
    ProviderUnreachable = "provider_unreachable",
    /// The provider does not believe who asks.
    CredentialsExpired = "provider_credentials_expired",
    /// The provider refuses a mail's content.
    MailRejected = "provider_mail_rejected",
    /// An event of the provider is never published.
    EventLost = "event_lost",
    /// An event is published more than once.
    EventDuplicated = "event_duplicated",
    /// An event comes late, and out of order.
    EventDelayed = "event_delayed",
    /// An event that names what is not there, or somebody else's.
    EventForged = "event_forged",
}

/// How often each fault was injected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct FaultCounts(BTreeMap<&'static str, u64>);

impl FaultCounts {
    pub(super) fn count(&mut self, fault: Fault) {
        *self.0.entry(fault.as_str()).or_default() += 1;
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        for (name, count) in &other.0 {
            *self.0.entry(name).or_default() += count;
        }
    }

    /// How often this one was injected.
    pub fn of(&self, fault: Fault) -> u64 {
        self.0.get(fault.as_str()).copied().unwrap_or_default()
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}
