//! Hands accepted mails to a mailbox that speaks SES v2, so that a person can read them.

use std::fmt;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::routes::SEND_PATH;

/// What the mailbox needs of a request's headers; `host` and the rest belong to this hop.
const FORWARDED: [HeaderName; 2] = [header::CONTENT_TYPE, header::AUTHORIZATION];

/// A client of the mailbox.
#[derive(Clone, Debug)]
pub(super) struct Mailbox {
    client: Client<HttpConnector, Full<Bytes>>,
    url: String,
}

/// Why the mailbox has not got a mail.
#[derive(Debug)]
pub(super) enum MailboxError {
    /// The configured URL and SES's path make no URI.
    Request(axum::http::Error),
    /// The mailbox cannot be reached.
    Unreachable(hyper_util::client::legacy::Error),
    /// The answer broke off.
    Answer(hyper::Error),
    /// The mailbox refused, with this status and body.
    Refused(StatusCode, String),
}

impl fmt::Display for MailboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(_) => f.write_str("the mailbox's URL is unsound"),
            Self::Unreachable(_) => f.write_str("the mailbox cannot be reached"),
            Self::Answer(_) => f.write_str("the mailbox's answer broke off"),
            Self::Refused(status, body) => write!(f, "the mailbox answered {status}: {body}"),
        }
    }
}

impl std::error::Error for MailboxError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Request(error) => Some(error),
            Self::Unreachable(error) => Some(error),
            Self::Answer(error) => Some(error),
            Self::Refused(..) => None,
        }
    }
}

impl Mailbox {
    pub(super) fn new(url: &Uri) -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            url: url.to_string().trim_end_matches('/').to_owned(),
        }
    }

    /// Posts the request as it came.
    pub(super) async fn forward(&self, headers: &HeaderMap, body: Bytes) -> Result<(), MailboxError> {
        let mut request = Request::builder().method(Method::POST).uri(format!("{}{SEND_PATH}", self.url));
        for name in FORWARDED {
            if let Some(value) = headers.get(&name) {
                request = request.header(name, value);
            }
        }
        let request = request.body(Full::new(body)).map_err(MailboxError::Request)?;
        let response = self.client.request(request).await.map_err(MailboxError::Unreachable)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(MailboxError::Answer)?.to_bytes();
        if status.is_success() {
            Ok(())
        } else {
            let body = String::from_utf8_lossy(&body).into_owned();
            Err(MailboxError::Refused(status, body))
        }
    }
}
