//! Templates: put and shown.

use super::{Answer, Api, parameter, show};
use adapters::store::managed;
use adapters::wire::http::{Request, Response};
use adapters::wire::{managed as bodies, views};
use domain::id::TemplateKey;
use domain::queue::Queue;

impl<Q: Queue> Api<Q> {
    pub(super) async fn put_template(&self, request: &Request) -> Answer {
        let key = parameter(request, "key", "template", TemplateKey::parse)?;
        let body = bodies::read_template(&request.json()?)?;
        let mut transaction = self.begin(request).await?;
        managed::put_template(&mut transaction, &key, &body).await?;
        let versions = managed::get_template(&mut transaction, &key).await?;
        transaction.commit().await?;
        Ok(Response::json(200, &views::print_template(key.as_str(), &versions)))
    }

    pub(super) async fn get_template(&self, request: &Request) -> Answer {
        let key = parameter(request, "key", "template", TemplateKey::parse)?;
        let mut transaction = self.begin(request).await?;
        let versions = managed::get_template(&mut transaction, &key).await?;
        transaction.commit().await?;
        let there = (!versions.is_empty()).then_some(versions);
        show(there, "template", |versions| views::print_template(key.as_str(), versions))
    }
}
