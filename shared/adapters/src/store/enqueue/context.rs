//! What a request's decisions need: read in one statement, whatever the request names.

use super::{RequestKey, StoredAnswer, StoredRow, known_key};
use crate::store::database::{Database, StoreError, TenantTransaction};
use crate::store::limits::{Bucket, RequestLimit};
use domain::category::{DeliveryRules, UnknownPolicy};
use domain::delivery::Channel;
use domain::id::TenantId;
use domain::notification::{CategoryDefaults, NotificationRequest, Reach, TenantContext};
use domain::template::Variables;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;

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
