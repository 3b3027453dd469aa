//! Deadlines as people keep them: put, shown, listed, completed, deleted, each with its rungs.
//!
//! Everybody locks in one order: recipients, the deadline, its rungs, deliveries. The reminder passes over what is locked,
//! so whoever commits first decides: what has fired is withdrawn as a notification, and what has not never fires.

use super::database::{StoreError, TenantTransaction};
use super::notifications::cancel_notifications;
use crate::wire::deadlines::{DeadlineBody, print_overdue, print_rung};
use crate::wire::pages::KeyPage;
use domain::deadline::{DeadlineState, Note, state_of};
use domain::id::{DeadlineKey, EscalationId, NotificationId};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The most rows of a plan that are shown: every rung of the largest deadline, and some of earlier due times.
const SHOWN_RUNGS: i64 = 2500;

/// A stored deadline.
#[derive(Clone)]
pub struct DeadlineRow {
    /// Its key.
    pub key: String,
    /// How it stands.
    pub state: DeadlineState,
    /// The category of rungs that name none.
    pub category: Option<String>,
    /// Whom it reminds.
    pub recipients: Vec<String>,
    /// For recipients that have no zone of their own.
    pub time_zone: Option<String>,
    /// When it is.
    pub due_at: Timestamp,
    /// The reminders, as they are read.
    pub rungs: Value,
    /// What happens when it has passed.
    pub overdue: Option<Value>,
    /// What templates get.
    pub data: Value,
    /// What becomes of the past.
    pub when_past: String,
    /// The escalation that began when it had passed. Retention may have deleted it.
    pub escalation: Option<EscalationId>,
    /// Why none began.
    pub escalation_note: Option<String>,
    /// When it was completed.
    pub completed_at: Option<Timestamp>,
    /// When it was first put.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

domain::masked_debug!(DeadlineRow, "DeadlineRow", state, due_at);

/// What a deadline does for one recipient at one time.
#[derive(Clone)]
pub struct RungRow {
    /// The recipient.
    pub recipient: String,
    /// The rung's key.
    pub rung: String,
    /// The due time that it belongs to.
    pub due_at: Timestamp,
    /// What has become of it.
    pub state: String,
    /// Why it became no notification.
    pub note: Option<String>,
    /// The same for people.
    pub detail: Option<String>,
    /// When it fires.
    pub fire_at: Timestamp,
    /// What it became.
    pub notification: Option<NotificationId>,
    /// When that was decided.
    pub decided_at: Option<Timestamp>,
}

domain::masked_debug!(RungRow, "RungRow", recipient, rung, due_at, state, note, notification);

/// What the tenant has of what a deadline names.
pub struct Lookup {
    /// The database's time.
    pub now: Timestamp,
    /// The zone of recipients that have none, where the deadline has none either.
    pub tenant_zone: String,
    /// The recipients that are there, each with its zone.
    pub zones: BTreeMap<String, Option<String>>,
    /// The categories that are there.
    pub categories: BTreeSet<String>,
    /// The templates that can be sent.
    pub templates: BTreeSet<String>,
    /// The escalation policies that are there.
    pub policies: BTreeSet<String>,
}

/// A rung that is to be stored.
pub struct NewRung<'a> {
    /// The recipient.
    pub recipient: &'a str,
    /// The rung's key.
    pub rung: String,
    /// When it fires.
    pub fire_at: Timestamp,
    /// Why it does not.
    pub note: Option<Note>,
}

/// What was withdrawn with a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Withdrawn {
    /// Rungs that had not fired.
    pub rung_count: u32,
    /// Deliveries of those that had, and that were not sent.
    pub delivery_count: u32,
    /// What began when it had passed, for the caller to resolve.
    pub escalation: Option<EscalationId>,
}

/// What putting a deadline leaves behind of what it was before.
#[derive(Clone, Debug)]
pub struct Replaced {
    /// What has fired for another due time and was not withdrawn: the recipient and the rung.
    pub fired: BTreeSet<(String, String)>,
    /// What began when that had passed, for the caller to resolve.
    pub escalation: Option<EscalationId>,
}

