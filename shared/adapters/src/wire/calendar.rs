//! The invitation of a notification: as a request brings it, and as the store keeps it until it is sent.

use super::fields::{FieldError, Fields};
use domain::address::EmailAddress;
use domain::calendar::{EventLine, EventSpan, EventText, EventUid, Invitation, MAX_SEQUENCE, Method, SpanError};
use domain::moment::{TimeZoneName, parse_timestamp};
use serde_json::{Value, json};

/// Reads an invitation that stands at `pointer`.
pub fn read_calendar(value: &Value, pointer: String) -> Result<Invitation, Vec<FieldError>> {
    let mut fields = Fields::of(value, pointer).map_err(|error| vec![error])?;
    let start = fields.parsed("start", parse_timestamp);
    fields.require("start", &start);
    let end = fields.parsed("end", parse_timestamp);
    fields.require("end", &end);
    let span = start.zip(end).and_then(|(start, end)| match EventSpan::new(start, end) {
        Ok(span) => Some(span),
        Err(error) => {
            fields.wrong(if error == SpanError::TooEarly { "start" } else { "end" }, error);
            None
        }
    });
    let summary = fields.parsed("summary", EventLine::parse);
    fields.require("summary", &summary);
    let location = fields.parsed("location", EventLine::parse);
    let description = fields.parsed("description", EventText::parse);
    let time_zone = fields.parsed("time_zone", TimeZoneName::parse);
    let method = fields.named("method", Method::parse, &Method::ALL, Method::as_str).unwrap_or(Method::Request);
    let uid = fields.parsed("uid", EventUid::parse);
    if method == Method::Cancel && fields.value("uid").is_none() {
        fields.wrong("uid", "is required with method cancel: it names the event that is called off");
    }
    let sequence = fields.number("sequence", 0, MAX_SEQUENCE);
    let organizer = fields.parsed("organizer", EmailAddress::parse);
    fields.finish()?;
    // `finish` has refused an invitation that lacks either.
    let (Some(span), Some(summary)) = (span, summary) else { return Err(Vec::new()) };
    let sequence = sequence.unwrap_or(0);
    Ok(Invitation { method, span, time_zone, summary, location, description, uid, sequence, organizer })
}

/// Prints an invitation as [`read_calendar`] takes it.
pub fn print_calendar(invitation: &Invitation) -> Value {
    let Invitation { method, span, time_zone, summary, location, description, uid, sequence, organizer } = invitation;
    json!({
        "method": method.as_str(),
        "start": span.start(),
        "end": span.end(),
        "time_zone": time_zone.as_ref().map(TimeZoneName::as_str),
        "summary": summary.as_str(),
        "location": location.as_ref().map(EventLine::as_str),
        "description": description.as_ref().map(EventText::as_str),
        "uid": uid.as_ref().map(EventUid::as_str),
        "sequence": sequence,
        "organizer": organizer.as_ref().map(EmailAddress::as_str),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visit() -> Value {
        json!({"start": "2026-11-24T10:00:00+05:30", "end": "2026-11-24T11:30:00+05:30", "summary": "Audit visit"})
    }

    fn with(name: &str, value: Value) -> Value {
        let mut calendar = visit();
        calendar[name] = value;
        calendar
    }

    #[test]
    fn an_invitation_is_kept_as_it_was_read() {
        let whole = json!({
            "method": "cancel", "start": "2026-11-24T04:30:00Z", "end": "2026-11-24T06:00:00Z",
            "time_zone": "Asia/Kolkata", "summary": "Audit visit", "location": "Room 4", "description": "Line\nLine",
            "uid": "visit-7@example.in", "sequence": 2, "organizer": "lead@example.in",
        });
        let read = read_calendar(&whole, String::new()).expect("read");
        assert_eq!(print_calendar(&read), whole);
        let least = read_calendar(&visit(), String::new()).expect("read");
        assert_eq!(read_calendar(&print_calendar(&least), String::new()), Ok(least));
    }

    #[test]
    fn each_mistake_in_an_invitation_is_named_by_its_pointer() {
        let table = [
            (json!("tomorrow"), vec!["/calendar"]),
            (json!({}), vec!["/calendar/start", "/calendar/end", "/calendar/summary"]),
            (with("start", json!("tomorrow")), vec!["/calendar/start"]),
            (with("start", json!("1960-01-01T00:00:00Z")), vec!["/calendar/start"]),
            (with("end", json!("2026-11-24T10:00:00+05:30")), vec!["/calendar/end"]),
            (with("end", json!("2028-11-24T10:00:00+05:30")), vec!["/calendar/end"]),
            (with("summary", json!("two\nlines")), vec!["/calendar/summary"]),
            (with("location", json!("")), vec!["/calendar/location"]),
            (with("description", json!("a\u{7}")), vec!["/calendar/description"]),
            (with("time_zone", json!("Mars/Olympus")), vec!["/calendar/time_zone"]),
            (with("method", json!("publish")), vec!["/calendar/method"]),
            (with("method", json!("cancel")), vec!["/calendar/uid"]),
            (with("uid", json!("a b")), vec!["/calendar/uid"]),
            (with("sequence", json!(-1)), vec!["/calendar/sequence"]),
            (with("sequence", json!(2_147_483_648_u32)), vec!["/calendar/sequence"]),
            (with("organizer", json!("lead")), vec!["/calendar/organizer"]),
            (with("attendees", json!([])), vec!["/calendar/attendees"]),
        ];
        for (calendar, pointers) in table {
            let errors = read_calendar(&calendar, "/calendar".to_owned()).expect_err("refused");
            assert_eq!(errors.into_iter().map(|error| error.pointer).collect::<Vec<_>>(), pointers, "{calendar}");
        }
    }
}
