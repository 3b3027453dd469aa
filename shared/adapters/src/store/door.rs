//! What came through the SQL door: requests that a domain stored with `harkara.enqueue` in its own transaction.

use super::database::{Database, StoreError, TenantTransaction};
use super::due_tenants::list_due_tenants;
use domain::id::{EventId, NotificationId, TenantId};
use serde_json::Value;

/// A request that waits, locked.
pub struct DoorRequest {
    /// The id that its notification gets.
    pub id: NotificationId,
    /// What was asked for, as text: one that cannot be read is that one's trouble.
    pub request: String,
    /// For how long it has waited, in milliseconds, since its domain's transaction began.
    pub waited_ms: u64,
}

domain::masked_debug!(DoorRequest, "DoorRequest", id);

/// A request that becomes no notification.
pub struct RefusedRequest {
    /// Which.
    pub id: NotificationId,
    /// The id of the event that tells of it.
    pub event_id: EventId,
    /// Why: `[{pointer, detail}]`.
    pub errors: Value,
}

domain::masked_debug!(RefusedRequest, "RefusedRequest", id);

/// Tenants with requests that are due, and how many requests of each make about `limit` together, so that nobody waits for
/// another's backlog. Suspended tenants are left out: their requests wait until they may send again.
pub async fn list_doors_across_tenants(database: &Database, limit: u32) -> Result<(Vec<TenantId>, u32), StoreError> {
    let tenants = list_due_tenants!(
        database, "harkara.door_requests", waits: "w.due_at IS NOT NULL", due: "due_at", except: [], limit: i64::from(limit));
    let share = limit.div_ceil(u32::try_from(tenants.len()).unwrap_or(u32::MAX).max(1));
    Ok((tenants, share))
}

/// Takes up to `limit` of the tenant's requests, the longest due first. What another dispatcher has taken, or the domain is
/// about to withdraw, is passed over.
pub async fn take_requests(transaction: &mut TenantTransaction, limit: u32) -> Result<Vec<DoorRequest>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT request_id, request::text AS "request!",
                  greatest(0, extract(epoch FROM harkara.clock() - created_at) * 1000)::bigint AS "waited_ms!"
           FROM harkara.door_requests
           WHERE tenant_id = $1 AND due_at <= harkara.now()
           ORDER BY due_at, request_id
           LIMIT $2
           FOR UPDATE SKIP LOCKED"#,
        transaction.tenant.as_uuid(),
        i64::from(limit),
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let requests = rows.into_iter().map(|row| DoorRequest {
        id: NotificationId::from_uuid(row.request_id),
        request: row.request,
        waited_ms: row.waited_ms.unsigned_abs(),
    });
    Ok(requests.collect())
}

/// Takes what is done out of the door, and keeps what was refused with its reasons, told by an event each. Of a recipient
/// who was erased meanwhile nothing is kept.
pub async fn end_requests(
    transaction: &mut TenantTransaction,
    done: &[NotificationId],
    refused: &[RefusedRequest],
) -> Result<(), StoreError> {
    let done: Vec<_> = done.iter().map(|id| id.as_uuid()).collect();
    let ids: Vec<_> = refused.iter().map(|refused| refused.id.as_uuid()).collect();
    let event_ids: Vec<_> = refused.iter().map(|refused| refused.event_id.as_uuid()).collect();
    let errors: Vec<_> = refused.iter().map(|refused| refused.errors.clone()).collect();
    sqlx::query!(
        r#"WITH done AS (
               DELETE FROM harkara.door_requests d WHERE d.tenant_id = $1 AND d.request_id = ANY ($2::uuid[])
           ),
           refused AS (
               UPDATE harkara.door_requests d
               SET due_at = NULL, refused_at = harkara.now(), errors = r.errors,
                   request = CASE WHEN EXISTS (
                       SELECT FROM harkara.recipients e
                       WHERE e.tenant_id = $1 AND e.recipient_id = d.recipient_id AND e.erased_at IS NOT NULL)
                   THEN '{}' ELSE d.request END
               FROM unnest($3::uuid[], $4::uuid[], $5::jsonb[]) AS r (request_id, event_id, errors)
               WHERE d.tenant_id = $1 AND d.request_id = r.request_id
               RETURNING r.*
           )
           INSERT INTO harkara.events (tenant_id, event_id, detail_type, detail)
           SELECT $1, r.event_id, 'request.refused', jsonb_build_object(
               'event_id', 'evt_' || replace(r.event_id::text, '-', ''), 'tenant_id', $1::uuid,
               'request_id', 'ntf_' || replace(r.request_id::text, '-', ''), 'errors', r.errors)
           FROM refused r"#,
        transaction.tenant.as_uuid(),
        &done,
        &ids,
        &event_ids,
        &errors,
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(())
}

/// Why requests wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// For their tenant's quota: they are due again when it has room.
    Quota,
    /// They could not be stored: they stay as late as they are.
    Failure,
}

/// Lets up to `limit` of the tenant's due requests wait. They keep their order.
pub async fn postpone_requests(
    transaction: &mut TenantTransaction,
    limit: u32,
    seconds: u32,
    wait: Wait,
) -> Result<u64, StoreError> {
    let done = sqlx::query!(
        "UPDATE harkara.door_requests d
         SET due_at = harkara.now() + make_interval(secs => $3::integer) + due.place * interval '1 microsecond',
             was_due_at = CASE WHEN $4 THEN coalesce(d.was_due_at, due.due_at) END
         FROM (
             SELECT taken.request_id, taken.due_at, row_number() OVER (ORDER BY taken.due_at, taken.request_id) AS place
             FROM (
                 SELECT o.request_id, o.due_at FROM harkara.door_requests o
                 WHERE o.tenant_id = $1 AND o.due_at <= harkara.now()
                 ORDER BY o.due_at, o.request_id
                 LIMIT $2
                 FOR UPDATE SKIP LOCKED
             ) taken
         ) due
         WHERE d.tenant_id = $1 AND d.request_id = due.request_id",
        transaction.tenant.as_uuid(),
        i64::from(limit),
        i32::try_from(seconds).unwrap_or(i32::MAX),
        wait == Wait::Failure,
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(done.rows_affected())
}
