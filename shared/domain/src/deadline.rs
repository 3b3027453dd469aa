//! Deadlines and their rungs: when whom is reminded of what is due, and what becomes of a rung whose time has come.
//!
//! Days are counted in the recipient's zone: a day before is the same time of the day before, also where the clocks
//! change in between. Hours, minutes and seconds are elapsed time. A local time that a day skips is taken an hour later,
//! and of one that a day has twice the first.
//!
//! The rules:
//! - A rung is decided once, fired, failed or skipped, as long as the deadline is due at that time. What has fired for a
//!   due time never fires again for it, wherever the deadline is moved meanwhile.
//! - What has fired and is not sent is withdrawn when the due time moves, or its recipient or rung is taken off the list: it
//!   tells of what is not so any more. Nobody got it, so that it counts as not fired from then on. Other data withdraws
//!   nothing: the due time stands, the rung's own time has passed, and without that message nobody would be reminded.
//! - A rung whose time has passed when the deadline is put is skipped (`past`), unless the caller wants it sent.
//! - When the due time moves, everything that has not fired is planned anew. What has fired is skipped (`fired_before`):
//!   nobody is reminded of one rung twice, whatever the caller wants of the past. That a deadline has passed is said anew
//!   for each due time that does.
//! - A rung that is late fires at the next run, and of several that are due of a deadline and recipient only the latest:
//!   the others are skipped (`overtaken`), so that nobody is reminded of one thing three times at once. It is the same
//!   where two of them fall on one moment.
//! - A rung before the deadline that is so late that the deadline has passed is skipped (`missed`).
//! - Where the deadline says by which policy, one escalation begins when it has passed, whomever it reminds. It is resolved
//!   when the deadline is completed, deleted, or put for another time.

use crate::delivery::named;
use crate::moment::{DAY, HOUR, MAX_WINDOW, MINUTE, TimeZoneName, WindowError, parse_duration};
use crate::notification::Refusal;
use crate::preference::print_time;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};
use std::collections::BTreeSet;
use std::fmt;

#[cfg(test)]
mod tests;

/// The most recipients of a deadline.
pub const MAX_RECIPIENTS: usize = 100;
/// The most rungs of a deadline.
pub const MAX_RUNGS: usize = 20;
/// How far ahead something can be due: ten years.
pub const FURTHEST_DUE: SignedDuration = SignedDuration::from_hours(3660 * 24);
/// How far before the deadline a rung has to lie, in seconds: some runs of the reminder, so that one that is late does
/// not miss it.
const LEAST_BEFORE: u32 = 300;
/// The key of what happens when the deadline has passed.
const OVERDUE_KEY: &str = "overdue";

named! {
    /// What has become of a rung.
    RungState {
        /// Its time is to come.
        Planned = "planned",
        /// It has become a notification.
        Fired = "fired",
        /// It became none, by a rule.
        Skipped = "skipped",
        /// Somebody withdrew it.
        Canceled = "canceled",
        /// It could not become one.
        Failed = "failed",
    }
}

named! {
    /// Why a rung became no notification.
    Note {
        /// Its time had passed when the deadline was put.
        Past = "past",
        /// It fired for an earlier due time.
        FiredBefore = "fired_before",
        /// Its time of the day is not before the deadline.
        AfterDue = "after_due",
        /// The deadline passed before it could fire.
        Missed = "missed",
        /// A later one of the same deadline and recipient was due, too.
        Overtaken = "overtaken",
        /// The deadline was completed.
        Completed = "completed",
        /// The recipient was erased.
        RecipientErased = "recipient_erased",
        /// Its category is not there.
        UnknownCategory = "unknown_category",
        /// The recipient is not there.
        UnknownRecipient = "unknown_recipient",
        /// Its template is not there.
        UnknownTemplate = "unknown_template",
        /// Its template has no content of its own, or was never published.
        NoContent = "no_content",
        /// The data is not what its template asks for.
        WrongData = "wrong_data",
        /// The recipient has no address for any of the channels.
        NoAddress = "no_address",
        /// What is stored of it cannot be read.
        Unreadable = "unreadable",
    }
}

named! {
    /// Why no escalation was started when a deadline had passed.
    NotEscalated {
        /// Its policy is not there any more.
        UnknownPolicy = "unknown_policy",
        /// Its policy cannot be read.
        UnreadablePolicy = "unreadable_policy",
        /// What is stored of the deadline cannot be read.
        Unreadable = "unreadable",
    }
}

named! {
    /// What becomes of rungs whose time has passed when the deadline is put.
    WhenPast {
        /// They are skipped. The default.
        Skip = "skip",
        /// The latest of them is sent at once.
        Send = "send",
    }
}

