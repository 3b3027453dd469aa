//! What a deploy does to the database: the schema, the coming partitions, the login roles' passwords, the tenants.
//!
//! Each part can be repeated: what is done already is left as it is.

use adapters::store::database::{Database, RoleLogins, StoreError};
use adapters::store::limits::{MAX_REQUESTS_PER_MINUTE, TenantLimits, set_limits};
use adapters::store::migrations::{
    NewTenant, admit_iam_logins, make_partitions, migrate_schema, set_role_password, upsert_tenants,
};
use adapters::wire::fields::{FieldError, Fields};
use domain::address::EmailAddress;
use domain::id::TenantId;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt;

/// The flow with what it needs.
pub struct Migrate {
    /// As the admin role.
    pub database: Database,
    /// How the login roles get in.
    pub logins: RoleLogins,
}

/// Why a deploy's step was not done.
#[derive(Debug)]
pub enum MigrateRefused {
    /// The event is not as it should be.
    Event(Vec<FieldError>),
    /// The database refused.
    Store(StoreError),
}

impl fmt::Display for MigrateRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(errors) => {
                f.write_str("the event is not valid:")?;
                errors.iter().try_for_each(|error| write!(f, " {} {};", error.pointer, error.detail))
            }
            Self::Store(_) => f.write_str("the database could not be brought up to date"),
        }
    }
}

impl std::error::Error for MigrateRefused {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Event(_) => None,
            Self::Store(error) => Some(error),
        }
    }
}

impl From<StoreError> for MigrateRefused {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Migrate {
    /// Brings the database up to date: `{}`, or `{"tenants": [{"id", "name", "from_address", "limits"}]}`, where `limits` is
    /// `{"requests_per_minute", "notifications_per_day"}`. What is left out of `limits` is not limited; a tenant without
    /// `limits` keeps those that it has.
    pub async fn migrate(&self, event: &Value) -> Result<Value, MigrateRefused> {
        let tenants = read_tenants(event).map_err(MigrateRefused::Event)?;
        let applied = migrate_schema(&self.database).await?;
        make_partitions(&self.database).await?;
        match &self.logins {
            RoleLogins::Iam => admit_iam_logins(&self.database).await?,
            RoleLogins::Secrets(secrets) => {
                for secret in secrets {
                    set_role_password(&self.database, secret).await?;
                }
            }
        }
        let (tenants, limits): (Vec<NewTenant>, Vec<Option<TenantLimits>>) = tenants.into_iter().unzip();
        let tenant_count = upsert_tenants(&self.database, &tenants).await?;
        for (tenant, limits) in tenants.iter().zip(limits) {
            if let Some(limits) = limits {
                set_limits(&self.database, tenant.id, limits).await?;
            }
        }
        tracing::info!(applied_count = applied.len(), tenant_count, "the database is up to date");
        Ok(json!({"applied": applied, "tenants": tenant_count}))
    }
}

/// A tenant and the limits that it is given, where the event says.
type Named = (NewTenant, Option<TenantLimits>);

fn read_tenants(event: &Value) -> Result<Vec<Named>, Vec<FieldError>> {
    let mut fields = Fields::of(event, "").map_err(|error| vec![error])?;
    let entries = fields.list("tenants");
    let mut tenants = Vec::new();
    for (place, entry) in entries.into_iter().flatten().enumerate() {
        match read_tenant(entry, format!("/tenants/{place}")) {
            Ok(tenant) => tenants.extend(tenant),
            Err(errors) => fields.extend(errors),
        }
    }
    let ids: BTreeSet<_> = tenants.iter().map(|(tenant, _)| tenant.id).collect();
    if ids.len() < tenants.len() {
        fields.wrong("tenants", "must name each id once");
    }
    fields.finish()?;
    Ok(tenants)
}

fn read_tenant(value: &Value, pointer: String) -> Result<Option<Named>, Vec<FieldError>> {
    let mut fields = Fields::of(value, pointer).map_err(|error| vec![error])?;
    let id = fields.parsed("id", TenantId::parse);
    fields.require("id", &id);
    let name = fields.string("name");
    fields.require("name", &name);
    if name.is_some_and(str::is_empty) {
        fields.wrong("name", "must not be empty");
    }
    let from_address = fields.parsed("from_address", EmailAddress::parse);
    let limits = fields.object("limits", read_limits);
    fields.finish()?;
    Ok(id.zip(name).map(|(id, name)| (NewTenant { id, name: name.to_owned(), from_address }, limits)))
}

fn read_limits(value: &Value, pointer: String) -> Result<TenantLimits, Vec<FieldError>> {
    let mut fields = Fields::of(value, pointer).map_err(|error| vec![error])?;
    let limits = TenantLimits {
        requests_per_minute: fields.number("requests_per_minute", 1, MAX_REQUESTS_PER_MINUTE),
        notifications_per_day: fields.number("notifications_per_day", 0, i32::MAX.unsigned_abs()),
    };
    fields.finish()?;
    Ok(limits)
}
