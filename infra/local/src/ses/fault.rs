//! The ways in which a send can go wrong, and the words for them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event_script::EventScript;
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
    /// 403, a signature of another time: the caller's clock is wrong.
    Skewed,
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
    /// Accepted, answered 200 with half a JSON document that claims to be whole.
    Malformed,
    /// Accepted, answered 200 without a body.
    Empty,
    /// Accepted, answered after this time. Whole milliseconds.
    Slow(Duration),
}

/// Each fault that is one word; `slow` carries a number and is read apart.
const WORDS: [(&str, Fault); 24] = [
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
    ("skewed", Fault::Skewed),
    ("fail", Fault::Fail),
    ("unavailable", Fault::Unavailable),
    ("lost", Fault::Lost),
    ("reset", Fault::Reset),
    ("truncated", Fault::Truncated),
    ("hang", Fault::Hang),
    ("garbled", Fault::Garbled),
    ("malformed", Fault::Malformed),
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
            Self::Skewed => Effect::Refuse(Refusal::skewed_signature()),
            Self::Fail => Effect::Refuse(Refusal::internal()),
            Self::Unavailable => Effect::Refuse(Refusal::unavailable()),
            Self::Lost => accept(Answer::Lost),
            Self::Reset => accept(Answer::Reset),
            Self::Truncated => accept(Answer::Truncated),
            Self::Hang => accept(Answer::Never),
            Self::Garbled => accept(Answer::Garbled),
            Self::Malformed => accept(Answer::Malformed),
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

/// The local part of an address of the simulator: a fault, for how many requests it lasts, and which events follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) fault: Fault,
    /// What follows an accepted mail.
    pub(super) events: EventScript,
    /// First requests that the label is about, an ordinary address afterwards; `None`: every one.
    pub(super) times: Option<u32>,
    /// Whether `times` ends the events, too, because the label begins with them.
    pub(super) events_end: bool,
}

impl Label {
    /// Reads `word`, `word+N` or `slow+MS`, where the word is a fault's or an events', and after it any number of
    /// further words of events behind dots: `lost+1.silent`, `complaint.reversed.twice`.
    /// Whatever follows `--` only makes the address unique.
    pub(super) fn parse(local: &str) -> Result<Self, FaultError> {
        let label = local.split_once("--").map_or(local, |(label, _)| label);
        let mut words = label.split('.');
        let first = words.next().unwrap_or_default();
        let mut label = Self::parse_first(first)?;
        for word in words {
            match EventScript::of_word(word) {
                _ if label.events.change(word) => {}
                Some(script) => label.events = script,
                None => return Err(FaultError::UnknownWord(word.to_owned())),
            }
        }
        Ok(label)
    }

    fn parse_first(text: &str) -> Result<Self, FaultError> {
        let (word, number) = match text.split_once('+') {
            None => (text, None),
            Some((word, digits)) => (word, Some(parse_number(digits)?)),
        };
        let of_fault = |fault, times| Self { fault, events: EventScript::default(), times, events_end: false };
        if word == SLOW {
            let milliseconds = number.ok_or_else(|| FaultError::WrongForm(text.to_owned()))?;
            return Ok(of_fault(Fault::Slow(Duration::from_millis(milliseconds.into())), None));
        }
        if let Some(events) = EventScript::of_word(word) {
            return Ok(Self { fault: Fault::Accept, events, times: number, events_end: true });
        }
        Ok(of_fault(fault_of_word(word)?, number))
    }
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let label = Label::parse(text)?;
        if text.contains("--") || text.contains('.') || label.times.is_some() || label.events_end {
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
            let events = EventScript::default();
            assert_eq!(Label::parse(local), Ok(Label { fault, events, times, events_end: false }), "{local}");
        }
    }

    #[test]
    fn a_label_names_the_events_that_follow() {
        let label = Label::parse("bounce+1--x").expect("a label");
        assert_eq!((label.fault, label.times, label.events_end), (Fault::Accept, Some(1), true));
        assert_eq!(Some(label.events), EventScript::of_word("bounce"));
        let label = Label::parse("lost+1.complaint.reversed--x").expect("a label");
        assert_eq!((label.fault, label.times, label.events_end), (Fault::Lost, Some(1), false));
        let mut events = EventScript::of_word("complaint").expect("a word");
        assert!(events.change("reversed"));
        assert_eq!(label.events, events);
        let label = Label::parse("lost.bounce.silent").expect("a label");
        assert!(label.events.told().is_empty() && !label.events.reaches_recipient);
    }

    #[test]
    fn a_mistyped_label_is_no_fault() {
        for local in ["lost.slent", "bounce.", "bounce.lost", "bounce+0"] {
            assert!(Label::parse(local).is_err(), "{local:?}");
        }
        for local in ["trottle", "", "fail+", "fail+0", "fail++3", "fail+x", "fail-3", "slow", "FAIL"] {
            assert!(Label::parse(local).is_err(), "{local:?}");
        }
        for script_word in ["fail+3", "fail--x", "slow", "bounce", "lost.silent"] {
            assert!(script_word.parse::<Fault>().is_err(), "{script_word:?}");
        }
    }
}
