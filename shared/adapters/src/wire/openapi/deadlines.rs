//! Deadlines.

use super::schema::{Schema, optional, required, sometimes};
use super::{Answer, Operation, page_of};
use domain::deadline::{DeadlineState, MAX_RECIPIENTS, MAX_RUNGS, NotEscalated, Note, RungState, WhenPast};
use serde_json::json;

/// `GET /v1/deadlines`.
pub(super) fn list() -> Operation {
    Operation::new(
        "List deadlines in the order of their keys",
        Answer::ok("A page of them.", page_of("deadlines", Schema::named("Deadline"))),
    )
    .describe(
        "One that was completed is kept for the days of the settings' `retention`, by the class of its category, and then is \
         gone. So is one that has passed and that nobody completes: the days count from when it was due, the last of its \
         rungs was decided, or what began when it had passed last changed, whichever was last, and it stays while any of \
         these is still to come.",
    )
}

/// `PUT /v1/deadlines/{key}`.
pub(super) fn put() -> Operation {
    let rung = Schema::object([
        optional("before", offset("P7D").describe("How long before the deadline; at least PT5M without `at`.")),
        optional("after", offset("PT2H").describe("How long after it; at least P1D with `at`.")),
        optional(
            "at",
            Schema::named("TimeOfDay").describe("At this time of the recipient's day; the offset is whole days then."),
        ),
        optional("category", Schema::named("CategoryKey").describe("Else the deadline's.")),
        optional("template", Schema::named("TemplateKey").describe("Else the category's.")),
        optional("data", Schema::opaque().describe("Goes before the deadline's.")),
    ])
    .with_only_one_of(&["before", "after"]);
    let overdue = Schema::object([
        optional("category", Schema::named("CategoryKey").describe("Of what each recipient gets, once.")),
        optional("escalation_policy", Schema::named("PolicyKey").describe("By which one escalation begins.")),
    ])
    .with_one_of(&["category", "escalation_policy"]);
    let body = Schema::object([
        optional("category", Schema::named("CategoryKey").describe("Of the rungs that name none.")),
        required("recipients", Schema::list(Schema::named("RecipientId")).entries(1, MAX_RECIPIENTS)),
        required("due_at", Schema::named("Time").describe("Ahead, by ten years at most.")),
        optional("rungs", Schema::list(rung).entries(1, MAX_RUNGS).describe("The reminders; no two at one time.")),
        optional("overdue", overdue.describe("What happens when it has passed.")),
        optional(
            "data",
            Schema::opaque().describe("For the templates, which also get `deadline` and `due_at`. At most 16 KiB."),
        ),
        optional(
            "time_zone",
            Schema::named("TimeZone").describe("Of recipients that have none of their own; else the tenant's."),
        ),
        optional(
            "when_past",
            Schema::one_of(WhenPast::ALL.iter().map(|when| when.as_str()))
                .default("skip")
                .describe("What becomes of rungs whose time has passed already; `send` sends the latest of them."),
        ),
    ]);
    let example = json!({
        "category": "greeting", "recipients": ["ada"], "due_at": "2031-03-01T03:30:00Z", "time_zone": "Asia/Kolkata",
        "rungs": [
            {"before": "P7D", "at": "09:00", "category": "greeting", "template": "greeting", "data": {"name": "Ada"}},
            {"before": "PT2H"},
        ],
        "overdue": {"category": "greeting", "escalation_policy": "critical"}, "data": {"name": "Ada"}, "when_past": "skip",
    });
    Operation::new("Put a deadline", answer())
        .describe(
            "Days are counted in each recipient's zone, hours are elapsed time. Putting it again plans anew whatever has \
             not been decided for its due time, and opens it where it was completed. What has fired does not fire again, \
             also where the due time is another. What began when an earlier due time had passed is resolved.",
        )
        .with_body(body, example)
}

/// `GET /v1/deadlines/{key}`.
pub(super) fn get() -> Operation {
    Operation::new("Show a deadline with what it did and will do for each recipient", answer())
}

