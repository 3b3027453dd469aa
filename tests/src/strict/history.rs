//! Reads what happened from the database, SES's ledger, the queues and the callers' log, for the checker.
//!
//! Times of the outside are put into the database's: whenever a test lets time pass, the database's times move back, so
//! those of the ledger and of the callers have to move with them.

use std::collections::HashMap;
use std::time::Duration;

use adapters::wire::queue_message::read_message;
use domain::category::UnknownPolicy;
use domain::delivery::{AttemptOutcome, DeliveryState, Reason};
use domain::id::{AttemptId, DeadLetterId, DeliveryId, NotificationId, TenantId};
use jiff::{SignedDuration, Timestamp};
use local::ses::{LedgerEntry, Outcome};
use proof::history::{
    Attempt, Claim, DeadLetter, Delivery, History, LeftMessage, Measure, ProviderCall, QueueName, Suppression,
    Transition,
};
use serde_json::Value;
use sqlx::{PgPool, Row};
use uuid::Uuid;

use super::world::{DEAD_LETTERS, DELIVERIES, FEEDBACK, FEEDBACK_DEAD_LETTERS, World};

/// The bound of row 49: how long it may take from the end of the faults until nothing is left to do, not counting the
/// waits that the product promises. Those are hours where a quota or a backoff says so.
const RECOVERY_MAX: Duration = Duration::from_secs(4 * 60 * 60);

impl World {
    /// Everything that happened so far.
    pub async fn read_history(&self) -> History {
        let calls = self.ses.ledger().entries();
        let (claims, transitions) = read_changes(&self.admin).await;
        let now = read_now(&self.admin).await;
        let mut history = self.read_logs(claims, transitions, now, &calls);
        history.deliveries = read_deliveries(&self.admin).await;
        history.attempts = read_attempts(&self.admin, &calls, &history.deliveries).await;
        history.dead_letters = read_dead_letters(&self.admin).await;
        history.suppressions = read_suppressions(&self.admin).await;
        history.untold_events = usize::try_from(self.count("SELECT count(*) FROM harkara.events").await).unwrap_or(0);
        let queues = [
            (DELIVERIES, QueueName::Deliveries),
            (DEAD_LETTERS, QueueName::DeadLetters),
            (FEEDBACK, QueueName::Feedback),
            (FEEDBACK_DEAD_LETTERS, QueueName::FeedbackDeadLetters),
        ];
        for (name, queue) in queues {
            history.left_messages.extend(self.sqs.waiting(name).into_iter().map(|message| LeftMessage {
                queue,
                message_id: message.id,
                delivery: read_message(&message.body).ok().map(|named| (named.tenant, named.delivery)),
            }));
        }
        history
    }

    /// What the harness itself wrote down.
    fn read_logs(
        &self,
        claims: Vec<Claim>,
        transitions: Vec<Transition>,
        now: Timestamp,
        calls: &[LedgerEntry],
    ) -> History {
        let log = self.log();
        let past = |at: Timestamp| {
            let moved = log.shifts.iter().filter(|(moved_at, _)| *moved_at >= at).map(|(_, by)| *by);
            at - SignedDuration::try_from(moved.sum::<Duration>()).expect("tests last less than that")
        };
        let recovery = log.recovery.map(|time| Measure {
            name: "seconds from the end of the faults until nothing was left to do".to_owned(),
            value: time.as_secs_f64(),
            limit: RECOVERY_MAX.as_secs_f64(),
        });
        History {
            requests: log.exchanges.iter().map(|exchange| exchange.read(past(exchange.sent_at))).collect(),
            calls: calls.iter().map(|entry| read_call(entry, past(entry.at))).collect(),
            claims,
            transitions,
            batches: log.batches.clone(),
            log_lines: self.output(),
            planted_words: planted_words(calls),
            measures: recovery.into_iter().collect(),
            database_clock: Some((past(log.began_at), now)),
            faults_cleared_at: log.faults_cleared_at.map(past),
            quiet_at: log.quiet_at.map(past),
            ..History::default()
        }
    }
}

