//! What waits for digests, and the digests: `flow::digest`'s statements.
//!
//! All but one are within a transaction of one tenant, which [`try_lock`] makes the tenant's only one of its kind. Each
//! serves a batch of recipients, whatever they are.

use super::claim_row::parse_zone;
use super::database::{Database, StoreError, TenantTransaction};
use crate::ids::new_uuid;
use domain::decision::DigestTime;
use domain::delivery::Channel;
use domain::digest::{DIGEST_GRACE, DigestKey, MAX_ITEM_BYTES, MAX_ITEMS, MAX_MEMBERS, Member, OpenDigest, Standing};
use domain::id::{CategoryKey, DeliveryId, NotificationId, RecipientKey, TenantId};
use domain::preference::Cadence;
use jiff::Timestamp;
use jiff::tz::TimeZone;
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
    /// When a day and a week end.
    pub time: DigestTime,
}

/// A category with a rhythm of its own in one zone: its next period is to be worked out.
#[derive(Clone, Debug)]
pub struct Unplanned {
    /// The category.
    pub category: String,
    /// Its rhythm.
    pub cadence: Cadence,
    /// The zone as the round is known by.
    pub zone_key: String,
    /// The zone.
    pub zone: TimeZone,
    /// What the period is worked out from, for comparison.
    pub basis: String,
}

/// A round that is due: one category in one zone.
#[derive(Clone, Debug)]
pub struct DueRound {
    /// The category.
    pub category: CategoryKey,
    /// Its rhythm.
    pub cadence: Cadence,
    /// The channels of its digests.
    pub channels: Vec<Channel>,
    /// The zone as the round is known by.
    pub zone_key: String,
    /// The zone.
    pub zone: TimeZone,
    /// The period's end.
    pub due: Timestamp,
    /// The last recipient who was served.
    pub after: Option<String>,
    /// Whether what is empty goes to everybody.
    pub send_empty: bool,
}

