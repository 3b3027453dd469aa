//! The tenant's settings.

use super::schema::{Schema, optional, required};
use super::{Answer, Operation};
use serde_json::json;

/// `GET /v1/settings`.
pub(super) fn get() -> Operation {
    Operation::new("Show the tenant's settings", Answer::ok("The settings.", Schema::named("Settings")))
}

/// `PUT /v1/settings`.
pub(super) fn put() -> Operation {
    let body = Schema::object([
        optional(
            "frequency_cap",
            Schema::named("Limit").describe("At most so many to one recipient, of all categories."),
        ),
        optional("digest_time", Schema::named("TimeOfDay").describe("When digests leave, in each recipient's zone.")),
        optional("digest_weekday", weekday()),
        optional("locale", locale().default("en")),
        optional("time_zone", time_zone().default("UTC")),
    ]);
    let example = json!({"frequency_cap": {"limit": 20, "window": "P1D"}, "digest_time": "08:00", "digest_weekday": 1,
        "locale": "en-IN", "time_zone": "Asia/Kolkata"});
    Operation::new("Replace the tenant's settings", Answer::ok("The settings.", Schema::named("Settings")))
        .describe("Replaces all of them: what is left out has its default.")
        .with_body(body, example)
}

/// The components.
pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    let settings = Schema::object([
        required("frequency_cap", Schema::named("Limit").or_null()),
        required("digest_time", Schema::named("TimeOfDay")),
        required("digest_weekday", weekday()),
        required("locale", locale()),
        required("time_zone", time_zone()),
    ]);
    vec![("Settings", settings)]
}

fn locale() -> Schema {
    Schema::named("Locale").describe("The language of recipients who have none, and of templates' last resort.")
}

fn time_zone() -> Schema {
    Schema::named("TimeZone").describe("The zone of recipients who have none.")
}

fn weekday() -> Schema {
    Schema::number(1, 7).describe("When weekly digests leave: 1 is Monday.")
}
