//! Accepts notifications: parse, decide, store, publish, answer.
//!
//! The cast: `wire` reads the request, `domain::notification` plans its deliveries, `store::enqueue` writes them with
//! the answer under its idempotency key in one transaction, the queue gets a hint for each.
//! The row comes first: what the queue does not take, the dispatcher publishes later, and the caller is answered 202
//! all the same. A request that arrives twice with one key finds the first one's answer; an event that EventBridge
//! delivers twice has its id for a key.
//! A tenant's rate is checked where the request is read, and its quota where it is stored.

use crate::creation::{fill_data, list_publications, scope_collection, scope_key};
use crate::request::{Refused, hash_body};
use adapters::ids::new_uuid;
use adapters::store::database::{Database, StoreError};
use adapters::store::enqueue::{self as store, AcceptResult, Accepted, Charge, RequestKey, StoredAnswer};
use adapters::store::limits::RequestLimit;
use adapters::wire::access::Scope;
use adapters::wire::fields::FieldError;
use adapters::wire::http::{Caller, Request, Response};
use adapters::wire::limits::with_limit;
use adapters::wire::notification_request::{NotificationsBody, Shape, locate_refusal, read_notifications};
use adapters::wire::problem::Problem;
use adapters::wire::routes::Function;
use domain::attachment::Attachment;
use domain::id::{AttachmentId, DeliveryId, EventId, IdempotencyKey, NotificationId, TenantId};
use domain::notification::{NotificationRequest, plan_notifications};
use domain::queue::{Publication, Queue};
use domain::quota::seconds_to_next_day;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::fmt;

/// The route of events, as idempotency keys are kept by.
const EVENT_ROUTE: &str = "event notification.requested";

/// The flow with what it needs.
pub struct Enqueue<Q> {
    /// As `harkara_api`.
    pub database: Database,
    /// The deliveries queue.
    pub queue: Q,
}

/// Why an event was not accepted. It fails the invocation, so that Lambda tries again and then keeps the event.
/// The runtime logs it, so it says where the event is wrong and quotes nothing of it.
pub struct EventRefused(Problem);

impl fmt::Display for EventRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the event was refused: {}", self.0.code)?;
        self.0.errors.iter().try_for_each(|error| write!(f, "; {} {}", mask_pointer(&error.pointer), error.detail))
    }
}

impl fmt::Debug for EventRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventRefused({self})")
    }
}

impl std::error::Error for EventRefused {}

/// What was asked and by whom, whichever way it came.
pub(crate) struct Asked {
    pub(crate) caller: Caller,
    pub(crate) key: RequestKey,
    pub(crate) traceparent: Option<String>,
    pub(crate) body: NotificationsBody,
    /// The ids that the items have already; none where they get new ones.
    pub(crate) ids: Vec<NotificationId>,
}

/// A stored answer, as this request's or an earlier one's.
enum Answer {
    New(Value),
    Replayed(StoredAnswer),
}

/// What was decided about a request.
pub(crate) struct Decided<'a> {
    pub(crate) accepted: Vec<Accepted<'a>>,
    /// The files of all of them, each once.
    pub(crate) attachments: Vec<(AttachmentId, &'a Attachment)>,
    /// What became of each, as it is answered.
    pub(crate) results: Vec<Value>,
    errors: Vec<FieldError>,
}

impl<Q: Queue> Enqueue<Q> {
    /// Answers an API request.
    pub async fn answer_request(&self, event: Value, request_id: &str) -> Response {
        let response = self.accept_request(event, request_id).await;
        adapters::failpoint!("E9_reply", Problem::internal().response(request_id));
        response.unwrap_or_else(|problem| problem.response(request_id))
    }

