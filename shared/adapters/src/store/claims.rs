//! The processor's first statement: claims what is ready of a batch, with what it takes to decide about it.
//!
//! It crosses tenants, as a batch of messages does; each row names its tenant.

use super::claim_row::ClaimRow;
use super::database::{Database, StoreError};
use domain::calendar::Invitation;
use domain::category::DeliveryRules;
use domain::decision::DispatchFacts;
use domain::delivery::Channel;
use domain::id::{AttachmentId, AttemptId, CategoryKey, DeliveryId, EscalationId, NotificationId, TenantId};
use domain::link::SubjectId;
use domain::notification::InlineContent;
use domain::outcome::AttemptBudget;
use domain::retry::{self, LONGEST_EARLY};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::HashMap;
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
    /// This code cannot read its row. It says nothing about the others of the batch.
    Unreadable {
        /// What of it.
        error: StoreError,
        /// The attempt that was begun, and its number, where one was.
        attempt: Option<(AttemptId, u32)>,
    },
}

/// What the links of a mail act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acting {
    /// The escalation.
    pub escalation: EscalationId,
    /// Until when.
    pub expires_at: Timestamp,
}

/// A claimed delivery with everything that it takes to send it.
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
    /// What is to be decided on.
    pub facts: DispatchFacts,
    /// Whether the provider must not be called.
    pub sandbox: bool,
    /// The notification's kind.
    pub category: CategoryKey,
    /// What people call it.
    pub category_name: Option<String>,
    /// The recipient, as it is now.
    pub recipient: ClaimedRecipient,
    /// Words of the request's own.
    pub content: InlineContent,
    /// The template, where one is used.
    pub template: Option<ClaimedTemplate>,
    /// The template's variables.
    pub data: Value,
    /// The caller's own words, for events.
    pub metadata: Value,
    /// The files that leave with it, in order.
    pub attachments: Vec<AttachmentId>,
    /// The event that it invites to.
    pub invitation: Option<Invitation>,
    /// When the notification was accepted.
    pub accepted_at: Timestamp,
    /// What the links in it act on, where an escalation asked for it.
    pub acting: Option<Acting>,
    /// Whose breaker its refusals may open: the tenant's sender in lower case, or `default`.
    pub identity: String,
    /// What the tenant is called.
    pub tenant_name: String,
    /// The tenant's salt, for what logs may say of an address.
    pub salt: Vec<u8>,
    /// The tenant's sender.
    pub from_address: Option<String>,
    /// The sender's name.
    pub from_name: Option<String>,
}

domain::masked_debug!(
    ClaimedDelivery,
    "ClaimedDelivery",
    key,
    notification,
    channel,
    attempt,
    attempt_number,
    sandbox,
    category,
    recipient
);

/// A template that a delivery is rendered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedTemplate {
    /// Its key.
    pub key: String,
    /// The variant for the recipient's language, and the version; `None` where there is none for the channel.
    pub version: Option<(String, i32)>,
}

/// A recipient as templates see it.
pub struct ClaimedRecipient {
    /// Its id, where it is a known one.
    pub id: Option<String>,
    /// Who that is to preferences and links.
    pub subject: SubjectId,
    /// The mail address.
    pub email: Option<String>,
    /// What to call the recipient.
    pub name: Option<String>,
    /// The language to write in.
    pub locale: String,
    /// The zone to show times in.
    pub time_zone: String,
    /// What else the tenant keeps about it.
    pub attributes: Value,
}

domain::masked_debug!(ClaimedRecipient, "ClaimedRecipient", subject, locale, time_zone);

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
        super::attempts::whole_seconds(LONGEST_EARLY),
        super::attempts::whole_seconds(retry::republish_after(1)),
    )
    .fetch_all(&mut *connection)
    .await?;
    connection.give_back();
    crate::failpoint!("P4_claimed", Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut)));
    Ok(rows.into_iter().map(ClaimRow::read).collect())
}

/// Hands back what a claim took whose answer was lost, across tenants. Says how many deliveries are queued again.
pub async fn hand_back_across_tenants(
    database: &Database,
    asked: &[(DeliveryKey, AttemptId)],
) -> Result<u64, StoreError> {
    let tenants: Vec<_> = asked.iter().map(|(key, _)| key.tenant.as_uuid()).collect();
    let attempts: Vec<_> = asked.iter().map(|(_, attempt)| attempt.as_uuid()).collect();
    let mut connection = database.connection().await?;
    let count = sqlx::query_file_scalar!("src/store/hand_back_claims.sql", &tenants, &attempts)
        .fetch_one(&mut *connection)
        .await?;
    connection.give_back();
    Ok(count.unsigned_abs())
}
