//! What a tenant may ask for in ten seconds and in a day. The database counts, in the statements that read and store.

use super::database::{Database, StoreError};
use crate::wire::http::{Caller, OwnRecipient};
use domain::id::TenantId;
use serde_json::Value;

/// The most requests in a minute that a tenant can be given; more is no limit.
pub const MAX_REQUESTS_PER_MINUTE: u32 = 1_000_000;

/// Whose requests a bucket holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bucket {
    /// The tenant's, by all its programs and people.
    Tenant,
    /// A recipient's, by tokens of its own.
    Recipient,
}

/// How a bucket of requests stands after one was taken out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimit {
    /// Whose it is.
    pub bucket: Bucket,
    /// Requests that the full bucket holds.
    pub quota: u32,
    /// How long an empty one takes to be full again, in seconds.
    pub window_seconds: u32,
    /// Requests that it holds now.
    pub remaining: u32,
    /// How long until it is full, in seconds.
    pub reset_seconds: u32,
    /// `None` where this request was in it; else when to ask again, in seconds.
    pub retry_after_seconds: Option<u32>,
}

/// A tenant's limits, as the operator sets them; what is `None` is not limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantLimits {
    /// Requests in a minute.
    pub requests_per_minute: Option<u32>,
    /// Notifications in a day of UTC.
    pub notifications_per_day: Option<u32>,
}

impl RequestLimit {
    /// Reads what `harkara.take_request` says; `None` where the tenant has no limit.
    pub(crate) fn read(bucket: Bucket, row: Option<Value>) -> Result<Option<Self>, StoreError> {
        let Some(row) = row.filter(|row| !row.is_null()) else { return Ok(None) };
        let number = |name: &str| row[name].as_u64().and_then(|number| u32::try_from(number).ok());
        let required = |name: &str| number(name).ok_or(StoreError::Corrupt("request limit"));
        Ok(Some(Self {
            bucket,
            quota: required("quota")?,
            window_seconds: required("window_seconds")?,
            remaining: required("remaining")?,
            reset_seconds: required("reset_seconds")?,
            retry_after_seconds: number("retry_after_seconds"),
        }))
    }
}

/// Takes a request out of the caller's bucket: the tenant's, or a recipient's own, which is small. `None` where there is no
/// limit, or no such tenant.
/// A statement of its own, so that nobody waits for the bucket while the request is being answered.
pub async fn take_request(database: &Database, caller: &Caller) -> Result<Option<RequestLimit>, StoreError> {
    let (bucket, recipient) = match &caller.own_recipient {
        None => (Bucket::Tenant, None),
        Some(OwnRecipient::Id(id)) => (Bucket::Recipient, Some(id.as_str())),
        Some(OwnRecipient::Phone(phone)) => (Bucket::Recipient, Some(phone.as_str())),
    };
    let mut connection = database.connection().await?;
    let row = sqlx::query_scalar!("SELECT harkara.take_request($1, $2)", caller.tenant.as_uuid(), recipient)
        .fetch_one(&mut *connection)
        .await?;
    connection.give_back();
    RequestLimit::read(bucket, row)
}

/// Sets a tenant's limits, in place of those that it had.
pub async fn set_limits(database: &Database, tenant: TenantId, limits: TenantLimits) -> Result<(), StoreError> {
    let number = |limit: Option<u32>| limit.map(|limit| i32::try_from(limit).unwrap_or(i32::MAX));
    let mut connection = database.connection().await?;
    sqlx::query!(
        "INSERT INTO harkara.tenant_limits (tenant_id, requests_per_minute, notifications_per_day)
         VALUES ($1, $2, $3)
         ON CONFLICT (tenant_id) DO UPDATE
         SET requests_per_minute = excluded.requests_per_minute, notifications_per_day = excluded.notifications_per_day,
             updated_at = harkara.now()",
        tenant.as_uuid(),
        number(limits.requests_per_minute),
        number(limits.notifications_per_day),
    )
    .execute(&mut *connection)
    .await?;
    connection.give_back();
    Ok(())
}
