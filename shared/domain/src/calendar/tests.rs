//! What calendars read: lines, texts, and the days around a change of the clocks.

use super::print::{escape_text, fold_line};
use super::*;
use proptest::prelude::*;

fn at(text: &str) -> Timestamp {
    text.parse().expect("a timestamp")
}

fn address(text: &str) -> EmailAddress {
    EmailAddress::parse(text).expect("an address")
}

fn audit() -> Invitation {
    Invitation {
        method: Method::Request,
        span: EventSpan::new(at("2026-11-24T04:30:00Z"), at("2026-11-24T06:00:00Z")).expect("a span"),
        time_zone: None,
        summary: EventLine::parse("Audit, part 2; review").expect("a line"),
        location: Some(EventLine::parse("Room 4\\B").expect("a line")),
        description: Some(EventText::parse("Bring:\r\nthe ledger").expect("a text")),
        uid: None,
        sequence: 0,
        organizer: None,
    }
}

fn print_in(invitation: &Invitation, zone: &str) -> String {
    invitation.print(&InvitationFacts {
        notification: NotificationId::parse("ntf_01935f0a7bcd7e118a2b0c0d0e0fa0b1").expect("an id"),
        accepted_at: at("2026-11-21T10:00:00.25Z"),
        sender: &address("desk@example.in"),
        sender_name: Some(&DisplayName::parse("The desk").expect("a name")),
        recipient: &address("asha@example.org"),
        recipient_name: Some(&DisplayName::parse("Asha \"A^\" Rao, CPA").expect("a name")),
        time_zone: &TimeZoneName::parse(zone).expect("a zone"),
    })
}

/// As RFC 5545, section 3.1 has it.
fn unfold(text: &str) -> String {
    text.replace("\r\n ", "").replace("\r\n\t", "")
}

/// As RFC 5545, section 3.3.11 has it.
fn unescape(text: &str) -> String {
    let mut characters = text.chars();
    let mut read = String::new();
    while let Some(character) = characters.next() {
        read.push(match character {
            '\\' => match characters.next().expect("something follows the backslash") {
                'n' | 'N' => '\n',
                other => other,
            },
            other => other,
        });
    }
    read
}

#[test]
fn an_invitation_is_printed_in_the_recipients_zone() {
    let printed = print_in(&audit(), "Asia/Kolkata");
    let expected = "BEGIN:VCALENDAR
PRODID:-//Harkara//Notifications//EN
VERSION:2.0
CALSCALE:GREGORIAN
METHOD:REQUEST
BEGIN:VTIMEZONE
TZID:Asia/Kolkata
BEGIN:STANDARD
DTSTART:19451015T000000
TZOFFSETFROM:+0630
TZOFFSETTO:+0530
TZNAME:IST
END:STANDARD
END:VTIMEZONE
BEGIN:VEVENT
UID:ntf_01935f0a7bcd7e118a2b0c0d0e0fa0b1@harkara
DTSTAMP:20261121T100000Z
DTSTART;TZID=Asia/Kolkata:20261124T100000
DTEND;TZID=Asia/Kolkata:20261124T113000
SUMMARY:Audit\\, part 2\\; review
LOCATION:Room 4\\\\B
DESCRIPTION:Bring:\\nthe ledger
ORGANIZER;CN=\"The desk\":mailto:desk@example.in
ATTENDEE;CN=\"Asha ^'A^^^' Rao, CPA\";ROLE=REQ-PARTICIPANT;PARTSTAT=NEEDS-ACTION;RSVP=TRUE:mailto:asha@example.org
SEQUENCE:0
STATUS:CONFIRMED
END:VEVENT
END:VCALENDAR
";
    assert_eq!(unfold(&printed).replace("\r\n", "\n"), expected);
    assert_eq!(printed.matches('\n').count(), printed.matches("\r\n").count(), "every line ends with CR LF");
}

#[test]
fn times_without_an_offset_are_utcs_own() {
    let printed = print_in(&audit(), "Etc/UTC");
    assert!(printed.contains("\r\nDTSTART:20261124T043000Z\r\nDTEND:20261124T060000Z\r\n"), "{printed}");
    assert!(!printed.contains("VTIMEZONE"), "{printed}");
    assert!(print_in(&audit(), "Etc/GMT-5").contains("TZOFFSETTO:+0500"), "a zone that never changed");
}

#[test]
fn an_event_over_a_change_of_the_clocks_brings_both_offsets() {
    let span = EventSpan::new(at("2026-10-24T22:30:00Z"), at("2026-10-25T02:30:00Z")).expect("a span");
    let printed = print_in(&Invitation { span, ..audit() }, "Europe/Berlin");
    let daylight = "BEGIN:DAYLIGHT\r\nDTSTART:20260329T020000\r\nTZOFFSETFROM:+0100\r\nTZOFFSETTO:+0200\r\nTZNAME:CEST";
    let standard = "BEGIN:STANDARD\r\nDTSTART:20261025T030000\r\nTZOFFSETFROM:+0200\r\nTZOFFSETTO:+0100\r\nTZNAME:CET";
    assert!(printed.contains(daylight) && printed.contains(standard), "{printed}");
    assert!(printed.contains("DTSTART;TZID=Europe/Berlin:20261025T003000"), "{printed}");
    assert!(printed.contains("DTEND;TZID=Europe/Berlin:20261025T033000"), "{printed}");
    let winter = EventSpan::new(at("2026-10-25T01:00:00Z"), at("2026-10-25T02:30:00Z")).expect("a span");
    let printed = print_in(&Invitation { span: winter, ..audit() }, "Europe/Berlin");
    assert!(printed.contains("BEGIN:STANDARD\r\nDTSTART:20261025T030000"), "it begins with the change: {printed}");
    assert!(!printed.contains("DAYLIGHT"), "{printed}");
}

