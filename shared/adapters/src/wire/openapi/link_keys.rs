//! The keys that sign the links in mails.

use super::schema::{Schema, required};
use super::{Answer, Operation};
use serde_json::json;

/// `GET /v1/link-keys`.
pub(super) fn list() -> Operation {
    let key = Schema::object([
        required("id", Schema::number(1, u16::MAX.into())),
        required("created_at", Schema::named("Time")),
        required("retired_at", Schema::named("Time").or_null().describe("From when on its links are refused.")),
    ]);
    let answer = Schema::object([required("link_keys", Schema::list(key))]);
    Operation::new("List the keys that sign the links in mails", Answer::ok("The keys, the newest first.", answer))
}

/// `POST /v1/link-keys`.
pub(super) fn add() -> Operation {
    let answer = Schema::object([required("id", Schema::number(1, u16::MAX.into()))]);
    Operation::new("Sign the links in mails with a new key", Answer::ok("The new key.", answer))
        .describe("It signs ten minutes from now, when every instance knows it. Links of older mails stay good.")
        .with_optional_body(Schema::object([]), json!({}))
}