async fn read_now(admin: &PgPool) -> Timestamp {
    let now: jiff_sqlx::Timestamp =
        sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(admin).await.expect("the database is there");
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

async fn read_deliveries(admin: &PgPool) -> Vec<Delivery> {
    let rows = sqlx::query(
        "SELECT d.*, lower(coalesce(n.email, r.email, '')) AS address, n.sandbox
         FROM harkara.deliveries d
         JOIN harkara.notifications n USING (tenant_id, notification_id)
         LEFT JOIN harkara.recipients r ON r.tenant_id = n.tenant_id AND r.recipient_id = n.recipient_id",
    )
    .fetch_all(admin)
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

async fn read_attempts(admin: &PgPool, calls: &[LedgerEntry], deliveries: &[Delivery]) -> Vec<Attempt> {
    let rows = sqlx::query(
        "SELECT a.*,
                (SELECT min(l.changed_at) FROM harkara.audit_log l
                 WHERE l.table_name = 'attempts' AND l.tenant_id = a.tenant_id
                   AND l.row_key ->> 'attempt_id' = a.attempt_id::text
                   AND l.new_values ->> 'outcome' = 'unknown') AS declared_unknown_at,
                (SELECT min(l.changed_at) FROM harkara.audit_log l
                 WHERE l.table_name = 'attempts' AND l.tenant_id = a.tenant_id
                   AND l.row_key ->> 'attempt_id' = a.attempt_id::text
                   AND l.new_values ->> 'feedback' IS NOT NULL) AS feedback_at
         FROM harkara.attempts a",
    )
    .fetch_all(admin)
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
            declared_unknown_at: time(row, "declared_unknown_at"),
            has_server_failed,
            feedback_at: time(row, "feedback_at"),
            started_at: time(row, "started_at").expect("it was made"),
            finished_at: time(row, "finished_at"),
        }
    };
    rows.iter().map(read).collect()
}

/// Claims and transitions, from the audit log of the deliveries.
async fn read_changes(admin: &PgPool) -> (Vec<Claim>, Vec<Transition>) {
    let rows = sqlx::query(
        "SELECT tenant_id, row_key ->> 'delivery_id' AS delivery_id, changed_at, new_values
         FROM harkara.audit_log WHERE table_name = 'deliveries' ORDER BY changed_at, audit_id",
    )
    .fetch_all(admin)
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

async fn read_dead_letters(admin: &PgPool) -> Vec<DeadLetter> {
    let rows = sqlx::query("SELECT * FROM harkara.dead_letters").fetch_all(admin).await.expect("dead letters are read");
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
async fn read_suppressions(admin: &PgPool) -> Vec<Suppression> {
    let rows = sqlx::query(
        "SELECT s.tenant_id, s.address,
                (SELECT max(l.changed_at) FROM harkara.audit_log l
                 WHERE l.table_name = 'suppressions' AND l.operation = 'INSERT' AND l.tenant_id = s.tenant_id
                   AND l.row_key ->> 'suppression_id' = s.suppression_id::text) AS committed_at
         FROM harkara.suppressions s",
    )
    .fetch_all(admin)
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

fn read_call(entry: &LedgerEntry, at: Timestamp) -> ProviderCall {
    ProviderCall {
        at,
        notification: entry.tags.get("nid").and_then(|tag| NotificationId::parse(tag).ok()),
        attempt: entry.tags.get("att").and_then(|tag| tag.parse().ok()),
        tenant: entry.tags.get("t").and_then(|tag| TenantId::parse(tag).ok()),
        address: entry.to.first().cloned().unwrap_or_default(),
        was_accepted: entry.is_accepted(),
    }
}

/// Whole addresses and bodies, none of which may be in a log.
fn planted_words(calls: &[LedgerEntry]) -> Vec<String> {
    let parts = calls.iter().flat_map(|call| call.to.iter().chain(&call.text).cloned());
    let mut words: Vec<String> = parts.collect();
    words.sort();
    words.dedup();
    words
}
