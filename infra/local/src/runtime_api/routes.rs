//! The four routes of the Runtime API that a custom runtime calls.
//!
//! Source: AWS Lambda developer guide, "Using the Lambda runtime API for custom runtimes", version 2018-06-01.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};

use super::function::FunctionError;

/// Lambda's limit of a synchronous answer is 6 MB; one that is over it must be seen as too long, not as missing.
const BODY_MAX: usize = 7 * 1024 * 1024;
const ANSWER_MAX: usize = 6 * 1024 * 1024;

/// An event on its way to the function.
#[derive(Debug)]
pub(super) struct Invocation {
    pub(super) id: String,
    pub(super) event: Vec<u8>,
    /// Time that the function has from now on.
    pub(super) limit: Duration,
}

/// How far a child has come.
#[derive(Clone, Debug)]
pub(super) enum Life {
    /// Started, has not asked for an event.
    Starting,
    /// Asked for its first event at this instant.
    Ready(Instant),
    /// Reported that it cannot start.
    InitFailed { kind: String, message: String },
    /// The process has ended; the words of its exit status.
    Ended(String),
}

type Reply = oneshot::Sender<Result<Value, FunctionError>>;

/// What the routes and the invoker share.
#[derive(Debug)]
pub(super) struct Exchange {
    life: watch::Sender<Life>,
    invocations: tokio::sync::Mutex<mpsc::Receiver<Invocation>>,
    replies: Mutex<HashMap<String, Reply>>,
}

impl Exchange {
    /// Makes an exchange, and the end into which invocations are put.
    pub(super) fn new() -> (Arc<Self>, mpsc::Sender<Invocation>) {
        let (sender, receiver) = mpsc::channel(1);
        let exchange = Self {
            life: watch::Sender::new(Life::Starting),
            invocations: tokio::sync::Mutex::new(receiver),
            replies: Mutex::default(),
        };
        (Arc::new(exchange), sender)
    }

    pub(super) fn watch_life(&self) -> watch::Receiver<Life> {
        self.life.subscribe()
    }

    pub(super) fn end_life(&self, words: String) {
        self.life.send_replace(Life::Ended(words));
    }

    /// Registers that somebody waits for the answer to an invocation.
    pub(super) fn expect_reply(&self, id: &str) -> oneshot::Receiver<Result<Value, FunctionError>> {
        let (sender, receiver) = oneshot::channel();
        self.replies().insert(id.to_owned(), sender);
        receiver
    }

    /// Nobody waits any longer.
    pub(super) fn forget_reply(&self, id: &str) {
        self.replies().remove(id);
    }

    fn replies(&self) -> std::sync::MutexGuard<'_, HashMap<String, Reply>> {
        // The lock guards single inserts and removals; a panic cannot leave one half done.
        self.replies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark_ready(&self) {
        let now = Instant::now();
        self.life.send_if_modified(|life| {
            let is_first = matches!(life, Life::Starting);
            if is_first {
                *life = Life::Ready(now);
            }
            is_first
        });
    }

    fn reply(&self, id: &str, result: Result<Value, FunctionError>) -> Response {
        match self.replies().remove(id) {
            Some(reply) => {
                // The invoker may have left in this very moment; its deadline has spoken for it.
                let _ = reply.send(result);
                accepted()
            }
            None => (
                StatusCode::BAD_REQUEST,
                Json(json!({"errorType": "InvalidRequestID", "errorMessage": "Invalid request ID"})),
            )
                .into_response(),
        }
    }
}

pub(super) fn build_router(exchange: Arc<Exchange>) -> Router {
    Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next_invocation))
        .route("/2018-06-01/runtime/invocation/{id}/response", post(take_response))
        .route("/2018-06-01/runtime/invocation/{id}/error", post(take_error))
        .route("/2018-06-01/runtime/init/error", post(take_init_error))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(exchange)
}

async fn next_invocation(State(exchange): State<Arc<Exchange>>) -> Response {
    exchange.mark_ready();
    let Some(invocation) = exchange.invocations.lock().await.recv().await else {
        return StatusCode::GONE.into_response();
    };
    let deadline =
        Timestamp::now().as_millisecond() + i64::try_from(invocation.limit.as_millis()).unwrap_or(i64::MAX / 2);
    (
        [
            ("content-type", "application/json".to_owned()),
            ("lambda-runtime-aws-request-id", invocation.id),
            ("lambda-runtime-deadline-ms", deadline.to_string()),
            ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:local:000000000000:function:local".to_owned()),
            (
                "lambda-runtime-trace-id",
                "Root=1-00000000-000000000000000000000000;Parent=0000000000000000;Sampled=0".to_owned(),
            ),
        ],
        invocation.event,
    )
        .into_response()
}

async fn take_response(State(exchange): State<Arc<Exchange>>, Path(id): Path<String>, body: Bytes) -> Response {
    if body.len() > ANSWER_MAX {
        let message = format!("{} bytes, more than {ANSWER_MAX}", body.len());
        let result = Err(FunctionError::Failed { kind: "Function.ResponseSizeTooLarge".to_owned(), message });
        exchange.reply(&id, result);
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    }
    let result = if body.is_empty() {
        Ok(Value::Null)
    } else {
        serde_json::from_slice(&body).map_err(|_| FunctionError::NotJson(String::from_utf8_lossy(&body).into_owned()))
    };
    exchange.reply(&id, result)
}

/// The body of an error report; a runtime may leave both out.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ErrorReport {
    error_type: String,
    error_message: String,
}

fn read_report(body: &Bytes) -> ErrorReport {
    serde_json::from_slice(body).unwrap_or_else(|_| ErrorReport {
        error_type: String::new(),
        error_message: String::from_utf8_lossy(body).into_owned(),
    })
}

async fn take_error(State(exchange): State<Arc<Exchange>>, Path(id): Path<String>, body: Bytes) -> Response {
    let report = read_report(&body);
    let result = Err(FunctionError::Failed { kind: report.error_type, message: report.error_message });
    exchange.reply(&id, result)
}

async fn take_init_error(State(exchange): State<Arc<Exchange>>, body: Bytes) -> Response {
    let report = read_report(&body);
    exchange.life.send_replace(Life::InitFailed { kind: report.error_type, message: report.error_message });
    accepted()
}

fn accepted() -> Response {
    (StatusCode::ACCEPTED, Json(json!({"status": "OK"}))).into_response()
}
