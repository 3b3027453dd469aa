//! The OpenAPI document, from the route table and what is said here of each route's bodies and answers.
//!
//! Requests are read by hand (see `fields`) and answers printed by hand (see `views`), so nothing can be derived from
//! types. What is written here is held to the code by tests instead: each bound of a request's schema is asked for on
//! either side of it, each name that a reader knows is in the schema, and each answer of every test of the flows is held
//! to the schema of its route and status.
//!
//! A new route needs three things here, all in the file of its resource:
//! 1. an arm in `describe` that names its `Operation`;
//! 2. the `Operation`: a summary, the body's schema with an example that is taken, and the answer's schema;
//! 3. schemas with a name of their own in the file's `schemas()`, for what several routes share. They are named by
//!    `Schema::named`.
//!
//! Parameters of paths and queries are described once for all routes, in `parameters`; problems, scopes and the headers
//! that every answer has are added here. Then `cargo local openapi` writes `infra/openapi.json`.

mod attachments;
mod audit;
mod categories;
mod consents;
mod dead_letters;
mod deadlines;
mod door_requests;
mod escalation_policies;
mod escalations;
mod health;
mod jobs;
mod link_keys;
mod links;
mod notifications;
mod parameters;
mod preferences;
mod previews;
mod problems;
mod recipients;
mod scalars;
mod schema;
mod settings;
mod suppressions;
mod templates;

use super::access::{Access, Scope};
use super::routes::Route;
use schema::Schema;
use serde_json::{Map, Value, json};

/// The type of every body but those of problems and pages.
const JSON: &str = "application/json";
/// The type of the pages.
const HTML: &str = "text/html";

/// What a route takes and answers, beyond what the route table says.
struct Operation {
    /// One line.
    summary: &'static str,
    /// More, in Markdown; may be empty.
    description: &'static str,
    body: Option<Body>,
    answers: Vec<Answer>,
}

/// The body of a request.
struct Body {
    content_type: &'static str,
    schema: Schema,
    /// A body that is taken; `None` for a form, which only its page knows.
    example: Option<Value>,
    /// Whether the request may come without one.
    may_be_absent: bool,
}

/// An answer that is no problem.
struct Answer {
    status: u16,
    description: &'static str,
    /// Its type and schema; `None` where it has no body.
    content: Option<(&'static str, Schema)>,
    /// Headers beside those that every answer has: name, meaning.
    headers: Vec<(&'static str, &'static str)>,
}

impl Operation {
    fn new(summary: &'static str, answer: Answer) -> Self {
        Self { summary, description: "", body: None, answers: vec![answer] }
    }

    fn describe(self, description: &'static str) -> Self {
        Self { description, ..self }
    }

    fn with_body(self, schema: Schema, example: Value) -> Self {
        let body = Body { content_type: JSON, schema, example: Some(example), may_be_absent: false };
        Self { body: Some(body), ..self }
    }

    fn with_optional_body(self, schema: Schema, example: Value) -> Self {
        let body = Body { content_type: JSON, schema, example: Some(example), may_be_absent: true };
        Self { body: Some(body), ..self }
    }

    fn with_form(self, content_type: &'static str, schema: Schema) -> Self {
        Self { body: Some(Body { content_type, schema, example: None, may_be_absent: false }), ..self }
    }

    fn or(mut self, answer: Answer) -> Self {
        self.answers.push(answer);
        self
    }
}

impl Answer {
    fn ok(description: &'static str, schema: Schema) -> Self {
        Self::json(200, description, schema)
    }

    fn json(status: u16, description: &'static str, schema: Schema) -> Self {
        Self { status, description, content: Some((JSON, schema)), headers: Vec::new() }
    }

    fn page(status: u16, description: &'static str) -> Self {
        let headers = links::PAGE_HEADERS.to_vec();
        Self { status, description, content: Some((HTML, Schema::text())), headers }
    }

    fn empty(description: &'static str) -> Self {
        Self { status: 204, description, content: None, headers: Vec::new() }
    }

