//! The reminder's statements: whose rungs are due, take a batch of one tenant, write what becomes of it.

use super::database::{Database, StoreError, TenantTransaction};
use super::due_tenants::list_due_tenants;
use crate::ids::new_uuid;
use crate::wire::deadlines::{RungBody, read_kept_overdue, read_kept_rung};
use domain::deadline::{Note, Rung, RungState};
use domain::id::{CategoryKey, EventId, NotificationId, TenantId};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The event that tells of a rung that could not become a notification.
const RUNG_FAILED: &str = "rung.failed";
/// What people read of a rung that is set aside.
const SET_ASIDE: &str = "it could not be stored, and is tried again";

/// A rung that is to be looked at, locked.
#[derive(Clone, Debug)]
pub struct TakenRung {
    /// Its deadline.
    pub deadline: String,
    /// The recipient.
    pub recipient: String,
    /// Its key.
    pub rung: String,
    /// The due time that it belongs to.
    pub due_at: Timestamp,
    /// The recipient's zone, as it is now.
    pub recipient_zone: Option<String>,
    /// Whether a later one of the same deadline and recipient is due, too, or has fired.
    pub is_overtaken: bool,
}

/// What the rungs of a batch share.
pub struct RungContext {
    /// The database's time.
    pub now: Timestamp,
    /// The zone of recipients that have none, where the deadline has none either.
    pub tenant_zone: String,
    /// Their deadlines, by key.
    pub deadlines: BTreeMap<String, KeptDeadline>,
}

/// A deadline as its rungs need it.
pub struct KeptDeadline {
    /// The category of rungs that name none.
    pub category: Option<String>,
    /// For recipients that have no zone of their own.
    pub time_zone: Option<String>,
    /// Its reminders, by their keys; what cannot be read is not among them.
    pub rungs: BTreeMap<String, RungBody>,
    /// The category of what is sent when it has passed.
    pub overdue: Option<CategoryKey>,
    /// What templates get.
    pub data: Value,
}

domain::masked_debug!(KeptDeadline, "KeptDeadline", category);

/// What becomes of a taken rung.
#[derive(Clone, Debug)]
pub enum RungOutcome {
    /// It fires at this time, which is another than it was planned for.
    Waits(Timestamp),
    /// The database did not store what it became; it is looked at again at this time.
    SetAside(Timestamp),
    /// It became this notification.
    Fired(NotificationId),
    /// It became none.
    Skipped(Note),
    /// It could not become one; the words are for people.
    Failed(Note, Option<String>),
}

/// The tenants that have rungs to look at, in no order.
pub async fn list_due_tenants_across_tenants(database: &Database) -> Result<Vec<TenantId>, StoreError> {
    Ok(list_due_tenants!(
        database, "harkara.rungs", waits: "w.look_at IS NOT NULL", due: "look_at", except: [], limit: i64::MAX))
}

/// Takes up to `limit` rungs of the tenant, the longest due first, and keeps their recipients from being erased until it
/// is known what becomes of them. What another reminder has taken, or whoever is completed or erased, is passed over.
pub async fn take_due_rungs(transaction: &mut TenantTransaction, limit: u32) -> Result<Vec<TakenRung>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT r.deadline_key, r.recipient_id, r.rung_key, r.due_at AS "due_at: jiff_sqlx::Timestamp", p.time_zone,
                  EXISTS (
                      SELECT FROM harkara.rungs o
                      WHERE o.tenant_id = r.tenant_id AND o.deadline_key = r.deadline_key
                        AND o.recipient_id = r.recipient_id AND o.due_at = r.due_at AND o.rung_key <> 'overdue'
                        AND o.fire_at <= harkara.now() AND o.state IN ('planned', 'fired')
                        -- Of two at the same moment one counts as the later.
                        AND (o.fire_at, o.rung_key) > (r.fire_at, r.rung_key)
                  ) AS "is_overtaken!"
           FROM harkara.rungs r
           JOIN harkara.recipients p ON p.tenant_id = r.tenant_id AND p.recipient_id = r.recipient_id
           WHERE r.tenant_id = $1 AND r.look_at <= harkara.now()
           ORDER BY r.look_at
           LIMIT $2
           FOR UPDATE OF r SKIP LOCKED
           FOR KEY SHARE OF p SKIP LOCKED"#,
        transaction.tenant.as_uuid(),
        i64::from(limit),
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let taken = rows.into_iter().map(|row| TakenRung {
        deadline: row.deadline_key,
        recipient: row.recipient_id,
        rung: row.rung_key,
        due_at: row.due_at.to_jiff(),
        recipient_zone: row.time_zone,
        is_overtaken: row.is_overtaken,
    });
    Ok(taken.collect())
}

