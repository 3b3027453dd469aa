//! Recipients: put and shown.

use super::{Answer, Api, parameter, show};
use adapters::store::managed;
use adapters::wire::http::Request;
use adapters::wire::{managed as bodies, views};
use domain::id::RecipientKey;
use domain::queue::Queue;

impl<Q: Queue> Api<Q> {
    pub(super) async fn put_recipient(&self, request: &Request) -> Answer {
        let key = parameter(request, "id", "recipient", RecipientKey::parse)?;
        let body = bodies::read_recipient(&request.json()?)?;
        let mut transaction = self.begin(request).await?;
        managed::put_recipient(&mut transaction, &key, &body).await?;
        let row = managed::get_recipient(&mut transaction, &key).await?;
        transaction.commit().await?;
        show(row, "recipient", |row| views::print_recipient(key.as_str(), row))
    }

    pub(super) async fn get_recipient(&self, request: &Request) -> Answer {
        let key = parameter(request, "id", "recipient", RecipientKey::parse)?;
        let mut transaction = self.begin(request).await?;
        let row = managed::get_recipient(&mut transaction, &key).await?;
        transaction.commit().await?;
        show(row, "recipient", |row| views::print_recipient(key.as_str(), row))
    }
}
