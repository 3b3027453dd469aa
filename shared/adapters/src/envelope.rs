//! Secrets at rest: AES-256-GCM under a data key of the tenant, which the key service has wrapped.
//!
//! A ciphertext is bound to its tenant, table, column and row: copied anywhere else, it does not open.
//! Plain data keys stay in memory for five minutes at most, so that a warm function asks the key service for nothing,
//! and one whose right was withdrawn soon can do nothing with what it had.

pub(crate) mod memory;
#[cfg(test)]
mod tests;

use domain::id::TenantId;
use domain::secret::{DataKeyBytes, KeyService, KeyServiceError, SecretPlace};
use memory::ShortMemory;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The form that is written; another one is another version.
const VERSION: u8 = 1;
/// Version and the data key's number.
const HEAD: usize = 3;

/// The number of a data key within its tenant: 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DataKeyId(u16);

impl DataKeyId {
    /// A tenant's first.
    pub const FIRST: Self = Self(1);

    /// Takes a row's number; `None` where it is not 1 to 65535.
    pub fn of(number: i32) -> Option<Self> {
        u16::try_from(number).ok().filter(|number| *number > 0).map(Self)
    }

    /// The number, as a row holds it.
    pub fn number(self) -> i32 {
        self.0.into()
    }
}

/// A data key as a row keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    /// Its number.
    pub id: DataKeyId,
    /// What the key service gave.
    pub wrapped: Vec<u8>,
}

/// What a column keeps of a secret: version 1 | data key's number, 2 bytes | nonce, 12 | ciphertext | tag, 16.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedSecret(Vec<u8>);

impl SealedSecret {
    /// Takes what a column holds.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// What a column holds.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The data key that opens it; `None` where this is no sealed secret.
    pub fn key_id(&self) -> Option<DataKeyId> {
        match self.0.first_chunk()? {
            [VERSION, high, low] => DataKeyId::of(u16::from_be_bytes([*high, *low]).into()),
            _ => None,
        }
    }
}

impl fmt::Debug for SealedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedSecret({} bytes)", self.0.len())
    }
}

/// Why a secret was neither sealed nor opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvelopeError {
    /// The key service gave no data key.
    Key(KeyServiceError),
    /// There is no data key with the number that the secret names.
    KeyMissing,
    /// It is no sealed secret, was changed, or belongs to another place.
    Unreadable,
    /// The system gave no random bytes.
    NoRandomness,
}

impl EnvelopeError {
    /// Whether the same may go through later: what needs the secret waits, and has not failed.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Key(KeyServiceError::Unavailable(_)) | Self::NoRandomness)
    }
}

impl fmt::Display for EnvelopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key(_) => "the tenant's data key cannot be had",
            Self::KeyMissing => "the data key of a secret is missing",
            Self::Unreadable => "a secret does not open where it is kept",
            Self::NoRandomness => "the system gave no random bytes",
        })
    }
}

impl std::error::Error for EnvelopeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Key(error) => Some(error),
            Self::KeyMissing | Self::Unreadable | Self::NoRandomness => None,
        }
    }
}

/// A tenant's data key in use. It is overwritten when it is dropped.
///
/// The cipher expands it anew for each secret, because the library keeps expanded keys without overwriting them.
pub struct DataKey {
    tenant: TenantId,
    id: DataKeyId,
    plain: DataKeyBytes,
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataKey({} of {})", self.id.0, self.tenant)
    }
}

