//! Prints an invitation: content lines of RFC 5545, folded and escaped, and the zone's rules for the event's days.
//!
//! It is written here because the libraries that could print it bring a second calendar library along, or fold too late.

use super::{Invitation, InvitationFacts, Method};
use crate::address::EmailAddress;
use crate::name::DisplayName;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use std::fmt::Write;

/// The longest line without its line break, in octets (RFC 5545, section 3.1).
const MAX_LINE_OCTETS: usize = 75;

/// An offset from UTC that a zone begins to have.
struct Observance {
    /// The local time until then at which it begins.
    begins_at: DateTime,
    from: Offset,
    to: Offset,
    name: Option<String>,
    is_daylight: bool,
}

pub(super) fn print_invitation(invitation: &Invitation, facts: &InvitationFacts<'_>) -> String {
    let Invitation { method, span, time_zone, summary, location, description, uid, sequence, organizer } = invitation;
    let zone_name = time_zone.as_ref().unwrap_or(facts.time_zone);
    let zone = zone_name.zone();
    let observances = find_observances(&zone, span.start(), span.end());
    // Without offsets to tell of, the times are UTC's own.
    let is_utc = observances.iter().all(|observance| observance.from == Offset::UTC && observance.to == Offset::UTC);

    let mut lines = Lines::default();
    lines.add("BEGIN:VCALENDAR");
    lines.add("PRODID:-//Harkara//Notifications//EN");
    lines.add("VERSION:2.0");
    lines.add("CALSCALE:GREGORIAN");
    lines.add(&format!("METHOD:{}", method.as_property()));
    if !is_utc {
        add_zone(&mut lines, zone_name.as_str(), &observances);
    }
    lines.add("BEGIN:VEVENT");
    match uid {
        Some(uid) => lines.add(&format!("UID:{}", escape_text(uid.as_str()))),
        None => lines.add(&format!("UID:{}@harkara", facts.notification)),
    }
    lines.add(&format!("DTSTAMP:{}", print_utc(facts.accepted_at)));
    for (name, at) in [("DTSTART", span.start()), ("DTEND", span.end())] {
        match is_utc {
            true => lines.add(&format!("{name}:{}", print_utc(at))),
            false => {
                let local = print_local(zone.to_datetime(at));
                lines.add(&format!("{name};TZID={}:{local}", zone_name.as_str()));
            }
        }
    }
    lines.add(&format!("SUMMARY:{}", escape_text(summary.as_str())));
    if let Some(location) = location {
        lines.add(&format!("LOCATION:{}", escape_text(location.as_str())));
    }
    if let Some(description) = description {
        lines.add(&format!("DESCRIPTION:{}", escape_text(description.as_str())));
    }
    // Another's name must not stand beside the organizer's address.
    let organizer_name = organizer.as_ref().map_or(facts.sender_name, |_| None);
    let organizer = organizer.as_ref().unwrap_or(facts.sender);
    lines.add(&format!("ORGANIZER{}:{}", common_name(organizer_name), print_mailto(organizer)));
    let asked = match method {
        Method::Request => ";ROLE=REQ-PARTICIPANT;PARTSTAT=NEEDS-ACTION;RSVP=TRUE",
        Method::Cancel => ";ROLE=REQ-PARTICIPANT",
    };
    let attendee = print_mailto(facts.recipient);
    lines.add(&format!("ATTENDEE{}{asked}:{attendee}", common_name(facts.recipient_name)));
    lines.add(&format!("SEQUENCE:{sequence}"));
    lines.add(match method {
        Method::Request => "STATUS:CONFIRMED",
        Method::Cancel => "STATUS:CANCELLED",
    });
    lines.add("END:VEVENT");
    lines.add("END:VCALENDAR");
    lines.text
}

