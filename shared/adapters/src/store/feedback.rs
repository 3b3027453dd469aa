//! Feedback's statements: take the attempts that events speak of, write what becomes of them, and keep the provider's
//! own list of addresses and the account's rate.
//!
//! They cross tenants, as a batch of events does. What is taken stays locked until it is written, and no network call
//! lies between.

use super::database::{Database, Lent, StoreError, commit};
use crate::ids::new_uuid;
use domain::account::ListedAddress;
use domain::delivery::{AttemptOutcome, DeliveryState, Reason};
use domain::event::{Event, event_type};
use domain::feedback::{
    AddressStep, AttemptStanding, DeliveryStanding, Feedback, SOFT_BOUNCES_IN_A_ROW, SuppressionReason,
};
use domain::id::{AttemptId, DeliveryId, EventId, NotificationId, TenantId};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;

/// Addresses of the provider's list that are written at a time: each takes a lock until it is committed.
const LISTED_AT_A_TIME: usize = 200;

/// An attempt as the tags of its mail name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptTag {
    /// Of which tenant's.
    pub tenant: TenantId,
    /// Of which notification.
    pub notification: NotificationId,
    /// Its number.
    pub attempt_number: u32,
}

/// What there is under a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The attempt, locked.
    Attempt(TakenAttempt),
    /// Somebody else is writing it.
    Busy,
    /// No tenant has such an attempt of such a notification.
    Missing,
}

/// An attempt that an event speaks of.
#[derive(Clone, PartialEq, Eq)]
pub struct TakenAttempt {
    /// Which.
    pub attempt: AttemptId,
    /// Of which delivery.
    pub delivery: DeliveryId,
    /// How the delivery stands.
    pub delivery_standing: DeliveryStanding,
    /// How the attempt stands.
    pub standing: AttemptStanding,
    /// How the attempt ended, where it was recorded.
    pub outcome: Option<AttemptOutcome>,
    /// The provider's id of its mail, where it is known.
    pub provider_message_id: Option<String>,
    /// Where the delivery goes, as it is now.
    pub address: Option<String>,
    started_at: Timestamp,
}

domain::masked_debug!(TakenAttempt, "TakenAttempt", attempt, delivery, delivery_standing, standing, outcome);

/// The attempts that a batch of events speaks of, locked until they are written.
pub struct TakenFeedback {
    /// What there is under each tag.
    pub attempts: HashMap<AttemptTag, Taken>,
    transaction: Lent,
}

/// What becomes of what was taken.
#[derive(Clone, Default)]
pub struct FeedbackRecord {
    attempts: BTreeMap<AttemptId, AttemptRow>,
    deliveries: BTreeMap<DeliveryId, DeliveryRow>,
    addresses: BTreeMap<(TenantId, String), AddressRow>,
}

domain::masked_debug!(FeedbackRecord, "FeedbackRecord", attempts, deliveries);

#[derive(Clone, Debug)]
struct AttemptRow {
    tenant: TenantId,
    started_at: Timestamp,
    feedback: Feedback,
    message_id: String,
}

#[derive(Clone)]
struct DeliveryRow {
    tenant: TenantId,
    before: DeliveryState,
    standing: DeliveryStanding,
    detail: Option<String>,
    message_id: String,
}

domain::masked_debug!(DeliveryRow, "DeliveryRow", tenant, before, standing);

#[derive(Clone, Copy, Debug, Default)]
struct AddressRow {
    is_sound: bool,
    soft_bounces: u32,
    reason: Option<SuppressionReason>,
}

impl FeedbackRecord {
    /// Whether nothing is to be written.
    pub fn is_empty(&self) -> bool {
        self.attempts.is_empty()
    }

    /// Keeps what was said of an attempt; what is said later in the batch replaces it.
    pub fn keep_feedback(&mut self, tenant: TenantId, taken: &TakenAttempt, feedback: Feedback, message_id: &str) {
        let row = AttemptRow { tenant, started_at: taken.started_at, feedback, message_id: message_id.to_owned() };
        self.attempts.insert(taken.attempt, row);
    }

