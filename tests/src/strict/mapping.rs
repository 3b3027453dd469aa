//! The event source mapping between a queue and a function: what it hands over, and how it reads the answer.
//!
//! Source: AWS Lambda developer guide, "Handling errors for an SQS event source in Lambda"; the two lists of what is
//! complete success and what is complete failure.

use local::runtime_api::FunctionError;
use serde_json::{Map, Value, json};

use super::clock::Clock;
use super::sqs::Received;

/// What an answer says about a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every message is deleted.
    Success,
    /// These come back, the rest is deleted. Ids of the batch, each once.
    Partial(Vec<String>),
    /// Every message comes back; why.
    Failure(String),
}

impl Verdict {
    /// Whether a message of the batch is deleted.
    pub fn deletes(&self, id: &str) -> bool {
        match self {
            Self::Success => true,
            Self::Partial(failed) => !failed.iter().any(|failed| failed == id),
            Self::Failure(_) => false,
        }
    }
}

/// Reads a function's answer to a batch with these ids, where `ReportBatchItemFailures` is on.
pub fn read_verdict(answer: &Result<Value, FunctionError>, batch: &[&str]) -> Verdict {
    let answer = match answer {
        Err(error) => return Verdict::Failure(error.to_string()),
        Ok(answer) => answer,
    };
    let list = match answer {
        Value::Null => return Verdict::Success,
        Value::Object(answer) => answer.get("batchItemFailures").unwrap_or(&Value::Null),
        other => return Verdict::Failure(format!("the answer is no object: {other}")),
    };
    let items = match list {
        // Also where the key is missing, or has a capital letter: silently, everything is done.
        Value::Null => return Verdict::Success,
        Value::Array(items) if items.is_empty() => return Verdict::Success,
        Value::Array(items) => items,
        other => return Verdict::Failure(format!("batchItemFailures is no list: {other}")),
    };
    let mut failed: Vec<String> = Vec::new();
    for item in items {
        match item.get("itemIdentifier").and_then(Value::as_str) {
            Some(id) if batch.contains(&id) => {
                if !failed.iter().any(|known| known == id) {
                    failed.push(id.to_owned());
                }
            }
            _ => return Verdict::Failure(format!("an item of the list names no message of the batch: {item}")),
        }
    }
    Verdict::Partial(failed)
}

/// The event with a batch, as a function gets it.
pub(super) fn print_batch(queue: &str, messages: &[Received], clock: &Clock) -> Value {
    let records: Vec<Value> = messages
        .iter()
        .map(|message| {
            let mut attributes = json!({
                "ApproximateReceiveCount": message.receive_count.to_string(),
                "SentTimestamp": clock.epoch_millis(message.sent_at).to_string(),
                "SenderId": "AROAEXAMPLE:function",
                "ApproximateFirstReceiveTimestamp": clock.epoch_millis(message.first_received_at).to_string(),
            });
            if let Some(group) = &message.group {
                attributes["MessageGroupId"] = group.as_str().into();
            }
            json!({
                "messageId": message.id,
                "receiptHandle": message.receipt_handle,
                "body": message.body,
                "attributes": attributes,
                "messageAttributes": print_attributes(&message.attributes),
                "md5OfBody": "0".repeat(32),
                "eventSource": "aws:sqs",
                "eventSourceARN": format!("arn:aws:sqs:ap-south-1:000000000000:{queue}"),
                "awsRegion": "ap-south-1",
            })
        })
        .collect();
    json!({"Records": records})
}

/// Lambda writes the members of a message attribute in its own case.
fn print_attributes(attributes: &Map<String, Value>) -> Value {
    let print = |(name, value): (&String, &Value)| {
        let mut printed = json!({"dataType": value["DataType"], "stringListValues": [], "binaryListValues": []});
        if let Some(text) = value["StringValue"].as_str() {
            printed["stringValue"] = text.into();
        }
        (name.clone(), printed)
    };
    Value::Object(attributes.iter().map(print).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn read(answer: Value) -> Verdict {
        read_verdict(&Ok(answer), &["a", "b"])
    }

    #[test]
    fn an_empty_or_missing_list_is_complete_success() {
        let nothing = [
            Value::Null,
            json!({}),
            json!({"batchItemFailures": null}),
            json!({"batchItemFailures": []}),
            // The wrong case of the key is the same as no key: the mistake that loses messages without a word.
            json!({"BatchItemFailures": [{"itemIdentifier": "a"}]}),
        ];
        for answer in nothing {
            assert_eq!(read(answer.clone()), Verdict::Success, "{answer}");
        }
    }

    #[test]
    fn an_item_that_names_no_message_fails_the_whole_batch() {
        let items = [
            json!({"itemIdentifier": ""}),
            json!({"itemIdentifier": null}),
            json!({"ItemIdentifier": "a"}),
            json!({"itemIdentifier": "c"}),
            json!({"itemIdentifier": 1}),
            json!({}),
            json!("a"),
            Value::Null,
        ];
        for item in items {
            let answer = json!({"batchItemFailures": [{"itemIdentifier": "a"}, item]});
            assert!(matches!(read(answer.clone()), Verdict::Failure(_)), "{answer}");
        }
    }

    #[test]
    fn an_answer_of_another_form_fails_the_whole_batch() {
        for answer in [json!("done"), json!([]), json!(1), json!(true), json!({"batchItemFailures": "a"})] {
            assert!(matches!(read(answer.clone()), Verdict::Failure(_)), "{answer}");
        }
    }

    #[test]
    fn an_error_of_the_function_fails_the_whole_batch() {
        let errors = [
            FunctionError::Failed { kind: "Panic".into(), message: String::new() },
            FunctionError::NotJson("{".into()),
            FunctionError::Timeout(Duration::from_secs(30)),
            FunctionError::Exited { status: "signal: 9".into(), last_lines: Vec::new() },
        ];
        for error in errors {
            let verdict = read_verdict(&Err(error), &["a"]);
            assert!(matches!(verdict, Verdict::Failure(_)));
            assert!(!verdict.deletes("a"));
        }
    }

    #[test]
    fn a_named_message_comes_back_and_the_rest_is_deleted() {
        let verdict = read(json!({"batchItemFailures": [{"itemIdentifier": "b"}, {"itemIdentifier": "b"}]}));
        assert_eq!(verdict, Verdict::Partial(vec!["b".into()]));
        assert!(verdict.deletes("a") && !verdict.deletes("b"));
    }
}
