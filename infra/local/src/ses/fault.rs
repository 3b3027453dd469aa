//! The ways in which a send can go wrong, and the words for them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ledger::Answer;
use super::refusal::Refusal;

/// A recipient at this domain asks for a fault by its local part: `fail+3--some-text@simulator.harkara.test`.
pub const SIMULATOR_DOMAIN: &str = "simulator.harkara.test";

/// What happens to one send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Fault {
    /// Nothing: accepted and answered.
    Accept,
    /// `MessageRejected`: the content is refused for good.
    Reject,
    /// `MessageRejected` in the words of an account in the sandbox.
    Sandbox,
    /// `BadRequestException`.
    Invalid,
    /// `TooManyRequestsException`, 429.
    Throttle,
    /// A 429 that names no exception.
    Busy,
    /// `ThrottlingException` for the rate per second.
    Rate,
    /// `ThrottlingException` for the quota of 24 hours.
    Quota,
    /// `LimitExceededException`.
    Limit,
    /// `SendingPausedException`.
    Paused,
    /// `AccountSuspendedException`.
    Suspended,
    /// `MailFromDomainNotVerifiedException`.
    Unverified,
    /// `NotFoundException`, as for a configuration set that is gone.
    Missing,
    /// 403, credentials expired.
    Expired,
    /// 500.
    Fail,
    /// 503.
    Unavailable,
    /// Accepted, then the connection closes without a byte of answer.
    Lost,
    /// Accepted, then the connection is reset.
    Reset,
    /// Accepted, then half of a 200 and the end of the connection.
    Truncated,
    /// Accepted and never answered.
    Hang,
    /// Accepted, answered 200 with a page of HTML.
    Garbled,
    /// Accepted, answered 200 without a body.
    Empty,
    /// Accepted, answered after this time. Whole milliseconds.
    Slow(Duration),
}

/// Each fault that is one word; `slow` carries a number and is read apart.
const WORDS: [(&str, Fault); 22] = [
    ("accept", Fault::Accept),
    ("reject", Fault::Reject),
    ("sandbox", Fault::Sandbox),
    ("invalid", Fault::Invalid),
    ("throttle", Fault::Throttle),
    ("busy", Fault::Busy),
    ("rate", Fault::Rate),
    ("quota", Fault::Quota),
    ("limit", Fault::Limit),
    ("paused", Fault::Paused),
    ("suspended", Fault::Suspended),
    ("unverified", Fault::Unverified),
    ("missing", Fault::Missing),
    ("expired", Fault::Expired),
    ("fail", Fault::Fail),
    ("unavailable", Fault::Unavailable),
    ("lost", Fault::Lost),
    ("reset", Fault::Reset),
    ("truncated", Fault::Truncated),
    ("hang", Fault::Hang),
    ("garbled", Fault::Garbled),
    ("empty", Fault::Empty),
];
const SLOW: &str = "slow";

/// What a fault does to a request that SES's rules allow.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Not accepted.
    Refuse(Refusal),
    /// Accepted, and answered like this after this time.
    Accept(Answer, Duration),
}

impl Fault {
    pub(super) fn effect(self) -> Effect {
        let accept = |answer| Effect::Accept(answer, Duration::ZERO);
        match self {
            Self::Accept => accept(Answer::Whole),
            Self::Reject => Effect::Refuse(Refusal::rejected("Transaction failed: message refused.")),
            Self::Sandbox => Effect::Refuse(Refusal::unknown_identity("the recipient")),
            Self::Invalid => Effect::Refuse(Refusal::bad_request("Invalid input.")),
            Self::Throttle => Effect::Refuse(Refusal::too_many_requests()),
            Self::Busy => Effect::Refuse(Refusal::bare_too_many_requests()),
            Self::Rate => Effect::Refuse(Refusal::rate_exceeded()),
            Self::Quota => Effect::Refuse(Refusal::quota_exceeded()),
            Self::Limit => Effect::Refuse(Refusal::limit_exceeded()),
            Self::Paused => Effect::Refuse(Refusal::sending_paused()),
            Self::Suspended => Effect::Refuse(Refusal::account_suspended()),
            Self::Unverified => Effect::Refuse(Refusal::mail_from_not_verified()),
            Self::Missing => Effect::Refuse(Refusal::unknown_configuration_set("gone")),
            Self::Expired => Effect::Refuse(Refusal::expired_token()),
            Self::Fail => Effect::Refuse(Refusal::internal()),
            Self::Unavailable => Effect::Refuse(Refusal::unavailable()),
            Self::Lost => accept(Answer::Lost),
            Self::Reset => accept(Answer::Reset),
            Self::Truncated => accept(Answer::Truncated),
            Self::Hang => accept(Answer::Never),
            Self::Garbled => accept(Answer::Garbled),
            Self::Empty => accept(Answer::Empty),
            Self::Slow(delay) => Effect::Accept(Answer::Whole, delay),
        }
    }
}