#[test]
fn a_cancellation_names_the_event_and_asks_nothing() {
    let canceled = Invitation {
        method: Method::Cancel,
        uid: Some(EventUid::parse("audit;7@example.in").expect("a uid")),
        sequence: 3,
        organizer: Some(address("lead+100%/x@example.in")),
        time_zone: Some(TimeZoneName::parse("America/New_York").expect("a zone")),
        ..audit()
    };
    let printed = print_in(&canceled, "Asia/Kolkata");
    for line in [
        "METHOD:CANCEL",
        "UID:audit\\;7@example.in",
        "DTSTART;TZID=America/New_York:20261123T233000",
        "ORGANIZER:mailto:lead+100%25%2Fx@example.in",
        "SEQUENCE:3",
        "STATUS:CANCELLED",
    ] {
        assert!(printed.contains(&format!("\r\n{line}\r\n")), "{line} in {printed}");
    }
    assert!(!printed.contains("RSVP"), "{printed}");
}

#[test]
fn an_event_ends_after_it_begins_and_lasts_a_year_at_most() {
    let cases = [
        ("2026-11-24T10:00:00Z", "2026-11-24T10:00:01Z", Ok(())),
        ("2026-01-01T00:00:00Z", "2027-01-02T00:00:00Z", Ok(())),
        ("2026-11-24T10:00:00Z", "2026-11-24T10:00:00.9Z", Err(SpanError::Backwards)),
        ("2026-11-24T10:00:00Z", "2026-11-24T09:00:00Z", Err(SpanError::Backwards)),
        ("2026-01-01T00:00:00Z", "2027-01-02T00:00:01Z", Err(SpanError::TooLong)),
        ("1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z", Err(SpanError::TooEarly)),
        ("9999-12-30T21:00:00Z", "9999-12-30T22:00:00Z", Ok(())),
    ];
    for (start, end, wanted) in cases {
        assert_eq!(EventSpan::new(at(start), at(end)).map(|_| ()), wanted, "{start} to {end}");
    }
}

#[test]
fn a_line_is_one_and_a_text_has_lines() {
    assert!(EventLine::parse(&"é".repeat(255)).is_ok());
    assert_eq!(EventLine::parse(&"é".repeat(256)), Err(EventTextError::TooLong));
    assert_eq!(EventLine::parse(" "), Err(EventTextError::Empty));
    for text in ["a\nb", "a\r\nATTENDEE:mailto:x@example.in", "a\u{2028}b", "a\tb"] {
        assert_eq!(EventLine::parse(text), Err(EventTextError::Control), "{text:?}");
    }
    assert_eq!(EventText::parse("a\r\nb\n\tc").map(|text| text.as_str().to_owned()), Ok("a\nb\n\tc".to_owned()));
    for text in ["a\rb", "a\u{7}b", "a\0b"] {
        assert_eq!(EventText::parse(text), Err(EventTextError::Control), "{text:?}");
    }
    for text in ["", "a b", "ü", "a\r\nb"] {
        assert_eq!(EventUid::parse(text), Err(EventUidError), "{text:?}");
    }
}

#[test]
fn every_zone_prints_for_every_month() {
    for zone in jiff::tz::TimeZoneDatabase::bundled().available() {
        let Ok(zone) = TimeZoneName::parse(zone.as_str()) else { continue };
        for month in 1..=12 {
            let start = at(&format!("2031-{month:02}-28T23:00:00Z"));
            let span = EventSpan::new(start, start + SignedDuration::from_hours(24 * 30)).expect("a span");
            let printed = print_in(&Invitation { span, ..audit() }, zone.as_str());
            assert_eq!(printed.matches("BEGIN:").count(), printed.matches("\nEND:").count(), "{printed}");
        }
    }
}

#[test]
fn nothing_of_an_event_but_its_method_is_shown() {
    assert_eq!(format!("{:?}", audit()), "Invitation(request, 21 characters)");
}

proptest! {
    #[test]
    fn what_is_folded_unfolds_to_the_same_in_short_lines(text in "([^\r\n]|\\PC){0,400}") {
        let folded = fold_line(&text);
        prop_assert_eq!(unfold(&folded), text);
        prop_assert!(folded.split("\r\n").all(|line| line.len() <= 75));
    }

    #[test]
    fn what_is_escaped_unescapes_to_the_same_on_one_line(text in "[^\r]{0,200}") {
        let escaped = escape_text(&text);
        prop_assert!(!escaped.contains('\n'));
        prop_assert_eq!(unescape(&escaped), text);
    }

    #[test]
    fn no_text_of_a_caller_ends_its_line(summary in "\\PC{1,255}", description in "([^\r]|\n){1,300}") {
        let (Ok(summary), Ok(description)) = (EventLine::parse(&summary), EventText::parse(&description)) else {
            return Ok(());
        };
        let plain = print_in(&audit(), "Asia/Kolkata");
        let printed = print_in(&Invitation { summary, description: Some(description), ..audit() }, "Asia/Kolkata");
        let names = |text: &str| {
            unfold(text).split("\r\n").map(|line| line.split([':', ';']).next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        prop_assert_eq!(names(&printed), names(&plain));
    }
}
