//! What a recipient wants, what its tenant wants for those who say nothing, and which of it holds.
//!
//! [`resolve_preference`] is the whole precedence. Nothing else decides whether somebody has switched something off.

use crate::delivery::{Channel, named};
use crate::id::CategoryKey;
use jiff::civil::Time;
use std::fmt;

named! {
    /// How often somebody wants to hear of a category.
    Cadence {
        /// At once.
        Immediate = "immediate",
        /// Collected until the next full hour.
        Hourly = "hourly",
        /// Collected until the digest time of the day.
        Daily = "daily",
        /// Collected until the digest time of the digest weekday.
        Weekly = "weekly",
    }
}

impl Cadence {
    /// Those that collect.
    pub const PERIODIC: &'static [Self] = &[Self::Hourly, Self::Daily, Self::Weekly];
}

named! {
    /// Who said what a value is, and how exactly: the weaker, the further down.
    Origin {
        /// A rule of the category, which no preference changes.
        Mandatory = "mandatory",
        /// The recipient, for this category on this channel.
        RecipientCategoryChannel = "recipient_category_channel",
        /// The recipient, for this category.
        RecipientCategory = "recipient_category",
        /// The recipient, for this channel.
        RecipientChannel = "recipient_channel",
        /// The recipient, for everything.
        Recipient = "recipient",
        /// The tenant, for this category on this channel.
        TenantCategoryChannel = "tenant_category_channel",
        /// The tenant, for this category.
        TenantCategory = "tenant_category",
        /// The tenant, for this channel.
        TenantChannel = "tenant_channel",
        /// The tenant, for everything.
        Tenant = "tenant",
        /// Nobody said anything.
        BuiltIn = "built_in",
    }
}

impl Origin {
    /// Where a stored preference stands.
    pub const fn of(is_tenants: bool, names_category: bool, names_channel: bool) -> Self {
        match (is_tenants, names_category, names_channel) {
            (false, true, true) => Self::RecipientCategoryChannel,
            (false, true, false) => Self::RecipientCategory,
            (false, false, true) => Self::RecipientChannel,
            (false, false, false) => Self::Recipient,
            (true, true, true) => Self::TenantCategoryChannel,
            (true, true, false) => Self::TenantCategory,
            (true, false, true) => Self::TenantChannel,
            (true, false, false) => Self::Tenant,
        }
    }

    /// Who that is, in a sentence.
    pub const fn who(self) -> &'static str {
        match self {
            Self::Mandatory => "a rule of the category",
            Self::RecipientCategoryChannel => "the recipient, for this category on this channel",
            Self::RecipientCategory => "the recipient, for this category",
            Self::RecipientChannel => "the recipient, for this channel",
            Self::Recipient => "the recipient, for everything",
            Self::TenantCategoryChannel => "the tenant, for this category on this channel",
            Self::TenantCategory => "the tenant, for this category",
            Self::TenantChannel => "the tenant, for this channel",
            Self::Tenant => "the tenant, for everything",
            Self::BuiltIn => "nobody, so that it is the default",
        }
    }
}

/// A time of the day in which nothing should arrive, in the recipient's own zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuietHours {
    /// When they begin.
    pub from: Time,
    /// When they end; earlier than `from` where they last over midnight. Never the same.
    pub until: Time,
}

impl fmt::Display for QuietHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", print_time(self.from), print_time(self.until))
    }
}

/// Says that a text is not a time of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeOfDayError;

impl fmt::Display for TimeOfDayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a time of the day such as 07:30")
    }
}

impl std::error::Error for TimeOfDayError {}

/// Reads `HH:MM`, from 00:00 to 23:59.
///
/// # Errors
///
/// When the text has any other form.
pub fn parse_time(text: &str) -> Result<Time, TimeOfDayError> {
    let digits =
        |part: &str| (part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit())).then(|| part.parse().ok());
    let (hour, minute) = text.split_once(':').ok_or(TimeOfDayError)?;
    let (hour, minute) = digits(hour).flatten().zip(digits(minute).flatten()).ok_or(TimeOfDayError)?;
    Time::new(hour, minute, 0, 0).map_err(|_| TimeOfDayError)
}

/// Prints a time as [`parse_time`] reads it.
pub fn print_time(time: Time) -> String {
    format!("{:02}:{:02}", time.hour(), time.minute())
}

/// A choice about quiet hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuietChoice {
    /// There are none.
    None,
    /// There are these.
    Hours(QuietHours),
}

