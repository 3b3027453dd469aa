//! Stand-ins for SQS and EventBridge on one port, strict about what AWS is strict about.
//!
//! Sources: the API models of SQS (`AmazonSQS.*`, JSON 1.0) and EventBridge (`AWSEvents.*`, JSON 1.1).

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::Outcome;

/// Entries of one batch call, of SQS and of PutEvents alike.
const BATCH_MAX: usize = 10;
/// SQS: a body, and a batch together.
const BODY_MAX: usize = 1_048_576;
const DELAY_MAX: u64 = 900;
const VISIBILITY_MAX: u64 = 43_200;

/// A message that was taken.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) body: String,
}

#[derive(Debug, Default)]
struct Desk {
    messages: Mutex<Vec<Message>>,
    /// Actions in the order in which they came.
    calls: Mutex<Vec<String>>,
    next_id: AtomicU64,
    sends_now: AtomicUsize,
    sends_max: AtomicUsize,
    send_time_ms: AtomicU64,
}

/// The running stand-ins. Dropping this ends them.
#[derive(Debug)]
pub(crate) struct AwsStandIn {
    address: SocketAddr,
    desk: Arc<Desk>,
    _tasks: JoinSet<()>,
}

impl AwsStandIn {
    /// Binds a free port on 127.0.0.1.
    pub(crate) async fn start() -> Outcome<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let desk = Arc::new(Desk::default());
        let router = Router::new().fallback(post(answer)).with_state(Arc::clone(&desk));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // Fails only for lack of descriptors; then the functions' calls fail and say so.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, desk, _tasks: tasks })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The deliveries queue; every other queue's messages are counted and dropped.
    pub(crate) fn queue_url(&self) -> String {
        format!("{}/000000000000/deliveries", self.url())
    }

    pub(crate) fn dlq_url(&self) -> String {
        format!("{}/000000000000/deliveries-dead", self.url())
    }

    /// Takes the messages that have been sent to the deliveries queue since the last call.
    pub(crate) fn take_messages(&self) -> Vec<Message> {
        std::mem::take(&mut *lock(&self.desk.messages))
    }

    /// Takes the actions that have been called since the last call.
    pub(crate) fn take_calls(&self) -> Vec<String> {
        self.desk.sends_max.store(0, Ordering::SeqCst);
        std::mem::take(&mut *lock(&self.desk.calls))
    }

    /// Sets how long each send takes from now on; at first they take no time of their own.
    pub(crate) fn set_send_time_ms(&self, milliseconds: u64) {
        self.desk.send_time_ms.store(milliseconds, Ordering::SeqCst);
    }

