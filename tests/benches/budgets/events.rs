//! The events that Lambda's triggers hand to the functions.

use serde_json::{Value, json};

use crate::aws::Message;

/// The tenant that the benches act for.
pub(crate) const TENANT: &str = "01936f00-0000-7000-8000-00000000beac";
/// The category of notifications that bring their content.
pub(crate) const CATEGORY: &str = "bench";
/// The category of those that have the template [`TEMPLATE`]; what waits of it is collected by [`DIGEST_CATEGORY`].
pub(crate) const KNOWN_CATEGORY: &str = "known";
/// The category of digests.
pub(crate) const DIGEST_CATEGORY: &str = "digest";
/// The category of digests that go by themselves, to whoever has the role `round`.
pub(crate) const RHYTHM_CATEGORY: &str = "rhythm";
/// The template of all.
pub(crate) const TEMPLATE: &str = "bench";

/// An API Gateway event (payload 2.0) of a caller with all scopes.
pub(crate) fn http_event(method: &str, route: &str, path: &str, body: &Value) -> Value {
    let route = format!("{method} {route}");
    let scopes = "notifications:write notifications:read manage";
    json!({
        "version": "2.0",
        "routeKey": route,
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"content-type": "application/json"},
        "pathParameters": path_parameter(&route, path),
        "requestContext": {
            "accountId": "000000000000", "apiId": "bench", "domainName": "localhost", "domainPrefix": "bench",
            "requestId": "bench", "routeKey": route, "stage": "$default",
            "time": "21/Nov/2026:00:00:00 +0000", "timeEpoch": 1_795_219_200_000_i64,
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "bench"},
            "authorizer": {"jwt": {
                "claims": {"tenant_id": TENANT, "sub": "bench", "scope": scopes},
                "scopes": []
            }}
        },
        "body": body.to_string(),
        "isBase64Encoded": false
    })
}

fn path_parameter(route: &str, path: &str) -> Value {
    let segments = route.split_once(' ').map_or(route, |(_, path)| path).split('/').zip(path.split('/'));
    let named = segments.filter_map(|(name, value)| Some((name.strip_prefix('{')?.strip_suffix('}')?, value)));
    named.map(|(name, value)| (name.to_owned(), Value::from(value))).collect()
}

/// A POST of so many notifications to as many inline recipients. `round` makes addresses unique among posts.
pub(crate) fn post_notifications(count: usize, round: usize) -> Value {
    let notifications: Vec<Value> = (0..count)
        .map(|n| {
            json!({
                "category": CATEGORY,
                "recipient": {"email": format!("r{round}-{n}@example.org"), "name": "Asha Rao"},
                "subject": "The hall is open",
                "text": "Come at six.",
                "html": "<p>Come at six.</p>",
                "data": {"hall": n}
            })
        })
        .collect();
    let body = json!({ "notifications": notifications });
    http_event("POST", "/v1/notifications", "/v1/notifications", &body)
}

/// An SQS event of these messages, received for the first time.
pub(crate) fn sqs_event(messages: &[Message]) -> Value {
    let records: Vec<Value> = messages
        .iter()
        .map(|message| {
            json!({
                "messageId": message.id,
                "receiptHandle": format!("receipt-{}", message.id),
                "body": message.body,
                "attributes": {
                    "ApproximateReceiveCount": "1", "SentTimestamp": "1795219200000",
                    "SenderId": "bench", "ApproximateFirstReceiveTimestamp": "1795219200000"
                },
                "messageAttributes": {},
                "md5OfBody": "0".repeat(32),
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:ap-south-1:000000000000:deliveries",
                "awsRegion": "ap-south-1"
            })
        })
        .collect();
    json!({ "Records": records })
}

/// What EventBridge sends to a function on a schedule.
pub(crate) fn schedule_event() -> Value {
    json!({
        "version": "0", "id": "bench", "detail-type": "Scheduled Event", "source": "aws.events",
        "account": "000000000000", "time": "2026-11-21T00:00:00Z", "region": "ap-south-1", "resources": [], "detail": {}
    })
}
