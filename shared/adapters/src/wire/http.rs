//! Requests and answers as an API Gateway HTTP API hands them over (payload format 2.0).
//! <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html>

use super::access::{Access, Scope};
use super::form::{FormError, FormFields, read_form, read_languages};
use super::pages::Query;
use super::problem::Problem;
use super::routes::Route;
use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use aws_lambda_events::encodings::Body;
use aws_lambda_events::http::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine;
use domain::address::PhoneNumber;
use domain::id::{IdempotencyKey, RecipientKey, TenantId};
use domain::locale::Locale;
use serde_json::Value;
use std::collections::HashMap;

/// The largest body that is taken, in bytes: as much as a queue message, and far below Lambda's 6 MB.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;

/// Who is asking, from the token that API Gateway has checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Caller {
    /// The tenant, from claim `tenant_id` and from nowhere else.
    pub tenant: TenantId,
    /// The subject, for the audit log.
    pub subject: String,
    /// What the token admits; of other services' scopes nothing is known.
    pub scopes: Vec<Scope>,
    /// The recipient whose own token it is; `None` for a token of the tenant's people and programs.
    pub own_recipient: Option<OwnRecipient>,
}

domain::masked_debug!(Caller, "Caller", tenant, scopes);

/// Whom a recipient's own token names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnRecipient {
    /// By claim `sub`.
    Id(RecipientKey),
    /// By claim `phone_number`, of an issuer that knows people by their numbers. Where it is there, `sub` is the issuer's own.
    Phone(PhoneNumber),
}

/// A request for a route that its token admits.
#[derive(Clone)]
pub struct Request {
    /// The route that API Gateway matched.
    pub route: Route,
    /// The query's parameters, in order.
    pub query: Vec<(String, String)>,
    /// From the header `Idempotency-Key`.
    pub idempotency_key: Option<IdempotencyKey>,
    /// From the header `traceparent`.
    pub traceparent: Option<String>,
    /// From the header `Accept-Language`, the most wanted first.
    pub languages: Vec<Locale>,
    content_type: Option<String>,
    caller: Option<Caller>,
    parameters: HashMap<String, String>,
    body: Vec<u8>,
}

domain::masked_debug!(Request, "Request", route, caller);

impl Request {
    /// Reads API Gateway's event. API Gateway has matched the route and checked token and scopes; what the token admits is
    /// checked again here, so that a route whose authorizer was forgotten answers nobody.
    pub fn read(event: Value) -> Result<Self, Problem> {
        let event: ApiGatewayV2httpRequest =
            serde_json::from_value(event).map_err(|_| Problem::unreadable("the event is not an HTTP API request"))?;
        let route = event.route_key.as_deref().and_then(Route::of).ok_or_else(|| Problem::not_found("path"))?;
        let caller = match route.access() {
            Access::Public => None,
            access => {
                let caller = read_caller(&event)?;
                if !access.admits(&caller.scopes) {
                    return Err(Problem::scope_missing(access));
                }
                Some(caller)
            }
        };
        let header = |name: &str| event.headers.get(name).and_then(|value| value.to_str().ok());
        // One that cannot be read must not be taken for none: the request would be done again.
        let idempotency_key = event
            .headers
            .get("idempotency-key")
            .map(|value| {
                let text = value.to_str().map_err(|_| "may have printable ASCII only".to_owned())?;
                IdempotencyKey::parse_header(text).map_err(|error| error.to_string())
            })
            .transpose()
            .map_err(|detail| Problem::bad_header(format!("Idempotency-Key {detail}")))?;
        let traceparent = header("traceparent").filter(|value| is_traceparent(value)).map(str::to_owned);
        let languages = read_languages(header("accept-language"));
        let content_type = header("content-type").map(str::to_owned);
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
        let query: Vec<_> =
            url::form_urlencoded::parse(event.raw_query_string.unwrap_or_default().as_bytes()).into_owned().collect();
        // To a public link, whoever passes it on may hang a parameter of its own.
        if route.query().is_empty() && route.access() != Access::Public {
            Query::of(&query).finish()?;
        }
        let parameters = event.path_parameters;
        Ok(Self { caller, route, parameters, query, idempotency_key, traceparent, languages, content_type, body })
    }

