//! What recipients agreed to: the ledger `harkara.consents`, to which entries are only added.

use super::database::{StoreError, TenantTransaction};
use super::preferences::read_channel;
use crate::wire::consents::ConsentBody;
use crate::wire::pages::Page;
use domain::delivery::Channel;
use domain::link::SubjectId;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::Value;

/// Something that a recipient said.
#[derive(Clone, PartialEq)]
pub struct Consent {
    /// For what.
    pub purpose: String,
    /// On which channel; `None` is all of them.
    pub channel: Option<Channel>,
    /// Given, or taken back.
    pub is_granted: bool,
    /// Where it was said.
    pub source: String,
    /// What shows it.
    pub evidence: Value,
    /// When it was said.
    pub said_at: Timestamp,
}

domain::masked_debug!(Consent, "Consent", purpose, channel, is_granted, source, said_at);

/// An entry of the ledger.
#[derive(Clone, Debug)]
pub struct ConsentEntry {
    /// Its id.
    pub id: uuid::Uuid,
    /// What was said.
    pub consent: Consent,
    /// When it was entered.
    pub created_at: Timestamp,
}

/// Enters something that a recipient said; what names no time was said now. `id` is a new UUIDv7.
/// Whoever erases the recipient waits until this is entered. `None` where it is erased already.
pub async fn add_consent(
    transaction: &mut TenantTransaction,
    id: uuid::Uuid,
    subject: SubjectId,
    said: ConsentBody,
) -> Result<Option<ConsentEntry>, StoreError> {
    let ConsentBody { purpose, channel, is_granted, source, evidence, said_at } = said;
    let row = sqlx::query!(
        r#"INSERT INTO harkara.consents
               (tenant_id, consent_id, subject_id, purpose, channel, is_granted, source, evidence, said_at)
           SELECT $1, $2, r.subject_id, $4, $5, $6, $7, $8, coalesce($9, harkara.now())
           FROM harkara.recipients r WHERE r.tenant_id = $1 AND r.subject_id = $3 AND r.erased_at IS NULL FOR KEY SHARE
           RETURNING said_at AS "said_at: jiff_sqlx::Timestamp", created_at AS "created_at: jiff_sqlx::Timestamp""#,
        transaction.tenant.as_uuid(),
        id,
        subject.as_uuid(),
        purpose,
        channel.map_or("*", Channel::as_str),
        is_granted,
        source,
        evidence,
        said_at.map(|at| at.to_sqlx()) as Option<jiff_sqlx::Timestamp>,
    )
    .fetch_optional(&mut *transaction.connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let consent = Consent { purpose, channel, is_granted, source, evidence, said_at: row.said_at.to_jiff() };
    Ok(Some(ConsentEntry { id, consent, created_at: row.created_at.to_jiff() }))
}

/// A page of what a recipient said, newest first.
pub async fn list_consents(
    transaction: &mut TenantTransaction,
    subject: SubjectId,
    page: &Page,
) -> Result<Vec<ConsentEntry>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT consent_id, purpose, channel, is_granted, source, evidence,
                  said_at AS "said_at: jiff_sqlx::Timestamp", created_at AS "created_at: jiff_sqlx::Timestamp"
           FROM harkara.consents
           WHERE tenant_id = $1 AND subject_id = $2
             AND ($3::timestamptz IS NULL OR (created_at, consent_id) < ($3, $4::uuid))
           ORDER BY created_at DESC, consent_id DESC
           LIMIT $5"#,
        transaction.tenant.as_uuid(),
        subject.as_uuid(),
        page.after.map(|cursor| cursor.at.to_sqlx()) as Option<jiff_sqlx::Timestamp>,
        page.after.map(|cursor| cursor.id),
        i64::from(page.size) + 1,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let entries = rows.into_iter().map(|row| {
        Ok(ConsentEntry {
            id: row.consent_id,
            consent: Consent {
                purpose: row.purpose,
                channel: read_channel(&row.channel)?,
                is_granted: row.is_granted,
                source: row.source,
                evidence: row.evidence,
                said_at: row.said_at.to_jiff(),
            },
            created_at: row.created_at.to_jiff(),
        })
    });
    entries.collect()
}
