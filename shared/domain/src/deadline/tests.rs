//! When rungs fire over clocks and calendars, and what is decided about them.

use super::*;
use crate::preference::parse_time;

fn at(text: &str) -> Timestamp {
    text.parse().expect("a timestamp")
}

fn zone(name: &str) -> TimeZone {
    zone_of(Some(name), None, "UTC")
}

/// Reads a rung by its key.
fn rung(key: &str) -> Rung {
    if key == OVERDUE_KEY {
        return Rung::Overdue;
    }
    let side = if key.starts_with('-') { Side::Before } else { Side::After };
    let (offset, at) = key[1..].split_once('@').map_or((&key[1..], None), |(offset, at)| (offset, Some(at)));
    let at = at.map(|at| parse_time(at).expect("a time of the day"));
    Rung::Reminder(RungTime::new(side, Offset::parse(offset).expect("an offset"), at).expect("a rung"))
}

fn fires(key: &str, due: &str, name: &str) -> String {
    rung(key).fires_at(at(due), &zone(name)).to_string()
}

#[test]
fn a_day_before_is_the_same_local_time_and_a_day_of_hours_is_not() {
    // New York leaves summer time on 1 November 2026, and takes it on 8 March 2026.
    let autumn = "2026-11-01T17:00:00Z";
    assert_eq!(fires("-P1D", autumn, "America/New_York"), "2026-10-31T16:00:00Z");
    assert_eq!(fires("-PT24H", autumn, "America/New_York"), "2026-10-31T17:00:00Z");
    let spring = "2026-03-08T16:00:00Z";
    assert_eq!(fires("-P1D", spring, "America/New_York"), "2026-03-07T17:00:00Z");
    assert_eq!(fires("-P1DT1H", spring, "America/New_York"), "2026-03-07T16:00:00Z");
    assert_eq!(fires("+P1D", "2026-03-07T17:00:00Z", "America/New_York"), spring);
    assert_eq!(fires("-P7D", "2026-12-01T03:30:00Z", "Asia/Kolkata"), "2026-11-24T03:30:00Z");
}

#[test]
fn a_time_that_a_day_skips_comes_an_hour_later_and_of_two_the_first() {
    // Berlin has no 02:30 on 29 March 2026, and two on 25 October 2026.
    assert_eq!(fires("-P1D@02:30", "2026-03-30T10:00:00Z", "Europe/Berlin"), "2026-03-29T01:30:00Z");
    assert_eq!(fires("-P1D", "2026-03-30T00:30:00Z", "Europe/Berlin"), "2026-03-29T01:30:00Z");
    assert_eq!(fires("-P1D@02:30", "2026-10-26T10:00:00Z", "Europe/Berlin"), "2026-10-25T00:30:00Z");
    // The second 02:30 keeps its place where hours are counted.
    assert_eq!(fires("-PT30M", "2026-10-25T01:30:00Z", "Europe/Berlin"), "2026-10-25T01:00:00Z");
}

#[test]
fn a_time_of_the_day_is_the_recipients() {
    let due = "2026-12-01T20:00:00Z";
    assert_eq!(fires("-P3D@09:00", due, "UTC"), "2026-11-28T09:00:00Z");
    // There it is 2 December already.
    assert_eq!(fires("-P3D@09:00", due, "Asia/Kolkata"), "2026-11-29T03:30:00Z");
    assert_eq!(fires("-P0D@09:00", due, "America/New_York"), "2026-12-01T14:00:00Z");
    assert_eq!(fires("+P1D@09:00", due, "America/New_York"), "2026-12-02T14:00:00Z");
    assert_eq!(fires("overdue", due, "Asia/Kolkata"), due);
}

#[test]
fn a_leap_day_is_a_day_like_another() {
    assert_eq!(fires("-P7D", "2028-03-07T09:00:00Z", "UTC"), "2028-02-29T09:00:00Z");
    assert_eq!(fires("-P1D", "2028-03-01T09:00:00Z", "UTC"), "2028-02-29T09:00:00Z");
    assert_eq!(fires("-P1D", "2027-03-01T09:00:00Z", "UTC"), "2027-02-28T09:00:00Z");
    assert_eq!(fires("-P366D", "2028-02-29T09:00:00Z", "UTC"), "2027-02-28T09:00:00Z");
    assert_eq!(fires("+P1D@08:00", "2028-02-28T09:00:00Z", "UTC"), "2028-02-29T08:00:00Z");
}

#[test]
fn a_rungs_key_has_one_spelling() {
    for (key, printed) in [
        ("-P7D", "-P7D"),
        ("-PT90M", "-PT1H30M"),
        ("-PT24H", "-PT24H"),
        ("-P1D", "-P1D"),
        ("-P1DT0S", "-P1D"),
        ("+PT0S", "+P0D"),
        ("-P07D@09:00", "-P7D@09:00"),
        ("overdue", "overdue"),
    ] {
        assert_eq!(rung(key).to_string(), printed);
        assert_eq!(rung(printed), rung(key));
    }
}

