//! Categories: put and shown.

use super::{Answer, Api, parameter, show};
use adapters::store::managed;
use adapters::wire::fields::FieldError;
use adapters::wire::http::Request;
use adapters::wire::problem::Problem;
use adapters::wire::{managed as bodies, views};
use domain::id::CategoryKey;
use domain::queue::Queue;

impl<Q: Queue> Api<Q> {
    pub(super) async fn put_category(&self, request: &Request) -> Answer {
        let key = parameter(request, "key", "category", CategoryKey::parse)?;
        let body = bodies::read_category(&request.json()?)?;
        let mut transaction = self.begin(request).await?;
        if !managed::put_category(&mut transaction, &key, &body).await? {
            transaction.roll_back().await?;
            let error =
                FieldError::new("/template", "no template has this key; create it with PUT /v1/templates/{key}");
            return Err(Problem::invalid(vec![error]).into());
        }
        let row = managed::get_category(&mut transaction, &key).await?;
        transaction.commit().await?;
        show(row, "category", |row| views::print_category(key.as_str(), row))
    }

    pub(super) async fn get_category(&self, request: &Request) -> Answer {
        let key = parameter(request, "key", "category", CategoryKey::parse)?;
        let mut transaction = self.begin(request).await?;
        let row = managed::get_category(&mut transaction, &key).await?;
        transaction.commit().await?;
        show(row, "category", |row| views::print_category(key.as_str(), row))
    }
}
