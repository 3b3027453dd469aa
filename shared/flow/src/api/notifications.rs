//! Notifications as their tenant sees them, and their cancellation.

use super::{Answer, Api, parameter, show};
use adapters::store::database::{StoreError, TenantTransaction};
use adapters::store::notifications::{NotificationFilter, NotificationView, cancel_notification, list_notifications};
use adapters::wire::fields::Fields;
use adapters::wire::http::{Request, Response};
use adapters::wire::pages::{Cursor, Page, Query};
use adapters::wire::problem::Problem;
use adapters::wire::routes::Route;
use adapters::wire::views::{self, Addresses};
use domain::delivery::{Channel, DeliveryState};
use domain::event::EventBus;
use domain::id::{CategoryKey, EscalationId, NotificationId, RecipientKey};
use domain::moment::parse_timestamp;
use domain::queue::Queue;
use domain::secret::KeyService;
use serde_json::json;

impl<Q: Queue, K: KeyService, B: EventBus> Api<Q, K, B> {
    pub(super) async fn list_notifications(&self, request: &Request) -> Answer {
        let mut query = Query::of(&request.query);
        let filter = NotificationFilter {
            id: None,
            recipient: query.parsed("recipient", |text| RecipientKey::parse(text).map(|key| key.as_str().to_owned())),
            category: query.parsed("category", |text| CategoryKey::parse(text).map(|key| key.as_str().to_owned())),
            channel: query
                .parsed("channel", |text| Channel::parse_sendable(text).ok_or("is not a channel that can be sent")),
            state: query.parsed("state", |text| DeliveryState::parse(text).ok_or("is not a state of a delivery")),
            message: query.parsed("message", NotificationId::parse),
            escalation: query.parsed("escalation", EscalationId::parse),
            from: query.parsed("from", parse_timestamp),
            to: query.parsed("to", parse_timestamp),
        };
        let page = query.page();
        query.finish()?;
        let addresses = addresses_for(request)?;
        let mut transaction = self.begin(request).await?;
        let rows = list_notifications(&mut transaction, &filter, &page).await?;
        transaction.commit().await?;
        let print = |row: &_| views::print_notification(row, addresses);
        let cursor = |row: &_| cursor_of(row);
        Ok(Response::json(200, &views::print_page("notifications", &rows, page.size, print, cursor)))
    }

    pub(super) async fn get_notification(&self, request: &Request) -> Answer {
        let id = parameter(request, "id", "notification", NotificationId::parse)?;
        let addresses = addresses_for(request)?;
        let mut transaction = self.begin(request).await?;
        let view = find_notification(&mut transaction, id).await?;
        transaction.commit().await?;
        show(view, "notification", |view| views::print_notification(view, addresses))
    }

    pub(super) async fn explain_notification(&self, request: &Request) -> Answer {
        let id = parameter(request, "id", "notification", NotificationId::parse)?;
        let mut transaction = self.begin(request).await?;
        let view = find_notification(&mut transaction, id).await?;
        transaction.commit().await?;
        show(view, "notification", views::print_explanation)
    }

    pub(super) async fn cancel_notification(&self, request: &Request, request_id: &str) -> Answer {
        let id = parameter(request, "id", "notification", NotificationId::parse)?;
        let body = request.json_or_empty()?;
        Fields::of(&body, "").map_err(|error| vec![error]).and_then(Fields::finish).map_err(Problem::invalid)?;
        self.answer_once(request, request_id, &body, async |transaction| {
            let canceled = cancel_notification(transaction, id).await?;
            if canceled.delivery_count == 0 {
                return Err(Problem::not_found("notification").into());
            }
            let shown = find_notification(transaction, id).await?;
            // The answer is kept with its key, and an erasure does not look for it.
            let shown = shown.as_ref().map(|view| views::print_notification(view, Addresses::Hidden));
            Ok((json!({"canceled_count": canceled.canceled_count, "notification": shown}), Vec::new()))
        })
        .await
    }
}

/// Whoever may see a recipient may see where its mail went.
fn addresses_for(request: &Request) -> Result<Addresses, Problem> {
    let may_see = Route::GetRecipient.access().admits(&request.caller()?.scopes);
    Ok(if may_see { Addresses::Shown } else { Addresses::Hidden })
}

async fn find_notification(
    transaction: &mut TenantTransaction,
    id: NotificationId,
) -> Result<Option<NotificationView>, StoreError> {
    let filter = NotificationFilter { id: Some(id), ..NotificationFilter::default() };
    Ok(list_notifications(transaction, &filter, &Page { after: None, size: 1 }).await?.pop())
}

fn cursor_of(row: &NotificationView) -> Cursor {
    Cursor { at: row.created_at, id: row.id.as_uuid() }
}
