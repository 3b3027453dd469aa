//! What recipients agreed to: entries are added and listed, never changed.

use super::recipients::find_recipient;
use super::{Answer, Api};
use adapters::ids::new_uuid;
use adapters::store::consents::{ConsentEntry, add_consent, list_consents};
use adapters::wire::consents::{print_consent, read_consent};
use adapters::wire::http::{Request, Response};
use adapters::wire::pages::{Cursor, Query};
use adapters::wire::problem::Problem;
use adapters::wire::views;
use domain::event::EventBus;
use domain::queue::Queue;
use domain::secret::KeyService;

impl<Q: Queue, K: KeyService, B: EventBus> Api<Q, K, B> {
    pub(super) async fn add_consent(&self, request: &Request, request_id: &str) -> Answer {
        let body = request.json()?;
        // A body that cannot be read is refused before its key is taken.
        read_consent(&body)?;
        self.answer_once(request, request_id, &body, async |transaction| {
            let recipient = find_recipient(transaction, request).await?;
            let id = new_uuid();
            let entry = add_consent(transaction, id, recipient.subject, read_consent(&body)?).await?;
            let entry = entry.ok_or_else(|| Problem::not_found("recipient"))?;
            Ok((print_consent(&entry), Vec::new()))
        })
        .await
    }

    pub(super) async fn list_consents(&self, request: &Request) -> Answer {
        let mut query = Query::of(&request.query);
        let page = query.page();
        query.finish()?;
        let mut transaction = self.begin(request).await?;
        let recipient = find_recipient(&mut transaction, request).await?;
        let rows = list_consents(&mut transaction, recipient.subject, &page).await?;
        transaction.commit().await?;
        let cursor = |row: &ConsentEntry| Cursor { at: row.created_at, id: row.id };
        Ok(Response::json(200, &views::print_page("consents", &rows, page.size, print_consent, cursor)))
    }
}
