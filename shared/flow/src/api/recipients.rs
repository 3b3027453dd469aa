//! Recipients: put one by one or many at a time, shown, listed, erased, and those that nothing reaches.

use super::{Answer, Api, parameter, show};
use crate::request::Refused;
use adapters::store::database::TenantTransaction;
use adapters::store::recipients::{self as store, RecipientFilter, RecipientRow, UnreachableRow};
use adapters::wire::fields::FieldError;
use adapters::wire::http::{Request, Response};
use adapters::wire::pages::{Cursor, Query};
use adapters::wire::problem::Problem;
use adapters::wire::recipients::RecipientBody;
use adapters::wire::{recipients as bodies, views};
use domain::event::EventBus;
use domain::hierarchy::{ManagerRefusal, check_managers};
use domain::id::RecipientKey;
use domain::queue::Queue;
use domain::secret::KeyService;
use serde_json::{Value, json};

impl<Q: Queue, K: KeyService, B: EventBus> Api<Q, K, B> {
    pub(super) async fn put_recipient(&self, request: &Request) -> Answer {
        let key = parameter(request, "id", "recipient", RecipientKey::parse)?;
        let body = bodies::read_recipient(&request.json()?)?;
        let mut transaction = self.begin(request).await?;
        let put = [(key.clone(), body)];
        if let Some(refusal) = refuse_managers(&mut transaction, &put).await?.into_iter().flatten().next() {
            transaction.roll_back().await?;
            return Err(Problem::invalid(vec![FieldError::new("/manager", refusal)]).into());
        }
        store::put_recipients(&mut transaction, &put).await?;
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
            let read: Vec<_> = items.iter().filter_map(|item| item.recipient.as_ref().ok()).cloned().collect();
            let mut refusals = refuse_managers(transaction, &read).await?.into_iter();
            let checked = items.into_iter().enumerate().map(|(place, item)| {
                let recipient = item.recipient?;
                match refusals.next().flatten() {
                    None => Ok(recipient),
                    Some(refusal) => Err(vec![FieldError::new(format!("/recipients/{place}/manager"), refusal)]),
                }
            });
            let checked: Vec<_> = checked.collect();
            let good: Vec<_> = checked.iter().filter_map(|item| item.as_ref().ok()).cloned().collect();
            let mut put = good.iter().zip(store::put_recipients(transaction, &good).await?);
            let results: Value = checked
                .iter()
                .map(|item| match item {
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

/// Why recipients cannot have the managers that they are put with, in their order.
async fn refuse_managers(
    transaction: &mut TenantTransaction,
    put: &[(RecipientKey, RecipientBody)],
) -> Result<Vec<Option<ManagerRefusal>>, Refused> {
    if put.iter().all(|(_, body)| body.manager.is_none()) {
        return Ok(vec![None; put.len()]);
    }
    let asked: Vec<_> = put.iter().map(|(key, body)| (key.clone(), body.manager.clone())).collect();
    let named: Vec<_> = put.iter().filter_map(|(_, body)| body.manager.clone()).collect();
    let stored = store::read_managers(transaction, &named).await?;
    Ok(check_managers(&asked, &stored))
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
