//! The HTTP routes: SES's operations, and those that tests in other processes use.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::JsonRejection;
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use axum::{Extension, Json, Router};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::account::{AccountBook, ListQuery, PutSuppressed};
use super::address::Address;
use super::connection::{ConnectionEnd, Ending};
use super::event_book::{EventBook, EventSink, is_to};
use super::event_script::EventScript;
use super::fault::{Effect, Fault};
use super::fault_book::FaultBook;
use super::happening::MailFacts;
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
    pub(super) events: EventBook,
    pub(super) book: AccountBook,
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
        .route("/v2/email/account", get(get_account))
        .route("/v2/email/suppression/addresses", get(list_suppressed).put(put_suppressed))
        .route("/v2/email/suppression/addresses/{address}", delete(delete_suppressed))
        .route("/faults", post(set_faults))
        .route("/events", get(read_events).delete(clear_events))
        .route("/event-sink", put(set_sink))
        .route("/account", put(set_account))
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
        Ok((mail, _, Effect::Refuse(refusal))) => {
            let outcome = Outcome::Refused(refusal.clone());
            desk.ledger.record(LedgerEntry::of_mail(mail, outcome));
            (refusal.into_response(), Answer::Whole, Duration::ZERO)
        }
        Ok((mail, events, Effect::Accept(answer, delay))) => {
            let response = accept_mail(&desk, mail, &events, answer, &headers, body).await;
            (response, answer, delay)
        }
    };
    tokio::time::sleep_until(arrival + desk.latency + delay).await;
    drop(entered);
    insert_request_id(&mut response);
    match answer {
        Answer::Whole | Answer::Empty | Answer::Garbled | Answer::Malformed => response,
        Answer::Truncated => match connection.end(Ending::Write(half_of(response).await)).await {},
        Answer::Lost => match connection.end(Ending::Close).await {},
        Answer::Reset => match connection.end(Ending::Reset).await {},
        Answer::Never => std::future::pending().await,
    }
}

/// A mail that the rules allow, the events that follow it, and what becomes of the request.
type Decided = (CheckedMail, EventScript, Effect);

/// Reads and checks a request. Errors carry the To field as far as it could be read, for the ledger.
fn decide(desk: &Desk, headers: &HeaderMap, body: &Bytes) -> Result<Decided, (Vec<String>, Refusal)> {
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
    let plan = desk
        .with_faults(|book| book.take_plan(recipients))
        .map_err(|error| refuse(Refusal::bad_request(error.to_string())))?;
    let effect = plan.fault().effect();
    // SES takes a mail to an address on the account's list, and does not deliver it.
    let is_listed = mail.to.iter().chain(&mail.cc).chain(&mail.bcc).any(|address| desk.book.lists(address));
    let events = if is_listed { EventScript::suppressed() } else { plan.events };
    Ok((mail, events, effect))
}

fn check_headers(headers: &HeaderMap) -> Result<(), Refusal> {
    check_json(headers)?;
    check_signature(headers)
}

fn check_json(headers: &HeaderMap) -> Result<(), Refusal> {
    let is_json =
        headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
    if is_json { Ok(()) } else { Err(Refusal::serialization("The Content-Type is not application/json")) }
}

