//! The tenant of a transaction, as far as its own requests need it.

use super::database::{StoreError, TenantTransaction};
use domain::locale::Locale;

/// The tenant.
#[derive(Clone, Debug)]
pub struct TenantRow {
    /// What it is called.
    pub name: String,
    /// The language of recipients who have none.
    pub locale: Locale,
    /// The zone of recipients who have none.
    pub time_zone: String,
}

impl TenantRow {
    /// The locales to look for a variant in, the best first, as the claim looks for them.
    pub fn locales_for<'a>(&'a self, locale: &'a str) -> [&'a str; 5] {
        let language = locale.split('-').next().unwrap_or(locale);
        [locale, language, self.locale.as_str(), self.locale.language(), "en"]
    }
}

/// The transaction's own tenant.
pub async fn read_tenant(transaction: &mut TenantTransaction) -> Result<TenantRow, StoreError> {
    let row = sqlx::query!(
        "SELECT name, locale, time_zone FROM harkara.tenants WHERE tenant_id = $1",
        transaction.tenant.as_uuid(),
    )
    .fetch_one(&mut *transaction.connection)
    .await?;
    Ok(TenantRow {
        name: row.name,
        locale: Locale::parse(&row.locale).map_err(|_| StoreError::Corrupt("locale"))?,
        time_zone: row.time_zone,
    })
}
