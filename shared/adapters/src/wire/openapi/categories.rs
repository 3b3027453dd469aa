//! Categories.

use super::schema::{Schema, optional, required};
use super::{Answer, Operation, page_of};
use crate::wire::categories::{MAX_LIMIT, MAX_PURPOSE_LENGTH, MAX_URL_LENGTH};
use crate::wire::recipients::MAX_ROLES;
use domain::category::{Class, MAX_ATTEMPTS_DEFAULT, MAX_ATTEMPTS_LIMIT, UnknownPolicy};
use domain::preference::Cadence;
use serde_json::json;

/// `GET /v1/categories`.
pub(super) fn list() -> Operation {
    Operation::new(
        "List categories in the order of their keys",
        Answer::ok("A page of them.", page_of("categories", Schema::named("Category"))),
    )
}

/// `PUT /v1/categories/{key}`.
pub(super) fn put() -> Operation {
    let purpose = Schema::any_of([Schema::named("Purpose"), Schema::one_of([""])]);
    let body = Schema::object([
        required("class", Schema::named("Class")),
        optional("name", Schema::named("Line")),
        optional("description", Schema::named("LongLine")),
        optional("channels", Schema::list(Schema::named("SendableChannel")).at_least(1).default(json!(["email"]))),
        optional(
            "template",
            Schema::named("TemplateKey")
                .describe("One of messages that is there. Where digests are made of it, it must take their data."),
        ),
        optional("max_attempts", Schema::number(1, MAX_ATTEMPTS_LIMIT).default(MAX_ATTEMPTS_DEFAULT)),
        optional("unknown_policy", Schema::named("UnknownPolicy").default("at_least_once")),
        optional(
            "reconcile_window",
            Schema::named("Duration").default("PT10M").describe("How long to wait for feedback; at most a day."),
        ),
        optional("quiet_hours_apply", Schema::flag().describe("Else as suits the class.")),
        optional(
            "unmutable_roles",
            Schema::list(Schema::named("Role"))
                .at_most(MAX_ROLES)
                .describe("Who cannot switch it off; `*` is everybody. Else as suits the class."),
        ),
        optional(
            "consent_purpose",
            purpose.describe("What recipients must have agreed to; empty is nothing. Else as suits the class."),
        ),
        optional("throttle", Schema::named("Limit").describe("At most so many to one recipient.")),
        optional(
            "digest_category",
            Schema::named("CategoryKey")
                .describe("The digest, of class `digest`, that collects what a cadence holds. Else the settings'."),
        ),
        optional(
            "digest",
            Schema::object([
                optional(
                    "cadence",
                    periodic().describe("A rhythm of its own; else it leaves when it has collected something."),
                ),
                optional(
                    "roles",
                    Schema::list(Schema::named("Role"))
                        .at_most(MAX_ROLES)
                        .describe("Who gets it by its cadence, beside `unmutable_roles`; `*` is everybody."),
                ),
                optional(
                    "send_empty",
                    Schema::flag()
                        .default(false)
                        .describe("Whether also with nothing in it; `unmutable_roles` always."),
                ),
                optional(
                    "more_url",
                    url().describe("Where recipients find what it has no room for; else a page of this service's own."),
                ),
            ])
            .describe("For class `digest`."),
        ),
    ]);
    let example = json!({
        "class": "transactional", "name": "Greetings", "description": "Says hello.", "channels": ["email"],
        "template": "greeting", "max_attempts": 3, "unknown_policy": "at_least_once", "reconcile_window": "PT10M",
        "quiet_hours_apply": true, "unmutable_roles": ["CAE"], "consent_purpose": "greetings",
        "throttle": {"limit": 3, "window": "P1D"},
    });
    Operation::new("Put a category", Answer::ok("The category.", Schema::named("Category")))
        .describe("Replaces the whole of it: what is left out has its default. A tenant can have a thousand.")
        .with_body(body, example)
}

/// `GET /v1/categories/{key}`.
pub(super) fn get() -> Operation {
    Operation::new("Show a category", Answer::ok("The category.", Schema::named("Category")))
}

/// The components.
pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    let digest = Schema::object([
        required("cadence", periodic().or_null()),
        required("roles", Schema::list(Schema::named("Role"))),
        required("send_empty", Schema::flag()),
        required("more_url", url().or_null()),
    ]);
    let category = Schema::object([
        required("key", Schema::named("CategoryKey")),
        required("name", Schema::text().or_null()),
        required("description", Schema::text().or_null()),
        required("class", Schema::named("Class")),
        required("channels", Schema::list(Schema::named("Channel")).at_least(1)),
        required("template", Schema::named("TemplateKey").or_null()),
        required("max_attempts", Schema::number(1, MAX_ATTEMPTS_LIMIT)),
        required("unknown_policy", Schema::named("UnknownPolicy")),
        required("reconcile_window", Schema::named("Duration").or_null()),
        required("quiet_hours_apply", Schema::flag()),
        required("unmutable_roles", Schema::list(Schema::named("Role"))),
        required("consent_purpose", Schema::named("Purpose").or_null()),
        required("throttle", Schema::named("Limit").or_null()),
        required("digest_category", Schema::named("CategoryKey").or_null()),
        required("digest", digest.or_null()),
        required("updated_at", Schema::named("Time")),
    ]);
    let limit = Schema::object([
        required("limit", Schema::number(1, MAX_LIMIT)),
        required("window", Schema::named("Duration").describe("At most P30D.")),
    ]);
    let purpose = Schema::text().length(1, MAX_PURPOSE_LENGTH).pattern("[A-Za-z0-9._:-]*").example("newsletter");
    vec![
        ("Category", category),
        ("Limit", limit.describe("At most so many in so long a time.")),
        ("Purpose", purpose.describe("The name of something that people agree to.")),
        ("Class", Schema::one_of(Class::ALL.iter().map(|class| class.as_str()))),
        ("UnknownPolicy", Schema::one_of(UnknownPolicy::ALL.iter().map(|policy| policy.as_str()))),
    ]
}

fn periodic() -> Schema {
    Schema::one_of(Cadence::PERIODIC.iter().map(|cadence| cadence.as_str()))
}

fn url() -> Schema {
    Schema::text().length(1, MAX_URL_LENGTH).pattern("https://[A-Za-z0-9][!#-;=?-~]*")
}
