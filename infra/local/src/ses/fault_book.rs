//! Which fault the next send to an address meets, and which events follow it.

use std::collections::{HashMap, VecDeque};

use super::address::Address;
use super::event_script::EventScript;
use super::fault::{Fault, FaultError, Label, SIMULATOR_DOMAIN};

/// What becomes of one send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) fault: Option<Fault>,
    pub(super) events: EventScript,
}

impl Plan {
    /// The fault, or that there is none.
    pub(super) fn fault(&self) -> Fault {
        self.fault.unwrap_or(Fault::Accept)
    }
}

/// Scripts by address, and how often each address of the simulator has been sent to.
///
/// A script goes before the label of an address and is used up from the front.
#[derive(Debug, Default)]
pub(super) struct FaultBook {
    scripts: HashMap<String, VecDeque<Fault>>,
    counts: HashMap<String, u32>,
}

impl FaultBook {
    /// Sets the faults of the next sends to an address, in place of what was left of an earlier script.
    pub(super) fn set_script(&mut self, address: &Address, script: Vec<Fault>) {
        self.scripts.insert(address.key(), script.into());
    }

    /// Takes the plan for one send: the fault and the events of the first recipient that has any.
    ///
    /// Errors: a recipient at a simulator's domain whose local part names nothing, because a mistyped fault would
    /// otherwise pass for a success.
    pub(super) fn take_plan<'a>(
        &mut self,
        recipients: impl IntoIterator<Item = &'a Address>,
    ) -> Result<Plan, FaultError> {
        for recipient in recipients {
            let key = recipient.key();
            if let Some(fault) = self.scripts.get_mut(&key).and_then(VecDeque::pop_front) {
                return Ok(Plan { fault: Some(fault), events: EventScript::default() });
            }
            if let Some(events) = EventScript::of_ses_simulator(recipient).map_err(FaultError::UnknownWord)? {
                return Ok(Plan { fault: None, events });
            }
            if recipient.domain() != SIMULATOR_DOMAIN {
                continue;
            }
            let label = Label::parse(&recipient.local().to_ascii_lowercase())?;
            let count = self.counts.entry(key).or_default();
            *count = count.saturating_add(1);
            if label.times.is_none_or(|times| *count <= times) {
                return Ok(Plan { fault: Some(label.fault), events: label.events });
            }
            if !label.events_end {
                return Ok(Plan { fault: None, events: label.events });
            }
        }
        Ok(Plan::default())
    }

    /// Starts to count from nothing again. Scripts stay.
    pub(super) fn forget_counts(&mut self) {
        self.counts.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).expect("the test's address is sound")
    }

    fn take(book: &mut FaultBook, text: &str) -> Fault {
        book.take_plan([&address(text)]).expect("the label is sound").fault()
    }

    #[test]
    fn a_counted_fault_ends_after_its_count_for_each_full_address() {
        let mut book = FaultBook::default();
        for expected in [Fault::Fail, Fault::Fail, Fault::Accept, Fault::Accept] {
            assert_eq!(take(&mut book, "fail+2--a@simulator.harkara.test"), expected);
        }
        assert_eq!(take(&mut book, "fail+2--b@simulator.harkara.test"), Fault::Fail);
    }

    #[test]
    fn an_uncounted_fault_lasts() {
        let mut book = FaultBook::default();
        for _ in 0..5 {
            assert_eq!(take(&mut book, "reject@simulator.harkara.test"), Fault::Reject);
        }
    }

    #[test]
    fn a_script_is_used_up_in_order_and_then_the_address_speaks() {
        let mut book = FaultBook::default();
        book.set_script(&address("Asha@example.in"), vec![Fault::Throttle, Fault::Lost]);
        for expected in [Fault::Throttle, Fault::Lost, Fault::Accept] {
            assert_eq!(take(&mut book, "asha@example.in"), expected);
        }
    }

    #[test]
    fn an_ordinary_address_meets_no_fault() {
        assert_eq!(take(&mut FaultBook::default(), "fail@example.in"), Fault::Accept);
    }

    #[test]
    fn a_mistyped_address_of_the_simulator_is_an_error() {
        for (text, word) in
            [("trottle+1@simulator.harkara.test", "trottle"), ("bonce@simulator.amazonses.com", "bonce")]
        {
            let answer = FaultBook::default().take_plan([&address(text)]);
            assert_eq!(answer, Err(FaultError::UnknownWord(word.into())));
        }
    }

    #[test]
    fn the_first_recipient_with_a_fault_decides() {
        let recipients = [
            address("asha@example.in"),
            address("lost@simulator.harkara.test"),
            address("fail@simulator.harkara.test"),
        ];
        assert_eq!(FaultBook::default().take_plan(&recipients).map(|plan| plan.fault()), Ok(Fault::Lost));
    }

    #[test]
    fn a_label_of_events_ends_with_its_count_and_one_of_a_fault_keeps_its_events() {
        let mut book = FaultBook::default();
        let mut events = |text: &str| book.take_plan([&address(text)]).expect("the label is sound").events;
        let bounce = EventScript::of_word("bounce").expect("a word");
        assert_eq!(events("bounce+1@simulator.harkara.test"), bounce);
        assert_eq!(events("bounce+1@simulator.harkara.test"), EventScript::default());
        for _ in 0..2 {
            assert!(events("lost+1.silent@simulator.harkara.test").told().is_empty());
        }
    }

    #[test]
    fn forgetting_the_counts_begins_again() {
        let mut book = FaultBook::default();
        assert_eq!(take(&mut book, "fail+1@simulator.harkara.test"), Fault::Fail);
        book.forget_counts();
        assert_eq!(take(&mut book, "fail+1@simulator.harkara.test"), Fault::Fail);
    }
}
