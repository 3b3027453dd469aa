//! Escalations: started, shown, acknowledged and resolved.
//!
//! The row of an escalation is its lock. Whoever acknowledges it and whoever fires its next step take it first, so that one
//! of them comes before the other, and the other sees what the one did.

use super::database::{StoreError, TenantTransaction};
use super::notifications::cancel_notifications;
use crate::wire::pages::Page;
use domain::escalation::EscalationState;
use domain::event::Event;
use domain::id::{EscalationId, EscalationKey, NotificationId, PolicyKey, RecipientKey};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::{Value, json};
use sqlx::types::Json;
use std::collections::HashMap;
use std::sync::Arc;

/// An escalation that is to be started.
#[derive(Clone)]
pub struct NewEscalation {
    /// The id that it gets, unless one is open already.
    pub id: EscalationId,
    /// What it is about, where there may be only one open.
    pub key: Option<EscalationKey>,
    /// By which policy.
    pub policy: PolicyKey,
    /// What the policy says now; many may have the same.
    pub definition: Arc<Value>,
    /// For its notifications.
    pub data: Value,
    /// Whom that is about, where it was theirs.
    pub about: Vec<String>,
    /// When its first step fires.
    pub next_step_at: Timestamp,
}

domain::masked_debug!(NewEscalation, "NewEscalation", id, policy, next_step_at);

/// Policies as they are now.
pub struct Definitions {
    /// By key; those that are there.
    pub by_key: HashMap<String, Arc<Value>>,
    /// The database's time.
    pub now: Timestamp,
}

/// The most steps of an escalation that are shown, recipients and notifications of a step, and acknowledgements: an answer
/// of a function has at most 6 MB.
pub const SHOWN: i32 = 100;

/// An escalation as it stands in a list.
#[derive(Clone)]
pub struct EscalationRow {
    /// Its id.
    pub id: EscalationId,
    /// What it is about.
    pub key: Option<String>,
    /// The key of its policy.
    pub policy: String,
    /// Where it stands.
    pub state: EscalationState,
    /// Why it was given up.
    pub reason: Option<String>,
    /// Which repetition was fired last.
    pub repeat: i32,
    /// Which step was, from 1; 0 before the first.
    pub level: i32,
    /// Which tier of it was, from 1; 0 before the first.
    pub tier: i32,
    /// When the next step fires, or the end comes.
    pub next_step_at: Option<Timestamp>,
    /// When it was acknowledged.
    pub acknowledged_at: Option<Timestamp>,
    /// By whom: a recipient, or the subject of a token.
    pub acknowledged_by: Option<String>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// When it was started.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// How many steps were fired.
    pub step_count: i32,
    /// How many notifications they became.
    pub notification_count: i32,
    /// How many recipients have acknowledged it.
    pub acknowledgement_count: i32,
}

domain::masked_debug!(EscalationRow, "EscalationRow", id, policy, state, level);

/// An escalation with what it says and has fired.
#[derive(Clone)]
pub struct EscalationView {
    /// As it stands in a list.
    pub row: EscalationRow,
    /// What the policy said when it began.
    pub definition: Value,
    /// For its notifications.
    pub data: Value,
    /// What was fired last, in order; at most [`SHOWN`] steps.
    pub steps: Vec<StepView>,
    /// Which recipients have acknowledged it, and when; the first [`SHOWN`].
    pub acknowledgements: Vec<(String, Timestamp)>,
}

domain::masked_debug!(EscalationView, "EscalationView", row, steps);

/// A step that was fired.
#[derive(Clone, Debug)]
pub struct StepView {
    /// In which repetition.
    pub repeat: i32,
    /// Which step, from 1.
    pub level: i32,
    /// Which tier of it, from 1.
    pub tier: i32,
    /// When.
    pub fired_at: Timestamp,
    /// Whom it meant: the first [`SHOWN`] of them.
    pub recipients: Vec<String>,
    /// How many in all.
    pub recipient_count: i32,
    /// Why it reached nobody.
    pub reason: Option<String>,
    /// What else there is to say.
    pub note: Option<String>,
    /// What it became, and for whom: the first [`SHOWN`] by recipient.
    pub notifications: Vec<(NotificationId, String)>,
    /// How many in all.
    pub notification_count: i32,
}