    /// Accepts an event `notification.requested`.
    pub async fn accept_event(&self, event: &Value) -> Result<(), EventRefused> {
        let asked = read_event(event).map_err(EventRefused)?;
        // Its rate is not limited, because nobody there could wait and ask again. It counts against the quota: what is
        // refused for it is tried again by Lambda, and then kept for the operator, who may send it on another day.
        let answer = self.accept(&asked, &mut None).await.map_err(EventRefused)?;
        // Nobody reads an answer to an event: what was refused of it is for the operator to see.
        if let Answer::New(results) = answer {
            for rejected in results.as_array().into_iter().flatten().filter(|entry| entry["status"] == "rejected") {
                let errors = rejected["problem"]["errors"].as_array().into_iter().flatten();
                let errors = errors.filter_map(|error| Some((error["pointer"].as_str()?, error["detail"].as_str()?)));
                let errors: Vec<_> =
                    errors.map(|(pointer, detail)| format!("{} {detail}", mask_pointer(pointer))).collect();
                tracing::error!(
                    event_id = asked.key.request_id,
                    errors = errors.join("; "),
                    "a part of event {} was refused",
                    asked.key.request_id
                );
            }
        }
        Ok(())
    }

    async fn accept_request(&self, event: Value, request_id: &str) -> Result<Response, Problem> {
        let asked = read_request(event, request_id)?;
        let shape = asked.body.shape;
        let mut limit = None;
        let response = match self.accept(&asked, &mut limit).await {
            Ok(Answer::New(results)) => print_answer(shape, &results, request_id),
            Ok(Answer::Replayed(stored)) => {
                print_answer(shape, &stored.answer, &stored.request_id).with_header("idempotent-replayed", "true")
            }
            Err(problem) => problem.response(request_id),
        };
        Ok(with_limit(response, limit.as_ref()))
    }

    /// Accepts what was asked. `limit` becomes how the tenant's requests stand, as soon as that is known.
    async fn accept(&self, asked: &Asked, limit: &mut Option<RequestLimit>) -> Result<Answer, Problem> {
        match self.try_accept(asked, limit).await {
            // Another request took a dedupe key, or changed what this one refers to, between reading and storing.
            Err(Refused::Store(StoreError::Conflict(_))) => self.try_accept(asked, limit).await,
            outcome => outcome,
        }
        .map_err(|refused| refused.into_problem(asked.key.key.as_ref()))
    }

    async fn try_accept(&self, asked: &Asked, limit: &mut Option<RequestLimit>) -> Result<Answer, Refused> {
        adapters::failpoint!("E1_authenticated", Err(Problem::internal().into()));
        let requests: Vec<&NotificationRequest> =
            asked.body.items.iter().filter_map(|item| item.request.as_ref().ok()).collect();
        if requests.is_empty() {
            let errors = asked.body.items.iter().filter_map(|item| item.request.as_ref().err()).flatten().cloned();
            return Err(Problem::invalid(errors.collect()).into());
        }
        // A second try is no second request.
        let charge = if asked.key.route != EVENT_ROUTE && limit.is_none() { Charge::Request } else { Charge::Nothing };
        let context = store::read_context(&self.database, asked.caller.tenant, &asked.key, &requests, charge).await?;
        *limit = limit.or(context.limit);
        if let Some(seconds) = limit.and_then(|limit| limit.retry_after_seconds) {
            return Err(Problem::rate_limited(seconds).into());
        }
        if let Some(stored) = context.stored_answer {
            return replay(stored, &asked.key);
        }
        if !context.tenant_is_active {
            return Err(Problem::tenant_inactive().into());
        }

        let decided = decide(asked, &context);
        if decided.accepted.is_empty() {
            return Err(Problem::invalid(decided.errors).into());
        }

        let results = Value::Array(decided.results);
        let (accepted, files) = (&decided.accepted, &decided.attachments);
        let stored = store::accept_notifications(&self.database, &asked.caller, &asked.key, accepted, files, &results);
        match stored.await.map_err(|error| name_the_day(error, context.now))? {
            AcceptResult::AlreadyAnswered(stored) => replay(stored, &asked.key),
            AcceptResult::Stored { answer, duplicates } => {
                let new = decided.accepted.iter().filter(|accepted| !duplicates.contains(&accepted.id));
                let publications: Vec<Publication> =
                    new.flat_map(|accepted| list_publications(asked.caller.tenant, accepted)).collect();
                adapters::failpoint!("E6_publish");
                let not_taken = self.queue.publish(&publications).await;
                adapters::failpoint!("E7_published", Err(Problem::internal().into()));
                tracing::info!(
                    tenant_id = %asked.caller.tenant,
                    request_id = asked.key.request_id,
                    accepted_count = decided.accepted.len() - duplicates.len(),
                    duplicate_count = duplicates.len(),
                    rejected_count = decided.errors.len(),
                    published_count = publications.len() - not_taken.0.len(),
                    "accepted request {}", asked.key.request_id
                );
                // Nothing is marked as published: the row was stored as published once, and is due again if that fails.
                adapters::failpoint!("E8_told", Err(Problem::internal().into()));
                Ok(Answer::New(answer))
            }
        }
    }
}

