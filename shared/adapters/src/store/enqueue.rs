//! The two statements of `enqueue`: read what a request names, then store what was accepted.
//!
//! Each is one function in the database, so that a request of any size costs two round trips.

use super::database::{Database, StoreError, TenantTransaction};
use super::limits::{Bucket, RequestLimit};
use crate::wire::calendar::print_calendar;
use crate::wire::http::Caller;
use domain::attachment::Attachment;
use domain::category::{DeliveryRules, UnknownPolicy};
use domain::collection::Collect;
use domain::delivery::{Channel, DeliveryState};
use domain::id::{AttachmentId, DeliveryId, EventId, IdempotencyKey, NotificationId, TenantId};
use domain::notification::{CategoryDefaults, NotificationRequest, Plan, Reach, Recipient, TenantContext};
use domain::template::Variables;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The key of a request, with what tells it from another request with the same key.
#[derive(Clone, Debug)]
pub struct RequestKey {
    /// Keys of different routes do not meet.
    pub route: String,
    /// The caller's key; `None` where it gave none.
    pub key: Option<IdempotencyKey>,
    /// A digest of the body.
    pub request_hash: Vec<u8>,
    /// The request that stores the answer.
    pub request_id: String,
}

/// What an earlier request with the same key was answered.
#[derive(Clone, PartialEq)]
pub struct StoredAnswer {
    /// A digest of its body.
    pub request_hash: Vec<u8>,
    /// The request that stored it.
    pub request_id: String,
    /// The answer.
    pub answer: Value,
}

domain::masked_debug!(StoredAnswer, "StoredAnswer", request_id);

/// What a request's decisions need.
#[derive(Debug)]
pub struct EnqueueContext {
    /// The database's time.
    pub now: Timestamp,
    /// Whether the tenant may send.
    pub tenant_is_active: bool,
    /// The answer to an earlier request with the same key.
    pub stored_answer: Option<StoredAnswer>,
    /// What the tenant has of what the request names.
    pub tenant: TenantContext,
    /// How its bucket of requests stands; `None` where nothing was taken out of it, or it has no limit.
    pub limit: Option<RequestLimit>,
}

/// Whether a request counts against its tenant's rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// It is one.
    Request,
    /// It came another way, or was counted before.
    Nothing,
}

/// A notification that was accepted, with the ids of what is to be stored.
pub struct Accepted<'a> {
    /// Its id.
    pub id: NotificationId,
    /// The id of its `notification.accepted` event.
    pub event_id: EventId,
    /// What was asked for.
    pub request: &'a NotificationRequest,
    /// To whom.
    pub recipient: &'a Recipient,
    /// How it is served.
    pub plan: Plan,
    /// The data, where the template declares variables that the request leaves out: those are null in it.
    pub data: Option<Arc<Value>>,
    /// An id for each channel of the plan, in order.
    pub deliveries: Vec<DeliveryId>,
    /// The files that leave with it, in order.
    pub attachments: Vec<AttachmentId>,
    /// The key that turns repetitions away; it holds for this recipient only.
    pub dedupe_key: Option<String>,
    /// The key of its collection; it holds for this recipient only.
    pub collection_key: Option<String>,
    /// The caller's trace.
    pub traceparent: Option<String>,
}

