//! The statements of `escalation`: find what is due, lock it, learn whom a step means, and write what was fired.

use super::database::{Database, StoreError, TenantTransaction};
use super::due_tenants::list_due_tenants;
use domain::delivery::DeliveryState;
use domain::escalation::{EscalationState, MAX_REACHED, Place, Unreached};
use domain::id::{EscalationId, NotificationId, TenantId};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::HashMap;

/// How much of locked escalations is read at a time, in bytes of text: a value in memory is many times as large as its text.
const MOST_READ_BYTES: i64 = 512 * 1024;

/// A locked escalation whose next step is due.
#[derive(Clone)]
pub struct DueEscalation {
    /// Which.
    pub id: EscalationId,
    /// The key of its policy.
    pub policy: String,
    /// What the policy said when it began.
    pub definition: Value,
    /// For its notifications.
    pub data: Value,
    /// How many bytes of JSON that is.
    pub data_bytes: usize,
    /// What was fired last.
    pub fired: Option<Place>,
    /// When the first tier of that step was.
    pub level_fired_at: Option<Timestamp>,
    /// Whether that step has reached anybody.
    pub is_level_reached: bool,
    /// Whom that step meant.
    pub level_recipients: Vec<String>,
    /// Whom the last step meant that meant anybody, in the same round.
    pub previous_recipients: Vec<String>,
    /// Who has acknowledged it, the last one last.
    pub acknowledged: Vec<String>,
    /// Whether everybody whom it has reached has acknowledged it or was erased.
    pub waits_for_nobody: bool,
    /// When it was started.
    pub started_at: Timestamp,
    /// The database's time.
    pub now: Timestamp,
}

domain::masked_debug!(DueEscalation, "DueEscalation", id, policy, fired);

/// Whom a step means, as the database is asked.
#[derive(Clone, Debug)]
pub enum Meant {
    /// A recipient by its id.
    Recipient(String),
    /// Everybody with a role.
    Role(String),
    /// The managers of these.
    ManagersOf(Vec<String>),
}

/// What becomes of a due escalation.
pub struct Written {
    /// Which.
    pub id: EscalationId,
    /// Where it stands now.
    pub state: EscalationState,
    /// Why it was given up.
    pub reason: Option<&'static str>,
    /// Who has acknowledged it, where that ends its steps.
    pub acknowledged_by: Option<String>,
    /// When what comes next is due, where it goes on.
    pub next_step_at: Option<Timestamp>,
    /// Whether the step that fired has another tier.
    pub has_fallback: bool,
    /// What was fired; `None` where it ended.
    pub step: Option<WrittenStep>,
}

/// A step that fires.
pub struct WrittenStep {
    /// Which.
    pub place: Place,
    /// Whom it means.
    pub recipients: Vec<String>,
    /// What it becomes, and for whom.
    pub notifications: Vec<(NotificationId, String)>,
    /// Why it reached nobody.
    pub unreached: Option<Unreached>,
    /// What else there is to say.
    pub note: Option<String>,
    /// Until when the links of its notifications act.
    pub links_expire_at: Timestamp,
}

/// Tenants of which something is due, but for `except`: some of them, in no order, so that nobody waits for another.
pub async fn list_due_tenants_across_tenants(
    database: &Database,
    except: &[TenantId],
    limit: u32,
) -> Result<Vec<TenantId>, StoreError> {
    Ok(list_due_tenants!(
        database, "harkara.escalations", waits: "w.next_step_at IS NOT NULL", due: "next_step_at", except: except,
        limit: i64::from(limit)))
}

