//! What the flows behind the API share: a request's digest, and what a caller is told when the store fails.

use adapters::store::database::StoreError;
use adapters::telemetry::chain;
use adapters::wire::problem::Problem;
use domain::id::IdempotencyKey;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// A digest of what a request means: the same JSON in other words is the same request.
pub(crate) fn hash_body(body: &Value) -> Vec<u8> {
    Sha256::digest(body.to_string()).to_vec()
}

/// What a caller is told of a failure of the store; the log has the rest.
/// A request with a key that finds rows locked most likely finds its own first copy at work.
pub(crate) fn store_problem(error: &StoreError, key: Option<&IdempotencyKey>) -> Problem {
    match error {
        StoreError::Unavailable(_) | StoreError::Secret(_) => {
            tracing::error!(error = chain(error), "the store is unavailable");
            Problem::unavailable()
        }
        StoreError::Busy(_) => {
            tracing::warn!(error = chain(error), "the store is busy");
            if key.is_some() { Problem::still_running() } else { Problem::unavailable() }
        }
        StoreError::Conflict(_) => {
            tracing::warn!(error = chain(error), "the store has a conflict");
            Problem::conflict("what the request refers to changed while it was stored; ask again")
        }
        StoreError::TenantInactive => Problem::tenant_inactive(),
        StoreError::Url | StoreError::Corrupt(_) | StoreError::Migration(_) | StoreError::Failed(_) => {
            tracing::error!(error = chain(error), "the store failed");
            Problem::internal()
        }
    }
}
