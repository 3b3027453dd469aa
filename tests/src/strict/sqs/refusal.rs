//! A refusal in SQS's JSON protocol.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// Why SQS does not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The exception's name.
    pub code: String,
    /// What is said about it.
    pub message: String,
    /// The HTTP status.
    pub status: u16,
}

impl Refused {
    pub(super) fn new(code: &str, message: String) -> Self {
        Self { code: code.to_owned(), message, status: 400 }
    }

    pub(super) fn invalid(message: String) -> Self {
        Self::new("InvalidParameterValue", message)
    }

    pub(super) fn unknown_handle(handle: &str) -> Self {
        Self::new("ReceiptHandleIsInvalid", format!("The input receipt handle {handle:?} is invalid."))
    }

    /// The entry of a batch's `Failed` list.
    pub(super) fn entry(&self, id: &str) -> Value {
        json!({"Id": id, "Code": self.code, "Message": self.message, "SenderFault": self.status < 500})
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        let body = json!({"__type": format!("com.amazonaws.sqs#{}", self.code), "message": self.message});
        (status, Json(body)).into_response()
    }
}
