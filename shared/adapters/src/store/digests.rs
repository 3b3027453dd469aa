//! What waits for digests, and the digests: `flow::digest`'s statements. What has a rhythm of its own is in
//! [`super::digest_rounds`].
//!
//! All but one are within a transaction of one tenant, which [`try_lock`] makes the tenant's only one of its kind. Each
//! serves a batch of recipients, whatever they are.

use super::claim_row::parse_zone;
use super::database::{Database, StoreError, TenantTransaction};
use super::due_tenants::list_due_tenants;
use super::preferences::read_choice;
use crate::ids::new_uuid;
use domain::decision::DigestTime;
use domain::delivery::Channel;
use domain::digest::{DIGEST_GRACE, DigestKey, MAX_ITEM_BYTES, MAX_ITEMS, MAX_MEMBERS, Member, OpenDigest, Standing};
use domain::id::{CategoryKey, DeliveryId, NotificationId, RecipientKey, TenantId};
use domain::preference::Cadence;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;

/// The most deliveries that one transaction settles: well within the statement's time.
const MAX_SETTLED: usize = 5000;
/// How many rows of what is due are looked at for whose they are.
const LOOKED_AT: i64 = 5000;

/// What all digests of a tenant have in common.
#[derive(Clone, Debug)]
pub struct DigestContext {
    /// The database's time.
    pub now: Timestamp,
    /// When a day and a week end for recipients who have chosen nothing else.
    pub time: DigestTime,
}

/// A digest that leaves.
#[derive(Clone, Debug)]
pub struct ClosedDigest {
    /// The notification.
    pub notification: NotificationId,
    /// Whose, and of what.
    pub key: DigestKey,
    /// The period's end.
    pub period_end: Timestamp,
    /// Whether a round closed it.
    pub is_regular: bool,
    /// How many deliveries left with it.
    pub member_count: usize,
}

/// What becomes of a delivery that waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It left within this digest.
    Absorbed(NotificationId),
    /// It was too late.
    Expired,
    /// It waits for the period with this end.
    Postponed(Timestamp),
    /// It goes by itself, at once.
    Released,
    /// It had ended, or goes another way.
    Gone,
}

/// The tenants that have something to close, to plan, or to decide about anew, across tenants, in no order, so that none is
/// always the last.
pub async fn list_tenants_across_tenants(database: &Database) -> Result<Vec<TenantId>, StoreError> {
    let due = list_due_tenants!(
        database, "harkara.digest_entries", waits: "w.digest_notification_id IS NULL AND w.due_at > '-infinity'",
        due: "due_at", except: [], limit: i64::MAX);
    let mut connection = database.connection().await?;
    let others = sqlx::query_scalar!(
        r#"WITH found AS (
               SELECT c.tenant_id FROM harkara.categories c WHERE c.digest_cadence IS NOT NULL
               UNION
               SELECT s.tenant_id FROM harkara.tenant_settings s
               CROSS JOIN LATERAL (
                   SELECT FROM harkara.digest_entries e
                   WHERE e.tenant_id = s.tenant_id AND e.digest_notification_id IS NULL AND e.decided_at < s.held_review_at
                   ORDER BY e.decided_at LIMIT 1
               ) found_before
               WHERE s.held_review_at <= harkara.now()
           )
           SELECT f.tenant_id AS "tenant_id!" FROM found f
           JOIN harkara.tenants t ON t.tenant_id = f.tenant_id AND t.state = 'active'
           WHERE f.tenant_id <> ALL ($1)
           ORDER BY random()"#,
        &due.iter().map(|tenant| tenant.as_uuid()).collect::<Vec<_>>(),
    )
    .fetch_all(&mut *connection)
    .await?;
    connection.give_back();
    Ok(due.into_iter().chain(others.into_iter().map(TenantId::from_uuid)).collect())
}

/// Makes this transaction the tenant's only one that closes digests, and reads what they have in common; `None` where
/// another one is at it.
pub async fn try_lock(transaction: &mut TenantTransaction) -> Result<Option<DigestContext>, StoreError> {
    let row = sqlx::query!(
        r#"SELECT harkara.try_digest_lock($1) AS "is_locked!", harkara.now() AS "now!: jiff_sqlx::Timestamp",
                  s.digest_time AS "digest_time?: jiff_sqlx::Time", s.digest_weekday AS "digest_weekday?"
           FROM harkara.tenants t LEFT JOIN harkara.tenant_settings s USING (tenant_id)
           WHERE t.tenant_id = $1"#,
        transaction.tenant.as_uuid(),
    )
    .fetch_one(&mut *transaction.connection)
    .await?;
    let default = DigestTime::default();
    Ok(row.is_locked.then(|| DigestContext {
        now: row.now.to_jiff(),
        time: DigestTime {
            time: row.digest_time.map_or(default.time, |time| time.to_jiff()),
            weekday: row.digest_weekday.and_then(|day| i8::try_from(day).ok()).unwrap_or(default.weekday),
        },
    }))
}

