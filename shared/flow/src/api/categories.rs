//! Categories: put, shown and listed.

use super::{Answer, Api, parameter, show};
use crate::digest::find_unfit;
use adapters::store::categories::{self as store, CategoryPut, CategoryRow, MAX_CATEGORIES};
use adapters::store::database::{StoreError, TenantTransaction};
use adapters::wire::categories::CategoryBody;
use adapters::wire::fields::FieldError;
use adapters::wire::http::{Request, Response};
use adapters::wire::pages::Query;
use adapters::wire::problem::Problem;
use adapters::wire::{categories as bodies, views};
use domain::event::EventBus;
use domain::id::CategoryKey;
use domain::queue::Queue;
use domain::secret::KeyService;

/// What is said where a digest is named that is none.
pub(super) const NO_DIGEST: &str = "no category of class digest has this key; create it with PUT /v1/categories/{key}";

impl<Q: Queue, K: KeyService, B: EventBus> Api<Q, K, B> {
    pub(super) async fn put_category(&self, request: &Request) -> Answer {
        let key = parameter(request, "key", "category", CategoryKey::parse)?;
        let body = bodies::read_category(&request.json()?)?;
        let mut transaction = self.begin(request).await?;
        let error = match store::put_category(&mut transaction, &key, &body).await? {
            CategoryPut::Done => find_unfit_digest(&mut transaction, &key, &body).await?,
            CategoryPut::NoTemplate => Some(FieldError::new(
                "/template",
                "no template of messages has this key; create it with PUT /v1/templates/{key}",
            )),
            CategoryPut::NoDigest => Some(FieldError::new("/digest_category", NO_DIGEST)),
            CategoryPut::TooMany => Some(FieldError::new(
                "",
                format_args!("would be one more category than the {MAX_CATEGORIES} that a tenant can have"),
            )),
        };
        if let Some(error) = error {
            transaction.roll_back().await?;
            return Err(Problem::invalid(vec![error]).into());
        }
        let row = store::read_category(&mut transaction, &key).await?;
        transaction.commit().await?;
        show(row, "category", bodies::print_category)
    }

    pub(super) async fn get_category(&self, request: &Request) -> Answer {
        let key = parameter(request, "key", "category", CategoryKey::parse)?;
        let mut transaction = self.begin(request).await?;
        let row = store::read_category(&mut transaction, &key).await?;
        transaction.commit().await?;
        show(row, "category", bodies::print_category)
    }

    pub(super) async fn list_categories(&self, request: &Request) -> Answer {
        let mut query = Query::of(&request.query);
        let page = query.key_page();
        query.finish()?;
        let mut transaction = self.begin(request).await?;
        let rows = store::list_categories(&mut transaction, &page).await?;
        transaction.commit().await?;
        let key = |row: &CategoryRow| row.key.clone();
        Ok(Response::json(200, &views::print_key_page("categories", &rows, page.size, bodies::print_category, key)))
    }
}

/// What is wrong where digests are made of the category, or collect it, and none could be: their template asks for what
/// digests do not have.
async fn find_unfit_digest(
    transaction: &mut TenantTransaction,
    key: &CategoryKey,
    body: &CategoryBody,
) -> Result<Option<FieldError>, StoreError> {
    let (digest, pointer) = match &body.digest_category {
        Some(digest) => (digest, "/digest_category"),
        None if store::makes_digests(transaction, Some(key), None).await? => (key, "/template"),
        None => return Ok(None),
    };
    Ok(find_unfit(transaction, digest).await?.map(|detail| FieldError::new(pointer, detail)))
}
