//! Every form of an event, and what is none.

use super::*;
use serde_json::{Value, json};

const NID: &str = "ntf_018f0000000070008000000000000001";
const T: &str = "018f0000-0000-7000-8000-000000000001";

fn record(kind: &str) -> Value {
    json!({
        "eventType": kind,
        "mail": {
            "timestamp": "2026-11-21T10:00:00.000Z", "messageId": "0100-m-000000", "source": "Post <post@example.org>",
            "sendingAccountId": "123456789012", "destination": ["Ada <Ada@Example.org>"], "headersTruncated": false,
            "headers": [{"name": "To", "value": "ada@example.org"}], "commonHeaders": {"subject": "s"},
            "tags": {"ses:configuration-set": ["harkara"], "nid": [NID], "att": ["1"], "t": [T]},
        },
    })
}

fn bounce(kind: &str, sub_type: &str) -> Value {
    let mut record = record("Bounce");
    record["bounce"] = json!({
        "bounceType": kind, "bounceSubType": sub_type, "feedbackId": "f", "timestamp": "2026-11-21T10:00:01.000Z",
        "bouncedRecipients": [{"emailAddress": "ada@example.org", "action": "failed", "status": "5.1.1",
            "diagnosticCode": "smtp; 550 5.1.1 <ada@example.org> user\r\nunknown"}],
    });
    record
}

fn on_the_bus(detail_type: &str, record: &Value) -> String {
    json!({
        "version": "0", "id": "e", "detail-type": detail_type, "source": "aws.ses", "account": "123456789012",
        "time": "2026-11-21T10:00:02Z", "region": "ap-south-1", "resources": [], "detail": record,
    })
    .to_string()
}

fn of_a_topic(message: &str) -> String {
    json!({
        "Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:ap-south-1:123456789012:t",
        "Message": message, "Timestamp": "2026-11-21T10:00:02.000Z", "SignatureVersion": "1", "Signature": "x",
        "SigningCertURL": "https://sns", "UnsubscribeURL": "https://sns",
    })
    .to_string()
}

fn read(record: &Value) -> Result<SesEvent, EventError> {
    read_ses_event(&record.to_string())
}

#[test]
fn the_three_forms_say_the_same() {
    let delivery = record("Delivery");
    let expected = SesEvent {
        event: MailEvent::Delivered,
        tags: EventTags {
            tenant: TenantId::parse(T).expect("an id"),
            notification: NotificationId::parse(NID).expect("an id"),
            attempt_number: 1,
        },
        message_id: "0100-m-000000".to_owned(),
        destinations: vec![EmailAddress::parse("Ada@example.org").expect("an address")],
        detail: None,
    };
    assert_eq!(read_ses_event(&on_the_bus("Email Delivered", &delivery)), Ok(expected.clone()));
    assert_eq!(read_ses_event(&of_a_topic(&delivery.to_string())), Ok(expected.clone()));
    assert_eq!(read(&delivery), Ok(expected));
}

#[test]
fn every_kind_of_event_is_read() {
    let table = [
        ("Send", "Email Sent", MailEvent::Sent),
        ("Delivery", "Email Delivered", MailEvent::Delivered),
        ("DeliveryDelay", "Email Delivery Delayed", MailEvent::Delayed),
        ("Complaint", "Email Complaint Received", MailEvent::Complained),
        ("Reject", "Email Rejected", MailEvent::Rejected),
        ("Rendering Failure", "Email Rendering Failed", MailEvent::RenderingFailed),
    ];
    for (kind, detail_type, event) in table {
        let read = read_ses_event(&on_the_bus(detail_type, &record(kind)));
        assert_eq!(read.map(|read| read.event), Ok(event), "{kind}");
    }
    for kind in ["Open", "Click", "Subscription"] {
        assert_eq!(read(&record(kind)), Err(EventError::OtherKind), "{kind}");
    }
}

