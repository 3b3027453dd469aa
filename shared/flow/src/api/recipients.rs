//! Recipients: put one by one or many at a time, shown, listed, erased, and those that nothing reaches.

use super::{Answer, Api, parameter, show};
use crate::request::Refused;
use adapters::store::database::TenantTransaction;
use adapters::store::recipients::{self as store, RecipientFilter, RecipientRow, UnreachableRow};
use adapters::wire::http::{Request, Response};
use adapters::wire::pages::{Cursor, Query};
use adapters::wire::problem::Problem;
use adapters::wire::{recipients as bodies, views};
use domain::event::EventBus;
use domain::id::RecipientKey;
use domain::queue::Queue;
use domain::secret::KeyService;
use serde_json::{Value, json};

impl<Q: Queue, K: KeyService, B: EventBus> Api<Q, K, B> {
    pub(super) async fn put_recipient(&self, request: &Request) -> Answer {
        let key = parameter(request, "id", "recipient", RecipientKey::parse)?;
        let body = bodies::read_recipient(&request.json()?)?;
        let mut transaction = self.begin(request).await?;
        store::put_recipients(&mut transaction, &[(key.clone(), body)]).await?;
        let row = store::read_recipient(&mut transaction, &key).await?;
        transaction.commit().await?;
        show(row, "recipient", bodies::print_recipient)
    }

    /// Puts up to a thousand; each has its own result, and one bad one does not fail the others.
    pub(super) async fn put_recipients(&self, request: &Request, request_id: &str) -> Answer {
        let body = request.json()?;
        let items = bodies::read_recipients(&body)?;
        if items.iter().all(|item| item.recipient.is_err()) {
            let errors = items.into_iter().filter_map(|item| item.recipient.err()).flatten();
            return Err(Problem::invalid(errors.collect()).into());
        }
        self.answer_once(request, request_id, &body, async |transaction| {
            let good: Vec<_> = items.iter().filter_map(|item| item.recipient.as_ref().ok()).cloned().collect();
            let mut put = good.iter().zip(store::put_recipients(transaction, &good).await?);
            let results: Value = items
                .iter()
                .map(|item| match &item.recipient {
                    Ok(_) => put.next().map(|((key, _), put)| bodies::print_put(key, put)).unwrap_or_default(),
                    Err(errors) => {
                        json!({"status": "rejected", "problem": Problem::invalid(errors.clone()).document(request_id)})
                    }
                })
                .collect();
            Ok((json!({"recipients": results}), Vec::new()))
        })
        .await
    }

    pub(super) async fn get_recipient(&self, request: &Request) -> Answer {
        let mut transaction = self.begin(request).await?;
        let row = find_recipient(&mut transaction, request).await?;
        transaction.commit().await?;
        Ok(Response::json(200, &bodies::print_recipient(&row)))
    }

    pub(super) async fn list_recipients(&self, request: &Request) -> Answer {
        let mut query = Query::of(&request.query);
        let filter = RecipientFilter { role: query.parsed("role", |text| Ok::<_, String>(text.to_owned())) };
        let page = query.key_page();
        query.finish()?;
        let mut transaction = self.begin(request).await?;
        let rows = store::list_recipients(&mut transaction, &filter, &page).await?;
        transaction.commit().await?;
        let key = |row: &RecipientRow| row.id.clone();
        Ok(Response::json(200, &views::print_key_page("recipients", &rows, page.size, bodies::print_recipient, key)))
    }

    /// Erases what is known of a person; what happened stays.
    pub(super) async fn delete_recipient(&self, request: &Request) -> Answer {
        let key = parameter(request, "id", "recipient", RecipientKey::parse)?;
        let mut transaction = self.begin(request).await?;
        let erased = store::erase_recipient(&mut transaction, &key).await?;
        transaction.commit().await?;
        if erased { Ok(Response::empty(204)) } else { Err(Problem::not_found("recipient").into()) }
    }

    pub(super) async fn list_unreachable(&self, request: &Request) -> Answer {
        let mut query = Query::of(&request.query);
        let page = query.page();
        query.finish()?;
        let mut transaction = self.begin(request).await?;
        let found = store::list_unreachable(&mut transaction, &page).await?;
        transaction.commit().await?;
        let cursor = |row: &UnreachableRow| Cursor { at: row.created_at, id: row.subject.as_uuid() };
        Ok(Response::json(200, &views::print_found("recipients", &found, page.size, bodies::print_unreachable, cursor)))
    }
}

/// The recipient that the path names; not there for a recipient's own token that is another's.
pub(super) async fn find_recipient(
    transaction: &mut TenantTransaction,
    request: &Request,
) -> Result<RecipientRow, Refused> {
    let key = parameter(request, "id", "recipient", RecipientKey::parse)?;
    let row = store::read_recipient(transaction, &key).await?;
    Ok(row.ok_or_else(|| Problem::not_found("recipient"))?)
}
