//! What SES answers instead of accepting, with the status, code and words of its API.

use axum::Json;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// An error answer of SES v2: nothing was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// HTTP status, 400 to 503.
    pub status: u16,
    /// Name of the exception as in `x-amzn-ErrorType`. `None` where SES's front end answers without one.
    pub code: Option<String>,
    /// The `message` member of the body.
    pub message: String,
}

impl Refusal {
    fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: Some(code.to_owned()), message: message.into() }
    }

    /// Input that breaks a rule of a field.
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequestException", message)
    }

    /// A body that cannot be read as the operation's input.
    pub(super) fn serialization(message: impl Into<String>) -> Self {
        Self::new(400, "SerializationException", message)
    }

    /// Content that SES does not take, or an identity that it does not know.
    pub(super) fn rejected(message: impl Into<String>) -> Self {
        Self::new(400, "MessageRejected", message)
    }

    /// The sandbox's and the identity check's answer, which looks like a rejected message but is a matter of set-up.
    pub(super) fn unknown_identity(identity: &str) -> Self {
        Self::rejected(format!(
            "Email address is not verified. The following identities failed the check in region LOCAL: {identity}"
        ))
    }

    /// A configuration set that does not exist.
    pub(super) fn unknown_configuration_set(name: &str) -> Self {
        Self::new(404, "NotFoundException", format!("Configuration set <{name}> does not exist."))
    }

    /// An address that is not on the account's list.
    pub(super) fn not_suppressed(address: &str) -> Self {
        Self::new(404, "NotFoundException", format!("Email address {address} does not exist on your suppression list."))
    }

    /// A request without a signature.
    pub(super) fn unsigned() -> Self {
        Self::new(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
    }

    /// A signature with credentials that are no longer valid.
    pub(super) fn expired_token() -> Self {
        Self::new(403, "ExpiredTokenException", "The security token included in the request is expired")
    }

    /// A signature whose time is too far from the server's.
    pub(super) fn skewed_signature() -> Self {
        Self::new(
            403,
            "InvalidSignatureException",
            "Signature not yet current: 20261121T100000Z is still later than 20261121T094500Z (20261121T094000Z + 5 min.)",
        )
    }

    /// A failure inside SES; whether the mail was accepted is not documented for it.
    pub(super) fn internal() -> Self {
        Self::new(
            500,
            "InternalServiceErrorException",
            "The request couldn't be processed because an internal error occurred.",
        )
    }

    /// SES's front end has no server to give.
    pub(super) fn unavailable() -> Self {
        Self::new(503, "ServiceUnavailableException", "Service Unavailable")
    }

    /// Too many calls of the operation.
    pub(super) fn too_many_requests() -> Self {
        Self::new(429, "TooManyRequestsException", "Too many requests")
    }

    /// A 429 that names no exception.
    pub(super) fn bare_too_many_requests() -> Self {
        Self { status: 429, code: None, message: "Too Many Requests".to_owned() }
    }

    /// The account's rate per second.
    pub(super) fn rate_exceeded() -> Self {
        Self::new(400, "ThrottlingException", "Maximum sending rate exceeded.")
    }

    /// The account's quota of 24 hours.
    pub(super) fn quota_exceeded() -> Self {
        Self::new(400, "ThrottlingException", "Daily message quota exceeded.")
    }

    /// A limit of the account on something else than rate or quota.
    pub(super) fn limit_exceeded() -> Self {
        Self::new(400, "LimitExceededException", "There are too many instances of the specified resource type.")
    }

    /// Sending is paused for the account or the configuration set.
    pub(super) fn sending_paused() -> Self {
        Self::new(400, "SendingPausedException", "Email sending is paused for this account.")
    }

    /// Sending is restricted for good.
    pub(super) fn account_suspended() -> Self {
        Self::new(
            400,
            "AccountSuspendedException",
            "The account's ability to send email has been permanently restricted.",
        )
    }

    /// The sender's MAIL FROM domain is not verified.
    pub(super) fn mail_from_not_verified() -> Self {
        Self::new(400, "MailFromDomainNotVerifiedException", "The sending domain isn't verified.")
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(json!({ "message": self.message }))).into_response();
        if let Some(code) = self.code.and_then(|code| HeaderValue::from_str(&code).ok()) {
            response.headers_mut().insert("x-amzn-errortype", code);
        }
        response
    }
}