/// What decides about an acknowledgement, behind the escalation's lock.
#[derive(Clone, Debug)]
pub struct LockedEscalation {
    /// Where it stands.
    pub state: EscalationState,
    /// What its policy says.
    pub definition: Value,
    /// Whom its steps have reached.
    pub notified: Vec<String>,
    /// Who has acknowledged it.
    pub acknowledged: Vec<String>,
}

/// Policies of the tenant by their keys, to start by.
pub async fn read_definitions(
    transaction: &mut TenantTransaction,
    keys: &[PolicyKey],
) -> Result<Definitions, StoreError> {
    let keys: Vec<_> = keys.iter().map(|key| key.as_str().to_owned()).collect();
    let rows = sqlx::query!(
        r#"SELECT n.now AS "now!: jiff_sqlx::Timestamp", p.policy_key AS "policy_key?", p.definition AS "definition?"
           FROM (SELECT harkara.now() AS now) n
           LEFT JOIN harkara.escalation_policies p ON p.tenant_id = $1 AND p.policy_key = ANY ($2)"#,
        transaction.tenant.as_uuid(),
        &keys,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let now = rows.first().map(|row| row.now.to_jiff()).ok_or(StoreError::Corrupt("time"))?;
    let by_key = rows.into_iter().filter_map(|row| row.policy_key.zip(row.definition.map(Arc::new))).collect();
    Ok(Definitions { by_key, now })
}

/// Stores escalations, but for those whose key has an open one. Answers with the ids of those that are new.
pub async fn insert_escalations(
    transaction: &mut TenantTransaction,
    new: &[NewEscalation],
) -> Result<Vec<EscalationId>, StoreError> {
    let ids: Vec<_> = new.iter().map(|new| new.id.as_uuid()).collect();
    let keys: Vec<_> = new.iter().map(|new| new.key.as_ref().map(|key| key.as_str().to_owned())).collect();
    let policies: Vec<_> = new.iter().map(|new| new.policy.as_str().to_owned()).collect();
    let definitions: Vec<_> = new.iter().map(|new| Json(&*new.definition)).collect();
    let data: Vec<_> = new.iter().map(|new| Json(&new.data)).collect();
    let times: Vec<_> = new.iter().map(|new| new.next_step_at.to_sqlx()).collect();
    let about: Vec<Value> = new.iter().map(|new| json!(new.about)).collect();
    let rows = sqlx::query_scalar!(
        "INSERT INTO harkara.escalations
             (tenant_id, escalation_id, escalation_key, policy_key, definition, data, next_step_at, about)
         SELECT $1, a.escalation_id, a.escalation_key, a.policy_key, a.definition, a.data, a.next_step_at,
                ARRAY(SELECT jsonb_array_elements_text(a.about))
         FROM unnest($2::uuid[], $3::text[], $4::text[], $5::jsonb[], $6::jsonb[], $7::timestamptz[], $8::jsonb[])
             AS a (escalation_id, escalation_key, policy_key, definition, data, next_step_at, about)
         -- In order, so that two with the same keys wait for each other and do not deadlock.
         ORDER BY a.escalation_key, a.escalation_id
         ON CONFLICT (tenant_id, escalation_key) WHERE state = 'open' AND escalation_key IS NOT NULL DO NOTHING
         RETURNING escalation_id",
        transaction.tenant.as_uuid(),
        &ids,
        &keys as &[Option<String>],
        &policies,
        &definitions as &[Json<&Value>],
        &data as &[Json<&Value>],
        &times as &[jiff_sqlx::Timestamp],
        &about,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    Ok(rows.into_iter().map(EscalationId::from_uuid).collect())
}

/// The open escalation of each of these keys.
pub async fn find_open(
    transaction: &mut TenantTransaction,
    keys: &[EscalationKey],
) -> Result<HashMap<String, EscalationId>, StoreError> {
    let keys: Vec<_> = keys.iter().map(|key| key.as_str().to_owned()).collect();
    let rows = sqlx::query!(
        r#"SELECT escalation_key AS "escalation_key!", escalation_id FROM harkara.escalations
           WHERE tenant_id = $1 AND state = 'open' AND escalation_key = ANY ($2) AND escalation_key IS NOT NULL"#,
        transaction.tenant.as_uuid(),
        &keys,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.escalation_key, EscalationId::from_uuid(row.escalation_id))).collect())
}

