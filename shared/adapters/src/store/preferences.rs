//! What recipients and tenants want: rows of `harkara.preferences`.

use super::database::{StoreError, TenantTransaction};
use domain::delivery::Channel;
use domain::id::CategoryKey;
use domain::link::SubjectId;
use domain::preference::{Cadence, DigestChoice, Origin, QuietChoice, StatedWish, Wish};
use jiff::civil::Time;
use jiff_sqlx::ToSqlx;
use serde_json::Value;

/// The subject under which a tenant keeps what it wants for those who say nothing.
pub const TENANT_SUBJECT: SubjectId = SubjectId::from_uuid(uuid::Uuid::nil());
/// Stands for every category, and every channel.
const ALL: &str = "*";

/// What a subject has stated, in the order of categories and channels.
pub async fn list_wishes(
    transaction: &mut TenantTransaction,
    subject: SubjectId,
) -> Result<Vec<StatedWish>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT category_key, channel, is_on, cadence, quiet_from AS "quiet_from: jiff_sqlx::Time",
                  quiet_until AS "quiet_until: jiff_sqlx::Time", digest_time AS "digest_time: jiff_sqlx::Time",
                  digest_weekday
           FROM harkara.preferences WHERE tenant_id = $1 AND subject_id = $2
           ORDER BY category_key, channel"#,
        transaction.tenant.as_uuid(),
        subject.as_uuid(),
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let stated = rows.into_iter().map(|row| {
        let quiet = row.quiet_from.zip(row.quiet_until);
        Ok(StatedWish {
            category: read_category(&row.category_key)?,
            channel: read_channel(&row.channel)?,
            wish: Wish {
                is_on: row.is_on,
                cadence: read_cadence(row.cadence.as_deref())?,
                quiet_hours: quiet.map(|(from, until)| QuietChoice::of(from.to_jiff(), until.to_jiff())),
                digest: read_choice(row.digest_time, row.digest_weekday),
            },
        })
    });
    stated.collect()
}

/// Replaces everything that a subject has stated. Rows that stay as they were are not written.
pub async fn replace_wishes(
    transaction: &mut TenantTransaction,
    subject: SubjectId,
    stated: &[StatedWish],
) -> Result<(), StoreError> {
    let columns = Columns::of(stated);
    sqlx::query!(
        "DELETE FROM harkara.preferences
         WHERE tenant_id = $1 AND subject_id = $2
           AND (category_key, channel) NOT IN (SELECT * FROM unnest($3::text[], $4::text[]))",
        transaction.tenant.as_uuid(),
        subject.as_uuid(),
        &columns.categories,
        &columns.channels,
    )
    .execute(&mut *transaction.connection)
    .await?;
    put_columns(transaction, subject, &columns).await
}

/// States wishes beside those that there are; one about the same category and channel is replaced.
pub async fn put_wishes(
    transaction: &mut TenantTransaction,
    subject: SubjectId,
    stated: &[StatedWish],
) -> Result<(), StoreError> {
    put_columns(transaction, subject, &Columns::of(stated)).await
}

async fn put_columns(
    transaction: &mut TenantTransaction,
    subject: SubjectId,
    columns: &Columns,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO harkara.preferences AS p
             (tenant_id, subject_id, category_key, channel, is_on, cadence, quiet_from, quiet_until, digest_time,
              digest_weekday)
         SELECT $1, $2, * FROM unnest(
             $3::text[], $4::text[], $5::boolean[], $6::text[], $7::time[], $8::time[], $9::time[], $10::integer[])
         ON CONFLICT (tenant_id, subject_id, category_key, channel) DO UPDATE
         SET is_on = excluded.is_on, cadence = excluded.cadence, quiet_from = excluded.quiet_from,
             quiet_until = excluded.quiet_until, digest_time = excluded.digest_time,
             digest_weekday = excluded.digest_weekday, updated_at = harkara.now()
         WHERE (p.is_on, p.cadence, p.quiet_from, p.quiet_until, p.digest_time, p.digest_weekday)
               IS DISTINCT FROM (excluded.is_on, excluded.cadence, excluded.quiet_from, excluded.quiet_until,
                                 excluded.digest_time, excluded.digest_weekday)",
        transaction.tenant.as_uuid(),
        subject.as_uuid(),
        &columns.categories,
        &columns.channels,
        &columns.switches as &[Option<bool>],
        &columns.cadences as &[Option<String>],
        &columns.quiet_from as &[Option<jiff_sqlx::Time>],
        &columns.quiet_until as &[Option<jiff_sqlx::Time>],
        &columns.digest_times as &[Option<jiff_sqlx::Time>],
        &columns.digest_weekdays as &[Option<i32>],
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(())
}

