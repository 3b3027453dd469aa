//! The answers that no route describes for itself: problems, and what API Gateway says before a function is asked.

use super::schema::{Schema, required, sometimes};
use crate::wire::access::Access;
use crate::wire::routes::Route;
use serde_json::{Map, Value, json};

/// Every status of a problem, and when it comes.
const STATUSES: &[(u16, &str)] = &[
    (400, "The request cannot be read: its body is not JSON, or a header does not hold what it must."),
    (401, "There is no token, or none that is good now."),
    (403, "The token does not admit this, or its tenant is not active."),
    (404, "There is no such thing, or it is not the tenant's."),
    (409, "The same request is still running, or what this one refers to has changed meanwhile."),
    (410, "It was there, and cannot be shown any more: it was erased, or what it is made of has changed."),
    (413, "The request is too large."),
    (422, "The request can be read and is not valid. Nothing was stored."),
    (429, "Too many requests."),
    (500, "The service failed; its log has the rest under the request's id."),
    (503, "The service cannot answer now. Ask again, with the same `Idempotency-Key`."),
];

/// The statuses of a route's problems.
///
/// 404 is everybody's: a path that is close to a route's may be none. 400 and 422 too: any request has headers and a query.
pub(super) fn of_route(route: Route, has_body: bool) -> Vec<u16> {
    let is_public = route.access() == Access::Public;
    let statuses = STATUSES.iter().map(|(status, _)| *status);
    statuses
        .filter(|status| match status {
            401 | 403 => !is_public,
            409 => !matches!(route.method(), "GET"),
            410 => route == Route::GetDeliveryContent,
            413 => has_body,
            _ => true,
        })
        .collect()
}

/// The components of kind `responses`, by status.
pub(super) fn responses() -> Value {
    let responses = STATUSES.iter().map(|(status, description)| {
        let mut response = json!({
            "description": description,
            "headers": common_headers(),
            "content": {"application/problem+json": {"schema": Schema::named("Problem").into_value()}},
        });
        if matches!(status, 401 | 403 | 404 | 413 | 429 | 500 | 503) {
            response["content"]["application/json"] = json!({"schema": Schema::named("GatewayMessage").into_value()});
        }
        if matches!(status, 409 | 429 | 503) {
            response["headers"]["Retry-After"] = json!({"$ref": "#/components/headers/Retry-After"});
        }
        if *status == 401 {
            // API Gateway alone says this, and names what it wants.
            response["headers"] = json!({"WWW-Authenticate": {"schema": {"type": "string"}}});
            response["content"] = json!({"application/json": response["content"]["application/json"]});
        }
        (status.to_string(), response)
    });
    Value::Object(responses.collect::<Map<_, _>>())
}

/// The headers that any answer to a tenant may have.
pub(super) fn common_headers() -> Value {
    let names = ["X-Request-Id", "RateLimit", "RateLimit-Policy"];
    let headers = names.map(|name| (name.to_owned(), json!({"$ref": format!("#/components/headers/{name}")})));
    Value::Object(headers.into_iter().collect())
}

/// A problem of a public route: as it is for others, or as a page.
pub(super) fn with_page(status: u16, page: Value) -> Value {
    let mut response = responses()[status.to_string()].clone();
    response["content"]["text/html"] = page["content"]["text/html"].clone();
    let headers = page["headers"].as_object().into_iter().flatten();
    headers.for_each(|(name, header)| response["headers"][name] = header.clone());
    response
}

/// The components of kind `headers`.
pub(super) fn headers() -> Value {
    json!({
        "X-Request-Id": {
            "description": "Names the request in the service's log. A replayed answer names the first one.",
            "schema": {"type": "string"},
        },
        "Idempotent-Replayed": {
            "description": "Is there where this is the answer to an earlier request with the same `Idempotency-Key`.",
            "schema": {"type": "string", "const": "true"},
        },
        "RateLimit": {
            "description": "How many requests are left, and in how many seconds the bucket is full; where there is a limit.",
            "schema": {"type": "string"},
        },
        "RateLimit-Policy": {
            "description": "How many requests the bucket holds, and in how many seconds it fills; where there is a limit. `tenant` is the tenant's, `recipient` that of a recipient's own token.",
            "schema": {"type": "string"},
        },
        "Retry-After": {
            "description": "When to ask again, in seconds.",
            "schema": {"type": "string", "pattern": "^[0-9]+$"},
        },
    })
}

/// The components of kind `schemas`, by name.
pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    let error = Schema::object([
        required(
            "pointer",
            Schema::text().describe(
                "Where: a JSON pointer into the body, empty for the whole of it; or `?name` for a parameter of the query.",
            ),
        ),
        required("detail", Schema::text().describe("What is wrong there.")),
    ]);
    let problem = Schema::object([
        required("type", Schema::text().pattern("urn:problem-type:harkara:[a-z_]+")),
        required("title", Schema::text().describe("The code in words.")),
        required("status", Schema::number(400, 599)),
        required("detail", Schema::text().describe("What it is this time, and what to do.")),
        required("code", Schema::text().pattern("[a-z_]+").describe("For programs.")),
        required("request_id", Schema::text()),
        sometimes("errors", Schema::list(error).at_least(1)),
    ]);
    vec![
        ("Problem", problem.describe("An error, RFC 9457.")),
        (
            "GatewayMessage",
            Schema::object([required("message", Schema::text().or_null())])
                .describe("What API Gateway answers when it does not ask the service."),
        ),
    ]
}
