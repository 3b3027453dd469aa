//! The auditor's statements: what is open and has no next step and no end. They read, and mend nothing.

use super::database::{Database, StoreError};
use crate::ids::new_uuid;
use domain::id::{EventId, TenantId};
use domain::stranded::{LATE_AFTER, LOOKED_BACK, StrandedKind, StrandedReason};
use serde_json::json;
use uuid::Uuid;

/// The event that tells of one.
const FOUND: &str = "stranded.found";
/// Events of one statement.
const TOLD_AT_A_TIME: usize = 1000;

/// Something that is stranded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranded {
    /// Whose.
    pub tenant: TenantId,
    /// What.
    pub kind: StrandedKind,
    /// Why it is.
    pub reason: StrandedReason,
    /// Which: an id as the API prints it, or keys.
    pub key: String,
}

/// Finds what is stranded, up to `limit` of each kind, reason and tenant, through indexes of what is open.
pub async fn find_stranded_across_tenants(database: &Database, limit: u32) -> Result<Vec<Stranded>, StoreError> {
    let mut connection = database.connection().await?;
    let rows = sqlx::query_file!("src/store/find_stranded.sql", i64::from(limit), LATE_AFTER.as_secs_f64())
        .fetch_all(&mut *connection)
        .await?;
    connection.give_back();
    rows.into_iter().map(|row| read_row(row.tenant_id, &row.kind, &row.reason, row.key)).collect()
}

/// Finds notifications of a tenant that were accepted since the last audit and have no delivery: up to `limit` among the
/// newest `looked_at`. Tenant by tenant, because all of them together are more than one statement has time for.
pub async fn find_undelivered(
    database: &Database,
    tenant: TenantId,
    looked_at: u32,
    limit: u32,
) -> Result<Vec<Stranded>, StoreError> {
    let mut connection = database.connection().await?;
    let keys = sqlx::query_scalar!(
        r#"SELECT harkara.print_id('ntf', n.notification_id) AS "key!"
           FROM (
               SELECT n.notification_id FROM harkara.notifications n
               WHERE n.tenant_id = $1 AND n.created_at > harkara.now() - make_interval(secs => $2)
               ORDER BY n.created_at DESC, n.notification_id DESC
               LIMIT $3
           ) n
           WHERE NOT EXISTS (
               SELECT FROM harkara.deliveries d WHERE d.tenant_id = $1 AND d.notification_id = n.notification_id)
           LIMIT $4"#,
        tenant.as_uuid(),
        LOOKED_BACK.as_secs_f64(),
        i64::from(looked_at),
        i64::from(limit),
    )
    .fetch_all(&mut *connection)
    .await?;
    connection.give_back();
    let stranded = |key| Stranded { tenant, kind: StrandedKind::Notification, reason: StrandedReason::NoDelivery, key };
    Ok(keys.into_iter().map(stranded).collect())
}

/// Finds open escalations that have no next step, or whose next step is late, up to `limit` of either, through indexes of what
/// is open.
pub async fn find_stranded_escalations_across_tenants(
    database: &Database,
    limit: u32,
) -> Result<Vec<Stranded>, StoreError> {
    let mut connection = database.connection().await?;
    let rows = sqlx::query_file!("src/store/find_stranded_escalations.sql", i64::from(limit), LATE_AFTER.as_secs_f64())
        .fetch_all(&mut *connection)
        .await?;
    connection.give_back();
    rows.into_iter()
        .map(|row| read_row(row.tenant_id, StrandedKind::Escalation.as_str(), &row.reason, row.key))
        .collect()
}

/// Puts an event for each into the outbox, some at a time: after a day without any work they are very many.
pub async fn tell_stranded_across_tenants(database: &Database, found: &[Stranded]) -> Result<(), StoreError> {
    for some in found.chunks(TOLD_AT_A_TIME) {
        tell_some_across_tenants(database, some).await?;
    }
    Ok(())
}

async fn tell_some_across_tenants(database: &Database, found: &[Stranded]) -> Result<(), StoreError> {
    let tenants: Vec<_> = found.iter().map(|found| found.tenant.as_uuid()).collect();
    let ids: Vec<Uuid> = found.iter().map(|_| new_uuid()).collect();
    let details: Vec<_> = found
        .iter()
        .zip(&ids)
        .map(|(Stranded { tenant, kind, reason, key }, id)| {
            json!({
                "event_id": EventId::from_uuid(*id).to_string(), "tenant_id": tenant.to_string(),
                "kind": kind.as_str(), "key": key, "reason": reason.as_str(),
            })
        })
        .collect();
    let mut connection = database.connection().await?;
    sqlx::query!(
        "INSERT INTO harkara.events (tenant_id, event_id, detail_type, detail)
         SELECT a.tenant_id, a.event_id, $4, a.detail
         FROM unnest($1::uuid[], $2::uuid[], $3::jsonb[]) AS a (tenant_id, event_id, detail)",
        &tenants,
        &ids,
        &details,
        FOUND,
    )
    .execute(&mut *connection)
    .await?;
    connection.give_back();
    Ok(())
}

fn read_row(tenant: Uuid, kind: &str, reason: &str, key: String) -> Result<Stranded, StoreError> {
    Ok(Stranded {
        tenant: TenantId::from_uuid(tenant),
        kind: StrandedKind::parse(kind).ok_or(StoreError::Corrupt("kind"))?,
        reason: StrandedReason::parse(reason).ok_or(StoreError::Corrupt("reason"))?,
        key,
    })
}
