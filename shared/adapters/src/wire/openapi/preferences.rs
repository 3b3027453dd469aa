//! Preferences, of recipients and of the tenant.

use super::schema::{Schema, optional, required, sometimes};
use super::{Answer, Operation};
use crate::wire::preferences::{MAX_PREFERENCES, SAYINGS};
use domain::preference::{Cadence, Contact, Origin};
use serde_json::{Value, json};

/// `GET /v1/recipients/{id}/preferences`.
pub(super) fn get() -> Operation {
    Operation::new("Show what a recipient wants, and what holds", answer())
}

/// `PUT /v1/recipients/{id}/preferences`.
pub(super) fn put() -> Operation {
    Operation::new("Replace what a recipient wants", answer())
        .describe(
            "What is mandatory for one of the recipient's roles cannot be switched off: 422 with code `mandatory_category`.",
        )
        .with_body(Schema::named("PreferencesRequest"), example())
}

/// `GET /v1/preferences`.
pub(super) fn get_of_tenant() -> Operation {
    Operation::new("Show what the tenant wants for those who say nothing", answer())
}

/// `PUT /v1/preferences`.
pub(super) fn put_of_tenant() -> Operation {
    Operation::new("Replace what the tenant wants for those who say nothing", answer()).with_body(
        Schema::named("TenantPreferencesRequest"),
        json!({"contact": "both", "preferences": [{"category": "greeting", "cadence": "daily"}]}),
    )
}

fn answer() -> Answer {
    Answer::ok(
        "What was stated, and what holds for each category and channel and where it comes from.",
        Schema::named("Preferences"),
    )
}

fn example() -> Value {
    json!({
        "contact": "both",
        "preferences": [{
            "category": "greeting", "channel": "*", "enabled": true, "cadence": "daily",
            "quiet_hours": {"from": "22:00", "until": "07:00"},
        }, {"category": "*", "digest_time": "07:30"}],
    })
}

const DIGEST_TIME: &str = "When a recipient's digests leave, in its own zone; without it, when the tenant's settings say. Only \
     where both category and channel are `*`.";

fn weekday() -> Schema {
    Schema::number(1, 7).describe("When its weekly digests leave, as `digest_time` has it: 1 is Monday.")
}

/// The components.
pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    let category = || Schema::any_of([Schema::one_of(["*"]), Schema::named("CategoryKey")]);
    let channel = || Schema::any_of([Schema::one_of(["*"]), Schema::named("Channel")]);
    let wishes = || {
        [
            optional("category", category().default("*")),
            optional("channel", channel().default("*")),
            optional("enabled", Schema::flag()),
            optional("cadence", Schema::named("Cadence")),
            optional(
                "quiet_hours",
                Schema::named("QuietHours").describe("The same time twice says that there are none."),
            ),
        ]
    };
    let digest_time = Schema::named("TimeOfDay").describe(DIGEST_TIME);
    let own = [optional("digest_time", digest_time), optional("digest_weekday", weekday())];
    let never = || Schema::null().describe("Is a setting of the tenant's: `PUT /v1/settings`.");
    let tenants = [sometimes("digest_time", never()), sometimes("digest_weekday", never())];
    let statement = Schema::object(wishes().into_iter().chain(own)).with_one_of(&SAYINGS).with_only_beside(
        &["digest_time", "digest_weekday"],
        &["category", "channel"],
        "*",
    );
    let of_tenant = Schema::object(wishes().into_iter().chain(tenants)).with_one_of(&SAYINGS);
    let request = |statement| {
        Schema::object([
            optional(
                "contact",
                Schema::named("Contact")
                    .describe("A short form: mail and text messages, for every category, on or off."),
            ),
            optional("preferences", Schema::list(statement).at_most(MAX_PREFERENCES)),
        ])
    };
    let stated = Schema::object([
        required("category", category()),
        required("channel", channel()),
        required("enabled", Schema::flag().or_null()),
        required("cadence", Schema::named("Cadence").or_null()),
        required("quiet_hours", Schema::named("QuietHours").or_null()),
        required("digest_time", Schema::named("TimeOfDay").or_null()),
        required("digest_weekday", weekday().or_null()),
    ]);
    let chosen = |value| Schema::object([required("value", value), required("from", Schema::named("Origin"))]);
    let held = Schema::object([
        required("category", Schema::named("CategoryKey")),
        required("channel", Schema::named("Channel")),
        required("enabled", chosen(Schema::flag())),
        required("cadence", chosen(Schema::named("Cadence"))),
        required("quiet_hours", chosen(Schema::named("QuietHours").or_null())),
        required(
            "mandatory_for",
            Schema::text().or_null().describe("The role that cannot switch it off; `*` is everybody."),
        ),
    ]);
    let preferences = Schema::object([
        required("contact", Schema::named("Contact")),
        required("preferences", Schema::list(stated).describe("What was stated.")),
        required("effective", Schema::list(held).describe("What holds.")),
    ]);
    let hours =
        Schema::object([required("from", Schema::named("TimeOfDay")), required("until", Schema::named("TimeOfDay"))]);
    vec![
        ("PreferencesRequest", request(statement)),
        ("TenantPreferencesRequest", request(of_tenant)),
        ("Preferences", preferences),
        ("QuietHours", hours.describe("In the recipient's time zone.")),
        ("Cadence", Schema::one_of(Cadence::ALL.iter().map(|cadence| cadence.as_str()))),
        ("Contact", Schema::one_of(Contact::ALL.iter().map(|contact| contact.as_str()))),
        (
            "Origin",
            Schema::one_of(Origin::ALL.iter().map(|origin| origin.as_str()))
                .describe("Where a value comes from, from the strongest to the weakest."),
        ),
    ]
}
