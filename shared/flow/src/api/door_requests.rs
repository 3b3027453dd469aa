//! Requests of the SQL door: what waits, what was refused and why, and what was accepted.

use super::{Answer, Api, parameter, show};
use adapters::store::door_requests::{DoorRequestView, DoorStatus, list_door_requests, read_door_request};
use adapters::wire::door_requests::print_door_request;
use adapters::wire::http::{Request, Response};
use adapters::wire::pages::{Cursor, Query};
use adapters::wire::views;
use domain::event::EventBus;
use domain::id::NotificationId;
use domain::queue::Queue;
use domain::secret::KeyService;

impl<Q: Queue, K: KeyService, B: EventBus> Api<Q, K, B> {
    pub(super) async fn list_door_requests(&self, request: &Request) -> Answer {
        let mut query = Query::of(&request.query);
        let status = query.parsed("status", |text| {
            DoorStatus::parse_listed(text).ok_or("is not a status of a request that is in the door")
        });
        let page = query.page();
        query.finish()?;
        let mut transaction = self.begin(request).await?;
        let rows = list_door_requests(&mut transaction, status, &page).await?;
        transaction.commit().await?;
        let cursor = |row: &DoorRequestView| Cursor { at: row.created_at, id: row.id.as_uuid() };
        Ok(Response::json(200, &views::print_page("door_requests", &rows, page.size, print_door_request, cursor)))
    }

    pub(super) async fn get_door_request(&self, request: &Request) -> Answer {
        let id = parameter(request, "id", "door request", NotificationId::parse)?;
        let mut transaction = self.begin(request).await?;
        let view = read_door_request(&mut transaction, id).await?;
        transaction.commit().await?;
        let is_accepted = view.as_ref().is_some_and(|view| view.status == DoorStatus::Accepted);
        let response = show(view, "door request", print_door_request)?;
        Ok(if is_accepted { response.with_header("location", format!("/v1/notifications/{id}")) } else { response })
    }
}
