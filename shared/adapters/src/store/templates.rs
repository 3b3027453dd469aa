//! Templates: a draft that is worked on, and publications that are never changed.
//!
//! A publication is one number for the whole template. What is sent stands in `template_versions`, compiled, one row for
//! each channel and locale; what was written stands in `template_publications`.

use super::database::{Database, StoreError, TenantTransaction};
use crate::wire::pages::KeyPage;
use domain::delivery::Channel;
use domain::id::{TemplateKey, TenantId};
use domain::render::TemplateSource;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;

/// A template as people manage it.
#[derive(Clone, Debug)]
pub struct TemplateRow {
    /// Its key.
    pub key: String,
    /// `message`, `partial` or `layout`.
    pub kind: String,
    /// What is worked on; `None` where nothing is since before there were drafts.
    pub draft: Option<Value>,
    /// When that was last changed.
    pub draft_updated_at: Option<Timestamp>,
    /// The version that is sent.
    pub published_version: Option<i32>,
    /// When it was published.
    pub published_at: Option<Timestamp>,
}

/// A published version.
#[derive(Clone, Debug)]
pub struct PublicationRow {
    /// Its number.
    pub version: i32,
    /// As it was written.
    pub draft: Value,
    /// What it asks of a notification's data.
    pub variables: Value,
    /// A digest of what is sent.
    pub content_hash: Vec<u8>,
    /// When it was published.
    pub created_at: Timestamp,
    /// What is sent, by channel and locale.
    pub variants: Vec<VariantRow>,
}

/// What is sent on one channel in one language.
#[derive(Clone, Debug)]
pub struct VariantRow {
    /// The channel.
    pub channel: String,
    /// The language.
    pub locale: String,
    /// The parts, compiled.
    pub source: TemplateSource,
    /// The text for channels that take little.
    pub short_text: Option<String>,
}

/// What is to be published.
#[derive(Clone, Debug)]
pub struct Publication {
    /// What it asks of a notification's data.
    pub variables: Value,
    /// A digest of everything below.
    pub content_hash: [u8; 32],
    /// What is sent.
    pub variants: Vec<VariantRow>,
}

/// Names what a delivery is rendered with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VersionKey {
    /// Whose.
    pub tenant: TenantId,
    /// Which template.
    pub template: String,
    /// The channel.
    pub channel: Channel,
    /// The language.
    pub locale: String,
    /// The version.
    pub version: i32,
}

/// What became of a draft that was to be put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DraftPut {
    /// It is the template's draft now.
    Stored,
    /// The template was published as another kind, and others may use it as that.
    OfAnotherKind,
}

/// Makes or replaces a template's draft.
pub async fn put_draft(
    transaction: &mut TenantTransaction,
    key: &TemplateKey,
    kind: &str,
    draft: &Value,
) -> Result<DraftPut, StoreError> {
    let done = sqlx::query!(
        "INSERT INTO harkara.templates AS t (tenant_id, template_key, kind, draft, draft_updated_at)
         VALUES ($1, $2, $3, $4, harkara.now())
         ON CONFLICT (tenant_id, template_key) DO UPDATE
         SET kind = excluded.kind, draft = excluded.draft, draft_updated_at = excluded.draft_updated_at
         WHERE t.kind = excluded.kind OR t.published_version IS NULL",
        transaction.tenant.as_uuid(),
        key.as_str(),
        kind,
        draft,
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(if done.rows_affected() > 0 { DraftPut::Stored } else { DraftPut::OfAnotherKind })
}

/// A template of the tenant.
pub async fn read_template(
    transaction: &mut TenantTransaction,
    key: &TemplateKey,
) -> Result<Option<TemplateRow>, StoreError> {
    let page = KeyPage { after: None, size: 1 };
    Ok(select_templates(transaction, Some(key), &page).await?.pop())
}

/// A page of the tenant's templates, by key.
pub async fn list_templates(
    transaction: &mut TenantTransaction,
    page: &KeyPage,
) -> Result<Vec<TemplateRow>, StoreError> {
    select_templates(transaction, None, page).await
}

async fn select_templates(
    transaction: &mut TenantTransaction,
    key: Option<&TemplateKey>,
    page: &KeyPage,
) -> Result<Vec<TemplateRow>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT t.template_key, t.kind, t.draft, t.draft_updated_at AS "draft_updated_at: jiff_sqlx::Timestamp",
                  v.version AS "version?", v.created_at AS "published_at?: jiff_sqlx::Timestamp"
           FROM harkara.templates t
           LEFT JOIN LATERAL (
               -- From before there were publications, the newest version of any channel and locale.
               SELECT coalesce(t.published_version, max(tv.version)) AS version, max(tv.created_at) AS created_at
               FROM harkara.template_versions tv
               WHERE tv.tenant_id = t.tenant_id AND tv.template_key = t.template_key
                 AND tv.version = coalesce(t.published_version, tv.version)
           ) v ON true
           WHERE t.tenant_id = $1 AND ($2::text IS NULL OR t.template_key = $2)
             AND ($3::text IS NULL OR t.template_key > $3)
           ORDER BY t.template_key
           LIMIT $4"#,
        transaction.tenant.as_uuid(),
        key.map(|key| key.as_str()),
        page.after,
        i64::from(page.size) + 1,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let template = rows.into_iter().map(|row| TemplateRow {
        key: row.template_key,
        kind: row.kind,
        draft: row.draft,
        draft_updated_at: row.draft_updated_at.map(|at| at.to_jiff()),
        published_version: row.version,
        published_at: row.published_at.map(|at| at.to_jiff()),
    });
    Ok(template.collect())
}

