//! A request as a test asks it, with any token.

use adapters::wire::access::Scope;
use adapters::wire::routes::Route;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A request.
#[derive(Clone, Debug)]
pub struct Ask {
    /// As in API Gateway, such as `GET /v1/notifications/{id}`.
    pub route: String,
    /// What the token claims; of a tenant's token with all scopes, unless a test says otherwise.
    pub claims: Value,
    /// What stands in the path.
    pub parameters: BTreeMap<String, String>,
    /// As in the address, without the question mark.
    pub query: String,
    /// Any text.
    pub body: String,
    /// By lower case name.
    pub headers: BTreeMap<String, String>,
}

impl Ask {
    /// A request with a tenant's token.
    pub fn of(route: Route, tenant: &str) -> Self {
        Self::of_key(route.key(), tenant)
    }

    /// A request for what may be no route.
    pub fn of_key(route: &str, tenant: &str) -> Self {
        let scopes: Vec<_> = Scope::OF_TENANT.iter().map(|scope| scope.as_str()).collect();
        Self {
            route: route.to_owned(),
            claims: json!({"tenant_id": tenant, "sub": "tester", "scope": scopes.join(" ")}),
            parameters: BTreeMap::new(),
            query: String::new(),
            body: String::new(),
            headers: BTreeMap::new(),
        }
    }

    /// With what stands in the path for a parameter.
    pub fn with_parameter(mut self, name: &str, value: &str) -> Self {
        self.parameters.insert(name.to_owned(), value.to_owned());
        self
    }

    /// With a query.
    pub fn with_query(self, query: &str) -> Self {
        Self { query: query.to_owned(), ..self }
    }

    /// With a body.
    pub fn with_body(self, body: &Value) -> Self {
        self.with_text(&body.to_string())
    }

    /// With a body that may be no JSON.
    pub fn with_text(self, body: &str) -> Self {
        Self { body: body.to_owned(), ..self }
    }

    /// With another claim, or another value of it.
    pub fn with_claim(mut self, name: &str, value: &str) -> Self {
        self.claims[name] = value.into();
        self
    }

    /// API Gateway's event, as its payload format 2.0 has it.
    pub fn event(&self) -> Value {
        let (method, path) = self.route.split_once(' ').expect("a route has a method and a path");
        json!({
            "version": "2.0",
            "routeKey": self.route,
            "rawPath": path,
            "rawQueryString": self.query,
            "headers": self.headers,
            "pathParameters": self.parameters,
            "requestContext": {
                "accountId": "000000000000", "apiId": "api", "requestId": "request-1", "stage": "$default",
                "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "test"},
                "authorizer": {"jwt": {"claims": self.claims, "scopes": []}},
                "timeEpoch": 0,
            },
            "body": self.body,
            "isBase64Encoded": false,
        })
    }
}
