//! What templates make of data.

use super::schema::{Field, Schema, optional, required, sometimes};
use super::{Answer, Operation};
use domain::render::WarningCode;
use serde_json::json;

/// `POST /v1/templates/{key}/preview`.
pub(super) fn preview() -> Operation {
    let made_up = Schema::object([
        sometimes("id", Schema::null()),
        optional("name", Schema::named("DisplayName")),
        optional("locale", Schema::named("Locale")),
        optional("time_zone", Schema::named("TimeZone")),
    ]);
    let known = Schema::object([required("id", Schema::named("RecipientId"))]);
    let body = Schema::object([
        optional("version", Schema::number(1, i32::MAX.unsigned_abs()).describe("Else the draft.")),
        optional("channel", Schema::named("SendableChannel").default("email")),
        optional("category", Schema::named("CategoryKey").describe("Decides whether the mail can be left.")),
        optional("recipient", Schema::any_of([known, made_up]).describe("Else somebody who is made up.")),
        optional("data", Schema::opaque().describe("Else the examples of the template's variables.")),
    ]);
    let example = json!({
        "version": 1, "channel": "email", "category": "greeting",
        "recipient": {"name": "Ada Lovelace", "locale": "en-IN", "time_zone": "Asia/Kolkata"},
        "data": {"name": "Ada"},
    });
    Operation::new("Render a template as it would be sent", Answer::ok("What it makes.", Schema::named("Preview")))
        .with_optional_body(body, example)
}

/// `GET /v1/deliveries/{id}/content`.
pub(super) fn get_content() -> Operation {
    Operation::new("Show what a delivery said", Answer::ok("What it said.", Schema::named("Content"))).describe(
        "Rendered once more, from the version and data that it was sent with. 410 where the recipient was erased, or \
             what it was made of has changed so that it makes no message any more.",
    )
}

/// The components.
pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    let size = Schema::object(["subject", "text", "html", "short_text"].map(|part| required(part, Schema::count())));
    let warning = Schema::object([
        required("code", Schema::one_of(WarningCode::ALL.iter().map(|code| code.as_str()))),
        required("detail", Schema::text()),
    ]);
    let preview = parts().into_iter().chain([
        required(
            "short_text",
            Schema::text().or_null().describe("For channels that have little room; a mail has none."),
        ),
        required("locale", Schema::named("Locale").describe("Of the variant that fits best.")),
        required("size_bytes", size),
        required("warnings", Schema::list(warning)),
    ]);
    let template = Schema::object([
        required("key", Schema::named("TemplateKey").or_null()),
        required("locale", Schema::named("Locale").or_null()),
        required("version", Schema::ordinal().or_null()),
    ]);
    let content = parts().into_iter().chain([
        required("delivery_id", Schema::named("DeliveryId")),
        required("template", template),
        required("attachments", Schema::list(Schema::named("Attached")).describe("The files that left with it.")),
        required("calendar", Schema::text().or_null().describe("The invitation, in iCalendar (RFC 5545).")),
        required("sent_content_hash", Schema::named("ContentHash")),
        required("is_as_sent", Schema::flag().describe("Whether this is what was sent, to the byte.")),
    ]);
    vec![("Preview", Schema::object(preview)), ("Content", Schema::object(content))]
}

fn parts() -> [Field; 4] {
    [
        required("subject", Schema::text()),
        required("text", Schema::text().or_null()),
        required("html", Schema::text().or_null()),
        required("content_hash", Schema::named("ContentHash")),
    ]
}
