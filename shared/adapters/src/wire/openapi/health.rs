//! The service itself.

use super::schema::{Schema, required};
use super::{Answer, Operation};

/// `GET /v1/health`.
pub(super) fn get() -> Operation {
    let answer = Schema::object([required("status", Schema::one_of(["ok"]))]);
    Operation::new("Say whether the service can work", Answer::ok("It can.", answer))
}

/// `GET /v1/openapi.json`.
pub(super) fn get_openapi() -> Operation {
    Operation::new("Show this document", Answer::ok("The document.", Schema::opaque()))
}
