//! Suppressions.

use super::schema::{Schema, required};
use super::{Answer, Operation, page_of};
use crate::store::suppressions::SuppressionSource;
use domain::feedback::SuppressionReason;
use serde_json::json;

/// `GET /v1/suppressions`.
pub(super) fn list() -> Operation {
    Operation::new(
        "List the addresses that the tenant's mail leaves alone, the newest first",
        Answer::ok("A page of them.", page_of("suppressions", Schema::named("Suppression"))),
    )
}

/// `GET /v1/suppressions/{address}`.
pub(super) fn get() -> Operation {
    Operation::new("Show whether an address is suppressed", answer()).describe(
        "Also where it is on the mail provider's own list, which holds for every tenant; why is not told then.",
    )
}

/// `PUT /v1/suppressions/{address}`.
pub(super) fn put() -> Operation {
    Operation::new("Suppress an address", answer()).with_optional_body(Schema::object([]), json!({}))
}

/// `DELETE /v1/suppressions/{address}`.
pub(super) fn delete() -> Operation {
    Operation::new("Take a suppression back", answer()).describe(
        "409 where its owner complained and nothing says `even_complaint`, or where the provider's list has it.",
    )
}

fn answer() -> Answer {
    Answer::ok("The suppression.", Schema::named("Suppression"))
}

/// The reasons of a suppression.
pub(super) fn reason() -> Schema {
    Schema::one_of(SuppressionReason::ALL.iter().map(|reason| reason.as_str()))
}

/// Who added a suppression.
pub(super) fn source() -> Schema {
    Schema::one_of(SuppressionSource::ALL.iter().map(|source| source.as_str()))
}

/// The components.
pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    let suppression = Schema::object([
        required("address", Schema::named("Address")),
        required("reason", reason().or_null()),
        required("source", source()),
        required("created_at", Schema::named("Time")),
    ]);
    let address = Schema::any_of([Schema::named("Email"), Schema::named("Phone")]);
    vec![("Suppression", suppression), ("Address", address.describe("A mail address or a phone number."))]
}