/// Makes escalations due at once of which the last tier has failed with everybody who has not acknowledged, and another one
/// is left; a bounded number.
pub async fn hasten_failed_across_tenants(database: &Database, limit: u32) -> Result<u64, StoreError> {
    let failed = [
        DeliveryState::Bounced,
        DeliveryState::Complained,
        DeliveryState::Skipped,
        DeliveryState::Canceled,
        DeliveryState::Expired,
        DeliveryState::Failed,
        DeliveryState::Dead,
    ]
    .map(|state| state.as_str().to_owned());
    let mut connection = database.connection().await?;
    let hastened = sqlx::query!(
        "UPDATE harkara.escalations e
         SET next_step_at = harkara.now(), updated_at = harkara.now()
         FROM (
             SELECT w.tenant_id, w.escalation_id FROM harkara.escalations w
             WHERE w.has_fallback AND w.next_step_at > harkara.now()
               -- Of those who have not acknowledged: the others wait for nothing, however their mails fared.
               AND EXISTS (
                   SELECT FROM harkara.escalation_notifications n
                   WHERE n.tenant_id = w.tenant_id AND n.escalation_id = w.escalation_id
                     AND (n.repeat_number, n.level, n.tier) = (w.repeat_number, w.level, w.tier)
                     AND NOT EXISTS (
                         SELECT FROM harkara.escalation_acknowledgements a
                         WHERE a.tenant_id = n.tenant_id AND a.escalation_id = n.escalation_id
                           AND a.recipient_id = n.recipient_id))
               AND NOT EXISTS (
                   SELECT FROM harkara.escalation_notifications n
                   JOIN harkara.deliveries d ON d.tenant_id = n.tenant_id AND d.notification_id = n.notification_id
                   WHERE n.tenant_id = w.tenant_id AND n.escalation_id = w.escalation_id
                     AND (n.repeat_number, n.level, n.tier) = (w.repeat_number, w.level, w.tier)
                     AND d.state <> ALL ($1)
                     AND NOT EXISTS (
                         SELECT FROM harkara.escalation_acknowledgements a
                         WHERE a.tenant_id = n.tenant_id AND a.escalation_id = n.escalation_id
                           AND a.recipient_id = n.recipient_id))
             LIMIT $2
             FOR NO KEY UPDATE SKIP LOCKED
         ) f
         WHERE e.tenant_id = f.tenant_id AND e.escalation_id = f.escalation_id",
        &failed[..],
        i64::from(limit),
    )
    .execute(&mut *connection)
    .await?;
    connection.give_back();
    Ok(hastened.rows_affected())
}