    fn with_header(mut self, name: &'static str, meaning: &'static str) -> Self {
        self.headers.push((name, meaning));
        self
    }
}

/// What each route takes and answers.
fn describe(route: Route) -> Operation {
    match route {
        Route::CreateNotifications => notifications::create(),
        Route::ListNotifications => notifications::list(),
        Route::GetNotification => notifications::get(),
        Route::ExplainNotification => notifications::explain(),
        Route::CancelNotification => notifications::cancel(),
        Route::ListDoorRequests => door_requests::list(),
        Route::GetDoorRequest => door_requests::get(),
        Route::ListDeadlines => deadlines::list(),
        Route::PutDeadline => deadlines::put(),
        Route::GetDeadline => deadlines::get(),
        Route::CompleteDeadline => deadlines::complete(),
        Route::DeleteDeadline => deadlines::delete(),
        Route::ListDeadLetters => dead_letters::list(),
        Route::RedriveDeadLetters => dead_letters::redrive(),
        Route::ListJobs => jobs::list(),
        Route::GetJob => jobs::get(),
        Route::PutDomainJob => jobs::put(),
        Route::DeleteDomainJob => jobs::delete(),
        Route::ListJobRuns => jobs::list_runs(),
        Route::RunJob => jobs::run(),
        Route::ListSuppressions => suppressions::list(),
        Route::GetSuppression => suppressions::get(),
        Route::PutSuppression => suppressions::put(),
        Route::DeleteSuppression => suppressions::delete(),
        Route::ListRecipients => recipients::list(),
        Route::PutRecipients => recipients::put_many(),
        Route::PutRecipient => recipients::put(),
        Route::GetRecipient => recipients::get(),
        Route::DeleteRecipient => recipients::delete(),
        Route::ListUnreachable => recipients::list_unreachable(),
        Route::GetPreferences => preferences::get(),
        Route::PutPreferences => preferences::put(),
        Route::GetTenantPreferences => preferences::get_of_tenant(),
        Route::PutTenantPreferences => preferences::put_of_tenant(),
        Route::ListConsents => consents::list(),
        Route::AddConsent => consents::add(),
        Route::GetSettings => settings::get(),
        Route::PutSettings => settings::put(),
        Route::ListCategories => categories::list(),
        Route::PutCategory => categories::put(),
        Route::GetCategory => categories::get(),
        Route::ListEscalationPolicies => escalation_policies::list(),
        Route::PutEscalationPolicy => escalation_policies::put(),
        Route::GetEscalationPolicy => escalation_policies::get(),
        Route::DeleteEscalationPolicy => escalation_policies::delete(),
        Route::ListEscalations => escalations::list(),
        Route::StartEscalation => escalations::start(),
        Route::GetEscalation => escalations::get(),
        Route::AcknowledgeEscalation => escalations::acknowledge(),
        Route::ResolveEscalation => escalations::resolve(),
        Route::ListTemplates => templates::list(),
        Route::PutTemplate => templates::put(),
        Route::GetTemplate => templates::get(),
        Route::PublishTemplate => templates::publish(),
        Route::GetTemplateVersion => templates::get_version(),
        Route::PreviewTemplate => previews::preview(),
        Route::GetDeliveryContent => previews::get_content(),
        Route::ListChanges => audit::list(),
        Route::VerifyAudit => audit::verify(),
        Route::ListLinkKeys => link_keys::list(),
        Route::AddLinkKey => link_keys::add(),
        Route::ShowUnsubscribe => links::show_unsubscribe(),
        Route::Unsubscribe => links::unsubscribe(),
        Route::ShowPreferenceCenter => links::show_preference_center(),
        Route::SavePreferenceCenter => links::save_preference_center(),
        Route::ShowCollected => links::show_collected(),
        Route::ShowAction => links::show_action(),
        Route::Act => links::act(),
        Route::GetHealth => health::get(),
        Route::GetOpenapi => health::get_openapi(),
    }
}

/// The document.
pub fn document() -> Value {
    let mut paths = Map::new();
    for route in Route::ALL {
        let path = paths.entry(route.path()).or_insert_with(|| json!({}));
        path[route.method().to_lowercase()] = print_operation(*route, describe(*route));
    }
    let schemas = [
        scalars::schemas(),
        problems::schemas(),
        notifications::schemas(),
        attachments::schemas(),
        door_requests::schemas(),
        dead_letters::schemas(),
        jobs::schemas(),
        deadlines::schemas(),
        suppressions::schemas(),
        recipients::schemas(),
        categories::schemas(),
        escalation_policies::schemas(),
        escalations::schemas(),
        preferences::schemas(),
        consents::schemas(),
        settings::schemas(),
        templates::schemas(),
        previews::schemas(),
        audit::schemas(),
    ];
    let schemas: Map<String, Value> =
        schemas.into_iter().flatten().map(|(name, schema)| (name.to_owned(), schema.into_value())).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Harkara",
            "version": "1",
            "summary": "Notifications: asked for, decided, sent, and accounted for.",
            "description": INTRODUCTION,
            "license": {"name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": problems::responses(),
            "headers": problems::headers(),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": scopes_in_words(),
                },
            },
        },
    })
}

const INTRODUCTION: &str = "\
The tenant is the one that the token's claim `tenant_id` names, and nothing else of a request can name another. \
What belongs to other tenants is answered like what is not there.