/// Why a text names no fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultError {
    /// No fault has this word.
    UnknownWord(String),
    /// The part after `+` is no whole number above zero.
    BadNumber(String),
    /// `slow` without its milliseconds, or a number where a script allows none.
    WrongForm(String),
}

impl fmt::Display for FaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownWord(word) => write!(f, "no fault is called {word:?}"),
            Self::BadNumber(text) => write!(f, "{text:?} is no whole number above zero"),
            Self::WrongForm(text) => write!(
                f,
                "{text:?} has the wrong form: slow needs milliseconds (slow+250), a word of a script takes no number"
            ),
        }
    }
}

impl std::error::Error for FaultError {}

/// The local part of an address of the simulator: a fault, and for how many requests it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) fault: Fault,
    /// First requests that meet the fault; `None`: every one.
    pub(super) times: Option<u32>,
}

impl Label {
    /// Reads `word`, `word+N` or `slow+MS`; whatever follows `--` only makes the address unique.
    pub(super) fn parse(local: &str) -> Result<Self, FaultError> {
        let label = local.split_once("--").map_or(local, |(label, _)| label);
        let (word, number) = match label.split_once('+') {
            None => (label, None),
            Some((word, digits)) => (word, Some(parse_number(digits)?)),
        };
        if word == SLOW {
            let milliseconds = number.ok_or_else(|| FaultError::WrongForm(label.to_owned()))?;
            return Ok(Self { fault: Fault::Slow(Duration::from_millis(milliseconds.into())), times: None });
        }
        Ok(Self { fault: fault_of_word(word)?, times: number })
    }
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let label = Label::parse(text)?;
        if text.contains("--") || label.times.is_some() {
            return Err(FaultError::WrongForm(text.to_owned()));
        }
        Ok(label.fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slow(delay) => write!(f, "{SLOW}+{}", delay.as_millis()),
            fault => WORDS.iter().filter(|(_, known)| known == fault).try_for_each(|(word, _)| f.write_str(word)),
        }
    }
}

impl TryFrom<String> for Fault {
    type Error = FaultError;

    fn try_from(text: String) -> Result<Self, FaultError> {
        text.parse()
    }
}

impl From<Fault> for String {
    fn from(fault: Fault) -> Self {
        fault.to_string()
    }
}

fn fault_of_word(word: &str) -> Result<Fault, FaultError> {
    WORDS
        .iter()
        .find(|(known, _)| *known == word)
        .map(|(_, fault)| *fault)
        .ok_or_else(|| FaultError::UnknownWord(word.to_owned()))
}

fn parse_number(digits: &str) -> Result<u32, FaultError> {
    let bad = || FaultError::BadNumber(digits.to_owned());
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    digits.parse().ok().filter(|n| *n > 0).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_read_back_from_what_it_prints() {
        let faults = WORDS.iter().map(|(_, fault)| *fault).chain([Fault::Slow(Duration::from_millis(250))]);
        for fault in faults {
            assert_eq!(fault.to_string().parse(), Ok(fault));
        }
    }

    #[test]
    fn a_label_names_a_fault_and_how_often() {
        for (local, fault, times) in [
            ("fail", Fault::Fail, None),
            ("fail+3", Fault::Fail, Some(3)),
            ("fail+3--abc", Fault::Fail, Some(3)),
            ("lost--a--b", Fault::Lost, None),
            ("slow+250--x", Fault::Slow(Duration::from_millis(250)), None),
        ] {
            assert_eq!(Label::parse(local), Ok(Label { fault, times }), "{local}");
        }
    }

    #[test]
    fn a_mistyped_label_is_no_fault() {
        for local in ["trottle", "", "fail+", "fail+0", "fail++3", "fail+x", "fail-3", "slow", "FAIL"] {
            assert!(Label::parse(local).is_err(), "{local:?}");
        }
        for script_word in ["fail+3", "fail--x", "slow"] {
            assert!(script_word.parse::<Fault>().is_err(), "{script_word:?}");
        }
    }
}