/// Locks the tenant's longest due escalations. What another one has locked is passed over.
pub async fn lock_due(transaction: &mut TenantTransaction, limit: u32) -> Result<Vec<EscalationId>, StoreError> {
    let rows = sqlx::query_scalar!(
        "SELECT escalation_id FROM harkara.escalations
         WHERE tenant_id = $1 AND next_step_at <= harkara.now()
         ORDER BY next_step_at
         LIMIT $2
         FOR NO KEY UPDATE SKIP LOCKED",
        transaction.tenant.as_uuid(),
        i64::from(limit),
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    Ok(rows.into_iter().map(EscalationId::from_uuid).collect())
}

/// Locks one escalation where it is due and nobody else has it.
pub async fn lock_one_due(transaction: &mut TenantTransaction, id: EscalationId) -> Result<bool, StoreError> {
    let row = sqlx::query_scalar!(
        "SELECT escalation_id FROM harkara.escalations
         WHERE tenant_id = $1 AND escalation_id = $2 AND next_step_at <= harkara.now()
         FOR NO KEY UPDATE SKIP LOCKED",
        transaction.tenant.as_uuid(),
        id.as_uuid(),
    )
    .fetch_optional(&mut *transaction.connection)
    .await?;
    Ok(row.is_some())
}

/// Reads what decides about locked escalations: those that are due, and of these as many as fit into the memory of a
/// function, the longest due first, at least one. It is a statement after the lock, so that it sees what was committed before.
pub async fn read_due(
    transaction: &mut TenantTransaction,
    ids: &[EscalationId],
) -> Result<Vec<DueEscalation>, StoreError> {
    let ids: Vec<_> = ids.iter().map(|id| id.as_uuid()).collect();
    let rows = sqlx::query!(
        r#"WITH sized AS (
               SELECT o.escalation_id, octet_length(o.data::text) AS data_bytes,
                      octet_length(o.data::text) + octet_length(o.definition::text)
                      -- Of the level, and of the one before it.
                      + (SELECT coalesce(sum(octet_length(s.recipients::text)), 0) FROM harkara.escalation_steps s
                         WHERE s.tenant_id = o.tenant_id AND s.escalation_id = o.escalation_id
                           AND s.repeat_number = o.repeat_number AND s.level >= o.level - 1) AS bytes,
                      row_number() OVER (ORDER BY o.next_step_at, o.escalation_id) AS number
               FROM harkara.escalations o
               WHERE o.tenant_id = $1 AND o.escalation_id = ANY ($2) AND o.next_step_at <= harkara.now()
           ),
           fitting AS (
               SELECT z.escalation_id, z.data_bytes, z.number, sum(z.bytes) OVER (ORDER BY z.number) - z.bytes AS bytes_before
               FROM sized z
           )
           SELECT e.escalation_id, e.policy_key, e.definition, e.data, f.data_bytes AS "data_bytes!", e.repeat_number,
                  e.level, e.tier,
                  e.level_fired_at AS "level_fired_at: jiff_sqlx::Timestamp",
                  e.created_at AS "created_at: jiff_sqlx::Timestamp", harkara.now() AS "now!: jiff_sqlx::Timestamp",
                  coalesce((SELECT s.recipients FROM harkara.escalation_steps s
                            WHERE s.tenant_id = e.tenant_id AND s.escalation_id = e.escalation_id
                              AND s.repeat_number = e.repeat_number AND s.level = e.level
                            ORDER BY s.tier LIMIT 1), '{}') AS "level_recipients!",
                  coalesce((SELECT s.recipients FROM harkara.escalation_steps s
                            WHERE s.tenant_id = e.tenant_id AND s.escalation_id = e.escalation_id
                              AND s.repeat_number = e.repeat_number AND cardinality(s.recipients) > 0
                            ORDER BY s.level DESC, s.tier LIMIT 1), '{}') AS "previous_recipients!",
                  EXISTS (SELECT FROM harkara.escalation_steps s
                          WHERE s.tenant_id = e.tenant_id AND s.escalation_id = e.escalation_id
                            AND s.repeat_number = e.repeat_number AND s.level = e.level
                            AND s.reached_count > 0) AS "is_level_reached!",
                  harkara.waits_for_nobody(e.tenant_id, e.escalation_id) AS "waits_for_nobody!",
                  (SELECT coalesce(array_agg(a.recipient_id ORDER BY a.acknowledged_at, a.recipient_id), '{}')
                   FROM harkara.escalation_acknowledgements a
                   WHERE a.tenant_id = e.tenant_id AND a.escalation_id = e.escalation_id) AS "acknowledged!"
           FROM fitting f
           JOIN harkara.escalations e ON e.tenant_id = $1 AND e.escalation_id = f.escalation_id
           WHERE f.bytes_before < $3::bigint
           ORDER BY f.number"#,
        transaction.tenant.as_uuid(),
        &ids,
        MOST_READ_BYTES,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let number = |number: i32| u32::try_from(number).map_err(|_| StoreError::Corrupt("level"));
    let due = rows.into_iter().map(|row| {
        let place = Place { repeat: number(row.repeat_number)?, level: number(row.level)?, tier: number(row.tier)? };
        Ok(DueEscalation {
            id: EscalationId::from_uuid(row.escalation_id),
            policy: row.policy_key,
            definition: row.definition,
            data: row.data,
            data_bytes: usize::try_from(row.data_bytes).map_err(|_| StoreError::Corrupt("data"))?,
            fired: (place.level > 0).then_some(place),
            level_fired_at: row.level_fired_at.map(|at| at.to_jiff()),
            is_level_reached: row.is_level_reached,
            level_recipients: row.level_recipients,
            previous_recipients: row.previous_recipients,
            acknowledged: row.acknowledged,
            waits_for_nobody: row.waits_for_nobody,
            started_at: row.created_at.to_jiff(),
            now: row.now.to_jiff(),
        })
    });
    due.collect()
}

/// The recipients that steps mean, by the steps' places in `asked`: each once, in order of their ids, and not more than one
/// above what a step may reach.
pub async fn find_meant(
    transaction: &mut TenantTransaction,
    asked: &[(usize, Meant)],
) -> Result<HashMap<usize, Vec<String>>, StoreError> {
    let rows: Value = asked
        .iter()
        .map(|(place, meant)| match meant {
            Meant::Recipient(id) => json!({"place": place, "kind": "recipient", "name": id}),
            Meant::Role(role) => json!({"place": place, "kind": "role", "name": role}),
            Meant::ManagersOf(ids) => json!({"place": place, "kind": "managers", "names": ids}),
        })
        .collect();
    let rows = sqlx::query!(
        r#"WITH asked AS (
               SELECT * FROM jsonb_to_recordset($2) AS a (place integer, kind text, name text, names text[])
           ),
           meant AS (
               SELECT a.place, r.recipient_id FROM asked a
               JOIN harkara.recipients r ON r.tenant_id = $1 AND r.recipient_id = a.name AND r.erased_at IS NULL
               WHERE a.kind = 'recipient'
               UNION
               -- Looks once at everybody who has a role, however many steps ask for one.
               SELECT a.place, r.recipient_id FROM harkara.recipients r
               CROSS JOIN LATERAL unnest(r.roles) AS held (role)
               JOIN asked a ON a.kind = 'role' AND a.name = held.role
               WHERE r.tenant_id = $1 AND r.roles <> '{}' AND r.erased_at IS NULL
               UNION
               SELECT a.place, r.recipient_id FROM asked a
               JOIN harkara.recipients m ON m.tenant_id = $1 AND m.recipient_id = ANY (a.names)
               JOIN harkara.recipients r ON r.tenant_id = $1 AND r.recipient_id = m.manager_id AND r.erased_at IS NULL
               WHERE a.kind = 'managers'
           )
           SELECT o.place AS "place!", o.recipient_id AS "recipient_id!" FROM (
               SELECT m.place, m.recipient_id, row_number() OVER (PARTITION BY m.place ORDER BY m.recipient_id) AS number
               FROM meant m
           ) o
           WHERE o.number <= $3
           ORDER BY o.place, o.recipient_id"#,
        transaction.tenant.as_uuid(),
        rows,
        MAX_REACHED as i64 + 1,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let mut meant: HashMap<usize, Vec<String>> = HashMap::new();
    for row in rows {
        let place = usize::try_from(row.place).map_err(|_| StoreError::Corrupt("place"))?;
        meant.entry(place).or_default().push(row.recipient_id);
    }
    Ok(meant)
}

/// Writes what becomes of locked escalations, in one statement.
pub async fn write_steps(transaction: &mut TenantTransaction, written: &[Written]) -> Result<(), StoreError> {
    let rows: Value = written.iter().map(print_written).collect();
    sqlx::query_file!("src/store/write_escalation_steps.sql", transaction.tenant.as_uuid(), rows)
        .execute(&mut *transaction.connection)
        .await?;
    Ok(())
}

fn print_written(written: &Written) -> Value {
    let Written { id, state, reason, acknowledged_by, next_step_at, has_fallback, step } = written;
    let mut row = json!({
        "escalation_id": id.as_uuid(), "state": state.as_str(), "reason": reason, "acknowledged_by": acknowledged_by,
        "next_step_at": next_step_at, "has_fallback": has_fallback,
    });
    if let Some(WrittenStep { place, recipients, notifications, unreached, note, links_expire_at }) = step {
        let notification = |(id, recipient): &(NotificationId, String)| json!({"notification_id": id.as_uuid(), "recipient_id": recipient});
        row["step"] = json!({
            "repeat_number": place.repeat, "level": place.level, "tier": place.tier, "recipients": recipients,
            "reached_count": notifications.len(), "reason": unreached.map(|unreached| unreached.as_str()), "note": note,
            "links_expire_at": links_expire_at, "notifications": notifications.iter().map(notification).collect::<Value>(),
        });
    }
    row
}

/// Puts off an escalation that cannot be dealt with now, so that it does not stand before the others. It stays as late as it is.
pub async fn put_off(transaction: &mut TenantTransaction, id: EscalationId, seconds: u32) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE harkara.escalations
         SET next_step_at = harkara.now() + make_interval(secs => $3), was_due_at = coalesce(was_due_at, next_step_at),
             updated_at = harkara.now()
         WHERE tenant_id = $1 AND escalation_id = $2 AND next_step_at <= harkara.now()",
        transaction.tenant.as_uuid(),
        id.as_uuid(),
        f64::from(seconds),
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(())
}
