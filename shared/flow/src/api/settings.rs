//! What a tenant decides for all its categories.

use super::categories::NO_DIGEST;
use super::{Answer, Api};
use crate::digest::find_unfit;
use adapters::store::categories::is_digest;
use adapters::store::settings as store;
use adapters::wire::fields::FieldError;
use adapters::wire::http::{Request, Response};
use adapters::wire::problem::Problem;
use adapters::wire::settings::{print_settings, read_settings};
use domain::event::EventBus;
use domain::queue::Queue;
use domain::secret::KeyService;

impl<Q: Queue, K: KeyService, B: EventBus> Api<Q, K, B> {
    pub(super) async fn get_settings(&self, request: &Request) -> Answer {
        let mut transaction = self.begin(request).await?;
        let settings = store::read_settings(&mut transaction).await?;
        transaction.commit().await?;
        Ok(Response::json(200, &print_settings(&settings)))
    }

    pub(super) async fn put_settings(&self, request: &Request) -> Answer {
        let settings = read_settings(&request.json()?)?;
        let mut transaction = self.begin(request).await?;
        if let Some(digest) = &settings.digest_category {
            let wrong = match is_digest(&mut transaction, digest).await? {
                true => find_unfit(&mut transaction, digest).await?,
                false => Some(NO_DIGEST.to_owned()),
            };
            if let Some(detail) = wrong {
                transaction.roll_back().await?;
                return Err(Problem::invalid(vec![FieldError::new("/digest_category", detail)]).into());
            }
        }
        store::put_settings(&mut transaction, &settings).await?;
        transaction.commit().await?;
        Ok(Response::json(200, &print_settings(&settings)))
    }
}
