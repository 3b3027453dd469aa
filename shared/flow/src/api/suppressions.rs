//! Suppressions: addresses that a tenant's mail leaves alone, to see, to add and to take back.

use super::{Answer, Api, parameter};
use adapters::store::suppressions::{
    Suppression, SuppressionFilter, SuppressionSource, get_suppression, list_suppressions, put_suppression,
    read_listing, remove_suppression,
};
use adapters::wire::fields::{FieldError, Fields};
use adapters::wire::http::{Request, Response};
use adapters::wire::pages::Query;
use adapters::wire::problem::Problem;
use adapters::wire::suppressions::{print_listing, print_suppression, read_address, suppression_cursor};
use adapters::wire::views::print_page;
use domain::event::EventBus;
use domain::feedback::SuppressionReason;
use domain::queue::Queue;
use domain::secret::KeyService;

impl<Q: Queue, K: KeyService, B: EventBus> Api<Q, K, B> {
    /// `GET /v1/suppressions`: the tenant's own. The provider's list is not the tenant's to read.
    pub(super) async fn list_suppressions(&self, request: &Request) -> Answer {
        let mut query = Query::of(&request.query);
        let filter = SuppressionFilter {
            reason: query
                .parsed("reason", |text| SuppressionReason::parse(text).ok_or("is not a reason of a suppression")),
            source: query
                .parsed("source", |text| SuppressionSource::parse(text).ok_or("is not a source of a suppression")),
        };
        let page = query.page();
        query.finish()?;
        let mut transaction = self.begin(request).await?;
        let rows = list_suppressions(&mut transaction, filter, &page).await?;
        transaction.commit().await?;
        Ok(Response::json(200, &print_page("suppressions", &rows, page.size, print_suppression, suppression_cursor)))
    }

    /// `GET /v1/suppressions/{address}`: the tenant's own, or that the provider does not deliver there.
    pub(super) async fn get_suppression(&self, request: &Request) -> Answer {
        let address = parameter(request, "address", "suppression", read_address)?;
        let mut transaction = self.begin(request).await?;
        let own = get_suppression(&mut transaction, &address).await?;
        let listed = if own.is_none() { read_listing(&mut transaction, &address).await? } else { None };
        transaction.commit().await?;
        match (own, listed) {
            (Some(own), _) => Ok(Response::json(200, &print_suppression(&own))),
            (None, Some(since)) => Ok(Response::json(200, &print_listing(&address, since))),
            (None, None) => Err(Problem::not_found("suppression").into()),
        }
    }

    /// `PUT /v1/suppressions/{address}`: a second one changes nothing.
    pub(super) async fn put_suppression(&self, request: &Request) -> Answer {
        let address = read_address(request.parameter("address")).map_err(|error| {
            Problem::invalid(vec![FieldError::new("", format_args!("the address in the path: {error}"))])
        })?;
        let body = request.json_or_empty()?;
        Fields::of(&body, "").map_err(|error| vec![error]).and_then(Fields::finish).map_err(Problem::invalid)?;
        let mut transaction = self.begin(request).await?;
        put_suppression(&mut transaction, &address).await?;
        let own = get_suppression(&mut transaction, &address).await?;
        transaction.commit().await?;
        super::show(own, "suppression", print_suppression)
    }

    /// `DELETE /v1/suppressions/{address}`: the tenant's own, whoever added it. Who complained is written to again only
    /// when that is said outright, and what is on the provider's list no tenant can take off it.
    pub(super) async fn delete_suppression(&self, request: &Request) -> Answer {
        let address = parameter(request, "address", "suppression", read_address)?;
        let mut query = Query::of(&request.query);
        let even_complaint = query.parsed("even_complaint", |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("must be true or false"),
        });
        query.finish()?;
        let mut transaction = self.begin(request).await?;
        let own = get_suppression(&mut transaction, &address).await?;
        let listed = if own.is_none() { read_listing(&mut transaction, &address).await? } else { None };
        let removed = match own {
            Some(own) => check_removal(own, even_complaint.unwrap_or_default()),
            None if listed.is_some() => Err(Problem::conflict(
                "the address is on the mail provider's own list, which holds for every tenant; whoever runs this service \
                 can take it off there",
            )),
            None => Err(Problem::not_found("suppression")),
        };
        match removed {
            Ok(own) => {
                remove_suppression(&mut transaction, &own).await?;
                transaction.commit().await?;
                Ok(Response::json(200, &print_suppression(&own)))
            }
            Err(problem) => {
                transaction.roll_back().await?;
                Err(problem.into())
            }
        }
    }
}

fn check_removal(own: Suppression, even_complaint: bool) -> Result<Suppression, Problem> {
    if own.reason == SuppressionReason::Complaint && !even_complaint {
        return Err(Problem::conflict(
            "the recipient complained of this tenant's mail; to write there all the same, ask again with \
             ?even_complaint=true",
        ));
    }
    Ok(own)
}