named! {
    /// How a deadline stands.
    DeadlineState {
        /// It lies ahead.
        Open = "open",
        /// It has passed, and nobody has completed it.
        Overdue = "overdue",
        /// It was completed; nobody is reminded any more.
        Completed = "completed",
    }
}

/// How a deadline stands now.
pub fn state_of(due: Timestamp, completed: Option<Timestamp>, now: Timestamp) -> DeadlineState {
    match completed {
        Some(_) => DeadlineState::Completed,
        None if due <= now => DeadlineState::Overdue,
        None => DeadlineState::Open,
    }
}

impl Note {
    /// What a refusal is called.
    pub const fn of_refusal(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::UnknownCategory => Self::UnknownCategory,
            Refusal::UnknownRecipient(_) => Self::UnknownRecipient,
            Refusal::UnknownTemplate => Self::UnknownTemplate,
            Refusal::UnpublishedTemplate | Refusal::NoContent => Self::NoContent,
            Refusal::WrongData(_) => Self::WrongData,
            Refusal::NoAddress(_) => Self::NoAddress,
            // Nothing of ours is sent at a time of its own.
            Refusal::SendTooFarAhead | Refusal::ExpiresBeforeSend => Self::Unreadable,
        }
    }
}

/// How far from the deadline: days of the recipient's calendar, and elapsed time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset {
    days: u32,
    seconds: u32,
}

impl Offset {
    /// Reads an ISO 8601 duration such as `P7D` or `PT2H`, of at most 366 days. `P1D` and `PT24H` are not the same where
    /// clocks change.
    ///
    /// # Errors
    ///
    /// When the text is none, or none that an offset can be.
    pub fn parse(text: &str) -> Result<Self, WindowError> {
        let (days, seconds) = parse_duration(text)?;
        if days.saturating_mul(DAY).saturating_add(seconds) > MAX_WINDOW {
            return Err(WindowError::TooLong);
        }
        let number = |number: u64| u32::try_from(number).map_err(|_| WindowError::TooLong);
        Ok(Self { days: number(days)?, seconds: number(seconds)? })
    }

    /// In seconds, by days of 24 hours.
    fn length(self) -> u64 {
        u64::from(self.days) * DAY + u64::from(self.seconds)
    }

    fn span(self) -> Span {
        Span::new().days(i64::from(self.days)).seconds(i64::from(self.seconds))
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = u64::from(self.seconds);
        f.write_str("P")?;
        if self.days > 0 || seconds == 0 {
            write!(f, "{}D", self.days)?;
        }
        if seconds > 0 {
            f.write_str("T")?;
        }
        for (count, unit) in [(seconds / HOUR, 'H'), (seconds % HOUR / MINUTE, 'M'), (seconds % MINUTE, 'S')] {
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

/// On which side of the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Before it.
    Before,
    /// At it, or after it.
    After,
}

/// When a rung fires, as the caller says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RungTime {
    side: Side,
    offset: Offset,
    at: Option<Time>,
}

/// Why a rung's time is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RungTimeError {
    /// It lies too close before the deadline.
    TooClose,
    /// A time of the day goes with whole days only.
    AtWantsDays,
    /// A time of the day of the deadline's own day may lie before the deadline.
    AtWantsADay,
}

impl fmt::Display for RungTimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooClose => "must be at least PT5M",
            Self::AtWantsDays => "must be whole days, because `at` says the time of the day",
            Self::AtWantsADay => "must be at least P1D, because `at` may lie before the deadline",
        })
    }
}

impl std::error::Error for RungTimeError {}

impl RungTime {
    /// Puts a rung's time together.
    ///
    /// # Errors
    ///
    /// When it lies less than five minutes before the deadline, or a time of the day does not go with the offset.
    pub const fn new(side: Side, offset: Offset, at: Option<Time>) -> Result<Self, RungTimeError> {
        match (side, at) {
            (_, Some(_)) if offset.seconds > 0 => Err(RungTimeError::AtWantsDays),
            (Side::After, Some(_)) if offset.days == 0 => Err(RungTimeError::AtWantsADay),
            (Side::Before, None) if offset.days == 0 && offset.seconds < LEAST_BEFORE => Err(RungTimeError::TooClose),
            _ => Ok(Self { side, offset, at }),
        }
    }

    /// On which side of the deadline it lies.
    pub const fn side(self) -> Side {
        self.side
    }

    /// How far from the deadline it lies.
    pub const fn offset(self) -> Offset {
        self.offset
    }

