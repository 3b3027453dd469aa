//! The processor's statements: claim a batch, record a batch, take events off the outbox.
//!
//! They cross tenants, as a batch of messages does; each row names its tenant.

use super::database::{Database, StoreError};
use domain::breaker::{BreakerScope, breaker_scope};
use domain::category::{DeliveryRules, UnknownPolicy};
use domain::delivery::{AttemptOutcome, Channel, DeliveryState};
use domain::event::Event;
use domain::id::{AttemptId, DeliveryId, EventId, NotificationId, TenantId};
use domain::outcome::{AttemptBudget, Next, Settlement};
use domain::render::TemplateSource;
use domain::retry::{self, LONGEST_EARLY, Wake};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

/// How long a claim holds: more than a function may run, so that only a dead worker loses it.
const LEASE_SECONDS: i32 = 90;

/// A delivery that a message asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryKey {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub delivery: DeliveryId,
}

/// What a claim came to.
#[derive(Debug)]
pub enum Claim {
    /// The delivery is this worker's.
    Claimed(Box<ClaimedDelivery>),
    /// It is not its time yet.
    TooEarly {
        /// How long it still waits.
        wait: Duration,
    },
    /// Nothing is to be done: it has ended, waits in the database, or another worker has it.
    NotOpen,
    /// There is no such delivery of that tenant.
    Missing,
}

/// A claimed delivery with everything that it takes to send it.
#[derive(Debug)]
pub struct ClaimedDelivery {
    /// Which.
    pub key: DeliveryKey,
    /// Of which notification.
    pub notification: NotificationId,
    /// On which channel.
    pub channel: Channel,
    /// The attempt's id.
    pub attempt: AttemptId,
    /// The attempt's number; fences what is recorded.
    pub attempt_number: u32,
    /// Attempts, this one included.
    pub budget: AttemptBudget,
    /// The rules that it began with.
    pub rules: DeliveryRules,
    /// Whether its expiry has passed.
    pub expired: bool,
    /// Whether the provider must not be called.
    pub sandbox: bool,
    /// The notification's kind.
    pub category: String,
    /// The recipient, as it is now.
    pub recipient: ClaimedRecipient,
    /// What to render; `None` where the template has no version for the channel.
    pub source: Option<TemplateSource>,
    /// The template's variables.
    pub data: Value,
    /// The caller's own words, for events.
    pub metadata: Value,
    /// Whose breaker its refusals may open: the tenant's sender in lower case, or `default`.
    pub identity: String,
    /// The tenant's sender.
    pub from_address: Option<String>,
    /// The sender's name.
    pub from_name: Option<String>,
}

/// A recipient as templates see it.
#[derive(Debug)]
pub struct ClaimedRecipient {
    /// Its id, where it is a known one.
    pub id: Option<String>,
    /// The mail address.
    pub email: Option<String>,
    /// What to call the recipient.
    pub name: Option<String>,
    /// The language to write in.
    pub locale: String,
    /// The zone to show times in.
    pub time_zone: String,
}

/// What is to be written about an attempt.
#[derive(Debug)]
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
    /// What to tell others: the event's id, type and detail.
    pub event: Option<(EventId, String, Value)>,
}

/// What was written.
#[derive(Debug, Default)]
pub struct Recorded {
    /// The deliveries whose state was changed; what is missing lost its lease.
    pub deliveries: BTreeSet<DeliveryId>,
    /// Every event of these notifications that is not on the bus yet, oldest first.
    pub events: Vec<Event>,
}

