//! Errors as callers see them: `application/problem+json`, RFC 9457.
//!
//! A problem never carries a driver's or an SDK's words, nor a value from the request.

use super::access::Access;
use super::fields::FieldError;
use super::http::Response;
use serde_json::json;

/// Errors that a problem names: a body of a megabyte can have a hundred thousand.
const MAX_ERRORS: usize = 100;

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// A code that programs can rely on.
    pub code: &'static str,
    /// The code in words; the same for each problem of the code.
    pub title: &'static str,
    /// What it is this time, and what to do.
    pub detail: String,
    /// What is wrong where.
    pub errors: Vec<FieldError>,
    /// When to try again, in seconds.
    pub retry_after: Option<u32>,
}

impl Problem {
    fn new(status: u16, code: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, title, detail: detail.into(), errors: Vec::new(), retry_after: None }
    }

    /// 400: it cannot be read at all.
    pub fn unreadable(detail: impl Into<String>) -> Self {
        Self::new(400, "unreadable", "The request cannot be read", detail)
    }

    /// 400: a header does not hold what it must.
    pub fn bad_header(detail: impl Into<String>) -> Self {
        Self::new(400, "bad_header", "A header is not valid", detail)
    }

    /// 403: the token names no tenant.
    pub fn no_tenant() -> Self {
        Self::new(
            403,
            "no_tenant",
            "The token names no tenant",
            "the token needs a claim tenant_id with the tenant's id",
        )
    }

    /// 403: a recipient's own token names no recipient.
    pub fn no_recipient() -> Self {
        Self::new(
            403,
            "no_recipient",
            "The token names no recipient",
            "a token with scope self needs a claim sub with the recipient's id, or a claim phone_number",
        )
    }

    /// 403: the token has none of the scopes that the route asks for.
    pub fn scope_missing(access: Access) -> Self {
        let detail = match access {
            Access::Public => "this token may not do this".to_owned(),
            Access::Scopes(scopes) => {
                let names: Vec<_> = scopes.iter().map(|scope| scope.as_str()).collect();
                format!("the token needs scope {}", names.join(" or "))
            }
        };
        Self::new(403, "scope_missing", "The token does not admit this", detail)
    }

    /// 403: the tenant may not do this now.
    pub fn tenant_inactive() -> Self {
        Self::new(
            403,
            "tenant_inactive",
            "The tenant is not active",
            "the tenant of this token is unknown or suspended",
        )
    }

    /// 403: it is the operator's.
    pub fn operator_only() -> Self {
        Self::new(
            403,
            "operator_only",
            "Only the operator may do this",
            "the jobs are those of the whole deployment; ask its operator, whose tokens name the tenant with the nil id",
        )
    }

    /// 404: nothing is there, or nothing of this tenant.
    pub fn not_found(what: &str) -> Self {
        Self::new(404, "not_found", "There is no such thing", format!("this tenant has no such {what}"))
    }

    /// 409: an earlier request with the same key is still running.
    pub fn still_running() -> Self {
        Self {
            retry_after: Some(1),
            ..Self::new(
                409,
                "still_running",
                "The same request is still running",
                "a request with this Idempotency-Key is still running; ask again with the same key",
            )
        }
    }

    /// 409: what it refers to has changed meanwhile.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(409, "conflict", "The request conflicts with the present state", detail)
    }

    /// 410: it was there, and is not any more.
    pub fn gone(detail: impl Into<String>) -> Self {
        Self::new(410, "gone", "It is not there any more", detail)
    }

    /// 413: too large; both sizes in bytes.
    pub fn too_large(actual: usize, most: usize) -> Self {
        Self::new(
            413,
            "too_large",
            "The request is too large",
            format!("the body has {actual} bytes, at most {most} are taken"),
        )
    }

    /// 422: it can be read, and these fields are wrong.
    pub fn invalid(mut errors: Vec<FieldError>) -> Self {
        errors.truncate(MAX_ERRORS);
        let detail = match errors.as_slice() {
            [only] => format!("{} {}", if only.pointer.is_empty() { "the body" } else { &only.pointer }, only.detail),
            several => format!("{} fields are not valid; see errors", several.len()),
        };
        Self { errors, ..Self::new(422, "invalid", "The request is not valid", detail) }
    }

    /// 422: a rule of the category, or of the recipient's role, does not let it be switched off.
    pub fn mandatory_category(errors: Vec<FieldError>) -> Self {
        let detail = errors.iter().map(|error| error.detail.as_str()).collect::<Vec<_>>().join("; ");
        Self { errors, ..Self::new(422, "mandatory_category", "The category cannot be switched off", detail) }
    }

    /// 422: the key was used for another request.
    pub fn key_reused() -> Self {
        Self::new(
            422,
            "idempotency_key_reused",
            "The Idempotency-Key was used for another request",
            "this Idempotency-Key came with another body within the last 24 hours; use a new key for a new request",
        )
    }

    /// 429: more requests than the tenant may send.
    pub fn rate_limited(retry_after: u32) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(
                429,
                "rate_limited",
                "There are too many requests",
                "this tenant sends more requests than it may; the RateLimit fields say how many are left",
            )
        }
    }

    /// 429: the tenant's notifications of the day are used up.
    pub fn quota_exceeded(retry_after: u32) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(
                429,
                "quota_exceeded",
                "The day's notifications are used up",
                "with this request the tenant would have more notifications than it may have in a day of UTC; nothing of \
                 it was accepted",
            )
        }
    }

    /// 500: our own mistake; the log has the rest under the request id.
    pub fn internal() -> Self {
        Self::new(500, "internal", "The service failed", "the failure is in the service's log under this request_id")
    }

    /// 503: the database cannot be reached or is too busy.
    pub fn unavailable() -> Self {
        Self {
            retry_after: Some(5),
            ..Self::new(
                503,
                "unavailable",
                "The service cannot answer now",
                "ask again, with the same Idempotency-Key: what was stored already is not done twice",
            )
        }
    }

    /// The body of the problem document.
    pub fn document(&self, request_id: &str) -> serde_json::Value {
        let mut document = json!({
            "type": format!("urn:problem-type:harkara:{}", self.code),
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "request_id": request_id,
        });
        if !self.errors.is_empty() {
            document["errors"] =
                self.errors.iter().map(|error| json!({"pointer": error.pointer, "detail": error.detail})).collect();
        }
        document
    }

    /// The problem as an answer.
    pub fn response(&self, request_id: &str) -> Response {
        let response = Response::json(self.status, &self.document(request_id))
            .with_header("content-type", "application/problem+json")
            .with_header("x-request-id", request_id);
        match self.retry_after {
            Some(seconds) => response.with_header("retry-after", seconds.to_string()),
            None => response,
        }
    }
}
