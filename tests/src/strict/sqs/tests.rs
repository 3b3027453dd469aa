//! SQS's rules, one by one.

use super::*;
use crate::strict::Clock;
use serde_json::{Value, json};
use std::time::Duration;

const HOUR: u64 = 60 * 60;

struct Desk {
    clock: Clock,
    sqs: Sqs,
}

async fn open() -> Desk {
    let clock = Clock::default();
    let setup = |name, redrive| QueueSetup {
        name,
        visibility: Duration::from_secs(180),
        retention: Duration::from_secs(4 * 24 * HOUR),
        redrive,
        in_flight_max: 3,
    };
    let sqs = Sqs::start(clock.clone(), vec![setup("work", Some(("dead", 2))), setup("dead", None)]).await;
    Desk { clock, sqs: sqs.expect("a port is free") }
}

impl Desk {
    fn act(&self, action: &str, mut input: Value) -> Result<Value, String> {
        input["QueueUrl"] = "http://localhost/0/work".into();
        self.sqs.act(action, &input).map_err(|refused| refused.code)
    }

    fn send(&self, input: Value) -> Result<Value, String> {
        self.act("SendMessage", input)
    }

    fn receive(&self) -> Received {
        self.sqs.receive("work", 1).expect("received").remove(0)
    }

    fn hide(&self, handle: &str, seconds: u64) -> Result<(), String> {
        self.act("ChangeMessageVisibility", json!({"ReceiptHandle": handle, "VisibilityTimeout": seconds})).map(drop)
    }

    fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

#[tokio::test]
async fn a_send_is_held_to_its_limits() {
    let desk = open().await;
    let refused = [
        (json!({}), "MissingParameter"),
        (json!({"MessageBody": "a\u{0}"}), "InvalidMessageContents"),
        (json!({"MessageBody": "a\u{fffe}"}), "InvalidMessageContents"),
        (json!({"MessageBody": "a".repeat(1_048_577)}), "InvalidParameterValue"),
        (json!({"MessageBody": "a", "DelaySeconds": 901}), "InvalidParameterValue"),
        (json!({"MessageBody": "a", "DelaySeconds": -1}), "InvalidParameterValue"),
        (json!({"MessageBody": "a", "MessageGroupId": ""}), "InvalidParameterValue"),
        (json!({"MessageBody": "a", "MessageGroupId": "a b"}), "InvalidParameterValue"),
        (
            json!({"MessageBody": "a", "MessageAttributes": {"n": {"DataType": "String", "StringValue": ""}}}),
            "InvalidParameterValue",
        ),
    ];
    for (message, code) in refused {
        assert_eq!(desk.send(message).err().as_deref(), Some(code));
    }
    let taken = [
        json!({"MessageBody": "a".repeat(1_048_576)}),
        json!({"MessageBody": "\t\n\r\u{d7ff}\u{10ffff}", "DelaySeconds": 900, "MessageGroupId": "t-1"}),
    ];
    for message in taken {
        assert!(desk.send(message).is_ok());
    }
}

#[tokio::test]
async fn a_batch_has_at_most_ten_entries_with_ids_of_their_own_and_each_its_result() {
    let desk = open().await;
    let entry = |id: usize| json!({"Id": id.to_string(), "MessageBody": "a"});
    let batch = |entries: Vec<Value>| desk.act("SendMessageBatch", json!({"Entries": entries}));
    assert_eq!(batch(Vec::new()), Err("EmptyBatchRequest".into()));
    assert_eq!(batch((0..11).map(entry).collect()), Err("TooManyEntriesInBatchRequest".into()));
    assert_eq!(batch(vec![entry(1), entry(1)]), Err("BatchEntryIdsNotDistinct".into()));
    assert_eq!(batch(vec![json!({"Id": "a b", "MessageBody": "a"})]), Err("InvalidBatchEntryId".into()));
    let large = |id: usize| json!({"Id": id.to_string(), "MessageBody": "a".repeat(600_000)});
    assert_eq!(batch(vec![large(1), large(2)]), Err("BatchRequestTooLong".into()));

    let mixed = batch(vec![entry(0), json!({"Id": "1", "MessageBody": "\u{1}"})]).expect("a batch is no failure");
    assert_eq!(mixed["Successful"][0]["Id"], "0");
    assert_eq!(
        mixed["Failed"][0],
        json!({"Id": "1", "Code": "InvalidMessageContents", "SenderFault": true,
        "Message": "The message contains characters outside the allowed set."})
    );
    desk.sqs.refuse_entries(1);
    let refused = batch(vec![entry(0), entry(1)]).expect("a batch is no failure");
    assert_eq!(
        (refused["Failed"][0]["SenderFault"].clone(), refused["Successful"][0]["Id"].clone()),
        (json!(false), json!("1"))
    );
}

#[tokio::test]
async fn a_message_is_hidden_while_it_is_received_or_delayed() {
    let desk = open().await;
    desk.send(json!({"MessageBody": "a", "DelaySeconds": 10})).expect("sent");
    assert!(desk.sqs.receive("work", 10).expect("received").is_empty());
    desk.pass(10);
    let first = desk.receive();
    assert_eq!((first.receive_count, first.body.as_str()), (1, "a"));
    assert!(desk.sqs.receive("work", 10).expect("received").is_empty());
    desk.pass(180);
    let second = desk.receive();
    assert_eq!((second.receive_count, &second.id), (2, &first.id));
    assert_ne!(second.receipt_handle, first.receipt_handle);
}

#[tokio::test]
async fn a_handle_of_an_earlier_receive_deletes_nothing_and_succeeds() {
    let desk = open().await;
    desk.send(json!({"MessageBody": "a"})).expect("sent");
    let first = desk.receive();
    desk.pass(180);
    let second = desk.receive();
    desk.sqs.delete("work", &first.receipt_handle);
    assert_eq!(desk.sqs.waiting("work").len(), 1);
    desk.sqs.delete("work", &second.receipt_handle);
    desk.sqs.delete("work", &second.receipt_handle);
    assert!(desk.sqs.waiting("work").is_empty());
    assert_eq!(desk.act("DeleteMessage", json!({"ReceiptHandle": "r"})), Err("ReceiptHandleIsInvalid".into()));
}

#[tokio::test]
async fn hiding_is_bounded_and_wants_a_message_in_flight() {
    let desk = open().await;
    desk.send(json!({"MessageBody": "a"})).expect("sent");
    assert_eq!(desk.hide("r", 1), Err("ReceiptHandleIsInvalid".into()));
    let first = desk.receive().receipt_handle;
    assert_eq!(desk.hide(&first, 43_201), Err("InvalidParameterValue".into()));
    desk.hide(&first, 11 * HOUR).expect("hidden");
    desk.pass(10 * HOUR);
    // Twelve hours in all, counted from the receive; what is beyond is refused, not cut.
    assert_eq!(desk.hide(&first, 2 * HOUR + 1), Err("InvalidParameterValue".into()));
    desk.hide(&first, 2 * HOUR).expect("hidden");
    desk.pass(2 * HOUR);
    assert_eq!(desk.hide(&first, 1), Err("MessageNotInflight".into()));
    let second = desk.receive().receipt_handle;
    assert_eq!(desk.hide(&first, 1), Err("ReceiptHandleIsInvalid".into()));
    // The next receive is hidden for the queue's own time again.
    assert_eq!(desk.sqs.waiting("work")[0].wait, Duration::from_secs(180));
    desk.hide(&second, 0).expect("shown");
    assert_eq!(desk.hide(&second, 1), Err("MessageNotInflight".into()));
}

#[tokio::test]
async fn what_is_received_too_often_goes_to_the_dead_letter_queue_as_it_was() {
    let desk = open().await;
    desk.send(json!({"MessageBody": "a"})).expect("sent");
    let first = desk.receive();
    desk.pass(180);
    desk.receive();
    desk.pass(180);
    assert!(desk.sqs.receive("work", 10).expect("received").is_empty());
    let dead = desk.sqs.receive("dead", 10).expect("received").remove(0);
    assert_eq!((dead.id, dead.sent_at, dead.receive_count), (first.id, first.sent_at, 1));
}

#[tokio::test]
async fn a_queue_with_too_much_in_flight_says_so() {
    let desk = open().await;
    (0..4).for_each(|_| drop(desk.send(json!({"MessageBody": "a"})).expect("sent")));
    assert_eq!(desk.sqs.receive("work", 10).expect("received").len(), 3);
    assert_eq!(desk.sqs.receive("work", 10).err().map(|refused| refused.code).as_deref(), Some("OverLimit"));
}

#[tokio::test]
async fn a_message_may_come_twice_in_any_order_and_after_it_was_deleted() {
    let desk = open().await;
    ["a", "b"].iter().for_each(|body| drop(desk.send(json!({"MessageBody": body})).expect("sent")));
    desk.sqs.set_order("work", Order::Reversed);
    assert_eq!(desk.receive().body, "b");
    desk.sqs.deliver_twice("work");
    let (once, twice) = (desk.receive(), desk.receive());
    assert_eq!((once.id.as_str(), once.body.as_str()), (twice.id.as_str(), "a"));
    desk.sqs.delete("work", &twice.receipt_handle);
    assert_eq!(desk.sqs.undo_deletes("work"), 1);
    assert!(desk.sqs.waiting("work").iter().any(|message| message.id == once.id && message.wait.is_zero()));
}
