//! What the database says of a run, and SES's ledger, for the checker.

use std::collections::HashMap;

use domain::category::UnknownPolicy;
use domain::delivery::{AttemptOutcome, DeliveryState, Reason};
use domain::id::{AttemptId, DeadLetterId, DeliveryId, NotificationId, TenantId};
use jiff::Timestamp;
use local::ses::{LedgerEntry, Outcome};
use proof::history::{
    Attempt, Claim, DeadLetter, Delivery, History, Occurrence, ProviderCall, Suppression, Transition,
};
use serde_json::Value;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

/// Everything that is stored, each table whole. A connection that is in a transaction of one snapshot gives one moment,
/// which is needed where work goes on meanwhile.
pub async fn read_stored(connection: &mut PgConnection, calls: &[LedgerEntry]) -> History {
    let (claims, transitions) = read_changes(connection).await;
    let deliveries = read_deliveries(connection).await;
    let now = read_now(connection).await;
    let untold: i64 = sqlx::query_scalar("SELECT count(*) FROM harkara.events")
        .fetch_one(&mut *connection)
        .await
        .expect("events are counted");
    History {
        attempts: read_attempts(connection, calls, &deliveries).await,
        deliveries,
        claims,
        transitions,
        suppressions: read_suppressions(connection).await,
        dead_letters: read_dead_letters(connection).await,
        occurrences: read_occurrences(connection).await,
        untold_events: usize::try_from(untold).unwrap_or_default(),
        database_clock: Some((now, now)),
        ..History::default()
    }
}

/// A request that reached SES, with the time at which it did by the database's clock.
pub fn read_call(entry: &LedgerEntry, at: Timestamp) -> ProviderCall {
    ProviderCall {
        at,
        notification: entry.tags.get("nid").and_then(|tag| NotificationId::parse(tag).ok()),
        attempt: entry.tags.get("att").and_then(|tag| tag.parse().ok()),
        tenant: entry.tags.get("t").and_then(|tag| TenantId::parse(tag).ok()),
        address: entry.to.first().cloned().unwrap_or_default(),
        was_accepted: entry.is_accepted(),
    }
}

async fn read_now(connection: &mut PgConnection) -> Timestamp {
    let now: jiff_sqlx::Timestamp =
        sqlx::query_scalar("SELECT harkara.clock()").fetch_one(&mut *connection).await.expect("the database is there");
    now.to_jiff()
}

fn tenant(row: &sqlx::postgres::PgRow) -> TenantId {
    TenantId::from_uuid(row.get("tenant_id"))
}

fn time(row: &sqlx::postgres::PgRow, name: &str) -> Option<Timestamp> {
    row.get::<Option<jiff_sqlx::Timestamp>, _>(name).map(|at| at.to_jiff())
}

fn count(row: &sqlx::postgres::PgRow, name: &str) -> u32 {
    u32::try_from(row.get::<i32, _>(name)).expect("counts are not negative")
}

async fn read_deliveries(connection: &mut PgConnection) -> Vec<Delivery> {
    let rows = sqlx::query(
        "SELECT d.*, lower(coalesce(n.email, r.email, '')) AS address, n.sandbox
         FROM harkara.deliveries d
         JOIN harkara.notifications n USING (tenant_id, notification_id)
         LEFT JOIN harkara.recipients r ON r.tenant_id = n.tenant_id AND r.recipient_id = n.recipient_id",
    )
    .fetch_all(&mut *connection)
    .await
    .expect("deliveries are read");
    let read = |row: &sqlx::postgres::PgRow| Delivery {
        tenant: tenant(row),
        id: DeliveryId::from_uuid(row.get("delivery_id")),
        notification: NotificationId::from_uuid(row.get("notification_id")),
        address: row.get("address"),
        is_sandbox: row.get("sandbox"),
        state: DeliveryState::parse(row.get("state")).expect("a state"),
        reason: row.get::<Option<&str>, _>("reason").map(|reason| Reason::parse(reason).expect("a reason")),
        attempt_count: count(row, "attempt_count"),
        uncounted_attempt_count: count(row, "uncounted_attempt_count"),
        max_attempts: count(row, "max_attempts"),
        unknown_policy: UnknownPolicy::parse(row.get("unknown_policy")).expect("a policy"),
        reconcile_window_seconds: count(row, "reconcile_window_seconds"),
        due_at: time(row, "due_at"),
        created_at: time(row, "created_at").expect("it was made"),
        sent_at: time(row, "sent_at"),
        finished_at: time(row, "finished_at"),
    };
    rows.iter().map(read).collect()
}

