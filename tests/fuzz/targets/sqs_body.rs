//! A queue message is read or refused, alone or in an event, and only received ids are ever reported as failed.

#![no_main]

use adapters::wire::queue_message::{print_message, read_message};
use adapters::wire::sqs_event::{BatchResponse, read_event};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|text: &str| {
    check_body(text);
    if let Ok(event) = serde_json::from_str::<Value>(text) {
        check_event(event);
    }
});

fn check_body(body: &str) {
    let Ok(message) = read_message(body) else {
        return;
    };
    let printed = print_message(&message);
    assert_eq!(read_message(&printed), Ok(message), "what is printed is read again");
    assert!(printed.chars().all(|character| character >= ' '), "SQS refuses control characters");
}

fn check_event(event: Value) {
    let sent = event["Records"].as_array().map_or(0, Vec::len);
    let Ok(records) = read_event(event) else {
        return;
    };
    assert_eq!(records.len(), sent, "no record vanishes");
    assert!(records.iter().all(|record| !record.message_id.is_empty()));
    for record in &records {
        check_body(&record.body);
    }
    let failing = || records.iter().step_by(2);
    let response = serde_json::to_value(BatchResponse::failing(failing())).expect("a response prints");
    let reported: Vec<&Value> =
        response["batchItemFailures"].as_array().expect("a list").iter().map(|item| &item["itemIdentifier"]).collect();
    let wanted: Vec<&str> = failing().map(|record| record.message_id.as_str()).collect();
    assert_eq!(reported, wanted);
}
