//! What SES says of a mail is read with every limit kept, or refused; and all three forms of it say the same.

#![no_main]

use adapters::wire::ses_event::{SesEvent, read_ses_event};
use domain::feedback::MailEvent;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fuzz_target!(|body: &str| {
    match read_ses_event(body) {
        Ok(event) => {
            check_event(&event);
            check_forms(body, &event);
        }
        Err(error) => assert!(!error.code().is_empty() && !error.to_string().is_empty()),
    }
});

fn check_event(event: &SesEvent) {
    assert!((1..=200).contains(&event.message_id.len()));
    assert!(event.message_id.bytes().all(|byte| byte.is_ascii_graphic()));
    assert!(event.destinations.len() <= 50);
    assert!(i32::try_from(event.tags.attempt_number).is_ok_and(|number| number > 0), "a row could hold it");
    if let Some(detail) = &event.detail {
        assert!(detail.chars().count() <= 500);
        assert!(!detail.chars().any(char::is_control), "a row could not hold it");
        assert!(!detail.contains('@'), "people read it in the API, so it quotes no address");
    }
}

/// A bare record says the same inside an envelope of SNS and as the detail of an event of EventBridge.
fn check_forms(body: &str, event: &SesEvent) {
    let is_bare = serde_json::from_str::<Value>(body)
        .is_ok_and(|value| value.get("Type").is_none() && value.get("detail-type").is_none());
    if !is_bare {
        return;
    }
    let notification = json!({"Type": "Notification", "TopicArn": "arn:aws:sns:ap-south-1:1:t", "Message": body});
    assert_eq!(read_ses_event(&notification.to_string()).as_ref(), Ok(event));
    let detail_type = match event.event {
        MailEvent::Sent => "Email Sent",
        MailEvent::Delayed => "Email Delivery Delayed",
        MailEvent::Delivered => "Email Delivered",
        MailEvent::Bounced(_) => "Email Bounced",
        MailEvent::Complained => "Email Complaint Received",
        MailEvent::Rejected => "Email Rejected",
        MailEvent::RenderingFailed => "Email Rendering Failed",
    };
    let on_the_bus = format!(r#"{{"source":"aws.ses","detail-type":"{detail_type}","detail":{body}}}"#);
    assert_eq!(read_ses_event(&on_the_bus).as_ref(), Ok(event));
}
