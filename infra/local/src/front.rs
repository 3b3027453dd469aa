//! The address of the API: a plain one, although the emulator tells APIs apart by their host name.

use std::sync::{Arc, RwLock};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// Passes every request to the API of the deployed stack, unchanged but for its host.
#[derive(Clone, Debug)]
pub struct Front {
    client: Client<HttpConnector, Body>,
    emulator: String,
    api_id: Arc<RwLock<Option<String>>>,
}

impl Front {
    /// `emulator` is `host:port`.
    pub fn new(emulator: String) -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build_http(), emulator, api_id: Arc::default() }
    }

    /// Sets the API that requests go to.
    pub fn set_api(&self, api_id: String) {
        *self.api_id.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(api_id);
    }

    /// The routes of the front.
    pub fn router(self) -> axum::Router {
        axum::Router::new().fallback(any(forward)).with_state(self)
    }

    fn address(&self, api_id: &str) -> Option<HeaderValue> {
        HeaderValue::try_from(format!("{api_id}.execute-api.{}", self.emulator)).ok()
    }
}

async fn forward(State(front): State<Front>, mut request: Request) -> Response {
    let api_id = front.api_id.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    let Some(host) = api_id.as_deref().and_then(|api_id| front.address(api_id)) else {
        return unavailable("nothing is deployed yet");
    };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let Ok(uri) = Uri::try_from(format!("http://{}{path}", front.emulator)) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    *request.uri_mut() = uri;
    request.headers_mut().insert(HOST, host);
    match front.client.request(request).await {
        Ok(response) => response.map(Body::new),
        Err(_) => unavailable("the emulator does not answer"),
    }
}

/// What API Gateway says when it is not there.
fn unavailable(why: &str) -> Response {
    let body = format!("{{\"message\":\"Service Unavailable: {why}\"}}");
    (StatusCode::SERVICE_UNAVAILABLE, [(CONTENT_TYPE, "application/json")], body).into_response()
}
