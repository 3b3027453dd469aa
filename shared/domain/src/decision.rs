//! Whether a claimed delivery may be sent now, and what that was decided on.
//!
//! [`decide_dispatch`] is the one place: a pure function over what the claim returned. It runs with every claim, so that
//! what changed since the notification was accepted counts. That an address is suppressed is found by the claim itself,
//! under a lock, and stands before all of this.
//! Each finding is kept with the delivery and can say itself in a sentence; [`crate::explain`] prints them.

use crate::category::{Class, Priority};
use crate::delivery::{Channel, Reason};
use crate::moment::TimeZoneName;
use crate::preference::{Cadence, DigestChoice, Origin, Preference, QuietChoice, QuietHours};
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use std::fmt;

/// How long a delivery waits for others to the same recipient that are being sent: an attempt rarely takes longer.
const PENDING_WAIT_SECONDS: i64 = 5;
/// The longest that clocks in two zones are apart: who moves within it has had the digest of a period already.
pub(crate) const WIDEST_MOVE: SignedDuration = SignedDuration::from_hours(26);

/// What the claim knows of a delivery that asks to be sent.
#[derive(Clone, Debug)]
pub struct DispatchFacts {
    /// The database's time.
    pub now: Timestamp,
    /// When it was to be sent.
    pub send_at: Timestamp,
    /// When it is too late.
    pub expires_at: Option<Timestamp>,
    /// The end of the period whose digest it waits for by now.
    pub waits_until: Option<Timestamp>,
    /// The channel.
    pub channel: Channel,
    /// What the category is for.
    pub class: Class,
    /// How urgent it is.
    pub priority: Priority,
    /// The recipient's zone.
    pub zone: TimeZoneName,
    /// What the recipient wants.
    pub preference: Preference,
    /// Whether the category keeps quiet hours.
    pub quiet_hours_apply: bool,
    /// The consent that the category needs.
    pub consent: Option<NeededConsent>,
    /// How many of this category the recipient got; not asked for what is urgent or mandatory.
    pub throttle: Option<Allowance>,
    /// How many of all categories under the cap the recipient got; not asked for what is urgent or mandatory.
    pub cap: Option<Allowance>,
    /// When a cadence of days or weeks ends for the recipient.
    pub digest: DigestTime,
}

/// A consent that is needed, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeededConsent {
    /// For what.
    pub purpose: String,
    /// The newest word about it, and when it was said; `None` where there is none.
    pub standing: Option<(bool, Timestamp)>,
}

/// So many in so long, and how many it were already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Sent in the window before this one, or perhaps sent.
    pub count: u32,
    /// Being sent just now: some of them may come to nothing.
    pub pending: u32,
    /// The most.
    pub limit: u32,
    /// The window, in seconds.
    pub window_seconds: u32,
}

/// When digests are due, in the recipient's zone: the tenant's times, but for what the recipient has chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DigestTime {
    /// The time of the day.
    pub time: Time,
    /// The weekday by ISO 8601, 1 is Monday.
    pub weekday: i8,
}

impl Default for DigestTime {
    fn default() -> Self {
        Self { time: Time::constant(9, 0, 0, 0), weekday: 1 }
    }
}

impl DigestTime {
    /// What holds for a recipient who has chosen this, where `self` is its tenant's.
    pub fn chosen_by(self, choice: DigestChoice) -> Self {
        Self { time: choice.time.unwrap_or(self.time), weekday: choice.weekday.unwrap_or(self.weekday) }
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send it.
    Send,
    /// Never send it.
    Skip(Reason),
    /// Look at it again then.
    Hold(Reason, Timestamp),
    /// It is too late, or will be before it may be sent.
    Expire,
}

/// A verdict, and what it was found on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What is to be done.
    pub verdict: Verdict,
    /// What was looked at, in order; the last one decided.
    pub findings: Vec<Finding>,
}