/// Reads what a deadline names. Nobody is erased and no zone changes until the transaction ends.
pub async fn look_up(transaction: &mut TenantTransaction, body: &DeadlineBody) -> Result<Lookup, StoreError> {
    let recipients: Vec<_> = body.recipients.iter().map(|key| key.as_str().to_owned()).collect();
    let of_rungs = body.rungs.iter().filter_map(|rung| rung.category.as_ref());
    let categories = of_rungs.chain(&body.category).chain(body.overdue_category());
    let categories: Vec<_> = categories.map(|key| key.as_str().to_owned()).collect();
    let templates = body.rungs.iter().filter_map(|rung| rung.template.as_ref());
    let templates: Vec<_> = templates.map(|key| key.as_str().to_owned()).collect();
    let policies: Vec<_> = body.overdue_policy().iter().map(|key| key.as_str().to_owned()).collect();
    let zones = sqlx::query!(
        "SELECT recipient_id, time_zone FROM harkara.recipients
         WHERE tenant_id = $1 AND recipient_id = ANY ($2) AND erased_at IS NULL
         ORDER BY recipient_id
         FOR SHARE",
        transaction.tenant.as_uuid(),
        &recipients,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let row = sqlx::query!(
        r#"SELECT harkara.now() AS "now!: jiff_sqlx::Timestamp", t.time_zone,
                  ARRAY(SELECT c.category_key FROM harkara.categories c
                        WHERE c.tenant_id = $1 AND c.category_key = ANY ($2)) AS "categories!",
                  ARRAY(SELECT m.template_key FROM harkara.templates m
                        WHERE m.tenant_id = $1 AND m.template_key = ANY ($3) AND m.kind = 'message'
                          AND (m.published_version IS NOT NULL OR m.draft IS NULL)) AS "templates!",
                  ARRAY(SELECT p.policy_key FROM harkara.escalation_policies p
                        WHERE p.tenant_id = $1 AND p.policy_key = ANY ($4)) AS "policies!"
           FROM harkara.tenants t
           WHERE t.tenant_id = $1
           FOR SHARE OF t"#,
        transaction.tenant.as_uuid(),
        &categories,
        &templates,
        &policies,
    )
    .fetch_one(&mut *transaction.connection)
    .await?;
    Ok(Lookup {
        now: row.now.to_jiff(),
        tenant_zone: row.time_zone,
        zones: zones.into_iter().map(|row| (row.recipient_id, row.time_zone)).collect(),
        categories: row.categories.into_iter().collect(),
        templates: row.templates.into_iter().collect(),
        policies: row.policies.into_iter().collect(),
    })
}

/// Makes or replaces a deadline and takes away what had not been decided for its due time. What has fired for what it is
/// not any more is withdrawn where it is not sent. What began when an earlier due time had passed is not its own any more.
pub async fn put_deadline(
    transaction: &mut TenantTransaction,
    key: &DeadlineKey,
    body: &DeadlineBody,
) -> Result<Replaced, StoreError> {
    // Behind the lock: an escalation that is being started is waited for, and then is there.
    let escalation = sqlx::query_scalar!(
        "SELECT escalation_id FROM harkara.deadlines WHERE tenant_id = $1 AND deadline_key = $2 FOR UPDATE",
        transaction.tenant.as_uuid(),
        key.as_str(),
    )
    .fetch_optional(&mut *transaction.connection)
    .await?;
    let recipients: Vec<_> = body.recipients.iter().map(|key| key.as_str().to_owned()).collect();
    let rungs: Value = body.rungs.iter().map(print_rung).collect();
    sqlx::query!(
        "INSERT INTO harkara.deadlines
             (tenant_id, deadline_key, category_key, recipients, time_zone, due_at, rungs, overdue, data, when_past,
              escalates_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, CASE WHEN $11 THEN $6::timestamptz END)
         ON CONFLICT (tenant_id, deadline_key) DO UPDATE
         SET category_key = excluded.category_key, recipients = excluded.recipients, time_zone = excluded.time_zone,
             due_at = excluded.due_at, rungs = excluded.rungs, overdue = excluded.overdue, data = excluded.data,
             when_past = excluded.when_past, escalates_at = excluded.escalates_at, escalation_id = NULL,
             escalation_note = NULL, completed_at = NULL, updated_at = harkara.now()",
        transaction.tenant.as_uuid(),
        key.as_str(),
        body.category.as_ref().map(|category| category.as_str()),
        &recipients,
        body.time_zone.as_ref().map(|zone| zone.as_str()),
        body.due_at.to_sqlx() as jiff_sqlx::Timestamp,
        rungs,
        body.overdue.as_ref().map(print_overdue),
        body.data,
        body.when_past.as_str(),
        body.overdue_policy().is_some(),
    )
    .execute(&mut *transaction.connection)
    .await?;
    // A rung that is firing is waited for, and then has fired.
    sqlx::query!(
        "DELETE FROM harkara.rungs
         WHERE tenant_id = $1 AND deadline_key = $2
           AND (state IN ('planned', 'canceled') OR (state IN ('skipped', 'failed') AND due_at <> $3))",
        transaction.tenant.as_uuid(),
        key.as_str(),
        body.due_at.to_sqlx() as jiff_sqlx::Timestamp,
    )
    .execute(&mut *transaction.connection)
    .await?;
    withdraw_stale(transaction, key, body, &recipients).await?;
    let fired = sqlx::query!(
        "SELECT DISTINCT recipient_id, rung_key FROM harkara.rungs
         WHERE tenant_id = $1 AND deadline_key = $2 AND state = 'fired' AND due_at <> $3",
        transaction.tenant.as_uuid(),
        key.as_str(),
        body.due_at.to_sqlx() as jiff_sqlx::Timestamp,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    Ok(Replaced {
        fired: fired.into_iter().map(|row| (row.recipient_id, row.rung_key)).collect(),
        escalation: escalation.flatten().map(EscalationId::from_uuid),
    })
}

/// Withdraws what tells of a due time, a rung or a recipient that the deadline does not have any more and is not sent, and
/// forgets that rungs have fired whose messages were withdrawn, now or before, and that nobody got: those that were not tried
/// any more, and those that had died without an attempt that may have sent them.
async fn withdraw_stale(
    transaction: &mut TenantTransaction,
    key: &DeadlineKey,
    body: &DeadlineBody,
    recipients: &[String],
) -> Result<(), StoreError> {
    let rungs: Vec<_> = body.all_rungs().iter().map(ToString::to_string).collect();
    let stale = sqlx::query_scalar!(
        r#"SELECT notification_id AS "notification_id!" FROM harkara.rungs
           WHERE tenant_id = $1 AND deadline_key = $2 AND state = 'fired'
             AND (due_at <> $3 OR recipient_id <> ALL ($4) OR rung_key <> ALL ($5))"#,
        transaction.tenant.as_uuid(),
        key.as_str(),
        body.due_at.to_sqlx() as jiff_sqlx::Timestamp,
        recipients,
        &rungs,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    cancel_notifications(transaction, &stale, None).await?;
    // A statement of its own: what was being sent while the one above waited was not withdrawn. What is dead and withdrawn stays
    // so, because no redrive takes it; and each of its attempts has to be there and say that it sent nothing.
    sqlx::query!(
        "DELETE FROM harkara.rungs r
         WHERE r.tenant_id = $1 AND r.deadline_key = $2 AND r.state = 'fired'
           AND EXISTS (
               SELECT FROM harkara.deliveries d WHERE d.tenant_id = $1 AND d.notification_id = r.notification_id)
           AND NOT EXISTS (
               SELECT FROM harkara.deliveries d
               WHERE d.tenant_id = $1 AND d.notification_id = r.notification_id AND d.state <> 'canceled'
                 AND (d.state <> 'dead' OR d.withdrawn_at IS NULL OR d.attempt_count <> (
                     SELECT count(*) FROM harkara.attempts a
                     WHERE a.tenant_id = $1 AND a.delivery_id = d.delivery_id AND a.feedback IS NULL
                       AND a.outcome NOT IN ('sent', 'unknown')
                       -- Attempts are kept by month: this spares a look into those before the delivery.
                       AND a.started_at >= d.created_at)))",
        transaction.tenant.as_uuid(),
        key.as_str(),
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(())
}

/// Stores rungs of a deadline; what was decided for this due time stays as it is.
pub async fn insert_rungs(
    transaction: &mut TenantTransaction,
    key: &DeadlineKey,
    due_at: Timestamp,
    rungs: &[NewRung<'_>],
) -> Result<(), StoreError> {
    let recipients: Vec<_> = rungs.iter().map(|rung| rung.recipient.to_owned()).collect();
    let keys: Vec<_> = rungs.iter().map(|rung| rung.rung.clone()).collect();
    let notes: Vec<_> = rungs.iter().map(|rung| rung.note.map(|note| note.as_str().to_owned())).collect();
    let times: Vec<jiff_sqlx::Timestamp> = rungs.iter().map(|rung| rung.fire_at.to_sqlx()).collect();
    sqlx::query!(
        "INSERT INTO harkara.rungs
             (tenant_id, deadline_key, recipient_id, rung_key, due_at, state, note, fire_at, look_at, decided_at)
         SELECT $1, $2, n.recipient_id, n.rung_key, $3, CASE WHEN n.note IS NULL THEN 'planned' ELSE 'skipped' END, n.note,
                n.fire_at, CASE WHEN n.note IS NULL THEN n.fire_at END, CASE WHEN n.note IS NOT NULL THEN harkara.now() END
         FROM unnest($4::text[], $5::text[], $6::text[], $7::timestamptz[]) AS n (recipient_id, rung_key, note, fire_at)
         ON CONFLICT (tenant_id, deadline_key, recipient_id, rung_key, due_at) DO NOTHING",
        transaction.tenant.as_uuid(),
        key.as_str(),
        due_at.to_sqlx() as jiff_sqlx::Timestamp,
        &recipients,
        &keys,
        &notes as &[Option<String>],
        &times as &[jiff_sqlx::Timestamp],
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(())
}

/// Ends a deadline: what has not fired never does, and what has and is not sent is not. A second time nothing is left to
/// withdraw. `None` where there is no such deadline.
pub async fn complete_deadline(
    transaction: &mut TenantTransaction,
    key: &DeadlineKey,
) -> Result<Option<Withdrawn>, StoreError> {
    let found = sqlx::query_scalar!(
        "UPDATE harkara.deadlines
         SET completed_at = coalesce(completed_at, harkara.now()), escalates_at = NULL,
             updated_at = CASE WHEN completed_at IS NULL THEN harkara.now() ELSE updated_at END
         WHERE tenant_id = $1 AND deadline_key = $2
         RETURNING escalation_id",
        transaction.tenant.as_uuid(),
        key.as_str(),
    )
    .fetch_optional(&mut *transaction.connection)
    .await?;
    let Some(escalation) = found else { return Ok(None) };
    let canceled = sqlx::query!(
        "UPDATE harkara.rungs
         SET state = 'canceled', note = 'completed', look_at = NULL, decided_at = harkara.now()
         WHERE tenant_id = $1 AND deadline_key = $2 AND state = 'planned'",
        transaction.tenant.as_uuid(),
        key.as_str(),
    )
    .execute(&mut *transaction.connection)
    .await?;
    // A statement of its own: it sees what fired while the one above waited.
    let fired = sqlx::query_scalar!(
        r#"SELECT notification_id AS "notification_id!" FROM harkara.rungs
           WHERE tenant_id = $1 AND deadline_key = $2 AND notification_id IS NOT NULL"#,
        transaction.tenant.as_uuid(),
        key.as_str(),
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let withdrawn = cancel_notifications(transaction, &fired, None).await?;
    let rung_count = u32::try_from(canceled.rows_affected()).unwrap_or(u32::MAX);
    let escalation = escalation.map(EscalationId::from_uuid);
    Ok(Some(Withdrawn { rung_count, delivery_count: withdrawn.canceled_count, escalation }))
}

/// Forgets a deadline that has been completed.
pub async fn delete_deadline(transaction: &mut TenantTransaction, key: &DeadlineKey) -> Result<(), StoreError> {
    sqlx::query!(
        "DELETE FROM harkara.rungs WHERE tenant_id = $1 AND deadline_key = $2",
        transaction.tenant.as_uuid(),
        key.as_str(),
    )
    .execute(&mut *transaction.connection)
    .await?;
    sqlx::query!(
        "DELETE FROM harkara.deadlines WHERE tenant_id = $1 AND deadline_key = $2",
        transaction.tenant.as_uuid(),
        key.as_str(),
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(())
}

/// Which deadlines; what is `None` does not matter.
#[derive(Clone, Debug, Default)]
pub struct DeadlineFilter {
    /// As they stand now.
    pub state: Option<DeadlineState>,
    /// Of this category; what their rungs are of does not matter.
    pub category: Option<String>,
    /// Of which this recipient is reminded.
    pub recipient: Option<String>,
    /// Due at this time or later.
    pub from: Option<Timestamp>,
    /// Due before this time.
    pub to: Option<Timestamp>,
}

/// A deadline of the tenant.
pub async fn read_deadline(
    transaction: &mut TenantTransaction,
    key: &DeadlineKey,
) -> Result<Option<DeadlineRow>, StoreError> {
    let page = KeyPage { after: None, size: 1 };
    Ok(select_deadlines(transaction, Some(key.as_str()), &DeadlineFilter::default(), &page).await?.pop())
}

/// A page of the tenant's deadlines, by key.
pub async fn list_deadlines(
    transaction: &mut TenantTransaction,
    filter: &DeadlineFilter,
    page: &KeyPage,
) -> Result<Vec<DeadlineRow>, StoreError> {
    select_deadlines(transaction, None, filter, page).await
}

async fn select_deadlines(
    transaction: &mut TenantTransaction,
    key: Option<&str>,
    filter: &DeadlineFilter,
    page: &KeyPage,
) -> Result<Vec<DeadlineRow>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT deadline_key, category_key, recipients, time_zone, due_at AS "due_at: jiff_sqlx::Timestamp", rungs,
                  overdue, data, when_past, escalation_id, escalation_note,
                  completed_at AS "completed_at: jiff_sqlx::Timestamp",
                  created_at AS "created_at: jiff_sqlx::Timestamp", updated_at AS "updated_at: jiff_sqlx::Timestamp",
                  harkara.now() AS "now!: jiff_sqlx::Timestamp"
           FROM harkara.deadlines
           WHERE tenant_id = $1
             AND ($2::text IS NULL OR deadline_key = $2)
             AND ($3::text IS NULL OR category_key = $3)
             -- As domain::deadline::state_of has it.
             AND ($4::text IS NULL
                  OR ($4 = 'completed' AND completed_at IS NOT NULL)
                  OR ($4 = 'overdue' AND completed_at IS NULL AND due_at <= harkara.now())
                  OR ($4 = 'open' AND completed_at IS NULL AND due_at > harkara.now()))
             AND ($5::text IS NULL OR deadline_key > $5)
             -- By the index of the recipient's rungs; a deadline without reminders may have none. Where nobody is asked for,
             -- neither is looked at, in a plan that is made for all parameters either.
             AND ($7::text IS NULL OR (recipients @> ARRAY[$7] AND deadline_key = ANY (ARRAY(
                 SELECT r.deadline_key FROM harkara.rungs r WHERE r.tenant_id = $1 AND r.recipient_id = $7
                 UNION
                 SELECT o.deadline_key FROM harkara.deadlines o
                 WHERE $7 IS NOT NULL AND o.tenant_id = $1 AND o.rungs = '[]' AND o.recipients @> ARRAY[$7]))))
             AND ($8::timestamptz IS NULL OR due_at >= $8)
             AND ($9::timestamptz IS NULL OR due_at < $9)
           ORDER BY deadline_key
           LIMIT $6"#,
        transaction.tenant.as_uuid(),
        key,
        filter.category,
        filter.state.map(DeadlineState::as_str),
        page.after,
        i64::from(page.size) + 1,
        filter.recipient,
        filter.from.map(|at| at.to_sqlx()) as Option<jiff_sqlx::Timestamp>,
        filter.to.map(|at| at.to_sqlx()) as Option<jiff_sqlx::Timestamp>,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let deadline = rows.into_iter().map(|row| {
        let (due_at, completed_at) = (row.due_at.to_jiff(), row.completed_at.map(|at| at.to_jiff()));
        DeadlineRow {
            key: row.deadline_key,
            state: state_of(due_at, completed_at, row.now.to_jiff()),
            category: row.category_key,
            recipients: row.recipients,
            time_zone: row.time_zone,
            due_at,
            rungs: row.rungs,
            overdue: row.overdue,
            data: row.data,
            when_past: row.when_past,
            escalation: row.escalation_id.map(EscalationId::from_uuid),
            escalation_note: row.escalation_note,
            completed_at,
            created_at: row.created_at.to_jiff(),
            updated_at: row.updated_at.to_jiff(),
        }
    });
    Ok(deadline.collect())
}

/// What a deadline does, has done and has not done for each recipient, in the order of time; of its newest due time, and
/// as much as fits of those before.
pub async fn read_plan(transaction: &mut TenantTransaction, key: &DeadlineKey) -> Result<Vec<RungRow>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT recipient_id, rung_key, due_at AS "due_at: jiff_sqlx::Timestamp", state, note, note_detail,
                  fire_at AS "fire_at: jiff_sqlx::Timestamp", notification_id,
                  decided_at AS "decided_at: jiff_sqlx::Timestamp"
           FROM harkara.rungs
           WHERE tenant_id = $1 AND deadline_key = $2
           ORDER BY due_at DESC, fire_at DESC, recipient_id DESC, rung_key DESC
           LIMIT $3"#,
        transaction.tenant.as_uuid(),
        key.as_str(),
        SHOWN_RUNGS,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let rung = rows.into_iter().rev().map(|row| RungRow {
        recipient: row.recipient_id,
        rung: row.rung_key,
        due_at: row.due_at.to_jiff(),
        state: row.state,
        note: row.note,
        detail: row.note_detail,
        fire_at: row.fire_at.to_jiff(),
        notification: row.notification_id.map(NotificationId::from_uuid),
        decided_at: row.decided_at.map(|at| at.to_jiff()),
    });
    Ok(rung.collect())
}
