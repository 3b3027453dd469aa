//! Categories as people manage them.

use super::database::{StoreError, TenantTransaction};
use crate::wire::categories::CategoryBody;
use crate::wire::pages::KeyPage;
use domain::category::Limit;
use domain::id::{CategoryKey, TemplateKey};
use jiff::Timestamp;

/// A stored category.
#[derive(Clone, Debug)]
pub struct CategoryRow {
    /// Its key.
    pub key: String,
    /// What people call it.
    pub name: Option<String>,
    /// What it is about, for people.
    pub description: Option<String>,
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
    /// Whether recipients' quiet hours are kept.
    pub quiet_hours_apply: bool,
    /// Roles that cannot switch it off.
    pub unmutable_roles: Vec<String>,
    /// What recipients have to have agreed to.
    pub consent_purpose: Option<String>,
    /// At most so many to one recipient.
    pub throttle: Option<Limit>,
    /// The category of the digest that collects what a cadence holds.
    pub digest_category: Option<String>,
    /// The rhythm of its own that a category of digests has.
    pub digest_cadence: Option<String>,
    /// Who gets it by that.
    pub digest_roles: Vec<String>,
    /// Whether they get it with nothing in it, too.
    pub digest_send_empty: bool,
    /// Where recipients find what it has no room for.
    pub digest_more_url: Option<String>,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// The most categories that a tenant can make: whoever chooses between them is shown them all.
pub const MAX_CATEGORIES: usize = 1000;

/// What became of a category that was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CategoryPut {
    /// It was made or replaced.
    Done,
    /// Its template does not exist, or is none of messages.
    NoTemplate,
    /// Its digest category does not exist, or is none of class digest.
    NoDigest,
    /// It would be new, and the tenant has [`MAX_CATEGORIES`] already.
    TooMany,
}

/// Makes or replaces a category. Of two new ones at once both may find the last place free; nothing depends on the number.
pub async fn put_category(
    transaction: &mut TenantTransaction,
    key: &CategoryKey,
    body: &CategoryBody,
) -> Result<CategoryPut, StoreError> {
    let has_room = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM harkara.categories WHERE tenant_id = $1 AND category_key = $2)
               OR (SELECT count(*) FROM harkara.categories WHERE tenant_id = $1) < $3 AS "has_room!""#,
        transaction.tenant.as_uuid(),
        key.as_str(),
        MAX_CATEGORIES as i64,
    )
    .fetch_one(&mut *transaction.connection)
    .await?;
    if !has_room {
        return Ok(CategoryPut::TooMany);
    }
    if let Some(digest) = &body.digest_category
        && !is_digest(transaction, digest).await?
    {
        return Ok(CategoryPut::NoDigest);
    }
    let channels: Vec<_> = body.channels.iter().map(|channel| channel.as_str().to_owned()).collect();
    let done = sqlx::query!(
        "INSERT INTO harkara.categories
             (tenant_id, category_key, class, channels, template_key, max_attempts, unknown_policy,
              reconcile_window_seconds, name, description, quiet_hours_apply, unmutable_roles, consent_purpose,
              throttle_limit, throttle_window_seconds, digest_category, digest_cadence, digest_roles, digest_send_empty,
              digest_more_url)
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20
         WHERE $5::text IS NULL
            OR EXISTS (SELECT FROM harkara.templates WHERE tenant_id = $1 AND template_key = $5 AND kind = 'message')
         ON CONFLICT (tenant_id, category_key) DO UPDATE
         SET class = excluded.class, channels = excluded.channels, template_key = excluded.template_key,
             max_attempts = excluded.max_attempts, unknown_policy = excluded.unknown_policy,
             reconcile_window_seconds = excluded.reconcile_window_seconds, name = excluded.name,
             description = excluded.description, quiet_hours_apply = excluded.quiet_hours_apply,
             unmutable_roles = excluded.unmutable_roles, consent_purpose = excluded.consent_purpose,
             throttle_limit = excluded.throttle_limit, throttle_window_seconds = excluded.throttle_window_seconds,
             digest_category = excluded.digest_category, digest_cadence = excluded.digest_cadence,
             digest_roles = excluded.digest_roles, digest_send_empty = excluded.digest_send_empty,
             digest_more_url = excluded.digest_more_url, updated_at = harkara.now()",
        transaction.tenant.as_uuid(),
        key.as_str(),
        body.class.as_str(),
        &channels,
        body.template.as_ref().map(|template| template.as_str()),
        body.max_attempts.cast_signed(),
        body.unknown_policy.as_str(),
        body.reconcile_window_seconds.cast_signed(),
        body.name,
        body.description,
        body.quiet_hours_apply,
        &body.unmutable_roles,
        body.consent_purpose,
        body.throttle.map(|throttle| throttle.limit.cast_signed()),
        body.throttle.map(|throttle| throttle.window_seconds.cast_signed()),
        body.digest_category.as_ref().map(|key| key.as_str()),
        body.digest.cadence.map(|cadence| cadence.as_str()),
        &body.digest.roles,
        body.digest.send_empty,
        body.digest.more_url,
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(if done.rows_affected() > 0 { CategoryPut::Done } else { CategoryPut::NoTemplate })
}