    /// Moves a delivery. Of several moves in a batch, the last one is written and told.
    pub fn move_delivery(
        &mut self,
        tenant: TenantId,
        taken: &TakenAttempt,
        standing: DeliveryStanding,
        detail: Option<String>,
        message_id: &str,
    ) {
        let before = self.deliveries.get(&taken.delivery).map_or(taken.delivery_standing.state, |row| row.before);
        let row = DeliveryRow { tenant, before, standing, detail, message_id: message_id.to_owned() };
        self.deliveries.insert(taken.delivery, row);
    }

    /// Adds what was learnt of an address. The last delivery of the batch forgets the soft bounces before it.
    pub fn note_address(&mut self, tenant: TenantId, address: &str, step: AddressStep) {
        if step == AddressStep::Nothing {
            return;
        }
        let row = self.addresses.entry((tenant, address.to_lowercase())).or_default();
        match step {
            AddressStep::Nothing => {}
            AddressStep::CountSoftBounce => row.soft_bounces += 1,
            AddressStep::ForgetSoftBounces => (row.is_sound, row.soft_bounces) = (true, 0),
            AddressStep::Suppress(reason) => row.reason = Some(reason),
        }
    }
}

/// Takes the attempts that events speak of, across tenants. `asked` names each once.
pub async fn take_feedback_across_tenants(
    database: &Database,
    asked: &[AttemptTag],
) -> Result<TakenFeedback, StoreError> {
    let tenants: Vec<_> = asked.iter().map(|tag| tag.tenant.as_uuid()).collect();
    let notifications: Vec<_> = asked.iter().map(|tag| tag.notification.as_uuid()).collect();
    let numbers: Vec<_> = asked.iter().map(|tag| tag.attempt_number.cast_signed()).collect();
    let mut transaction = database.begin_across_tenants().await?;
    let rows = sqlx::query_file!("src/store/take_feedback.sql", &tenants, &notifications, &numbers)
        .fetch_all(&mut *transaction)
        .await?;
    let mut attempts = HashMap::with_capacity(rows.len());
    for row in rows {
        let tag = AttemptTag {
            tenant: TenantId::from_uuid(row.tenant_id),
            notification: NotificationId::from_uuid(row.notification_id),
            attempt_number: row.attempt_number.cast_unsigned(),
        };
        let (Some(delivery), Some(attempt), Some(started_at), Some(state), Some(attempt_count)) =
            (row.delivery_id, row.attempt_id, row.started_at, row.state, row.attempt_count)
        else {
            attempts.insert(tag, if row.is_there { Taken::Busy } else { Taken::Missing });
            continue;
        };
        let taken = TakenAttempt {
            attempt: AttemptId::from_uuid(attempt),
            delivery: DeliveryId::from_uuid(delivery),
            delivery_standing: DeliveryStanding {
                state: DeliveryState::parse(&state).ok_or(StoreError::Corrupt("delivery state"))?,
                reason: read_name(row.reason, Reason::parse, "reason")?,
            },
            standing: AttemptStanding {
                feedback: read_name(row.feedback, Feedback::parse, "feedback")?,
                is_latest: row.attempt_number == attempt_count,
            },
            outcome: read_name(row.outcome, AttemptOutcome::parse, "outcome")?,
            provider_message_id: row.provider_message_id,
            address: row.address,
            started_at: started_at.to_jiff(),
        };
        attempts.insert(tag, Taken::Attempt(taken));
    }
    Ok(TakenFeedback { attempts, transaction })
}

