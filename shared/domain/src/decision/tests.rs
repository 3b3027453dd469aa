//! Tables of facts, and what is decided on them.

use super::*;
use crate::preference::{Chosen, Wish, parse_time, resolve_preference};
use proptest::prelude::*;

fn at(text: &str) -> Timestamp {
    text.parse().expect("a timestamp")
}

fn zone(name: &str) -> TimeZoneName {
    TimeZoneName::parse(name).expect("a zone")
}

fn hours(from: &str, until: &str) -> QuietHours {
    QuietHours { from: parse_time(from).expect("a time"), until: parse_time(until).expect("a time") }
}

/// A reminder to somebody in India at half past one in the afternoon, about whom nothing was said.
fn facts() -> DispatchFacts {
    DispatchFacts {
        now: at("2026-11-21T08:00:00Z"),
        send_at: at("2026-11-21T08:00:00Z"),
        expires_at: None,
        waits_until: None,
        channel: Channel::Email,
        class: Class::Reminder,
        priority: Priority::Normal,
        zone: zone("Asia/Kolkata"),
        preference: resolve_preference(&[], &[], &[]),
        quiet_hours_apply: true,
        consent: None,
        throttle: None,
        cap: None,
        digest: DigestTime::default(),
    }
}

fn wishing(wish: Wish) -> Preference {
    resolve_preference(&[(Origin::Recipient, wish)], &[], &[])
}

fn quiet(from: &str, until: &str) -> Preference {
    wishing(Wish { quiet_hours: Some(QuietChoice::Hours(hours(from, until))), ..Wish::default() })
}

fn wanted(cadence: Cadence) -> Preference {
    wishing(Wish { cadence: Some(cadence), ..Wish::default() })
}

fn counted(count: u32, pending: u32, limit: u32) -> Option<Allowance> {
    Some(Allowance { count, pending, limit, window_seconds: 3600 })
}

fn full(limit: u32) -> Option<Allowance> {
    counted(limit, 0, limit)
}

#[test]
fn what_nobody_said_anything_about_is_sent() {
    let decision = decide_dispatch(&facts());
    assert_eq!(decision.verdict, Verdict::Send);
    assert_eq!(decision.findings.len(), 1, "{:?}", decision.findings);
}

#[test]
fn the_first_thing_that_stops_it_is_the_reason() {
    let said = |is_granted| Some(NeededConsent { purpose: "offers".into(), standing: is_granted });
    let off = wishing(Wish { is_on: Some(false), ..Wish::default() });
    let now = facts().now;
    let everything = DispatchFacts {
        expires_at: Some(now),
        consent: said(None),
        preference: Preference {
            cadence: wanted(Cadence::Daily).cadence,
            quiet_hours: quiet("00:00", "23:59").quiet_hours,
            ..off
        },
        throttle: full(3),
        cap: full(9),
        ..facts()
    };
    let mut facts = everything;
    assert_eq!(decide_dispatch(&facts).verdict, Verdict::Expire);
    facts.expires_at = None;
    assert_eq!(decide_dispatch(&facts).verdict, Verdict::Skip(Reason::ConsentMissing));
    facts.consent = said(Some((false, now)));
    assert_eq!(decide_dispatch(&facts).verdict, Verdict::Skip(Reason::ConsentWithdrawn));
    facts.consent = said(Some((true, now)));
    assert_eq!(decide_dispatch(&facts).verdict, Verdict::Skip(Reason::PreferenceOff));
    facts.preference.is_on = Chosen { value: true, origin: Origin::BuiltIn };
    assert_eq!(decide_dispatch(&facts).verdict, Verdict::Hold(Reason::CadenceNotDue, at("2026-11-22T03:30:00Z")));
    facts.preference.cadence.value = Cadence::Immediate;
    assert_eq!(decide_dispatch(&facts).verdict, Verdict::Hold(Reason::QuietHours, at("2026-11-21T18:29:00Z")));
    facts.preference.quiet_hours.value = QuietChoice::None;
    assert_eq!(decide_dispatch(&facts).verdict, Verdict::Skip(Reason::RecipientThrottled));
    facts.throttle = None;
    assert_eq!(decide_dispatch(&facts).verdict, Verdict::Skip(Reason::FrequencyCapReached));
    facts.cap = counted(8, 0, 9);
    let decision = decide_dispatch(&facts);
    assert_eq!((decision.verdict, decision.findings.len()), (Verdict::Send, 3));
}