/// Has up to `limit` deliveries that wait decided about anew, where the tenant has changed what their waiting rests on, and
/// returns how many.
pub async fn review_waiting(transaction: &mut TenantTransaction, limit: u32) -> Result<u32, StoreError> {
    let count = sqlx::query_scalar!(
        r#"WITH picked AS (
               SELECT e.delivery_id FROM harkara.digest_entries e
               JOIN harkara.tenant_settings s USING (tenant_id)
               WHERE e.tenant_id = $1 AND e.digest_notification_id IS NULL AND e.decided_at < s.held_review_at
                 AND s.held_review_at <= harkara.now()
               ORDER BY e.decided_at
               LIMIT $2
           ),
           asked AS (
               UPDATE harkara.deliveries d
               SET not_before = harkara.now(), due_at = harkara.now(), updated_at = harkara.now()
               FROM picked p
               WHERE d.tenant_id = $1 AND d.delivery_id = p.delivery_id AND d.state = 'held' AND d.reason = 'cadence_not_due'
               RETURNING d.delivery_id
           ),
           marked AS (
               UPDATE harkara.digest_entries e
               SET decided_at = NULL
               FROM picked p
               -- Deliveries first, as whoever records an attempt does.
               WHERE e.tenant_id = $1 AND e.delivery_id = p.delivery_id AND (SELECT count(*) FROM asked) >= 0
           )
           SELECT count(*) AS "count!" FROM picked"#,
        transaction.tenant.as_uuid(),
        i64::from(limit),
    )
    .fetch_one(&mut *transaction.connection)
    .await?;
    u32::try_from(count).map_err(|_| StoreError::Corrupt("count"))
}

/// Up to `limit` digests for which something waits that is due, without what waits.
pub async fn read_due_digests(
    transaction: &mut TenantTransaction,
    context: &DigestContext,
    limit: u32,
) -> Result<Vec<OpenDigest>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT g.recipient_id, g.category_key, g.channel, coalesce(r.time_zone, t.time_zone) AS "time_zone!",
                  p.digest_time AS "digest_time?: jiff_sqlx::Time", p.digest_weekday AS "digest_weekday?",
                  d.closed_to AS "closed_to?: jiff_sqlx::Timestamp"
           FROM (
               SELECT e.recipient_id, e.category_key, e.channel, min(e.due_at) AS due_at
               FROM (
                   SELECT e.recipient_id, e.category_key, e.channel, e.due_at FROM harkara.digest_entries e
                   WHERE e.tenant_id = $1 AND e.digest_notification_id IS NULL AND e.due_at <= harkara.now()
                     -- As the index of what is due has it.
                     AND e.due_at > '-infinity'
                   ORDER BY e.due_at
                   LIMIT $2
               ) e
               GROUP BY e.recipient_id, e.category_key, e.channel
               ORDER BY due_at
               LIMIT $3
           ) g
           JOIN harkara.tenants t ON t.tenant_id = $1
           JOIN harkara.recipients r ON r.tenant_id = $1 AND r.recipient_id = g.recipient_id
           LEFT JOIN harkara.preferences p
               ON p.tenant_id = $1 AND p.subject_id = r.subject_id AND p.category_key = '*' AND p.channel = '*'
           CROSS JOIN LATERAL (
               SELECT max(d.period_end_at) AS closed_to FROM harkara.digests d
               WHERE d.tenant_id = $1 AND d.recipient_id = g.recipient_id AND d.category_key = g.category_key
                 AND d.channel = g.channel
           ) d
           ORDER BY g.due_at, g.recipient_id, g.category_key, g.channel"#,
        transaction.tenant.as_uuid(),
        LOOKED_AT,
        i64::from(limit),
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let open = rows.into_iter().map(|row| {
        Ok(OpenDigest {
            key: DigestKey {
                recipient: read_recipient(&row.recipient_id)?,
                category: read_category(&row.category_key)?,
                channel: read_channel(&row.channel)?,
            },
            zone: parse_zone(&row.time_zone).zone(),
            time: context.time.chosen_by(read_choice(row.digest_time, row.digest_weekday)),
            closed_to: row.closed_to.map(|at| at.to_jiff()),
            round: None,
            members: Vec::new(),
        })
    });
    open.collect()
}

