//! What an escalation does next: which level fires, on which tier of channels, and when it ends.
//!
//! A policy has steps, which are levels when they fire, and a step has tiers: channels that are tried in parallel, and
//! others where those fail or nobody answers. [`turn_after`] is the order of all of it; [`plan_next`] says when.
//! Each delay counts from when the thing before it really fired. So a function that did not run for hours fires what is
//! due one after the other, each at its distance from the last: no level is left out, and no two fire at once.

use crate::category::Priority;
use crate::delivery::{Channel, named};
use crate::id::{CategoryKey, RecipientKey};
use crate::moment::Window;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;
use std::fmt;

/// The name in a notification's data under which its escalation stands.
pub const RESERVED: &str = "escalation";
/// The most steps of a policy.
pub const MAX_STEPS: usize = 20;
/// The most tiers of a step.
pub const MAX_TIERS: usize = 5;
/// The most recipients and roles that a step names.
pub const MAX_NAMED: usize = 100;
/// The most recipients that one step reaches; a role may be a whole organisation's.
pub const MAX_REACHED: usize = 1000;
/// The most repetitions.
pub const MAX_REPEATS: u32 = 10;
/// The shortest delay, in seconds: the function looks each minute.
pub const SHORTEST_DELAY_SECONDS: u32 = 60;
/// The longest delay, in seconds: 30 days.
pub const LONGEST_DELAY_SECONDS: u32 = 30 * 24 * 60 * 60;
/// How long after its last step an escalation is exhausted where its policy does not say, in seconds.
pub const LAST_WAIT_DEFAULT_SECONDS: u32 = 60 * 60;

named! {
    /// Where an escalation stands. The comment of each state says who moves it on.
    EscalationState {
        /// `escalation` fires its next step, or ends it.
        Open = "open",
        /// Somebody is on it; whoever resolves it ends it.
        Acknowledged = "acknowledged",
        /// What it was about is done. An end.
        Resolved = "resolved",
        /// Every step has fired and nobody acknowledged it. An end, unless somebody comes late.
        Exhausted = "exhausted",
        /// It was given up, with a reason. An end.
        Canceled = "canceled",
    }
}

impl EscalationState {
    /// Whether an acknowledgement changes it: somebody may come late, and nobody brings back what is over.
    pub const fn can_be_acknowledged(self) -> bool {
        matches!(self, Self::Open | Self::Exhausted)
    }

    /// Whether it can still be resolved.
    pub const fn can_be_resolved(self) -> bool {
        matches!(self, Self::Open | Self::Acknowledged | Self::Exhausted)
    }
}

named! {
    /// Who has to acknowledge.
    Acknowledgement {
        /// One is enough.
        Any = "any",
        /// Each recipient whom a step has reached.
        Each = "each",
    }
}

named! {
    /// Why a step, or a tier of it, reached nobody.
    Unreached {
        /// No recipient is meant by it: nobody has the role, or is the manager, or those who are named were erased.
        NoRecipients = "no_recipients",
        /// All of them have acknowledged it.
        AllAcknowledged = "all_acknowledged",
        /// None of its channels can be sent.
        NoChannel = "no_channel",
        /// Nothing could be created for any of them; the note has the reason.
        Refused = "refused",
    }
}

/// Who is meant by a step.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whom {
    /// A recipient.
    Recipient(RecipientKey),
    /// Everybody with a role.
    Role(String),
    /// The managers of those whom the level before was for.
    Manager,
}

/// Channels that are used in parallel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// Which.
    pub channels: BTreeSet<Channel>,
    /// After how long a silence since the tier before, unless that failed; nothing for the first.
    pub after_seconds: u32,
}

/// A step of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// How long after the step before it; after the start for the first.
    pub delay_seconds: u32,
    /// The kind of its notifications, where it is not the policy's.
    pub category: Option<CategoryKey>,
    /// Whom it is for.
    pub whom: Vec<Whom>,
    /// Its channels; at least one tier.
    pub tiers: Vec<Tier>,
}

/// How often the steps begin anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repeat {
    /// How often, beyond the first time.
    pub count: u32,
    /// How long after the last step.
    pub interval_seconds: u32,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The kind of its notifications.
    pub category: CategoryKey,
    /// How urgent they are. What is critical waits for no quiet hours and no digest.
    pub priority: Priority,
    /// Its steps, in order; at least one.
    pub steps: Vec<Step>,
    /// Whether they begin anew.
    pub repeat: Repeat,
    /// Who has to acknowledge.
    pub acknowledgement: Acknowledgement,
    /// How long after the last step it is exhausted.
    pub last_wait_seconds: u32,
    /// How long the links in its mails act.
    pub link_lifetime_seconds: u32,
}

impl Policy {
    /// The category of a step's notifications.
    pub fn category_of<'a>(&'a self, step: &'a Step) -> &'a CategoryKey {
        step.category.as_ref().unwrap_or(&self.category)
    }

    fn step(&self, level: u32) -> Option<&Step> {
        self.steps.get(usize::try_from(level.checked_sub(1)?).ok()?)
    }

    /// The step and the tier of a place.
    pub fn at(&self, place: Place) -> Option<(&Step, &Tier)> {
        let step = self.step(place.level)?;
        let tier = step.tiers.get(usize::try_from(place.tier.checked_sub(1)?).ok()?)?;
        Some((step, tier))
    }

    /// How long it is from a step, all its tiers included, to what comes after it.
    pub fn wait_after(&self, repeat: u32, level: u32) -> u32 {
        match self.step(level + 1) {
            Some(next) => next.delay_seconds,
            None if repeat < self.repeat.count => self.repeat.interval_seconds,
            None => self.last_wait_seconds,
        }
    }
}

