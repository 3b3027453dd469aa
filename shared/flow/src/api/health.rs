//! The service itself: whether it can work, and what it takes and answers.

use super::{Answer, Api};
use adapters::wire::http::{Request, Response};
use domain::event::EventBus;
use domain::queue::Queue;
use domain::secret::KeyService;
use serde_json::json;

/// As `adapters::wire::openapi` says it; a test compares.
const OPENAPI: &str = include_str!("../../../../infra/openapi.json");

impl<Q: Queue, K: KeyService, B: EventBus> Api<Q, K, B> {
    /// Healthy is what can reach its database as its tenant.
    pub(super) async fn get_health(&self, request: &Request) -> Answer {
        self.begin(request).await?.commit().await?;
        Ok(Response::json(200, &json!({"status": "ok"})))
    }

    /// The same for everybody who may ask.
    pub(super) fn get_openapi(&self) -> Answer {
        Ok(Response::text(200, "application/json", OPENAPI))
    }
}
