//! The events that were told, in order, and where they are sent.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;
use uuid::Uuid;

use super::happening::{Happening, MailFacts, of_the_topic, on_the_bus};

/// One event, in each of the forms that it is sent in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToldEvent {
    /// Position since the server started, from 1; clearing the book does not reset it.
    pub seq: u64,
    /// When it was told.
    pub at: Timestamp,
    /// What happened.
    pub happening: Happening,
    /// The recipients' addresses.
    pub to: Vec<String>,
    /// SES's id of the mail.
    pub message_id: String,
    /// The record itself, as a topic hands it over that delivers raw messages.
    pub record: Value,
    /// As EventBridge hands it to a queue.
    pub event_bridge: Value,
    /// As SNS hands it to a queue.
    pub sns: Value,
}

impl ToldEvent {
    /// Makes an event that nobody has told yet.
    pub fn new(mail: &MailFacts, happening: Happening) -> Self {
        let at = Timestamp::now();
        let record = mail.record(happening);
        Self {
            seq: 0,
            at,
            happening,
            to: mail.to.clone(),
            message_id: mail.message_id.clone(),
            event_bridge: on_the_bus(happening, &record, &Uuid::now_v7().to_string(), at),
            sns: of_the_topic(&record, &Uuid::now_v7().to_string(), at),
            record,
        }
    }
}

/// A queue that every event is sent to, twice: as from EventBridge, and as from SNS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventSink {
    /// Where SQS is.
    pub endpoint: String,
    /// The queue.
    pub queue_url: String,
}

/// The events, shared by the server and whoever looks at them.
#[derive(Debug)]
pub struct EventBook {
    state: watch::Sender<State>,
    sink: watch::Sender<Option<EventSink>>,
    client: Client<HttpConnector, Full<Bytes>>,
}

#[derive(Debug, Default)]
struct State {
    last_seq: u64,
    events: Vec<ToldEvent>,
}

impl EventBook {
    pub(super) fn new(sink: Option<EventSink>) -> Self {
        Self {
            state: watch::Sender::new(State::default()),
            sink: watch::Sender::new(sink),
            client: Client::builder(TokioExecutor::new()).build_http(),
        }
    }

    /// Tells events of a mail: writes them down, and sends them to the sink while others go on.
    pub(super) fn tell(&self, mail: &MailFacts, happenings: &[Happening]) {
        let mut told = Vec::with_capacity(happenings.len());
        self.state.send_modify(|state| {
            for happening in happenings {
                let mut event = ToldEvent::new(mail, *happening);
                state.last_seq += 1;
                event.seq = state.last_seq;
                state.events.push(event.clone());
                told.push(event);
            }
        });
        let Some(sink) = self.sink.borrow().clone().filter(|_| !told.is_empty()) else { return };
        let client = self.client.clone();
        tokio::spawn(async move {
            for event in told {
                for form in [&event.event_bridge, &event.sns] {
                    // As with SES, nobody promises that an event arrives.
                    if let Err(error) = send(&client, &sink, form).await {
                        eprintln!("event {} did not reach {}: {error}", event.seq, sink.queue_url);
                    }
                }
            }
        });
    }

    /// Where events are sent from now on.
    pub fn set_sink(&self, sink: Option<EventSink>) {
        self.sink.send_replace(sink);
    }

    /// Every event, in the order in which they were told.
    pub fn events(&self) -> Vec<ToldEvent> {
        self.state.borrow().events.clone()
    }

    /// The events of mails to this bare address. Case does not matter.
    pub fn events_to(&self, address: &str) -> Vec<ToldEvent> {
        let mut events = self.events();
        events.retain(|event| is_to(event, address));
        events
    }

    /// Forgets the events.
    pub fn clear(&self) {
        self.state.send_modify(|state| state.events.clear());
    }

    /// Waits until the events satisfy a condition, for at most `limit`; says whether they do.
    pub async fn wait_for(&self, limit: Duration, is_met: impl Fn(&[ToldEvent]) -> bool) -> bool {
        let mut watcher = self.state.subscribe();
        let met = watcher.wait_for(|state| is_met(&state.events));
        matches!(tokio::time::timeout(limit, met).await, Ok(Ok(_)))
    }
}

pub(super) fn is_to(event: &ToldEvent, address: &str) -> bool {
    event.to.iter().any(|to| to.eq_ignore_ascii_case(address))
}

/// `SendMessage` in SQS's JSON protocol. Unsigned: no stand-in for SQS checks signatures.
async fn send(client: &Client<HttpConnector, Full<Bytes>>, sink: &EventSink, form: &Value) -> Result<(), String> {
    let body = json!({"QueueUrl": sink.queue_url, "MessageBody": form.to_string()});
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("{}/", sink.endpoint.trim_end_matches('/')))
        .header("x-amz-target", "AmazonSQS.SendMessage")
        .header(header::CONTENT_TYPE, "application/x-amz-json-1.0")
        .header(
            header::AUTHORIZATION,
            "AWS4-HMAC-SHA256 Credential=local/20261121/ap-south-1/sqs/aws4_request, SignedHeaders=host, Signature=0",
        )
        .body(Full::new(Bytes::from(body.to_string())))
        .map_err(|error| error.to_string())?;
    let response = client.request(request).await.map_err(|error| error.to_string())?;
    let status = response.status();
    let answer = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
    if status.is_success() { Ok(()) } else { Err(format!("{status}: {}", String::from_utf8_lossy(&answer))) }
}
