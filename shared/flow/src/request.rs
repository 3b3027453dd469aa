//! What the flows behind the API share: a request's digest, and why a request has no answer of its own.

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

/// Why a request has no answer of its own: a problem that is the caller's, or one of the store.
pub(crate) enum Refused {
    Problem(Problem),
    Store(StoreError),
}

impl Refused {
    /// What the caller is told. `key` is the request's own.
    pub(crate) fn into_problem(self, key: Option<&IdempotencyKey>) -> Problem {
        match self {
            Self::Problem(problem) => problem,
            Self::Store(error) => store_problem(&error, key),
        }
    }
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What a caller is told of a failure of the store; the log has the rest.
/// A request with a key that finds rows locked most likely finds its own first copy at work.
fn store_problem(error: &StoreError, key: Option<&IdempotencyKey>) -> Problem {
    match error {
        StoreError::Unavailable(_) | StoreError::Secret(_) => {
            tracing::error!(error = chain(error), "the store is unavailable");
            Problem::unavailable()
        }
        StoreError::TimedOut(_) => {
            tracing::error!(error = chain(error), "the store took too long");
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
        // `enqueue`, which alone stores what is counted, knows the time and says when the day ends.
        StoreError::QuotaUsedUp => Problem::quota_exceeded(60),
        StoreError::Url | StoreError::Corrupt(_) | StoreError::Migration(_) | StoreError::Failed(_) => {
            tracing::error!(error = chain(error), "the store failed");
            Problem::internal()
        }
    }
}
