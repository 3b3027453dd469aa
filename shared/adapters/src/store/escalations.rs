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
use std::collections::HashMap;

/// An escalation that is to be started.
#[derive(Clone)]
pub struct NewEscalation {
    /// The id that it gets, unless one is open already.
    pub id: EscalationId,
    /// What it is about, where there may be only one open.
    pub key: Option<EscalationKey>,
    /// By which policy.
    pub policy: PolicyKey,
    /// What the policy says now.
    pub definition: Value,
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
    pub by_key: HashMap<String, Value>,
    /// The database's time.
    pub now: Timestamp,
}

/// An escalation with what it has fired.
#[derive(Clone)]
pub struct EscalationView {
    /// Its id.
    pub id: EscalationId,
    /// What it is about.
    pub key: Option<String>,
    /// The key of its policy.
    pub policy: String,
    /// What the policy said when it began.
    pub definition: Value,
    /// For its notifications.
    pub data: Value,
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
    /// What was fired, in order.
    pub steps: Vec<StepView>,
    /// Which recipients have acknowledged it, and when.
    pub acknowledgements: Vec<(String, Timestamp)>,
}

domain::masked_debug!(EscalationView, "EscalationView", id, policy, state, level, steps);

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
    /// Whom it meant.
    pub recipients: Vec<String>,
    /// Why it reached nobody.
    pub reason: Option<String>,
    /// What else there is to say.
    pub note: Option<String>,
    /// What it became, and for whom.
    pub notifications: Vec<(NotificationId, String)>,
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
    let by_key = rows.into_iter().filter_map(|row| row.policy_key.zip(row.definition)).collect();
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
    let definitions: Vec<_> = new.iter().map(|new| new.definition.clone()).collect();
    let data: Vec<_> = new.iter().map(|new| new.data.clone()).collect();
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
        &definitions,
        &data,
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

/// A page of the tenant's escalations, newest first, with what they have fired: four statements for any page.
pub async fn list_escalations(
    transaction: &mut TenantTransaction,
    filter: &EscalationFilter,
    page: &Page,
) -> Result<Vec<EscalationView>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT escalation_id, escalation_key, policy_key, definition, data, state, reason, repeat_number, level, tier,
                  next_step_at AS "next_step_at: jiff_sqlx::Timestamp",
                  acknowledged_at AS "acknowledged_at: jiff_sqlx::Timestamp", acknowledged_by,
                  finished_at AS "finished_at: jiff_sqlx::Timestamp", created_at AS "created_at: jiff_sqlx::Timestamp",
                  updated_at AS "updated_at: jiff_sqlx::Timestamp"
           FROM harkara.escalations
           WHERE tenant_id = $1
             AND ($2::uuid IS NULL OR escalation_id = $2)
             AND ($3::text IS NULL OR state = $3)
             AND ($4::text IS NULL OR escalation_key = $4)
             AND ($5::timestamptz IS NULL OR (created_at, escalation_id) < ($5, $6::uuid))
           ORDER BY created_at DESC, escalation_id DESC
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
    let ids: Vec<_> = rows.iter().map(|row| row.escalation_id).collect();
    let mut steps = read_steps(transaction, &ids).await?;
    let mut acknowledgements = read_acknowledgements(transaction, &ids).await?;
    let view = rows.into_iter().map(|row| {
        Ok(EscalationView {
            steps: steps.remove(&row.escalation_id).unwrap_or_default(),
            acknowledgements: acknowledgements.remove(&row.escalation_id).unwrap_or_default(),
            id: EscalationId::from_uuid(row.escalation_id),
            key: row.escalation_key,
            policy: row.policy_key,
            definition: row.definition,
            data: row.data,
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
        })
    });
    view.collect()
}

/// One escalation.
pub async fn read_escalation(
    transaction: &mut TenantTransaction,
    id: EscalationId,
) -> Result<Option<EscalationView>, StoreError> {
    let filter = EscalationFilter { id: Some(id), ..Default::default() };
    Ok(list_escalations(transaction, &filter, &Page { after: None, size: 1 }).await?.pop())
}

async fn read_steps(
    transaction: &mut TenantTransaction,
    escalations: &[uuid::Uuid],
) -> Result<HashMap<uuid::Uuid, Vec<StepView>>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT s.escalation_id, s.repeat_number, s.level, s.tier, s.fired_at AS "fired_at: jiff_sqlx::Timestamp",
                  s.recipients, s.reason, s.note,
                  coalesce(array_agg(n.notification_id ORDER BY n.recipient_id) FILTER (WHERE n.notification_id IS NOT NULL), '{}')
                      AS "notifications!",
                  coalesce(array_agg(n.recipient_id ORDER BY n.recipient_id) FILTER (WHERE n.notification_id IS NOT NULL), '{}')
                      AS "reached!"
           FROM harkara.escalation_steps s
           LEFT JOIN harkara.escalation_notifications n USING (tenant_id, escalation_id, repeat_number, level, tier)
           WHERE s.tenant_id = $1 AND s.escalation_id = ANY ($2)
           GROUP BY s.tenant_id, s.escalation_id, s.repeat_number, s.level, s.tier
           ORDER BY s.repeat_number, s.level, s.tier"#,
        transaction.tenant.as_uuid(),
        escalations,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let mut steps: HashMap<_, Vec<_>> = HashMap::new();
    for row in rows {
        let notifications = row.notifications.into_iter().map(NotificationId::from_uuid).zip(row.reached).collect();
        steps.entry(row.escalation_id).or_default().push(StepView {
            repeat: row.repeat_number,
            level: row.level,
            tier: row.tier,
            fired_at: row.fired_at.to_jiff(),
            recipients: row.recipients,
            reason: row.reason,
            note: row.note,
            notifications,
        });
    }
    Ok(steps)
}

async fn read_acknowledgements(
    transaction: &mut TenantTransaction,
    escalations: &[uuid::Uuid],
) -> Result<HashMap<uuid::Uuid, Vec<(String, Timestamp)>>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT escalation_id, recipient_id, acknowledged_at AS "acknowledged_at: jiff_sqlx::Timestamp"
           FROM harkara.escalation_acknowledgements
           WHERE tenant_id = $1 AND escalation_id = ANY ($2)
           ORDER BY acknowledged_at, recipient_id"#,
        transaction.tenant.as_uuid(),
        escalations,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let mut found: HashMap<_, Vec<_>> = HashMap::new();
    for row in rows {
        found.entry(row.escalation_id).or_default().push((row.recipient_id, row.acknowledged_at.to_jiff()));
    }
    Ok(found)
}

fn parse_state(text: &str) -> Result<EscalationState, StoreError> {
    EscalationState::parse(text).ok_or(StoreError::Corrupt("escalation state"))
}