impl TakenFeedback {
    /// Writes what becomes of what was taken, in one statement, lets go of it, and returns the events to tell.
    pub async fn write_feedback(mut self, record: &FeedbackRecord) -> Result<Vec<Event>, StoreError> {
        if record.is_empty() {
            commit(self.transaction).await?;
            return Ok(Vec::new());
        }
        let columns = RecordColumns::of(record);
        let rows = sqlx::query_file!(
            "src/store/write_feedback.sql",
            &columns.attempt_tenants,
            &columns.attempts,
            &columns.started_ats as &[jiff_sqlx::Timestamp],
            &columns.feedbacks,
            &columns.attempt_message_ids,
            &columns.delivery_tenants,
            &columns.deliveries,
            &columns.states,
            &columns.reasons as &[Option<String>],
            &columns.details as &[Option<String>],
            &columns.delivery_message_ids,
            &columns.event_ids,
            &columns.event_types as &[Option<String>],
            &columns.address_tenants,
            &columns.addresses,
            &columns.sound,
            &columns.soft_bounces,
            &columns.address_reasons as &[Option<String>],
            SOFT_BOUNCES_IN_A_ROW.cast_signed(),
        )
        .fetch_all(&mut *self.transaction)
        .await?;
        crate::failpoint!("V3_written", Err(StoreError::Corrupt("failpoint")));
        commit(self.transaction).await?;
        let event = rows.into_iter().map(|row| Event {
            id: EventId::from_uuid(row.event_id),
            tenant: TenantId::from_uuid(row.tenant_id),
            detail_type: row.detail_type,
            detail: row.detail,
        });
        Ok(event.collect())
    }
}

