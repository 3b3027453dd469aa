//! Recipients as people manage them: kept one by one or a thousand at a time, listed, erased, and those that nothing
//! reaches.

use super::database::{StoreError, TenantTransaction};
use crate::wire::pages::{Cursor, Found, KeyPage, Page};
use crate::wire::recipients::RecipientBody;
use domain::id::RecipientKey;
use domain::link::SubjectId;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// A stored recipient.
#[derive(Clone)]
pub struct RecipientRow {
    /// Its id.
    pub id: String,
    /// Who that is to preferences, consents and links.
    pub subject: SubjectId,
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
    /// Whose report the recipient is.
    pub manager: Option<String>,
    /// What else the tenant keeps about it, for templates.
    pub attributes: Value,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// Shows the ids only: the rest is a person's.
impl fmt::Debug for RecipientRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecipientRow").field("subject", &self.subject).finish_non_exhaustive()
    }
}

/// A recipient whom nothing reaches, and why.
#[derive(Clone, Debug)]
pub struct UnreachableRow {
    /// Its id.
    pub id: String,
    /// Who that is to cursors.
    pub subject: SubjectId,
    /// When it was made.
    pub created_at: Timestamp,
    /// Whether it lacks an address for any channel that can be sent.
    pub has_no_address: bool,
    /// Why its address is suppressed; `None` where it is not.
    pub suppressed: Option<String>,
    /// Whether its address is on the provider's own list, which holds for every tenant.
    pub is_listed: bool,
    /// Whether the recipient, or the tenant for it, has switched everything off.
    pub is_muted: bool,
}

/// What became of a recipient that was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecipientPut {
    /// There was none with this id.
    Created,
    /// It was replaced.
    Replaced,
}

/// Makes or replaces recipients, each id once. A recipient that was erased begins anew. Answers in the order of `bodies`.
pub async fn put_recipients(
    transaction: &mut TenantTransaction,
    bodies: &[(RecipientKey, RecipientBody)],
) -> Result<Vec<RecipientPut>, StoreError> {
    let column = |read: fn(&RecipientBody) -> Option<&str>| {
        bodies.iter().map(|(_, body)| read(body).map(str::to_owned)).collect::<Vec<_>>()
    };
    let ids: Vec<_> = bodies.iter().map(|(key, _)| key.as_str().to_owned()).collect();
    // A list of lists is no array of Postgres: roles go as JSON.
    let roles: Vec<Value> = bodies.iter().map(|(_, body)| body.roles.iter().map(String::as_str).collect()).collect();
    let attributes: Vec<Value> = bodies.iter().map(|(_, body)| body.attributes.clone()).collect();
    let rows = sqlx::query!(
        r#"INSERT INTO harkara.recipients AS r
               (tenant_id, recipient_id, email, phone, name, locale, time_zone, roles, attributes, manager_id)
           SELECT $1, a.recipient_id, a.email, a.phone, a.name, a.locale, a.time_zone,
                  (SELECT coalesce(array_agg(role), '{}') FROM jsonb_array_elements_text(a.roles) role), a.attributes,
                  a.manager_id
           FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::jsonb[], $9::jsonb[], $10::text[])
               AS a (recipient_id, email, phone, name, locale, time_zone, roles, attributes, manager_id)
           -- In order, so that two requests with the same recipients wait for each other and do not deadlock.
           ORDER BY a.recipient_id
           ON CONFLICT (tenant_id, recipient_id) DO UPDATE
           SET email = excluded.email, phone = excluded.phone, name = excluded.name, locale = excluded.locale,
               time_zone = excluded.time_zone, roles = excluded.roles, attributes = excluded.attributes,
               manager_id = excluded.manager_id, erased_at = NULL, updated_at = harkara.now()
           RETURNING recipient_id, xmax = '0'::xid AS "is_new!""#,
        transaction.tenant.as_uuid(),
        &ids,
        &column(|body| body.email.as_ref().map(|email| email.as_str())) as &[Option<String>],
        &column(|body| body.phone.as_ref().map(|phone| phone.as_str())) as &[Option<String>],
        &column(|body| body.name.as_ref().map(|name| name.as_str())) as &[Option<String>],
        &column(|body| body.locale.as_ref().map(|locale| locale.as_str())) as &[Option<String>],
        &column(|body| body.time_zone.as_ref().map(|zone| zone.as_str())) as &[Option<String>],
        &roles,
        &attributes,
        &column(|body| body.manager.as_ref().map(|manager| manager.as_str())) as &[Option<String>],
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let put = |(key, _): &(RecipientKey, RecipientBody)| match rows
        .iter()
        .any(|row| row.is_new && row.recipient_id == key.as_str())
    {
        true => RecipientPut::Created,
        false => RecipientPut::Replaced,
    };
    Ok(bodies.iter().map(put).collect())
}

