//! Who opens a link of a mail, as far as the tenant knows.

use super::database::{StoreError, TenantTransaction};
use domain::link::SubjectId;

/// The person behind a link, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectRow {
    /// The tenant's name.
    pub tenant_name: String,
    /// The language of those who have none.
    pub tenant_locale: String,
    /// The recipient's own language.
    pub locale: Option<String>,
    /// The recipient's zone, or else the tenant's.
    pub time_zone: String,
    /// What the recipient is, for rules.
    pub roles: Vec<String>,
    /// Whether the recipient can get text messages.
    pub has_phone: bool,
}

/// Reads who a subject is. An address that was mailed without being a recipient's has nothing but its tenant's values.
pub async fn read_subject(transaction: &mut TenantTransaction, subject: SubjectId) -> Result<SubjectRow, StoreError> {
    let row = sqlx::query!(
        r#"SELECT t.name, t.locale AS tenant_locale, r.locale AS "locale?",
                  coalesce(r.time_zone, t.time_zone) AS "time_zone!", coalesce(r.roles, '{}') AS "roles!",
                  r.phone IS NOT NULL AS "has_phone!"
           FROM harkara.tenants t
           LEFT JOIN harkara.recipients r ON r.tenant_id = t.tenant_id AND r.subject_id = $2 AND r.erased_at IS NULL
           WHERE t.tenant_id = $1"#,
        transaction.tenant.as_uuid(),
        subject.as_uuid(),
    )
    .fetch_one(&mut *transaction.connection)
    .await?;
    Ok(SubjectRow {
        tenant_name: row.name,
        tenant_locale: row.tenant_locale,
        locale: row.locale,
        time_zone: row.time_zone,
        roles: row.roles,
        has_phone: row.has_phone,
    })
}

/// Lets one request at a time change what a subject wants, by a link or by the API, until the transaction ends: two at once
/// read and replace one after the other. Whoever replaces wishes takes it before reading them.
pub async fn lock_subject(transaction: &mut TenantTransaction, subject: SubjectId) -> Result<(), StoreError> {
    sqlx::query!(
        "SELECT pg_advisory_xact_lock(hashtextextended('wishes ' || $1::uuid || $2::uuid, 0))",
        transaction.tenant.as_uuid(),
        subject.as_uuid(),
    )
    .fetch_one(&mut *transaction.connection)
    .await?;
    Ok(())
}