    /// The most sends that were under way at once since the last [`AwsStandIn::take_calls`].
    pub(crate) fn sends_at_once(&self) -> usize {
        self.desk.sends_max.load(Ordering::SeqCst)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The locks guard single pushes and takes.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A refusal: the error's name and what was wrong.
struct Refused(&'static str, String);

async fn answer(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    lock(&desk.calls).push(target.clone());
    let is_send = target.starts_with("AmazonSQS.SendMessage");
    if is_send {
        let now = desk.sends_now.fetch_add(1, Ordering::SeqCst) + 1;
        desk.sends_max.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(desk.send_time_ms.load(Ordering::SeqCst))).await;
    }
    let result = serde_json::from_slice(&body)
        .map_err(|error| Refused("SerializationException", error.to_string()))
        .and_then(|input| act(&desk, &target, &input));
    if is_send {
        desk.sends_now.fetch_sub(1, Ordering::SeqCst);
    }
    match result {
        Ok(output) => Json(output).into_response(),
        Err(Refused(name, message)) => {
            let error = json!({"__type": format!("com.amazonaws.sqs#{name}"), "message": message});
            (StatusCode::BAD_REQUEST, Json(error)).into_response()
        }
    }
}

fn act(desk: &Desk, target: &str, input: &Value) -> Result<Value, Refused> {
    match target {
        "AmazonSQS.SendMessage" => {
            let id = send_message(desk, input, input)?;
            Ok(json!({"MessageId": id, "MD5OfMessageBody": "0".repeat(32)}))
        }
        "AmazonSQS.SendMessageBatch" => {
            let entries = read_entries(input)?;
            let total: usize = entries.iter().map(|entry| text(entry, "MessageBody").len()).sum();
            if total > BODY_MAX {
                return Err(Refused("BatchRequestTooLong", format!("{total} bytes")));
            }
            let sent = entries.iter().map(|entry| {
                let id = send_message(desk, input, entry)?;
                Ok(json!({"Id": text(entry, "Id"), "MessageId": id, "MD5OfMessageBody": "0".repeat(32)}))
            });
            Ok(json!({"Successful": sent.collect::<Result<Vec<_>, Refused>>()?, "Failed": []}))
        }
        "AmazonSQS.ChangeMessageVisibility" => check_visibility(input).map(|()| json!({})),
        "AmazonSQS.ChangeMessageVisibilityBatch" => {
            let entries = read_entries(input)?;
            entries.iter().try_for_each(check_visibility)?;
            let ids: Vec<Value> = entries.iter().map(|entry| json!({"Id": text(entry, "Id")})).collect();
            Ok(json!({"Successful": ids, "Failed": []}))
        }
        "AWSEvents.PutEvents" => {
            let entries = input["Entries"].as_array().map_or(0, Vec::len);
            if !(1..=BATCH_MAX).contains(&entries) {
                return Err(Refused("ValidationException", format!("{entries} entries")));
            }
            let taken: Vec<Value> = (0..entries).map(|_| json!({"EventId": next_id(desk)})).collect();
            Ok(json!({"FailedEntryCount": 0, "Entries": taken}))
        }
        other => Err(Refused("InvalidAction", format!("no action {other:?} here"))),
    }
}

fn read_entries(input: &Value) -> Result<&Vec<Value>, Refused> {
    let entries = input["Entries"]
        .as_array()
        .filter(|entries| !entries.is_empty())
        .ok_or_else(|| Refused("EmptyBatchRequest", "no entries".to_owned()))?;
    if entries.len() > BATCH_MAX {
        return Err(Refused("TooManyEntriesInBatchRequest", format!("{} entries", entries.len())));
    }
    let ids: BTreeSet<&str> = entries.iter().map(|entry| text(entry, "Id")).collect();
    if ids.len() < entries.len() {
        return Err(Refused("BatchEntryIdsNotDistinct", format!("{ids:?}")));
    }
    let is_legal = |id: &&str| {
        (1..=80).contains(&id.len()) && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    if !ids.iter().all(is_legal) {
        return Err(Refused("InvalidBatchEntryId", format!("{ids:?}")));
    }
    Ok(entries)
}

fn send_message(desk: &Desk, input: &Value, message: &Value) -> Result<String, Refused> {
    let body = text(message, "MessageBody");
    let is_legal =
        |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    if body.is_empty() || body.len() > BODY_MAX || !body.chars().all(is_legal) {
        return Err(Refused("InvalidMessageContents", format!("{} bytes", body.len())));
    }
    let delay = message["DelaySeconds"].as_u64().unwrap_or_default();
    if delay > DELAY_MAX || text(message, "MessageGroupId").len() > 128 {
        return Err(Refused("InvalidParameterValue", format!("a delay of {delay} s, or the group's id")));
    }
    let id = next_id(desk);
    if text(input, "QueueUrl").ends_with("/deliveries") {
        lock(&desk.messages).push(Message { id: id.clone(), body: body.to_owned() });
    }
    Ok(id)
}

fn check_visibility(entry: &Value) -> Result<(), Refused> {
    let timeout = entry["VisibilityTimeout"].as_u64().unwrap_or(u64::MAX);
    if timeout > VISIBILITY_MAX || !text(entry, "ReceiptHandle").starts_with("receipt-") {
        return Err(Refused("InvalidParameterValue", entry.to_string()));
    }
    Ok(())
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_default()
}

fn next_id(desk: &Desk) -> String {
    format!("message-{}", desk.next_id.fetch_add(1, Ordering::SeqCst))
}