/// Reads what taken rungs share.
pub async fn read_rung_context(
    transaction: &mut TenantTransaction,
    taken: &[TakenRung],
) -> Result<RungContext, StoreError> {
    let keys: BTreeSet<&str> = taken.iter().map(|rung| rung.deadline.as_str()).collect();
    let keys: Vec<_> = keys.into_iter().map(str::to_owned).collect();
    let rows = sqlx::query!(
        r#"SELECT harkara.now() AS "now!: jiff_sqlx::Timestamp", t.time_zone AS tenant_zone, d.deadline_key,
                  d.category_key, d.time_zone, d.rungs, d.overdue, d.data
           FROM harkara.tenants t
           JOIN harkara.deadlines d ON d.tenant_id = t.tenant_id
           WHERE t.tenant_id = $1 AND d.deadline_key = ANY ($2)"#,
        transaction.tenant.as_uuid(),
        &keys,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let first = rows.first().ok_or(StoreError::Corrupt("deadline"))?;
    let (now, tenant_zone) = (first.now.to_jiff(), first.tenant_zone.clone());
    let kept = rows.into_iter().map(|row| {
        let rungs = row.rungs.as_array().into_iter().flatten().filter_map(read_kept_rung);
        let deadline = KeptDeadline {
            category: row.category_key,
            time_zone: row.time_zone,
            rungs: rungs.map(|rung| (Rung::Reminder(rung.time).to_string(), rung)).collect(),
            overdue: row.overdue.as_ref().and_then(read_kept_overdue).and_then(|overdue| overdue.category),
            data: row.data,
        };
        (row.deadline_key, deadline)
    });
    Ok(RungContext { now, tenant_zone, deadlines: kept.collect() })
}

/// Writes what becomes of taken rungs, in order, and tells of those that failed, in one statement.
pub async fn write_rungs(
    transaction: &mut TenantTransaction,
    taken: &[TakenRung],
    outcomes: &[RungOutcome],
) -> Result<(), StoreError> {
    let tenant = transaction.tenant;
    let column = |read: fn(&TakenRung) -> &str| taken.iter().map(|rung| read(rung).to_owned()).collect::<Vec<_>>();
    let dues: Vec<jiff_sqlx::Timestamp> = taken.iter().map(|rung| rung.due_at.to_sqlx()).collect();
    let written: Vec<Written> = outcomes.iter().map(write_outcome).collect();
    let states: Vec<_> = written.iter().map(|row| row.state.as_str().to_owned()).collect();
    let notes: Vec<_> = written.iter().map(|row| row.note.map(|note| note.as_str().to_owned())).collect();
    let details: Vec<_> = written.iter().map(|row| row.detail.map(str::to_owned)).collect();
    let times = |read: fn(&Written<'_>) -> Option<Timestamp>| -> Vec<Option<jiff_sqlx::Timestamp>> {
        written.iter().map(|row| read(row).map(|at| at.to_sqlx())).collect()
    };
    let (fires, looks) = (times(|row| row.fire_at), times(|row| row.look_at));
    let notifications: Vec<_> = written.iter().map(|row| row.notification.map(NotificationId::as_uuid)).collect();
    let failed = taken.iter().zip(&written).filter(|(_, row)| row.state == RungState::Failed);
    let events: Vec<(uuid::Uuid, Value)> = failed.map(|(rung, row)| tell_failure(tenant, rung, row)).collect();
    let (event_ids, event_details): (Vec<_>, Vec<_>) = events.into_iter().unzip();
    sqlx::query!(
        "WITH told AS (
             INSERT INTO harkara.events (tenant_id, event_id, detail_type, detail)
             SELECT $1, e.event_id, $12, e.detail FROM unnest($13::uuid[], $14::jsonb[]) AS e (event_id, detail)
         )
         UPDATE harkara.rungs r
         SET state = w.state, note = w.note, note_detail = w.detail, notification_id = w.notification_id,
             fire_at = coalesce(w.fire_at, r.fire_at), look_at = w.look_at,
             decided_at = CASE WHEN w.look_at IS NULL THEN harkara.now() END
         FROM unnest($2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::text[], $8::text[],
                     $9::timestamptz[], $10::timestamptz[], $11::uuid[])
             AS w (deadline_key, recipient_id, rung_key, due_at, state, note, detail, fire_at, look_at, notification_id)
         WHERE r.tenant_id = $1 AND r.deadline_key = w.deadline_key AND r.recipient_id = w.recipient_id
           AND r.rung_key = w.rung_key AND r.due_at = w.due_at",
        tenant.as_uuid(),
        &column(|rung| &rung.deadline),
        &column(|rung| &rung.recipient),
        &column(|rung| &rung.rung),
        &dues as &[jiff_sqlx::Timestamp],
        &states,
        &notes as &[Option<String>],
        &details as &[Option<String>],
        &fires as &[Option<jiff_sqlx::Timestamp>],
        &looks as &[Option<jiff_sqlx::Timestamp>],
        &notifications as &[Option<uuid::Uuid>],
        RUNG_FAILED,
        &event_ids,
        &event_details,
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(())
}

struct Written<'a> {
    state: RungState,
    note: Option<Note>,
    detail: Option<&'a str>,
    fire_at: Option<Timestamp>,
    look_at: Option<Timestamp>,
    notification: Option<NotificationId>,
}

fn write_outcome(outcome: &RungOutcome) -> Written<'_> {
    let of = |state| Written { state, note: None, detail: None, fire_at: None, look_at: None, notification: None };
    match outcome {
        RungOutcome::Waits(until) => Written { fire_at: Some(*until), look_at: Some(*until), ..of(RungState::Planned) },
        RungOutcome::SetAside(until) => {
            Written { detail: Some(SET_ASIDE), look_at: Some(*until), ..of(RungState::Planned) }
        }
        RungOutcome::Fired(id) => Written { notification: Some(*id), ..of(RungState::Fired) },
        RungOutcome::Skipped(note) => Written { note: Some(*note), ..of(RungState::Skipped) },
        RungOutcome::Failed(note, detail) => {
            Written { note: Some(*note), detail: detail.as_deref(), ..of(RungState::Failed) }
        }
    }
}

fn tell_failure(tenant: TenantId, rung: &TakenRung, row: &Written<'_>) -> (uuid::Uuid, Value) {
    let id = new_uuid();
    let detail = json!({
        "event_id": EventId::from_uuid(id).to_string(),
        "tenant_id": tenant.to_string(),
        "deadline": rung.deadline,
        "recipient": rung.recipient,
        "rung": rung.rung,
        "due_at": rung.due_at,
        "reason": row.note.map(Note::as_str),
        "detail": row.detail,
    });
    (id, detail)
}