/// The manager of each recipient of the tenant that is among `named` or above one of them. Whoever puts managers reads them
/// first, and holds up others who do until the transaction ends: two at once make no cycle.
pub async fn read_managers(
    transaction: &mut TenantTransaction,
    named: &[RecipientKey],
) -> Result<BTreeMap<RecipientKey, Option<RecipientKey>>, StoreError> {
    sqlx::query!(
        "SELECT pg_advisory_xact_lock(hashtextextended('managers ' || $1::uuid, 0))",
        transaction.tenant.as_uuid(),
    )
    .fetch_one(&mut *transaction.connection)
    .await?;
    let named: Vec<_> = named.iter().map(|key| key.as_str().to_owned()).collect();
    let rows = sqlx::query!(
        r#"WITH RECURSIVE above AS (
               SELECT r.recipient_id, r.manager_id FROM harkara.recipients r
               WHERE r.tenant_id = $1 AND r.recipient_id = ANY ($2) AND r.erased_at IS NULL
               UNION
               SELECT m.recipient_id, m.manager_id FROM above a
               JOIN harkara.recipients m ON m.tenant_id = $1 AND m.recipient_id = a.manager_id AND m.erased_at IS NULL
           )
           SELECT recipient_id AS "recipient_id!", manager_id FROM above"#,
        transaction.tenant.as_uuid(),
        &named,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let key = |text: &str| RecipientKey::parse(text).map_err(|_| StoreError::Corrupt("recipient"));
    rows.iter().map(|row| Ok((key(&row.recipient_id)?, row.manager_id.as_deref().map(key).transpose()?))).collect()
}

/// A recipient of the tenant.
pub async fn read_recipient(
    transaction: &mut TenantTransaction,
    key: &RecipientKey,
) -> Result<Option<RecipientRow>, StoreError> {
    Ok(select_recipients(transaction, Some(key.as_str()), None, &KeyPage { after: None, size: 1 }).await?.pop())
}

/// Which recipients; what is `None` does not matter.
#[derive(Clone, Debug, Default)]
pub struct RecipientFilter {
    /// With this role.
    pub role: Option<String>,
}

/// A page of the tenant's recipients, by id.
pub async fn list_recipients(
    transaction: &mut TenantTransaction,
    filter: &RecipientFilter,
    page: &KeyPage,
) -> Result<Vec<RecipientRow>, StoreError> {
    select_recipients(transaction, None, filter.role.as_deref(), page).await
}

async fn select_recipients(
    transaction: &mut TenantTransaction,
    id: Option<&str>,
    role: Option<&str>,
    page: &KeyPage,
) -> Result<Vec<RecipientRow>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT recipient_id, subject_id, email, phone, name, locale, time_zone, roles, manager_id, attributes,
                  created_at AS "created_at: jiff_sqlx::Timestamp", updated_at AS "updated_at: jiff_sqlx::Timestamp"
           FROM harkara.recipients
           WHERE tenant_id = $1 AND erased_at IS NULL
             AND ($2::text IS NULL OR recipient_id = $2)
             AND ($3::text IS NULL OR $3 = ANY (roles))
             AND ($4::text IS NULL OR recipient_id > $4)
           ORDER BY recipient_id
           LIMIT $5"#,
        transaction.tenant.as_uuid(),
        id,
        role,
        page.after,
        i64::from(page.size) + 1,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let recipient = rows.into_iter().map(|row| RecipientRow {
        id: row.recipient_id,
        subject: SubjectId::from_uuid(row.subject_id),
        email: row.email,
        phone: row.phone,
        name: row.name,
        locale: row.locale,
        time_zone: row.time_zone,
        roles: row.roles,
        manager: row.manager_id,
        attributes: row.attributes,
        created_at: row.created_at.to_jiff(),
        updated_at: row.updated_at.to_jiff(),
    });
    Ok(recipient.collect())
}