/// The rules of a zone, as far as an event needs them: what holds when it begins, and what changes until it ends.
fn add_zone(lines: &mut Lines, name: &str, observances: &[Observance]) {
    lines.add("BEGIN:VTIMEZONE");
    lines.add(&format!("TZID:{name}"));
    for observance in observances {
        let kind = if observance.is_daylight { "DAYLIGHT" } else { "STANDARD" };
        lines.add(&format!("BEGIN:{kind}"));
        lines.add(&format!("DTSTART:{}", print_local(observance.begins_at)));
        lines.add(&format!("TZOFFSETFROM:{}", print_offset(observance.from)));
        lines.add(&format!("TZOFFSETTO:{}", print_offset(observance.to)));
        if let Some(name) = &observance.name {
            lines.add(&format!("TZNAME:{}", escape_text(name)));
        }
        lines.add(&format!("END:{kind}"));
    }
    lines.add("END:VTIMEZONE");
}

fn find_observances(zone: &TimeZone, start: Timestamp, end: Timestamp) -> Vec<Observance> {
    let tick = SignedDuration::from_nanos(1);
    let before = zone.preceding(start.saturating_add(tick).unwrap_or(start)).next();
    let during = zone.following(start).take_while(|change| change.timestamp() <= end);
    let observances: Vec<_> = before
        .into_iter()
        .chain(during)
        .map(|change| {
            let at = change.timestamp();
            let from = zone.to_offset(at.saturating_sub(tick).unwrap_or(at));
            Observance {
                begins_at: from.to_datetime(at),
                from,
                to: change.offset(),
                name: Some(change.abbreviation().to_owned()),
                is_daylight: change.dst().is_dst(),
            }
        })
        .collect();
    if !observances.is_empty() {
        return observances;
    }
    // A zone that never changed, such as Etc/GMT-5.
    let offset = zone.to_offset(start);
    let begins_at = offset.to_datetime(Timestamp::UNIX_EPOCH);
    vec![Observance { begins_at, from: offset, to: offset, name: None, is_daylight: false }]
}

/// Content lines, as they are added.
#[derive(Default)]
struct Lines {
    text: String,
}

impl Lines {
    fn add(&mut self, line: &str) {
        self.text.push_str(&fold_line(line));
        self.text.push_str("\r\n");
    }
}

/// Breaks a line so that none has more than 75 octets, and no character is torn apart. Whoever unfolds takes the line
/// breaks and the one space after each away.
pub(super) fn fold_line(line: &str) -> String {
    let mut folded = String::with_capacity(line.len() + line.len() / MAX_LINE_OCTETS * 3);
    let mut width = 0;
    for character in line.chars() {
        if width + character.len_utf8() > MAX_LINE_OCTETS {
            folded.push_str("\r\n ");
            width = 1;
        }
        folded.push(character);
        width += character.len_utf8();
    }
    folded
}

/// A value of type TEXT: RFC 5545, section 3.3.11.
pub(super) fn escape_text(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' | ';' | ',' => escaped.extend(['\\', character]),
            '\n' => escaped.push_str("\\n"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// The parameter that shows a name beside an address; what cannot stand in quotes is written as RFC 6868 has it.
fn common_name(name: Option<&DisplayName>) -> String {
    let Some(name) = name else { return String::new() };
    format!(";CN=\"{}\"", name.as_str().replace('^', "^^").replace('"', "^'"))
}

/// An address as a URI: RFC 6068, section 2. What an address may have and a URI may not is written in hex.
fn print_mailto(address: &EmailAddress) -> String {
    let mut uri = String::from("mailto:");
    for character in address.as_str().chars() {
        match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '.' | '_' | '~' | '!' | '$' | '\'' | '*' | '+' | '@' => {
                uri.push(character);
            }
            // An address is ASCII.
            other => write!(uri, "%{:02X}", u32::from(other)).expect("writing to a String cannot fail"),
        }
    }
    uri
}

fn print_utc(at: Timestamp) -> String {
    format!("{}Z", print_local(Offset::UTC.to_datetime(at)))
}

fn print_local(at: DateTime) -> String {
    at.strftime("%Y%m%dT%H%M%S").to_string()
}

/// Hours and minutes; seconds only where there are any: RFC 5545, section 3.3.14.
fn print_offset(offset: Offset) -> String {
    let seconds = offset.seconds();
    let sign = if seconds < 0 { '-' } else { '+' };
    let seconds = seconds.unsigned_abs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match rest {
        0 => format!("{sign}{hours:02}{minutes:02}"),
        rest => format!("{sign}{hours:02}{minutes:02}{rest:02}"),
    }
}