#[test]
fn a_bounce_is_the_addresss_fault_or_the_days_or_the_contents() {
    let table = [
        ("Permanent", "General", Bounce::Hard),
        ("Permanent", "NoEmail", Bounce::Hard),
        ("Permanent", "Suppressed", Bounce::Hard),
        ("Permanent", "OnAccountSuppressionList", Bounce::Hard),
        ("Transient", "General", Bounce::Soft),
        ("Transient", "MailboxFull", Bounce::Soft),
        ("Transient", "CustomTimeoutExceeded", Bounce::Soft),
        ("Transient", "MessageTooLarge", Bounce::Content),
        ("Transient", "ContentRejected", Bounce::Content),
        ("Transient", "AttachmentRejected", Bounce::Content),
        ("Undetermined", "Undetermined", Bounce::Soft),
    ];
    for (kind, sub_type, expected) in table {
        let read = read(&bounce(kind, sub_type)).expect("read");
        assert_eq!(read.event, MailEvent::Bounced(expected), "{kind} {sub_type}");
    }
    let said = read(&bounce("Permanent", "NoEmail")).expect("read").detail;
    assert_eq!(said.as_deref(), Some("Permanent, NoEmail, smtp; 550 5.1.1 (address) user unknown"));
}

#[test]
fn what_ses_never_writes_is_malformed() {
    let mut no_mail = record("Send");
    no_mail.as_object_mut().expect("an object").remove("mail");
    let mut forged_source: Value = serde_json::from_str(&on_the_bus("Email Sent", &record("Send"))).expect("JSON");
    forged_source["source"] = "com.example".into();
    let mut other_envelope: Value = serde_json::from_str(&of_a_topic("{}")).expect("JSON");
    other_envelope["Type"] = "SubscriptionConfirmation".into();
    let mut strange_id = record("Send");
    strange_id["mail"]["messageId"] = "a b\u{0}".into();
    let mut crowded = record("Send");
    crowded["mail"]["destination"] = vec!["a@example.org"; 51].into();
    let mut tag_is_text = record("Send");
    tag_is_text["mail"]["tags"]["nid"] = NID.into();
    for body in [
        String::new(),
        "no json".to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        "{}".to_owned(),
        "[".repeat(100_000),
        format!("{{\"eventType\":\"Send\",\"mail\":{}}}", "[".repeat(1000)),
        no_mail.to_string(),
        forged_source.to_string(),
        other_envelope.to_string(),
        strange_id.to_string(),
        crowded.to_string(),
        tag_is_text.to_string(),
        of_a_topic("not json"),
        on_the_bus("Email Delivered", &record("Complaint")),
        record("Bounce").to_string(),
        record("Exploded").to_string(),
        bounce("Sideways", "General").to_string(),
    ] {
        let error = read_ses_event(&body).expect_err(&body[..body.len().min(100)]);
        assert!(matches!(error, EventError::Form(_)) && !error.is_ignored(), "{error:?}: {body:.100}");
    }
    let long = format!("{}{}", record("Send"), " ".repeat(MAX_BODY_BYTES));
    assert_eq!(read_ses_event(&long), Err(EventError::TooLong));
}

#[test]
fn a_mail_that_is_not_ours_is_ignored_and_a_forged_tag_too() {
    let mut untagged = record("Send");
    untagged["mail"]["tags"] = json!({"ses:configuration-set": ["harkara"]});
    assert_eq!(read(&untagged), Err(EventError::Untagged));
    untagged["mail"].as_object_mut().expect("an object").remove("tags");
    assert_eq!(read(&untagged), Err(EventError::Untagged));
    for (tag, value) in [
        ("nid", json!(["ntf_1"])),
        ("nid", json!([NID, NID])),
        ("nid", json!([])),
        ("nid", json!([NID.to_uppercase()])),
        ("t", json!(["'; DROP TABLE deliveries"])),
        ("t", json!([T.to_uppercase().replace('8', "F")])),
        ("att", json!(["0"])),
        ("att", json!(["+1"])),
        ("att", json!(["01"])),
        ("att", json!(["4294967295"])),
        ("att", json!(["99999999999999999999"])),
    ] {
        let mut forged = record("Send");
        forged["mail"]["tags"][tag] = value;
        assert_eq!(read(&forged), Err(EventError::Tag(tag)), "{forged}");
        assert!(EventError::Tag(tag).is_ignored());
    }
}

#[test]
fn the_notice_that_a_topic_was_set_up_is_no_event() {
    let notice = format!("{TOPIC_NOTICE}.");
    assert_eq!(read_ses_event(&notice), Err(EventError::TopicNotice));
    assert_eq!(read_ses_event(&of_a_topic(&notice)), Err(EventError::TopicNotice));
    assert!(EventError::TopicNotice.is_ignored());
}
