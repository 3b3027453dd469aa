//! Deadlines that have passed and of which an escalation begins: whose they are, take a batch of one tenant, write what
//! became of them.
//!
//! The deadline's own row says whether that is still to be decided, so that one lock and one commit decide it: whoever
//! completes or moves the deadline comes before, and then nothing begins, or after, and then sees what began.

use super::database::{Database, StoreError, TenantTransaction};
use super::due_tenants::list_due_tenants;
use crate::ids::new_uuid;
use crate::wire::deadlines::read_kept_overdue;
use domain::deadline::NotEscalated;
use domain::id::{EscalationId, EventId, PolicyKey, TenantId};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::{Value, json};

/// The event that tells what began.
const ESCALATED: &str = "deadline.escalated";
/// The event that tells why nothing did.
const NOT_ESCALATED: &str = "deadline.not_escalated";

/// A deadline that has passed, locked.
#[derive(Clone)]
pub struct OverdueDeadline {
    /// Its key.
    pub key: String,
    /// When it was.
    pub due_at: Timestamp,
    /// By which policy an escalation begins; `None` where that cannot be read.
    pub policy: Option<PolicyKey>,
    /// What templates get.
    pub data: Value,
    /// Whose it is.
    pub recipients: Vec<String>,
    /// The database's time.
    pub now: Timestamp,
}

domain::masked_debug!(OverdueDeadline, "OverdueDeadline", due_at, policy);

/// What becomes of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverdueOutcome {
    /// This escalation began.
    Escalated(EscalationId),
    /// None did.
    NotEscalated(NotEscalated),
    /// The database did not store what it became; it is looked at again at this time.
    SetAside(Timestamp),
}

/// The tenants that have any, in no order.
pub async fn list_overdue_tenants_across_tenants(database: &Database) -> Result<Vec<TenantId>, StoreError> {
    Ok(list_due_tenants!(
        database, "harkara.deadlines", waits: "w.escalates_at IS NOT NULL", due: "escalates_at", except: [],
        limit: i64::MAX))
}

/// Takes up to `limit` of the tenant's, the longest due first. What is being completed, moved or erased is passed over.
pub async fn take_overdue(transaction: &mut TenantTransaction, limit: u32) -> Result<Vec<OverdueDeadline>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT deadline_key, due_at AS "due_at: jiff_sqlx::Timestamp", overdue, data, recipients,
                  harkara.now() AS "now!: jiff_sqlx::Timestamp"
           FROM harkara.deadlines
           WHERE tenant_id = $1 AND escalates_at <= harkara.now()
           ORDER BY escalates_at
           LIMIT $2
           FOR NO KEY UPDATE SKIP LOCKED"#,
        transaction.tenant.as_uuid(),
        i64::from(limit),
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let taken = rows.into_iter().map(|row| OverdueDeadline {
        key: row.deadline_key,
        due_at: row.due_at.to_jiff(),
        policy: row.overdue.as_ref().and_then(read_kept_overdue).and_then(|overdue| overdue.policy),
        data: row.data,
        recipients: row.recipients,
        now: row.now.to_jiff(),
    });
    Ok(taken.collect())
}

/// Writes what becomes of those that were taken, in order, and tells it, in one statement.
pub async fn write_overdue(
    transaction: &mut TenantTransaction,
    taken: &[OverdueDeadline],
    outcomes: &[OverdueOutcome],
) -> Result<(), StoreError> {
    let tenant = transaction.tenant;
    let keys: Vec<_> = taken.iter().map(|overdue| overdue.key.clone()).collect();
    let (mut looks, mut escalations, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for outcome in outcomes {
        let (look, escalation, note) = match outcome {
            OverdueOutcome::Escalated(id) => (None, Some(id.as_uuid()), None),
            OverdueOutcome::NotEscalated(note) => (None, None, Some(note.as_str().to_owned())),
            OverdueOutcome::SetAside(until) => (Some(until.to_sqlx()), None, None),
        };
        looks.push(look);
        escalations.push(escalation);
        notes.push(note);
    }
    let mut events = (Vec::new(), Vec::new(), Vec::new());
    for (id, detail_type, detail) in taken.iter().zip(outcomes).filter_map(|(taken, is)| tell(tenant, taken, *is)) {
        events.0.push(id);
        events.1.push(detail_type.to_owned());
        events.2.push(detail);
    }
    sqlx::query!(
        "WITH told AS (
             INSERT INTO harkara.events (tenant_id, event_id, detail_type, detail)
             SELECT $1, e.event_id, e.detail_type, e.detail
             FROM unnest($6::uuid[], $7::text[], $8::jsonb[]) AS e (event_id, detail_type, detail)
         )
         UPDATE harkara.deadlines d
         SET escalates_at = w.escalates_at, escalation_id = w.escalation_id, escalation_note = w.note
         FROM unnest($2::text[], $3::timestamptz[], $4::uuid[], $5::text[])
             AS w (deadline_key, escalates_at, escalation_id, note)
         WHERE d.tenant_id = $1 AND d.deadline_key = w.deadline_key",
        tenant.as_uuid(),
        &keys,
        &looks as &[Option<jiff_sqlx::Timestamp>],
        &escalations as &[Option<uuid::Uuid>],
        &notes as &[Option<String>],
        &events.0,
        &events.1,
        &events.2,
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(())
}

fn tell(
    tenant: TenantId,
    taken: &OverdueDeadline,
    outcome: OverdueOutcome,
) -> Option<(uuid::Uuid, &'static str, Value)> {
    let id = new_uuid();
    let mut detail = json!({
        "event_id": EventId::from_uuid(id).to_string(),
        "tenant_id": tenant.to_string(),
        "deadline": taken.key,
        "due_at": taken.due_at,
        "policy": taken.policy.as_ref().map(PolicyKey::as_str),
    });
    match outcome {
        OverdueOutcome::Escalated(escalation) => {
            detail["escalation_id"] = escalation.to_string().into();
            Some((id, ESCALATED, detail))
        }
        OverdueOutcome::NotEscalated(note) => {
            detail["reason"] = note.as_str().into();
            Some((id, NOT_ESCALATED, detail))
        }
        OverdueOutcome::SetAside(_) => None,
    }
}