/// Claims what is ready of a batch, across tenants, in one statement. `asked` names each delivery once.
pub async fn claim_across_tenants(
    database: &Database,
    asked: &[(DeliveryKey, AttemptId)],
) -> Result<HashMap<DeliveryKey, Claim>, StoreError> {
    if asked.is_empty() {
        return Ok(HashMap::new());
    }
    let tenants: Vec<_> = asked.iter().map(|(key, _)| key.tenant.as_uuid()).collect();
    let deliveries: Vec<_> = asked.iter().map(|(key, _)| key.delivery.as_uuid()).collect();
    let attempts: Vec<_> = asked.iter().map(|(_, attempt)| attempt.as_uuid()).collect();
    crate::failpoint!("P3_claim", Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut)));
    let mut connection = database.connection().await?;
    let rows = sqlx::query_file_as!(
        ClaimRow,
        "src/store/claim_deliveries.sql",
        &tenants,
        &deliveries,
        &attempts,
        LEASE_SECONDS,
        whole_seconds(LONGEST_EARLY),
        whole_seconds(retry::republish_after(1)),
    )
    .fetch_all(&mut *connection)
    .await?;
    connection.give_back();
    crate::failpoint!("P4_claimed", Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut)));
    rows.into_iter().map(ClaimRow::read).collect()
}

/// Hands back what a claim took whose answer was lost, across tenants. Says how many deliveries are queued again.
pub async fn hand_back_across_tenants(
    database: &Database,
    asked: &[(DeliveryKey, AttemptId)],
) -> Result<u64, StoreError> {
    let tenants: Vec<_> = asked.iter().map(|(key, _)| key.tenant.as_uuid()).collect();
    let attempts: Vec<_> = asked.iter().map(|(_, attempt)| attempt.as_uuid()).collect();
    let mut connection = database.connection().await?;
    let done =
        sqlx::query_file!("src/store/hand_back_claims.sql", &tenants, &attempts).execute(&mut *connection).await?;
    connection.give_back();
    Ok(done.rows_affected())
}