domain::masked_debug!(Accepted<'_>, "Accepted", id, plan, deliveries);

/// What became of a request that was to be stored.
#[derive(Debug)]
pub enum AcceptResult {
    /// Stored.
    Stored {
        /// The answer, with the winners of dedupe keys in their places.
        answer: Value,
        /// Those that a dedupe key turned away; nothing of them was stored.
        duplicates: BTreeSet<NotificationId>,
    },
    /// An earlier request with the same key was faster; nothing was stored.
    AlreadyAnswered(StoredAnswer),
}

/// Reads what a request names, and takes it out of its tenant's bucket, in one round trip.
pub async fn read_context(
    database: &Database,
    tenant: TenantId,
    key: &RequestKey,
    requests: &[&NotificationRequest],
    charge: Charge,
) -> Result<EnqueueContext, StoreError> {
    let Named { recipients, categories, templates } = Named::by(requests.iter().copied());
    let mut connection = database.connection().await?;
    let row = sqlx::query!(
        r#"SELECT harkara.read_enqueue_context($1, $2, $3, $4, $5, $6) AS "context!",
                  CASE WHEN $7 THEN harkara.take_request($1) END AS "limit""#,
        tenant.as_uuid(),
        key.route,
        key.key.as_ref().map(|key| key.as_str()),
        &recipients,
        &categories,
        &templates,
        charge == Charge::Request,
    )
    .fetch_one(&mut *connection)
    .await?;
    connection.give_back();
    read_context_row(row.context, RequestLimit::read(Bucket::Tenant, row.limit)?)
}

/// Like [`read_context`], within a transaction in which something other than a caller's request leads to notifications.
pub async fn read_context_within<'a>(
    transaction: &mut TenantTransaction,
    requests: impl Iterator<Item = &'a NotificationRequest> + Clone,
) -> Result<EnqueueContext, StoreError> {
    let Named { recipients, categories, templates } = Named::by(requests);
    let context = sqlx::query_scalar!(
        r#"SELECT harkara.read_enqueue_context($1, '', NULL, $2, $3, $4) AS "context!""#,
        transaction.tenant.as_uuid(),
        &recipients,
        &categories,
        &templates,
    )
    .fetch_one(&mut *transaction.connection)
    .await?;
    read_context_row(context, None)
}

/// Stores notifications with their deliveries and events within the transaction of what led to them. They count against no
/// quota: what led to them was let in before.
pub async fn accept_within(
    transaction: &mut TenantTransaction,
    actor: &str,
    accepted: &[Accepted<'_>],
) -> Result<(), StoreError> {
    let tenant = transaction.tenant;
    let rows: Value = accepted.iter().map(|accepted| print_accepted(tenant, accepted)).collect();
    sqlx::query_scalar!(
        r#"SELECT harkara.collect_members($1,
                      harkara.accept_notifications($1, $2, '', NULL, NULL, '', $3, '[]'), $4) AS "outcome!""#,
        tenant.as_uuid(),
        actor,
        rows,
        print_members(accepted),
    )
    .fetch_one(&mut *transaction.connection)
    .await?;
    Ok(())
}

/// Like [`accept_within`], for what was asked for and is only let in now: with its files, and counted against the tenant's
/// quota. `results` has an entry for each, as an answer has. Returns those that a dedupe key turned away.
pub async fn accept_counted_within(
    transaction: &mut TenantTransaction,
    actor: &str,
    accepted: &[Accepted<'_>],
    attachments: &[(AttachmentId, &Attachment)],
    results: &Value,
) -> Result<BTreeSet<NotificationId>, StoreError> {
    let tenant = transaction.tenant;
    let rows: Value = accepted.iter().map(|accepted| print_accepted(tenant, accepted)).collect();
    let Files { ids, file_names, content_types, contents } = Files::of(attachments);
    let outcome = sqlx::query_scalar!(
        r#"SELECT harkara.count_accepted($1, harkara.collect_members($1, harkara.keep_attachments($1,
                      harkara.accept_notifications($1, $2, '', NULL, NULL, '', $3, $4), $5, $6, $7, $8), $9)) AS "outcome!""#,
        tenant.as_uuid(),
        actor,
        rows,
        results,
        &ids,
        &file_names,
        &content_types,
        &contents as &[&[u8]],
        print_members(accepted),
    )
    .fetch_one(&mut *transaction.connection)
    .await?;
    Ok(Outcome::read(outcome)?.duplicates.into_iter().map(NotificationId::from_uuid).collect())
}

