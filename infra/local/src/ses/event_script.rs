//! Which events an accepted mail is followed by: as a rule that it was sent and delivered, else what its recipient asks
//! for.

use super::address::Address;
use super::happening::Happening;

/// SES's own simulator: <https://docs.aws.amazon.com/ses/latest/dg/send-an-email-from-console.html#send-email-simulator>.
const SES_SIMULATOR_DOMAIN: &str = "simulator.amazonses.com";

/// What is told of a mail, and in which order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EventScript {
    /// What happens, in order.
    pub(super) happenings: Vec<Happening>,
    /// Whether the mail reaches the recipient.
    pub(super) reaches_recipient: bool,
    is_silent: bool,
    is_twice: bool,
    is_reversed: bool,
}

impl Default for EventScript {
    fn default() -> Self {
        Self::of(&[Happening::Delivery], true)
    }
}

impl EventScript {
    fn of(happenings: &[Happening], reaches_recipient: bool) -> Self {
        let happenings = std::iter::once(Happening::Send).chain(happenings.iter().copied()).collect();
        Self { happenings, reaches_recipient, is_silent: false, is_twice: false, is_reversed: false }
    }

    /// What a mail to an address on the account's own list meets: it counts as sent, and bounces.
    pub(super) fn suppressed() -> Self {
        Self::of(&[Happening::Suppressed], false)
    }

    /// The script that a word of a label stands for.
    pub(super) fn of_word(word: &str) -> Option<Self> {
        use Happening::{
            AutomaticAnswer, Complaint, Delivery, DeliveryDelay, HardBounce, Reject, RenderingFailure, SoftBounce,
            TooLarge,
        };
        Some(match word {
            "delivered" => Self::default(),
            "bounce" => Self::of(&[HardBounce], false),
            "softbounce" => Self::of(&[SoftBounce], false),
            "toolarge" => Self::of(&[TooLarge], false),
            "complaint" => Self::of(&[Delivery, Complaint], true),
            "ooto" => Self::of(&[Delivery, AutomaticAnswer], true),
            "rejected" => Self::of(&[Reject], false),
            "rendering" => Self::of(&[RenderingFailure], false),
            "delayed" => Self::of(&[DeliveryDelay, Delivery], true),
            "silent" => Self { is_silent: true, ..Self::default() },
            _ => return None,
        })
    }

    /// Changes the script by another word of a label; says whether there is such a word.
    pub(super) fn change(&mut self, word: &str) -> bool {
        match word {
            "silent" => self.is_silent = true,
            "twice" => self.is_twice = true,
            "reversed" => self.is_reversed = true,
            _ => return false,
        }
        true
    }

    /// The script of an address of SES's own simulator.
    ///
    /// Errors: the simulator has no such address.
    pub(super) fn of_ses_simulator(address: &Address) -> Result<Option<Self>, String> {
        if address.domain() != SES_SIMULATOR_DOMAIN {
            return Ok(None);
        }
        let local = address.local().to_ascii_lowercase();
        let word = local.split_once('+').map_or(local.as_str(), |(word, _)| word);
        match word {
            "success" => Ok(Some(Self::default())),
            "bounce" | "complaint" | "ooto" => Ok(Self::of_word(word)),
            "suppressionlist" => Ok(Some(Self::of(&[Happening::GloballySuppressed], false))),
            other => Err(other.to_owned()),
        }
    }

    /// What is told, in the order in which it is told.
    pub(super) fn told(&self) -> Vec<Happening> {
        let mut told = if self.is_silent { Vec::new() } else { self.happenings.clone() };
        if self.is_reversed {
            told.reverse();
        }
        if self.is_twice {
            told = told.into_iter().flat_map(|happening| [happening, happening]).collect();
        }
        told
    }

    /// Whether SES puts the recipient on the account's list, and why. Its own simulator's addresses never get there.
    pub(super) fn listed_reason(&self, address: &Address) -> Option<&'static str> {
        if address.domain() == SES_SIMULATOR_DOMAIN {
            return None;
        }
        let has = |happening| self.happenings.contains(&happening);
        if has(Happening::Complaint) {
            Some("COMPLAINT")
        } else if has(Happening::HardBounce) {
            Some("BOUNCE")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).expect("the test's address is sound")
    }

    #[test]
    fn a_mail_is_sent_and_delivered_unless_its_label_says_otherwise() {
        use Happening::*;
        let table = [
            ("delivered", vec![Send, Delivery]),
            ("bounce", vec![Send, HardBounce]),
            ("complaint", vec![Send, Delivery, Complaint]),
            ("delayed", vec![Send, DeliveryDelay, Delivery]),
            ("rejected", vec![Send, Reject]),
            ("silent", vec![]),
        ];
        for (word, told) in table {
            assert_eq!(EventScript::of_word(word).map(|script| script.told()), Some(told), "{word}");
        }
        let mut changed = EventScript::of_word("complaint").expect("a word");
        assert!(changed.change("reversed") && changed.change("twice") && !changed.change("thrice"));
        assert_eq!(changed.told(), [Complaint, Complaint, Delivery, Delivery, Send, Send]);
    }

    #[test]
    fn the_simulator_of_ses_is_known_with_its_labels() {
        let script = |text: &str| EventScript::of_ses_simulator(&address(text));
        let told = |text: &str| script(text).expect("an address").expect("of the simulator").told();
        assert_eq!(told("bounce+a@simulator.amazonses.com"), [Happening::Send, Happening::HardBounce]);
        assert_eq!(told("Success@simulator.amazonses.com"), [Happening::Send, Happening::Delivery]);
        assert_eq!(told("suppressionlist@simulator.amazonses.com"), [Happening::Send, Happening::GloballySuppressed]);
        assert_eq!(script("bounce@example.org"), Ok(None));
        assert!(script("bonce@simulator.amazonses.com").is_err());
    }

    #[test]
    fn only_what_bounced_for_good_or_was_reported_gets_on_the_list() {
        let listed = |word: &str, to: &str| EventScript::of_word(word).expect("a word").listed_reason(&address(to));
        assert_eq!(listed("bounce", "a@simulator.harkara.test"), Some("BOUNCE"));
        assert_eq!(listed("complaint", "a@simulator.harkara.test"), Some("COMPLAINT"));
        assert_eq!(listed("softbounce", "a@simulator.harkara.test"), None);
        assert_eq!(listed("bounce", "bounce@simulator.amazonses.com"), None);
    }
}
