//! The schema, embedded, and what a deploy does beside it.

use super::database::{Database, DatabaseConfig, StoreError};
use domain::address::EmailAddress;
use domain::id::TenantId;
use secrecy::ExposeSecret;
use sqlx::migrate::{Migrate, Migrator};

/// Every migration, in order.
pub static MIGRATOR: Migrator = sqlx::migrate!("../../migrations");

/// A tenant as a deploy names it.
#[derive(Clone, Debug)]
pub struct NewTenant {
    /// Its id, as tokens carry it.
    pub id: TenantId,
    /// Its name, for people.
    pub name: String,
    /// The sender of its mail.
    pub from_address: Option<EmailAddress>,
}

/// Applies what is missing and returns the names of what was applied.
pub async fn migrate_schema(database: &Database) -> Result<Vec<String>, StoreError> {
    let mut connection = database.connection().await?;
    connection.ensure_migrations_table(&MIGRATOR.table_name).await?;
    let before: Vec<i64> = connection
        .list_applied_migrations(&MIGRATOR.table_name)
        .await?
        .into_iter()
        .map(|applied| applied.version)
        .collect();
    MIGRATOR.run(&mut *connection).await?;
    connection.give_back();
    let applied = MIGRATOR.iter().filter(|migration| !before.contains(&migration.version));
    Ok(applied.map(|migration| format!("{}_{}", migration.version, migration.description.replace(' ', "_"))).collect())
}

/// Makes the partitions of the coming year, where they are missing.
pub async fn make_partitions(database: &Database) -> Result<(), StoreError> {
    let mut connection = database.connection().await?;
    sqlx::query!("CALL harkara.make_partitions('harkara.attempts', 12)").execute(&mut *connection).await?;
    sqlx::query!("CALL harkara.make_partitions('harkara.audit_log', 12)").execute(&mut *connection).await?;
    connection.give_back();
    Ok(())
}

/// Gives a login role the password that its own secret holds.
pub async fn set_role_password(database: &Database, secret: &DatabaseConfig) -> Result<(), StoreError> {
    let login = secret.read_login().await?;
    let mut connection = database.connection().await?;
    sqlx::query!("CALL harkara.set_role_password($1, $2)", login.user, login.password.expose_secret())
        .execute(&mut *connection)
        .await?;
    connection.give_back();
    Ok(())
}

/// Lets the login roles in by RDS IAM tokens.
pub async fn admit_iam_logins(database: &Database) -> Result<(), StoreError> {
    let mut connection = database.connection().await?;
    sqlx::query!("CALL harkara.admit_iam_logins()").execute(&mut *connection).await?;
    connection.give_back();
    Ok(())
}

/// Makes or renames tenants.
pub async fn upsert_tenants(database: &Database, tenants: &[NewTenant]) -> Result<u64, StoreError> {
    let mut connection = database.connection().await?;
    let ids: Vec<_> = tenants.iter().map(|tenant| tenant.id.as_uuid()).collect();
    let names: Vec<_> = tenants.iter().map(|tenant| tenant.name.clone()).collect();
    let addresses: Vec<_> =
        tenants.iter().map(|tenant| tenant.from_address.as_ref().map(|address| address.as_str().to_owned())).collect();
    let done = sqlx::query!(
        "INSERT INTO harkara.tenants (tenant_id, name, from_address)
         SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[])
         ON CONFLICT (tenant_id) DO UPDATE
         SET name = excluded.name, from_address = coalesce(excluded.from_address, tenants.from_address), updated_at = harkara.now()",
        &ids,
        &names,
        &addresses as &[Option<String>],
    )
    .execute(&mut *connection)
    .await?;
    connection.give_back();
    Ok(done.rows_affected())
}
