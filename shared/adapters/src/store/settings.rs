//! What a tenant decides for all its categories and recipients: its row of `harkara.tenant_settings`, and the last resort
//! for languages and zones in its row of `harkara.tenants`.

use super::database::{StoreError, TenantTransaction};
use domain::category::{Class, Limit};
use domain::decision::DigestTime;
use domain::id::CategoryKey;
use domain::locale::Locale;
use domain::moment::TimeZoneName;
use domain::retention::Retention;
use jiff_sqlx::ToSqlx;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A tenant's settings; what has no row is the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// At most so many marketing, reminder and digest notifications to one recipient.
    pub frequency_cap: Option<Limit>,
    /// When a daily or weekly cadence ends.
    pub digest: DigestTime,
    /// For how long it keeps what has ended.
    pub retention: Retention,
    /// The category of the digest that collects for categories that name none; without one, each delivery goes by itself.
    pub digest_category: Option<CategoryKey>,
    /// The language of recipients who have none.
    pub locale: Locale,
    /// The zone of recipients who have none.
    pub time_zone: TimeZoneName,
}

/// What holds for a tenant that says nothing; the columns of both tables have the same defaults.
impl Default for Settings {
    fn default() -> Self {
        Self {
            frequency_cap: None,
            digest: DigestTime::default(),
            retention: Retention::default(),
            digest_category: None,
            locale: Locale::parse("en").expect("a language of two letters is a locale"),
            time_zone: TimeZoneName::parse("UTC").expect("every list of zones has UTC"),
        }
    }
}

/// The tenant's settings.
pub async fn read_settings(transaction: &mut TenantTransaction) -> Result<Settings, StoreError> {
    let row = sqlx::query!(
        r#"SELECT t.locale, t.time_zone, s.cap_limit, s.cap_window_seconds,
                  s.digest_time AS "digest_time?: jiff_sqlx::Time", s.digest_weekday AS "digest_weekday?",
                  s.retention_days AS "retention_days?", s.retention_days_by_class AS "retention_days_by_class?",
                  s.digest_category
           FROM harkara.tenants t LEFT JOIN harkara.tenant_settings s USING (tenant_id)
           WHERE t.tenant_id = $1"#,
        transaction.tenant.as_uuid(),
    )
    .fetch_one(&mut *transaction.connection)
    .await?;
    let default = Settings::default();
    let weekday = row.digest_weekday.map(i8::try_from).transpose().map_err(|_| StoreError::Corrupt("weekday"))?;
    Ok(Settings {
        frequency_cap: row
            .cap_limit
            .zip(row.cap_window_seconds)
            .map(|(limit, window)| Limit { limit: limit.unsigned_abs(), window_seconds: window.unsigned_abs() }),
        digest: DigestTime {
            time: row.digest_time.map_or(default.digest.time, |time| time.to_jiff()),
            weekday: weekday.unwrap_or(default.digest.weekday),
        },
        retention: Retention {
            default_days: row.retention_days.map_or(default.retention.default_days, i32::unsigned_abs),
            by_class: read_days(row.retention_days_by_class.as_ref())?,
        },
        digest_category: row
            .digest_category
            .map(|key| CategoryKey::parse(&key).map_err(|_| StoreError::Corrupt("category")))
            .transpose()?,
        locale: Locale::parse(&row.locale).map_err(|_| StoreError::Corrupt("locale"))?,
        // Whoever wrote an unknown one into the database can mend it here.
        time_zone: TimeZoneName::parse(&row.time_zone).unwrap_or(default.time_zone),
    })
}

/// Replaces the tenant's settings.
pub async fn put_settings(transaction: &mut TenantTransaction, settings: &Settings) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO harkara.tenant_settings
             (tenant_id, cap_limit, cap_window_seconds, digest_time, digest_weekday, retention_days, retention_days_by_class,
              digest_category)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (tenant_id) DO UPDATE
         SET cap_limit = excluded.cap_limit, cap_window_seconds = excluded.cap_window_seconds,
             digest_time = excluded.digest_time, digest_weekday = excluded.digest_weekday,
             retention_days = excluded.retention_days, retention_days_by_class = excluded.retention_days_by_class,
             digest_category = excluded.digest_category, updated_at = harkara.now()",
        transaction.tenant.as_uuid(),
        settings.frequency_cap.map(|cap| cap.limit.cast_signed()),
        settings.frequency_cap.map(|cap| cap.window_seconds.cast_signed()),
        settings.digest.time.to_sqlx() as jiff_sqlx::Time,
        i32::from(settings.digest.weekday),
        settings.retention.default_days.cast_signed(),
        print_days(&settings.retention.by_class),
        settings.digest_category.as_ref().map(|key| key.as_str()),
    )
    .execute(&mut *transaction.connection)
    .await?;
    // Every claim of the tenant reads its row, so it is left alone where nothing changes.
    sqlx::query!(
        "UPDATE harkara.tenants SET locale = $2, time_zone = $3, updated_at = harkara.now()
         WHERE tenant_id = $1 AND (locale, time_zone) IS DISTINCT FROM ($2, $3)",
        transaction.tenant.as_uuid(),
        settings.locale.as_str(),
        settings.time_zone.as_str(),
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(())
}

fn read_days(stored: Option<&Value>) -> Result<BTreeMap<Class, u32>, StoreError> {
    let entries = stored.and_then(Value::as_object).into_iter().flatten();
    let entry = |(class, days): (&String, &Value)| {
        Class::parse(class).zip(days.as_u64().and_then(|days| u32::try_from(days).ok()))
    };
    entries.map(entry).collect::<Option<_>>().ok_or(StoreError::Corrupt("retention"))
}

fn print_days(by_class: &BTreeMap<Class, u32>) -> Value {
    let entry = |(class, days): (&Class, &u32)| (class.as_str().to_owned(), Value::from(*days));
    Value::Object(by_class.iter().map(entry).collect::<Map<_, _>>())
}