/// One thing that was looked at. `Display` says it as a person would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The address is suppressed.
    Suppression {
        /// Why.
        reason: String,
        /// Who said so.
        source: String,
        /// Since when; `None` where that was not seen.
        since: Option<Timestamp>,
    },
    /// It would be too late.
    Expiry {
        /// Its limit.
        expires_at: Timestamp,
    },
    /// A consent that is needed.
    Consent {
        /// For what.
        purpose: String,
        /// Given, taken back, or never said.
        standing: Option<(bool, Timestamp)>,
    },
    /// Whether it is switched on.
    Preference {
        /// On or off.
        is_on: bool,
        /// Who said so.
        origin: Origin,
        /// The role that makes it mandatory.
        mandatory_for: Option<String>,
    },
    /// How often it is wanted.
    Cadence {
        /// The cadence.
        cadence: Cadence,
        /// Who said so.
        origin: Origin,
        /// When it is due by it.
        due: Timestamp,
    },
    /// Hours in which nothing should arrive.
    QuietHours {
        /// The hours.
        hours: QuietHours,
        /// In this zone.
        zone: String,
        /// Who said so.
        origin: Origin,
        /// When they end; `None` where it is none of them now.
        until: Option<Timestamp>,
    },
    /// The category's throttle.
    Throttle(Allowance),
    /// The tenant's frequency cap.
    FrequencyCap(Allowance),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Suppression { reason, source, since } => {
                write!(f, "the address is suppressed ({reason}, from {source}")?;
                if let Some(since) = since {
                    write!(f, ", since {since}")?;
                }
                f.write_str(")")
            }
            Self::Expiry { expires_at } => write!(f, "it would be too late: its expires_at is {expires_at}"),
            Self::Consent { purpose, standing: None } => {
                write!(f, "the category needs consent to \"{purpose}\", and none was ever given")
            }
            Self::Consent { purpose, standing: Some((true, at)) } => {
                write!(f, "consent to \"{purpose}\" was given at {at}")
            }
            Self::Consent { purpose, standing: Some((false, at)) } => {
                write!(f, "the category needs consent to \"{purpose}\", which was taken back at {at}")
            }
            Self::Preference { mandatory_for: Some(role), .. } if role == "*" => {
                f.write_str("the category is mandatory for everybody")
            }
            Self::Preference { mandatory_for: Some(role), .. } => {
                write!(f, "the category is mandatory for the role {role}, which the recipient has")
            }
            Self::Preference { is_on, origin, .. } => {
                write!(f, "it is switched {} by {}", if *is_on { "on" } else { "off" }, origin.who())
            }
            Self::Cadence { cadence, origin, due } => {
                write!(f, "it is wanted {cadence} by {}, and is due at {due}", origin.who())
            }
            Self::QuietHours { hours, zone, origin, until: Some(until) } => {
                write!(f, "it is quiet hours, {hours} in {zone}, until {until}; set by {}", origin.who())
            }
            Self::QuietHours { hours, zone, until: None, .. } => {
                write!(f, "it is not quiet hours, which are {hours} in {zone}")
            }
            Self::Throttle(allowance) => {
                write!(f, "the recipient got {allowance} of this category")
            }
            Self::FrequencyCap(allowance) => {
                write!(f, "the recipient got {allowance} under the tenant's frequency cap")
            }
        }
    }
}

impl fmt::Display for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of at most {} in {} seconds", self.count, self.limit, self.window_seconds)?;
        if self.pending > 0 {
            write!(f, " (being sent: {})", self.pending)?;
        }
        Ok(())
    }
}

