//! Requests for the public pages, as API Gateway hands them over: with a token in the path and no caller.

use crate::contract;
use crate::doubles::{RecordingBus, RecordingQueue};
use crate::key_service::ScriptedKeyService;
use crate::stage::read_printed;
use flow::api::Api;
use serde_json::{Map, Value, json};

/// An answer of a public page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The HTTP status.
    pub status: u16,
    /// The headers, by lower case name.
    pub headers: Map<String, Value>,
    /// The document.
    pub body: String,
}

/// Asks for a page; `route` is as in API Gateway, such as `GET /v1/unsubscribe/{token}`.
pub async fn ask_page(
    api: &Api<RecordingQueue, ScriptedKeyService, RecordingBus>,
    route: &str,
    token: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Page {
    let response = api.answer_request(page_event(route, token, headers, body), "request-1").await.into_gateway();
    read_page(route, &serde_json::to_value(response).expect("prints"))
}

/// A request for a page, as API Gateway hands it over.
pub(crate) fn page_event(route: &str, token: &str, headers: &[(&str, &str)], body: &str) -> Value {
    let (method, path) = route.split_once(' ').expect("a route has a method and a path");
    let headers: Map<String, Value> = headers.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    json!({
        "version": "2.0",
        "routeKey": route,
        "rawPath": path.replace("{token}", token),
        "rawQueryString": "",
        "headers": headers,
        "pathParameters": {"token": token},
        "requestContext": {
            "accountId": "000000000000", "apiId": "api", "requestId": "request-1", "stage": "$default",
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "test"},
            "timeEpoch": 0,
        },
        "body": body,
        "isBase64Encoded": false,
    })
}

/// Reads what API Gateway gets, and holds it to what the OpenAPI document says of the route.
pub(crate) fn read_page(route: &str, printed: &Value) -> Page {
    contract::check_answer(route, &read_printed(printed));
    Page {
        status: printed["statusCode"].as_u64().and_then(|status| status.try_into().ok()).expect("a status"),
        headers: printed["headers"].as_object().expect("headers").clone(),
        body: printed["body"].as_str().expect("a document").to_owned(),
    }
}
