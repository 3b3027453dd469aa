//! The dispatcher's statements: take what is due, write what becomes of it.
//!
//! They cross tenants. What is taken stays locked until it is written, and no network call lies between.

use super::claims::DeliveryKey;
use super::database::{Database, Lent, StoreError, commit};
use crate::ids::new_uuid;
use domain::category::{DeliveryRules, UnknownPolicy};
use domain::delivery::{DeliveryState, Reason};
use domain::due::{DueDelivery, DueState, DueStep};
use domain::event::{Event, event_type};
use domain::id::{DeliveryId, EventId, TenantId};
use domain::retry;
use std::collections::HashMap;
use std::time::Duration;

/// A due delivery, locked.
pub struct TakenDelivery {
    /// Which.
    pub key: DeliveryKey,
    /// What the decision needs.
    pub due: DueDelivery,
    /// The caller's trace, for its message.
    pub traceparent: Option<String>,
    /// What was said last about it.
    pub reason_detail: Option<String>,
}

domain::masked_debug!(TakenDelivery, "TakenDelivery", key, due);

/// Due deliveries that are locked until they are written.
pub struct TakenBatch {
    /// The deliveries; each tenant's longest due first.
    pub deliveries: Vec<TakenDelivery>,
    /// Whether a tenant may have more that is due than its share of this batch.
    pub leaves_more: bool,
    transaction: Lent,
}

/// Takes about `limit` due deliveries across tenants, the same share of each tenant that has any, so that nobody waits
/// for another's backlog. What another dispatcher has taken is passed over.
pub async fn take_due_across_tenants(database: &Database, limit: u32) -> Result<TakenBatch, StoreError> {
    let mut transaction = database.begin_across_tenants().await?;
    let rows = sqlx::query!(
        r#"-- Steps from tenant to tenant through the index, however many deliveries each has.
           WITH RECURSIVE open AS (
               (SELECT d.tenant_id FROM harkara.deliveries d WHERE d.due_at IS NOT NULL ORDER BY d.tenant_id LIMIT 1)
               UNION ALL
               SELECT (SELECT d.tenant_id FROM harkara.deliveries d
                       WHERE d.due_at IS NOT NULL AND d.tenant_id > o.tenant_id ORDER BY d.tenant_id LIMIT 1)
               FROM open o WHERE o.tenant_id IS NOT NULL
           ),
           waiting AS (
               SELECT o.tenant_id FROM open o
               -- One look into the index for each; a semi-join would read the whole backlog.
               CROSS JOIN LATERAL (
                   SELECT FROM harkara.deliveries d WHERE d.tenant_id = o.tenant_id AND d.due_at <= harkara.now()
                   ORDER BY d.due_at LIMIT 1
               ) due
               ORDER BY random()
               LIMIT $1
           ),
           share AS (
               SELECT ceil($1::bigint / greatest(1, count(*))::numeric)::bigint AS size FROM waiting
           )
           SELECT d.tenant_id, d.delivery_id, d.state, d.not_before AS "not_before: jiff_sqlx::Timestamp",
                  d.attempt_count, d.uncounted_attempt_count, d.max_attempts, d.publish_count, d.reason_detail,
                  d.unknown_policy, d.reconcile_window_seconds, d.withdrawn_at IS NOT NULL AS "is_withdrawn!",
                  n.expires_at AS "expires_at: jiff_sqlx::Timestamp", n.traceparent,
                  harkara.now() AS "now!: jiff_sqlx::Timestamp", s.size AS "share!"
           FROM share s
           CROSS JOIN waiting w
           CROSS JOIN LATERAL (
               SELECT * FROM harkara.deliveries d
               WHERE d.tenant_id = w.tenant_id AND d.due_at <= harkara.now()
               ORDER BY d.due_at
               LIMIT s.size
               FOR UPDATE SKIP LOCKED
           ) d
           JOIN harkara.notifications n ON n.tenant_id = d.tenant_id AND n.notification_id = d.notification_id"#,
        i64::from(limit),
    )
    .fetch_all(&mut *transaction)
    .await?;
    let mut taken_by_tenant: HashMap<uuid::Uuid, i64> = HashMap::new();
    for row in &rows {
        *taken_by_tenant.entry(row.tenant_id).or_default() += 1;
    }
    let leaves_more = rows.iter().any(|row| taken_by_tenant[&row.tenant_id] >= row.share);
    let count = |number: i32| u32::try_from(number).map_err(|_| StoreError::Corrupt("count"));
    let deliveries = rows.into_iter().map(|row| {
        Ok(TakenDelivery {
            key: DeliveryKey {
                tenant: TenantId::from_uuid(row.tenant_id),
                delivery: DeliveryId::from_uuid(row.delivery_id),
            },
            due: DueDelivery {
                state: DeliveryState::parse(&row.state)
                    .and_then(DueState::of)
                    .ok_or(StoreError::Corrupt("delivery state"))?,
                now: row.now.to_jiff(),
                not_before: row.not_before.to_jiff(),
                expires_at: row.expires_at.map(|at| at.to_jiff()),
                spent: count(row.attempt_count - row.uncounted_attempt_count)?,
                publish_count: count(row.publish_count)?,
                is_withdrawn: row.is_withdrawn,
                rules: DeliveryRules {
                    max_attempts: count(row.max_attempts)?,
                    unknown_policy: UnknownPolicy::parse(&row.unknown_policy)
                        .ok_or(StoreError::Corrupt("unknown policy"))?,
                    reconcile_window_seconds: count(row.reconcile_window_seconds)?,
                },
            },
            traceparent: row.traceparent,
            reason_detail: row.reason_detail,
        })
    });
    crate::failpoint!("S2_taken", Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut)));
    Ok(TakenBatch { deliveries: deliveries.collect::<Result<_, StoreError>>()?, leaves_more, transaction })
}

