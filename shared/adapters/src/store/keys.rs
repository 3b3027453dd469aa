//! The keys that sign the links of a tenant's mails: made at first use, sealed at rest, remembered for five minutes.
//!
//! Two instances that make a tenant's first key at once end with one: the row that was first is the key, and the other
//! reads it. No transaction is open while the key service is asked. A warm instance asks neither it nor the database.

use super::database::{Database, StoreError, TenantTransaction};
use crate::aws::AwsConfig;
use crate::env::ConfigError;
use crate::envelope::memory::ShortMemory;
use crate::envelope::{DataKey, DataKeyId, Envelope, EnvelopeError, SealedSecret, WrappedKey, random};
use crate::kms::Kms;
use crate::telemetry::chain;
use domain::id::TenantId;
use domain::link::{LinkKey, LinkKeyId, LinkKeyRing};
use domain::secret::{KeyService, SecretPlace};
use futures::stream::{self, StreamExt};
use jiff::Timestamp;
use sqlx::PgConnection;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Tenants whose keys are unwrapped side by side: a batch of messages names few.
const SIDE_BY_SIDE: usize = 10;

/// Why a tenant's link keys cannot be had.
#[derive(Debug)]
pub enum LinkKeyError {
    /// The store could not be asked.
    Store(StoreError),
    /// They do not open, or cannot be made.
    Envelope(EnvelopeError),
}

impl fmt::Display for LinkKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the tenant's link keys cannot be had")
    }
}

impl std::error::Error for LinkKeyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store(error) => Some(error),
            Self::Envelope(error) => Some(error),
        }
    }
}

impl From<StoreError> for LinkKeyError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<EnvelopeError> for LinkKeyError {
    fn from(error: EnvelopeError) -> Self {
        Self::Envelope(error)
    }
}

/// What a batch's tenants have: a key ring each, or why not. A tenant that does not exist is not among them.
pub type LinkKeyRings = HashMap<TenantId, Result<Arc<LinkKeyRing>, EnvelopeError>>;

/// The link keys of all tenants that an instance serves.
pub struct LinkKeys<K> {
    envelope: Arc<Envelope<K>>,
    rings: ShortMemory<TenantId, Arc<LinkKeyRing>>,
}

impl LinkKeys<Kms> {
    /// With data keys that KMS wraps; reads what `Kms::from_env` reads.
    pub fn from_env(aws: AwsConfig) -> Result<Self, ConfigError> {
        Ok(Self::new(Arc::new(Envelope::new(Kms::from_env(aws)?))))
    }
}

impl<K: KeyService> LinkKeys<K> {
    /// Opens them with this envelope.
    pub fn new(envelope: Arc<Envelope<K>>) -> Self {
        Self { envelope, rings: ShortMemory::default() }
    }

    /// What opens the tenants' other secrets, too.
    pub fn envelope(&self) -> &Envelope<K> {
        &self.envelope
    }

    /// A tenant's keys, to verify with; `None` where it has none, and then nothing of it was ever signed.
    /// Nothing is made: whoever sends a text that claims to be a token may be anybody.
    pub async fn load(
        &self,
        database: &Database,
        tenant: TenantId,
        actor: &str,
    ) -> Result<Option<Arc<LinkKeyRing>>, LinkKeyError> {
        if let Some(ring) = self.rings.get(&tenant) {
            return Ok(Some(ring));
        }
        let stored = read_of(database, tenant, actor).await?;
        Ok(self.open(&stored).await?)
    }

    /// A tenant's keys, to sign with, within the tenant.
    pub async fn load_or_create(
        &self,
        database: &Database,
        tenant: TenantId,
        actor: &str,
    ) -> Result<Arc<LinkKeyRing>, LinkKeyError> {
        if let Some(ring) = self.rings.get(&tenant) {
            return Ok(ring);
        }
        let stored = read_of(database, tenant, actor).await?;
        if let Some(ring) = self.open(&stored).await? {
            return Ok(ring);
        }
        let made = self.make(&stored).await?;
        let stored = insert_of(database, tenant, actor, &made).await?;
        Ok(self.open(&stored).await?.ok_or(EnvelopeError::KeyMissing)?)
    }