/// Whether a category of class digest has this key.
pub async fn is_digest(transaction: &mut TenantTransaction, key: &CategoryKey) -> Result<bool, StoreError> {
    let found = sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT FROM harkara.categories WHERE tenant_id = $1 AND category_key = $2 AND class = 'digest') AS "found!""#,
        transaction.tenant.as_uuid(),
        key.as_str(),
    )
    .fetch_one(&mut *transaction.connection)
    .await?;
    Ok(found)
}

/// Whether digests are made of this category, or of one with this template: by a rhythm of its own, or because it collects
/// what others hold.
pub async fn makes_digests(
    transaction: &mut TenantTransaction,
    category: Option<&CategoryKey>,
    template: Option<&TemplateKey>,
) -> Result<bool, StoreError> {
    let found = sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT FROM harkara.categories c
               WHERE c.tenant_id = $1 AND c.class = 'digest' AND (c.category_key = $2 OR c.template_key = $3)
                 AND (c.digest_cadence IS NOT NULL
                      OR EXISTS (SELECT FROM harkara.categories o
                                 WHERE o.tenant_id = $1 AND o.digest_category = c.category_key)
                      OR EXISTS (SELECT FROM harkara.tenant_settings s
                                 WHERE s.tenant_id = $1 AND s.digest_category = c.category_key))) AS "found!""#,
        transaction.tenant.as_uuid(),
        category.map(|key| key.as_str()),
        template.map(|key| key.as_str()),
    )
    .fetch_one(&mut *transaction.connection)
    .await?;
    Ok(found)
}

/// A category of the tenant.
pub async fn read_category(
    transaction: &mut TenantTransaction,
    key: &CategoryKey,
) -> Result<Option<CategoryRow>, StoreError> {
    Ok(select_categories(transaction, Some(key.as_str()), None, Some(1)).await?.pop())
}

/// A page of the tenant's categories, by key.
pub async fn list_categories(
    transaction: &mut TenantTransaction,
    page: &KeyPage,
) -> Result<Vec<CategoryRow>, StoreError> {
    select_categories(transaction, None, page.after.as_deref(), Some(i64::from(page.size) + 1)).await
}

/// Every category of the tenant, by key: more than [`MAX_CATEGORIES`], too, where there are more.
pub async fn all_categories(transaction: &mut TenantTransaction) -> Result<Vec<CategoryRow>, StoreError> {
    select_categories(transaction, None, None, None).await
}

async fn select_categories(
    transaction: &mut TenantTransaction,
    key: Option<&str>,
    after: Option<&str>,
    most: Option<i64>,
) -> Result<Vec<CategoryRow>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT category_key, name, description, class, channels, template_key, max_attempts, unknown_policy,
                  reconcile_window_seconds, quiet_hours_apply, unmutable_roles, consent_purpose, throttle_limit,
                  throttle_window_seconds, digest_category, digest_cadence, digest_roles, digest_send_empty,
                  digest_more_url, updated_at AS "updated_at: jiff_sqlx::Timestamp"
           FROM harkara.categories
           WHERE tenant_id = $1 AND ($2::text IS NULL OR category_key = $2) AND ($3::text IS NULL OR category_key > $3)
           ORDER BY category_key
           LIMIT $4"#,
        transaction.tenant.as_uuid(),
        key,
        after,
        most,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let category = rows.into_iter().map(|row| CategoryRow {
        key: row.category_key,
        name: row.name,
        description: row.description,
        class: row.class,
        channels: row.channels,
        template_key: row.template_key,
        max_attempts: row.max_attempts,
        unknown_policy: row.unknown_policy,
        reconcile_window_seconds: row.reconcile_window_seconds,
        quiet_hours_apply: row.quiet_hours_apply,
        unmutable_roles: row.unmutable_roles,
        consent_purpose: row.consent_purpose,
        throttle: row
            .throttle_limit
            .zip(row.throttle_window_seconds)
            .map(|(limit, window)| Limit { limit: limit.unsigned_abs(), window_seconds: window.unsigned_abs() }),
        digest_category: row.digest_category,
        digest_cadence: row.digest_cadence,
        digest_roles: row.digest_roles,
        digest_send_empty: row.digest_send_empty,
        digest_more_url: row.digest_more_url,
        updated_at: row.updated_at.to_jiff(),
    });
    Ok(category.collect())
}