impl TakenBatch {
    /// Writes what becomes of the taken deliveries, one step for each, in one statement, and lets go of them.
    pub async fn write_steps(mut self, steps: &[DueStep]) -> Result<(), StoreError> {
        let tenants: Vec<_> = self.deliveries.iter().map(|taken| taken.key.tenant.as_uuid()).collect();
        let ids: Vec<_> = self.deliveries.iter().map(|taken| taken.key.delivery.as_uuid()).collect();
        let written: Vec<Written> =
            self.deliveries.iter().zip(steps).map(|(taken, step)| write_step(taken, step)).collect();
        let states: Vec<_> = written.iter().map(|row| row.state.as_str().to_owned()).collect();
        let reasons: Vec<_> = written.iter().map(|row| row.reason.map(|reason| reason.as_str().to_owned())).collect();
        let dues: Vec<_> = written.iter().map(|row| row.due_seconds).collect();
        let event_ids: Vec<_> = written.iter().map(|_| new_uuid()).collect();
        let event_types: Vec<_> = written.iter().map(|row| row.event_type.map(str::to_owned)).collect();
        let publishes: Vec<_> = written.iter().map(|row| row.published).collect();
        sqlx::query_file!(
            "src/store/write_due_steps.sql",
            &tenants,
            &ids,
            &states,
            &reasons as &[Option<String>],
            &dues as &[Option<i32>],
            &publishes,
            &event_ids,
            &event_types as &[Option<String>],
        )
        .execute(&mut *self.transaction)
        .await?;
        crate::failpoint!("S3_written", Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut)));
        commit(self.transaction).await?;
        crate::failpoint!("S4_committed", Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut)));
        Ok(())
    }
}

/// Makes deliveries due at once whose message the queue did not take, across tenants.
pub async fn release_across_tenants(database: &Database, keys: &[DeliveryKey]) -> Result<(), StoreError> {
    if keys.is_empty() {
        return Ok(());
    }
    let tenants: Vec<_> = keys.iter().map(|key| key.tenant.as_uuid()).collect();
    let ids: Vec<_> = keys.iter().map(|key| key.delivery.as_uuid()).collect();
    let mut connection = database.connection().await?;
    sqlx::query!(
        "UPDATE harkara.deliveries d
         SET due_at = harkara.now(), publish_count = greatest(0, d.publish_count - 1), updated_at = harkara.now()
         FROM unnest($1::uuid[], $2::uuid[]) AS g (tenant_id, delivery_id)
         WHERE d.tenant_id = g.tenant_id AND d.delivery_id = g.delivery_id AND d.state IN ('queued', 'dead')",
        &tenants,
        &ids,
    )
    .execute(&mut *connection)
    .await?;
    connection.give_back();
    Ok(())
}

/// Events that have waited in the outbox, oldest first, across tenants: their own function did not get them on the bus.
pub async fn read_waiting_events_across_tenants(database: &Database, limit: u32) -> Result<Vec<Event>, StoreError> {
    let mut connection = database.connection().await?;
    let rows = sqlx::query!(
        "SELECT tenant_id, event_id, detail_type, detail FROM harkara.events
         WHERE created_at <= harkara.now() - interval '10 seconds'
         ORDER BY created_at
         LIMIT $1",
        i64::from(limit),
    )
    .fetch_all(&mut *connection)
    .await?;
    connection.give_back();
    let event = rows.into_iter().map(|row| Event {
        id: EventId::from_uuid(row.event_id),
        tenant: TenantId::from_uuid(row.tenant_id),
        detail_type: row.detail_type,
        detail: row.detail,
    });
    Ok(event.collect())
}

struct Written {
    state: DeliveryState,
    reason: Option<Reason>,
    due_seconds: Option<i32>,
    published: bool,
    /// The event that tells of it; a delivery that is only published again tells nothing.
    event_type: Option<&'static str>,
}

fn write_step(taken: &TakenDelivery, step: &DueStep) -> Written {
    let seconds = |duration: Duration| Some(i32::try_from(duration.as_secs()).unwrap_or(i32::MAX));
    let (state, reason, due_seconds, event_type) = match *step {
        DueStep::Publish { again_after, .. } => (DeliveryState::Queued, None, seconds(again_after), None),
        DueStep::AwaitFeedback { window } => {
            let state = DeliveryState::Unknown;
            (state, Some(Reason::LeaseExpired), seconds(window), event_type(state))
        }
        DueStep::DeadLetter(died_now) => {
            let state = DeliveryState::Dead;
            let again = retry::rebury_after(taken.due.publish_count);
            let told = died_now.and_then(|_| event_type(state));
            (state, Some(died_now.unwrap_or(Reason::AttemptsUsedUp)), seconds(again), told)
        }
        DueStep::End(state, reason) => (state, Some(reason), None, event_type(state)),
    };
    let published = matches!(step, DueStep::Publish { .. } | DueStep::DeadLetter(_));
    Written { state, reason, due_seconds, published, event_type }
}