/// Stores accepted notifications, their files, deliveries and events, and the answer under its key, in one round trip, and
/// counts them against the tenant's quota: all of it, or nothing and [`StoreError::QuotaUsedUp`].
pub async fn accept_notifications(
    database: &Database,
    caller: &Caller,
    key: &RequestKey,
    accepted: &[Accepted<'_>],
    attachments: &[(AttachmentId, &Attachment)],
    results: &Value,
) -> Result<AcceptResult, StoreError> {
    let rows: Value = accepted.iter().map(|accepted| print_accepted(caller.tenant, accepted)).collect();
    let Files { ids, file_names, content_types, contents } = Files::of(attachments);
    crate::failpoint!("E2_begin", Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut)));
    let mut connection = database.connection().await?;
    let outcome = sqlx::query_scalar!(
        r#"SELECT harkara.count_accepted($1, harkara.collect_members($1, harkara.keep_attachments($1,
                      harkara.accept_notifications($1, $2, $3, $4, $5, $6, $7, $8), $9, $10, $11, $12), $13)) AS "outcome!""#,
        caller.tenant.as_uuid(),
        caller.subject,
        key.route,
        key.key.as_ref().map(|key| key.as_str()),
        key.request_hash,
        key.request_id,
        rows,
        results,
        &ids,
        &file_names,
        &content_types,
        &contents as &[&[u8]],
        print_members(accepted),
    )
    .fetch_one(&mut *connection)
    .await?;
    connection.give_back();
    crate::failpoint!("E5_committed", Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut)));
    let outcome = Outcome::read(outcome)?;
    match (outcome.stored_answer, outcome.answer) {
        (Some(stored), _) => Ok(AcceptResult::AlreadyAnswered(stored.read()?)),
        (None, Some(answer)) => {
            let duplicates = outcome.duplicates.into_iter().map(NotificationId::from_uuid).collect();
            Ok(AcceptResult::Stored { answer, duplicates })
        }
        (None, None) => Err(StoreError::Corrupt("outcome of accept_notifications")),
    }
}

/// What `harkara.accept_notifications` returns.
#[derive(Deserialize)]
struct Outcome {
    answer: Option<Value>,
    stored_answer: Option<StoredRow>,
    duplicates: Vec<uuid::Uuid>,
}

impl Outcome {
    fn read(outcome: Value) -> Result<Self, StoreError> {
        serde_json::from_value(outcome).map_err(|_| StoreError::Corrupt("outcome of accept_notifications"))
    }
}

/// Files by their columns.
struct Files<'a> {
    ids: Vec<uuid::Uuid>,
    file_names: Vec<String>,
    content_types: Vec<String>,
    contents: Vec<&'a [u8]>,
}

