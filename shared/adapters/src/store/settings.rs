//! What a tenant decides for all its categories: its row of `harkara.tenant_settings`.

use super::database::{StoreError, TenantTransaction};
use domain::category::Limit;
use domain::decision::DigestTime;
use jiff_sqlx::ToSqlx;

/// A tenant's settings; what has no row is the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// At most so many marketing, reminder and digest notifications to one recipient.
    pub frequency_cap: Option<Limit>,
    /// When a daily or weekly cadence ends.
    pub digest: DigestTime,
}

/// The tenant's settings.
pub async fn read_settings(transaction: &mut TenantTransaction) -> Result<Settings, StoreError> {
    let row = sqlx::query!(
        r#"SELECT cap_limit, cap_window_seconds, digest_time AS "digest_time: jiff_sqlx::Time", digest_weekday
           FROM harkara.tenant_settings WHERE tenant_id = $1"#,
        transaction.tenant.as_uuid(),
    )
    .fetch_optional(&mut *transaction.connection)
    .await?;
    let Some(row) = row else { return Ok(Settings::default()) };
    Ok(Settings {
        frequency_cap: row
            .cap_limit
            .zip(row.cap_window_seconds)
            .map(|(limit, window)| Limit { limit: limit.unsigned_abs(), window_seconds: window.unsigned_abs() }),
        digest: DigestTime {
            time: row.digest_time.to_jiff(),
            weekday: i8::try_from(row.digest_weekday).map_err(|_| StoreError::Corrupt("weekday"))?,
        },
    })
}

/// Replaces the tenant's settings.
pub async fn put_settings(transaction: &mut TenantTransaction, settings: &Settings) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO harkara.tenant_settings (tenant_id, cap_limit, cap_window_seconds, digest_time, digest_weekday)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (tenant_id) DO UPDATE
         SET cap_limit = excluded.cap_limit, cap_window_seconds = excluded.cap_window_seconds,
             digest_time = excluded.digest_time, digest_weekday = excluded.digest_weekday, updated_at = now()",
        transaction.tenant.as_uuid(),
        settings.frequency_cap.map(|cap| cap.limit.cast_signed()),
        settings.frequency_cap.map(|cap| cap.window_seconds.cast_signed()),
        settings.digest.time.to_sqlx() as jiff_sqlx::Time,
        i32::from(settings.digest.weekday),
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(())
}
