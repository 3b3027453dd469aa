//! What Lambda hands over from a queue, and the partial batch response.
//!
//! Bodies stay text here: typed bodies would make one malformed record fail the whole event.

use aws_lambda_events::sqs::{SqsEvent, SqsMessage};
use serde::Serialize;
use serde_json::Value;

/// One received message.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Identifies the record in the partial batch response.
    pub message_id: String,
    /// Names this receive, for hiding the message.
    pub receipt_handle: String,
    /// The body, unread.
    pub body: String,
    /// How often it has been received.
    pub receive_count: i32,
    /// When it was first sent, in milliseconds since 1970.
    pub sent_at_millis: Option<i64>,
    /// The message attribute `reason`, which says why it is in a dead-letter queue.
    pub reason: Option<String>,
    /// The message attribute `reason_detail`.
    pub reason_detail: Option<String>,
}

domain::masked_debug!(Record, "Record", message_id, receive_count, sent_at_millis, reason);

/// Reads an event. A record that lacks its message id cannot be reported and fails the event.
pub fn read_event(event: Value) -> Result<Vec<Record>, serde_json::Error> {
    let event: SqsEvent = serde_json::from_value(event)?;
    event.records.into_iter().map(read_record).collect()
}

/// The answer that names what is to be received again.
///
/// The names are the protocol: AWS takes a reply without the list for complete success, and a wrong
/// `itemIdentifier` for complete failure.
/// <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html>
#[derive(Serialize, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BatchResponse {
    batch_item_failures: Vec<BatchItemFailure>,
}

#[derive(Serialize, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct BatchItemFailure {
    item_identifier: String,
}

impl BatchResponse {
    /// Reports these records as not done. They come from the event, so that no id can be made up.
    pub fn failing<'a>(records: impl IntoIterator<Item = &'a Record>) -> Self {
        let batch_item_failures =
            records.into_iter().map(|record| BatchItemFailure { item_identifier: record.message_id.clone() }).collect();
        Self { batch_item_failures }
    }
}

fn read_record(message: SqsMessage) -> Result<Record, serde_json::Error> {
    use serde::de::Error;
    let attribute = |name: &str| message.attributes.get(name).and_then(|value| value.parse::<i64>().ok());
    // What was buried tells of its life in the queue that it came from.
    let note = |name: &str| message.message_attributes.get(name).and_then(|value| value.string_value.clone());
    let number = |name: &str| note(name).and_then(|value| value.parse::<i64>().ok());
    Ok(Record {
        receive_count: number("receive_count")
            .or(attribute("ApproximateReceiveCount"))
            .and_then(|count| i32::try_from(count).ok())
            .unwrap_or(1),
        sent_at_millis: number("sent_at_millis").or(attribute("SentTimestamp")),
        reason: note("reason"),
        reason_detail: note("reason_detail"),
        message_id: message
            .message_id
            .filter(|id| !id.is_empty())
            .ok_or_else(|| serde_json::Error::custom("a record has no messageId"))?,
        receipt_handle: message.receipt_handle.unwrap_or_default(),
        body: message.body.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_partial_batch_response_has_exactly_the_bytes_that_lambda_reads() {
        let record = Record { message_id: "m-1".into(), ..Record::default() };
        let bytes = serde_json::to_string(&BatchResponse::failing([&record])).expect("prints");
        assert_eq!(bytes, r#"{"batchItemFailures":[{"itemIdentifier":"m-1"}]}"#);
        let nothing = serde_json::to_string(&BatchResponse::default()).expect("prints");
        assert_eq!(nothing, r#"{"batchItemFailures":[]}"#);
    }

    #[test]
    fn a_malformed_body_does_not_fail_the_event() {
        let event = json!({"Records": [
            {"messageId": "a", "receiptHandle": "r", "body": "not json", "attributes": {"ApproximateReceiveCount": "3"},
             "messageAttributes": {}, "eventSource": "aws:sqs"},
            {"messageId": "b", "body": "{}", "attributes": {}, "messageAttributes": {
                "reason": {"stringValue": "poison", "dataType": "String"}}},
        ]});
        let records = read_event(event).expect("read");
        assert_eq!((records[0].body.as_str(), records[0].receive_count), ("not json", 3));
        assert_eq!(records[1].reason.as_deref(), Some("poison"));
    }

    #[test]
    fn a_record_without_an_id_fails_the_event_rather_than_vanish() {
        assert!(read_event(json!({"Records": [{"body": "{}", "attributes": {}, "messageAttributes": {}}]})).is_err());
    }
}
