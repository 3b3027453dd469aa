//! The two statements of `enqueue`: read what a request names, then store what was accepted.
//!
//! Each is one function in the database, so that a request of any size costs two round trips.

mod context;
mod rows;

pub use context::{Charge, EnqueueContext, read_context, read_context_within};

use super::database::{Database, StoreError, TenantTransaction};
use crate::wire::http::Caller;
use domain::attachment::Attachment;
use domain::id::{AttachmentId, DeliveryId, EventId, IdempotencyKey, NotificationId};
use domain::notification::{NotificationRequest, Plan, Recipient};
use rows::{Files, Row, count_bytes, print_accepted, print_members};
use serde::Deserialize;
use serde_json::Value;
use sqlx::types::Json;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The most that one statement of [`accept_within`] stores, in bytes of JSON, or one notification where that alone is more:
/// the statement is in memory more than once until it is sent.
const MAX_STATEMENT_BYTES: usize = 4 * 1024 * 1024;

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

/// Stores notifications with their deliveries and events within the transaction of what led to them, in one statement, or
/// as many as their bytes need. They count against no quota: what led to them was let in before.
pub async fn accept_within(
    transaction: &mut TenantTransaction,
    actor: &str,
    accepted: &[Accepted<'_>],
) -> Result<(), StoreError> {
    let tenant = transaction.tenant;
    let rows: Vec<Row<'_>> = accepted.iter().map(|accepted| print_accepted(tenant, accepted)).collect();
    let (mut rows, mut accepted) = (&rows[..], accepted);
    while !rows.is_empty() {
        let count = count_fitting(rows.iter().map(count_bytes), MAX_STATEMENT_BYTES);
        let ((stored_rows, other_rows), (stored, others)) = (rows.split_at(count), accepted.split_at(count));
        (rows, accepted) = (other_rows, others);
        sqlx::query_scalar!(
            r#"SELECT harkara.collect_members($1,
                      harkara.accept_notifications($1, $2, '', NULL, NULL, '', $3, '[]'), $4) AS "outcome!""#,
            tenant.as_uuid(),
            actor,
            Json(stored_rows) as _,
            print_members(stored),
        )
        .fetch_one(&mut *transaction.connection)
        .await?;
    }
    Ok(())
}

/// How many of these fit into so many bytes; at least the first.
fn count_fitting(sizes: impl Iterator<Item = usize>, most: usize) -> usize {
    let ends = sizes.scan(0_usize, |sum, size| {
        *sum += size;
        Some(*sum)
    });
    ends.take_while(|end| *end <= most).count().max(1)
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
    let rows: Vec<Row<'_>> = accepted.iter().map(|accepted| print_accepted(tenant, accepted)).collect();
    let Files { ids, file_names, content_types, contents } = Files::of(attachments);
    let outcome = sqlx::query_scalar!(
        r#"SELECT harkara.count_accepted($1, harkara.collect_members($1, harkara.keep_attachments($1,
                      harkara.accept_notifications($1, $2, '', NULL, NULL, '', $3, $4), $5, $6, $7, $8), $9)) AS "outcome!""#,
        tenant.as_uuid(),
        actor,
        Json(&rows) as _,
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
    let rows: Vec<Row<'_>> = accepted.iter().map(|accepted| print_accepted(caller.tenant, accepted)).collect();
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
        Json(&rows) as _,
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

fn known_key(recipient: &Recipient) -> Option<&str> {
    match recipient {
        Recipient::Known(key) => Some(key.as_str()),
        Recipient::Inline(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_has_as_many_as_fit_and_at_least_one() {
        let table: [(&[usize], usize); 5] = [(&[10], 1), (&[11], 1), (&[5, 5, 1], 2), (&[5, 6, 1], 1), (&[11, 1], 1)];
        for (sizes, expected) in table {
            assert_eq!(count_fitting(sizes.iter().copied(), 10), expected, "{sizes:?}");
        }
    }
}
