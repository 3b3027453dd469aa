//! What people manage: recipients, categories, templates.

use super::database::{StoreError, TenantTransaction};
use crate::wire::managed::{CategoryBody, RecipientBody, TemplateBody};
use domain::id::{CategoryKey, RecipientKey, TemplateKey};
use jiff::Timestamp;

/// A stored recipient.
#[derive(Debug)]
pub struct RecipientRow {
    /// The mail address.
    pub email: Option<String>,
    /// The phone number.
    pub phone: Option<String>,
    /// What to call the recipient.
    pub name: Option<String>,
    /// The language to write in.
    pub locale: Option<String>,
    /// The zone to show times in.
    pub time_zone: Option<String>,
    /// What the recipient is, for rules.
    pub roles: Vec<String>,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A stored category.
#[derive(Debug)]
pub struct CategoryRow {
    /// What it is for.
    pub class: String,
    /// The channels to use.
    pub channels: Vec<String>,
    /// The template to use.
    pub template_key: Option<String>,
    /// Attempts that may be spent on a delivery.
    pub max_attempts: i32,
    /// How an attempt of unknown outcome is settled.
    pub unknown_policy: String,
    /// How long to wait for feedback first.
    pub reconcile_window_seconds: i32,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// The newest version of a template in one channel and locale.
#[derive(Debug)]
pub struct TemplateVersionRow {
    /// The channel.
    pub channel: String,
    /// The language.
    pub locale: String,
    /// Its number.
    pub version: i32,
    /// The subject.
    pub subject: String,
    /// The text part.
    pub text_body: Option<String>,
    /// The HTML part.
    pub html_body: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Makes or replaces a recipient.
pub async fn put_recipient(
    transaction: &mut TenantTransaction,
    key: &RecipientKey,
    body: &RecipientBody,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO harkara.recipients (tenant_id, recipient_id, email, phone, name, locale, time_zone, roles)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (tenant_id, recipient_id) DO UPDATE
         SET email = excluded.email, phone = excluded.phone, name = excluded.name, locale = excluded.locale,
             time_zone = excluded.time_zone, roles = excluded.roles, updated_at = now()",
        transaction.tenant.as_uuid(),
        key.as_str(),
        body.email.as_ref().map(|email| email.as_str()),
        body.phone.as_ref().map(|phone| phone.as_str()),
        body.name.as_ref().map(|name| name.as_str()),
        body.locale.as_ref().map(|locale| locale.as_str()),
        body.time_zone.as_ref().map(|zone| zone.as_str()),
        &body.roles,
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(())
}

/// A recipient of the tenant.
pub async fn get_recipient(
    transaction: &mut TenantTransaction,
    key: &RecipientKey,
) -> Result<Option<RecipientRow>, StoreError> {
    let row = sqlx::query!(
        r#"SELECT email, phone, name, locale, time_zone, roles, updated_at AS "updated_at: jiff_sqlx::Timestamp"
           FROM harkara.recipients WHERE tenant_id = $1 AND recipient_id = $2"#,
        transaction.tenant.as_uuid(),
        key.as_str(),
    )
    .fetch_optional(&mut *transaction.connection)
    .await?;
    Ok(row.map(|row| RecipientRow {
        email: row.email,
        phone: row.phone,
        name: row.name,
        locale: row.locale,
        time_zone: row.time_zone,
        roles: row.roles,
        updated_at: row.updated_at.to_jiff(),
    }))
}

/// Makes or replaces a category. False where its template does not exist.
pub async fn put_category(
    transaction: &mut TenantTransaction,
    key: &CategoryKey,
    body: &CategoryBody,
) -> Result<bool, StoreError> {
    let channels: Vec<_> = body.channels.iter().map(|channel| channel.as_str().to_owned()).collect();
    let done = sqlx::query!(
        "INSERT INTO harkara.categories
             (tenant_id, category_key, class, channels, template_key, max_attempts, unknown_policy, reconcile_window_seconds)
         SELECT $1, $2, $3, $4, $5, $6, $7, $8
         WHERE $5::text IS NULL OR EXISTS (SELECT FROM harkara.templates WHERE tenant_id = $1 AND template_key = $5)
         ON CONFLICT (tenant_id, category_key) DO UPDATE
         SET class = excluded.class, channels = excluded.channels, template_key = excluded.template_key,
             max_attempts = excluded.max_attempts, unknown_policy = excluded.unknown_policy,
             reconcile_window_seconds = excluded.reconcile_window_seconds, updated_at = now()",
        transaction.tenant.as_uuid(),
        key.as_str(),
        body.class.as_str(),
        &channels,
        body.template.as_ref().map(|template| template.as_str()),
        body.max_attempts.cast_signed(),
        body.unknown_policy.as_str(),
        body.reconcile_window_seconds.cast_signed(),
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// A category of the tenant.
pub async fn get_category(
    transaction: &mut TenantTransaction,
    key: &CategoryKey,
) -> Result<Option<CategoryRow>, StoreError> {
    let row = sqlx::query!(
        r#"SELECT class, channels, template_key, max_attempts, unknown_policy, reconcile_window_seconds,
                  updated_at AS "updated_at: jiff_sqlx::Timestamp"
           FROM harkara.categories WHERE tenant_id = $1 AND category_key = $2"#,
        transaction.tenant.as_uuid(),
        key.as_str(),
    )
    .fetch_optional(&mut *transaction.connection)
    .await?;
    Ok(row.map(|row| CategoryRow {
        class: row.class,
        channels: row.channels,
        template_key: row.template_key,
        max_attempts: row.max_attempts,
        unknown_policy: row.unknown_policy,
        reconcile_window_seconds: row.reconcile_window_seconds,
        updated_at: row.updated_at.to_jiff(),
    }))
}

/// Adds a version to a template, which is made where it is missing, and returns its number.
/// The same content again is the same version, so that asking twice changes nothing.
pub async fn put_template(
    transaction: &mut TenantTransaction,
    key: &TemplateKey,
    body: &TemplateBody,
) -> Result<i32, StoreError> {
    // The row's lock makes writers of one template wait for each other, so that numbers have no gaps.
    sqlx::query!(
        "INSERT INTO harkara.templates (tenant_id, template_key) VALUES ($1, $2)
         ON CONFLICT (tenant_id, template_key) DO UPDATE SET template_key = excluded.template_key",
        transaction.tenant.as_uuid(),
        key.as_str(),
    )
    .execute(&mut *transaction.connection)
    .await?;
    let version = sqlx::query_scalar!(
        r#"WITH newest AS (
               SELECT version, subject, text_body, html_body FROM harkara.template_versions
               WHERE tenant_id = $1 AND template_key = $2 AND channel = $3 AND locale = $4
               ORDER BY version DESC LIMIT 1
           ),
           added AS (
               INSERT INTO harkara.template_versions
                   (tenant_id, template_key, channel, locale, version, subject, text_body, html_body)
               SELECT $1, $2, $3, $4, coalesce((SELECT version FROM newest), 0) + 1, $5, $6, $7
               WHERE NOT EXISTS (
                   SELECT FROM newest
                   WHERE subject = $5 AND text_body IS NOT DISTINCT FROM $6 AND html_body IS NOT DISTINCT FROM $7)
               RETURNING version
           )
           SELECT coalesce((SELECT version FROM added), (SELECT version FROM newest)) AS "version!""#,
        transaction.tenant.as_uuid(),
        key.as_str(),
        body.channel.as_str(),
        body.locale.as_str(),
        body.source.subject,
        body.source.text,
        body.source.html,
    )
    .fetch_one(&mut *transaction.connection)
    .await?;
    Ok(version)
}

/// The newest version of a template in each channel and locale; none where there is no such template.
pub async fn get_template(
    transaction: &mut TenantTransaction,
    key: &TemplateKey,
) -> Result<Vec<TemplateVersionRow>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT DISTINCT ON (channel, locale) channel, locale, version, subject, text_body, html_body,
                  created_at AS "created_at: jiff_sqlx::Timestamp"
           FROM harkara.template_versions
           WHERE tenant_id = $1 AND template_key = $2
           ORDER BY channel, locale, version DESC"#,
        transaction.tenant.as_uuid(),
        key.as_str(),
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let version = rows.into_iter().map(|row| TemplateVersionRow {
        channel: row.channel,
        locale: row.locale,
        version: row.version,
        subject: row.subject,
        text_body: row.text_body,
        html_body: row.html_body,
        created_at: row.created_at.to_jiff(),
    });
    Ok(version.collect())
}
