//! The processor's second statement: what became of a batch of attempts, and the events that tell it.

use super::claims::DeliveryKey;
use super::database::{Database, StoreError};
use super::decisions::print_findings;
use domain::breaker::{BreakerScope, breaker_scope};
use domain::decision::Finding;
use domain::delivery::{AttemptOutcome, Reason};
use domain::digest::DIGEST_GRACE;
use domain::event::Event;
use domain::id::{AttemptId, DeliveryId, EventId, TenantId};
use domain::outcome::{Next, Settlement};
use domain::preference::Cadence;
use domain::retry::{self, Wake};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

/// What is to be written about an attempt.
pub struct AttemptRecord {
    /// Which delivery.
    pub key: DeliveryKey,
    /// Which attempt.
    pub attempt: AttemptId,
    /// Its number.
    pub attempt_number: u32,
    /// The claimed delivery's `identity`.
    pub identity: String,
    /// What became of it.
    pub settlement: Settlement,
    /// What it was decided on.
    pub findings: Vec<Finding>,
    /// A digest of what was sent; `None` where nothing was rendered.
    pub content_hash: Option<[u8; 32]>,
    /// What to tell others: the event's id, type and detail.
    pub event: Option<(EventId, String, Value)>,
}

domain::masked_debug!(AttemptRecord, "AttemptRecord", key, attempt, attempt_number, settlement);

/// What was written.
#[derive(Debug, Default)]
pub struct Recorded {
    /// The deliveries whose state was changed; what is missing lost its lease.
    pub deliveries: BTreeSet<DeliveryId>,
    /// Every event of these notifications that is not on the bus yet, oldest first.
    pub events: Vec<Event>,
}

/// Records a batch of attempts, across tenants, in one statement.
pub async fn record_across_tenants(database: &Database, records: &[AttemptRecord]) -> Result<Recorded, StoreError> {
    if records.is_empty() {
        return Ok(Recorded::default());
    }
    // By their ids, as an erasure locks deliveries: neither waits for the other in a circle.
    let mut ordered: Vec<&AttemptRecord> = records.iter().collect();
    ordered.sort_by_key(|record| record.key);
    let columns = RecordColumns::of(&ordered);
    crate::failpoint!("P9_record", Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut)));
    let mut connection = database.connection().await?;
    let rows = sqlx::query_file!(
        "src/store/record_attempts.sql",
        &columns.tenants,
        &columns.deliveries,
        &columns.attempts,
        &columns.numbers,
        &columns.states,
        &columns.reasons as &[Option<String>],
        &columns.details as &[Option<String>],
        &columns.outcomes,
        &columns.error_codes as &[Option<String>],
        &columns.error_details as &[Option<String>],
        &columns.provider_message_ids as &[Option<String>],
        &columns.counted,
        &columns.waits as &[Option<i32>],
        &columns.dues as &[Option<i32>],
        &columns.event_ids as &[Option<uuid::Uuid>],
        &columns.event_types as &[Option<String>],
        &columns.event_details as &[Option<Value>],
        &columns.identity_keys,
        &columns.breaker_keys as &[Option<String>],
        &columns.decisions,
        &columns.content_hashes as &[Option<Vec<u8>>],
        &columns.cadences as &[Option<String>],
        &columns.period_ends as &[Option<jiff_sqlx::Timestamp>],
        i32::try_from(DIGEST_GRACE.as_secs()).unwrap_or(i32::MAX),
    )
    .fetch_all(&mut *connection)
    .await?;
    connection.give_back();
    crate::failpoint!("P10_recorded", Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut)));

    let mut recorded = Recorded::default();
    let mut events = Vec::new();
    for row in rows {
        if let Some(delivery) = row.delivery_id {
            recorded.deliveries.insert(DeliveryId::from_uuid(delivery));
        }
        if let (Some(tenant), Some(id), Some(detail_type), Some(detail)) =
            (row.tenant_id, row.event_id, row.detail_type, row.detail)
        {
            let event = Event { id: EventId::from_uuid(id), tenant: TenantId::from_uuid(tenant), detail_type, detail };
            events.push((row.created_at.map(|at| at.to_jiff()), event));
        }
    }
    events.sort_by_key(|(at, event)| (*at, event.id));
    recorded.events = events.into_iter().map(|(_, event)| event).collect();
    Ok(recorded)
}

/// Deletes events that are on the bus from the outbox, across tenants.
pub async fn delete_events_across_tenants(database: &Database, published: &[&Event]) -> Result<(), StoreError> {
    if published.is_empty() {
        return Ok(());
    }
    let tenants: Vec<_> = published.iter().map(|event| event.tenant.as_uuid()).collect();
    let ids: Vec<_> = published.iter().map(|event| event.id.as_uuid()).collect();
    let mut connection = database.connection().await?;
    sqlx::query!(
        "DELETE FROM harkara.events
         WHERE (tenant_id, event_id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[]))",
        &tenants,
        &ids,
    )
    .execute(&mut *connection)
    .await?;
    connection.give_back();
    Ok(())
}

