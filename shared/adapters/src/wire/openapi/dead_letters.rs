//! Dead letters.

use super::schema::{Schema, optional, required};
use super::{Answer, Operation, page_of};
use serde_json::json;

/// `GET /v1/dead-letters`.
pub(super) fn list() -> Operation {
    Operation::new(
        "List dead letters, the newest first",
        Answer::ok("A page of them.", page_of("dead_letters", Schema::named("DeadLetter"))),
    )
}

/// `POST /v1/dead-letters/redrive`.
pub(super) fn redrive() -> Operation {
    let filter = [
        optional("ids", Schema::list(Schema::named("DeadLetterId")).entries(1, 1000)),
        optional("category", Schema::named("CategoryKey")),
        optional("reason", Schema::text().length(1, 64)),
        optional("from", Schema::named("Time")),
        optional("to", Schema::named("Time")),
    ];
    let answer = Schema::object([
        required("redriven_count", Schema::count()),
        required("has_more", Schema::flag().describe("Whether to ask again for the rest.")),
        required("dead_letters", Schema::list(Schema::named("DeadLetterId")).entries(0, 1000)),
    ]);
    let example = json!({
        "ids": ["dl_01a1fd7ccccd7410a93abd975284c6b9"], "category": "greeting", "reason": "attempts_used_up",
        "from": "2026-11-21T00:00:00Z", "to": "2026-11-22T00:00:00Z",
    });
    Operation::new("Give dead letters another life", Answer::ok("Those that have it.", answer))
        .describe(
            "Names what to redrive by ids, by a filter, or both; nothing at all does not mean everything. \
             What was redriven, or heard of, is not sent again.",
        )
        .with_body(Schema::object(filter).with_one_of(&["ids", "category", "reason", "from", "to"]), example)
}

/// The components.
pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    let dead_letter = Schema::object([
        required("id", Schema::named("DeadLetterId")),
        required("delivery_id", Schema::named("DeliveryId").or_null()),
        required("notification_id", Schema::named("NotificationId").or_null()),
        required("category", Schema::named("CategoryKey").or_null()),
        required("body", Schema::text().describe("The queue's message.")),
        required("reason", Schema::text()),
        required("detail", Schema::text().or_null().describe("The reason, for people.")),
        required("receive_count", Schema::count()),
        required("first_sent_at", Schema::named("Time").or_null()),
        required("created_at", Schema::named("Time")),
        required("redriven_at", Schema::named("Time").or_null()),
    ]);
    vec![("DeadLetter", dead_letter)]
}
