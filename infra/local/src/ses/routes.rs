//! The HTTP routes: SES's one operation, and the three that tests in other processes use.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::address::Address;
use super::connection::{ConnectionEnd, Ending};
use super::fault::{Effect, Fault};
use super::fault_book::FaultBook;
use super::ledger::{Answer, Ledger, LedgerEntry, Outcome};
use super::mailbox::Mailbox;
use super::refusal::Refusal;
use super::request::SendEmail;
use super::rules::{Account, CheckedMail, check_request};

/// Path of `SendEmail`.
pub(super) const SEND_PATH: &str = "/v2/email/outbound-emails";
/// SES takes 40 MB of message; JSON and its escapes make the request somewhat larger.
const BODY_MAX: usize = 56 * 1024 * 1024;
const MESSAGE_MAX: usize = 40 * 1024 * 1024;
/// The longest that `GET /ledger` waits for entries.
const LEDGER_WAIT_MAX: Duration = Duration::from_secs(60);

/// What all requests share.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) account: Account,
    pub(super) ledger: Ledger,
    pub(super) faults: Mutex<FaultBook>,
    pub(super) mailbox: Option<Mailbox>,
    /// Time from a request's arrival to its answer, at least.
    pub(super) latency: Duration,
    pub(super) in_flight: InFlight,
}

impl Desk {
    /// Sets the faults of the next sends to an address.
    pub(super) fn set_script(&self, address: &Address, script: Vec<Fault>) {
        self.with_faults(|book| book.set_script(address, script));
    }

    fn with_faults<T>(&self, act: impl FnOnce(&mut FaultBook) -> T) -> T {
        // A panic inside the book leaves a count at worst one behind, which no later send depends on.
        act(&mut self.faults.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How many sends are under way, and the most there ever were at once.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    now: AtomicUsize,
    max: AtomicUsize,
}

impl InFlight {
    pub(super) fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    fn enter(&self) -> Entered<'_> {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.max.fetch_max(now, Ordering::Relaxed);
        Entered(self)
    }
}

struct Entered<'a>(&'a InFlight);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) fn build_router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route(SEND_PATH, post(send_email))
        .route("/ledger", get(read_ledger).delete(clear_ledger))
        .route("/faults", post(set_faults))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(desk)
}

async fn send_email(
    State(desk): State<Arc<Desk>>,
    Extension(connection): Extension<ConnectionEnd>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let arrival = Instant::now();
    let entered = desk.in_flight.enter();
    let (mut response, answer, delay) = match decide(&desk, &headers, &body) {
        Err((to, refusal)) => {
            desk.ledger.record(LedgerEntry::of_refusal(to, refusal.clone()));
            (refusal.into_response(), Answer::Whole, Duration::ZERO)
        }
        Ok((mail, Effect::Refuse(refusal))) => {
            let outcome = Outcome::Refused(refusal.clone());
            desk.ledger.record(LedgerEntry::of_mail(mail, outcome));
            (refusal.into_response(), Answer::Whole, Duration::ZERO)
        }
        Ok((mail, Effect::Accept(answer, delay))) => {
            let response = accept_mail(&desk, mail, answer, &headers, body).await;
            (response, answer, delay)
        }
    };
    tokio::time::sleep_until(arrival + desk.latency + delay).await;
    drop(entered);
    insert_request_id(&mut response);
    match answer {
        Answer::Whole | Answer::Empty | Answer::Garbled => response,
        Answer::Truncated => match connection.end(Ending::Write(half_of(response).await)).await {},
        Answer::Lost => match connection.end(Ending::Close).await {},
        Answer::Reset => match connection.end(Ending::Reset).await {},
        Answer::Never => std::future::pending().await,
    }
}

/// Reads and checks a request. Errors carry the To field as far as it could be read, for the ledger.
fn decide(desk: &Desk, headers: &HeaderMap, body: &Bytes) -> Result<(CheckedMail, Effect), (Vec<String>, Refusal)> {
    let to = read_to_addresses(body);
    let refuse = |refusal| (to.clone(), refusal);
    check_headers(headers).map_err(refuse)?;
    if body.len() > MESSAGE_MAX {
        return Err(refuse(Refusal::rejected(format!("Message length is more than {MESSAGE_MAX} bytes long."))));
    }
    let request: SendEmail =
        serde_json::from_slice(body).map_err(|error| refuse(Refusal::serialization(error.to_string())))?;
    let mail = check_request(request, &desk.account).map_err(refuse)?;
    let recipients = mail.to.iter().chain(&mail.cc).chain(&mail.bcc);
    let fault = desk
        .with_faults(|book| book.take_fault(recipients))
        .map_err(|error| refuse(Refusal::bad_request(error.to_string())))?;
    Ok((mail, fault.effect()))
}