/// A place in the order of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Which repetition; 0 is the first time.
    pub repeat: u32,
    /// Which step, from 1.
    pub level: u32,
    /// Which tier of it, from 1.
    pub tier: u32,
}

impl Place {
    /// Where every escalation begins.
    pub const FIRST: Self = Self { repeat: 0, level: 1, tier: 1 };
}

/// What an escalation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// A tier of a step is sent.
    Fire(Place),
    /// Nothing is left to be fired.
    Exhaust,
}

/// What comes after a place: the step's next tier, the next step, the first one again, or the end.
pub fn turn_after(policy: &Policy, fired: Option<Place>) -> Turn {
    let Some(fired) = fired else { return Turn::Fire(Place::FIRST) };
    let candidates = [Place { tier: fired.tier + 1, ..fired }, Place { level: fired.level + 1, tier: 1, ..fired }];
    match candidates.into_iter().find(|place| policy.at(*place).is_some()) {
        Some(place) => Turn::Fire(place),
        None if fired.repeat < policy.repeat.count => Turn::Fire(Place { repeat: fired.repeat + 1, ..Place::FIRST }),
        None => Turn::Exhaust,
    }
}

/// What was just fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fired {
    /// What.
    pub place: Place,
    /// When.
    pub at: Timestamp,
    /// When the first tier of its step was.
    pub level_at: Timestamp,
    /// Whom it reached.
    pub reach: Reach,
}

/// Whom a tier reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Somebody.
    Somebody,
    /// Nobody, but an earlier tier of the step did.
    NobodyHere,
    /// Nobody, and no earlier tier of the step did.
    Nobody,
}

/// When an escalation begins to fire.
pub fn plan_first(policy: &Policy, started_at: Timestamp) -> Timestamp {
    let delay = policy.steps.first().map_or(0, |step| step.delay_seconds);
    started_at + seconds(delay)
}

/// When what comes after `fired` is due. Where a tier or a step reached nobody, it is due at once. A round that is
/// repeated never is, because nothing would end it sooner; nor is the end, because those who were reached before may answer.
pub fn plan_next(policy: &Policy, fired: &Fired) -> Timestamp {
    let Fired { place, at, level_at, reach } = *fired;
    let again = place.repeat < policy.repeat.count && policy.step(place.level + 1).is_none();
    match turn_after(policy, Some(place)) {
        Turn::Fire(next) if next.level == place.level && next.repeat == place.repeat => match reach {
            Reach::Somebody => at + seconds(policy.at(next).map_or(0, |(_, tier)| tier.after_seconds)),
            Reach::NobodyHere | Reach::Nobody => at,
        },
        Turn::Fire(_) if reach == Reach::Nobody && !again => at,
        Turn::Fire(_) | Turn::Exhaust => {
            let wait = policy.wait_after(place.repeat, place.level);
            // From the step's first tier; but where a later tier came late, what is behind it comes as much later.
            let tiers = policy.step(place.level).map_or(&[][..], |step| &step.tiers);
            let planned: u32 = tiers.iter().take(place.tier as usize).map(|tier| tier.after_seconds).sum();
            (level_at + seconds(wait)).max(at + seconds(wait.saturating_sub(planned)))
        }
    }
}

/// Whether a later tier of the place's step is still to come.
pub fn has_fallback(policy: &Policy, place: Place) -> bool {
    policy.at(Place { tier: place.tier + 1, ..place }).is_some()
}

/// What an acknowledgement comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// The escalation is acknowledged.
    Whole,
    /// This recipient has; the steps go on for the others.
    Part,
    /// Nothing: somebody was first, or it is over.
    Nothing,
}

/// Decides an acknowledgement, by those who have acknowledged with it and those whom the steps have reached.
pub fn decide_acknowledgement(
    state: EscalationState,
    wanted: Acknowledgement,
    notified: &[String],
    acknowledged: &[String],
) -> Answered {
    let is_whole = match wanted {
        Acknowledgement::Any => true,
        // Before anybody was told, nobody can speak for those who will be.
        Acknowledgement::Each => !notified.is_empty() && leave_out(notified, acknowledged).is_empty(),
    };
    match (state.can_be_acknowledged(), is_whole) {
        (false, _) => Answered::Nothing,
        (true, true) => Answered::Whole,
        (true, false) => Answered::Part,
    }
}

/// Who has acknowledged an escalation whose turn has come, if nobody is left who still could: everybody whom it has reached has,
/// or was erased. Then it is acknowledged, by who was last, although one who had to was missing when they did: those who are
/// there have all said that they are on it, and no step could reach anybody else who is waited for. Where nobody has said so,
/// nobody is on it, and its steps go on.
pub fn find_whole_answer(waits_for_nobody: bool, acknowledged: &[String]) -> Option<&str> {
    acknowledged.last().filter(|_| waits_for_nobody).map(String::as_str)
}

/// Who is left to be told: all of them, but those who have acknowledged it already.
pub fn leave_out<'a>(meant: &'a [String], acknowledged: &[String]) -> Vec<&'a str> {
    meant.iter().filter(|id| !acknowledged.contains(id)).map(String::as_str).collect()
}

fn seconds(seconds: u32) -> SignedDuration {
    SignedDuration::from_secs(i64::from(seconds))
}

/// Reads a delay of a policy.
///
/// # Errors
///
/// When it is no duration, or shorter than a minute, or longer than 30 days.
pub fn parse_delay(text: &str) -> Result<u32, String> {
    let window = Window::parse(text).map_err(|error| error.to_string())?;
    match window.seconds() {
        SHORTEST_DELAY_SECONDS..=LONGEST_DELAY_SECONDS => Ok(window.seconds()),
        _ => Err("must be from PT1M to P30D".to_owned()),
    }
}

#[cfg(test)]
mod tests;
