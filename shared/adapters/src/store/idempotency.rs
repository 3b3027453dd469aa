//! Answers kept for 24 hours under the caller's `Idempotency-Key`.
//!
//! The key is claimed in the transaction that does the work, so that claim, work and answer commit together.
//! (`enqueue` does the same within its own statement.)

use super::database::{StoreError, TenantTransaction};
use super::enqueue::{RequestKey, StoredAnswer};
use serde_json::Value;

/// What claiming a key came to.
#[derive(Debug)]
pub enum KeyClaim {
    /// It is this request's: do the work, then [`store_answer`].
    Started,
    /// It was answered before.
    AlreadyAnswered(StoredAnswer),
}

/// Claims the request's key. A request with the same key that is still running holds this one up,
/// until the lock timeout makes it [`StoreError::Busy`].
pub async fn claim_key(transaction: &mut TenantTransaction, key: &RequestKey) -> Result<KeyClaim, StoreError> {
    let Some(name) = key.key.as_ref() else { return Ok(KeyClaim::Started) };
    let claimed = sqlx::query!(
        "INSERT INTO harkara.idempotency_keys AS k
             (tenant_id, route, idempotency_key, request_hash, request_id, answer, expires_at)
         VALUES ($1, $2, $3, $4, $5, 'null', harkara.now() + interval '24 hours')
         ON CONFLICT (tenant_id, route, idempotency_key) DO UPDATE
         SET request_hash = excluded.request_hash, request_id = excluded.request_id, answer = excluded.answer,
             created_at = harkara.now(), expires_at = excluded.expires_at
         WHERE k.expires_at <= harkara.now()",
        transaction.tenant.as_uuid(),
        key.route,
        name.as_str(),
        key.request_hash,
        key.request_id,
    )
    .execute(&mut *transaction.connection)
    .await?;
    if claimed.rows_affected() > 0 {
        return Ok(KeyClaim::Started);
    }
    let stored = sqlx::query!(
        "SELECT request_hash, request_id, answer FROM harkara.idempotency_keys
         WHERE tenant_id = $1 AND route = $2 AND idempotency_key = $3",
        transaction.tenant.as_uuid(),
        key.route,
        name.as_str(),
    )
    .fetch_one(&mut *transaction.connection)
    .await?;
    Ok(KeyClaim::AlreadyAnswered(StoredAnswer {
        request_hash: stored.request_hash,
        request_id: stored.request_id,
        answer: stored.answer,
    }))
}

/// Keeps the answer under the claimed key.
pub async fn store_answer(
    transaction: &mut TenantTransaction,
    key: &RequestKey,
    answer: &Value,
) -> Result<(), StoreError> {
    let Some(name) = key.key.as_ref() else { return Ok(()) };
    sqlx::query!(
        "UPDATE harkara.idempotency_keys SET answer = $4
         WHERE tenant_id = $1 AND route = $2 AND idempotency_key = $3",
        transaction.tenant.as_uuid(),
        key.route,
        name.as_str(),
        answer,
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(())
}