fn check_headers(headers: &HeaderMap) -> Result<(), Refusal> {
    let is_json =
        headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
    if !is_json {
        return Err(Refusal::serialization("The Content-Type is not application/json"));
    }
    let is_signed = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("AWS4-HMAC-SHA256 ") && value.contains("/ses/aws4_request"));
    if is_signed { Ok(()) } else { Err(Refusal::unsigned()) }
}

/// The To field of a request that may be unsound in every other way.
fn read_to_addresses(body: &Bytes) -> Vec<String> {
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    request
        .pointer("/Destination/ToAddresses")
        .and_then(|list| serde_json::from_value(list.clone()).ok())
        .unwrap_or_default()
}

/// Records an accepted mail, hands it to the mailbox, and makes its answer.
///
/// A mailbox that does not take it turns the answer into SES's 500, because a mail that nobody can see would pass for
/// one that arrived.
async fn accept_mail(desk: &Desk, mail: CheckedMail, answer: Answer, headers: &HeaderMap, body: Bytes) -> Response {
    if let Some(mailbox) = &desk.mailbox
        && let Err(error) = mailbox.forward(headers, body).await
    {
        let mut refusal = Refusal::internal();
        refusal.message = error.to_string();
        let outcome = Outcome::Refused(refusal.clone());
        desk.ledger.record(LedgerEntry::of_mail(mail, outcome));
        return refusal.into_response();
    }
    let message_id = format!("{}-000000", Uuid::now_v7());
    let outcome = Outcome::Accepted { message_id: message_id.clone(), answer };
    desk.ledger.record(LedgerEntry::of_mail(mail, outcome));
    match answer {
        Answer::Empty => StatusCode::OK.into_response(),
        Answer::Garbled => Html("<html><body>It works!</body></html>").into_response(),
        _ => Json(json!({ "MessageId": message_id })).into_response(),
    }
}

fn insert_request_id(response: &mut Response) {
    if let Ok(id) = HeaderValue::from_str(&Uuid::now_v7().to_string()) {
        response.headers_mut().insert("x-amzn-requestid", id);
    }
}

/// The head of an answer, announcing its whole length, and the first half of its body.
async fn half_of(response: Response) -> Bytes {
    let body = axum::body::to_bytes(response.into_body(), BODY_MAX).await.unwrap_or_default();
    let mut bytes =
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len())
            .into_bytes();
    bytes.extend_from_slice(&body[..body.len() / 2]);
    bytes.into()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LedgerQuery {
    to: Option<String>,
    /// Answer only once there are this many, or `within_ms` is over.
    #[serde(default)]
    at_least: usize,
    #[serde(default)]
    within_ms: u64,
}

async fn read_ledger(State(desk): State<Arc<Desk>>, Query(query): Query<LedgerQuery>) -> Response {
    let to = query.to.map(|address| address.to_lowercase());
    let is_asked_for = |entry: &LedgerEntry| to.as_deref().is_none_or(|address| entry.has_recipient(address));
    let limit = Duration::from_millis(query.within_ms).min(LEDGER_WAIT_MAX);
    desk.ledger
        .wait_for(limit, |entries| entries.iter().filter(|entry| is_asked_for(entry)).count() >= query.at_least)
        .await;
    let mut entries = desk.ledger.entries();
    entries.retain(is_asked_for);
    Json(entries).into_response()
}

async fn clear_ledger(State(desk): State<Arc<Desk>>) -> StatusCode {
    desk.ledger.clear();
    desk.with_faults(FaultBook::forget_counts);
    StatusCode::NO_CONTENT
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    to: String,
    script: Vec<Fault>,
}

async fn set_faults(State(desk): State<Arc<Desk>>, script: Result<Json<Script>, JsonRejection>) -> Response {
    let script = match script {
        Ok(Json(script)) => script,
        Err(rejection) => return Refusal::serialization(rejection.body_text()).into_response(),
    };
    match Address::parse(&script.to) {
        Ok(address) => {
            desk.set_script(&address, script.script);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(refusal) => refusal.into_response(),
    }
}