    /// The keys of every tenant of a batch, to sign with: no statement where all are remembered, one where all are
    /// there, three where one has to be made.
    pub async fn load_or_create_across_tenants(
        &self,
        database: &Database,
        tenants: &[TenantId],
    ) -> Result<LinkKeyRings, StoreError> {
        let mut rings = LinkKeyRings::new();
        let mut unknown = Vec::new();
        for tenant in tenants {
            match self.rings.get(tenant) {
                Some(ring) => drop(rings.insert(*tenant, Ok(ring))),
                None => unknown.push(*tenant),
            }
        }
        unknown.sort_unstable();
        unknown.dedup();
        if unknown.is_empty() {
            return Ok(rings);
        }
        let stored = read_all(database, &unknown).await?;
        let bare = self.open_all(stored, &mut rings).await;
        let makings: Vec<_> = bare.iter().map(async |stored| (stored.tenant, self.make(stored).await)).collect();
        let mut made = Vec::new();
        for (tenant, result) in stream::iter(makings).buffer_unordered(SIDE_BY_SIDE).collect::<Vec<_>>().await {
            match result {
                Ok(keys) => made.push(keys),
                Err(error) => drop(rings.insert(tenant, Err(error))),
            }
        }
        if !made.is_empty() {
            let mut connection = database.connection().await?;
            insert_keys(&mut connection, &made).await?;
            connection.give_back();
            let tenants: Vec<_> = made.iter().map(|keys| keys.tenant).collect();
            let bare = self.open_all(read_all(database, &tenants).await?, &mut rings).await;
            debug_assert!(bare.is_empty(), "{} tenants were left without a key", bare.len());
        }
        Ok(rings)
    }

    /// Makes one more link key of a tenant, for [`insert_next`]; here the key service is asked, and no transaction waits.
    pub async fn make_next(&self, database: &Database, tenant: TenantId, actor: &str) -> Result<NewKeys, LinkKeyError> {
        let stored = read_of(database, tenant, actor).await?;
        Ok(self.make(&stored).await?)
    }

    /// Opens what is stored of many tenants, and says which have nothing yet.
    async fn open_all(&self, stored: Vec<StoredKeys>, rings: &mut LinkKeyRings) -> Vec<StoredKeys> {
        let openings: Vec<_> = stored
            .into_iter()
            .map(async |stored| {
                let opened = self.open(&stored).await;
                (stored, opened)
            })
            .collect();
        let mut bare = Vec::new();
        for (stored, opened) in stream::iter(openings).buffer_unordered(SIDE_BY_SIDE).collect::<Vec<_>>().await {
            match opened.transpose() {
                Some(ring) => drop(rings.insert(stored.tenant, ring)),
                None => bare.push(stored),
            }
        }
        bare
    }

    /// A tenant's key ring; `None` where no link key is stored.
    ///
    /// A key that can never be opened is left out: its links are lost, and the others are not.
    async fn open(&self, stored: &StoredKeys) -> Result<Option<Arc<LinkKeyRing>>, EnvelopeError> {
        let mut keys = Vec::with_capacity(stored.link_keys.len());
        let mut lost = None;
        for link_key in &stored.link_keys {
            match self.open_key(stored, link_key).await {
                Ok(key) => keys.push(key),
                Err(error) if error.is_temporary() => return Err(error),
                Err(error) => {
                    let (tenant, key_id) = (stored.tenant, link_key.id.number());
                    tracing::error!(%tenant, key_id, error = chain(&error), "link key {key_id} of {tenant} does not open");
                    lost = Some(error);
                }
            }
        }
        match (LinkKeyRing::of(stored.tenant, keys).map(Arc::new), lost) {
            (Some(ring), _) => {
                self.rings.put(stored.tenant, Arc::clone(&ring));
                Ok(Some(ring))
            }
            (None, Some(error)) => Err(error),
            (None, None) => Ok(None),
        }
    }