impl QuietChoice {
    /// Two times; the same twice means that there are none.
    pub fn of(from: Time, until: Time) -> Self {
        if from == until { Self::None } else { Self::Hours(QuietHours { from, until }) }
    }

    /// The two times as they are stored.
    pub fn times(self) -> (Time, Time) {
        match self {
            Self::None => (Time::midnight(), Time::midnight()),
            Self::Hours(hours) => (hours.from, hours.until),
        }
    }
}

/// When a recipient wants to be told what was collected, in its own zone. What is `None` is the tenant's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DigestChoice {
    /// The time of the day.
    pub time: Option<Time>,
    /// The weekday by ISO 8601, 1 is Monday.
    pub weekday: Option<i8>,
}

impl DigestChoice {
    /// What a recipient has chosen, by its wishes about any category and channel, and its tenant's.
    pub fn of(wishes: &[(Origin, Wish)]) -> Self {
        let general = wishes.iter().find(|(origin, _)| *origin == Origin::Recipient);
        general.map(|(_, wish)| wish.digest).unwrap_or_default()
    }
}

/// What was said about one category or all, and one channel or all. `None` says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Whether to send.
    pub is_on: Option<bool>,
    /// How often.
    pub cadence: Option<Cadence>,
    /// When not.
    pub quiet_hours: Option<QuietChoice>,
    /// When what was collected leaves. One digest collects from many categories: only a recipient says it, for everything.
    pub digest: DigestChoice,
}

/// A wish, and what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatedWish {
    /// The category; `None` is all of them.
    pub category: Option<CategoryKey>,
    /// The channel; `None` is all of them.
    pub channel: Option<Channel>,
    /// What is wanted.
    pub wish: Wish,
}

impl StatedWish {
    /// Whether it says something about a category and channel.
    pub fn is_about(&self, category: &str, channel: Channel) -> bool {
        self.category.as_ref().is_none_or(|key| key.as_str() == category)
            && self.channel.is_none_or(|named| named == channel)
    }

    /// How strong it is, for a recipient or for its tenant.
    pub fn origin(&self, is_tenants: bool) -> Origin {
        Origin::of(is_tenants, self.category.is_some(), self.channel.is_some())
    }
}

/// A value, and who said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen<T> {
    /// The value that holds.
    pub value: T,
    /// Who said so.
    pub origin: Origin,
}

/// What holds for one recipient, category and channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preference {
    /// Whether to send.
    pub is_on: Chosen<bool>,
    /// How often.
    pub cadence: Chosen<Cadence>,
    /// When not.
    pub quiet_hours: Chosen<QuietChoice>,
    /// The role that makes the category mandatory for this recipient; `*` where it is for everybody.
    pub mandatory_for: Option<String>,
}

/// Decides what holds.
///
/// `wishes` are those about this category and channel, or about all, in any order. Each value is decided on its own, by
/// the first line that says something about it:
///
/// | | who | category | channel |
/// |--:|---|---|---|
/// | 1 | the category's `unmutable_roles` name one of the recipient's roles, or `*`: it is on | | |
/// | 2 | recipient | this | this |
/// | 3 | recipient | this | all |
/// | 4 | recipient | all | this |
/// | 5 | recipient | all | all |
/// | 6 | tenant | this | this |
/// | 7 | tenant | this | all |
/// | 8 | tenant | all | this |
/// | 9 | tenant | all | all |
/// | 10 | built in: on, immediate, no quiet hours | | |
///
/// Line 1 decides only whether, and not when: quiet hours and cadence stay the recipient's.
pub fn resolve_preference(wishes: &[(Origin, Wish)], unmutable_roles: &[String], roles: &[String]) -> Preference {
    let mandatory_for = unmutable_roles.iter().find(|role| *role == "*" || roles.contains(role)).cloned();
    let first =
        |said: &dyn Fn(&Wish) -> bool| wishes.iter().filter(|(_, wish)| said(wish)).min_by_key(|(origin, _)| *origin);
    let built_in = Origin::BuiltIn;
    let is_on = match first(&|wish| wish.is_on.is_some()) {
        _ if mandatory_for.is_some() => Chosen { value: true, origin: Origin::Mandatory },
        Some((origin, wish)) => Chosen { value: wish.is_on.unwrap_or(true), origin: *origin },
        None => Chosen { value: true, origin: built_in },
    };
    let cadence = match first(&|wish| wish.cadence.is_some()) {
        Some((origin, wish)) => Chosen { value: wish.cadence.unwrap_or(Cadence::Immediate), origin: *origin },
        None => Chosen { value: Cadence::Immediate, origin: built_in },
    };
    let quiet_hours = match first(&|wish| wish.quiet_hours.is_some()) {
        Some((origin, wish)) => Chosen { value: wish.quiet_hours.unwrap_or(QuietChoice::None), origin: *origin },
        None => Chosen { value: QuietChoice::None, origin: built_in },
    };
    Preference { is_on, cadence, quiet_hours, mandatory_for }
}

