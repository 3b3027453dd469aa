//! Recipients.

use super::schema::{Field, Schema, optional, required};
use super::{Answer, Operation, page_of};
use crate::wire::recipients::{MAX_ATTRIBUTE_BYTES, MAX_RECIPIENTS, MAX_ROLE_LENGTH, MAX_ROLES};
use serde_json::{Value, json};

/// `GET /v1/recipients`.
pub(super) fn list() -> Operation {
    Operation::new(
        "List recipients in the order of their ids",
        Answer::ok("A page of them.", page_of("recipients", Schema::named("Recipient"))),
    )
}

/// `POST /v1/recipients`.
pub(super) fn put_many() -> Operation {
    let id = [required("id", Schema::named("RecipientId"))];
    let entry = Schema::object(id.into_iter().chain(fields())).with_one_of(&["email", "phone"]);
    let put = Schema::object([
        required("id", Schema::named("RecipientId")),
        required("status", Schema::one_of(["created", "replaced"])),
    ]);
    let rejected = Schema::object([
        required("status", Schema::one_of(["rejected"])),
        required("problem", Schema::named("Problem")),
    ]);
    let results = Schema::list(Schema::any_of([put, rejected])).entries(1, MAX_RECIPIENTS);
    let mut example = example();
    example["id"] = "auditor-7".into();
    Operation::new(
        "Put many recipients",
        Answer::ok("What became of each, in their order.", Schema::object([required("recipients", results)])),
    )
    .describe("Each replaces the whole of what was there. One that is not valid fails no other; where none is, the answer is 422.")
    .with_body(
        Schema::object([required("recipients", Schema::list(entry).entries(1, MAX_RECIPIENTS))]),
        json!({"recipients": [example]}),
    )
}

/// `PUT /v1/recipients/{id}`.
pub(super) fn put() -> Operation {
    Operation::new("Put a recipient", Answer::ok("The recipient.", Schema::named("Recipient")))
        .describe("Replaces the whole of it: a field that is left out is a field that is cleared.")
        .with_body(Schema::object(fields()).with_one_of(&["email", "phone"]), example())
}

/// `GET /v1/recipients/{id}`.
pub(super) fn get() -> Operation {
    Operation::new("Show a recipient", Answer::ok("The recipient.", Schema::named("Recipient")))
}

/// `DELETE /v1/recipients/{id}`.
pub(super) fn delete() -> Operation {
    Operation::new("Erase what is known of a recipient", Answer::empty("It is erased."))
        .describe("The person's data goes; what happened stays, without it.")
}

/// `GET /v1/reports/unreachable-recipients`.
pub(super) fn list_unreachable() -> Operation {
    let reason = Schema::object([
        required("code", Schema::one_of(["no_address", "address_suppressed", "preference_off"])),
        required("detail", Schema::text()),
    ]);
    let entry = Schema::object([
        required("id", Schema::named("RecipientId")),
        required("reasons", Schema::list(reason).at_least(1)),
        required("created_at", Schema::named("Time")),
    ]);
    Operation::new(
        "List recipients whom nothing reaches, the newest first",
        Answer::ok("A page of them.", page_of("recipients", entry)),
    )
    .describe("So many recipients are looked at for a page: it may be short or empty and have another behind it, for as long as there is `page_info.after`.")
}

/// The components.
pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    let recipient = Schema::object([
        required("id", Schema::named("RecipientId")),
        required("email", Schema::named("Email").or_null()),
        required("phone", Schema::named("Phone").or_null()),
        required("name", Schema::named("DisplayName").or_null()),
        required("locale", Schema::named("Locale").or_null()),
        required("time_zone", Schema::named("TimeZone").or_null()),
        required("roles", Schema::list(Schema::named("Role"))),
        required("manager", Schema::named("RecipientId").or_null()),
        required("attributes", Schema::opaque()),
        required("created_at", Schema::named("Time")),
        required("updated_at", Schema::named("Time")),
    ]);
    let role = Schema::text()
        .length(1, MAX_ROLE_LENGTH)
        .pattern(r"[^\u0000-\u001f\u007f-\u009f]*")
        .describe("What a recipient is, for rules. At most 64 bytes.");
    vec![("Recipient", recipient), ("Role", role)]
}

fn fields() -> [Field; 8] {
    let attributes = format!("What else there is to know, for templates. At most {MAX_ATTRIBUTE_BYTES} bytes of JSON.");
    [
        optional("email", Schema::named("Email")),
        optional("phone", Schema::named("Phone")),
        optional("name", Schema::named("DisplayName")),
        optional("locale", Schema::named("Locale")),
        optional("time_zone", Schema::named("TimeZone")),
        optional("roles", Schema::list(Schema::named("Role")).at_most(MAX_ROLES)),
        optional("manager", Schema::named("RecipientId").describe("Whose report it is, for escalations.")),
        optional("attributes", Schema::opaque().describe(&attributes)),
    ]
}

fn example() -> Value {
    json!({
        "email": "ada@example.org", "phone": "+4915112345678", "name": "Ada Lovelace", "locale": "en-IN",
        "time_zone": "Asia/Kolkata", "roles": ["CAE"], "attributes": {"unit": "Pune"},
    })
}