#[test]
fn what_no_rung_can_be_is_refused() {
    let make = |side, offset: &str, at: Option<&str>| {
        let at = at.map(|at| parse_time(at).expect("a time"));
        RungTime::new(side, Offset::parse(offset).expect("an offset"), at).err()
    };
    assert_eq!(make(Side::Before, "PT4M59S", None), Some(RungTimeError::TooClose));
    assert_eq!(make(Side::Before, "PT5M", None), None);
    assert_eq!(make(Side::Before, "P0D", None), Some(RungTimeError::TooClose));
    assert_eq!(make(Side::Before, "P0D", Some("09:00")), None);
    assert_eq!(make(Side::Before, "P1DT1H", Some("09:00")), Some(RungTimeError::AtWantsDays));
    assert_eq!(make(Side::After, "P0D", Some("09:00")), Some(RungTimeError::AtWantsADay));
    assert_eq!(make(Side::After, "P0D", None), None);
    for (text, error) in [
        ("P1M", WindowError::Calendar),
        ("P1W", WindowError::Calendar),
        ("-P1D", WindowError::Form),
        ("7D", WindowError::Form),
        ("P366DT1S", WindowError::TooLong),
        ("P99999999999D", WindowError::TooLong),
    ] {
        assert_eq!(Offset::parse(text), Err(error), "{text}");
    }
}

#[test]
fn the_same_time_twice_is_a_duplicate_in_any_spelling() {
    let times: Vec<RungTime> = ["-P1D", "-PT24H", "-PT60M", "-PT1H", "-P1D@09:00", "+PT1H", "-P1D"]
        .map(|key| match rung(key) {
            Rung::Reminder(time) => time,
            Rung::Overdue => unreachable!("none of them is"),
        })
        .to_vec();
    assert_eq!(find_duplicates(&times), [1, 3, 6]);
}

#[test]
fn what_is_past_when_the_deadline_is_put_is_skipped_unless_it_is_asked_for() {
    let planning = Planning {
        due: at("2026-12-01T12:00:00Z"),
        now: at("2026-11-26T12:00:00Z"),
        when_past: WhenPast::Skip,
        has_fired: false,
    };
    let note = |key: &str, planning: &Planning| plan_rung(rung(key), &TimeZone::UTC, planning).1;
    assert_eq!(note("-P7D", &planning), Some(Note::Past));
    assert_eq!(note("-P5D", &planning), Some(Note::Past), "now is past, too");
    assert_eq!(note("-P3D", &planning), None);
    assert_eq!(note("overdue", &planning), None);
    assert_eq!(note("-P0D@13:00", &planning), Some(Note::AfterDue));
    assert_eq!(note("-P0D@12:00", &planning), Some(Note::AfterDue));
    assert_eq!(note("-P7D", &Planning { when_past: WhenPast::Send, ..planning }), None);
    let fired = Planning { has_fired: true, when_past: WhenPast::Send, ..planning };
    assert_eq!(note("-P7D", &fired), Some(Note::FiredBefore), "whatever is wanted of the past");
    assert_eq!(note("-P3D", &fired), Some(Note::FiredBefore), "and where it lies ahead");
    assert_eq!(note("overdue", &fired), None, "it may pass again");
}

#[test]
fn a_late_rung_fires_unless_the_deadline_has_passed_or_a_later_one_is_due() {
    let due = at("2026-12-01T12:00:00Z");
    let decide =
        |key: &str, now: &str, is_overtaken| decide_rung(rung(key), &TimeZone::UTC, due, at(now), is_overtaken);
    assert_eq!(decide("-P1D", "2026-11-30T12:00:00Z", false), RungStep::Fire);
    assert_eq!(decide("-P1D", "2026-11-30T11:59:59Z", false), RungStep::Wait(at("2026-11-30T12:00:00Z")));
    assert_eq!(decide("-P1D", "2026-11-30T15:00:00Z", false), RungStep::Fire, "three hours late");
    assert_eq!(decide("-P3D", "2026-11-30T15:00:00Z", true), RungStep::Skip(Note::Overtaken));
    assert_eq!(decide("-PT2H", "2026-12-01T12:00:00Z", false), RungStep::Skip(Note::Missed));
    assert_eq!(decide("+PT2H", "2026-12-01T15:00:00Z", false), RungStep::Fire);
    assert_eq!(decide("+PT2H", "2026-12-01T15:00:00Z", true), RungStep::Skip(Note::Overtaken));
    assert_eq!(decide("overdue", "2026-12-01T15:00:00Z", true), RungStep::Fire);
}

#[test]
fn a_zone_is_the_recipients_or_the_deadlines_or_the_tenants() {
    let name = |recipient, deadline, tenant| zone_of(recipient, deadline, tenant).iana_name().map(str::to_owned);
    let (berlin, kolkata) = (Some("Europe/Berlin"), Some("Asia/Kolkata"));
    assert_eq!(name(berlin, kolkata, "America/New_York").as_deref(), berlin);
    assert_eq!(name(None, kolkata, "America/New_York").as_deref(), kolkata);
    assert_eq!(name(None, None, "America/New_York").as_deref(), Some("America/New_York"));
    assert_eq!(name(Some("nowhere"), None, "nonsense").as_deref(), Some("UTC"));
}
