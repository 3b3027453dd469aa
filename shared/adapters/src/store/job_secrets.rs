//! The secrets that calls of a tenant's endpoints are signed with: made when such a job is put first, shown once, sealed at
//! rest by the tenant's data key. No transaction is open while the key service is asked.

use super::database::{Database, StoreError, TenantTransaction};
use crate::envelope::{DataKey, DataKeyId, Envelope, EnvelopeError, SealedSecret, WrappedKey, random};
use crate::ids::new_uuid;
use domain::domain_job::SECRET_OVERLAP_HOURS;
use domain::endpoint::SigningSecret;
use domain::id::{JobKey, TenantId};
use domain::secret::{KeyService, SecretPlace};
use std::fmt;
use std::sync::Arc;
use uuid::Uuid;
use zeroize::Zeroizing;

/// Why a job's secrets cannot be had.
#[derive(Debug)]
pub enum JobSecretError {
    /// The store could not be asked.
    Store(StoreError),
    /// They do not open, or cannot be made.
    Envelope(EnvelopeError),
}

impl fmt::Display for JobSecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the secrets of a job cannot be had")
    }
}

impl std::error::Error for JobSecretError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store(error) => Some(error),
            Self::Envelope(error) => Some(error),
        }
    }
}

impl From<StoreError> for JobSecretError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<EnvelopeError> for JobSecretError {
    fn from(error: EnvelopeError) -> Self {
        Self::Envelope(error)
    }
}

/// A secret that is about to be stored, for [`put_job_secret`].
pub struct NewJobSecret {
    id: Uuid,
    sealed: SealedSecret,
    /// What is shown of it, once.
    pub secret: SigningSecret,
}

/// Makes a secret for a job, and the tenant's first data key where it has none.
pub async fn make_job_secret<K: KeyService>(
    envelope: &Envelope<K>,
    database: &Database,
    tenant: TenantId,
    key: &JobKey,
    actor: &str,
) -> Result<NewJobSecret, JobSecretError> {
    let data_key = load_or_create_data_key(envelope, database, tenant, actor).await?;
    let id = new_uuid();
    let secret = Zeroizing::new(random::<32>()?.to_vec());
    let sealed = data_key.seal(&place(tenant, &print_row(key.as_str(), id)), &secret)?;
    Ok(NewJobSecret { id, sealed, secret: SigningSecret::of(secret) })
}