/// Decides whether a delivery may be sent now. The first line that stops it wins:
///
/// | | question | when it stops |
/// |--:|---|---|
/// | 1 | has it expired | `expired` |
/// | 2 | is there the consent that the category needs | `skipped` |
/// | 3 | is it switched on (see [`crate::preference::resolve_preference`]) | `skipped` |
/// | 4 | is it due by the recipient's cadence | `held` until then |
/// | 5 | is it outside the recipient's quiet hours | `held` until they end |
/// | 6 | is it urgent, or mandatory for the recipient | never: what follows is not asked |
/// | 7 | has the recipient got fewer of this category than its throttle allows | `skipped` |
/// | 8 | would it with those that are being sent just now | `held` for a moment |
/// | 9 | has the recipient got less than the tenant's frequency cap allows | `skipped` |
/// | 10 | would it with those that are being sent just now | `held` for a moment |
///
/// What is `critical`, and security mail, is urgent: it waits neither for a cadence nor for quiet hours. A digest is what a
/// cadence leads to, so that none applies to it. What would be held beyond its `expires_at` expires at once.
pub fn decide_dispatch(facts: &DispatchFacts) -> Decision {
    let mut findings = Vec::new();
    let verdict = decide(facts, &mut findings);
    Decision { verdict, findings }
}

fn decide(facts: &DispatchFacts, findings: &mut Vec<Finding>) -> Verdict {
    let expires_before = |at: Timestamp| facts.expires_at.filter(|expires_at| *expires_at <= at);
    if let Some(expires_at) = expires_before(facts.now) {
        findings.push(Finding::Expiry { expires_at });
        return Verdict::Expire;
    }
    if let Some(NeededConsent { purpose, standing }) = &facts.consent {
        findings.push(Finding::Consent { purpose: purpose.clone(), standing: *standing });
        match standing {
            Some((true, _)) => {}
            Some((false, _)) => return Verdict::Skip(Reason::ConsentWithdrawn),
            None => return Verdict::Skip(Reason::ConsentMissing),
        }
    }
    let Preference { is_on, cadence, quiet_hours, mandatory_for } = &facts.preference;
    findings.push(Finding::Preference {
        is_on: is_on.value,
        origin: is_on.origin,
        mandatory_for: mandatory_for.clone(),
    });
    if !is_on.value {
        return Verdict::Skip(Reason::PreferenceOff);
    }
    let is_urgent = facts.priority == Priority::Critical || facts.class == Class::Security;
    let zone = facts.zone.zone();
    if cadence.value != Cadence::Immediate && !is_urgent && facts.class != Class::Digest {
        let due = match facts.waits_until {
            // Whoever changes one cadence, or time, for another while a digest waits gets what waits with the next one, and
            // not one by one.
            Some(end) if end > facts.now => Some(cadence_due(cadence.value, facts.now, &zone, facts.digest)),
            // As the close has it, where the change comes just before it.
            Some(end) => end_here(cadence.value, end, &zone, facts.now, facts.digest),
            None => None,
        };
        let due = due.unwrap_or_else(|| cadence_due(cadence.value, facts.send_at, &zone, facts.digest));
        findings.push(Finding::Cadence { cadence: cadence.value, origin: cadence.origin, due });
        if due > facts.now {
            return hold(facts, findings, Reason::CadenceNotDue, due);
        }
    }
    if let (QuietChoice::Hours(hours), true, false) = (quiet_hours.value, facts.quiet_hours_apply, is_urgent) {
        let until = quiet_until(hours, facts.now, &zone);
        findings.push(Finding::QuietHours {
            hours,
            zone: facts.zone.as_str().to_owned(),
            origin: quiet_hours.origin,
            until,
        });
        if let Some(until) = until {
            return hold(facts, findings, Reason::QuietHours, until);
        }
    }
    // The claim takes no slot for these, either.
    if is_urgent || mandatory_for.is_some() {
        return Verdict::Send;
    }
    for (allowance, finding, reason) in [
        (facts.throttle, Finding::Throttle as fn(Allowance) -> Finding, Reason::RecipientThrottled),
        (facts.cap, Finding::FrequencyCap, Reason::FrequencyCapReached),
    ] {
        if let Some(allowance) = allowance {
            findings.push(finding(allowance));
            if allowance.count >= allowance.limit {
                return Verdict::Skip(reason);
            }
            if allowance.count + allowance.pending >= allowance.limit {
                let until = facts.now.checked_add(PENDING_WAIT_SECONDS.seconds()).unwrap_or(facts.now);
                return hold(facts, findings, Reason::EarlierSendPending, until);
            }
        }
    }
    Verdict::Send
}

