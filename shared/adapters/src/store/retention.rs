//! What maintenance deletes. The database decides what that is; see `harkara.keep_retention`, `harkara.keep_ended`,
//! `harkara.keep_months` and `harkara.keep_audit_months`.

use super::database::{Database, StoreError};
use domain::id::TenantId;
use serde_json::{Value, json};

/// How far a run has looked through a tenant's notifications. The database's own; a run begins with the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place(Value);

impl Default for Place {
    fn default() -> Self {
        Self(json!({}))
    }
}

/// What one call deleted of a tenant's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Notifications that had ended, with all that belongs to them.
    pub notifications: u64,
    /// Deadlines that had been completed, or had passed and had nothing left to do, with their rungs.
    pub deadlines: u64,
    /// Escalations that had ended, with their steps.
    pub escalations: u64,
    /// Keys, slots, buckets and refused requests whose time was over.
    pub expired: u64,
    /// Notifications that something else still refers to.
    pub kept: u64,
    /// Whether there is more.
    pub leaves_more: bool,
    /// Where the next call of the run goes on.
    pub place: Place,
}

/// All tenants, suspended ones too, in any order.
pub async fn list_tenants_across_tenants(database: &Database) -> Result<Vec<TenantId>, StoreError> {
    let mut connection = database.connection().await?;
    let tenants = sqlx::query_scalar!("SELECT tenant_id FROM harkara.tenants ORDER BY random()")
        .fetch_all(&mut *connection)
        .await?;
    connection.give_back();
    Ok(tenants.into_iter().map(TenantId::from_uuid).collect())
}

/// Deletes up to `limit` of each kind of what the tenant need not keep any more, in two transactions. Of notifications it
/// looks at those behind `place`, and at a bounded number, so that those that cannot go yet are looked at once in a run.
pub async fn keep_retention(
    database: &Database,
    tenant: TenantId,
    limit: i32,
    place: &Place,
) -> Result<Deleted, StoreError> {
    let mut connection = database.connection().await?;
    let deleted = sqlx::query_scalar!(
        r#"SELECT harkara.keep_retention($1, $2, $3) AS "deleted!""#,
        tenant.as_uuid(),
        limit,
        &place.0,
    )
    .fetch_one(&mut *connection)
    .await?;
    let ended = sqlx::query!(
        r#"SELECT deadline_count AS "deadline_count!", escalation_count AS "escalation_count!",
                  leaves_more AS "leaves_more!"
           FROM harkara.keep_ended($1, $2)"#,
        tenant.as_uuid(),
        limit
    )
    .fetch_one(&mut *connection)
    .await?;
    connection.give_back();
    let deleted = read_deleted(&deleted).ok_or(StoreError::Corrupt("answer of keep_retention"))?;
    Ok(Deleted {
        deadlines: u64::from(ended.deadline_count.unsigned_abs()),
        escalations: u64::from(ended.escalation_count.unsigned_abs()),
        leaves_more: deleted.leaves_more || ended.leaves_more,
        ..deleted
    })
}

fn read_deleted(answer: &Value) -> Option<Deleted> {
    Some(Deleted {
        notifications: answer["notifications"].as_u64()?,
        deadlines: 0,
        escalations: 0,
        expired: answer["expired"].as_u64()?,
        kept: answer["kept"].as_u64()?,
        leaves_more: answer["leaves_more"].as_bool()?,
        place: Place(answer.get("after")?.clone()),
    })
}

/// Months of the audit log that were dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedMonths {
    /// How many.
    pub count: u64,
    /// A digest of the blocks at which the chains go on, for the log; `None` where none were dropped.
    pub anchors_hash: Option<Vec<u8>>,
}

/// Drops the months of the audit log that no tenant has to keep any more.
pub async fn keep_audit_months_across_tenants(database: &Database) -> Result<DroppedMonths, StoreError> {
    let mut connection = database.connection().await?;
    let row =
        sqlx::query!(r#"SELECT dropped_count AS "dropped_count!", anchors_hash FROM harkara.keep_audit_months()"#)
            .fetch_one(&mut *connection)
            .await?;
    connection.give_back();
    Ok(DroppedMonths { count: u64::from(row.dropped_count.unsigned_abs()), anchors_hash: row.anchors_hash })
}

/// Makes the months ahead, and drops empty ones that are over; answers with how many were dropped.
pub async fn keep_months_across_tenants(database: &Database) -> Result<u64, StoreError> {
    let mut connection = database.connection().await?;
    let dropped =
        sqlx::query_scalar!(r#"SELECT harkara.keep_months() AS "dropped!""#).fetch_one(&mut *connection).await?;
    connection.give_back();
    Ok(u64::from(dropped.unsigned_abs()))
}