/// The columns of a batch, as the statement takes them.
#[derive(Default)]
struct RecordColumns {
    tenants: Vec<uuid::Uuid>,
    deliveries: Vec<uuid::Uuid>,
    attempts: Vec<uuid::Uuid>,
    numbers: Vec<i32>,
    states: Vec<String>,
    reasons: Vec<Option<String>>,
    details: Vec<Option<String>>,
    outcomes: Vec<String>,
    error_codes: Vec<Option<String>>,
    error_details: Vec<Option<String>>,
    provider_message_ids: Vec<Option<String>>,
    counted: Vec<bool>,
    waits: Vec<Option<i32>>,
    dues: Vec<Option<i32>>,
    event_ids: Vec<Option<uuid::Uuid>>,
    event_types: Vec<Option<String>>,
    event_details: Vec<Option<Value>>,
    identity_keys: Vec<String>,
    breaker_keys: Vec<Option<String>>,
    decisions: Vec<Value>,
    content_hashes: Vec<Option<Vec<u8>>>,
    cadences: Vec<Option<String>>,
    period_ends: Vec<Option<jiff_sqlx::Timestamp>>,
}

impl RecordColumns {
    fn of(records: &[&AttemptRecord]) -> Self {
        let mut columns = Self::default();
        for AttemptRecord { key, attempt, attempt_number, identity, settlement, findings, content_hash, event } in
            records
        {
            let Settlement { state, reason, detail, outcome, error, provider_message_id, counted, next } = settlement;
            let (wait, due) = match *next {
                Next::Nothing => (None, None),
                Next::Retry { wait, wake: Wake::Message } => (Some(wait), Some(wait + retry::republish_after(1))),
                Next::Retry { wait, wake: Wake::Dispatcher } => (Some(wait), Some(wait)),
                Next::Feedback { window } => (None, Some(window)),
                Next::DeadLetter => (None, Some(retry::rebury_after(0))),
            };
            let (event_id, event_type, event_detail) = match event.clone() {
                Some((id, detail_type, detail)) => (Some(id.as_uuid()), Some(detail_type), Some(detail)),
                None => (None, None, None),
            };
            let identity_key = format!("identity:{identity}");
            let scope = reason.filter(|_| *outcome == AttemptOutcome::Held).and_then(breaker_scope);
            columns.breaker_keys.push(scope.map(|scope| match scope {
                BreakerScope::Account => "account".to_owned(),
                BreakerScope::Identity => identity_key.clone(),
            }));
            let period = reason.filter(|reason| *reason == Reason::CadenceNotDue).and_then(|_| read_period(findings));
            columns.cadences.push(period.map(|(cadence, _)| cadence.as_str().to_owned()));
            columns.period_ends.push(period.map(|(_, due)| due.to_sqlx()));
            columns.identity_keys.push(identity_key);
            columns.decisions.push(print_findings(findings));
            columns.content_hashes.push(content_hash.map(|hash| hash.to_vec()));
            columns.tenants.push(key.tenant.as_uuid());
            columns.deliveries.push(key.delivery.as_uuid());
            columns.attempts.push(attempt.as_uuid());
            columns.numbers.push(attempt_number.cast_signed());
            columns.states.push(state.as_str().to_owned());
            columns.reasons.push(reason.map(|reason| reason.as_str().to_owned()));
            columns.details.push(detail.clone());
            columns.outcomes.push(outcome.as_str().to_owned());
            columns.error_codes.push(error.as_ref().map(|error| error.code.clone()));
            columns.error_details.push(error.as_ref().map(|error| error.detail.clone()));
            columns.provider_message_ids.push(provider_message_id.clone());
            columns.counted.push(*counted);
            columns.waits.push(wait.map(whole_seconds));
            columns.dues.push(due.map(whole_seconds));
            columns.event_ids.push(event_id);
            columns.event_types.push(event_type);
            columns.event_details.push(event_detail);
        }
        columns
    }
}

/// The cadence that was found to hold a delivery, and when its period ends.
fn read_period(findings: &[Finding]) -> Option<(Cadence, Timestamp)> {
    findings.iter().find_map(|finding| match finding {
        Finding::Cadence { cadence, due, .. } => Some((*cadence, *due)),
        _ => None,
    })
}

/// Whole seconds, as the statements take them; what is left over is dropped.
pub(super) fn whole_seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}