#[test]
fn what_is_urgent_or_without_quiet_hours_is_sent_at_night() {
    let night = DispatchFacts { preference: quiet("00:00", "23:59"), ..facts() };
    assert!(matches!(decide_dispatch(&night).verdict, Verdict::Hold(Reason::QuietHours, _)));
    for facts in [
        DispatchFacts { priority: Priority::Critical, ..night.clone() },
        DispatchFacts { class: Class::Security, ..night.clone() },
        DispatchFacts { quiet_hours_apply: false, ..night.clone() },
    ] {
        assert_eq!(decide_dispatch(&facts).verdict, Verdict::Send);
    }
    let daily = DispatchFacts { preference: wanted(Cadence::Daily), ..facts() };
    for facts in [
        DispatchFacts { priority: Priority::Critical, ..daily.clone() },
        DispatchFacts { class: Class::Digest, ..daily.clone() },
    ] {
        assert_eq!(decide_dispatch(&facts).verdict, Verdict::Send);
    }
}

#[test]
fn another_cadence_counts_from_when_it_is_said_for_what_waits_for_a_digest() {
    // It came on Friday; on Saturday at eight, a weekly one would be due on Monday.
    let facts = DispatchFacts { send_at: at("2026-11-20T08:00:00Z"), preference: wanted(Cadence::Daily), ..facts() };
    assert_eq!(decide_dispatch(&facts).verdict, Verdict::Send, "its day is over");
    let waits = DispatchFacts { waits_until: Some(at("2026-11-23T03:30:00Z")), ..facts.clone() };
    assert!(matches!(decide_dispatch(&waits).verdict, Verdict::Hold(Reason::CadenceNotDue, _)), "with the next digest");
    let late = DispatchFacts { waits_until: Some(at("2026-11-21T03:30:00Z")), ..facts };
    assert_eq!(decide_dispatch(&late).verdict, Verdict::Send, "nothing waits for ever");
    // Its day ended at nine, and before anybody has closed it the recipient wants it in the evening.
    let evening =
        DigestTime::default().chosen_by(DigestChoice { time: Some(Time::constant(18, 0, 0, 0)), weekday: None });
    let decision = decide_dispatch(&DispatchFacts { digest: evening, ..late });
    assert_eq!(decision.verdict, Verdict::Hold(Reason::CadenceNotDue, at("2026-11-21T12:30:00Z")));
}

#[test]
fn what_a_recipient_has_not_chosen_is_the_tenants() {
    let tenants = DigestTime { time: Time::constant(8, 0, 0, 0), weekday: 3 };
    let (time, weekday) = (Some(Time::constant(18, 30, 0, 0)), Some(5));
    for (choice, wanted) in [
        (DigestChoice::default(), tenants),
        (DigestChoice { time, weekday: None }, DigestTime { time: Time::constant(18, 30, 0, 0), ..tenants }),
        (DigestChoice { time: None, weekday }, DigestTime { weekday: 5, ..tenants }),
        (DigestChoice { time, weekday }, DigestTime { time: Time::constant(18, 30, 0, 0), weekday: 5 }),
    ] {
        // Whatever else was said, and of whatever else.
        let own = (Origin::Recipient, Wish { digest: choice, is_on: Some(true), ..Wish::default() });
        let wishes = [(Origin::RecipientCategory, Wish::default()), own, (Origin::Tenant, Wish::default())];
        assert_eq!(tenants.chosen_by(DigestChoice::of(&wishes)), wanted, "{choice:?}");
    }
    assert_eq!(tenants.chosen_by(DigestChoice::of(&[])), tenants);
}

