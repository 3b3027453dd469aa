//! Escalations.

use super::schema::{Schema, optional, required};
use super::{Answer, Operation, page_of};
use crate::store::escalations::SHOWN;
use crate::wire::escalations::MAX_DATA_BYTES;
use domain::escalation::{EscalationState, Unreached};
use serde_json::json;

/// `GET /v1/escalations`.
pub(super) fn list() -> Operation {
    Operation::new(
        "List escalations, the newest first",
        Answer::ok("A page of them.", page_of("escalations", Schema::named("EscalationSummary"))),
    )
    .describe("With counts in place of what each says and has fired, which `GET /v1/escalations/{id}` shows.")
}

/// `POST /v1/escalations`.
pub(super) fn start() -> Operation {
    let data = format!(
        "For the templates of its notifications, which also get `escalation`: its id, level, repeat, policy and started_at. \
         At most {MAX_DATA_BYTES} bytes of JSON, and without a field `escalation` of its own."
    );
    let body = Schema::object([
        required("policy", Schema::named("PolicyKey")),
        optional("key", Schema::named("EscalationKey")),
        optional("data", Schema::opaque().describe(&data)),
    ]);
    let answer = Schema::object([
        required("is_new", Schema::flag().describe("False where one with this key is open already: it is that one.")),
        required("escalation", Schema::named("Escalation")),
    ]);
    Operation::new("Start an escalation", Answer::ok("The escalation.", answer))
        .describe("A first step without a delay fires at once. Of each `key` one is open at most.")
        .with_body(body, json!({"policy": "critical", "key": "observation-42", "data": {"name": "Ada"}}))
}

/// `GET /v1/escalations/{id}`.
pub(super) fn get() -> Operation {
    Operation::new("Show an escalation", Answer::ok("The escalation.", Schema::named("Escalation"))).describe(
        "The counts are of everything; of very many steps the last 100 are listed, and of their recipients and \
             notifications, and of acknowledgements, the first 100.",
    )
}

/// `POST /v1/escalations/{id}/acknowledge`.
pub(super) fn acknowledge() -> Operation {
    let who = "Who acknowledges; else whoever asks. Required where each recipient has to.";
    let body = Schema::object([optional("recipient", Schema::named("RecipientId").describe(who))]);
    Operation::new("Acknowledge an escalation", Answer::ok("The escalation, and who was first.", answered()))
        .describe(
            "No step fires any more, and what is not sent yet is withdrawn. Whoever comes second changes nothing.",
        )
        .with_optional_body(body, json!({"recipient": "ada"}))
}

/// `POST /v1/escalations/{id}/resolve`.
pub(super) fn resolve() -> Operation {
    Operation::new("Resolve an escalation", Answer::ok("The escalation.", answered()))
        .describe("It is over, acknowledged or not, and what is not sent yet is withdrawn.")
        .with_optional_body(Schema::object([]), json!({}))
}

fn answered() -> Schema {
    Schema::object([
        required("is_first", Schema::flag().describe("Whether this changed anything.")),
        required("canceled_count", Schema::count().describe("Deliveries that were withdrawn.")),
        required("escalation", Schema::named("Escalation")),
    ])
}

/// The components.
pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    let time = || Schema::named("Time");
    let notification = Schema::object([
        required("id", Schema::named("NotificationId")),
        required("recipient", Schema::named("RecipientId")),
    ]);
    let reason = Schema::one_of(Unreached::ALL.iter().map(|reason| reason.as_str()));
    let step = Schema::object([
        required("repeat", Schema::count().describe("In which round; 0 is the first.")),
        required("level", Schema::ordinal()),
        required("tier", Schema::ordinal()),
        required("fired_at", time()),
        required("recipients", shown(Schema::named("RecipientId")).describe("Whom it meant.")),
        required("recipient_count", Schema::count()),
        required("reason", reason.or_null().describe("Why it reached nobody.")),
        required("note", Schema::text().or_null()),
        required("notifications", shown(notification)),
        required("notification_count", Schema::count()),
    ]);
    let by = Schema::object([required("at", time()), required("by", Schema::text())]);
    let acknowledgement = Schema::object([required("recipient", Schema::named("RecipientId")), required("at", time())]);
    let state = Schema::one_of(EscalationState::ALL.iter().map(|state| state.as_str()));
    let summary = || {
        vec![
            required("id", Schema::named("EscalationId")),
            required("key", Schema::named("EscalationKey").or_null()),
            required("policy", Schema::named("PolicyKey")),
            required("state", state.clone()),
            required("reason", Schema::text().or_null().describe("Why it was given up.")),
            required("repeat", Schema::count()),
            required("level", Schema::count().describe("What was fired last; 0 before the first.")),
            required("tier", Schema::count()),
            required("next_step_at", time().or_null().describe("When the next step fires, or the end comes.")),
            required("acknowledged", by.clone().or_null().describe("When, and by whom first.")),
            required("acknowledgement_count", Schema::count()),
            required("step_count", Schema::count().describe("How many steps were fired.")),
            required("notification_count", Schema::count().describe("How many notifications they became.")),
            required("started_at", time()),
            required("finished_at", time().or_null()),
            required("updated_at", time()),
        ]
    };
    let whole = [
        required("definition", Schema::opaque().describe("What the policy said when it began.")),
        required("data", Schema::opaque()),
        required("acknowledgements", shown(acknowledgement)),
        required("steps", shown(step)),
    ];
    vec![
        ("Escalation", Schema::object(summary().into_iter().chain(whole))),
        ("EscalationSummary", Schema::object(summary())),
    ]
}

/// A list of which a part is shown where it is very long.
fn shown(entry: Schema) -> Schema {
    Schema::list(entry).at_most(SHOWN.unsigned_abs() as usize)
}