fn read_request(event: Value, request_id: &str) -> Result<Asked, Problem> {
    let request = Request::read(event)?;
    if request.route.function() != Function::Enqueue {
        return Err(Problem::not_found("path"));
    }
    let body = request.json()?;
    Ok(Asked {
        caller: request.caller()?.clone(),
        key: RequestKey {
            route: request.route.key().to_owned(),
            key: request.idempotency_key.clone(),
            request_hash: hash_body(&body),
            request_id: request_id.to_owned(),
        },
        body: read_notifications(&body)?,
        ids: Vec::new(),
        traceparent: request.traceparent,
    })
}

/// The detail is the body of the POST with a `tenant_id`, and an `idempotency_key` where the event's own id would not do:
/// an event that is put on the bus again has a new one. Only sources within the account can put it there.
fn read_event(event: &Value) -> Result<Asked, Problem> {
    let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
    let wrong = |pointer: &str, detail: &str| Problem::invalid(vec![FieldError::new(pointer, detail)]);
    let mut detail: Map<String, Value> =
        event.get("detail").and_then(Value::as_object).cloned().ok_or_else(|| wrong("/detail", "must be an object"))?;
    let tenant = detail.remove("tenant_id");
    let tenant = tenant.as_ref().and_then(Value::as_str).map(TenantId::parse);
    let tenant = tenant.and_then(Result::ok).ok_or_else(|| wrong("/detail/tenant_id", "must be the tenant's id"))?;
    let key = match detail.remove("idempotency_key") {
        None => text("id").to_owned(),
        Some(Value::String(key)) => key,
        Some(_) => return Err(wrong("/detail/idempotency_key", "must be a string")),
    };
    let key = IdempotencyKey::parse(&key).map_err(|error| wrong("/detail/idempotency_key", &error.to_string()))?;
    let body = Value::Object(detail);
    if let Some(error) = adapters::wire::fields::find_nul(&body, "/detail") {
        return Err(Problem::invalid(vec![error]));
    }
    Ok(Asked {
        caller: Caller {
            tenant,
            subject: format!("event source {}", text("source")),
            scopes: vec![Scope::NotificationsWrite],
            own_recipient: None,
        },
        key: RequestKey {
            route: EVENT_ROUTE.to_owned(),
            key: Some(key),
            request_hash: hash_body(&body),
            request_id: text("id").to_owned(),
        },
        traceparent: None,
        ids: Vec::new(),
        body: read_notifications(&body)?,
    })
}

/// A pointer for the log: a field that nobody knows is a caller's own word, which may be anybody's name.
pub(crate) fn mask_pointer(pointer: &str) -> String {
    let is_ours =
        |step: &str| step.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    pointer.split('/').map(|step| if is_ours(step) { step } else { "…" }).collect::<Vec<_>>().join("/")
}

/// When the quota is used up, the caller learns when the next day begins.
fn name_the_day(error: StoreError, now: Timestamp) -> Refused {
    match error {
        StoreError::QuotaUsedUp => Problem::quota_exceeded(seconds_to_next_day(now)).into(),
        error => error.into(),
    }
}

fn replay(stored: StoredAnswer, key: &RequestKey) -> Result<Answer, Refused> {
    if stored.request_hash == key.request_hash {
        Ok(Answer::Replayed(stored))
    } else {
        Err(Problem::key_reused().into())
    }
}