/// The published partials and layouts of the tenant, as they were written, by key.
pub async fn read_building_blocks(transaction: &mut TenantTransaction) -> Result<BTreeMap<String, Value>, StoreError> {
    let rows = sqlx::query!(
        "SELECT t.template_key, p.draft
         FROM harkara.templates t
         JOIN harkara.template_publications p
             ON p.tenant_id = t.tenant_id AND p.template_key = t.template_key AND p.version = t.published_version
         WHERE t.tenant_id = $1 AND t.kind <> 'message'",
        transaction.tenant.as_uuid(),
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.template_key, row.draft)).collect())
}

/// Makes what was compiled from a draft the version that is sent, and returns its number.
/// The same content again is the same version. `draft` is what it was compiled from.
pub async fn publish(
    transaction: &mut TenantTransaction,
    key: &TemplateKey,
    draft: &Value,
    publication: &Publication,
) -> Result<i32, StoreError> {
    let Publication { variables, content_hash, variants } = publication;
    let tenant = transaction.tenant.as_uuid();
    // The row's lock makes publishers of one template wait for each other, so that numbers have no gaps.
    let newest = sqlx::query!(
        r#"SELECT (SELECT max(v.version) FROM harkara.template_versions v
                   WHERE v.tenant_id = t.tenant_id AND v.template_key = t.template_key) AS version,
                  t.published_version,
                  (SELECT p.content_hash FROM harkara.template_publications p
                   WHERE p.tenant_id = t.tenant_id AND p.template_key = t.template_key AND p.version = t.published_version)
                      AS content_hash
           FROM harkara.templates t WHERE t.tenant_id = $1 AND t.template_key = $2 FOR UPDATE"#,
        tenant,
        key.as_str(),
    )
    .fetch_one(&mut *transaction.connection)
    .await?;
    if let (Some(version), Some(hash)) = (newest.published_version, &newest.content_hash)
        && hash == content_hash
    {
        return Ok(version);
    }
    let version = newest.version.max(newest.published_version).unwrap_or(0) + 1;
    let column = |read: fn(&VariantRow) -> String| variants.iter().map(read).collect::<Vec<_>>();
    let optional = |read: fn(&VariantRow) -> Option<String>| variants.iter().map(read).collect::<Vec<_>>();
    sqlx::query!(
        "INSERT INTO harkara.template_publications (tenant_id, template_key, version, draft, variables, content_hash)
         VALUES ($1, $2, $3, $4, $5, $6)",
        tenant,
        key.as_str(),
        version,
        draft,
        variables,
        &content_hash[..],
    )
    .execute(&mut *transaction.connection)
    .await?;
    sqlx::query!(
        "INSERT INTO harkara.template_versions
             (tenant_id, template_key, version, channel, locale, subject, text_body, html_body, short_text)
         SELECT $1, $2, $3, * FROM unnest($4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[])",
        tenant,
        key.as_str(),
        version,
        &column(|variant| variant.channel.clone()),
        &column(|variant| variant.locale.clone()),
        &column(|variant| variant.source.subject.clone()),
        &optional(|variant| variant.source.text.clone()) as &[Option<String>],
        &optional(|variant| variant.source.html.clone()) as &[Option<String>],
        &optional(|variant| variant.short_text.clone()) as &[Option<String>],
    )
    .execute(&mut *transaction.connection)
    .await?;
    sqlx::query!(
        "UPDATE harkara.templates SET published_version = $3 WHERE tenant_id = $1 AND template_key = $2",
        tenant,
        key.as_str(),
        version,
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(version)
}

