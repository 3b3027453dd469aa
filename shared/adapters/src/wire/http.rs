//! Requests and answers as an API Gateway HTTP API hands them over (payload format 2.0).
//! <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html>

use super::problem::Problem;
use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use aws_lambda_events::encodings::Body;
use aws_lambda_events::http::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine;
use domain::id::{IdempotencyKey, TenantId};
use serde_json::Value;

/// The largest body that is taken, in bytes: as much as a queue message, and far below Lambda's 6 MB.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;

/// Who is asking, from the token that API Gateway has checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The tenant, from claim `tenant_id` and from nowhere else.
    pub tenant: TenantId,
    /// The subject, for the audit log.
    pub subject: String,
}

/// A request that has a caller.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who is asking.
    pub caller: Caller,
    /// The route that API Gateway matched, such as `GET /v1/notifications/{id}`.
    pub route: String,
    /// The value of the path's parameter, where the route has one.
    pub parameter: Option<String>,
    /// The query's parameters, in order.
    pub query: Vec<(String, String)>,
    /// From the header `Idempotency-Key`.
    pub idempotency_key: Option<IdempotencyKey>,
    /// From the header `traceparent`.
    pub traceparent: Option<String>,
    body: Vec<u8>,
}

impl Request {
    /// Reads API Gateway's event.
    pub fn read(event: Value) -> Result<Self, Problem> {
        let event: ApiGatewayV2httpRequest =
            serde_json::from_value(event).map_err(|_| Problem::unreadable("the event is not an HTTP API request"))?;
        let caller = read_caller(&event).ok_or_else(Problem::no_tenant)?;
        let header = |name: &str| event.headers.get(name).and_then(|value| value.to_str().ok());
        let idempotency_key = header("idempotency-key")
            .map(IdempotencyKey::parse_header)
            .transpose()
            .map_err(|error| Problem::bad_header(format!("Idempotency-Key {error}")))?;
        let traceparent = header("traceparent").filter(|value| is_traceparent(value)).map(str::to_owned);
        let raw = event.body.unwrap_or_default();
        let body = if event.is_base64_encoded {
            base64::engine::general_purpose::STANDARD
                .decode(raw)
                .map_err(|_| Problem::unreadable("the body is not valid base64"))?
        } else {
            raw.into_bytes()
        };
        if body.len() > MAX_BODY_BYTES {
            return Err(Problem::too_large(body.len(), MAX_BODY_BYTES));
        }
        let query =
            url::form_urlencoded::parse(event.raw_query_string.unwrap_or_default().as_bytes()).into_owned().collect();
        Ok(Self {
            caller,
            route: event.route_key.unwrap_or_default(),
            parameter: event.path_parameters.into_values().next(),
            query,
            idempotency_key,
            traceparent,
            body,
        })
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<Value, Problem> {
        let value: Value = serde_json::from_slice(&self.body).map_err(|error| {
            Problem::unreadable(format!(
                "the body is not JSON that can be read: line {}, column {}",
                error.line(),
                error.column()
            ))
        })?;
        match super::fields::find_nul(&value, "") {
            Some(error) => Err(Problem::invalid(vec![error])),
            None => Ok(value),
        }
    }

    /// The body as JSON, or an empty object where there is none.
    pub fn json_or_empty(&self) -> Result<Value, Problem> {
        if self.body.is_empty() { Ok(Value::Object(serde_json::Map::new())) } else { self.json() }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Response {
    /// A JSON answer.
    pub fn json(status: u16, body: &Value) -> Self {
        Self { status, headers: vec![("content-type", "application/json".to_owned())], body: body.to_string() }
    }

    /// Sets a header, in place of an earlier value.
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.into()));
        self
    }

    /// The answer as API Gateway wants it.
    pub fn into_gateway(self) -> ApiGatewayV2httpResponse {
        let mut headers = HeaderMap::new();
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        let mut response = ApiGatewayV2httpResponse::default();
        response.status_code = self.status.into();
        response.headers = headers;
        response.body = Some(Body::Text(self.body));
        response
    }
}

fn read_caller(event: &ApiGatewayV2httpRequest) -> Option<Caller> {
    let claims = &event.request_context.authorizer.as_ref()?.jwt.as_ref()?.claims;
    Some(Caller {
        tenant: TenantId::parse(claims.get("tenant_id")?).ok()?,
        subject: claims.get("sub").cloned().unwrap_or_else(|| "unnamed".to_owned()),
    })
}

/// The form of version 00: <https://www.w3.org/TR/trace-context/#traceparent-header>
fn is_traceparent(value: &str) -> bool {
    let parts: Vec<&str> = value.split('-').collect();
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    matches!(parts.as_slice(), [version, trace, parent, flags]
        if hex(version, 2) && hex(trace, 32) && hex(parent, 16) && hex(flags, 2))
}