/// Puts events into the outbox that are about no one notification.
pub async fn tell(transaction: &mut TenantTransaction, events: &[Event]) -> Result<(), StoreError> {
    let ids: Vec<_> = events.iter().map(|event| event.id.as_uuid()).collect();
    let types: Vec<_> = events.iter().map(|event| event.detail_type.clone()).collect();
    let details: Vec<_> = events.iter().map(|event| event.detail.clone()).collect();
    sqlx::query!(
        "INSERT INTO harkara.events (tenant_id, event_id, detail_type, detail)
         SELECT $1, a.event_id, a.detail_type, a.detail
         FROM unnest($2::uuid[], $3::text[], $4::jsonb[]) AS a (event_id, detail_type, detail)",
        transaction.tenant.as_uuid(),
        &ids,
        &types,
        &details,
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(())
}

/// Takes an escalation's row until the transaction ends; `None` where there is none.
///
/// `NO KEY`, because whoever acts by a link has stored that link's use before, which refers to the row: two who did so at
/// once would wait for each other for ever.
pub async fn lock_escalation(
    transaction: &mut TenantTransaction,
    id: EscalationId,
) -> Result<Option<LockedEscalation>, StoreError> {
    let locked = sqlx::query!(
        "SELECT state, definition FROM harkara.escalations WHERE tenant_id = $1 AND escalation_id = $2
         FOR NO KEY UPDATE",
        transaction.tenant.as_uuid(),
        id.as_uuid(),
    )
    .fetch_optional(&mut *transaction.connection)
    .await?;
    let Some(locked) = locked else { return Ok(None) };
    // A statement of its own, which sees what was committed while the row was waited for.
    let around = sqlx::query!(
        r#"SELECT (SELECT coalesce(array_agg(DISTINCT n.recipient_id), '{}') FROM harkara.escalation_notifications n
                   WHERE n.tenant_id = $1 AND n.escalation_id = $2
                     -- Nobody acknowledges any more who was erased.
                     AND NOT EXISTS (SELECT FROM harkara.recipients r
                                     WHERE r.tenant_id = n.tenant_id AND r.recipient_id = n.recipient_id
                                       AND r.erased_at IS NOT NULL)) AS "notified!",
                  (SELECT coalesce(array_agg(a.recipient_id), '{}') FROM harkara.escalation_acknowledgements a
                   WHERE a.tenant_id = $1 AND a.escalation_id = $2) AS "acknowledged!""#,
        transaction.tenant.as_uuid(),
        id.as_uuid(),
    )
    .fetch_one(&mut *transaction.connection)
    .await?;
    Ok(Some(LockedEscalation {
        state: parse_state(&locked.state)?,
        definition: locked.definition,
        notified: around.notified,
        acknowledged: around.acknowledged,
    }))
}

/// Notes that a recipient has acknowledged; false where that was noted before.
pub async fn insert_acknowledgement(
    transaction: &mut TenantTransaction,
    id: EscalationId,
    recipient: &RecipientKey,
) -> Result<bool, StoreError> {
    let inserted = sqlx::query!(
        "INSERT INTO harkara.escalation_acknowledgements (tenant_id, escalation_id, recipient_id)
         VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        transaction.tenant.as_uuid(),
        id.as_uuid(),
        recipient.as_str(),
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(inserted.rows_affected() > 0)
}

/// Ends the firing of a locked escalation, because somebody is on it.
pub async fn mark_acknowledged(
    transaction: &mut TenantTransaction,
    id: EscalationId,
    by: &str,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE harkara.escalations
         SET state = 'acknowledged', acknowledged_at = harkara.now(), acknowledged_by = $3, next_step_at = NULL,
             has_fallback = false, finished_at = NULL, updated_at = harkara.now()
         WHERE tenant_id = $1 AND escalation_id = $2",
        transaction.tenant.as_uuid(),
        id.as_uuid(),
        by,
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(())
}

/// Ends a locked escalation, because what it was about is done.
pub async fn mark_resolved(transaction: &mut TenantTransaction, id: EscalationId) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE harkara.escalations
         SET state = 'resolved', next_step_at = NULL, has_fallback = false, finished_at = harkara.now(),
             updated_at = harkara.now()
         WHERE tenant_id = $1 AND escalation_id = $2",
        transaction.tenant.as_uuid(),
        id.as_uuid(),
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(())
}