fn hold(facts: &DispatchFacts, findings: &mut Vec<Finding>, reason: Reason, until: Timestamp) -> Verdict {
    match facts.expires_at {
        Some(expires_at) if expires_at <= until => {
            findings.push(Finding::Expiry { expires_at });
            Verdict::Expire
        }
        _ => Verdict::Hold(reason, until),
    }
}

/// When quiet hours that it is now end; `None` where it is none of them.
///
/// An end that a change of clocks leaves out is the moment after the gap; one that comes twice is the next of the two.
pub fn quiet_until(hours: QuietHours, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let local = now.to_zoned(zone.clone());
    let (time, QuietHours { from, until }) = (local.time(), hours);
    let is_quiet = if from < until { from <= time && time < until } else { from <= time || time < until };
    let today = local.date();
    let end = |date: Date| moment_after(date, until, now, zone);
    is_quiet.then(|| end(today).or_else(|| end(tomorrow(today))).unwrap_or(now))
}

/// When something that was to be sent at `from` is due by a cadence: at the end of the hour, day or week that it is in.
///
/// A day ends once: where a change of clocks leaves out its end, the moment after the gap ends it, and where the end comes
/// twice, the first of the two.
pub fn cadence_due(cadence: Cadence, from: Timestamp, zone: &TimeZone, digest: DigestTime) -> Timestamp {
    let local = from.to_zoned(zone.clone());
    let date = local.date();
    match cadence {
        Cadence::Immediate => from,
        Cadence::Hourly => {
            let past = 60 * i64::from(local.minute()) + i64::from(local.second());
            let rest = SignedDuration::new(3600 - past, -local.subsec_nanosecond());
            from.checked_add(rest).unwrap_or(from)
        }
        Cadence::Daily => first_moment_after(date, digest.time, from, zone)
            .or_else(|| first_moment_after(tomorrow(date), digest.time, from, zone))
            .unwrap_or(from),
        Cadence::Weekly => {
            let ahead = (digest.weekday - date.weekday().to_monday_one_offset()).rem_euclid(7);
            let day = date.checked_add(i64::from(ahead).days()).unwrap_or(date);
            let next_week = day.checked_add(7.days()).unwrap_or(day);
            first_moment_after(day, digest.time, from, zone)
                .or_else(|| first_moment_after(next_week, digest.time, from, zone))
                .unwrap_or(from)
        }
    }
}

/// When a period that was to end at `end` ends where the recipient is now, and by the time of day that holds now, if that is
/// still to come within about a day: the end was worked out for those that held when something began to wait. Of a week that
/// has just ended there, the next end is too far away, and what waits leaves when it was to leave.
pub fn end_here(
    cadence: Cadence,
    end: Timestamp,
    zone: &TimeZone,
    now: Timestamp,
    digest: DigestTime,
) -> Option<Timestamp> {
    let before = end.checked_sub(SignedDuration::from_nanos(1)).unwrap_or(end);
    let here = cadence_due(cadence, before, zone, digest);
    (here > now && here.duration_since(end) <= WIDEST_MOVE).then_some(here)
}

fn tomorrow(date: Date) -> Date {
    date.tomorrow().unwrap_or(date)
}

/// The first moment at which clocks in the zone show this date and time, if it is after `after`.
fn first_moment_after(date: Date, time: Time, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    zone.to_ambiguous_timestamp(date.to_datetime(time)).compatible().ok().filter(|first| *first > after)
}

/// The first moment after `after` at which clocks in the zone show this date and time; `None` where there is none.
fn moment_after(date: Date, time: Time, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let shown = zone.to_ambiguous_timestamp(date.to_datetime(time));
    let first = shown.compatible().ok()?;
    if first > after {
        return Some(first);
    }
    shown.later().ok().filter(|second| *second > after)
}

#[cfg(test)]
mod tests;