    /// At which time of the recipient's day; `None` is the deadline's own.
    pub const fn at(self) -> Option<Time> {
        self.at
    }
}

/// What a deadline does for each recipient at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// A reminder.
    Reminder(RungTime),
    /// The one notification that the deadline has passed.
    Overdue,
}

/// Its key: what it is called in the database and the API. `-P7D@09:00`, `+PT2H`, `overdue`.
impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Reminder(RungTime { side, offset, at }) = self else { return f.write_str(OVERDUE_KEY) };
        let sign = if *side == Side::Before { '-' } else { '+' };
        write!(f, "{sign}{offset}")?;
        at.map_or(Ok(()), |at| write!(f, "@{}", print_time(at)))
    }
}

impl Rung {
    /// When it fires for a recipient of this zone.
    pub fn fires_at(self, due: Timestamp, zone: &TimeZone) -> Timestamp {
        let Self::Reminder(RungTime { side, offset, at }) = self else { return due };
        let local = due.to_zoned(zone.clone());
        // Years of room lie between what can be due and what a timestamp can be.
        let moved = match side {
            Side::Before => local.saturating_sub(offset.span()),
            Side::After => local.saturating_add(offset.span()),
        };
        match at {
            None => moved.timestamp(),
            Some(at) => {
                let moment = zone.to_ambiguous_timestamp(moved.date().to_datetime(at)).compatible();
                moment.unwrap_or_else(|_| moved.timestamp())
            }
        }
    }

    fn is_before(self) -> bool {
        matches!(self, Self::Reminder(RungTime { side: Side::Before, .. }))
    }
}

/// The places of rungs whose time is in the list already. `P1D` and `PT24H` are the same here: they are, on all days but
/// those on which clocks change.
pub fn find_duplicates(rungs: &[RungTime]) -> Vec<usize> {
    let mut seen = BTreeSet::new();
    let mut is_new = |rung: &RungTime| seen.insert((rung.side, rung.offset.length(), rung.at));
    rungs.iter().enumerate().filter(|(_, rung)| !is_new(rung)).map(|(place, _)| place).collect()
}

/// The zone that a recipient's days are counted in: its own, or else the deadline's, or else the tenant's.
pub fn zone_of(recipient: Option<&str>, deadline: Option<&str>, tenant: &str) -> TimeZone {
    let named = [recipient, deadline, Some(tenant)].into_iter().flatten();
    let zone = named.filter_map(|name| TimeZoneName::parse(name).ok()).map(|name| name.zone()).next();
    zone.unwrap_or(TimeZone::UTC)
}

/// What a rung is planned against.
#[derive(Clone, Copy, Debug)]
pub struct Planning {
    /// When the deadline is.
    pub due: Timestamp,
    /// When it is put.
    pub now: Timestamp,
    /// What becomes of the past.
    pub when_past: WhenPast,
    /// Whether the rung has fired for this recipient and another due time.
    pub has_fired: bool,
}

/// When a rung fires, and why not, where it does not.
pub fn plan_rung(rung: Rung, zone: &TimeZone, planning: &Planning) -> (Timestamp, Option<Note>) {
    let Planning { due, now, when_past, has_fired } = *planning;
    let fire_at = rung.fires_at(due, zone);
    let note = if rung.is_before() && fire_at >= due {
        Some(Note::AfterDue)
    } else if has_fired && rung != Rung::Overdue {
        Some(Note::FiredBefore)
    } else if fire_at > now {
        None
    } else {
        (when_past == WhenPast::Skip).then_some(Note::Past)
    };
    (fire_at, note)
}

/// What becomes of a rung that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RungStep {
    /// Not yet: in the recipient's present zone it is later.
    Wait(Timestamp),
    /// It becomes a notification.
    Fire,
    /// It becomes none.
    Skip(Note),
}

/// Decides about a planned rung. `is_overtaken` says that a later one of the same deadline and recipient is due or has
/// fired.
pub fn decide_rung(rung: Rung, zone: &TimeZone, due: Timestamp, now: Timestamp, is_overtaken: bool) -> RungStep {
    let fire_at = rung.fires_at(due, zone);
    if rung.is_before() && fire_at >= due {
        return RungStep::Skip(Note::AfterDue);
    }
    if fire_at > now {
        return RungStep::Wait(fire_at);
    }
    if rung.is_before() && due <= now {
        return RungStep::Skip(Note::Missed);
    }
    // That something is overdue is said in any case.
    if is_overtaken && rung != Rung::Overdue {
        return RungStep::Skip(Note::Overtaken);
    }
    RungStep::Fire
}