/// The columns of stated wishes, as the statements take them.
#[derive(Default)]
struct Columns {
    categories: Vec<String>,
    channels: Vec<String>,
    switches: Vec<Option<bool>>,
    cadences: Vec<Option<String>>,
    quiet_from: Vec<Option<jiff_sqlx::Time>>,
    quiet_until: Vec<Option<jiff_sqlx::Time>>,
    digest_times: Vec<Option<jiff_sqlx::Time>>,
    digest_weekdays: Vec<Option<i32>>,
}

impl Columns {
    fn of(stated: &[StatedWish]) -> Self {
        let mut columns = Self::default();
        for StatedWish { category, channel, wish: Wish { is_on, cadence, quiet_hours, digest } } in stated {
            columns.categories.push(category.as_ref().map_or(ALL, |key| key.as_str()).to_owned());
            columns.channels.push(channel.map_or(ALL, Channel::as_str).to_owned());
            columns.switches.push(*is_on);
            columns.cadences.push(cadence.map(|cadence| cadence.as_str().to_owned()));
            let times = quiet_hours.map(QuietChoice::times);
            columns.quiet_from.push(times.map(|(from, _)| from.to_sqlx()));
            columns.quiet_until.push(times.map(|(_, until)| until.to_sqlx()));
            columns.digest_times.push(digest.time.map(ToSqlx::to_sqlx));
            columns.digest_weekdays.push(digest.weekday.map(i32::from));
        }
        columns
    }
}

/// The wishes of a claimed row: a recipient's and its tenant's, about one category and channel.
pub(super) fn read_wishes(stored: Value) -> Result<Vec<(Origin, Wish)>, StoreError> {
    let Value::Array(rows) = stored else { return Ok(Vec::new()) };
    rows.iter().map(|row| read_wish(row).ok_or(StoreError::Corrupt("preference"))).collect()
}

fn read_wish(row: &Value) -> Option<(Origin, Wish)> {
    let time = |name: &str| row[name].as_str().and_then(|text| text.parse::<Time>().ok());
    let names = |column: &str| row[column].as_str().is_some_and(|key| key != ALL);
    let origin = Origin::of(row["is_tenants"].as_bool()?, names("category"), names("channel"));
    let wish = Wish {
        is_on: row["is_on"].as_bool(),
        cadence: read_cadence(row["cadence"].as_str()).ok()?,
        quiet_hours: time("quiet_from").zip(time("quiet_until")).map(|(from, until)| QuietChoice::of(from, until)),
        digest: DigestChoice {
            time: time("digest_time"),
            weekday: row["digest_weekday"].as_i64().and_then(read_weekday),
        },
    };
    Some((origin, wish))
}

fn read_category(stored: &str) -> Result<Option<CategoryKey>, StoreError> {
    match stored {
        ALL => Ok(None),
        key => CategoryKey::parse(key).map(Some).map_err(|_| StoreError::Corrupt("category")),
    }
}

/// A channel as preferences and consents store it.
pub(super) fn read_channel(stored: &str) -> Result<Option<Channel>, StoreError> {
    match stored {
        ALL => Ok(None),
        name => Channel::parse(name).map(Some).ok_or(StoreError::Corrupt("channel")),
    }
}

/// When a recipient's digests leave, from the columns of its word about everything.
pub(super) fn read_choice(time: Option<jiff_sqlx::Time>, weekday: Option<i32>) -> DigestChoice {
    DigestChoice { time: time.map(|time| time.to_jiff()), weekday: weekday.and_then(read_weekday) }
}

fn read_weekday(stored: impl TryInto<i8>) -> Option<i8> {
    stored.try_into().ok()
}

fn read_cadence(stored: Option<&str>) -> Result<Option<Cadence>, StoreError> {
    stored.map(|name| Cadence::parse(name).ok_or(StoreError::Corrupt("cadence"))).transpose()
}
