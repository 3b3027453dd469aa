//! A tenant's own suppressions: addresses that its mail leaves alone.
//!
//! Feedback adds what bounces and what complains, and people add the rest here. The provider's own list is the
//! operator's: it holds for every tenant, and a tenant only learns of an address whether it is on it.

use super::database::{StoreError, TenantTransaction};
use crate::ids::new_uuid;
use crate::wire::pages::Page;
use domain::feedback::SuppressionReason;
use domain::id::EventId;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::json;
use std::fmt;

/// Who put an address on the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuppressionSource {
    /// The provider told of a mail.
    Feedback,
    /// It is on the provider's own list.
    ProviderList,
    /// People, through the API.
    Api,
}

impl SuppressionSource {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Feedback, Self::ProviderList, Self::Api];

    /// As the database has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Feedback => "feedback",
            Self::ProviderList => "provider_list",
            Self::Api => "api",
        }
    }

    /// Reads the name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|source| source.as_str() == text)
    }
}

/// A suppressed address.
#[derive(Clone, PartialEq, Eq)]
pub struct Suppression {
    /// Its row.
    pub id: uuid::Uuid,
    /// In lower case.
    pub address: String,
    /// Why.
    pub reason: SuppressionReason,
    /// By whom.
    pub source: SuppressionSource,
    /// Since when.
    pub created_at: Timestamp,
}

impl fmt::Debug for Suppression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suppression").field("id", &self.id).field("reason", &self.reason).finish_non_exhaustive()
    }
}

/// Which suppressions; what is `None` does not matter.
#[derive(Clone, Copy, Debug, Default)]
pub struct SuppressionFilter {
    /// For this reason.
    pub reason: Option<SuppressionReason>,
    /// From this source.
    pub source: Option<SuppressionSource>,
}

/// A page of the tenant's own suppressions, newest first.
pub async fn list_suppressions(
    transaction: &mut TenantTransaction,
    filter: SuppressionFilter,
    page: &Page,
) -> Result<Vec<Suppression>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT suppression_id, address, reason, source, created_at AS "created_at: jiff_sqlx::Timestamp"
           FROM harkara.suppressions
           WHERE tenant_id = $1
             AND ($2::text IS NULL OR reason = $2)
             AND ($3::text IS NULL OR source = $3)
             AND ($4::timestamptz IS NULL OR (created_at, suppression_id) < ($4, $5::uuid))
           ORDER BY created_at DESC, suppression_id DESC
           LIMIT $6"#,
        transaction.tenant.as_uuid(),
        filter.reason.map(SuppressionReason::as_str),
        filter.source.map(SuppressionSource::as_str),
        page.after.map(|cursor| cursor.at.to_sqlx()) as Option<jiff_sqlx::Timestamp>,
        page.after.map(|cursor| cursor.id),
        i64::from(page.size) + 1,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    rows.into_iter().map(Row::read).collect()
}

/// The tenant's own suppression of an address.
pub async fn get_suppression(
    transaction: &mut TenantTransaction,
    address: &str,
) -> Result<Option<Suppression>, StoreError> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT suppression_id, address, reason, source, created_at AS "created_at: jiff_sqlx::Timestamp"
           FROM harkara.suppressions WHERE tenant_id = $1 AND address = lower($2)"#,
        transaction.tenant.as_uuid(),
        address,
    )
    .fetch_optional(&mut *transaction.connection)
    .await?;
    row.map(Row::read).transpose()
}

/// Since when an address is on the provider's own list, whosever mail brought it there.
pub async fn read_listing(transaction: &mut TenantTransaction, address: &str) -> Result<Option<Timestamp>, StoreError> {
    let since = sqlx::query_scalar!(r#"SELECT harkara.listed_since($1) AS "since: jiff_sqlx::Timestamp""#, address)
        .fetch_one(&mut *transaction.connection)
        .await?;
    Ok(since.map(|at| at.to_jiff()))
}

/// Suppresses an address for the tenant, by people's word. What is there already stays, unless a delivery would lift it;
/// then it becomes theirs. Claims of the address that are under way are waited for: none commits afterwards.
pub async fn put_suppression(transaction: &mut TenantTransaction, address: &str) -> Result<(), StoreError> {
    let event = new_uuid();
    sqlx::query!(
        "WITH put AS (
             INSERT INTO harkara.suppressions AS s (tenant_id, address, reason, source)
             VALUES ($1, lower($2), 'manual', 'api')
             ON CONFLICT (tenant_id, address) DO UPDATE
                 SET reason = excluded.reason, source = excluded.source
                 WHERE s.reason = 'soft_bounces'
             RETURNING s.suppression_id
         )
         INSERT INTO harkara.events (tenant_id, event_id, notification_id, detail_type, detail)
         SELECT $1, $3, '00000000-0000-0000-0000-000000000000', 'suppression.added',
                $4::jsonb || jsonb_build_object('suppression_id', p.suppression_id, 'reason', 'manual', 'source', 'api')
         FROM put p",
        transaction.tenant.as_uuid(),
        address,
        event,
        json!({"event_id": EventId::from_uuid(event).to_string(), "tenant_id": transaction.tenant.to_string()}),
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(())
}

/// Removes the tenant's own suppression of an address. Soft bounces that were counted before count no more.
pub async fn remove_suppression(
    transaction: &mut TenantTransaction,
    suppression: &Suppression,
) -> Result<(), StoreError> {
    let event = new_uuid();
    sqlx::query!(
        "WITH removed AS (
             DELETE FROM harkara.suppressions s
             WHERE s.tenant_id = $1 AND s.suppression_id = $2
             RETURNING s.suppression_id, s.address, s.reason, s.source
         ),
         forgotten AS (
             DELETE FROM harkara.soft_bounces b
             USING removed r
             WHERE b.tenant_id = $1 AND b.address = r.address
         )
         INSERT INTO harkara.events (tenant_id, event_id, notification_id, detail_type, detail)
         SELECT $1, $3, '00000000-0000-0000-0000-000000000000', 'suppression.removed',
                $4::jsonb || jsonb_build_object('suppression_id', r.suppression_id, 'reason', r.reason, 'source', r.source)
         FROM removed r",
        transaction.tenant.as_uuid(),
        suppression.id,
        event,
        json!({"event_id": EventId::from_uuid(event).to_string(), "tenant_id": transaction.tenant.to_string()}),
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(())
}

struct Row {
    suppression_id: uuid::Uuid,
    address: String,
    reason: String,
    source: String,
    created_at: jiff_sqlx::Timestamp,
}

impl Row {
    fn read(self) -> Result<Suppression, StoreError> {
        Ok(Suppression {
            id: self.suppression_id,
            address: self.address,
            reason: SuppressionReason::parse(&self.reason).ok_or(StoreError::Corrupt("reason of a suppression"))?,
            source: SuppressionSource::parse(&self.source).ok_or(StoreError::Corrupt("source of a suppression"))?,
            created_at: self.created_at.to_jiff(),
        })
    }
}
