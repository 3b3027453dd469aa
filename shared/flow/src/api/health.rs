//! Whether the service can work.

use super::{Answer, Api};
use adapters::wire::http::{Request, Response};
use domain::queue::Queue;
use domain::secret::KeyService;
use serde_json::json;

impl<Q: Queue, K: KeyService> Api<Q, K> {
    /// Healthy is what can reach its database as its tenant.
    pub(super) async fn get_health(&self, request: &Request) -> Answer {
        self.begin(request).await?.commit().await?;
        Ok(Response::json(200, &json!({"status": "ok"})))
    }
}