/// Adds what waits for these digests and is due, locked until the transaction ends. Where it is too much for one
/// transaction, the digests for which there is no room are dropped from the end.
pub async fn read_members(transaction: &mut TenantTransaction, open: &mut Vec<OpenDigest>) -> Result<(), StoreError> {
    let keys = KeyColumns::of(open.iter().map(|open| &open.key));
    let rows = sqlx::query_file!(
        "src/store/read_digest_members.sql",
        transaction.tenant.as_uuid(),
        &keys.recipients,
        &keys.categories,
        &keys.channels,
        whole(MAX_MEMBERS),
        whole(MAX_SETTLED),
        whole(MAX_ITEMS),
        whole(MAX_ITEM_BYTES),
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let full_to = rows.first().filter(|row| row.picked_count >= whole(MAX_SETTLED)).map(|row| row.last_place);
    for row in rows {
        let place = usize::try_from(row.place).ok().and_then(|place| place.checked_sub(1));
        let open = place.and_then(|place| open.get_mut(place)).ok_or(StoreError::Corrupt("place"))?;
        open.members.push(Member {
            delivery: DeliveryId::from_uuid(row.delivery_id),
            period_end: row.due_at.to_jiff(),
            cadence: Cadence::parse(&row.cadence).ok_or(StoreError::Corrupt("cadence"))?,
            standing: match row.standing.as_str() {
                "waiting" => Standing::Waiting,
                "expired" => Standing::Expired,
                "gone" => Standing::Gone,
                _ => return Err(StoreError::Corrupt("standing")),
            },
            category: row.category_key,
            category_name: row.category_name,
            data: row.data,
        });
    }
    // The last one may have been cut off, and who comes behind it has not been looked at.
    if let Some(last) = full_to.and_then(|place| usize::try_from(place).ok()) {
        open.truncate(last.saturating_sub(1).max(1));
    }
    Ok(())
}

/// Stores the digests that leave, and what becomes of each delivery that waited.
pub async fn write_digests(
    transaction: &mut TenantTransaction,
    closed: &[ClosedDigest],
    fates: &[(DeliveryId, Fate)],
) -> Result<(), StoreError> {
    let keys = KeyColumns::of(closed.iter().map(|closed| &closed.key));
    let notifications: Vec<_> = closed.iter().map(|closed| closed.notification.as_uuid()).collect();
    let period_ends: Vec<_> = closed.iter().map(|closed| closed.period_end.to_sqlx()).collect();
    let regular: Vec<_> = closed.iter().map(|closed| closed.is_regular).collect();
    let counts: Vec<_> = closed.iter().map(|closed| i32::try_from(closed.member_count).unwrap_or(i32::MAX)).collect();
    let deliveries: Vec<_> = fates.iter().map(|(delivery, _)| delivery.as_uuid()).collect();
    let columns: Vec<_> = fates.iter().map(|(_, fate)| print_fate(*fate)).collect();
    let names: Vec<_> = columns.iter().map(|(name, _, _)| (*name).to_owned()).collect();
    let digests: Vec<_> = columns.iter().map(|(_, digest, _)| *digest).collect();
    let dues: Vec<_> = columns.iter().map(|(_, _, due)| *due).collect();
    let events: Vec<_> = fates.iter().map(|_| new_uuid()).collect();
    sqlx::query_file!(
        "src/store/write_digests.sql",
        transaction.tenant.as_uuid(),
        &notifications,
        &keys.recipients,
        &keys.categories,
        &keys.channels,
        &period_ends as &[jiff_sqlx::Timestamp],
        &regular,
        &counts,
        &deliveries,
        &names,
        &digests as &[Option<uuid::Uuid>],
        &dues as &[Option<jiff_sqlx::Timestamp>],
        &events,
        i32::try_from(DIGEST_GRACE.as_secs()).unwrap_or(i32::MAX),
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(())
}

/// Where recipients find what digests of these categories have no room for.
pub async fn read_more_urls(
    transaction: &mut TenantTransaction,
    categories: &[String],
) -> Result<Vec<(String, String)>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT category_key, digest_more_url AS "url!" FROM harkara.categories
           WHERE tenant_id = $1 AND category_key = ANY ($2) AND digest_more_url IS NOT NULL"#,
        transaction.tenant.as_uuid(),
        categories,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.category_key, row.url)).collect())
}

fn print_fate(fate: Fate) -> (&'static str, Option<uuid::Uuid>, Option<jiff_sqlx::Timestamp>) {
    match fate {
        Fate::Absorbed(notification) => ("absorbed", Some(notification.as_uuid()), None),
        Fate::Expired => ("expired", None, None),
        Fate::Postponed(due) => ("postponed", None, Some(due.to_sqlx())),
        Fate::Released => ("released", None, None),
        Fate::Gone => ("gone", None, None),
    }
}

/// The columns of keys, as the statements take them.
struct KeyColumns {
    recipients: Vec<String>,
    categories: Vec<String>,
    channels: Vec<String>,
}

impl KeyColumns {
    fn of<'a>(keys: impl Iterator<Item = &'a DigestKey>) -> Self {
        let mut columns = Self { recipients: Vec::new(), categories: Vec::new(), channels: Vec::new() };
        for DigestKey { recipient, category, channel } in keys {
            columns.recipients.push(recipient.as_str().to_owned());
            columns.categories.push(category.as_str().to_owned());
            columns.channels.push(channel.as_str().to_owned());
        }
        columns
    }
}

fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn read_recipient(stored: &str) -> Result<RecipientKey, StoreError> {
    RecipientKey::parse(stored).map_err(|_| StoreError::Corrupt("recipient"))
}

pub(super) fn read_category(stored: &str) -> Result<CategoryKey, StoreError> {
    CategoryKey::parse(stored).map_err(|_| StoreError::Corrupt("category"))
}

pub(super) fn read_channel(stored: &str) -> Result<Channel, StoreError> {
    Channel::parse(stored).ok_or(StoreError::Corrupt("channel"))
}
