//! The parameters of paths, queries and headers. A name means the same wherever it stands.

use super::schema::Schema;
use crate::wire::access::Access;
use crate::wire::pages::MAX_PAGE_SIZE;
use crate::wire::routes::Route;
use domain::delivery::{Channel, DeliveryState};
use domain::escalation::EscalationState;
use serde_json::{Value, json};

/// What a route takes beside its body.
pub(super) fn of_route(route: Route) -> Vec<Value> {
    let path = route.parameters().map(|name| {
        let (schema, description) = of_path(route, name);
        json!({"name": name, "in": "path", "required": true, "description": description, "schema": schema.into_value()})
    });
    let query = route.query().iter().map(|name| {
        let (schema, description) = of_query(route, name);
        json!({"name": name, "in": "query", "required": false, "description": description, "schema": schema.into_value()})
    });
    let mut parameters: Vec<Value> = path.chain(query).collect();
    if route.method() == "POST" && route.access() != Access::Public {
        parameters.push(json!({
            "name": "Idempotency-Key",
            "in": "header",
            "required": false,
            "description": "The same key with the same body within 24 hours is answered alike and done once. \
                            Bare, or as a quoted string of RFC 8941.",
            "schema": Schema::text()
                .pattern(r#"[ \t]*(?:[!#-~](?:[ -~]{0,253}[!-~])?|"(?:[ !#-\[\]-~]|\\["\\]){1,255}")[ \t]*"#)
                .into_value(),
        }));
    }
    parameters
}

/// A parameter of a path: its schema and meaning.
fn of_path(route: Route, name: &str) -> (Schema, &'static str) {
    let resource = route.path().split('/').nth(2).unwrap_or_default();
    match (resource, name) {
        ("notifications", "id") => (Schema::named("NotificationId"), "The notification."),
        ("door-requests", "id") => {
            (Schema::named("NotificationId"), "The request: what `harkara.enqueue` answered with.")
        }
        ("recipients", "id") => (Schema::named("RecipientId"), "The recipient."),
        ("deadlines", "key") => (Schema::named("DeadlineKey"), "The deadline."),
        ("categories", "key") => (Schema::named("CategoryKey"), "The category."),
        ("suppressions", "address") => (Schema::named("Address"), "The address."),
        ("unsubscribe" | "preference-center" | "actions" | "collected", "token") => {
            (Schema::text(), "What the link has.")
        }
        ("escalation-policies", "key") => (Schema::named("PolicyKey"), "The policy."),
        ("escalations", "id") => (Schema::named("EscalationId"), "The escalation."),
        ("deliveries", "id") => (Schema::named("DeliveryId"), "The delivery."),
        ("jobs", "key") => (Schema::named("JobKey"), "The job."),
        ("templates", "version") => (Schema::ordinal(), "The version."),
        ("templates", "key") => (Schema::named("TemplateKey"), "The template."),
        _ => unreachable!("{route} has a parameter {name} that nobody has described"),
    }
}

/// A parameter of a query: its schema and meaning.
fn of_query(route: Route, name: &str) -> (Schema, &'static str) {
    match name {
        "reason" if route == Route::ListSuppressions => (super::suppressions::reason(), "For this reason."),
        "source" => (super::suppressions::source(), "From this source."),
        "even_complaint" => (Schema::one_of(["true", "false"]).default("false"), "Even where its owner complained."),
        "recipient" if route == Route::ListDeadlines => {
            (Schema::named("RecipientId"), "Of which this recipient is reminded.")
        }
        "recipient" => (Schema::named("RecipientId"), "To this recipient."),
        "category" => (Schema::named("CategoryKey"), "Of this category."),
        "state" if route == Route::ListDeadlines => (super::deadlines::state(), "As it stands now."),
        "state" if route == Route::ListEscalations => {
            (Schema::one_of(EscalationState::ALL.iter().map(|state| state.as_str())), "In this state.")
        }
        "state" => {
            (Schema::one_of(DeliveryState::ALL.iter().map(|state| state.as_str())), "With a delivery in this state.")
        }
        "channel" => (
            Schema::one_of(Channel::SENDABLE.iter().map(|channel| channel.as_str())),
            "With a delivery on this channel.",
        ),
        "escalation" => (Schema::named("EscalationId"), "That this escalation has asked for."),
        "status" => (super::door_requests::listed_status(), "Of this status."),
        "message" => {
            (Schema::named("NotificationId"), "That left in this message, as members of its batch or debounce.")
        }
        "page" => (Schema::ordinal(), "This page; else the first."),
        "role" => (Schema::text(), "With this role."),
        "table" => (Schema::text(), "Of rows of this table."),
        "operation" => (Schema::one_of(["insert", "update", "delete"]), "Of this kind."),
        "actor" => (Schema::text(), "By this subject of a token."),
        "key" if route == Route::ListEscalations => (Schema::named("EscalationKey"), "Of this key, ended or not."),
        "key" => (Schema::text(), "Of the row with this in its key: an id as it is printed, or a key."),
        "from_block" => (Schema::ordinal(), "From this block on; else from the first."),
        "reason" => (Schema::text().length(1, 64), "Of this reason."),
        "from" if route == Route::ListDeadlines => (Schema::named("Time"), "Due at this time or later."),
        "to" if route == Route::ListDeadlines => (Schema::named("Time"), "Due before this time."),
        "from" => (Schema::named("Time"), "Of this time or later."),
        "to" => (Schema::named("Time"), "Of before this time."),
        "after" => (Schema::text().format("cursor"), "From where: `page_info.after` of the page before."),
        "page_size" => (Schema::number(1, MAX_PAGE_SIZE).default(MAX_PAGE_SIZE), "How many."),
        _ => unreachable!("a parameter {name} that nobody has described"),
    }
}