/// The database's time, across tenants: what the list holds since before it may be removed by a run that began then.
pub async fn begin_listing_across_tenants(database: &Database) -> Result<Timestamp, StoreError> {
    let mut connection = database.connection().await?;
    let now = sqlx::query_scalar!(r#"SELECT harkara.now() AS "now!: jiff_sqlx::Timestamp""#)
        .fetch_one(&mut *connection)
        .await?;
    connection.give_back();
    Ok(now.to_jiff())
}

/// Adds addresses that the provider does not deliver to, for every tenant: they are the operator's.
/// Returns how many are new.
pub async fn add_listed_across_tenants(database: &Database, listed: &[ListedAddress]) -> Result<u64, StoreError> {
    let mut added = 0;
    for chunk in listed.chunks(LISTED_AT_A_TIME) {
        let addresses: Vec<_> = chunk.iter().map(|listed| listed.address.clone()).collect();
        let reasons: Vec<_> = chunk.iter().map(|listed| listed.reason.as_str().to_owned()).collect();
        let mut connection = database.connection().await?;
        let done = sqlx::query!(
            "INSERT INTO harkara.suppressions (tenant_id, address, reason, source)
             SELECT '00000000-0000-0000-0000-000000000000', lower(g.address), min(g.reason), 'provider_list'
             FROM unnest($1::text[], $2::text[]) AS g (address, reason)
             WHERE NOT EXISTS (
                 SELECT FROM harkara.suppressions s
                 WHERE s.tenant_id = '00000000-0000-0000-0000-000000000000' AND s.address = lower(g.address))
             GROUP BY lower(g.address)
             ORDER BY harkara.address_lock(lower(g.address))
             ON CONFLICT (tenant_id, address) DO NOTHING",
            &addresses,
            &reasons,
        )
        .execute(&mut *connection)
        .await?;
        connection.give_back();
        added += done.rows_affected();
    }
    Ok(added)
}

/// Removes, for every tenant, the addresses that left the provider's list. `listed` is the whole of it, read since `began_at`.
/// Returns how many they were.
pub async fn remove_unlisted_across_tenants(
    database: &Database,
    listed: &[String],
    began_at: Timestamp,
) -> Result<u64, StoreError> {
    let mut connection = database.connection().await?;
    let done = sqlx::query!(
        "DELETE FROM harkara.suppressions s
         WHERE s.tenant_id = '00000000-0000-0000-0000-000000000000' AND s.source = 'provider_list'
           AND s.created_at < $2
           AND NOT EXISTS (SELECT FROM unnest($1::text[]) AS g (address) WHERE lower(g.address) = s.address)",
        listed,
        began_at.to_sqlx() as jiff_sqlx::Timestamp,
    )
    .execute(&mut *connection)
    .await?;
    connection.give_back();
    Ok(done.rows_affected())
}

/// Sets the rate of the provider's account, which all tenants share.
pub async fn set_send_rate_across_tenants(database: &Database, sends_per_second: NonZeroU32) -> Result<(), StoreError> {
    let mut connection = database.connection().await?;
    sqlx::query!(
        "UPDATE harkara.send_pace SET sends_per_second = $1
         WHERE tenant_id = '00000000-0000-0000-0000-000000000000' AND sends_per_second IS DISTINCT FROM $1",
        i32::try_from(sends_per_second.get()).unwrap_or(i32::MAX),
    )
    .execute(&mut *connection)
    .await?;
    connection.give_back();
    Ok(())
}

fn read_name<T>(
    name: Option<String>,
    parse: fn(&str) -> Option<T>,
    what: &'static str,
) -> Result<Option<T>, StoreError> {
    name.map(|name| parse(&name).ok_or(StoreError::Corrupt(what))).transpose()
}

/// The columns of a record, as the statement takes them.
#[derive(Default)]
struct RecordColumns {
    attempt_tenants: Vec<uuid::Uuid>,
    attempts: Vec<uuid::Uuid>,
    started_ats: Vec<jiff_sqlx::Timestamp>,
    feedbacks: Vec<String>,
    attempt_message_ids: Vec<String>,
    delivery_tenants: Vec<uuid::Uuid>,
    deliveries: Vec<uuid::Uuid>,
    states: Vec<String>,
    reasons: Vec<Option<String>>,
    details: Vec<Option<String>>,
    delivery_message_ids: Vec<String>,
    event_ids: Vec<uuid::Uuid>,
    event_types: Vec<Option<String>>,
    address_tenants: Vec<uuid::Uuid>,
    addresses: Vec<String>,
    sound: Vec<bool>,
    soft_bounces: Vec<i32>,
    address_reasons: Vec<Option<String>>,
}

impl RecordColumns {
    fn of(record: &FeedbackRecord) -> Self {
        let mut columns = Self::default();
        for (id, AttemptRow { tenant, started_at, feedback, message_id }) in &record.attempts {
            columns.attempt_tenants.push(tenant.as_uuid());
            columns.attempts.push(id.as_uuid());
            columns.started_ats.push(started_at.to_sqlx());
            columns.feedbacks.push(feedback.as_str().to_owned());
            columns.attempt_message_ids.push(message_id.clone());
        }
        for (id, DeliveryRow { tenant, before, standing, detail, message_id }) in &record.deliveries {
            // Another reason for the same state is no news to others.
            let told = event_type(standing.state).filter(|_| *before != standing.state);
            columns.delivery_tenants.push(tenant.as_uuid());
            columns.deliveries.push(id.as_uuid());
            columns.states.push(standing.state.as_str().to_owned());
            columns.reasons.push(standing.reason.map(|reason| reason.as_str().to_owned()));
            columns.details.push(detail.clone());
            columns.delivery_message_ids.push(message_id.clone());
            columns.event_ids.push(new_uuid());
            columns.event_types.push(told.map(str::to_owned));
        }
        for ((tenant, address), AddressRow { is_sound, soft_bounces, reason }) in &record.addresses {
            columns.address_tenants.push(tenant.as_uuid());
            columns.addresses.push(address.clone());
            columns.sound.push(*is_sound);
            columns.soft_bounces.push(soft_bounces.cast_signed());
            columns.address_reasons.push(reason.map(|reason| reason.as_str().to_owned()));
        }
        columns
    }
}