    /// Who is asking.
    ///
    /// Errors: nobody is known, because the route is public.
    pub fn caller(&self) -> Result<&Caller, Problem> {
        self.caller.as_ref().ok_or_else(Problem::no_tenant)
    }

    /// What stands in the path for a parameter, by its name in the route; `""` where the route has no such parameter.
    ///
    /// It is decoded: HTTP APIs hand over paths and their parameters without percent-encoding, other than REST APIs and
    /// function URLs do (<https://github.com/aws/aws-lambda-dotnet/pull/1901>; the emulator does the same). Decoding once
    /// more would give one thing two spellings. `%25` alone may stay as it was sent, and `%2F` matches no route.
    pub fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name).map_or("", String::as_str)
    }

    /// The route with what stands in its path, for what is kept by what was asked.
    pub fn describe_path(&self) -> String {
        let mut text = self.route.key().to_owned();
        for name in self.route.parameters() {
            text.push(' ');
            text.push_str(self.parameter(name));
        }
        text
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

    /// The body as a form.
    pub fn form(&self) -> Result<FormFields, FormError> {
        read_form(self.content_type.as_deref(), &self.body)
    }

    /// The body as JSON, or an empty object where there is none.
    pub fn json_or_empty(&self) -> Result<Value, Problem> {
        if self.body.is_empty() { Ok(Value::Object(serde_json::Map::new())) } else { self.json() }
    }
}

/// An answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

domain::masked_debug!(Response, "Response", status);

impl Response {
    /// A JSON answer.
    pub fn json(status: u16, body: &Value) -> Self {
        Self { status, headers: vec![("content-type", "application/json".to_owned())], body: body.to_string() }
    }

