//! Secrets at rest: what they are bound to, and the port of the service that keeps the keys of keys.
//!
//! Each tenant has data keys of its own. The key service wraps them with a master key that never leaves it, and binds
//! each to its tenant: whoever copies a wrapped key to another tenant's row cannot have it unwrapped there.

use std::fmt;
use std::future::Future;

use zeroize::Zeroizing;

use crate::id::TenantId;
use crate::outcome::ProviderError;

/// A data key: 256 bits, overwritten when it is dropped.
pub type DataKeyBytes = Zeroizing<[u8; 32]>;

/// Where a secret is kept. Its ciphertext opens there and nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretPlace<'a> {
    /// Whose row.
    pub tenant: TenantId,
    /// In which table, without its schema.
    pub table: &'a str,
    /// In which column.
    pub column: &'a str,
    /// In which row: its key without the tenant, as the table prints it.
    pub row: &'a str,
}

/// A new data key, for use and for keeping.
pub struct GeneratedKey {
    /// For use, and never stored.
    pub plain: DataKeyBytes,
    /// As a row keeps it.
    pub wrapped: Vec<u8>,
}

impl fmt::Debug for GeneratedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GeneratedKey({} bytes wrapped)", self.wrapped.len())
    }
}

/// Why the key service gave no key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyServiceError {
    /// It cannot be reached, wants fewer requests, or its key is switched off for now: hold, and ask again.
    Unavailable(ProviderError),
    /// It will not, however often it is asked: the wrapped key is not this tenant's, or we may not ask.
    Refused(ProviderError),
}

impl fmt::Display for KeyServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(error) => write!(f, "the key service cannot answer now: {} {}", error.code, error.detail),
            Self::Refused(error) => write!(f, "the key service refused: {} {}", error.code, error.detail),
        }
    }
}

impl std::error::Error for KeyServiceError {}

/// Keeps master keys, and makes and unwraps data keys with them.
pub trait KeyService {
    /// Makes a data key that only this tenant's rows can use.
    fn generate_key(&self, tenant: TenantId) -> impl Future<Output = Result<GeneratedKey, KeyServiceError>> + Send;

    /// Unwraps a data key of this tenant; one that was wrapped for another is refused.
    fn unwrap_key(
        &self,
        tenant: TenantId,
        wrapped: &[u8],
    ) -> impl Future<Output = Result<DataKeyBytes, KeyServiceError>> + Send;
}
