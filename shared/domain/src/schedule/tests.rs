//! What EventBridge takes and refuses, and when it is due where the calendar and the clocks are odd.

use super::*;
use crate::moment::TimeZoneName;

fn zone(name: &str) -> TimeZone {
    TimeZoneName::parse(name).expect("a zone").zone()
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// The next times behind `after`, in UTC.
fn list_next(schedule: &str, zone_name: &str, after: &str, count: usize) -> Vec<String> {
    let schedule = Schedule::parse(schedule).unwrap_or_else(|error| panic!("{schedule} {error}"));
    let zone = zone(zone_name);
    let anchored_at = at("2026-11-22T08:00:30Z");
    let next = |after: &Timestamp| schedule.next_after(anchored_at, *after, &zone);
    std::iter::successors(next(&at(after)), next).take(count).map(|at| at.to_string()).collect()
}

#[test]
fn what_eventbridge_takes_is_taken_and_printed_as_it_was_written() {
    for text in [
        "rate(1 minute)",
        "rate(5 minutes)",
        "rate(1 hour)",
        "rate(12 hours)",
        "rate(1 day)",
        "rate(366 days)",
        "cron(0 10 * * ? *)",
        "cron(15 12 * * ? *)",
        "cron(0 18 ? * MON-FRI *)",
        "cron(0 8 1 * ? *)",
        "cron(0/10 * ? * MON-FRI *)",
        "cron(*/5 * * * ? *)",
        "cron(0/5 8-17 ? * MON-FRI *)",
        "cron(0 9 ? * 2#1 *)",
        "cron(0 0 L * ? *)",
        "cron(0 0 LW * ? *)",
        "cron(0 0 3W * ? *)",
        "cron(0 0 ? * 6L 2026-2199)",
        "cron(0 0 ? * L *)",
        "cron(0 0 ? * friL *)",
        "cron(0,30 1,2,3 1-15/2 JAN,mar-may ? 2027/2)",
        "cron(59 23 31 12 ? 2199)",
    ] {
        let schedule = Schedule::parse(text).unwrap_or_else(|error| panic!("{text} {error}"));
        assert_eq!((schedule.as_str(), schedule.to_string().as_str()), (text, text));
    }
}

#[test]
fn what_eventbridge_would_refuse_is_refused() {
    let long = format!("cron({} * * * ? *)", "0,".repeat(200));
    for text in [
        "",
        "rate",
        "rate()",
        "rate(5)",
        "rate(0 minutes)",
        "rate(-5 minutes)",
        "rate(+5 minutes)",
        "rate(1.5 hours)",
        "rate(1 minutes)",
        "rate(5 minute)",
        "rate(1 hours)",
        "rate(2 day)",
        "rate(5 seconds)",
        "rate(1 week)",
        "rate(5  minutes)",
        "rate(5 minutes) ",
        "rate(367 days)",
        "rate(99999999999999 days)",
        "Rate(5 minutes)",
        "every 5 minutes",
        "* * * * *",
        "cron()",
        "cron(* * * * *)",
        "cron(0 * * * * ? *)",
        "cron(0 10 * * * *)",
        "cron(0 10 ? * ? *)",
        "cron(0 10 1 * MON *)",
        "cron(60 * * * ? *)",
        "cron(0 24 * * ? *)",
        "cron(0 0 0 * ? *)",
        "cron(0 0 32 * ? *)",
        "cron(0 0 1 13 ? *)",
        "cron(0 0 1 FOO ? *)",
        "cron(0 0 ? * 0 *)",
        "cron(0 0 ? * 8 *)",
        "cron(0 0 ? * 2/2 *)",
        "cron(0 0 ? * 3#6 *)",
        "cron(0 0 ? * 3#1,6#3 *)",
        "cron(0 0 ? * 6L,2 *)",
        "cron(0 0 L,15 * ? *)",
        "cron(0 0 1W,15 * ? *)",
        "cron(0 0 1-5W * ? *)",
        "cron(0 0 32W * ? *)",
        "cron(0 0 W * ? *)",
        "cron(L 0 * * ? *)",
        "cron(? 0 * * ? *)",
        "cron(5-1 0 * * ? *)",
        "cron(0/0 * * * ? *)",
        "cron(/5 * * * ? *)",
        "cron(0/ * * * ? *)",
        "cron(0/+5 * * * ? *)",
        "cron(0,,5 * * * ? *)",
        "cron(*,5 * * * ? *)",
        "cron(0 0 1 * ? 1969)",
        "cron(0 0 1 * ? 2200)",
        "cron(0 0 1 * ? 2026-2200)",
        "cron(0 0 ? * FRI-MON *)",
        "@daily",
        &long,
    ] {
        assert!(Schedule::parse(text).is_err(), "{text:?} is taken");
    }
}

#[test]
fn a_refusal_says_what_is_wrong() {
    let says = |text: &str| Schedule::parse(text).expect_err("refused").to_string();
    assert_eq!(says("rate(1 minutes)"), "must say minute beside 1");
    assert_eq!(says("rate(5 minute)"), "must say minutes beside 5");
    assert_eq!(says("cron(0 24 * * ? *)"), "has \"24\" for its hours, which is not within 0 to 23");
    assert_eq!(says("cron(0 1 * * * *)"), "must have ? for exactly one of day-of-month and day-of-week");
}

#[test]
fn a_rate_keeps_its_distance_from_where_it_was_put() {
    let next = list_next("rate(5 minutes)", "UTC", "2026-11-22T08:17:00Z", 2);
    assert_eq!(next, ["2026-11-22T08:20:30Z", "2026-11-22T08:25:30Z"], "and not from when it ran last");
    let next = list_next("rate(1 day)", "UTC", "2026-11-23T08:00:30Z", 1);
    assert_eq!(next, ["2026-11-24T08:00:30Z"], "the time itself is not behind itself");
    let next = list_next("rate(1 hour)", "UTC", "2026-11-22T07:00:00Z", 1);
    assert_eq!(next, ["2026-11-22T09:00:30Z"]);
}

#[test]
fn the_calendar_is_followed_in_the_zone() {
    // Schedule, zone, after, the next two.
    let table = [
        (
            "cron(30 2 * * ? *)",
            "Asia/Kolkata",
            "2026-11-22T00:00:00Z",
            ["2026-11-22T21:00:00Z", "2026-11-23T21:00:00Z"],
        ),
        (
            "cron(0/15 8-9 ? * MON-FRI *)",
            "UTC",
            "2026-11-20T09:30:00Z",
            ["2026-11-20T09:45:00Z", "2026-11-23T08:00:00Z"],
        ),
        ("cron(0 0 29 2 ? *)", "UTC", "2026-11-22T00:00:00Z", ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]),
        (
            "cron(0 0 29 FEB ? 2097-2199)",
            "UTC",
            "2026-11-22T00:00:00Z",
            ["2104-02-29T00:00:00Z", "2108-02-29T00:00:00Z"],
        ),
        ("cron(0 6 L * ? *)", "UTC", "2028-02-01T00:00:00Z", ["2028-02-29T06:00:00Z", "2028-03-31T06:00:00Z"]),
        ("cron(0 6 31 * ? *)", "UTC", "2026-11-01T00:00:00Z", ["2026-12-31T06:00:00Z", "2027-01-31T06:00:00Z"]),
        // The 1st of November 2026 is a Sunday, the 15th, too; the 31st of October a Saturday.
        ("cron(0 6 1W * ? *)", "UTC", "2026-10-31T00:00:00Z", ["2026-11-02T06:00:00Z", "2026-12-01T06:00:00Z"]),
        ("cron(0 6 15W * ? *)", "UTC", "2026-10-31T00:00:00Z", ["2026-11-16T06:00:00Z", "2026-12-15T06:00:00Z"]),
        ("cron(0 6 LW * ? *)", "UTC", "2026-10-01T00:00:00Z", ["2026-10-30T06:00:00Z", "2026-11-30T06:00:00Z"]),
        ("cron(0 6 ? * 6L *)", "UTC", "2026-11-22T00:00:00Z", ["2026-11-27T06:00:00Z", "2026-12-25T06:00:00Z"]),
        ("cron(0 6 ? * 3#2 *)", "UTC", "2026-11-01T00:00:00Z", ["2026-11-10T06:00:00Z", "2026-12-08T06:00:00Z"]),
        ("cron(0 6 ? * WED#5 *)", "UTC", "2026-11-01T00:00:00Z", ["2026-12-30T06:00:00Z", "2027-03-31T06:00:00Z"]),
        ("cron(0 6 ? * L *)", "UTC", "2026-11-22T00:00:00Z", ["2026-11-28T06:00:00Z", "2026-12-05T06:00:00Z"]),
        ("cron(0 6 ? * 1 *)", "UTC", "2026-11-22T06:00:00Z", ["2026-11-29T06:00:00Z", "2026-12-06T06:00:00Z"]),
        ("cron(0 0 1 1 ? 2027/10)", "UTC", "2026-11-22T00:00:00Z", ["2027-01-01T00:00:00Z", "2037-01-01T00:00:00Z"]),
    ];
    for (schedule, zone, after, expected) in table {
        assert_eq!(list_next(schedule, zone, after, 2), expected, "{schedule} in {zone}");
    }
}