/// Records a batch of attempts, across tenants, in one statement.
pub async fn record_across_tenants(database: &Database, records: &[AttemptRecord]) -> Result<Recorded, StoreError> {
    if records.is_empty() {
        return Ok(Recorded::default());
    }
    let columns = RecordColumns::of(records);
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

struct ClaimRow {
    tenant_id: uuid::Uuid,
    delivery_id: uuid::Uuid,
    state: Option<String>,
    verdict: Option<String>,
    wait_seconds: Option<i32>,
    attempt_id: Option<uuid::Uuid>,
    notification_id: Option<uuid::Uuid>,
    channel: Option<String>,
    attempt_count: Option<i32>,
    uncounted_attempt_count: Option<i32>,
    max_attempts: Option<i32>,
    unknown_policy: Option<String>,
    reconcile_window_seconds: Option<i32>,
    expired: Option<bool>,
    sandbox: Option<bool>,
    category_key: Option<String>,
    recipient_id: Option<String>,
    email: Option<String>,
    name: Option<String>,
    locale: Option<String>,
    time_zone: Option<String>,
    subject: Option<String>,
    text_body: Option<String>,
    html_body: Option<String>,
    template_key: Option<String>,
    template_subject: Option<String>,
    template_text: Option<String>,
    template_html: Option<String>,
    data: Option<Value>,
    metadata: Option<Value>,
    from_address: Option<String>,
    from_name: Option<String>,
}

impl ClaimRow {
    fn read(self) -> Result<(DeliveryKey, Claim), StoreError> {
        let key = DeliveryKey {
            tenant: TenantId::from_uuid(self.tenant_id),
            delivery: DeliveryId::from_uuid(self.delivery_id),
        };
        match self.verdict.as_deref() {
            Some("claim") => return Ok((key, Claim::Claimed(Box::new(self.read_claimed(key)?)))),
            Some("skip" | "hold") => return Ok((key, Claim::NotOpen)),
            // Paced deliveries wait for their time like any other that is early.
            _ => {}
        }
        let Some(state) = self.state.as_deref() else { return Ok((key, Claim::Missing)) };
        let state = DeliveryState::parse(state).ok_or(StoreError::Corrupt("delivery state"))?;
        let wait = Duration::from_secs(u64::try_from(self.wait_seconds.unwrap_or(0)).unwrap_or(0));
        let claim = match state {
            DeliveryState::Queued | DeliveryState::Held if !wait.is_zero() => Claim::TooEarly { wait },
            _ => Claim::NotOpen,
        };
        Ok((key, claim))
    }

    fn read_claimed(self, key: DeliveryKey) -> Result<ClaimedDelivery, StoreError> {
        fn there<T>(value: Option<T>, what: &'static str) -> Result<T, StoreError> {
            value.ok_or(StoreError::Corrupt(what))
        }
        let count = |value: Option<i32>, what| there(value.and_then(|value| u32::try_from(value).ok()), what);
        let made = count(self.attempt_count, "attempt count")?;
        let uncounted = count(self.uncounted_attempt_count, "attempt count")?;
        let source = choose_source(
            (self.subject, self.text_body, self.html_body),
            self.template_key.is_some(),
            (self.template_subject, self.template_text, self.template_html),
        );
        Ok(ClaimedDelivery {
            key,
            notification: NotificationId::from_uuid(there(self.notification_id, "notification id")?),
            channel: there(self.channel.as_deref().and_then(Channel::parse), "channel")?,
            attempt: AttemptId::from_uuid(there(self.attempt_id, "attempt id")?),
            attempt_number: made,
            budget: AttemptBudget { spent: made.saturating_sub(uncounted), made },
            rules: DeliveryRules {
                max_attempts: count(self.max_attempts, "attempt limit")?,
                unknown_policy: there(self.unknown_policy.as_deref().and_then(UnknownPolicy::parse), "unknown policy")?,
                reconcile_window_seconds: count(self.reconcile_window_seconds, "reconcile window")?,
            },
            expired: self.expired.unwrap_or(false),
            sandbox: self.sandbox.unwrap_or(false),
            category: there(self.category_key, "category")?,
            recipient: ClaimedRecipient {
                id: self.recipient_id,
                email: self.email,
                name: self.name,
                locale: there(self.locale, "locale")?,
                time_zone: there(self.time_zone, "time zone")?,
            },
            source,
            data: self.data.unwrap_or_default(),
            metadata: self.metadata.unwrap_or_default(),
            identity: self.from_address.as_deref().map_or_else(|| "default".to_owned(), str::to_lowercase),
            from_address: self.from_address,
            from_name: self.from_name,
        })
    }
}

type Parts = (Option<String>, Option<String>, Option<String>);

/// Inline parts go before the template's, each on its own; inline bodies together replace the template's.
fn choose_source(inline: Parts, has_template: bool, template: Parts) -> Option<TemplateSource> {
    let (subject, text, html) = inline;
    let (template_subject, template_text, template_html) = template;
    if has_template && template_subject.is_none() && subject.is_none() {
        return None;
    }
    let (text, html) = if text.is_some() || html.is_some() { (text, html) } else { (template_text, template_html) };
    if text.is_none() && html.is_none() {
        return None;
    }
    Some(TemplateSource { subject: subject.or(template_subject)?, text, html })
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
}

impl RecordColumns {
    fn of(records: &[AttemptRecord]) -> Self {
        let mut columns = Self::default();
        for AttemptRecord { key, attempt, attempt_number, identity, settlement, event } in records {
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
            columns.identity_keys.push(identity_key);
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

fn whole_seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(subject: &str, text: &str, html: &str) -> Parts {
        let part = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        (part(subject), part(text), part(html))
    }

    #[test]
    fn inline_parts_go_before_the_templates() {
        let source = |inline, has, template| choose_source(inline, has, template).map(|s| (s.subject, s.text, s.html));
        let template = || parts("ts", "tt", "th");
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(source(parts("", "", ""), true, template()), Some(("ts".into(), some("tt"), some("th"))));
        assert_eq!(source(parts("s", "", ""), true, template()), Some(("s".into(), some("tt"), some("th"))));
        assert_eq!(source(parts("", "t", ""), true, template()), Some(("ts".into(), some("t"), None)));
        assert_eq!(source(parts("s", "", "h"), false, parts("", "", "")), Some(("s".into(), None, some("h"))));
        assert_eq!(source(parts("", "t", ""), true, parts("", "", "")), None);
    }
}