    async fn open_key(&self, stored: &StoredKeys, link_key: &StoredLinkKey) -> Result<LinkKey, EnvelopeError> {
        let id = link_key.sealed.key_id().ok_or(EnvelopeError::Unreadable)?;
        let wrapped = stored.data_keys.iter().find(|key| key.id == id).ok_or(EnvelopeError::KeyMissing)?;
        let data_key = self.envelope.unwrap_key(stored.tenant, wrapped).await?;
        let row = link_key.id.number().to_string();
        let secret = data_key.open(&place(stored.tenant, &row), &link_key.sealed)?;
        let secret = <[u8; 32]>::try_from(secret.as_slice()).map_err(|_| EnvelopeError::Unreadable)?;
        Ok(LinkKey { id: link_key.id, secret: Zeroizing::new(secret), is_settled: link_key.is_settled })
    }

    /// Makes the tenant's next link key, and its first data key where there is none.
    async fn make(&self, stored: &StoredKeys) -> Result<NewKeys, EnvelopeError> {
        let (new_data_key, data_key): (_, Arc<DataKey>) = match stored.data_keys.last() {
            Some(newest) => (None, self.envelope.unwrap_key(stored.tenant, newest).await?),
            None => {
                let (wrapped, key) = self.envelope.make_key(stored.tenant, DataKeyId::FIRST).await?;
                (Some(wrapped), key)
            }
        };
        let link_key = LinkKeyId::of(stored.newest_link_key + 1).ok_or(EnvelopeError::KeyMissing)?;
        let secret = Zeroizing::new(random::<32>()?);
        let row = link_key.number().to_string();
        let sealed = data_key.seal(&place(stored.tenant, &row), &*secret)?;
        Ok(NewKeys { tenant: stored.tenant, data_key: new_data_key, link_key, sealed })
    }
}

fn place(tenant: TenantId, row: &str) -> SecretPlace<'_> {
    SecretPlace { tenant, table: "link_keys", column: "sealed_secret", row }
}

/// What the store holds for a tenant.
struct StoredKeys {
    tenant: TenantId,
    /// In the order of their numbers.
    data_keys: Vec<WrappedKey>,
    /// Those that are not withdrawn.
    link_keys: Vec<StoredLinkKey>,
    /// The greatest number that was given, to a withdrawn key too; 0 before the first.
    newest_link_key: i32,
}

struct StoredLinkKey {
    id: LinkKeyId,
    sealed: SealedSecret,
    is_settled: bool,
}

/// Keys that are about to be stored.
pub struct NewKeys {
    tenant: TenantId,
    data_key: Option<WrappedKey>,
    link_key: LinkKeyId,
    sealed: SealedSecret,
}

/// Those of a suspended tenant, too: its links hold.
async fn read_of(database: &Database, tenant: TenantId, actor: &str) -> Result<StoredKeys, StoreError> {
    let mut transaction = database.begin_even_suspended(tenant, actor).await?;
    let stored = read_keys(&mut transaction.connection, &[tenant]).await?;
    transaction.commit().await?;
    stored.into_iter().next().ok_or(StoreError::TenantInactive)
}

/// Stores one more link key, which signs once every instance has heard of it: ten minutes from now.
/// Links that were signed before stay good. Two of the same tenant at once are one.
pub async fn insert_next(transaction: &mut TenantTransaction, made: &NewKeys) -> Result<LinkKeyId, StoreError> {
    insert_keys(&mut transaction.connection, std::slice::from_ref(made)).await?;
    Ok(made.link_key)
}

/// A link key as people see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkKeyRow {
    /// Its number.
    pub id: i32,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was withdrawn.
    pub retired_at: Option<Timestamp>,
}