named! {
    /// By what somebody wants to be told, in one word.
    Contact {
        /// By text message only.
        Sms = "sms",
        /// By mail only.
        Email = "email",
        /// By both. The default.
        Both = "both",
        /// By neither.
        None = "none",
    }
}

impl Contact {
    /// Whether it wants a channel; `None` for channels that the word says nothing about.
    pub const fn wants(self, channel: Channel) -> Option<bool> {
        match channel {
            Channel::Email => Some(matches!(self, Self::Email | Self::Both)),
            Channel::Sms => Some(matches!(self, Self::Sms | Self::Both)),
            _ => None,
        }
    }

    /// The word for what is wanted.
    pub const fn of(email: bool, sms: bool) -> Self {
        match (email, sms) {
            (true, true) => Self::Both,
            (true, false) => Self::Email,
            (false, true) => Self::Sms,
            (false, false) => Self::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn on(is_on: bool) -> Wish {
        Wish { is_on: Some(is_on), ..Wish::default() }
    }

    #[test]
    fn the_more_exact_word_holds_and_the_recipients_before_the_tenants() {
        let ranked = &Origin::ALL[1..9];
        for (place, strong) in ranked.iter().enumerate() {
            for weak in &ranked[place + 1..] {
                let wishes = [(*weak, on(true)), (*strong, on(false))];
                let held = resolve_preference(&wishes, &[], &[]);
                assert_eq!(held.is_on, Chosen { value: false, origin: *strong }, "{strong} against {weak}");
            }
        }
    }

    #[test]
    fn each_value_is_decided_on_its_own() {
        let night = QuietChoice::of(parse_time("22:00").expect("a time"), parse_time("07:00").expect("a time"));
        let wishes = [
            (Origin::RecipientCategory, Wish { cadence: Some(Cadence::Daily), ..Wish::default() }),
            (Origin::Recipient, Wish { quiet_hours: Some(night), ..Wish::default() }),
            (Origin::TenantChannel, Wish { is_on: Some(false), cadence: Some(Cadence::Weekly), ..Wish::default() }),
        ];
        let held = resolve_preference(&wishes, &[], &[]);
        assert_eq!(held.is_on, Chosen { value: false, origin: Origin::TenantChannel });
        assert_eq!(held.cadence, Chosen { value: Cadence::Daily, origin: Origin::RecipientCategory });
        assert_eq!(held.quiet_hours, Chosen { value: night, origin: Origin::Recipient });
        let silent = resolve_preference(&[], &[], &[]);
        assert_eq!(silent.is_on, Chosen { value: true, origin: Origin::BuiltIn });
        assert_eq!(silent.cadence.value, Cadence::Immediate);
    }

    #[test]
    fn who_holds_an_unmutable_role_cannot_switch_it_off() {
        let wishes = [(Origin::RecipientCategoryChannel, on(false))];
        let roles = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let regulated = roles(&["CAE", "CCO"]);
        for (unmutable, held, is_on) in [
            (&regulated, roles(&["AUDITOR", "CAE"]), true),
            (&regulated, roles(&["AUDITOR"]), false),
            (&regulated, roles(&[]), false),
            (&roles(&["*"]), roles(&[]), true),
            (&roles(&[]), roles(&["CAE"]), false),
        ] {
            let preference = resolve_preference(&wishes, unmutable, &held);
            assert_eq!(preference.is_on.value, is_on, "{unmutable:?} {held:?}");
            assert_eq!(preference.mandatory_for.is_some(), is_on);
        }
    }

    #[test]
    fn one_word_says_mail_and_text_message_and_nothing_else() {
        for word in Contact::ALL {
            let wants = |channel| word.wants(channel);
            let (email, sms) = (wants(Channel::Email).expect("said"), wants(Channel::Sms).expect("said"));
            assert_eq!(Contact::of(email, sms), *word);
            assert_eq!(wants(Channel::Push), None);
        }
    }

    proptest! {
        #[test]
        fn a_time_of_day_is_read_as_it_is_printed(text in "[0-9]{2}:[0-9]{2}|.{0,6}") {
            if let Ok(time) = parse_time(&text) {
                prop_assert_eq!(print_time(time), text);
            }
        }
    }
}