/// Erases what is known of a recipient; see `harkara.erase_recipient`. False where there is none.
pub async fn erase_recipient(transaction: &mut TenantTransaction, key: &RecipientKey) -> Result<bool, StoreError> {
    let erased = sqlx::query_scalar!(r#"SELECT harkara.erase_recipient($1) AS "erased!""#, key.as_str())
        .fetch_one(&mut *transaction.connection)
        .await?;
    Ok(erased)
}

/// The most recipients that one page of the report looks at: some tenths of a second where all of them are fine.
const LOOKED_AT: i64 = 10_000;

/// A page of the recipients whom nothing reaches, newest first: no address for a channel that can be sent, a suppressed
/// one, or everything switched off.
pub async fn list_unreachable(
    transaction: &mut TenantTransaction,
    page: &Page,
) -> Result<Found<UnreachableRow>, StoreError> {
    let looked_to = find_end_of_search(transaction, page).await?;
    let rows = sqlx::query!(
        r#"SELECT r.recipient_id, r.subject_id, r.created_at AS "created_at: jiff_sqlx::Timestamp",
                  r.email IS NULL AS "has_no_address!", s.reason AS "suppressed?",
                  harkara.listed_since(r.email) IS NOT NULL AS "is_listed!", w.is_muted AS "is_muted!"
           FROM harkara.recipients r
           LEFT JOIN harkara.suppressions s ON s.tenant_id = r.tenant_id AND s.address = lower(r.email)
           CROSS JOIN LATERAL (
               -- The exacter word about mail as a whole; the recipient's before the tenant's.
               SELECT NOT coalesce((
                   SELECT p.is_on FROM harkara.preferences p
                   WHERE p.tenant_id = r.tenant_id
                     AND p.subject_id IN (r.subject_id, '00000000-0000-0000-0000-000000000000')
                     AND p.category_key = '*' AND p.channel IN ('*', 'email') AND p.is_on IS NOT NULL
                   ORDER BY p.subject_id = r.subject_id DESC, p.channel = 'email' DESC
                   LIMIT 1), true) AS is_muted
           ) w
           WHERE r.tenant_id = $1 AND r.erased_at IS NULL
             AND (r.email IS NULL OR s.reason IS NOT NULL OR w.is_muted OR harkara.listed_since(r.email) IS NOT NULL)
             AND (r.created_at, r.subject_id) < (coalesce($2::timestamptz, 'infinity'), coalesce($3::uuid, '00000000-0000-0000-0000-000000000000'))
             AND (r.created_at, r.subject_id) >= (coalesce($5::timestamptz, '-infinity'), coalesce($6::uuid, '00000000-0000-0000-0000-000000000000'))
           ORDER BY r.created_at DESC, r.subject_id DESC
           LIMIT $4"#,
        transaction.tenant.as_uuid(),
        page.after.map(|cursor| cursor.at.to_sqlx()) as Option<jiff_sqlx::Timestamp>,
        page.after.map(|cursor| cursor.id),
        i64::from(page.size) + 1,
        looked_to.map(|cursor| cursor.at.to_sqlx()) as Option<jiff_sqlx::Timestamp>,
        looked_to.map(|cursor| cursor.id),
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let row = rows.into_iter().map(|row| UnreachableRow {
        id: row.recipient_id,
        subject: SubjectId::from_uuid(row.subject_id),
        created_at: row.created_at.to_jiff(),
        has_no_address: row.has_no_address,
        suppressed: row.suppressed,
        is_listed: row.is_listed,
        is_muted: row.is_muted,
    });
    Ok(Found { rows: row.collect(), looked_to })
}

/// The last recipient that a page of the report looks at; `None` where there are not so many.
async fn find_end_of_search(transaction: &mut TenantTransaction, page: &Page) -> Result<Option<Cursor>, StoreError> {
    let row = sqlx::query!(
        r#"SELECT r.subject_id, r.created_at AS "created_at: jiff_sqlx::Timestamp"
           FROM harkara.recipients r
           WHERE r.tenant_id = $1
             AND (r.created_at, r.subject_id) < (coalesce($2::timestamptz, 'infinity'), coalesce($3::uuid, '00000000-0000-0000-0000-000000000000'))
           ORDER BY r.created_at DESC, r.subject_id DESC
           OFFSET $4 LIMIT 1"#,
        transaction.tenant.as_uuid(),
        page.after.map(|cursor| cursor.at.to_sqlx()) as Option<jiff_sqlx::Timestamp>,
        page.after.map(|cursor| cursor.id),
        LOOKED_AT - 1,
    )
    .fetch_optional(&mut *transaction.connection)
    .await?;
    Ok(row.map(|row| Cursor { at: row.created_at.to_jiff(), id: row.subject_id }))
}
