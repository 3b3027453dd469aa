//! S3: a salon takes bookings. Answer first, send later; by e-mail, which is the channel that is sent today.
//!
//! What no story can tell is shown elsewhere: how many milliseconds the answer to one request takes is printed by the bench
//! `insert`, on whatever machine it runs; that two workers never take the same job, and that a crashed one's is recovered, by
//! the crash matrix, which starts real ones together and kills them.

use crate::cast::{Scenario, days, minutes};
use jiff::civil::Weekday;
use jiff::{ToSpan, Zoned};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tests::running::ShutGate;

fn haircut(starts: &Zoned) -> Value {
    json!({"service": "Haircut", "starts": starts.timestamp(), "stylist": "Anu"})
}

/// What the mail's reader puts into the calendar.
fn invitation(appointment: &str, starts: &Zoned, method: &str, sequence: u32) -> Value {
    json!({"calendar": {
        "uid": format!("{appointment}@lotus.example"), "method": method, "sequence": sequence, "summary": "Haircut",
        "location": "12 Rose Lane, Pune", "start": starts.timestamp(), "end": (starts + 45.minutes()).timestamp(),
    }})
}

/// The invitation that a mail to Nina brought, as her calendar reads it: each property with its parameters, and its value.
fn read_invitation(lotus: &Scenario, notification: &str) -> BTreeMap<String, String> {
    let delivery = lotus.delivery(notification)["id"].as_str().expect("an id").to_owned();
    let content = lotus.get(&format!("/v1/deliveries/{delivery}/content"));
    assert_eq!(content["is_as_sent"], true, "{content}");
    let printed = content["calendar"].as_str().expect("an invitation");
    let properties = printed.replace("\r\n ", "");
    let properties = properties.lines().filter_map(|line| {
        // A name in quotes may have a colon.
        let is_quoted = |end: usize| line[..end].matches('"').count() % 2 == 1;
        let (end, _) = line.match_indices(':').find(|(end, _)| !is_quoted(*end))?;
        Some((line[..end].to_owned(), line[end + 1..].to_owned()))
    });
    let properties: BTreeMap<_, _> = properties.collect();
    // The file that SES got says of itself what is in it: mail readers look at that first.
    let sent = lotus.requests_for("nina");
    let sent = sent.iter().find(|request| request["tags"]["nid"] == notification).expect("SES has it");
    let file = &sent["attachments"][0];
    assert_eq!((&file["file_name"], &file["size_bytes"]), (&json!("invite.ics"), &json!(printed.len())));
    let method = format!("text/calendar; method={}; charset=UTF-8", properties["METHOD"]);
    assert_eq!(file["content_type"], method.as_str());
    properties
}

/// Asserts what RFC 5546 wants of each revision of an event, and that it is this appointment at this time, in the salon's zone.
fn check_event(event: &BTreeMap<String, String>, appointment: &str, starts: &Zoned, method: &str, sequence: &str) {
    let local = |at: &Zoned| at.strftime("%Y%m%dT%H%M%S").to_string();
    let status = if method == "REQUEST" { "CONFIRMED" } else { "CANCELLED" };
    for (name, value) in [
        ("METHOD", method),
        ("UID", &format!("{appointment}@lotus.example")),
        ("SEQUENCE", sequence),
        ("STATUS", status),
        ("TZID", "Asia/Kolkata"),
        ("DTSTART;TZID=Asia/Kolkata", &local(starts)),
        ("DTEND;TZID=Asia/Kolkata", &local(&(starts + 45.minutes()))),
        ("SUMMARY", "Haircut"),
        ("LOCATION", "12 Rose Lane\\, Pune"),
        ("ORGANIZER", "mailto:hello@lotus.example"),
    ] {
        assert_eq!(event.get(name).map(String::as_str), Some(value), "{name} of {event:#?}");
    }
    let (_, attendee) = event.iter().find(|(name, _)| name.starts_with("ATTENDEE;CN=\"Nina Shah\";")).expect("Nina");
    assert_eq!(attendee, "mailto:nina.shah@mail.example");
    assert_eq!(event["DTSTAMP"].len(), "20261124T100000Z".len(), "in UTC: {event:#?}");
}

