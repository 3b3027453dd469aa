//! Consents.

use super::schema::{Schema, optional, required};
use super::{Answer, Operation, page_of};
use crate::wire::consents::MAX_EVIDENCE_BYTES;
use serde_json::json;

/// `GET /v1/recipients/{id}/consents`.
pub(super) fn list() -> Operation {
    Operation::new(
        "List what a recipient agreed to or took back, the newest first",
        Answer::ok("A page of the ledger.", page_of("consents", Schema::named("Consent"))),
    )
}

/// `POST /v1/recipients/{id}/consents`.
pub(super) fn add() -> Operation {
    let evidence = format!("What shows it. At most {MAX_EVIDENCE_BYTES} bytes of JSON.");
    let body = Schema::object([
        required("purpose", Schema::named("Purpose")),
        optional("channel", channel().default("*")),
        required("state", Schema::named("ConsentState")),
        required("source", Schema::named("Line").describe("Where it was said.")),
        optional("evidence", Schema::opaque().describe(&evidence)),
        optional("said_at", Schema::named("Time").describe("When it was said; else now.")),
    ]);
    let example = json!({
        "purpose": "newsletter", "channel": "email", "state": "granted", "source": "sign-up form",
        "evidence": {"form": "7"}, "said_at": "2026-11-20T10:00:00Z",
    });
    Operation::new("Enter what a recipient agreed to, or took back", Answer::ok("The entry.", Schema::named("Consent")))
        .describe("Entries are never changed: the newest about a purpose and channel is the one that holds.")
        .with_body(body, example)
}

/// The components.
pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    let consent = Schema::object([
        required("id", Schema::text().pattern("cns_[0-9a-f]{32}")),
        required("purpose", Schema::named("Purpose")),
        required("channel", channel()),
        required("state", Schema::named("ConsentState")),
        required("source", Schema::text()),
        required("evidence", Schema::opaque()),
        required("said_at", Schema::named("Time")),
        required("created_at", Schema::named("Time")),
    ]);
    vec![("Consent", consent), ("ConsentState", Schema::one_of(["granted", "withdrawn"]))]
}

fn channel() -> Schema {
    Schema::any_of([Schema::one_of(["*"]), Schema::named("Channel")])
}