#[test]
fn what_others_under_way_may_use_up_waits_for_them_and_is_not_skipped() {
    let soon = Verdict::Hold(Reason::EarlierSendPending, at("2026-11-21T08:00:05Z"));
    for (allowance, verdict) in [
        (counted(0, 2, 3), Verdict::Send),
        (counted(0, 3, 3), soon),
        (counted(2, 1, 3), soon),
        (counted(2, 9, 3), soon),
        (counted(3, 9, 3), Verdict::Skip(Reason::RecipientThrottled)),
    ] {
        let decision = decide_dispatch(&DispatchFacts { throttle: allowance, ..facts() });
        assert_eq!(decision.verdict, verdict, "{allowance:?}");
    }
    let capped = decide_dispatch(&DispatchFacts { cap: counted(1, 1, 2), ..facts() });
    assert_eq!(capped.verdict, soon);
    assert_eq!(
        capped.findings.last().map(ToString::to_string).as_deref(),
        Some("the recipient got 1 of at most 2 in 3600 seconds (being sent: 1) under the tenant's frequency cap")
    );
}

#[test]
fn what_is_urgent_or_mandatory_knows_neither_throttle_nor_cap() {
    let reached = DispatchFacts { throttle: full(1), cap: full(1), ..facts() };
    assert!(matches!(decide_dispatch(&reached).verdict, Verdict::Skip(_)));
    let roles = ["CAE".to_owned()];
    for facts in [
        DispatchFacts { preference: resolve_preference(&[], &roles, &roles), ..reached.clone() },
        DispatchFacts { priority: Priority::Critical, ..reached.clone() },
        DispatchFacts { class: Class::Security, ..reached.clone() },
    ] {
        assert_eq!(decide_dispatch(&facts).verdict, Verdict::Send, "{facts:?}");
    }
}

#[test]
fn what_would_be_held_beyond_its_expiry_expires_at_once() {
    let expires_at = Some(at("2026-11-21T09:00:00Z"));
    let facts = DispatchFacts { preference: quiet("00:00", "23:59"), expires_at, ..facts() };
    let decision = decide_dispatch(&facts);
    assert_eq!(decision.verdict, Verdict::Expire);
    assert_eq!(decision.findings.len(), 3, "the quiet hours stay in the explanation");
}

#[test]
fn quiet_hours_end_when_clocks_in_the_recipients_zone_say_so() {
    let cases = [
        // Over midnight, from before and after it.
        ("Asia/Kolkata", "22:00", "07:00", "2026-11-21T17:00:00Z", Some("2026-11-22T01:30:00Z")),
        ("Asia/Kolkata", "22:00", "07:00", "2026-11-21T20:00:00Z", Some("2026-11-22T01:30:00Z")),
        ("Asia/Kolkata", "22:00", "07:00", "2026-11-22T01:30:00Z", None),
        ("Asia/Kolkata", "12:00", "14:00", "2026-11-21T08:00:00Z", Some("2026-11-21T08:30:00Z")),
        ("Asia/Kolkata", "12:00", "14:00", "2026-11-21T06:29:59Z", None),
        // The night on which clocks go forward has no 02:30; it ends when there is a time after it.
        ("Europe/Berlin", "22:00", "02:30", "2026-03-29T00:30:00Z", Some("2026-03-29T01:30:00Z")),
        // The night on which they go back has it twice; the second time is quiet again until half past two.
        ("Europe/Berlin", "22:00", "02:30", "2026-10-25T00:10:00Z", Some("2026-10-25T00:30:00Z")),
        ("Europe/Berlin", "22:00", "02:30", "2026-10-25T00:40:00Z", None),
        ("Europe/Berlin", "22:00", "02:30", "2026-10-25T01:10:00Z", Some("2026-10-25T01:30:00Z")),
    ];
    for (name, from, until, now, end) in cases {
        let found = quiet_until(hours(from, until), at(now), &zone(name).zone());
        assert_eq!(found, end.map(at), "{name} {from} to {until} at {now}");
    }
}