async fn read_attempts(connection: &mut PgConnection, calls: &[LedgerEntry], deliveries: &[Delivery]) -> Vec<Attempt> {
    let rows = sqlx::query(
        "WITH changes AS (
             SELECT tenant_id, row_key ->> 'attempt_id' AS attempt_id,
                    min(changed_at) FILTER (WHERE new_values ->> 'outcome' = 'unknown') AS declared_unknown_at,
                    min(changed_at) FILTER (WHERE new_values ->> 'feedback' IS NOT NULL) AS feedback_at
             FROM harkara.audit_log WHERE table_name = 'attempts' GROUP BY 1, 2
         )
         SELECT a.*, c.declared_unknown_at AS unknown_since, c.feedback_at AS heard_at
         FROM harkara.attempts a LEFT JOIN changes c ON c.tenant_id = a.tenant_id AND c.attempt_id = a.attempt_id::text",
    )
    .fetch_all(&mut *connection)
    .await
    .expect("attempts are read");
    // Which attempts the provider answered with a failure of its own, by the tags of the mail.
    let server_failed: Vec<(String, u32)> = calls
        .iter()
        .filter(|call| matches!(&call.outcome, Outcome::Refused(refusal) if refusal.status >= 500))
        .filter_map(|call| Some((call.tags.get("nid")?.clone(), call.tags.get("att")?.parse().ok()?)))
        .collect();
    let notifications: HashMap<DeliveryId, String> =
        deliveries.iter().map(|delivery| (delivery.id, delivery.notification.to_string())).collect();
    let read = |row: &sqlx::postgres::PgRow| {
        let delivery = DeliveryId::from_uuid(row.get("delivery_id"));
        let number = count(row, "attempt_number");
        let has_server_failed = notifications
            .get(&delivery)
            .is_some_and(|notification| server_failed.iter().any(|(nid, att)| nid == notification && *att == number));
        Attempt {
            tenant: tenant(row),
            delivery,
            id: Some(AttemptId::from_uuid(row.get("attempt_id"))),
            number,
            outcome: row
                .get::<Option<&str>, _>("outcome")
                .map(|outcome| AttemptOutcome::parse(outcome).expect("an outcome")),
            declared_unknown_at: time(row, "unknown_since"),
            has_server_failed,
            feedback_at: time(row, "heard_at"),
            started_at: time(row, "started_at").expect("it was made"),
            finished_at: time(row, "finished_at"),
        }
    };
    rows.iter().map(read).collect()
}

/// Claims and transitions, from the audit log of the deliveries.
async fn read_changes(connection: &mut PgConnection) -> (Vec<Claim>, Vec<Transition>) {
    let rows = sqlx::query(
        // What retention has deleted is no part of the history any more.
        "SELECT l.tenant_id, l.row_key ->> 'delivery_id' AS delivery_id, l.changed_at, l.new_values
         FROM harkara.audit_log l
         WHERE l.table_name = 'deliveries'
           AND NOT EXISTS (
               SELECT FROM harkara.audit_log g
               WHERE g.table_name = 'deliveries' AND g.operation = 'DELETE'
                 AND g.tenant_id = l.tenant_id AND g.row_key = l.row_key)
         ORDER BY l.changed_at, l.audit_id",
    )
    .fetch_all(&mut *connection)
    .await
    .expect("the audit log is read");
    let (mut claims, mut transitions) = (Vec::new(), Vec::new());
    let mut known: HashMap<DeliveryId, (DeliveryState, u32)> = HashMap::new();
    for row in &rows {
        let delivery: Uuid = row.get::<&str, _>("delivery_id").parse().expect("an id");
        let delivery = DeliveryId::from_uuid(delivery);
        let at = time(row, "changed_at").expect("it was written");
        let changed: Value = row.get("new_values");
        let before = known.get(&delivery).copied();
        let attempt = changed["attempt_count"].as_u64().and_then(|count| u32::try_from(count).ok());
        let attempt_count = attempt.or(before.map(|(_, count)| count)).unwrap_or_default();
        if attempt_count > before.map_or(0, |(_, count)| count) {
            claims.push(Claim { tenant: tenant(row), delivery, attempt: attempt_count, committed_at: at });
        }
        let state = changed["state"].as_str().map(|state| DeliveryState::parse(state).expect("a state"));
        if let Some(to) = state {
            let from = before.map(|(state, _)| state);
            transitions.push(Transition { tenant: tenant(row), delivery, at, from, to, attempt_count });
        }
        if let Some(state) = state.or(before.map(|(state, _)| state)) {
            known.insert(delivery, (state, attempt_count));
        }
    }
    (claims, transitions)
}

