//! A request is taken within its limits or refused by name: each item on its own, each mistake at a place that exists.

#![no_main]

use adapters::wire::categories::read_category;
use adapters::wire::fields::{FieldError, find_nul};
use adapters::wire::notification_request::{Shape, read_notifications};
use adapters::wire::preferences::read_preferences;
use adapters::wire::problem::Problem;
use adapters::wire::recipients::{read_recipient, read_recipients};
use adapters::wire::templates::{read_draft, read_preview};
use domain::notification::{MAX_NOTIFICATIONS, MAX_RECIPIENTS, NotificationRequest, Recipient};
use domain::render::check_context;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|text: &str| {
    let Ok(body) = serde_json::from_str::<Value>(text) else {
        return;
    };
    // The edge refuses these before anything reads the body.
    if let Some(error) = find_nul(&body, "") {
        check_errors(&[error], &body);
        return;
    }
    check_notifications(&body);
    let refused = [
        read_recipient(&body).err(),
        read_recipients(&body).err(),
        read_category(&body).err(),
        read_preferences(&body).err(),
        read_draft(&body).err(),
        read_preview(&body).err(),
    ];
    for problem in refused.into_iter().flatten() {
        check_problem(&problem, &body);
    }
});

fn check_notifications(body: &Value) {
    let read = match read_notifications(body) {
        Ok(read) => read,
        Err(problem) => return check_problem(&problem, body),
    };
    assert!((1..=MAX_NOTIFICATIONS).contains(&read.items.len()));
    let mut recipients = 0;
    for item in &read.items {
        match &item.request {
            Ok(request) => {
                assert!(!request.recipients.is_empty());
                recipients += request.recipients.len();
                check_request(request);
            }
            Err(errors) => {
                assert!(!errors.is_empty(), "a refusal has a reason");
                assert!(errors.iter().all(|error| error.pointer.starts_with(&item.pointer)));
                check_errors(errors, body);
            }
        }
    }
    assert!(recipients <= MAX_RECIPIENTS);
    if read.shape == Shape::One {
        assert!(read.items.len() == 1 && recipients <= 1);
    }
}

fn check_request(request: &NotificationRequest) {
    assert!(check_context(&request.data).is_ok());
    assert!(request.metadata.is_object() && request.metadata.to_string().len() <= 4096);
    for recipient in &request.recipients {
        if let Recipient::Inline(inline) = recipient {
            assert!(inline.email.is_some() || inline.phone.is_some());
        }
    }
    if let Some(channels) = &request.channels {
        assert!(!channels.is_empty() && channels.windows(2).all(|pair| pair[0] < pair[1]));
    }
}

fn check_problem(problem: &Problem, body: &Value) {
    assert!((400..500).contains(&problem.status), "a caller's mistake is never ours");
    assert!(problem.errors.len() <= 100);
    check_errors(&problem.errors, body);
}

/// A pointer leads to what is wrong, or to where something is missing.
fn check_errors(errors: &[FieldError], body: &Value) {
    for error in errors {
        let parent = error.pointer.rsplit_once('/').map_or("", |(parent, _)| parent);
        assert!(body.pointer(parent).is_some(), "{} is nowhere", error.pointer);
    }
}
