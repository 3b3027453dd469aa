//! What reached the server, in order of arrival, and what became of it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::address::Address;
use super::attachment::SentFile;
use super::refusal::Refusal;
use super::rules::CheckedMail;

/// One request for a mail.
///
/// What is empty or `None` in a refused request could not be read from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// Position since the server started, from 1; clearing the ledger does not reset it.
    pub seq: u64,
    /// When the request had been read whole, by this machine's clock.
    pub at: Timestamp,
    /// The sender's field as it came.
    pub from: Option<String>,
    /// Bare addresses in lower case.
    pub to: Vec<String>,
    /// Bare addresses in lower case.
    pub cc: Vec<String>,
    /// Bare addresses in lower case.
    pub bcc: Vec<String>,
    /// The subject's data.
    pub subject: Option<String>,
    /// The text part's data.
    pub text: Option<String>,
    /// The HTML part's data.
    pub html: Option<String>,
    /// `EmailTags` by name.
    pub tags: BTreeMap<String, String>,
    /// The custom headers by name.
    pub headers: BTreeMap<String, String>,
    /// The files, without their content.
    #[serde(default)]
    pub attachments: Vec<SentFile>,
    /// Name of the configuration set.
    pub configuration_set: Option<String>,
    /// What became of the request.
    pub outcome: Outcome,
}

/// Whether a request was accepted; the caller may have learnt less.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// SES would send this mail.
    Accepted {
        /// The id that the answer carries, where it does.
        message_id: String,
        /// What the caller gets of the answer.
        answer: Answer,
    },
    /// SES would not.
    Refused(Refusal),
}

/// What the caller of an accepted mail gets to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// A 200 with the id.
    Whole,
    /// A 200 without a body.
    Empty,
    /// A 200 with HTML.
    Garbled,
    /// A 200 with JSON that cannot be read.
    Malformed,
    /// The first half of a 200.
    Truncated,
    /// A closed connection.
    Lost,
    /// A reset connection.
    Reset,
    /// Nothing, on an open connection.
    Never,
}

impl LedgerEntry {
    /// Whether SES would send this mail.
    pub fn is_accepted(&self) -> bool {
        matches!(self.outcome, Outcome::Accepted { .. })
    }

    /// Whether a bare, lower-cased address is among To, Cc and Bcc.
    pub fn has_recipient(&self, address: &str) -> bool {
        [&self.to, &self.cc, &self.bcc].into_iter().flatten().any(|recipient| recipient == address)
    }

    /// Makes the entry of a mail that passed the rules. `seq` is set by [`Ledger::record`].
    pub(super) fn of_mail(mail: CheckedMail, outcome: Outcome) -> Self {
        let keys = |list: Vec<Address>| list.iter().map(Address::key).collect();
        Self {
            seq: 0,
            at: Timestamp::now(),
            from: Some(mail.from),
            to: keys(mail.to),
            cc: keys(mail.cc),
            bcc: keys(mail.bcc),
            subject: Some(mail.subject),
            text: mail.text,
            html: mail.html,
            tags: mail.tags,
            headers: mail.headers,
            attachments: mail.attachments,
            configuration_set: mail.configuration_set,
            outcome,
        }
    }

    /// Makes the entry of a request that broke a rule; `to` is what its To field held, unread.
    pub(super) fn of_refusal(to: Vec<String>, refusal: Refusal) -> Self {
        Self {
            seq: 0,
            at: Timestamp::now(),
            from: None,
            to: to.iter().map(|address| address.to_lowercase()).collect(),
            cc: Vec::new(),
            bcc: Vec::new(),
            subject: None,
            text: None,
            html: None,
            tags: BTreeMap::new(),
            headers: BTreeMap::new(),
            attachments: Vec::new(),
            configuration_set: None,
            outcome: Outcome::Refused(refusal),
        }
    }
}

/// The entries, shared by the server and whoever looks at it.
#[derive(Debug)]
pub struct Ledger {
    state: watch::Sender<State>,
}

#[derive(Debug, Default)]
struct State {
    last_seq: u64,
    entries: Vec<LedgerEntry>,
}

impl Ledger {
    pub(super) fn new() -> Self {
        Self { state: watch::Sender::new(State::default()) }
    }

    pub(super) fn record(&self, mut entry: LedgerEntry) {
        self.state.send_modify(|state| {
            state.last_seq += 1;
            entry.seq = state.last_seq;
            state.entries.push(entry);
        });
    }

    /// Every entry, in order of arrival.
    pub fn entries(&self) -> Vec<LedgerEntry> {
        self.state.borrow().entries.clone()
    }

    /// The entries with this bare address among the recipients, in order of arrival. Case does not matter.
    pub fn entries_to(&self, address: &str) -> Vec<LedgerEntry> {
        let address = address.to_lowercase();
        let mut entries = self.entries();
        entries.retain(|entry| entry.has_recipient(&address));
        entries
    }

    /// Forgets the entries.
    pub fn clear(&self) {
        self.state.send_modify(|state| state.entries.clear());
    }

    /// Waits until the entries satisfy a condition, for at most `limit`; says whether they do.
    pub async fn wait_for(&self, limit: Duration, is_met: impl Fn(&[LedgerEntry]) -> bool) -> bool {
        let mut watcher = self.state.subscribe();
        let met = watcher.wait_for(|state| is_met(&state.entries));
        matches!(tokio::time::timeout(limit, met).await, Ok(Ok(_)))
    }
}