impl DataKey {
    /// Seals a secret for one place of the key's tenant.
    ///
    /// # Errors
    ///
    /// When the place is another tenant's, or the system gives no random bytes.
    pub fn seal(&self, place: &SecretPlace<'_>, secret: &[u8]) -> Result<SealedSecret, EnvelopeError> {
        let head = self.head();
        let nonce: [u8; NONCE_LEN] = random()?;
        let aad = self.bind(&head, place)?;
        let mut sealed = Vec::with_capacity(HEAD + NONCE_LEN + secret.len() + AES_256_GCM.tag_len());
        sealed.extend(head);
        sealed.extend(nonce);
        sealed.extend(secret);
        let text = &mut sealed[HEAD + NONCE_LEN..];
        let tag = self.cipher().seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, text);
        // Longer than AES-GCM can take: nothing of that size is a secret.
        let tag = tag.map_err(|_| EnvelopeError::Unreadable)?;
        sealed.extend(tag.as_ref());
        Ok(SealedSecret(sealed))
    }

    /// Opens a secret in the place that it was sealed for.
    ///
    /// # Errors
    ///
    /// When it was changed, was sealed by another key or for another place, or is no sealed secret.
    pub fn open(&self, place: &SecretPlace<'_>, sealed: &SealedSecret) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
        let head = self.head();
        let aad = self.bind(&head, place)?;
        let rest = sealed.0.strip_prefix(&head).ok_or(EnvelopeError::Unreadable)?;
        let (nonce, text) = rest.split_first_chunk().ok_or(EnvelopeError::Unreadable)?;
        let mut text = Zeroizing::new(text.to_vec());
        let opened = self.cipher().open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut text);
        let length = opened.map_err(|_| EnvelopeError::Unreadable)?.len();
        text.truncate(length);
        Ok(text)
    }

    fn head(&self) -> [u8; HEAD] {
        let [high, low] = self.id.0.to_be_bytes();
        [VERSION, high, low]
    }

    fn cipher(&self) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*self.plain).expect("the key has 256 bits"))
    }

    /// The associated data: each part behind its length, so that no two places read the same.
    fn bind(&self, head: &[u8], place: &SecretPlace<'_>) -> Result<Aad<Vec<u8>>, EnvelopeError> {
        if place.tenant != self.tenant {
            return Err(EnvelopeError::Unreadable);
        }
        let mut bound = head.to_vec();
        bound.extend(place.tenant.as_uuid().as_bytes());
        for part in [place.table, place.column, place.row] {
            bound.extend((part.len() as u64).to_be_bytes());
            bound.extend(part.as_bytes());
        }
        Ok(Aad::from(bound))
    }
}

/// Random bytes from the system.
///
/// # Errors
///
/// When the system gives none.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], EnvelopeError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| EnvelopeError::NoRandomness)?;
    Ok(bytes)
}

/// A data key in memory, beside what it was unwrapped from: a row that was replaced is not the same key.
type Unwrapped = (Vec<u8>, Arc<DataKey>);

/// The way from wrapped keys to data keys, with a short memory.
pub struct Envelope<K> {
    service: K,
    keys: ShortMemory<(TenantId, DataKeyId), Unwrapped>,
}

impl<K: KeyService> Envelope<K> {
    /// Asks this key service.
    pub fn new(service: K) -> Self {
        Self { service, keys: ShortMemory::default() }
    }

    /// Makes a data key, and says what to keep of it.
    ///
    /// # Errors
    ///
    /// When the key service gives none.
    pub async fn make_key(&self, tenant: TenantId, id: DataKeyId) -> Result<(WrappedKey, Arc<DataKey>), EnvelopeError> {
        // Not remembered yet: another instance may have been quicker, and then this key is never used.
        let made = self.service.generate_key(tenant).await.map_err(EnvelopeError::Key)?;
        let key = Arc::new(DataKey { tenant, id, plain: made.plain });
        Ok((WrappedKey { id, wrapped: made.wrapped }, key))
    }

    /// Unwraps a tenant's data key, unless it was unwrapped within the last five minutes.
    ///
    /// # Errors
    ///
    /// When the key service cannot or will not.
    pub async fn unwrap_key(&self, tenant: TenantId, wrapped: &WrappedKey) -> Result<Arc<DataKey>, EnvelopeError> {
        if let Some((known, key)) = self.keys.get(&(tenant, wrapped.id))
            && known == wrapped.wrapped
        {
            return Ok(key);
        }
        let plain = self.service.unwrap_key(tenant, &wrapped.wrapped).await.map_err(EnvelopeError::Key)?;
        let key = Arc::new(DataKey { tenant, id: wrapped.id, plain });
        self.keys.put((tenant, wrapped.id), (wrapped.wrapped.clone(), Arc::clone(&key)));
        Ok(key)
    }
}
