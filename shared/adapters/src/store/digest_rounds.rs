//! Rounds: the periods of digests with a rhythm of their own, a round for each category and place; for `flow::digest`.
//!
//! A place is a zone, for those who leave the time to the tenant, or a zone and a time that somebody there has chosen, as far
//! as the rhythm has one: an hour has none, and a day no weekday. It is known by a text: the zone, and behind it the time and
//! the weekday, with `-` for what nobody says.
//!
//! All within a transaction of one tenant, which [`super::digests::try_lock`] makes the tenant's only one of its kind.

use super::claim_row::parse_zone;
use super::database::{StoreError, TenantTransaction};
use super::digests::{read_category, read_channel, read_recipient};
use super::preferences::read_choice;
use domain::delivery::Channel;
use domain::id::{CategoryKey, RecipientKey};
use domain::preference::{Cadence, DigestChoice};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use jiff_sqlx::ToSqlx;

/// A category with a rhythm of its own in one place: its next period is to be worked out.
#[derive(Clone, Debug)]
pub struct Unplanned {
    /// The category.
    pub category: String,
    /// Its rhythm.
    pub cadence: Cadence,
    /// The place as the round is known by.
    pub place: String,
    /// The zone.
    pub zone: TimeZone,
    /// The time that was chosen there.
    pub choice: DigestChoice,
    /// What the period is worked out from, for comparison.
    pub basis: String,
    /// Since when the time is somebody's choice, for a place that has no round yet: a period that has ended since is theirs.
    pub since: Option<Timestamp>,
}

/// A round that is due: one category in one place.
#[derive(Clone, Debug)]
pub struct DueRound {
    /// The category.
    pub category: CategoryKey,
    /// Its rhythm.
    pub cadence: Cadence,
    /// The channels of its digests.
    pub channels: Vec<Channel>,
    /// The place as the round is known by.
    pub place: String,
    /// The recipients' own zone, empty for those who have none.
    pub zone_key: String,
    /// The zone.
    pub zone: TimeZone,
    /// The time that was chosen there.
    pub choice: DigestChoice,
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
           places AS (
               SELECT c.category_key, z.zone_key AS place, z.zone_key, NULL::time AS digest_time,
                      NULL::integer AS digest_weekday, NULL::timestamptz AS since
               FROM harkara.categories c
               CROSS JOIN zones z
               WHERE c.tenant_id = $1 AND c.digest_cadence IS NOT NULL AND z.zone_key IS NOT NULL
               UNION ALL
               SELECT c.category_key,
                      concat_ws(' ', z.zone_key, coalesce(o.digest_time::text, '-'), coalesce(o.digest_weekday::text, '-')),
                      z.zone_key, o.digest_time, o.digest_weekday,
                      greatest(min(greatest(p.updated_at, r.updated_at)), c.updated_at, harkara.now() - interval '1 day')
               FROM harkara.preferences p
               JOIN harkara.recipients r USING (tenant_id, subject_id)
               JOIN harkara.categories c USING (tenant_id)
               CROSS JOIN LATERAL (SELECT coalesce(r.time_zone, '') AS zone_key) z
               CROSS JOIN LATERAL (
                   SELECT CASE WHEN c.digest_cadence <> 'hourly' THEN p.digest_time END AS digest_time,
                          CASE WHEN c.digest_cadence = 'weekly' THEN p.digest_weekday END AS digest_weekday
               ) o
               WHERE p.tenant_id = $1 AND p.category_key = '*' AND p.channel = '*'
                 AND (p.digest_time IS NOT NULL OR p.digest_weekday IS NOT NULL)
                 AND (o.digest_time IS NOT NULL OR o.digest_weekday IS NOT NULL)
                 AND c.digest_cadence IS NOT NULL AND r.erased_at IS NULL
                 AND (c.unmutable_roles && (r.roles || '{*}'::text[]) OR c.digest_roles && (r.roles || '{*}'::text[]))
               GROUP BY c.category_key, c.updated_at, z.zone_key, o.digest_time, o.digest_weekday
           ),
           wanted AS (
               SELECT c.category_key, c.digest_cadence, p.place, p.digest_time, p.digest_weekday, p.since,
                      coalesce(nullif(p.zone_key, ''), t.time_zone) AS time_zone,
                      concat_ws(' ', c.digest_cadence, coalesce(nullif(p.zone_key, ''), t.time_zone),
                                coalesce(p.digest_time, s.digest_time, '09:00'),
                                coalesce(p.digest_weekday, s.digest_weekday, 1)) AS basis
               FROM places p
               JOIN harkara.categories c ON c.tenant_id = $1 AND c.category_key = p.category_key
               JOIN harkara.tenants t ON t.tenant_id = $1
               LEFT JOIN harkara.tenant_settings s ON s.tenant_id = $1
           )
           SELECT w.category_key AS "category_key!", w.digest_cadence AS "cadence!", w.place AS "place!",
                  w.digest_time AS "digest_time: jiff_sqlx::Time", w.digest_weekday,
                  w.time_zone AS "time_zone!", w.basis AS "basis!",
                  CASE WHEN r.basis IS NULL THEN w.since END AS "since: jiff_sqlx::Timestamp"
           FROM wanted w
           LEFT JOIN harkara.digest_rounds r
               ON r.tenant_id = $1 AND r.category_key = w.category_key AND r.time_zone = w.place
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
            place: row.place,
            zone: parse_zone(&row.time_zone).zone(),
            choice: read_choice(row.digest_time, row.digest_weekday),
            basis: row.basis,
            since: row.since.map(|at| at.to_jiff()),
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
    let places: Vec<String> = column(|round| &round.place);
    let bases: Vec<String> = column(|round| &round.basis);
    let dues: Vec<_> = planned.iter().map(|(_, due)| due.to_sqlx()).collect();
    sqlx::query!(
        "INSERT INTO harkara.digest_rounds (tenant_id, category_key, time_zone, basis, due_at)
         SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[], $5::timestamptz[])
         ON CONFLICT (tenant_id, category_key, time_zone) DO UPDATE
         SET basis = excluded.basis, due_at = excluded.due_at, after_recipient = NULL",
        transaction.tenant.as_uuid(),
        &categories,
        &places,
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
        r#"SELECT r.category_key, r.time_zone AS place, r.due_at AS "due_at: jiff_sqlx::Timestamp", r.after_recipient,
                  p.zone_key AS "zone_key!", coalesce(nullif(p.zone_key, ''), t.time_zone) AS "time_zone!",
                  p.digest_time AS "digest_time: jiff_sqlx::Time", p.digest_weekday,
                  c.digest_cadence AS "cadence!", c.channels, c.digest_send_empty
           FROM harkara.digest_rounds r
           CROSS JOIN LATERAL (
               SELECT split_part(r.time_zone, ' ', 1) AS zone_key,
                      nullif(nullif(split_part(r.time_zone, ' ', 2), ''), '-')::time AS digest_time,
                      nullif(nullif(split_part(r.time_zone, ' ', 3), ''), '-')::integer AS digest_weekday
           ) p
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
            place: row.place,
            zone_key: row.zone_key,
            zone: parse_zone(&row.time_zone).zone(),
            choice: read_choice(row.digest_time, row.digest_weekday),
            due: row.due_at.to_jiff(),
            after: row.after_recipient,
            send_empty: row.digest_send_empty,
        })
    })
    .transpose()
}