Times are RFC 3339, durations ISO 8601, time zones IANA names, languages BCP 47. \
In a request, a field that is null is a field that is left out, and a field that is not known is an error. \
Lists are paged by `after`, which takes `page_info.after` of the page before.

Errors are problem documents (RFC 9457) with a `code` for programs and a pointer to each wrong field. \
What API Gateway refuses before a function sees it has `message` alone.";

fn scopes_in_words() -> String {
    let names: Vec<_> = Scope::ALL.iter().map(|scope| format!("`{scope}`")).collect();
    format!(
        "A JWT of the issuer that the stack was deployed with, with a claim `tenant_id` and some of the scopes {}. \
         One with scope `self` is a recipient's own and reaches that recipient only.",
        names.join(", ")
    )
}

fn print_operation(route: Route, operation: Operation) -> Value {
    let name = route.name();
    let mut printed = json!({
        "operationId": format!("{}{}", name[..1].to_lowercase(), &name[1..]),
        "tags": [tag(route)],
        "summary": operation.summary,
        "parameters": parameters::of_route(route),
        "responses": {},
        // A bearer scheme may name its scopes since 3.1; any one of them is enough, so each is an entry of its own.
        "security": match route.access() {
            Access::Public => json!([]),
            Access::Scopes(scopes) => scopes.iter().map(|scope| json!({"token": [scope.as_str()]})).collect(),
        },
    });
    if !operation.description.is_empty() {
        printed["description"] = operation.description.into();
    }
    if let Some(body) = &operation.body {
        let mut content = json!({"schema": body.schema.clone().into_value()});
        if let Some(example) = &body.example {
            content["example"] = example.clone();
        }
        printed["requestBody"] = json!({"required": !body.may_be_absent, "content": {body.content_type: content}});
    }
    for status in problems::of_route(route, operation.body.is_some()) {
        printed["responses"][status.to_string()] = match route.access() {
            Access::Scopes(_) => json!({"$ref": format!("#/components/responses/{status}")}),
            // A person reads it, so a page says it; unless the request did not come so far.
            Access::Public => problems::with_page(status, print_answer(route, Answer::page(status, ""))),
        };
    }
    for answer in operation.answers {
        let status = answer.status.to_string();
        printed["responses"][status] = print_answer(route, answer);
    }
    printed
}

fn print_answer(route: Route, answer: Answer) -> Value {
    let mut headers = problems::common_headers();
    if route.access() == Access::Public {
        headers = json!({"X-Request-Id": headers["X-Request-Id"]});
    } else if route.method() == "POST" {
        headers["Idempotent-Replayed"] = json!({"$ref": "#/components/headers/Idempotent-Replayed"});
    }
    for (name, meaning) in answer.headers {
        headers[name] = json!({"description": meaning, "schema": {"type": "string"}});
    }
    let mut printed = json!({"description": answer.description, "headers": headers});
    if let Some((content_type, schema)) = answer.content {
        printed["content"] = json!({content_type: {"schema": schema.into_value()}});
    }
    printed
}

/// The resource that a route is about.
fn tag(route: Route) -> &'static str {
    route.path().split('/').nth(2).unwrap_or_default()
}

/// A page of a list: `name` holds its entries.
fn page_of(name: &'static str, entry: Schema) -> Schema {
    use schema::required;
    let page_info = Schema::object([
        required("after", Schema::text().or_null().describe("Where the next page begins; null on the last one.")),
        required("page_size", Schema::number(1, super::pages::MAX_PAGE_SIZE)),
    ]);
    Schema::object([
        required(name, Schema::list(entry).entries(0, super::pages::MAX_PAGE_SIZE as usize)),
        required("page_info", page_info),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(target)) = map.get("$ref") {
                    found.insert(target.clone());
                }
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_component_is_there_and_none_for_nothing() {
        let document = document();
        let mut used = BTreeSet::new();
        references(&document, &mut used);
        let mut there = BTreeSet::new();
        for kind in ["schemas", "responses", "headers"] {
            let names = document["components"][kind].as_object().expect("components").keys();
            there.extend(names.map(|name| format!("#/components/{kind}/{name}")));
        }
        assert_eq!(used, there);
    }

    #[test]
    fn an_operation_has_a_name_of_its_own_and_answers_something() {
        let document = document();
        let mut names = BTreeSet::new();
        for route in Route::ALL {
            let operation = &document["paths"][route.path()][route.method().to_lowercase()];
            assert!(names.insert(operation["operationId"].to_string()), "{route}");
            let statuses = operation["responses"].as_object().expect("answers").keys();
            assert!(statuses.clone().any(|status| status.starts_with('2')), "{route}: {statuses:?}");
        }
    }
}