impl<'a> Files<'a> {
    fn of(attachments: &[(AttachmentId, &'a Attachment)]) -> Self {
        let column =
            |read: fn(&Attachment) -> &str| attachments.iter().map(|(_, file)| read(file).to_owned()).collect();
        Self {
            ids: attachments.iter().map(|(id, _)| id.as_uuid()).collect(),
            file_names: column(|file| file.file_name.as_str()),
            content_types: column(|file| file.content_type.as_str()),
            contents: attachments.iter().map(|(_, file)| &*file.content).collect(),
        }
    }
}

#[derive(Deserialize)]
struct StoredRow {
    request_hash: String,
    request_id: String,
    answer: Value,
}

impl StoredRow {
    fn read(self) -> Result<StoredAnswer, StoreError> {
        let bytes = (0..self.request_hash.len())
            .step_by(2)
            .map(|at| self.request_hash.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()));
        let request_hash = bytes.collect::<Option<Vec<u8>>>().ok_or(StoreError::Corrupt("request hash"))?;
        Ok(StoredAnswer { request_hash, request_id: self.request_id, answer: self.answer })
    }
}

fn read_context_row(context: Value, limit: Option<RequestLimit>) -> Result<EnqueueContext, StoreError> {
    #[derive(Deserialize)]
    struct Context {
        now: Timestamp,
        tenant_state: Option<String>,
        stored_answer: Option<StoredRow>,
        recipients: Vec<RecipientRow>,
        categories: Vec<CategoryRow>,
        templates: Vec<TemplateRow>,
    }
    #[derive(Deserialize)]
    struct TemplateRow {
        template_key: String,
        variables: Option<Value>,
    }
    #[derive(Deserialize)]
    struct RecipientRow {
        recipient_id: String,
        has_email: bool,
        has_phone: bool,
    }
    #[derive(Deserialize)]
    struct CategoryRow {
        category_key: String,
        channels: Vec<String>,
        template_key: Option<String>,
        max_attempts: u32,
        unknown_policy: String,
        reconcile_window_seconds: u32,
    }

    let context: Context = serde_json::from_value(context).map_err(|_| StoreError::Corrupt("enqueue context"))?;
    let category = |row: CategoryRow| {
        let channels = row.channels.iter().map(|name| Channel::parse(name)).collect::<Option<Vec<_>>>();
        let channels = channels.ok_or(StoreError::Corrupt("channel"))?;
        let rules = DeliveryRules {
            max_attempts: row.max_attempts,
            unknown_policy: UnknownPolicy::parse(&row.unknown_policy).ok_or(StoreError::Corrupt("unknown policy"))?,
            reconcile_window_seconds: row.reconcile_window_seconds,
        };
        Ok((row.category_key, CategoryDefaults { channels, template: row.template_key, rules }))
    };
    // They were parsed when they were published: what an older release cannot read, the render finds.
    let template = |row: TemplateRow| {
        let variables = row.variables.filter(Value::is_object).and_then(|declared| Variables::parse(&declared).ok());
        (row.template_key, variables)
    };
    let recipient = |row: RecipientRow| (row.recipient_id, Reach { email: row.has_email, phone: row.has_phone });
    Ok(EnqueueContext {
        limit,
        now: context.now,
        tenant_is_active: context.tenant_state.as_deref() == Some("active"),
        stored_answer: context.stored_answer.map(StoredRow::read).transpose()?,
        tenant: TenantContext {
            recipients: context.recipients.into_iter().map(recipient).collect(),
            categories: context.categories.into_iter().map(category).collect::<Result<_, StoreError>>()?,
            templates: context.templates.into_iter().map(template).collect(),
        },
    })
}

/// What requests name, each once.
struct Named {
    recipients: Vec<String>,
    categories: Vec<String>,
    templates: Vec<String>,
}

impl Named {
    fn by<'a>(requests: impl Iterator<Item = &'a NotificationRequest> + Clone) -> Self {
        let distinct = |names: BTreeSet<&str>| names.into_iter().map(str::to_owned).collect();
        let templates = requests.clone().filter_map(|request| request.template.as_ref()).map(|key| key.as_str());
        let recipients = requests.clone().flat_map(|request| &request.recipients).filter_map(known_key);
        Self {
            templates: distinct(templates.collect()),
            recipients: distinct(recipients.collect()),
            categories: distinct(requests.map(|request| request.category.as_str()).collect()),
        }
    }
}

fn known_key(recipient: &Recipient) -> Option<&str> {
    match recipient {
        Recipient::Known(key) => Some(key.as_str()),
        Recipient::Inline(_) => None,
    }
}

/// The rows for `harkara.collect_members`.
fn print_members(accepted: &[Accepted<'_>]) -> Value {
    let member = |accepted: &Accepted<'_>| {
        let Collect { kind, key: _, window_seconds, max_seconds } = accepted.request.collect.as_ref()?;
        Some(json!({
            "notification_id": accepted.id.as_uuid(),
            "kind": kind.as_str(),
            "category_key": accepted.request.category.as_str(),
            "recipient_id": known_key(accepted.recipient),
            "collection_key": accepted.collection_key.as_ref()?,
            "sandbox": accepted.request.sandbox,
            "window_seconds": window_seconds,
            "max_seconds": max_seconds,
        }))
    };
    accepted.iter().filter_map(member).collect()
}