/// Decides each item on its own.
pub(crate) fn decide<'a>(asked: &'a Asked, context: &store::EnqueueContext) -> Decided<'a> {
    let mut decided =
        Decided { accepted: Vec::new(), attachments: Vec::new(), results: Vec::new(), errors: Vec::new() };
    // Within one request, too, a dedupe key lets one through.
    let mut winners: HashMap<String, NotificationId> = HashMap::new();
    for (index, item) in asked.body.items.iter().enumerate() {
        let request = match &item.request {
            Ok(request) => request,
            Err(errors) => {
                decided.reject(index, None, errors.clone(), &asked.key.request_id);
                continue;
            }
        };
        let plans = match plan_notifications(request, &context.tenant, context.now) {
            Ok(plans) => plans,
            Err(refusal) => {
                decided.reject(index, None, locate_refusal(item, &refusal), &asked.key.request_id);
                continue;
            }
        };
        let attachments: Vec<_> = request.attachments.iter().map(|file| decided.keep(file)).collect();
        let mut data = None;
        for (place, (recipient, plan)) in request.recipients.iter().zip(plans).enumerate() {
            let place = item.has_list.then_some(place);
            let plan = match plan {
                Ok(plan) => plan,
                Err(refusal) => {
                    decided.reject(index, place, locate_refusal(item, &refusal), &asked.key.request_id);
                    continue;
                }
            };
            let dedupe_key =
                request.dedupe.as_ref().map(|dedupe| scope_key(asked.caller.tenant, dedupe.key.as_str(), recipient));
            if let Some(winner) = dedupe_key.as_ref().and_then(|key| winners.get(key)) {
                decided.results.push(result(index, place, *winner, "duplicate"));
                continue;
            }
            let id = asked.ids.get(index).copied().unwrap_or_else(|| NotificationId::from_uuid(new_uuid()));
            if let Some(key) = &dedupe_key {
                winners.insert(key.clone(), id);
            }
            if data.is_none() {
                data = plan.template.as_ref().and_then(|key| fill_data(request, context.tenant.templates.get(key)?));
            }
            decided.results.push(result(index, place, id, "accepted"));
            decided.accepted.push(Accepted {
                id,
                data: data.clone(),
                event_id: EventId::from_uuid(new_uuid()),
                request,
                recipient,
                deliveries: plan.channels.iter().map(|_| DeliveryId::from_uuid(new_uuid())).collect(),
                plan,
                attachments: attachments.clone(),
                dedupe_key,
                collection_key: scope_collection(asked.caller.tenant, request, recipient),
                traceparent: asked.traceparent.clone(),
            });
        }
    }
    decided
}

impl<'a> Decided<'a> {
    /// The id that a file is stored by. A file that comes twice is stored once.
    fn keep(&mut self, file: &'a Attachment) -> AttachmentId {
        if let Some((id, _)) = self.attachments.iter().find(|(_, kept)| *kept == file) {
            return *id;
        }
        let id = AttachmentId::from_uuid(new_uuid());
        self.attachments.push((id, file));
        id
    }

    fn reject(&mut self, index: usize, place: Option<usize>, errors: Vec<FieldError>, request_id: &str) {
        let problem = Problem::invalid(errors.clone()).document(request_id);
        let mut result = json!({"index": index, "status": "rejected", "problem": problem});
        if let Some(place) = place {
            result["recipient"] = place.into();
        }
        self.results.push(result);
        self.errors.extend(errors);
    }
}

/// An entry of the answer, as it is stored: the id is the bare one, which the database can match.
fn result(index: usize, place: Option<usize>, id: NotificationId, status: &str) -> Value {
    let mut result = json!({"index": index, "id": id.as_uuid(), "status": status});
    if let Some(place) = place {
        result["recipient"] = place.into();
    }
    result
}

/// The stored results as the caller reads them: one object for one notification, else a list.
fn print_answer(shape: Shape, results: &Value, request_id: &str) -> Response {
    let entries: Vec<Value> = results.as_array().into_iter().flatten().map(print_result).collect();
    let first = entries.iter().find_map(|entry| entry.get("id").and_then(Value::as_str)).unwrap_or_default();
    let location = format!("/v1/notifications/{first}");
    let body = match shape {
        Shape::One => {
            entries.first().map(|entry| json!({"id": entry["id"], "status": entry["status"]})).unwrap_or_default()
        }
        Shape::Many => json!({"notifications": entries}),
    };
    Response::json(202, &body).with_header("location", location).with_header("x-request-id", request_id)
}

fn print_result(entry: &Value) -> Value {
    let mut printed = entry.clone();
    if let Some(id) = entry.get("id").and_then(Value::as_str).and_then(|id| id.parse().ok()) {
        printed["id"] = NotificationId::from_uuid(id).to_string().into();
    }
    printed
}
