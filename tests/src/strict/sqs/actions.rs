//! SQS's actions on the queues: the rules of their requests, and their answers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::queue::{Queue, QueueSetup, Received};
use super::refusal::Refused;
use crate::strict::clock::Clock;

const BATCH_MAX: usize = 10;
/// A body, and a batch together.
const BODY_MAX: usize = 1_048_576;
const DELAY_MAX: u64 = 900;

/// Every queue of the account.
#[derive(Debug)]
pub(super) struct Queues {
    pub(super) clock: Clock,
    queues: BTreeMap<&'static str, Queue>,
    /// So many of the next entries of a batch are refused for themselves.
    pub(super) entries_refused: usize,
}

impl Queues {
    pub(super) fn new(clock: Clock, setups: Vec<QueueSetup>) -> Self {
        let queues = setups.into_iter().map(|setup| (setup.name, Queue::new(setup))).collect();
        Self { clock, queues, entries_refused: 0 }
    }

    pub(super) fn queue(&mut self, name: &str) -> Result<&mut Queue, Refused> {
        self.queues
            .get_mut(name)
            .ok_or_else(|| Refused::new("QueueDoesNotExist", format!("The specified queue {name:?} does not exist.")))
    }

    pub(super) fn act(&mut self, action: &str, input: &Value) -> Result<Value, Refused> {
        let name = text(input, "QueueUrl").rsplit('/').next().unwrap_or_default().to_owned();
        self.queue(&name)?;
        match action {
            "SendMessage" => {
                let id = self.send(&name, input)?;
                Ok(json!({"MessageId": id, "MD5OfMessageBody": "0".repeat(32)}))
            }
            "SendMessageBatch" => {
                let entries = read_entries(input)?;
                let total: usize = entries.iter().map(message_size).sum();
                if total > BODY_MAX {
                    return Err(Refused::new("BatchRequestTooLong", format!("{total} bytes")));
                }
                Ok(self.each(entries, |queues, entry| {
                    let id = queues.send(&name, entry)?;
                    Ok(json!({"MessageId": id, "MD5OfMessageBody": "0".repeat(32)}))
                }))
            }
            "ChangeMessageVisibility" => self.change_visibility(&name, input).map(|()| json!({})),
            "ChangeMessageVisibilityBatch" => {
                let entries = read_entries(input)?;
                Ok(self.each(entries, |queues, entry| queues.change_visibility(&name, entry).map(|()| json!({}))))
            }
            "DeleteMessage" => self.queue(&name)?.delete(text(input, "ReceiptHandle")).map(|()| json!({})),
            "DeleteMessageBatch" => {
                let entries = read_entries(input)?;
                Ok(self.each(entries, |queues, entry| {
                    queues.queue(&name)?.delete(text(entry, "ReceiptHandle")).map(|()| json!({}))
                }))
            }
            "ReceiveMessage" => {
                let max = input["MaxNumberOfMessages"].as_u64().unwrap_or(1);
                if !(1..=10).contains(&max) {
                    return Err(Refused::invalid(format!("MaxNumberOfMessages is {max}")));
                }
                let visibility = input["VisibilityTimeout"].as_u64();
                if visibility.is_some_and(|seconds| seconds > super::queue::VISIBILITY_MAX) {
                    return Err(Refused::invalid(format!("VisibilityTimeout is {visibility:?}")));
                }
                let max = usize::try_from(max).unwrap_or(1);
                let received = self.receive(&name, max, visibility.map(Duration::from_secs))?;
                let clock = self.clock.clone();
                let messages: Vec<Value> = received.iter().map(|message| print_received(message, &clock)).collect();
                Ok(if messages.is_empty() { json!({}) } else { json!({"Messages": messages}) })
            }
            "GetQueueAttributes" => {
                let now = self.clock.now();
                let waiting = self.queue(&name)?.waiting(now);
                let in_flight = waiting.iter().filter(|message| message.in_flight).count();
                let delayed = waiting.iter().filter(|message| !message.in_flight && !message.wait.is_zero()).count();
                Ok(json!({"Attributes": {
                    "ApproximateNumberOfMessages": (waiting.len() - in_flight - delayed).to_string(),
                    "ApproximateNumberOfMessagesNotVisible": in_flight.to_string(),
                    "ApproximateNumberOfMessagesDelayed": delayed.to_string(),
                }}))
            }
            other => Err(Refused::new("InvalidAction", format!("no action {other:?} here"))),
        }
    }

    /// Receives, and moves what was received too often to where the queue's redrive policy says.
    pub(super) fn receive(
        &mut self,
        name: &str,
        max: usize,
        visibility: Option<Duration>,
    ) -> Result<Vec<Received>, Refused> {
        let now = self.clock.now();
        let queue = self.queue(name)?;
        let dead_letter_queue = queue.setup.redrive.map(|(name, _)| name);
        let (received, given_up) = queue.receive(max, visibility, now)?;
        if let Some(target) = dead_letter_queue {
            let target = self.queue(target)?;
            given_up.into_iter().for_each(|message| target.adopt(message, now));
        }
        Ok(received)
    }

