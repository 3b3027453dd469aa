//! Escalation policies as people manage them.

use super::database::{StoreError, TenantTransaction};
use crate::wire::escalation_policies::print_definition;
use crate::wire::pages::KeyPage;
use domain::escalation::Policy;
use domain::id::PolicyKey;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeSet;

/// A stored policy.
#[derive(Clone, Debug)]
pub struct PolicyRow {
    /// Its key.
    pub key: String,
    /// What it says.
    pub definition: Value,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// What of the things that a policy names is there.
#[derive(Debug, Default)]
pub struct Named {
    /// Recipients.
    pub recipients: BTreeSet<String>,
    /// Roles that somebody has.
    pub roles: BTreeSet<String>,
    /// Categories.
    pub categories: BTreeSet<String>,
}

/// Which of these recipients, roles and categories the tenant has.
pub async fn find_named(transaction: &mut TenantTransaction, asked: &Named) -> Result<Named, StoreError> {
    let list = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>();
    let row = sqlx::query!(
        r#"SELECT (SELECT coalesce(array_agg(r.recipient_id), '{}') FROM harkara.recipients r
                   WHERE r.tenant_id = $1 AND r.recipient_id = ANY ($2) AND r.erased_at IS NULL) AS "recipients!",
                  (SELECT coalesce(array_agg(a.role), '{}') FROM unnest($3::text[]) AS a (role)
                   WHERE EXISTS (SELECT FROM harkara.recipients r
                                 WHERE r.tenant_id = $1 AND a.role = ANY (r.roles) AND r.erased_at IS NULL)) AS "roles!",
                  (SELECT coalesce(array_agg(c.category_key), '{}') FROM harkara.categories c
                   WHERE c.tenant_id = $1 AND c.category_key = ANY ($4)) AS "categories!""#,
        transaction.tenant.as_uuid(),
        &list(&asked.recipients),
        &list(&asked.roles),
        &list(&asked.categories),
    )
    .fetch_one(&mut *transaction.connection)
    .await?;
    Ok(Named {
        recipients: row.recipients.into_iter().collect(),
        roles: row.roles.into_iter().collect(),
        categories: row.categories.into_iter().collect(),
    })
}

/// Whether any of these recipients has an address for a channel that can be sent.
pub async fn has_address(transaction: &mut TenantTransaction, recipients: &[String]) -> Result<bool, StoreError> {
    let has_address = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM harkara.recipients r
                          WHERE r.tenant_id = $1 AND r.recipient_id = ANY ($2) AND r.email IS NOT NULL) AS "has_address!""#,
        transaction.tenant.as_uuid(),
        recipients,
    )
    .fetch_one(&mut *transaction.connection)
    .await?;
    Ok(has_address)
}

/// Makes or replaces a policy. What runs by it goes on as it began.
pub async fn put_policy(
    transaction: &mut TenantTransaction,
    key: &PolicyKey,
    policy: &Policy,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO harkara.escalation_policies (tenant_id, policy_key, definition)
         VALUES ($1, $2, $3)
         ON CONFLICT (tenant_id, policy_key) DO UPDATE
         SET definition = excluded.definition, updated_at = harkara.now()",
        transaction.tenant.as_uuid(),
        key.as_str(),
        print_definition(policy),
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(())
}

/// Removes a policy; false where there is none. What runs by it goes on.
pub async fn delete_policy(transaction: &mut TenantTransaction, key: &PolicyKey) -> Result<bool, StoreError> {
    let deleted = sqlx::query!(
        "DELETE FROM harkara.escalation_policies WHERE tenant_id = $1 AND policy_key = $2",
        transaction.tenant.as_uuid(),
        key.as_str(),
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(deleted.rows_affected() > 0)
}

/// A policy of the tenant.
pub async fn read_policy(
    transaction: &mut TenantTransaction,
    key: &PolicyKey,
) -> Result<Option<PolicyRow>, StoreError> {
    Ok(select_policies(transaction, Some(key.as_str()), &KeyPage { after: None, size: 1 }).await?.pop())
}

/// A page of the tenant's policies, by key.
pub async fn list_policies(transaction: &mut TenantTransaction, page: &KeyPage) -> Result<Vec<PolicyRow>, StoreError> {
    select_policies(transaction, None, page).await
}

async fn select_policies(
    transaction: &mut TenantTransaction,
    key: Option<&str>,
    page: &KeyPage,
) -> Result<Vec<PolicyRow>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT policy_key, definition, updated_at AS "updated_at: jiff_sqlx::Timestamp"
           FROM harkara.escalation_policies
           WHERE tenant_id = $1 AND ($2::text IS NULL OR policy_key = $2) AND ($3::text IS NULL OR policy_key > $3)
           ORDER BY policy_key
           LIMIT $4"#,
        transaction.tenant.as_uuid(),
        key,
        page.after,
        i64::from(page.size) + 1,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let policy = rows.into_iter().map(|row| PolicyRow {
        key: row.policy_key,
        definition: row.definition,
        updated_at: row.updated_at.to_jiff(),
    });
    Ok(policy.collect())
}
