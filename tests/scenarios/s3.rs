//! S3: a salon takes bookings. Answer first, send later.

use crate::cast::{Scenario, days, minutes};
use jiff::civil::Weekday;
use jiff::{ToSpan, Zoned};
use serde_json::{Value, json};
use tests::running::ShutGate;

fn haircut(starts: &Zoned) -> Value {
    json!({"service": "Haircut", "starts": starts.timestamp(), "stylist": "Anu"})
}

/// What the mail's reader puts into the calendar.
fn invitation(starts: &Zoned, method: &str, sequence: u32) -> Value {
    json!({"calendar": {
        "uid": "a-1@lotus.example", "method": method, "sequence": sequence, "summary": "Haircut",
        "location": "12 Rose Lane", "start": starts.timestamp(), "end": (starts + 45.minutes()).timestamp(),
    }})
}

#[test]
fn s3_a_salon_answers_first_and_sends_later() {
    let lotus = Scenario::begin("s3");
    lotus.becomes(&lotus.next(Weekday::Monday, "12:00", "Asia/Kolkata"));
    let visit = lotus.next(Weekday::Friday, "15:30", "Asia/Kolkata");

    // Nina books. The answer waits for nobody: even with the queue out of reach it comes at once, and the job's row is there.
    let shut = ShutGate::before_sqs(&lotus.stack);
    let booked = lotus.enqueue_with("booking_confirmation", "nina", haircut(&visit), invitation(&visit, "request", 0));
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
    assert!(mail.whole.to_string().contains("text/calendar"), "{mail:#?}");
    let delivery = lotus.until_state(&booked, "delivered");
    assert_eq!((&delivery["attempt_count"], lotus.requests_for("nina").len()), (&json!(1), 1), "one worker took it");

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

    // Cancelling the appointment cancels its reminders, and takes it out of the calendar.
    let next = &visit + 7.days();
    let more = json!({"recipients": ["nina"], "due_at": next.timestamp(), "data": haircut(&next)});
    lotus.puts_deadline("appointment", "a-3", more);
    lotus.post("/v1/deadlines/a-3/complete", json!({}));
    let cancelled = json!({"service": "Haircut", "starts": next.timestamp()});
    lotus.enqueue_with("cancellation", "nina", cancelled, invitation(&next, "cancel", 1));
    assert_eq!(lotus.mail_to("nina").subject, "Haircut is cancelled");
    lotus.becomes(&(&next - 2.hours()));
    lotus.nothing_for(&["nina"]);

    // What is completed is kept for seven days, and then gone with the daily clean-up.
    lotus.run("maintenance");
    assert_eq!(lotus.ask("GET", &format!("/v1/notifications/{booked}"), Value::Null).status, 404);
    assert_eq!(lotus.ask("GET", &format!("/v1/notifications/{vik}"), Value::Null).status, 404);
    let kept = lotus.enqueue("booking_confirmation", "tom", haircut(&next));
    lotus.passes(days(6));
    lotus.run("maintenance");
    lotus.get(&format!("/v1/notifications/{kept}"));
    lotus.mail_to("tom");
    lotus.end();
}