/// Reads recipients of a round: those whose wishes are joined and compared like this.
macro_rules! read_recipients {
    ($transaction:expr, $round:expr, $limit:expr, $join:literal, $condition:literal, $($argument:expr),*) => {{
        let rows = sqlx::query!(
            r#"SELECT r.recipient_id, o.is_mandatory AS "is_mandatory!",
                      d.closed_to AS "closed_to?: jiff_sqlx::Timestamp", d.regular_to AS "regular_to?: jiff_sqlx::Timestamp"
               FROM harkara.categories c
               JOIN harkara.recipients r USING (tenant_id) "#
                + $join
                + r#" harkara.preferences p
                   ON p.tenant_id = $1 AND p.subject_id = r.subject_id AND p.category_key = '*' AND p.channel = '*'
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
                 AND "#
                + $condition
                + " ORDER BY r.recipient_id LIMIT $5",
            $transaction.tenant.as_uuid(),
            $round.category.as_str(),
            $round.zone_key,
            $round.after,
            i64::from($limit),
            $($argument),*
        )
        .fetch_all(&mut *$transaction.connection)
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
    }};
}

/// The next recipients of a round, by their ids.
pub async fn read_round_recipients(
    transaction: &mut TenantTransaction,
    round: &DueRound,
    limit: u32,
) -> Result<Vec<RoundRecipient>, StoreError> {
    let (has_time, has_weekday) = (round.cadence != Cadence::Hourly, round.cadence == Cadence::Weekly);
    if round.choice == DigestChoice::default() {
        return read_recipients!(
            transaction,
            round,
            limit,
            "LEFT JOIN",
            "($6 AND p.digest_time IS NOT NULL OR $7 AND p.digest_weekday IS NOT NULL) IS NOT TRUE",
            has_time,
            has_weekday
        );
    }
    // A few of a zone, perhaps: they are found by their choice.
    read_recipients!(
        transaction,
        round,
        limit,
        "JOIN",
        "(p.digest_time IS NOT NULL OR p.digest_weekday IS NOT NULL)
         AND coalesce(p.digest_time, '24:00') = coalesce($6::time, '24:00')
         AND (NOT $8 OR coalesce(p.digest_weekday, 0) = coalesce($7::integer, 0))",
        round.choice.time.map(ToSqlx::to_sqlx) as Option<jiff_sqlx::Time>,
        round.choice.weekday.map(i32::from),
        has_weekday
    )
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
        round.place,
        due.to_sqlx() as jiff_sqlx::Timestamp,
        after.map(|key| key.as_str()),
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(())
}

/// Forgets a round of a place where nobody is any more; who comes there later gets a new one.
pub async fn forget_round(transaction: &mut TenantTransaction, round: &DueRound) -> Result<(), StoreError> {
    sqlx::query!(
        "DELETE FROM harkara.digest_rounds WHERE tenant_id = $1 AND category_key = $2 AND time_zone = $3",
        transaction.tenant.as_uuid(),
        round.category.as_str(),
        round.place,
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(())
}