/// A recipient of a round.
#[derive(Clone, Debug)]
pub struct RoundRecipient {
    /// Who.
    pub key: RecipientKey,
    /// Whether the category is mandatory for this one.
    pub is_mandatory: bool,
    /// The end of the last period that was closed.
    pub closed_to: Option<Timestamp>,
    /// The end of the last period that a round has closed.
    pub regular_to: Option<Timestamp>,
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

/// The tenants that have something to close or to plan, across tenants, in no order, so that none is always the last.
pub async fn list_tenants_across_tenants(database: &Database) -> Result<Vec<TenantId>, StoreError> {
    let mut connection = database.connection().await?;
    let rows = sqlx::query_scalar!(
        r#"-- Steps from tenant to tenant through the indexes, however much waits with each.
           WITH RECURSIVE waiting AS (
               (SELECT e.tenant_id FROM harkara.digest_entries e WHERE e.digest_notification_id IS NULL
                ORDER BY e.tenant_id LIMIT 1)
               UNION ALL
               SELECT (SELECT e.tenant_id FROM harkara.digest_entries e
                       WHERE e.digest_notification_id IS NULL AND e.tenant_id > w.tenant_id ORDER BY e.tenant_id LIMIT 1)
               FROM waiting w WHERE w.tenant_id IS NOT NULL
           ),
           found AS (
               SELECT w.tenant_id FROM waiting w
               CROSS JOIN LATERAL (
                   SELECT FROM harkara.digest_entries e
                   WHERE e.tenant_id = w.tenant_id AND e.digest_notification_id IS NULL AND e.due_at <= harkara.now()
                   ORDER BY e.due_at LIMIT 1
               ) due
               UNION
               SELECT c.tenant_id FROM harkara.categories c WHERE c.digest_cadence IS NOT NULL
           )
           SELECT f.tenant_id AS "tenant_id!" FROM found f ORDER BY random()"#
    )
    .fetch_all(&mut *connection)
    .await?;
    connection.give_back();
    Ok(rows.into_iter().map(TenantId::from_uuid).collect())
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

/// Rounds that are not planned yet, or from what does not hold any more, up to `limit`; rounds of categories that have no
/// rhythm any more are forgotten. A round that is due is closed first.
pub async fn read_unplanned(transaction: &mut TenantTransaction, limit: u32) -> Result<Vec<Unplanned>, StoreError> {
    let rows = sqlx::query!(
        r#"WITH RECURSIVE
           forgotten AS (
               DELETE FROM harkara.digest_rounds r
               WHERE r.tenant_id = $1 AND NOT EXISTS (
                   SELECT FROM harkara.categories c
                   WHERE c.tenant_id = $1 AND c.category_key = r.category_key AND c.digest_cadence IS NOT NULL)
           ),
           -- Steps from zone to zone through the index, however many recipients are in each.
           zones AS (
               (SELECT coalesce(r.time_zone, '') AS zone_key FROM harkara.recipients r
                WHERE r.tenant_id = $1 ORDER BY coalesce(r.time_zone, '') LIMIT 1)
               UNION ALL
               SELECT (SELECT coalesce(r.time_zone, '') FROM harkara.recipients r
                       WHERE r.tenant_id = $1 AND coalesce(r.time_zone, '') > z.zone_key
                       ORDER BY coalesce(r.time_zone, '') LIMIT 1)
               FROM zones z WHERE z.zone_key IS NOT NULL
           ),
           wanted AS (
               SELECT c.category_key, c.digest_cadence, z.zone_key, coalesce(nullif(z.zone_key, ''), t.time_zone) AS time_zone,
                      concat_ws(' ', c.digest_cadence, coalesce(nullif(z.zone_key, ''), t.time_zone),
                                coalesce(s.digest_time, '09:00'), coalesce(s.digest_weekday, 1)) AS basis
               FROM harkara.categories c
               JOIN harkara.tenants t USING (tenant_id)
               LEFT JOIN harkara.tenant_settings s USING (tenant_id)
               CROSS JOIN zones z
               WHERE c.tenant_id = $1 AND c.digest_cadence IS NOT NULL AND z.zone_key IS NOT NULL
           )
           SELECT w.category_key AS "category_key!", w.digest_cadence AS "cadence!", w.zone_key AS "zone_key!",
                  w.time_zone AS "time_zone!", w.basis AS "basis!"
           FROM wanted w
           LEFT JOIN harkara.digest_rounds r
               ON r.tenant_id = $1 AND r.category_key = w.category_key AND r.time_zone = w.zone_key
           WHERE r.basis IS DISTINCT FROM w.basis AND (r.due_at <= harkara.now()) IS NOT TRUE
           LIMIT $2"#,
        transaction.tenant.as_uuid(),
        i64::from(limit),
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let unplanned = rows.into_iter().map(|row| {
        Ok(Unplanned {
            category: row.category_key,
            cadence: Cadence::parse(&row.cadence).ok_or(StoreError::Corrupt("cadence"))?,
            zone_key: row.zone_key,
            zone: parse_zone(&row.time_zone).zone(),
            basis: row.basis,
        })
    });
    unplanned.collect()
}

/// Stores when rounds are due.
pub async fn plan_rounds(
    transaction: &mut TenantTransaction,
    planned: &[(Unplanned, Timestamp)],
) -> Result<(), StoreError> {
    let column = |read: fn(&Unplanned) -> &str| planned.iter().map(|(round, _)| read(round).to_owned()).collect();
    let categories: Vec<String> = column(|round| &round.category);
    let zones: Vec<String> = column(|round| &round.zone_key);
    let bases: Vec<String> = column(|round| &round.basis);
    let dues: Vec<_> = planned.iter().map(|(_, due)| due.to_sqlx()).collect();
    sqlx::query!(
        "INSERT INTO harkara.digest_rounds (tenant_id, category_key, time_zone, basis, due_at)
         SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[], $5::timestamptz[])
         ON CONFLICT (tenant_id, category_key, time_zone) DO UPDATE
         SET basis = excluded.basis, due_at = excluded.due_at, after_recipient = NULL",
        transaction.tenant.as_uuid(),
        &categories,
        &zones,
        &bases,
        &dues as &[jiff_sqlx::Timestamp],
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(())
}

/// The round that is due the longest.
pub async fn read_due_round(transaction: &mut TenantTransaction) -> Result<Option<DueRound>, StoreError> {
    let row = sqlx::query!(
        r#"SELECT r.category_key, r.time_zone AS zone_key, r.due_at AS "due_at: jiff_sqlx::Timestamp", r.after_recipient,
                  coalesce(nullif(r.time_zone, ''), t.time_zone) AS "time_zone!", c.digest_cadence AS "cadence!",
                  c.channels, c.digest_send_empty
           FROM harkara.digest_rounds r
           JOIN harkara.tenants t USING (tenant_id)
           JOIN harkara.categories c USING (tenant_id, category_key)
           WHERE r.tenant_id = $1 AND r.due_at <= harkara.now() AND c.digest_cadence IS NOT NULL
           ORDER BY r.due_at, r.category_key, r.time_zone
           LIMIT 1"#,
        transaction.tenant.as_uuid(),
    )
    .fetch_optional(&mut *transaction.connection)
    .await?;
    row.map(|row| {
        let channels = row.channels.iter().map(|name| read_channel(name));
        Ok(DueRound {
            category: read_category(&row.category_key)?,
            cadence: Cadence::parse(&row.cadence).ok_or(StoreError::Corrupt("cadence"))?,
            channels: channels.collect::<Result<_, StoreError>>()?,
            zone_key: row.zone_key,
            zone: parse_zone(&row.time_zone).zone(),
            due: row.due_at.to_jiff(),
            after: row.after_recipient,
            send_empty: row.digest_send_empty,
        })
    })
    .transpose()
}

/// The next recipients of a round, by their ids.
pub async fn read_round_recipients(
    transaction: &mut TenantTransaction,
    round: &DueRound,
    limit: u32,
) -> Result<Vec<RoundRecipient>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT r.recipient_id, o.is_mandatory AS "is_mandatory!",
                  d.closed_to AS "closed_to?: jiff_sqlx::Timestamp", d.regular_to AS "regular_to?: jiff_sqlx::Timestamp"
           FROM harkara.categories c
           JOIN harkara.recipients r USING (tenant_id)
           CROSS JOIN LATERAL (SELECT c.unmutable_roles && (r.roles || '{*}'::text[]) AS is_mandatory) o
           CROSS JOIN LATERAL (
               SELECT max(d.period_end_at) AS closed_to, max(d.period_end_at) FILTER (WHERE d.is_regular) AS regular_to
               FROM harkara.digests d
               WHERE d.tenant_id = $1 AND d.recipient_id = r.recipient_id AND d.category_key = c.category_key
                 -- What is older is of no period that could be meant.
                 AND d.period_end_at > harkara.now() - interval '10 days'
           ) d
           WHERE c.tenant_id = $1 AND c.category_key = $2 AND coalesce(r.time_zone, '') = $3
             AND ($4::text IS NULL OR r.recipient_id > $4) AND r.erased_at IS NULL
             AND (o.is_mandatory OR c.digest_roles && (r.roles || '{*}'::text[]))
           ORDER BY r.recipient_id
           LIMIT $5"#,
        transaction.tenant.as_uuid(),
        round.category.as_str(),
        round.zone_key,
        round.after,
        i64::from(limit),
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let recipient = rows.into_iter().map(|row| {
        Ok(RoundRecipient {
            key: read_recipient(&row.recipient_id)?,
            is_mandatory: row.is_mandatory,
            closed_to: row.closed_to.map(|at| at.to_jiff()),
            regular_to: row.regular_to.map(|at| at.to_jiff()),
        })
    });
    recipient.collect()
}

/// Keeps how far a round has come: to this recipient, or to its end and so to its next period.
pub async fn move_round(
    transaction: &mut TenantTransaction,
    round: &DueRound,
    due: Timestamp,
    after: Option<&RecipientKey>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE harkara.digest_rounds SET due_at = $4, after_recipient = $5
         WHERE tenant_id = $1 AND category_key = $2 AND time_zone = $3",
        transaction.tenant.as_uuid(),
        round.category.as_str(),
        round.zone_key,
        due.to_sqlx() as jiff_sqlx::Timestamp,
        after.map(|key| key.as_str()),
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(())
}

/// Up to `limit` digests for which something waits that is due, without what waits.
pub async fn read_due_digests(transaction: &mut TenantTransaction, limit: u32) -> Result<Vec<OpenDigest>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT g.recipient_id, g.category_key, g.channel, coalesce(r.time_zone, t.time_zone) AS "time_zone!",
                  d.closed_to AS "closed_to?: jiff_sqlx::Timestamp"
           FROM (
               SELECT e.recipient_id, e.category_key, e.channel, min(e.due_at) AS due_at
               FROM (
                   SELECT e.recipient_id, e.category_key, e.channel, e.due_at FROM harkara.digest_entries e
                   WHERE e.tenant_id = $1 AND e.digest_notification_id IS NULL AND e.due_at <= harkara.now()
                   ORDER BY e.due_at
                   LIMIT $2
               ) e
               GROUP BY e.recipient_id, e.category_key, e.channel
               ORDER BY due_at
               LIMIT $3
           ) g
           JOIN harkara.tenants t ON t.tenant_id = $1
           JOIN harkara.recipients r ON r.tenant_id = $1 AND r.recipient_id = g.recipient_id
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

fn read_recipient(stored: &str) -> Result<RecipientKey, StoreError> {
    RecipientKey::parse(stored).map_err(|_| StoreError::Corrupt("recipient"))
}

fn read_category(stored: &str) -> Result<CategoryKey, StoreError> {
    CategoryKey::parse(stored).map_err(|_| StoreError::Corrupt("category"))
}

fn read_channel(stored: &str) -> Result<Channel, StoreError> {
    Channel::parse(stored).ok_or(StoreError::Corrupt("channel"))
}