/// The tenant's link keys, the newest first.
pub async fn list_link_keys(transaction: &mut TenantTransaction) -> Result<Vec<LinkKeyRow>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT key_id, created_at AS "created_at: jiff_sqlx::Timestamp", retired_at AS "retired_at: jiff_sqlx::Timestamp"
           FROM harkara.link_keys WHERE tenant_id = $1 ORDER BY key_id DESC"#,
        transaction.tenant.as_uuid(),
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let row = rows.into_iter().map(|row| LinkKeyRow {
        id: row.key_id,
        created_at: row.created_at.to_jiff(),
        retired_at: row.retired_at.map(|at| at.to_jiff()),
    });
    Ok(row.collect())
}

async fn insert_of(
    database: &Database,
    tenant: TenantId,
    actor: &str,
    made: &NewKeys,
) -> Result<StoredKeys, StoreError> {
    let mut transaction = database.begin(tenant, actor).await?;
    insert_keys(&mut transaction.connection, std::slice::from_ref(made)).await?;
    let stored = read_keys(&mut transaction.connection, &[tenant]).await?;
    transaction.commit().await?;
    stored.into_iter().next().ok_or(StoreError::TenantInactive)
}

async fn read_all(database: &Database, tenants: &[TenantId]) -> Result<Vec<StoredKeys>, StoreError> {
    let mut connection = database.connection().await?;
    let stored = read_keys(&mut connection, tenants).await?;
    connection.give_back();
    Ok(stored)
}

/// One row for each tenant that exists and that the role may see.
async fn read_keys(connection: &mut PgConnection, tenants: &[TenantId]) -> Result<Vec<StoredKeys>, StoreError> {
    let tenants: Vec<_> = tenants.iter().map(|tenant| tenant.as_uuid()).collect();
    let rows = sqlx::query_file!("src/store/read_link_keys.sql", &tenants).fetch_all(connection).await?;
    let stored = rows.into_iter().map(|row| {
        let data_keys = row.data_key_ids.into_iter().zip(row.wrapped_keys).map(|(id, wrapped)| {
            Ok(WrappedKey { id: DataKeyId::of(id).ok_or(StoreError::Corrupt("data key's number"))?, wrapped })
        });
        let link_keys = row.link_key_ids.into_iter().zip(row.sealed_secrets).zip(row.are_settled);
        let link_keys = link_keys.map(|((id, sealed), is_settled)| {
            let id = LinkKeyId::of(id).ok_or(StoreError::Corrupt("link key's number"))?;
            Ok(StoredLinkKey { id, sealed: SealedSecret::from_bytes(sealed), is_settled })
        });
        Ok(StoredKeys {
            tenant: TenantId::from_uuid(row.tenant_id),
            data_keys: data_keys.collect::<Result<_, StoreError>>()?,
            link_keys: link_keys.collect::<Result<_, StoreError>>()?,
            newest_link_key: row.newest_link_key,
        })
    });
    stored.collect()
}

/// Stores keys, except where another instance was quicker.
async fn insert_keys(connection: &mut PgConnection, made: &[NewKeys]) -> Result<(), StoreError> {
    let tenants: Vec<_> = made.iter().map(|keys| keys.tenant.as_uuid()).collect();
    let data_key = |keys: &NewKeys| keys.data_key.as_ref().map(|key| key.id.number());
    let data_keys: Vec<_> = made.iter().map(data_key).collect();
    let wrapped: Vec<_> = made.iter().map(|keys| keys.data_key.as_ref().map(|key| key.wrapped.clone())).collect();
    let link_keys: Vec<_> = made.iter().map(|keys| keys.link_key.number()).collect();
    let sealed: Vec<_> = made.iter().map(|keys| keys.sealed.as_bytes().to_vec()).collect();
    sqlx::query_file!(
        "src/store/insert_link_keys.sql",
        &tenants,
        &data_keys as &[Option<i32>],
        &wrapped as &[Option<Vec<u8>>],
        &link_keys,
        &sealed,
    )
    .execute(connection)
    .await?;
    Ok(())
}