/// Withdraws what was sent of an escalation, or one recipient's part of it: what has not been claimed is canceled, and nothing is
/// sent again. Answers with how many deliveries were canceled.
pub async fn cancel_unsent(
    transaction: &mut TenantTransaction,
    id: EscalationId,
    recipient: Option<&RecipientKey>,
) -> Result<u32, StoreError> {
    let notifications = sqlx::query_scalar!(
        "SELECT n.notification_id FROM harkara.escalation_notifications n
         WHERE n.tenant_id = $1 AND n.escalation_id = $2 AND ($3::text IS NULL OR n.recipient_id = $3)",
        transaction.tenant.as_uuid(),
        id.as_uuid(),
        recipient.map(|recipient| recipient.as_str()),
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let canceled = cancel_notifications(transaction, &notifications, Some("the escalation was answered")).await?;
    Ok(canceled.canceled_count)
}

/// Which escalations; what is `None` does not matter.
#[derive(Clone, Debug, Default)]
pub struct EscalationFilter {
    /// This one only.
    pub id: Option<EscalationId>,
    /// About this, ended or not.
    pub key: Option<EscalationKey>,
    /// In this state.
    pub state: Option<EscalationState>,
}

/// A page of the tenant's escalations, newest first.
pub async fn list_escalations(
    transaction: &mut TenantTransaction,
    filter: &EscalationFilter,
    page: &Page,
) -> Result<Vec<EscalationRow>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT e.escalation_id, e.escalation_key, e.policy_key, e.state, e.reason, e.repeat_number, e.level, e.tier,
                  e.next_step_at AS "next_step_at: jiff_sqlx::Timestamp",
                  e.acknowledged_at AS "acknowledged_at: jiff_sqlx::Timestamp", e.acknowledged_by,
                  e.finished_at AS "finished_at: jiff_sqlx::Timestamp",
                  e.created_at AS "created_at: jiff_sqlx::Timestamp", e.updated_at AS "updated_at: jiff_sqlx::Timestamp",
                  fired.step_count AS "step_count!", fired.notification_count AS "notification_count!",
                  (SELECT count(*)::integer FROM harkara.escalation_acknowledgements a
                   WHERE a.tenant_id = e.tenant_id AND a.escalation_id = e.escalation_id) AS "acknowledgement_count!"
           FROM harkara.escalations e
           CROSS JOIN LATERAL (
               SELECT count(*)::integer AS step_count, coalesce(sum(s.reached_count), 0)::integer AS notification_count
               FROM harkara.escalation_steps s
               WHERE s.tenant_id = e.tenant_id AND s.escalation_id = e.escalation_id
           ) fired
           WHERE e.tenant_id = $1
             AND ($2::uuid IS NULL OR e.escalation_id = $2)
             AND ($3::text IS NULL OR e.state = $3)
             AND ($4::text IS NULL OR e.escalation_key = $4)
             AND ($5::timestamptz IS NULL OR (e.created_at, e.escalation_id) < ($5, $6::uuid))
           ORDER BY e.created_at DESC, e.escalation_id DESC
           LIMIT $7"#,
        transaction.tenant.as_uuid(),
        filter.id.map(|id| id.as_uuid()),
        filter.state.map(|state| state.as_str()),
        filter.key.as_ref().map(|key| key.as_str()),
        page.after.map(|cursor| cursor.at.to_sqlx()) as Option<jiff_sqlx::Timestamp>,
        page.after.map(|cursor| cursor.id),
        i64::from(page.size) + 1,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let view = rows.into_iter().map(|row| {
        Ok(EscalationRow {
            id: EscalationId::from_uuid(row.escalation_id),
            key: row.escalation_key,
            policy: row.policy_key,
            state: parse_state(&row.state)?,
            reason: row.reason,
            repeat: row.repeat_number,
            level: row.level,
            tier: row.tier,
            next_step_at: row.next_step_at.map(|at| at.to_jiff()),
            acknowledged_at: row.acknowledged_at.map(|at| at.to_jiff()),
            acknowledged_by: row.acknowledged_by,
            finished_at: row.finished_at.map(|at| at.to_jiff()),
            created_at: row.created_at.to_jiff(),
            updated_at: row.updated_at.to_jiff(),
            step_count: row.step_count,
            notification_count: row.notification_count,
            acknowledgement_count: row.acknowledgement_count,
        })
    });
    view.collect()
}

