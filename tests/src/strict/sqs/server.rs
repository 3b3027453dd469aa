//! SQS over HTTP (`AmazonSQS.*`, JSON 1.0), as the SDK speaks it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use local::ses::connection::{ConnectionEnd, Ending};
use serde_json::Value;
use tokio::sync::watch;

use super::actions::Queues;
use super::fault::{Faults, SqsFault};
use super::queue::{Order, QueueSetup, Received, Waiting};
use super::refusal::Refused;
use crate::strict::clock::Clock;
use crate::strict::door::Door;

#[derive(Debug)]
struct Desk {
    queues: Mutex<Queues>,
    faults: Mutex<Faults>,
    /// Actions in the order in which they came, with what became of them.
    calls: watch::Sender<Vec<String>>,
}

/// The running stand-in. Dropping it ends it.
#[derive(Debug)]
pub struct Sqs {
    desk: Arc<Desk>,
    door: Door,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic inside is a test's own and ends it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sqs {
    /// Binds a free port on 127.0.0.1 and serves these queues.
    pub async fn start(clock: Clock, queues: Vec<QueueSetup>) -> std::io::Result<Self> {
        let desk = Arc::new(Desk {
            queues: Mutex::new(Queues::new(clock, queues)),
            faults: Mutex::default(),
            calls: watch::Sender::default(),
        });
        let router = Router::new().fallback(post(answer)).with_state(Arc::clone(&desk));
        let door = Door::open(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), router).await?;
        Ok(Self { desk, door })
    }

    /// The value for `AWS_ENDPOINT_URL_SQS`.
    pub fn url(&self) -> String {
        format!("http://{}", self.door.address())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.door.address()
    }

    /// A queue's URL.
    pub fn queue_url(&self, name: &str) -> String {
        format!("{}/000000000000/{name}", self.url())
    }

    /// The next `times` calls of an action, such as `SendMessageBatch`, meet a fault. The SDK tries a call twice.
    pub fn fail(&self, action: &str, fault: SqsFault, times: usize) {
        lock(&self.desk.faults).add(action, fault, times);
    }

    /// The next `count` entries of batches fail, each for itself, in a batch that succeeds.
    pub fn refuse_entries(&self, count: usize) {
        lock(&self.desk.queues).entries_refused = count;
    }

    /// From now on nobody is there: connections are refused, and those that are open end.
    pub async fn shut(&mut self) {
        self.door.shut().await;
    }

    /// Is there again, and does everything that is asked.
    pub async fn mend(&mut self) {
        lock(&self.desk.faults).clear();
        lock(&self.desk.queues).entries_refused = 0;
        self.door.reopen().await.expect("its port is free, for it has not been given away");
    }

    /// The order of receives from now on.
    pub fn set_order(&self, queue: &str, order: Order) {
        self.with(queue, |queue| queue.order = order);
    }

    /// Each message that is in the queue now is received by two receivers, the next time.
    pub fn deliver_twice(&self, queue: &str) {
        self.with(queue, |queue| queue.deliver_twice());
    }

    /// Everything that was deleted from a queue is back, as after the return of a server that missed the deletes.
    /// Says how many messages that are.
    pub fn undo_deletes(&self, queue: &str) -> usize {
        let now = self.now();
        self.with(queue, |queue| queue.undo_deletes(now))
    }

    /// Puts any body on a queue, as an operator's hand might, if SQS takes it.
    pub fn put(&self, queue: &str, body: &str) -> Result<(), Refused> {
        self.act("SendMessage", &serde_json::json!({"QueueUrl": queue, "MessageBody": body})).map(drop)
    }

    /// What an action answers, without the wire.
    pub fn act(&self, action: &str, input: &Value) -> Result<Value, Refused> {
        lock(&self.desk.queues).act(action, input)
    }

    /// Receives up to `max` messages for a poller.
    pub fn receive(&self, queue: &str, max: usize) -> Result<Vec<Received>, Refused> {
        lock(&self.desk.queues).receive(queue, max, None)
    }

    /// Deletes for a poller.
    pub fn delete(&self, queue: &str, receipt_handle: &str) {
        let deleted = self.with(queue, |queue| queue.delete(receipt_handle));
        deleted.expect("a poller deletes by the handles that it got");
    }

    /// What is in a queue, hidden or not.
    pub fn waiting(&self, queue: &str) -> Vec<Waiting> {
        let now = self.now();
        self.with(queue, |queue| queue.waiting(now))
    }

    /// How many messages a queue was ever sent.
    pub fn sent_count(&self, queue: &str) -> u64 {
        self.with(queue, |queue| queue.sent_count)
    }

    /// The actions that were called over HTTP, in order.
    pub fn calls(&self) -> Vec<String> {
        self.desk.calls.borrow().clone()
    }

    /// Waits until an action has been called `count` times over HTTP, for at most `limit`; says whether it has.
    pub async fn wait_for_calls(&self, action: &str, count: usize, limit: Duration) -> bool {
        let mut calls = self.desk.calls.subscribe();
        let has_come = calls.wait_for(|calls| calls.iter().filter(|call| *call == action).count() >= count);
        matches!(tokio::time::timeout(limit, has_come).await, Ok(Ok(_)))
    }

    fn now(&self) -> Duration {
        lock(&self.desk.queues).clock.now()
    }

    fn with<T>(&self, name: &str, act: impl FnOnce(&mut super::queue::Queue) -> T) -> T {
        act(lock(&self.desk.queues).queue(name).expect("a test names queues that it set up"))
    }
}

async fn answer(
    State(desk): State<Arc<Desk>>,
    Extension(connection): Extension<ConnectionEnd>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Some(action) = target.strip_prefix("AmazonSQS.").map(str::to_owned) else {
        return Refused::new("InvalidAction", format!("no target {target:?} here")).into_response();
    };
    let fault = lock(&desk.faults).take(&action);
    let result = if fault.is_none_or(SqsFault::is_done) {
        serde_json::from_slice(&body)
            .map_err(|error| Refused::new("SerializationException", error.to_string()))
            .and_then(|input| lock(&desk.queues).act(&action, &input))
    } else {
        Ok(Value::Null)
    };
    desk.calls.send_modify(|calls| calls.push(action));
    let failed = |code: &str, status| Refused { code: code.to_owned(), message: "told to fail".to_owned(), status };
    match fault {
        None => result.map_or_else(Refused::into_response, |output| Json(output).into_response()),
        Some(SqsFault::Throttled) => failed("RequestThrottled", 400).into_response(),
        Some(SqsFault::InternalError) => failed("InternalError", 500).into_response(),
        Some(SqsFault::Unavailable) => failed("ServiceUnavailable", 503).into_response(),
        Some(SqsFault::LostRequest | SqsFault::LostReply) => match connection.end(Ending::Close).await {},
        Some(SqsFault::NoReply) => std::future::pending().await,
    }
}
