//! The keys that sign the links in a tenant's mails, as far as people change them.

use super::{Answer, Api};
use adapters::store::keys::{LinkKeyRow, insert_next, list_link_keys};
use adapters::telemetry::chain;
use adapters::wire::fields::Fields;
use adapters::wire::http::{Request, Response};
use adapters::wire::pages::Query;
use adapters::wire::problem::Problem;
use domain::event::EventBus;
use domain::queue::Queue;
use domain::secret::KeyService;
use serde_json::json;

impl<Q: Queue, K: KeyService, B: EventBus> Api<Q, K, B> {
    /// The tenant's keys, without their secrets.
    pub(super) async fn list_link_keys(&self, request: &Request) -> Answer {
        Query::of(&request.query).finish()?;
        let mut transaction = self.begin(request).await?;
        let rows = list_link_keys(&mut transaction).await?;
        transaction.commit().await?;
        let print =
            |row: &LinkKeyRow| json!({"id": row.id, "created_at": row.created_at, "retired_at": row.retired_at});
        let printed: Vec<_> = rows.iter().map(print).collect();
        Ok(Response::json(200, &json!({"link_keys": printed})))
    }

    /// Gives the tenant one more key for its links; those of before stay good.
    pub(super) async fn add_link_key(&self, request: &Request, request_id: &str) -> Answer {
        let caller = request.caller()?;
        let body = request.json_or_empty()?;
        Fields::of(&body, "").map_err(|error| vec![error]).and_then(Fields::finish).map_err(Problem::invalid)?;
        let made = self.keys.make_next(&self.database, caller.tenant, &caller.subject).await.map_err(|error| {
            tracing::error!(error = chain(&error), "a link key cannot be made");
            Problem::unavailable()
        })?;
        self.answer_once(request, request_id, &body, async |transaction| {
            let added = insert_next(transaction, &made).await?;
            Ok((json!({"id": added.number()}), Vec::new()))
        })
        .await
    }
}