/// One escalation, with as much as is shown of what it has fired: four statements, however much that is.
pub async fn read_escalation(
    transaction: &mut TenantTransaction,
    id: EscalationId,
) -> Result<Option<EscalationView>, StoreError> {
    let filter = EscalationFilter { id: Some(id), ..Default::default() };
    let Some(row) = list_escalations(transaction, &filter, &Page { after: None, size: 1 }).await?.pop() else {
        return Ok(None);
    };
    let said = sqlx::query!(
        "SELECT definition, data FROM harkara.escalations WHERE tenant_id = $1 AND escalation_id = $2",
        transaction.tenant.as_uuid(),
        id.as_uuid(),
    )
    .fetch_one(&mut *transaction.connection)
    .await?;
    let steps = read_steps(transaction, id).await?;
    let acknowledgements = read_acknowledgements(transaction, id).await?;
    Ok(Some(EscalationView { row, definition: said.definition, data: said.data, steps, acknowledgements }))
}

async fn read_steps(transaction: &mut TenantTransaction, id: EscalationId) -> Result<Vec<StepView>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT s.repeat_number, s.level, s.tier, s.fired_at AS "fired_at: jiff_sqlx::Timestamp",
                  s.recipients[:$3::integer] AS "recipients!", cardinality(s.recipients) AS "recipient_count!",
                  s.reason, s.note, s.reached_count, n.notifications AS "notifications!", n.reached AS "reached!"
           FROM harkara.escalation_steps s
           CROSS JOIN LATERAL (
               SELECT coalesce(array_agg(f.notification_id ORDER BY f.recipient_id), '{}') AS notifications,
                      coalesce(array_agg(f.recipient_id ORDER BY f.recipient_id), '{}') AS reached
               FROM (
                   SELECT o.notification_id, o.recipient_id FROM harkara.escalation_notifications o
                   WHERE o.tenant_id = s.tenant_id AND o.escalation_id = s.escalation_id
                     AND o.repeat_number = s.repeat_number AND o.level = s.level AND o.tier = s.tier
                   ORDER BY o.recipient_id
                   LIMIT $3::integer
               ) f
           ) n
           WHERE s.tenant_id = $1 AND s.escalation_id = $2
           ORDER BY s.repeat_number DESC, s.level DESC, s.tier DESC
           LIMIT $3::integer"#,
        transaction.tenant.as_uuid(),
        id.as_uuid(),
        SHOWN,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let step = rows.into_iter().rev().map(|row| StepView {
        repeat: row.repeat_number,
        level: row.level,
        tier: row.tier,
        fired_at: row.fired_at.to_jiff(),
        recipients: row.recipients,
        recipient_count: row.recipient_count,
        reason: row.reason,
        note: row.note,
        notifications: row.notifications.into_iter().map(NotificationId::from_uuid).zip(row.reached).collect(),
        notification_count: row.reached_count,
    });
    Ok(step.collect())
}

async fn read_acknowledgements(
    transaction: &mut TenantTransaction,
    id: EscalationId,
) -> Result<Vec<(String, Timestamp)>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT recipient_id, acknowledged_at AS "acknowledged_at: jiff_sqlx::Timestamp"
           FROM harkara.escalation_acknowledgements
           WHERE tenant_id = $1 AND escalation_id = $2
           ORDER BY acknowledged_at, recipient_id
           LIMIT $3::integer"#,
        transaction.tenant.as_uuid(),
        id.as_uuid(),
        SHOWN,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.recipient_id, row.acknowledged_at.to_jiff())).collect())
}

fn parse_state(text: &str) -> Result<EscalationState, StoreError> {
    EscalationState::parse(text).ok_or(StoreError::Corrupt("escalation state"))
}