#[test]
fn s3_a_salon_answers_first_and_sends_later() {
    let lotus = Scenario::begin("s3");
    lotus.becomes(&lotus.next(Weekday::Monday, "12:00", "Asia/Kolkata"));
    let visit = lotus.next(Weekday::Friday, "15:30", "Asia/Kolkata");

    // Nina books. The answer waits for nobody: even with the queue out of reach it comes at once, and the job's row is there.
    let shut = ShutGate::before_sqs(&lotus.stack);
    let booked =
        lotus.enqueue_with("booking_confirmation", "nina", haircut(&visit), invitation("a-1", &visit, "request", 0));
    assert_eq!((lotus.delivery(&booked)["state"].clone(), lotus.requests_for("nina").len()), (json!("queued"), 0));
    drop(shut);
    lotus.moves_clock(minutes(2));
    lotus.tick();
    let mail = lotus.mail_to("nina");
    assert_eq!(mail.subject, "Haircut is booked");
    // The salon's own time: Nina has not said in which zone she lives.
    let shown = visit.strftime("%B %-d, %Y").to_string();
    assert!(
        mail.text.contains("Dear Nina Shah") && mail.text.contains(&shown) && mail.text.contains("3:30"),
        "{mail:#?}"
    );
    check_event(&read_invitation(&lotus, &booked), "a-1", &visit, "REQUEST", "0");
    let delivery = lotus.until_state(&booked, "delivered");
    assert_eq!((&delivery["attempt_count"], lotus.requests_for("nina").len()), (&json!(1), 1), "once");

    // Up to three attempts: Uma's mail arrives with the third, and nothing makes Vik's arrive.
    let uma = lotus.enqueue("booking_confirmation", "uma", haircut(&visit));
    let vik = lotus.enqueue("booking_confirmation", "vik", haircut(&visit));
    assert_eq!(lotus.mail_to("uma").subject, "Haircut is booked");
    assert_eq!(lotus.delivery(&uma)["attempt_count"], 3);
    assert_eq!(lotus.stands(&vik), ("dead".to_owned(), "attempts_used_up".to_owned()));
    let failed = lotus.delivery(&vik);
    assert!(failed["attempts"][2]["error"]["code"].is_string() && failed["attempts"][3].is_null(), "{failed}");
    lotus.nothing_for(&["vik"]);

    // Reminders are for those who opted in, a day and two hours before. Tom has not said anything.
    let consent = json!({"purpose": "appointment_reminders", "state": "granted", "source": "booking form"});
    lotus.post("/v1/recipients/nina/consents", consent);
    for (appointment, client) in [("a-1", "nina"), ("a-2", "tom")] {
        let more = json!({"recipients": [client], "due_at": visit.timestamp(), "data": haircut(&visit)});
        lotus.puts_deadline("appointment", appointment, more);
    }
    lotus.becomes(&(&visit - 25.hours()));
    lotus.nothing_for(&["nina", "tom"]);
    lotus.becomes(&(&visit - 24.hours()));
    assert_eq!(lotus.mail_to("nina").subject, "Haircut tomorrow");
    lotus.passes(minutes(1));
    lotus.becomes(&(&visit - 2.hours()));
    assert_eq!(lotus.mail_to("nina").subject, "Haircut in two hours");
    let untold = lotus.became("a-2", "tom");
    assert_eq!(untold.len(), 2);
    for notification in untold {
        assert_eq!(lotus.stands(&notification), ("skipped".to_owned(), "consent_missing".to_owned()));
    }
    lotus.becomes(&visit);
    lotus.nothing_for(&["nina", "tom"]);

    // She books the next one, and moves it: the same event of her calendar, and the reminders by the new time.
    let next = &visit + 7.days();
    let book = |starts: &Zoned, sequence: u32| {
        let more = json!({"recipients": ["nina"], "due_at": starts.timestamp(), "data": haircut(starts)});
        lotus.puts_deadline("appointment", "a-3", more);
        let invitation = invitation("a-3", starts, "request", sequence);
        let sent = lotus.enqueue_with("booking_confirmation", "nina", haircut(starts), invitation);
        assert_eq!(lotus.mail_to("nina").subject, "Haircut is booked");
        read_invitation(&lotus, &sent)
    };
    let first = book(&next, 0);
    check_event(&first, "a-3", &next, "REQUEST", "0");
    let moved = &next + 3.hours();
    lotus.moves_clock(minutes(5));
    let second = book(&moved, 1);
    check_event(&second, "a-3", &moved, "REQUEST", "1");
    assert!(second["DTSTAMP"] > first["DTSTAMP"], "later: {second:#?}");
    let plan = lotus.get("/v1/deadlines/a-3")["plan"].clone();
    let times: Vec<_> = [24, 2].map(|hours| json!((&moved - hours.hours()).timestamp())).into();
    assert_eq!(plan.as_array().expect("a plan").iter().map(|rung| rung["fire_at"].clone()).collect::<Vec<_>>(), times);

    // Cancelling the appointment cancels its reminders, and takes it out of the calendar.
    lotus.post("/v1/deadlines/a-3/complete", json!({}));
    let cancelled = json!({"service": "Haircut", "starts": moved.timestamp()});
    let sent = lotus.enqueue_with("cancellation", "nina", cancelled, invitation("a-3", &moved, "cancel", 2));
    assert_eq!(lotus.mail_to("nina").subject, "Haircut is cancelled");
    let third = read_invitation(&lotus, &sent);
    check_event(&third, "a-3", &moved, "CANCEL", "2");
    assert!(!third.keys().any(|name| name.contains("RSVP")), "nobody is asked to answer: {third:#?}");
    lotus.becomes(&(&next - 2.hours()));
    lotus.nothing_for(&["nina"]);

    // What is completed is kept for seven days, and then gone with the daily clean-up.
    lotus.run("maintenance");
    assert_eq!(lotus.ask("GET", &format!("/v1/notifications/{booked}"), Value::Null).status, 404);
    assert_eq!(lotus.ask("GET", &format!("/v1/notifications/{vik}"), Value::Null).status, 404);
    let kept = lotus.enqueue("booking_confirmation", "tom", haircut(&next));
    // So are appointments, from when they took place: nobody has to complete one.
    for appointment in ["a-1", "a-2", "a-3"] {
        lotus.get(&format!("/v1/deadlines/{appointment}"));
    }
    lotus.becomes(&(&moved - 2.hours()));
    lotus.nothing_for(&["nina"]);
    lotus.run("maintenance");
    for appointment in ["a-1", "a-2", "a-3"] {
        assert_eq!(lotus.ask("GET", &format!("/v1/deadlines/{appointment}"), Value::Null).status, 404, "{appointment}");
    }
    lotus.passes(days(6));
    lotus.run("maintenance");
    lotus.get(&format!("/v1/notifications/{kept}"));
    lotus.mail_to("tom");
    lotus.end();
}
