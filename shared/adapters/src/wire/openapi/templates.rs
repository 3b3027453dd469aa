//! Templates: drafts and what is published of them.

use super::schema::{Field, Schema, optional, required, sometimes};
use super::{Answer, Operation, page_of};
use domain::template::{Kind, MAX_VARIABLES, MAX_VARIANTS, VariableType};
use serde_json::json;

/// `GET /v1/templates`.
pub(super) fn list() -> Operation {
    let entry = Schema::object(summary());
    Operation::new(
        "List templates in the order of their keys",
        Answer::ok("A page of them, without their drafts.", page_of("templates", entry)),
    )
}

/// `PUT /v1/templates/{key}`.
pub(super) fn put() -> Operation {
    let example = json!({
        "kind": "message",
        "layout": "frame",
        "variables": {"name": {"type": "string", "required": true, "example": "Ada", "description": "Whom to greet."}},
        "variants": [{
            "channel": "email", "locale": "en", "subject": "Hello {{ name }}", "html": "<p>Dear {{ name }}</p>",
            "text": "Dear {{ name }}", "short_text": "Hello",
        }],
    });
    Operation::new("Put a template's draft", Answer::ok("The template.", Schema::named("Template")))
        .describe(
            "Replaces the whole draft. What is sent stays as it is until the draft is published, and what the draft \
             says is looked at then. 409 where it was published as another kind.",
        )
        .with_body(Schema::named("Draft"), example)
}

/// `GET /v1/templates/{key}`.
pub(super) fn get() -> Operation {
    Operation::new("Show a template with its draft", Answer::ok("The template.", Schema::named("Template")))
}

/// `POST /v1/templates/{key}/publish`.
pub(super) fn publish() -> Operation {
    Operation::new(
        "Make a template's draft the version that is sent",
        Answer::ok("The version.", Schema::named("Publication")),
    )
    .describe(
        "The same content again is the same version. What is wrong with the draft is told by line and column. 422, too, \
         where digests are made of it, and its variables are not what they have.",
    )
    .with_optional_body(Schema::object([]), json!({}))
}

/// `GET /v1/templates/{key}/versions/{version}`.
pub(super) fn get_version() -> Operation {
    Operation::new("Show a published version", Answer::ok("The version.", Schema::named("Publication")))
}

/// The components.
pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    let variant = Schema::object([
        optional("channel", Schema::named("SendableChannel").default("email")),
        required("locale", Schema::named("Locale")),
        optional("subject", Schema::text()),
        optional("html", Schema::text()),
        optional("mjml", Schema::text().describe("Compiled to HTML when it is published; in place of html.")),
        optional("text", Schema::text().describe("Else made from the HTML.")),
        optional("short_text", Schema::text().describe("For channels that take little.")),
    ])
    .without_both("html", "mjml");
    let draft = Schema::object([
        optional("kind", Schema::named("TemplateKind").default("message")),
        optional("layout", Schema::named("TemplateKey")),
        optional("variables", Schema::named("Variables")),
        required("variants", Schema::list(variant).entries(1, MAX_VARIANTS)),
    ]);
    let variable = Schema::object([
        required("type", Schema::one_of(VariableType::ALL.iter().map(|kind| kind.as_str()))),
        sometimes("required", Schema::flag().default(true)),
        sometimes("example", Schema::any().describe("A required one needs one, of its type.")),
        sometimes("description", Schema::text().length(0, 1000)),
    ]);
    let published = Schema::object([
        required("channel", Schema::named("Channel")),
        required("locale", Schema::named("Locale")),
        required("subject", Schema::text()),
        required("text", Schema::text().or_null()),
        required("html", Schema::text().or_null()),
        required("short_text", Schema::text().or_null()),
    ]);
    let publication = Schema::object([
        required("key", Schema::named("TemplateKey")),
        required("version", Schema::ordinal()),
        required("draft", Schema::named("Draft").describe("As it was written.")),
        required("variables", Schema::named("Variables")),
        required("content_hash", Schema::named("ContentHash")),
        required("published_at", Schema::named("Time")),
        required("variants", Schema::list(published).describe("What is sent. Of a layout or partial, nothing is.")),
    ]);
    let draft_or_none = Schema::named("Draft").or_null().describe("Null where nothing is worked on.");
    vec![
        ("Draft", draft),
        (
            "Variables",
            Schema::map("[A-Za-z_][A-Za-z0-9_]{0,63}", variable, MAX_VARIABLES).format("template-variables").describe(
                "What a notification's data must have, by name. A message may use these names, `recipient`, \
                     `notification`, `tenant`, `unsubscribe_url`, `preferences_url`, `acknowledge_url` and `resolve_url`, and no others.",
            ),
        ),
        ("TemplateKind", Schema::one_of(Kind::ALL.iter().map(|kind| kind.as_str()))),
        ("Template", Schema::object(summary().into_iter().chain([required("draft", draft_or_none)]))),
        ("Publication", publication),
        ("ContentHash", Schema::text().pattern("sha256:[0-9a-f]{64}").describe("A digest of what is sent.")),
    ]
}

fn summary() -> Vec<Field> {
    vec![
        required("key", Schema::named("TemplateKey")),
        required("kind", Schema::named("TemplateKind")),
        required("draft_updated_at", Schema::named("Time").or_null()),
        required("published_version", Schema::ordinal().or_null()),
        required("published_at", Schema::named("Time").or_null()),
    ]
}