/// A row for `harkara.accept_notifications`.
fn print_accepted(tenant: TenantId, accepted: &Accepted<'_>) -> Value {
    #[derive(Serialize)]
    struct Row<'a> {
        notification_id: uuid::Uuid,
        category_key: &'a str,
        recipient_id: Option<&'a str>,
        email: Option<&'a str>,
        phone: Option<&'a str>,
        name: Option<&'a str>,
        locale: Option<&'a str>,
        time_zone: Option<&'a str>,
        template_key: Option<&'a str>,
        subject: Option<&'a str>,
        text_body: Option<&'a str>,
        html_body: Option<&'a str>,
        data: &'a Value,
        metadata: &'a Value,
        attachments: Vec<uuid::Uuid>,
        calendar: Option<Value>,
        priority: &'a str,
        sandbox: bool,
        send_at: Timestamp,
        expires_at: Option<Timestamp>,
        traceparent: Option<&'a str>,
        deliveries: Vec<Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        dedupe: Option<Value>,
        event_id: uuid::Uuid,
        event: Value,
    }

    let Accepted {
        id,
        event_id,
        request,
        recipient,
        plan,
        data,
        deliveries,
        attachments,
        dedupe_key,
        collection_key: _,
        traceparent,
    } = accepted;
    let dedupe = dedupe_key.as_ref().zip(request.dedupe.as_ref());
    let inline = match recipient {
        Recipient::Known(_) => None,
        Recipient::Inline(inline) => Some(inline),
    };
    let delivery = |(channel, id): (&Channel, &DeliveryId)| {
        json!({
            "delivery_id": id.as_uuid(),
            "channel": channel.as_str(),
            "state": plan.start.state.as_str(),
            "max_attempts": plan.rules.max_attempts,
            "unknown_policy": plan.rules.unknown_policy.as_str(),
            "reconcile_window_seconds": plan.rules.reconcile_window_seconds,
            "not_before": plan.send_at,
            "due_at": plan.start.due_at,
            "publish_count": i32::from(plan.start.state == DeliveryState::Queued),
        })
    };
    let event = json!({
        "event_id": event_id.to_string(),
        "tenant_id": tenant.to_string(),
        "notification_id": id.to_string(),
        "category": request.category.as_str(),
        "recipient": known_key(recipient),
        "metadata": request.metadata,
    });
    let row = Row {
        notification_id: id.as_uuid(),
        category_key: request.category.as_str(),
        recipient_id: known_key(recipient),
        email: inline.and_then(|inline| inline.email.as_ref()).map(|email| email.as_str()),
        phone: inline.and_then(|inline| inline.phone.as_ref()).map(|phone| phone.as_str()),
        name: inline.and_then(|inline| inline.name.as_ref()).map(|name| name.as_str()),
        locale: inline.and_then(|inline| inline.locale.as_ref()).map(|locale| locale.as_str()),
        time_zone: inline.and_then(|inline| inline.time_zone.as_ref()).map(|zone| zone.as_str()),
        template_key: plan.template.as_deref(),
        subject: request.content.subject.as_deref(),
        text_body: request.content.text.as_deref(),
        html_body: request.content.html.as_deref(),
        data: data.as_deref().unwrap_or(&request.data),
        metadata: &request.metadata,
        attachments: attachments.iter().map(|id| id.as_uuid()).collect(),
        calendar: request.invitation.as_ref().map(print_calendar),
        priority: request.priority.as_str(),
        sandbox: request.sandbox,
        send_at: plan.send_at,
        expires_at: request.expires_at,
        traceparent: traceparent.as_deref(),
        deliveries: plan.channels.iter().zip(deliveries).map(delivery).collect(),
        dedupe: dedupe.map(|(key, asked)| json!({"key": key, "seconds": asked.window_seconds})),
        event_id: event_id.as_uuid(),
        event,
    };
    serde_json::to_value(row).expect("strings, numbers and JSON always print")
}
