//! Escalations.

use super::schema::{Schema, optional, required};
use super::{Answer, Operation, page_of};
use crate::wire::escalations::MAX_DATA_BYTES;
use domain::escalation::{EscalationState, Unreached};
use serde_json::json;

/// `GET /v1/escalations`.
pub(super) fn list() -> Operation {
    Operation::new(
        "List escalations, the newest first",
        Answer::ok("A page of them.", page_of("escalations", Schema::named("Escalation"))),
    )
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
    Operation::new("Show an escalation", Answer::ok("The escalation.", Schema::named("Escalation")))
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
        required("recipients", Schema::list(Schema::named("RecipientId")).describe("Whom it meant.")),
        required("reason", reason.or_null().describe("Why it reached nobody.")),
        required("note", Schema::text().or_null()),
        required("notifications", Schema::list(notification)),
    ]);
    let by = Schema::object([required("at", time()), required("by", Schema::text())]);
    let acknowledgement = Schema::object([required("recipient", Schema::named("RecipientId")), required("at", time())]);
    let state = Schema::one_of(EscalationState::ALL.iter().map(|state| state.as_str()));
    let escalation = Schema::object([
        required("id", Schema::named("EscalationId")),
        required("key", Schema::named("EscalationKey").or_null()),
        required("policy", Schema::named("PolicyKey")),
        required("definition", Schema::opaque().describe("What the policy said when it began.")),
        required("data", Schema::opaque()),
        required("state", state),
        required("reason", Schema::text().or_null().describe("Why it was given up.")),
        required("repeat", Schema::count()),
        required("level", Schema::count().describe("What was fired last; 0 before the first.")),
        required("tier", Schema::count()),
        required("next_step_at", time().or_null().describe("When the next step fires, or the end comes.")),
        required("acknowledged", by.or_null().describe("When, and by whom first.")),
        required("acknowledgements", Schema::list(acknowledgement)),
        required("steps", Schema::list(step)),
        required("started_at", time()),
        required("finished_at", time().or_null()),
        required("updated_at", time()),
    ]);
    vec![("Escalation", escalation)]
}