fn check_signature(headers: &HeaderMap) -> Result<(), Refusal> {
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

/// Records an accepted mail, hands it to the mailbox where it reaches its recipient, tells its events, and makes its
/// answer.
///
/// A mailbox that does not take it turns the answer into SES's 500, because a mail that nobody can see would pass for
/// one that arrived.
async fn accept_mail(
    desk: &Desk,
    mail: CheckedMail,
    events: &EventScript,
    answer: Answer,
    headers: &HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(mailbox) = desk.mailbox.as_ref().filter(|_| events.reaches_recipient)
        && let Err(error) = mailbox.forward(headers, body).await
    {
        let mut refusal = Refusal::internal();
        refusal.message = error.to_string();
        let outcome = Outcome::Refused(refusal.clone());
        desk.ledger.record(LedgerEntry::of_mail(mail, outcome));
        return refusal.into_response();
    }
    let message_id = format!("{}-000000", Uuid::now_v7());
    let recipients: Vec<&Address> = mail.to.iter().chain(&mail.cc).chain(&mail.bcc).collect();
    for address in &recipients {
        if let Some(reason) = events.listed_reason(address) {
            desk.book.add(address, reason);
        }
    }
    let facts = MailFacts {
        message_id: message_id.clone(),
        at: Timestamp::now(),
        from: mail.from.clone(),
        to: recipients.iter().map(|address| address.key()).collect(),
        tags: mail.tags.clone(),
        configuration_set: mail.configuration_set.clone(),
    };
    let outcome = Outcome::Accepted { message_id: message_id.clone(), answer };
    desk.ledger.record(LedgerEntry::of_mail(mail, outcome));
    // Without a configuration set nobody is told.
    if facts.configuration_set.is_some() {
        desk.events.tell(&facts, &events.told());
    }
    match answer {
        Answer::Empty => StatusCode::OK.into_response(),
        Answer::Garbled => Html("<html><body>It works!</body></html>").into_response(),
        Answer::Malformed => {
            ([(header::CONTENT_TYPE, "application/json")], format!(r#"{{"MessageId": "{message_id}"#)).into_response()
        }
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

async fn get_account(State(desk): State<Arc<Desk>>, headers: HeaderMap) -> Result<Response, Refusal> {
    check_signature(&headers)?;
    Ok(Json(desk.book.describe()).into_response())
}

async fn list_suppressed(
    State(desk): State<Arc<Desk>>,
    headers: HeaderMap,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, Refusal> {
    check_signature(&headers)?;
    let Query(query) = query.map_err(|rejection| Refusal::bad_request(rejection.body_text()))?;
    Ok(Json(desk.book.list(&query)?).into_response())
}

async fn put_suppressed(
    State(desk): State<Arc<Desk>>,
    headers: HeaderMap,
    request: Result<Json<PutSuppressed>, JsonRejection>,
) -> Result<Response, Refusal> {
    check_signature(&headers)?;
    let Json(request) = request.map_err(|rejection| Refusal::serialization(rejection.body_text()))?;
    desk.book.put(&request)?;
    Ok(Json(json!({})).into_response())
}

async fn delete_suppressed(
    State(desk): State<Arc<Desk>>,
    headers: HeaderMap,
    Path(address): Path<String>,
) -> Result<Response, Refusal> {
    check_signature(&headers)?;
    let address = Address::parse(&address)?;
    if desk.book.remove(&address) {
        Ok(Json(json!({})).into_response())
    } else {
        Err(Refusal::not_suppressed(&address.key()))
    }
}

async fn read_events(State(desk): State<Arc<Desk>>, Query(query): Query<LedgerQuery>) -> Response {
    let is_asked_for = |event: &super::ToldEvent| query.to.as_deref().is_none_or(|address| is_to(event, address));
    let limit = Duration::from_millis(query.within_ms).min(LEDGER_WAIT_MAX);
    desk.events
        .wait_for(limit, |events| events.iter().filter(|event| is_asked_for(event)).count() >= query.at_least)
        .await;
    let mut events = desk.events.events();
    events.retain(is_asked_for);
    Json(events).into_response()
}

async fn clear_events(State(desk): State<Arc<Desk>>) -> StatusCode {
    desk.events.clear();
    StatusCode::NO_CONTENT
}

async fn set_sink(State(desk): State<Arc<Desk>>, Json(sink): Json<Option<EventSink>>) -> StatusCode {
    desk.events.set_sink(sink);
    StatusCode::NO_CONTENT
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountSetting {
    max_send_rate: f64,
}

async fn set_account(State(desk): State<Arc<Desk>>, Json(setting): Json<AccountSetting>) -> StatusCode {
    desk.book.set_max_send_rate(setting.max_send_rate);
    StatusCode::NO_CONTENT
}
