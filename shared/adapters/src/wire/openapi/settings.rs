//! The tenant's settings.

use super::schema::{Schema, optional, required};
use super::{Answer, Operation};
use domain::category::Class;
use domain::retention::{DEFAULT_DAYS, LEAST_DAYS, MOST_DAYS};
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
        optional(
            "retention",
            Schema::object([optional("default_days", days().default(DEFAULT_DAYS)), optional("by_class", by_class())])
                .describe(RETENTION),
        ),
        optional("digest_category", digest_category()),
        optional("locale", locale().default("en")),
        optional("time_zone", time_zone().default("UTC")),
    ]);
    let example = json!({"frequency_cap": {"limit": 20, "window": "P1D"}, "digest_time": "08:00", "digest_weekday": 1,
        "retention": {"default_days": 365, "by_class": {"reminder": 7}},
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
        required(
            "retention",
            Schema::object([required("default_days", days()), required("by_class", by_class())]).describe(RETENTION),
        ),
        required("digest_category", digest_category().or_null()),
        required("locale", locale()),
        required("time_zone", time_zone()),
    ]);
    vec![("Settings", settings)]
}

const RETENTION: &str = "For how many days what has ended is kept: notifications with everything that belongs to them, deadlines, and escalations.";

fn days() -> Schema {
    Schema::number(LEAST_DAYS, MOST_DAYS)
}

fn by_class() -> Schema {
    Schema::object(Class::ALL.iter().map(|class| optional(class.as_str(), days())))
        .describe("By the class of its category.")
}

fn locale() -> Schema {
    Schema::named("Locale").describe("The language of recipients who have none, and of templates' last resort.")
}

fn time_zone() -> Schema {
    Schema::named("TimeZone").describe("The zone of recipients who have none.")
}

fn digest_category() -> Schema {
    Schema::named("CategoryKey").describe(
        "The digest, of class `digest`, that collects what a cadence holds of categories that name none. Without one each \
         leaves by itself.",
    )
}

fn weekday() -> Schema {
    Schema::number(1, 7).describe("When weekly digests leave: 1 is Monday.")
}
