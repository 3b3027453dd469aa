//! A double of the key service, as strict as the real one: what was wrapped for one tenant it unwraps for no other.

use domain::id::TenantId;
use domain::outcome::ProviderError;
use domain::secret::{DataKeyBytes, GeneratedKey, KeyService, KeyServiceError};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Remembers what it wrapped, counts what it was asked, and is out on request. Clones are one service.
#[derive(Clone, Debug, Default)]
pub struct ScriptedKeyService(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    wrapped: HashMap<Vec<u8>, (TenantId, [u8; 32])>,
    call_count: usize,
    is_out: bool,
}

impl ScriptedKeyService {
    /// From now on answers nothing, or answers again.
    pub fn be_out(&self, is_out: bool) {
        self.lock().is_out = is_out;
    }

    /// How often it was asked for anything.
    pub fn call_count(&self) -> usize {
        self.lock().call_count
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin_call(&self) -> Result<MutexGuard<'_, State>, KeyServiceError> {
        let mut state = self.lock();
        state.call_count += 1;
        if state.is_out {
            return Err(KeyServiceError::Unavailable(said("KMSInternalException")));
        }
        Ok(state)
    }
}

fn said(code: &str) -> ProviderError {
    ProviderError { code: code.to_owned(), detail: "words".to_owned() }
}

impl KeyService for ScriptedKeyService {
    async fn generate_key(&self, tenant: TenantId) -> Result<GeneratedKey, KeyServiceError> {
        let mut state = self.begin_call()?;
        let plain: [u8; 32] = std::array::from_fn(|place| if place % 2 == 0 { state.call_count as u8 } else { 0xd5 });
        let wrapped = format!("wrapped {}", state.call_count).into_bytes();
        state.wrapped.insert(wrapped.clone(), (tenant, plain));
        Ok(GeneratedKey { plain: plain.into(), wrapped })
    }

    async fn unwrap_key(&self, tenant: TenantId, wrapped: &[u8]) -> Result<DataKeyBytes, KeyServiceError> {
        let state = self.begin_call()?;
        match state.wrapped.get(wrapped) {
            Some((owner, plain)) if *owner == tenant => Ok((*plain).into()),
            _ => Err(KeyServiceError::Refused(said("InvalidCiphertextException"))),
        }
    }
}