/// Stores a secret of a job that this transaction has put; false where it has one already. To replace it, the one of before
/// signs on for a while beside the new one, and any before that one signs no more.
pub async fn put_job_secret(
    transaction: &mut TenantTransaction,
    key: &JobKey,
    made: &NewJobSecret,
    is_replacing: bool,
) -> Result<bool, StoreError> {
    let tenant = transaction.tenant.as_uuid();
    if is_replacing {
        sqlx::query!(
            "DELETE FROM harkara.domain_job_secrets WHERE tenant_id = $1 AND job_key = $2 AND ends_at IS NOT NULL",
            tenant,
            key.as_str(),
        )
        .execute(&mut *transaction.connection)
        .await?;
        sqlx::query!(
            "UPDATE harkara.domain_job_secrets SET ends_at = harkara.now() + make_interval(hours => $3)
             WHERE tenant_id = $1 AND job_key = $2",
            tenant,
            key.as_str(),
            i32::try_from(SECRET_OVERLAP_HOURS).unwrap_or(i32::MAX),
        )
        .execute(&mut *transaction.connection)
        .await?;
    }
    let stored = sqlx::query!(
        "INSERT INTO harkara.domain_job_secrets (tenant_id, job_key, secret_id, sealed_secret)
         VALUES ($1, $2, $3, $4)
         ON CONFLICT (tenant_id, job_key) WHERE ends_at IS NULL DO NOTHING",
        tenant,
        key.as_str(),
        made.id,
        made.sealed.as_bytes(),
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(stored.rows_affected() > 0)
}

/// Forgets a job's secrets: it calls no endpoint any more.
pub async fn delete_job_secrets(transaction: &mut TenantTransaction, key: &JobKey) -> Result<(), StoreError> {
    sqlx::query!(
        "DELETE FROM harkara.domain_job_secrets WHERE tenant_id = $1 AND job_key = $2",
        transaction.tenant.as_uuid(),
        key.as_str(),
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(())
}

/// The secrets that sign a job's calls now, the newest first. There may be none, where it was deleted meanwhile.
pub async fn load_job_secrets<K: KeyService>(
    envelope: &Envelope<K>,
    database: &Database,
    tenant: TenantId,
    key: &str,
    actor: &str,
) -> Result<Vec<SigningSecret>, JobSecretError> {
    let mut transaction = database.begin(tenant, actor).await?;
    let stored = read_secrets(&mut transaction, key).await?;
    let data_keys = read_data_keys(&mut transaction).await?;
    transaction.commit().await?;
    let mut secrets = Vec::with_capacity(stored.len());
    for (secret_id, sealed) in stored {
        let id = sealed.key_id().ok_or(EnvelopeError::Unreadable)?;
        let wrapped = data_keys.iter().find(|key| key.id == id).ok_or(EnvelopeError::KeyMissing)?;
        let data_key = envelope.unwrap_key(tenant, wrapped).await?;
        let opened = data_key.open(&place(tenant, &print_row(key, secret_id)), &sealed)?;
        secrets.push(SigningSecret::of(opened));
    }
    Ok(secrets)
}

/// The data key that seals: the tenant's newest, or its first. Of two that are made at once the one that was stored is it.
async fn load_or_create_data_key<K: KeyService>(
    envelope: &Envelope<K>,
    database: &Database,
    tenant: TenantId,
    actor: &str,
) -> Result<Arc<DataKey>, JobSecretError> {
    let mut transaction = database.begin(tenant, actor).await?;
    let newest = read_data_keys(&mut transaction).await?.pop();
    transaction.commit().await?;
    if let Some(newest) = newest {
        return Ok(envelope.unwrap_key(tenant, &newest).await?);
    }
    let (wrapped, data_key) = envelope.make_key(tenant, DataKeyId::FIRST).await?;
    let mut transaction = database.begin(tenant, actor).await?;
    insert_data_key(&mut transaction, &wrapped).await?;
    let newest = read_data_keys(&mut transaction).await?.pop().ok_or(EnvelopeError::KeyMissing)?;
    transaction.commit().await?;
    if newest == wrapped { Ok(data_key) } else { Ok(envelope.unwrap_key(tenant, &newest).await?) }
}

/// Those of a job that sign now, the newest first.
async fn read_secrets(transaction: &mut TenantTransaction, key: &str) -> Result<Vec<(Uuid, SealedSecret)>, StoreError> {
    let rows = sqlx::query!(
        "SELECT s.secret_id, s.sealed_secret FROM harkara.domain_job_secrets s
         WHERE s.tenant_id = $1 AND s.job_key = $2 AND (s.ends_at IS NULL OR s.ends_at > harkara.now())
         ORDER BY s.ends_at DESC NULLS FIRST",
        transaction.tenant.as_uuid(),
        key,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.secret_id, SealedSecret::from_bytes(row.sealed_secret))).collect())
}

/// Stores the tenant's first data key, unless somebody was quicker.
async fn insert_data_key(transaction: &mut TenantTransaction, made: &WrappedKey) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO harkara.tenant_keys (tenant_id, key_id, wrapped_key) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        transaction.tenant.as_uuid(),
        made.id.number(),
        made.wrapped,
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(())
}

/// The tenant's data keys, in the order of their numbers.
async fn read_data_keys(transaction: &mut TenantTransaction) -> Result<Vec<WrappedKey>, StoreError> {
    let rows = sqlx::query!(
        "SELECT key_id, wrapped_key FROM harkara.tenant_keys WHERE tenant_id = $1 ORDER BY key_id",
        transaction.tenant.as_uuid(),
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let key = rows.into_iter().map(|row| {
        let id = DataKeyId::of(row.key_id).ok_or(StoreError::Corrupt("data key's number"))?;
        Ok(WrappedKey { id, wrapped: row.wrapped_key })
    });
    key.collect()
}

fn place(tenant: TenantId, row: &str) -> SecretPlace<'_> {
    SecretPlace { tenant, table: "domain_job_secrets", column: "sealed_secret", row }
}

fn print_row(key: &str, id: Uuid) -> String {
    format!("{key},{id}")
}