    /// Does a batch's entries one by one; each has its own result.
    fn each(&mut self, entries: &[Value], act: impl Fn(&mut Self, &Value) -> Result<Value, Refused>) -> Value {
        let (mut successful, mut failed) = (Vec::new(), Vec::new());
        for entry in entries {
            let id = text(entry, "Id");
            let result = match self.entries_refused.checked_sub(1) {
                Some(left) => {
                    self.entries_refused = left;
                    Err(Refused {
                        code: "InternalError".to_owned(),
                        message: "We encountered an internal error. Please try again.".to_owned(),
                        status: 500,
                    })
                }
                None => act(self, entry),
            };
            match result {
                Ok(mut done) => {
                    done["Id"] = id.into();
                    successful.push(done);
                }
                Err(refused) => failed.push(refused.entry(id)),
            }
        }
        json!({"Successful": successful, "Failed": failed})
    }

    fn send(&mut self, name: &str, message: &Value) -> Result<String, Refused> {
        let body = text(message, "MessageBody");
        let is_legal =
            |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
        if body.is_empty() {
            return Err(Refused::new("MissingParameter", "The request must contain the parameter MessageBody.".into()));
        }
        if !body.chars().all(is_legal) {
            return Err(Refused::new(
                "InvalidMessageContents",
                "The message contains characters outside the allowed set.".into(),
            ));
        }
        let size = message_size(message);
        if size > BODY_MAX {
            return Err(Refused::invalid(format!(
                "One or more parameters are invalid. Reason: Message must be shorter than {BODY_MAX} bytes, and is {size}."
            )));
        }
        let delay = match &message["DelaySeconds"] {
            Value::Null => 0,
            delay => delay.as_u64().filter(|delay| *delay <= DELAY_MAX).ok_or_else(|| {
                Refused::invalid(format!("Value {delay} for parameter DelaySeconds is invalid. Reason: DelaySeconds must be >= 0 and <= {DELAY_MAX}."))
            })?,
        };
        let group = message["MessageGroupId"].as_str();
        if group.is_some_and(|group| {
            !(1..=128).contains(&group.len()) || !group.bytes().all(|byte| byte.is_ascii_graphic())
        }) {
            return Err(Refused::invalid(format!("MessageGroupId {group:?} is invalid.")));
        }
        let attributes = read_attributes(message)?;
        let now = self.clock.now();
        let queue = self.queue(name)?;
        Ok(queue.send(body.to_owned(), attributes, group.map(str::to_owned), Duration::from_secs(delay), now))
    }

    fn change_visibility(&mut self, name: &str, entry: &Value) -> Result<(), Refused> {
        let timeout = entry["VisibilityTimeout"]
            .as_u64()
            .ok_or_else(|| Refused::invalid(format!("VisibilityTimeout is {}", entry["VisibilityTimeout"])))?;
        let now = self.clock.now();
        self.queue(name)?.change_visibility(text(entry, "ReceiptHandle"), timeout, now)
    }
}

fn read_entries(input: &Value) -> Result<&Vec<Value>, Refused> {
    let entries = input["Entries"].as_array().filter(|entries| !entries.is_empty()).ok_or_else(|| {
        Refused::new("EmptyBatchRequest", "There should be at least one entry in the request.".into())
    })?;
    if entries.len() > BATCH_MAX {
        return Err(Refused::new("TooManyEntriesInBatchRequest", format!("{} entries", entries.len())));
    }
    let ids: BTreeSet<&str> = entries.iter().map(|entry| text(entry, "Id")).collect();
    if ids.len() < entries.len() {
        return Err(Refused::new("BatchEntryIdsNotDistinct", format!("{ids:?}")));
    }
    let is_legal = |id: &&str| {
        (1..=80).contains(&id.len()) && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    if !ids.iter().all(is_legal) {
        return Err(Refused::new("InvalidBatchEntryId", format!("{ids:?}")));
    }
    Ok(entries)
}

/// The body and the attributes, as SQS counts them.
fn message_size(message: &Value) -> usize {
    let attributes = message["MessageAttributes"].as_object();
    let attribute_size = |(name, value): (&String, &Value)| {
        name.len() + text(value, "DataType").len() + text(value, "StringValue").len()
    };
    text(message, "MessageBody").len() + attributes.into_iter().flatten().map(attribute_size).sum::<usize>()
}

fn read_attributes(message: &Value) -> Result<Map<String, Value>, Refused> {
    let Some(attributes) = message["MessageAttributes"].as_object() else { return Ok(Map::new()) };
    if attributes.len() > 10 {
        return Err(Refused::invalid(format!(
            "Number of message attributes [{}] exceeds the allowed maximum [10].",
            attributes.len()
        )));
    }
    for (name, value) in attributes {
        let is_legal = (1..=256).contains(&name.len())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
            && !name.starts_with('.')
            && !name.ends_with('.');
        if !is_legal {
            return Err(Refused::invalid(format!("The message attribute name {name:?} is invalid.")));
        }
        if text(value, "DataType") == "String" && text(value, "StringValue").is_empty() {
            return Err(Refused::invalid(format!("The message attribute {name:?} must contain a non-empty value.")));
        }
    }
    Ok(attributes.clone())
}

fn print_received(message: &Received, clock: &Clock) -> Value {
    json!({
        "MessageId": message.id,
        "ReceiptHandle": message.receipt_handle,
        "MD5OfBody": "0".repeat(32),
        "Body": message.body,
        "Attributes": {
            "ApproximateReceiveCount": message.receive_count.to_string(),
            "SentTimestamp": clock.epoch_millis(message.sent_at).to_string(),
            "ApproximateFirstReceiveTimestamp": clock.epoch_millis(message.first_received_at).to_string(),
        },
        "MessageAttributes": message.attributes,
    })
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_default()
}
