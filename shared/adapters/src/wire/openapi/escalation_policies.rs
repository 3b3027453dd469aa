//! Escalation policies.

use super::schema::{Schema, optional, required, sometimes};
use super::{Answer, Operation, page_of};
use domain::delivery::Channel;
use domain::escalation::{Acknowledgement, MAX_NAMED, MAX_REPEATS, MAX_STEPS, MAX_TIERS};
use serde_json::json;

/// `GET /v1/escalation-policies`.
pub(super) fn list() -> Operation {
    Operation::new(
        "List escalation policies in the order of their keys",
        Answer::ok("A page of them.", page_of("escalation_policies", Schema::named("EscalationPolicy"))),
    )
}

/// `PUT /v1/escalation-policies/{key}`.
pub(super) fn put() -> Operation {
    let example = json!({
        "category": "greeting",
        "steps": [
            {
                "delay": "PT5M", "category": "greeting", "recipients": ["ada"],
                "tiers": [{"channels": ["email"]}, {"channels": ["sms"], "after": "PT2M"}],
            },
            {"delay": "PT30M", "recipients": ["role:CAE", "manager", "ada"]},
        ],
        "priority": "critical",
        "repeat": {"count": 2, "interval": "PT1H"},
        "acknowledgement": "any",
        "exhausted_after": "PT1H",
    });
    Operation::new(
        "Put an escalation policy",
        Answer::ok("The policy, and which of its roles nobody has now.", Schema::named("EscalationPolicy")),
    )
    .describe("Replaces the whole of it. Escalations that run keep the policy that they began with. A recipient or category that is not there is an error, and so is a step that reaches nobody; a role that nobody has is a warning where the step reaches others, because people come and go. It has at most 64 KiB of JSON.")
    .with_body(definition(), example)
}

/// `GET /v1/escalation-policies/{key}`.
pub(super) fn get() -> Operation {
    Operation::new("Show an escalation policy", Answer::ok("The policy.", Schema::named("EscalationPolicy")))
}

/// `DELETE /v1/escalation-policies/{key}`.
pub(super) fn delete() -> Operation {
    Operation::new("Remove an escalation policy", Answer::empty("It is removed."))
        .describe("Escalations that run by it go on.")
}

/// What a policy says, as it is put.
fn definition() -> Schema {
    Schema::object([
        required("category", Schema::named("CategoryKey").describe("The kind of its notifications.")),
        optional("priority", priority().default("high")),
        required("steps", Schema::list(step()).entries(1, MAX_STEPS)),
        optional("repeat", repeat()),
        optional("acknowledgement", acknowledgement().default("any")),
        optional("exhausted_after", last_wait().default("PT1H")),
        optional("link_lifetime", link_lifetime().default("P3D")),
    ])
}

fn step() -> Schema {
    let first = "How long after the step before it; from PT1M to P30D. The first may do without, and fires at once.";
    Schema::object([
        required("recipients", Schema::list(whom()).entries(1, MAX_NAMED)),
        optional("delay", Schema::named("Duration").describe(first)),
        optional("category", Schema::named("CategoryKey").describe("Where it is not the policy's.")),
        optional("tiers", Schema::list(tier()).entries(1, MAX_TIERS).default(json!([{"channels": ["email"]}]))),
    ])
}

fn tier() -> Schema {
    Schema::object([
        required("channels", Schema::list(Schema::named("Channel")).at_least(1).describe("Used in parallel.")),
        optional(
            "after",
            Schema::named("Duration")
                .describe("After how long a silence since the tier before; at once where that failed."),
        ),
    ])
}

fn whom() -> Schema {
    Schema::text()
        .format("step-recipient")
        .describe("A recipient's id; `role:` and a role; or `manager`, which are the managers of those whom the level before meant.")
}

fn repeat() -> Schema {
    Schema::object([
        required("count", Schema::number(1, MAX_REPEATS)),
        required("interval", Schema::named("Duration").describe("How long after the last step; from PT1M to P30D.")),
    ])
}

fn priority() -> Schema {
    Schema::named("Priority")
        .describe("Of its notifications: `critical` ones wait neither for quiet hours nor for a digest.")
}

fn acknowledgement() -> Schema {
    Schema::one_of(Acknowledgement::ALL.iter().map(|wanted| wanted.as_str()))
        .describe("Whether one acknowledgement is enough, or each recipient who was reached gives one.")
}

fn link_lifetime() -> Schema {
    Schema::named("Duration").describe("How long the links in its mails act; from PT1M to P30D.")
}

fn last_wait() -> Schema {
    Schema::named("Duration").describe("How long after the last step it is exhausted; from PT1M to P30D.")
}

/// The components.
pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    let channels = Channel::ALL.iter().map(|channel| channel.as_str());
    let shown_tier = Schema::object([
        required("channels", Schema::list(Schema::one_of(channels)).at_least(1)),
        sometimes("after", Schema::named("Duration")),
    ]);
    let shown_step = Schema::object([
        required("recipients", Schema::list(whom()).at_least(1)),
        sometimes("delay", Schema::named("Duration")),
        sometimes("category", Schema::named("CategoryKey")),
        required("tiers", Schema::list(shown_tier).at_least(1)),
    ]);
    let fields = [
        required("category", Schema::named("CategoryKey")),
        required("priority", priority()),
        required("steps", Schema::list(Schema::named("EscalationStep")).at_least(1)),
        sometimes("repeat", repeat()),
        required("acknowledgement", acknowledgement()),
        required("exhausted_after", Schema::named("Duration")),
        required("link_lifetime", Schema::named("Duration")),
    ];
    let warning = Schema::object([required("pointer", Schema::text()), required("detail", Schema::text())]);
    let own = [
        required("key", Schema::named("PolicyKey")),
        required("updated_at", Schema::named("Time")),
        sometimes("warnings", Schema::list(warning).describe("Roles that nobody has now.")),
    ];
    vec![("EscalationStep", shown_step), ("EscalationPolicy", Schema::object(fields.into_iter().chain(own)))]
}