/// A published version of the tenant's.
pub async fn read_publication(
    transaction: &mut TenantTransaction,
    key: &TemplateKey,
    version: i32,
) -> Result<Option<PublicationRow>, StoreError> {
    let row = sqlx::query!(
        r#"SELECT draft, variables, content_hash, created_at AS "created_at: jiff_sqlx::Timestamp"
           FROM harkara.template_publications WHERE tenant_id = $1 AND template_key = $2 AND version = $3"#,
        transaction.tenant.as_uuid(),
        key.as_str(),
        version,
    )
    .fetch_optional(&mut *transaction.connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let variants = sqlx::query!(
        "SELECT channel, locale, subject, text_body, html_body, short_text FROM harkara.template_versions
         WHERE tenant_id = $1 AND template_key = $2 AND version = $3 ORDER BY channel, locale",
        transaction.tenant.as_uuid(),
        key.as_str(),
        version,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let variant = variants.into_iter().map(|row| VariantRow {
        channel: row.channel,
        locale: row.locale,
        source: TemplateSource { subject: row.subject, text: row.text_body, html: row.html_body },
        short_text: row.short_text,
    });
    Ok(Some(PublicationRow {
        version,
        draft: row.draft,
        variables: row.variables,
        content_hash: row.content_hash,
        created_at: row.created_at.to_jiff(),
        variants: variant.collect(),
    }))
}

/// The variant of a version that a recipient of this language gets, as the claim chooses it: its locale.
pub async fn choose_variant(
    transaction: &mut TenantTransaction,
    key: &TemplateKey,
    channel: Channel,
    locale: &str,
    version: i32,
) -> Result<Option<String>, StoreError> {
    let locale = sqlx::query_scalar!(
        "SELECT tv.locale FROM harkara.template_versions tv
         JOIN harkara.tenants t USING (tenant_id)
         WHERE tv.tenant_id = $1 AND tv.template_key = $2 AND tv.channel = $3 AND tv.version = $5
         ORDER BY array_position(ARRAY[$4, split_part($4, '-', 1), t.locale, split_part(t.locale, '-', 1), 'en'], tv.locale),
                  tv.locale, tv.version DESC
         LIMIT 1",
        transaction.tenant.as_uuid(),
        key.as_str(),
        channel.as_str(),
        locale,
        version,
    )
    .fetch_optional(&mut *transaction.connection)
    .await?;
    Ok(locale)
}

/// The parts of published versions, across tenants; what is not there is left out.
pub async fn load_versions_across_tenants(
    database: &Database,
    asked: &[VersionKey],
) -> Result<Vec<(VersionKey, TemplateSource)>, StoreError> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let tenants: Vec<_> = asked.iter().map(|key| key.tenant.as_uuid()).collect();
    let templates: Vec<_> = asked.iter().map(|key| key.template.clone()).collect();
    let channels: Vec<_> = asked.iter().map(|key| key.channel.as_str().to_owned()).collect();
    let locales: Vec<_> = asked.iter().map(|key| key.locale.clone()).collect();
    let versions: Vec<_> = asked.iter().map(|key| key.version).collect();
    let mut connection = database.connection().await?;
    let rows = sqlx::query!(
        r#"SELECT a.place AS "place!", v.subject, v.text_body, v.html_body
           FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::integer[])
                WITH ORDINALITY AS a (tenant_id, template_key, channel, locale, version, place)
           JOIN harkara.template_versions v USING (tenant_id, template_key, channel, locale, version)"#,
        &tenants,
        &templates,
        &channels,
        &locales,
        &versions,
    )
    .fetch_all(&mut *connection)
    .await?;
    connection.give_back();
    let found = rows.into_iter().filter_map(|row| {
        let key = asked.get(usize::try_from(row.place).ok()?.checked_sub(1)?)?;
        Some((key.clone(), TemplateSource { subject: row.subject, text: row.text_body, html: row.html_body }))
    });
    Ok(found.collect())
}