#[test]
fn a_schedule_that_is_over_has_no_next_time() {
    for schedule in ["cron(0 0 1 1 ? 2020)", "cron(0 0 30 2 ? *)", "cron(0 0 29 2 ? 2027)", "cron(0 0 1 1 ? 2026)"] {
        assert_eq!(list_next(schedule, "UTC", "2026-11-22T00:00:00Z", 1), Vec::<String>::new(), "{schedule}");
    }
}

#[test]
fn a_time_of_the_day_comes_once_where_the_clocks_change() {
    // On 2026-03-08 New York has no 02:30; on 2026-11-01 it has 01:30 twice.
    let next = list_next("cron(30 2 * * ? *)", "America/New_York", "2026-03-07T08:00:00Z", 3);
    assert_eq!(next, ["2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z", "2026-03-10T06:30:00Z"], "right after the gap");
    let next = list_next("cron(30 1 * * ? *)", "America/New_York", "2026-10-31T12:00:00Z", 3);
    assert_eq!(next, ["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z", "2026-11-03T06:30:00Z"], "the first of the two");
}

#[test]
fn a_job_of_every_quarter_of_an_hour_follows_the_clock_where_it_changes() {
    let next = list_next("cron(0/15 * * * ? *)", "America/New_York", "2026-11-01T05:20:00Z", 6);
    let expected = ["05:30", "05:45", "06:00", "06:15", "06:30", "06:45"];
    assert_eq!(next, expected.map(|time| format!("2026-11-01T{time}:00Z")), "the hour that is there twice runs twice");
    let next = list_next("cron(0/30 * * * ? *)", "America/New_York", "2026-03-08T06:20:00Z", 3);
    assert_eq!(next, ["2026-03-08T06:30:00Z", "2026-03-08T07:00:00Z", "2026-03-08T07:30:00Z"], "no hour is silent");
}
