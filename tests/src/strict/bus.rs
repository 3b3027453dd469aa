//! A stand-in for EventBridge's PutEvents that keeps what it is given, and fails on request.
//!
//! Source: the API model of EventBridge (2015-10-07), `AWSEvents.PutEvents`, JSON 1.1.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::door::Door;

const BATCH_MAX: usize = 10;
/// All entries of a request together.
const SIZE_MAX: usize = 1_048_576;

/// An event that was taken.
#[derive(Clone, Debug)]
pub struct BusEvent {
    /// Such as `delivery.sent`.
    pub detail_type: String,
    /// What it says.
    pub detail: Value,
}

#[derive(Debug, Default)]
struct Kept {
    events: Vec<BusEvent>,
    failing_calls: usize,
    failing_entries: usize,
}

/// The running stand-in. Dropping it ends it.
#[derive(Debug)]
pub struct Bus {
    state: Arc<Mutex<Kept>>,
    door: Door,
}

fn lock(state: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bus {
    /// Binds a free port on 127.0.0.1.
    pub async fn start() -> std::io::Result<Self> {
        let state: Arc<Mutex<Kept>> = Arc::default();
        let router = Router::new().fallback(post(answer)).with_state(Arc::clone(&state));
        let door = Door::open(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), router).await?;
        Ok(Self { state, door })
    }

    /// The value for `AWS_ENDPOINT_URL_EVENTBRIDGE`.
    pub fn url(&self) -> String {
        format!("http://{}", self.door.address())
    }

    /// The events so far, in order.
    pub fn events(&self) -> Vec<BusEvent> {
        lock(&self.state).events.clone()
    }

    /// The next `count` calls end with a 500.
    pub fn fail(&self, count: usize) {
        lock(&self.state).failing_calls = count;
    }

    /// The next `count` entries fail, each for itself, in a call that succeeds.
    pub fn refuse_entries(&self, count: usize) {
        lock(&self.state).failing_entries = count;
    }

    /// From now on nobody is there.
    pub async fn shut(&mut self) {
        self.door.shut().await;
    }

    /// Is there again, and takes everything.
    pub async fn mend(&mut self) {
        self.fail(0);
        self.refuse_entries(0);
        self.door.reopen().await.expect("its port is free, for it has not been given away");
    }
}

async fn answer(State(state): State<Arc<Mutex<Kept>>>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let refuse = |status, code: &str, message: String| {
        (status, Json(json!({"__type": code, "message": message}))).into_response()
    };
    if target != "AWSEvents.PutEvents" {
        return refuse(StatusCode::BAD_REQUEST, "UnknownOperationException", target.to_owned());
    }
    let Ok(input) = serde_json::from_slice::<Value>(&body) else {
        return refuse(StatusCode::BAD_REQUEST, "SerializationException", "no JSON".to_owned());
    };
    let mut state = lock(&state);
    if let Some(left) = state.failing_calls.checked_sub(1) {
        state.failing_calls = left;
        return refuse(StatusCode::INTERNAL_SERVER_ERROR, "InternalException", "told to fail".to_owned());
    }
    let entries = input["Entries"].as_array().map_or(&[][..], Vec::as_slice);
    if !(1..=BATCH_MAX).contains(&entries.len()) || body.len() > SIZE_MAX {
        let message = format!("{} entries, {} bytes", entries.len(), body.len());
        return refuse(StatusCode::BAD_REQUEST, "ValidationException", message);
    }
    let mut failed = 0;
    let results: Vec<Value> = entries
        .iter()
        .map(|entry| match take_entry(&mut state, entry) {
            Ok(()) => json!({"EventId": uuid::Uuid::new_v4()}),
            Err((code, message)) => {
                failed += 1;
                json!({"ErrorCode": code, "ErrorMessage": message})
            }
        })
        .collect();
    Json(json!({"FailedEntryCount": failed, "Entries": results})).into_response()
}

fn take_entry(state: &mut Kept, entry: &Value) -> Result<(), (&'static str, String)> {
    if let Some(left) = state.failing_entries.checked_sub(1) {
        state.failing_entries = left;
        return Err(("InternalFailure", "told to fail".to_owned()));
    }
    let text = |name: &'static str| {
        entry[name].as_str().filter(|text| !text.is_empty()).ok_or(("InvalidArgument", format!("{name} is missing")))
    };
    if text("Source")?.starts_with("aws.") {
        return Err(("NotAuthorizedForSourceException", "Not authorized for the source.".to_owned()));
    }
    let detail_type = text("DetailType")?.to_owned();
    let detail: Value =
        serde_json::from_str(text("Detail")?).map_err(|_| ("MalformedDetail", "Detail is malformed.".to_owned()))?;
    if !detail.is_object() {
        return Err(("MalformedDetail", "Detail is malformed.".to_owned()));
    }
    state.events.push(BusEvent { detail_type, detail });
    Ok(())
}