    /// An answer without a body.
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new() }
    }

    /// A page.
    pub fn html(status: u16, page: String) -> Self {
        Self { status, headers: vec![("content-type", "text/html; charset=utf-8".to_owned())], body: page }
    }

    /// An answer of any other kind.
    pub fn text(status: u16, content_type: &str, body: impl Into<String>) -> Self {
        Self { status, headers: vec![("content-type", content_type.to_owned())], body: body.into() }
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

fn read_caller(event: &ApiGatewayV2httpRequest) -> Result<Caller, Problem> {
    let jwt = event.request_context.authorizer.as_ref().and_then(|authorizer| authorizer.jwt.as_ref());
    let claims = &jwt.ok_or_else(Problem::no_tenant)?.claims;
    let claim = |name: &str| claims.get(name).map(String::as_str);
    let tenant = claim("tenant_id").and_then(|text| TenantId::parse(text).ok()).ok_or_else(Problem::no_tenant)?;
    let scopes = ["scope", "scp"].into_iter().filter_map(claim).flat_map(read_scopes).collect::<Vec<_>>();
    let own_recipient = match scopes.contains(&Scope::OwnRecipient) {
        true => Some(read_own_recipient(claim("sub"), claim("phone_number")).ok_or_else(Problem::no_recipient)?),
        false => None,
    };
    Ok(Caller { tenant, subject: claim("sub").unwrap_or("unnamed").to_owned(), scopes, own_recipient })
}

/// The scopes of a claim: names with spaces between, or a list, which API Gateway prints in brackets.
/// It looks for them in `scope` and `scp`:
/// <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-jwt-authorizer.html>
fn read_scopes(claim: &str) -> impl Iterator<Item = Scope> {
    claim.split([' ', ',', '[', ']']).filter_map(Scope::parse)
}

fn read_own_recipient(subject: Option<&str>, phone: Option<&str>) -> Option<OwnRecipient> {
    match phone {
        Some(phone) => PhoneNumber::parse(phone).ok().map(OwnRecipient::Phone),
        None => RecipientKey::parse(subject?).ok().map(OwnRecipient::Id),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TENANT: &str = "018f0000-0000-7000-8000-000000000001";

    fn event(route: &str, parameters: Value, claims: Value) -> Value {
        json!({
            "version": "2.0", "routeKey": route, "rawPath": "/", "rawQueryString": "", "headers": {},
            "pathParameters": parameters,
            "requestContext": {
                "http": {"method": "GET", "path": "/"}, "timeEpoch": 0,
                "authorizer": {"jwt": {"claims": claims, "scopes": null}},
            },
            "isBase64Encoded": false,
        })
    }

    fn read(claims: Value) -> Result<Request, Problem> {
        Request::read(event("GET /v1/notifications/{id}/explain", json!({"id": "x", "other": "y"}), claims))
    }

    #[test]
    fn a_caller_is_known_by_the_token_alone() {
        let request =
            read(json!({"tenant_id": TENANT, "sub": "ada", "scope": "openid notifications:read"})).expect("read");
        let caller = request.caller().expect("a caller");
        assert_eq!((caller.tenant.to_string().as_str(), caller.subject.as_str()), (TENANT, "ada"));
        assert_eq!((caller.scopes.as_slice(), &caller.own_recipient), ([Scope::NotificationsRead].as_slice(), &None));
        assert_eq!((request.parameter("id"), request.parameter("key")), ("x", ""));
        assert_eq!(request.describe_path(), "GET /v1/notifications/{id}/explain x");
    }

    #[test]
    fn a_token_that_does_not_admit_the_route_is_refused_here_too() {
        let table = [
            (json!({"tenant_id": TENANT, "scope": "notifications:read"}), None),
            (json!({"tenant_id": TENANT, "scp": "[manage notifications:read]"}), None),
            (json!({"tenant_id": TENANT, "scope": "notifications:write"}), Some("scope_missing")),
            (json!({"tenant_id": TENANT, "scope": "notifications:reader"}), Some("scope_missing")),
            (json!({"tenant_id": TENANT}), Some("scope_missing")),
            (json!({"tenant_id": TENANT, "sub": "ada", "scope": "self notifications:read"}), Some("scope_missing")),
            (json!({"tenant_id": TENANT, "sub": "no key", "scope": "self notifications:read"}), Some("no_recipient")),
            (json!({"tenant_id": TENANT, "scope": "self"}), Some("no_recipient")),
            (json!({"tenant_id": "x", "scope": "notifications:read"}), Some("no_tenant")),
            (json!({"scope": "notifications:read"}), Some("no_tenant")),
        ];
        for (claims, code) in table {
            let refused = read(claims.clone()).err();
            assert_eq!(
                refused.as_ref().map(|problem| (problem.status, problem.code)),
                code.map(|code| (403, code)),
                "{claims}"
            );
        }
        let unknown = Request::read(event("GET /v1/nonsense", json!({}), json!({}))).expect_err("refused");
        assert_eq!(unknown.status, 404);
    }

    #[test]
    fn a_key_that_cannot_be_read_is_not_taken_for_none() {
        for (key, is_taken) in
            [("k-1", true), ("\"k-1\"", true), ("", false), ("schl\u{fc}ssel", false), ("\"k", false)]
        {
            let claims = json!({"tenant_id": TENANT, "scope": "notifications:write"});
            let mut event = event("POST /v1/notifications", json!({}), claims);
            event["headers"] = json!({"idempotency-key": key});
            let read = Request::read(event);
            assert_eq!(read.as_ref().err().map(|problem| problem.status), (!is_taken).then_some(400), "{key}");
        }
    }

    #[test]
    fn a_recipients_own_token_names_whose_it_is() {
        let table = [
            (Some("ada"), None, Some(OwnRecipient::Id(RecipientKey::parse("ada").expect("a key")))),
            (
                Some("ada"),
                Some("+4915112345678"),
                Some(OwnRecipient::Phone(PhoneNumber::parse("+4915112345678").expect("a number"))),
            ),
            (Some("ada"), Some("none"), None),
            (None, None, None),
        ];
        for (subject, phone, read) in table {
            assert_eq!(read_own_recipient(subject, phone), read, "{subject:?} {phone:?}");
        }
    }
}
