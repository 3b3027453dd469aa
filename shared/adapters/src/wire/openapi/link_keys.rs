//! The keys that sign the links in mails.

use super::schema::{Schema, required};
use super::{Answer, Operation};
use serde_json::json;

/// `POST /v1/link-keys`.
pub(super) fn add() -> Operation {
    let answer = Schema::object([required("id", Schema::number(1, u16::MAX.into()))]);
    Operation::new("Sign the links in mails with a new key", Answer::ok("The new key.", answer))
        .describe("It signs ten minutes from now, when every instance knows it. Links of older mails stay good.")
        .with_optional_body(Schema::object([]), json!({}))
}