/// `POST /v1/deadlines/{key}/complete`.
pub(super) fn complete() -> Operation {
    let answer = Schema::object([
        required("canceled_rung_count", Schema::count().describe("What had not fired, and never will.")),
        required("canceled_delivery_count", Schema::count().describe("What had, and was not sent, and never will be.")),
        required("deadline", Schema::named("PlannedDeadline")),
    ]);
    Operation::new("Complete a deadline", Answer::ok("What was withdrawn.", answer))
        .describe(
            "Nobody is reminded of it any more, and what began when it had passed is resolved. A second time nothing is left \
             to withdraw.",
        )
        .with_optional_body(Schema::object([]), json!({}))
}

/// `DELETE /v1/deadlines/{key}`.
pub(super) fn delete() -> Operation {
    Operation::new("Complete a deadline, and forget it", Answer::empty("It is not there any more."))
}

fn answer() -> Answer {
    Answer::ok("The deadline.", Schema::named("PlannedDeadline"))
}

fn offset(example: &str) -> Schema {
    Schema::named("Offset").example(example)
}

/// The states of a deadline.
pub(super) fn state() -> Schema {
    Schema::one_of(DeadlineState::ALL.iter().map(|state| state.as_str()))
}

/// The components.
pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    let fields = || {
        let rung = Schema::object([
            sometimes("before", Schema::named("Offset")),
            sometimes("after", Schema::named("Offset")),
            sometimes("at", Schema::named("TimeOfDay")),
            sometimes("category", Schema::named("CategoryKey")),
            sometimes("template", Schema::named("TemplateKey")),
            sometimes("data", Schema::opaque()),
        ]);
        let overdue = Schema::object([
            sometimes("category", Schema::named("CategoryKey")),
            sometimes("escalation_policy", Schema::named("PolicyKey")),
        ]);
        let not_escalated = Schema::one_of(NotEscalated::ALL.iter().map(|note| note.as_str()));
        vec![
            required("key", Schema::named("DeadlineKey")),
            required("state", state()),
            required("category", Schema::named("CategoryKey").or_null()),
            required("recipients", Schema::list(Schema::named("RecipientId")).at_most(MAX_RECIPIENTS)),
            required("time_zone", Schema::named("TimeZone").or_null()),
            required("due_at", Schema::named("Time")),
            required("rungs", Schema::list(rung).at_most(MAX_RUNGS)),
            required("overdue", overdue.or_null()),
            required("data", Schema::opaque()),
            required("when_past", Schema::one_of(WhenPast::ALL.iter().map(|when| when.as_str()))),
            required(
                "escalation_id",
                Schema::named("EscalationId").or_null().describe("What began when it had passed."),
            ),
            required("escalation_note", not_escalated.or_null().describe("Why none began.")),
            required("completed_at", Schema::named("Time").or_null()),
            required("created_at", Schema::named("Time")),
            required("updated_at", Schema::named("Time")),
        ]
    };
    let planned = Schema::object([
        required("recipient", Schema::named("RecipientId")),
        required("rung", Schema::text().example("-P7D@09:00")),
        required("due_at", Schema::named("Time").describe("The due time that it belongs to.")),
        required("fire_at", Schema::named("Time")),
        required("state", Schema::one_of(RungState::ALL.iter().map(|state| state.as_str()))),
        required(
            "note",
            Schema::one_of(Note::ALL.iter().map(|note| note.as_str()))
                .or_null()
                .describe("Why it became no notification."),
        ),
        required("detail", Schema::text().or_null()),
        required("notification_id", Schema::named("NotificationId").or_null()),
        required("decided_at", Schema::named("Time").or_null()),
    ]);
    let plan = required("plan", Schema::list(planned).describe("In the order of time; also of earlier due times."));
    let offset = Schema::text()
        .format("duration")
        .pattern(r"P(?:[0-9]+D)?(?:T(?:[0-9]+H)?(?:[0-9]+M)?(?:[0-9]+S)?)?")
        .example("P7D")
        .describe(
            "A length of time in ISO 8601: days of the recipient's calendar, then hours, minutes and seconds that \
             elapse; at most 366 days. P1D and PT24H are not the same.",
        );
    vec![
        ("Deadline", Schema::object(fields())),
        ("PlannedDeadline", Schema::object(fields().into_iter().chain([plan]))),
        ("Offset", offset),
    ]
}