#[test]
fn a_cadence_is_due_at_the_end_of_its_hour_day_or_week() {
    let digest = DigestTime::default();
    let cases = [
        ("Asia/Kolkata", Cadence::Immediate, "2026-11-21T08:10:00Z", "2026-11-21T08:10:00Z"),
        // A full hour in India is a half one in UTC.
        ("Asia/Kolkata", Cadence::Hourly, "2026-11-21T08:10:00Z", "2026-11-21T08:30:00Z"),
        ("Asia/Kolkata", Cadence::Daily, "2026-11-21T03:00:00Z", "2026-11-21T03:30:00Z"),
        ("Asia/Kolkata", Cadence::Daily, "2026-11-21T03:30:00Z", "2026-11-22T03:30:00Z"),
        // 2026-11-21 is a Saturday, and the 23rd a Monday.
        ("Asia/Kolkata", Cadence::Weekly, "2026-11-21T08:00:00Z", "2026-11-23T03:30:00Z"),
        ("Asia/Kolkata", Cadence::Weekly, "2026-11-23T03:30:00Z", "2026-11-30T03:30:00Z"),
        ("Europe/Berlin", Cadence::Daily, "2026-10-24T07:30:00Z", "2026-10-25T08:00:00Z"),
        ("Asia/Kolkata", Cadence::Hourly, "2026-11-21T08:10:00.7Z", "2026-11-21T08:30:00Z"),
    ];
    for (name, cadence, from, due) in cases {
        let found = cadence_due(cadence, at(from), &zone(name).zone(), digest);
        assert_eq!(found, at(due), "{name} {cadence} from {from}");
    }
}

#[test]
fn a_day_whose_clocks_change_ends_once() {
    let digest = DigestTime { time: Time::constant(2, 30, 0, 0), weekday: 7 };
    let berlin = zone("Europe/Berlin").zone();
    let cases = [
        // 02:30 comes twice on 25 October 2026: at 00:30 and at 01:30 in UTC.
        (Cadence::Daily, "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"),
        (Cadence::Daily, "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"),
        (Cadence::Weekly, "2026-10-25T00:45:00Z", "2026-11-01T01:30:00Z"),
        // It does not come on 29 March 2026.
        (Cadence::Daily, "2026-03-28T12:00:00Z", "2026-03-29T01:30:00Z"),
        (Cadence::Daily, "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"),
    ];
    for (cadence, from, due) in cases {
        assert_eq!(cadence_due(cadence, at(from), &berlin, digest), at(due), "{cadence} from {from}");
    }
}

#[test]
fn a_finding_says_itself_in_a_sentence() {
    let finding = Finding::Preference { is_on: false, origin: Origin::RecipientCategory, mandatory_for: None };
    assert_eq!(finding.to_string(), "it is switched off by the recipient, for this category");
    let finding = Finding::Consent { purpose: "offers".into(), standing: None };
    assert_eq!(finding.to_string(), "the category needs consent to \"offers\", and none was ever given");
}

proptest! {
    #[test]
    fn a_hold_ends_later_and_then_the_same_thing_holds_no_more(
        seconds in 1_700_000_000_i64..1_900_000_000, from in 0_i8..24, until in 0_i8..24, minute in 0_i8..60,
        name in proptest::sample::select(vec!["Asia/Kolkata", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"]),
        cadence in proptest::sample::select(Cadence::ALL.to_vec()),
    ) {
        let time = |hour| Time::new(hour, minute, 0, 0).expect("a time");
        let now = Timestamp::from_second(seconds).expect("a timestamp");
        if from != until {
            let hours = QuietHours { from: time(from), until: time(until) };
            if let Some(end) = quiet_until(hours, now, &zone(name).zone()) {
                prop_assert!(end > now);
                prop_assert!(end.duration_since(now).as_hours() <= 25);
                prop_assert_eq!(quiet_until(hours, end, &zone(name).zone()), None);
            }
        }
        let due = cadence_due(cadence, now, &zone(name).zone(), DigestTime { time: time(until), weekday: 3 });
        prop_assert!(due >= now);
        prop_assert!(due == now || cadence != Cadence::Immediate);
        prop_assert!(due.duration_since(now).as_hours() <= 8 * 24);
    }
}