/// What schedules made, each by what it was made for, and the SQL door, which has no request over HTTP.
async fn read_occurrences(connection: &mut PgConnection) -> Vec<Occurrence> {
    let rows = sqlx::query(
        "SELECT tenant_id, format('digest %s %s %s', category_key, recipient_id, channel) AS schedule,
                period_end_at AS due_at, notification_id
         FROM harkara.digests
         UNION ALL
         SELECT tenant_id, format('rung %s %s %s', deadline_key, rung_key, recipient_id), due_at, notification_id
         FROM harkara.rungs WHERE notification_id IS NOT NULL
         UNION ALL
         SELECT n.tenant_id, format('step %s %s %s of %s to %s', n.repeat_number, n.level, n.tier, n.escalation_id,
                                    n.recipient_id), e.created_at, n.notification_id
         FROM harkara.escalation_notifications n JOIN harkara.escalations e USING (tenant_id, escalation_id)
         UNION ALL
         SELECT tenant_id, format('collection %s', collection_id), created_at, notification_id
         FROM harkara.collections WHERE notification_id IS NOT NULL
         UNION ALL
         SELECT tenant_id, 'door ' || (row_key ->> 'request_id'), changed_at, (row_key ->> 'request_id')::uuid
         FROM harkara.audit_log WHERE table_name = 'door_requests' AND operation = 'INSERT'
         UNION ALL
         -- One row is kept of each candidate, so two notifications of it have one time.
         SELECT n.tenant_id, format('candidate %s of %s', n.metadata ->> 'candidate', n.metadata ->> 'job'),
                coalesce(c.seen_at, n.created_at), n.notification_id
         FROM harkara.notifications n
         LEFT JOIN harkara.domain_job_candidates c ON c.tenant_id = n.tenant_id AND c.job_key = n.metadata ->> 'job'
              AND c.key_hash = sha256(convert_to(n.metadata ->> 'candidate', 'UTF8'))
         WHERE n.metadata ?& '{job, candidate}'",
    )
    .fetch_all(&mut *connection)
    .await
    .expect("what schedules made is read");
    let read = |row: &sqlx::postgres::PgRow| Occurrence {
        tenant: tenant(row),
        schedule: row.get("schedule"),
        due_at: time(row, "due_at").expect("it was due"),
        notification: row.get::<Option<Uuid>, _>("notification_id").map(NotificationId::from_uuid),
    };
    rows.iter().map(read).collect()
}

async fn read_dead_letters(connection: &mut PgConnection) -> Vec<DeadLetter> {
    let rows = sqlx::query("SELECT * FROM harkara.dead_letters")
        .fetch_all(&mut *connection)
        .await
        .expect("dead letters are read");
    let read = |row: &sqlx::postgres::PgRow| DeadLetter {
        tenant: tenant(row),
        id: Some(DeadLetterId::from_uuid(row.get("dead_letter_id"))),
        delivery: row.get::<Option<Uuid>, _>("delivery_id").map(DeliveryId::from_uuid),
        reason: row.get("reason"),
        is_redriven: time(row, "redriven_at").is_some(),
    };
    rows.iter().map(read).collect()
}

/// Both suppressions and claims take a lock on the address, so the times at which their rows were written are in the
/// order of their commits.
async fn read_suppressions(connection: &mut PgConnection) -> Vec<Suppression> {
    let rows = sqlx::query(
        "SELECT s.tenant_id, s.address,
                (SELECT max(l.changed_at) FROM harkara.audit_log l
                 WHERE l.table_name = 'suppressions' AND l.operation = 'INSERT' AND l.tenant_id = s.tenant_id
                   AND l.row_key ->> 'suppression_id' = s.suppression_id::text) AS committed_at
         FROM harkara.suppressions s",
    )
    .fetch_all(&mut *connection)
    .await
    .expect("suppressions are read");
    let read = |row: &sqlx::postgres::PgRow| Suppression {
        tenant: Some(tenant(row)).filter(|tenant| !tenant.as_uuid().is_nil()),
        address: row.get("address"),
        committed_at: time(row, "committed_at").expect("it was written"),
        lifted_at: None,
    };
    rows.iter().map(read).collect()
}
