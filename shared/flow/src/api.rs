//! Everything that people manage: notifications to see and cancel, dead letters to redrive, recipients, categories
//! and templates to keep.
//!
//! Each request is one transaction of the caller's tenant; what belongs to others does not exist there.
//! A POST does its work and keeps its answer under the `Idempotency-Key` in one commit.

use crate::request::{Refused, hash_body};
use adapters::store::database::{Database, StoreError, TenantTransaction};
use adapters::store::dead_letters::{DeadLetterFilter, list_dead_letters, redrive_dead_letters};
use adapters::store::enqueue::RequestKey;
use adapters::store::idempotency::{KeyClaim, claim_key, store_answer};
use adapters::store::managed;
use adapters::store::notifications::{NotificationFilter, cancel_notification, list_notifications};
use adapters::wire::fields::{FieldError, Fields};
use adapters::wire::http::{Request, Response};
use adapters::wire::pages::{Cursor, Page, Query};
use adapters::wire::problem::Problem;
use adapters::wire::{managed as bodies, views};
use domain::delivery::DeliveryState;
use domain::id::{CategoryKey, DeadLetterId, NotificationId, RecipientKey, TemplateKey};
use domain::moment::parse_timestamp;
use domain::queue::{Publication, Queue};
use serde_json::{Value, json};
use std::fmt::Display;
use std::time::Duration;

/// Dead letters that one request redrives; the answer says when there are more.
const REDRIVE_LIMIT: u32 = 1000;
/// The most ids in a redrive request.
const REDRIVE_IDS: usize = 1000;

/// The flow with what it needs.
pub struct Api<Q> {
    /// As `harkara_api`.
    pub database: Database,
    /// The deliveries queue.
    pub queue: Q,
}

type Answer = Result<Response, Refused>;

impl<Q: Queue> Api<Q> {
    /// Answers a request.
    pub async fn answer_request(&self, event: Value, request_id: &str) -> Response {
        let request = match Request::read(event) {
            Ok(request) => request,
            Err(problem) => return problem.response(request_id),
        };
        match self.route(&request, request_id).await {
            Ok(response) => response.with_header("x-request-id", request_id),
            Err(refused) => refused.into_problem(request.idempotency_key.as_ref()).response(request_id),
        }
    }

    async fn route(&self, request: &Request, request_id: &str) -> Answer {
        match request.route.as_str() {
            "GET /v1/notifications" => self.list_notifications(request).await,
            "GET /v1/notifications/{id}" => self.get_notification(request).await,
            "POST /v1/notifications/{id}/cancel" => self.cancel_notification(request, request_id).await,
            "GET /v1/dead-letters" => self.list_dead_letters(request).await,
            "POST /v1/dead-letters/redrive" => self.redrive_dead_letters(request, request_id).await,
            "PUT /v1/recipients/{id}" => self.put_recipient(request).await,
            "GET /v1/recipients/{id}" => self.get_recipient(request).await,
            "PUT /v1/categories/{key}" => self.put_category(request).await,
            "GET /v1/categories/{key}" => self.get_category(request).await,
            "PUT /v1/templates/{key}" => self.put_template(request).await,
            "GET /v1/templates/{key}" => self.get_template(request).await,
            "GET /v1/health" => self.get_health(request).await,
            _ => Err(Problem::not_found("path").into()),
        }
    }

    async fn begin(&self, request: &Request) -> Result<TenantTransaction, StoreError> {
        self.database.begin(request.caller.tenant, &request.caller.subject).await
    }

    async fn list_notifications(&self, request: &Request) -> Answer {
        let mut query = Query::of(&request.query);
        let filter = NotificationFilter {
            id: None,
            recipient: query.parsed("recipient", |text| RecipientKey::parse(text).map(|key| key.as_str().to_owned())),
            category: query.parsed("category", |text| CategoryKey::parse(text).map(|key| key.as_str().to_owned())),
            state: query.parsed("state", |text| DeliveryState::parse(text).ok_or("is not a state of a delivery")),
            from: query.parsed("from", parse_timestamp),
            to: query.parsed("to", parse_timestamp),
        };
        let page = query.page();
        query.finish()?;
        let mut transaction = self.begin(request).await?;
        let rows = list_notifications(&mut transaction, &filter, &page).await?;
        transaction.commit().await?;
        let cursor = |row: &_| cursor_of(row);
        Ok(Response::json(
            200,
            &views::print_page("notifications", &rows, page.size, views::print_notification, cursor),
        ))
    }

    async fn get_notification(&self, request: &Request) -> Answer {
        let id = parameter(request, "notification", NotificationId::parse)?;
        let mut transaction = self.begin(request).await?;
        let shown = show_notification(&mut transaction, id).await?;
        transaction.commit().await?;
        Ok(Response::json(200, &shown.ok_or_else(|| Problem::not_found("notification"))?))
    }

    async fn cancel_notification(&self, request: &Request, request_id: &str) -> Answer {
        let id = parameter(request, "notification", NotificationId::parse)?;
        let body = request.json_or_empty()?;
        Fields::of(&body, "").map_err(|error| vec![error]).and_then(Fields::finish).map_err(Problem::invalid)?;
        self.answer_once(request, request_id, &body, async |transaction| {
            let canceled = cancel_notification(transaction, id).await?;
            if canceled.delivery_count == 0 {
                return Err(Problem::not_found("notification").into());
            }
            let shown = show_notification(transaction, id).await?.unwrap_or_default();
            Ok((json!({"canceled_count": canceled.canceled_count, "notification": shown}), Vec::new()))
        })
        .await
    }

    async fn list_dead_letters(&self, request: &Request) -> Answer {
        let mut query = Query::of(&request.query);
        let filter = DeadLetterFilter {
            ids: None,
            category: query.parsed("category", |text| CategoryKey::parse(text).map(|key| key.as_str().to_owned())),
            reason: query.parsed("reason", |text| Ok::<_, String>(text.to_owned())),
            from: query.parsed("from", parse_timestamp),
            to: query.parsed("to", parse_timestamp),
        };
        let page = query.page();
        query.finish()?;
        let mut transaction = self.begin(request).await?;
        let rows = list_dead_letters(&mut transaction, &filter, &page).await?;
        transaction.commit().await?;
        let cursor =
            |row: &adapters::store::dead_letters::DeadLetter| Cursor { at: row.created_at, id: row.id.as_uuid() };
        Ok(Response::json(200, &views::print_page("dead_letters", &rows, page.size, views::print_dead_letter, cursor)))
    }

    async fn redrive_dead_letters(&self, request: &Request, request_id: &str) -> Answer {
        let body = request.json()?;
        let filter = read_redrive(&body)?;
        self.answer_once(request, request_id, &body, async |transaction| {
            let redriven = redrive_dead_letters(transaction, &filter, REDRIVE_LIMIT).await?;
            let ids: Vec<String> = redriven.dead_letters.iter().map(ToString::to_string).collect();
            let answer = json!({
                "redriven_count": ids.len(),
                "has_more": ids.len() == REDRIVE_LIMIT as usize,
                "dead_letters": ids,
            });
            let publications =
                redriven.messages.into_iter().map(|message| Publication { message, delay: Duration::ZERO });
            Ok((answer, publications.collect()))
        })
        .await
    }

    /// Does the work of a POST once for each `Idempotency-Key`, keeps the answer with it in one commit, and publishes
    /// what the work queued. What the queue does not take, the dispatcher publishes.
    async fn answer_once(
        &self,
        request: &Request,
        request_id: &str,
        body: &Value,
        work: impl AsyncFnOnce(&mut TenantTransaction) -> Result<(Value, Vec<Publication>), Refused>,
    ) -> Answer {
        let key = RequestKey {
            // The path's parameter is part of what was asked.
            route: format!("{} {}", request.route, request.parameter.as_deref().unwrap_or_default()),
            key: request.idempotency_key.clone(),
            request_hash: hash_body(body),
            request_id: request_id.to_owned(),
        };
        let mut transaction = self.begin(request).await?;
        if let KeyClaim::AlreadyAnswered(stored) = claim_key(&mut transaction, &key).await? {
            transaction.commit().await?;
            if stored.request_hash != key.request_hash {
                return Err(Problem::key_reused().into());
            }
            return Ok(Response::json(200, &stored.answer).with_header("idempotent-replayed", "true"));
        }
        let (answer, publications) = match work(&mut transaction).await {
            Ok(done) => done,
            Err(refused) => {
                // At once, so that the key is free for the next request.
                transaction.roll_back().await?;
                return Err(refused);
            }
        };
        store_answer(&mut transaction, &key, &answer).await?;
        transaction.commit().await?;
        self.queue.publish(&publications).await;
        Ok(Response::json(200, &answer))
    }

    async fn put_recipient(&self, request: &Request) -> Answer {
        let key = parameter(request, "recipient", RecipientKey::parse)?;
        let body = bodies::read_recipient(&request.json()?)?;
        let mut transaction = self.begin(request).await?;
        managed::put_recipient(&mut transaction, &key, &body).await?;
        let row = managed::get_recipient(&mut transaction, &key).await?;
        transaction.commit().await?;
        show(row, "recipient", |row| views::print_recipient(key.as_str(), row))
    }

    async fn get_recipient(&self, request: &Request) -> Answer {
        let key = parameter(request, "recipient", RecipientKey::parse)?;
        let mut transaction = self.begin(request).await?;
        let row = managed::get_recipient(&mut transaction, &key).await?;
        transaction.commit().await?;
        show(row, "recipient", |row| views::print_recipient(key.as_str(), row))
    }

    async fn put_category(&self, request: &Request) -> Answer {
        let key = parameter(request, "category", CategoryKey::parse)?;
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

    async fn get_category(&self, request: &Request) -> Answer {
        let key = parameter(request, "category", CategoryKey::parse)?;
        let mut transaction = self.begin(request).await?;
        let row = managed::get_category(&mut transaction, &key).await?;
        transaction.commit().await?;
        show(row, "category", |row| views::print_category(key.as_str(), row))
    }

    async fn put_template(&self, request: &Request) -> Answer {
        let key = parameter(request, "template", TemplateKey::parse)?;
        let body = bodies::read_template(&request.json()?)?;
        let mut transaction = self.begin(request).await?;
        managed::put_template(&mut transaction, &key, &body).await?;
        let versions = managed::get_template(&mut transaction, &key).await?;
        transaction.commit().await?;
        Ok(Response::json(200, &views::print_template(key.as_str(), &versions)))
    }

    async fn get_template(&self, request: &Request) -> Answer {
        let key = parameter(request, "template", TemplateKey::parse)?;
        let mut transaction = self.begin(request).await?;
        let versions = managed::get_template(&mut transaction, &key).await?;
        transaction.commit().await?;
        let there = (!versions.is_empty()).then_some(versions);
        show(there, "template", |versions| views::print_template(key.as_str(), versions))
    }

    /// Healthy is what can reach its database as its tenant.
    async fn get_health(&self, request: &Request) -> Answer {
        self.begin(request).await?.commit().await?;
        Ok(Response::json(200, &json!({"status": "ok"})))
    }
}

async fn show_notification(
    transaction: &mut TenantTransaction,
    id: NotificationId,
) -> Result<Option<Value>, StoreError> {
    let filter = NotificationFilter { id: Some(id), ..NotificationFilter::default() };
    let rows = list_notifications(transaction, &filter, &Page { after: None, size: 1 }).await?;
    Ok(rows.first().map(views::print_notification))
}

fn cursor_of(row: &adapters::store::notifications::NotificationView) -> Cursor {
    Cursor { at: row.created_at, id: row.id.as_uuid() }
}

/// What the path names. What cannot be an id is not there, like what is not there.
fn parameter<T, E: Display>(request: &Request, what: &str, parse: impl Fn(&str) -> Result<T, E>) -> Result<T, Problem> {
    let text = request.parameter.as_deref().unwrap_or_default();
    parse(text).map_err(|error| match request.route.starts_with("PUT") {
        true => Problem::invalid(vec![FieldError::new("", format_args!("the {what}'s key in the path {error}"))]),
        false => Problem::not_found(what),
    })
}

fn show<T>(row: Option<T>, what: &str, print: impl Fn(&T) -> Value) -> Answer {
    let row = row.ok_or_else(|| Problem::not_found(what))?;
    Ok(Response::json(200, &print(&row)))
}

/// The body of a redrive: `{"ids": […]}` or a filter `{"category", "reason", "from", "to"}`; not everything by silence.
fn read_redrive(body: &Value) -> Result<DeadLetterFilter, Problem> {
    let mut fields = Fields::of(body, "").map_err(|error| Problem::invalid(vec![error]))?;
    let filter = DeadLetterFilter {
        ids: fields.parsed_list("ids", DeadLetterId::parse),
        category: fields.parsed("category", |text| CategoryKey::parse(text).map(|key| key.as_str().to_owned())),
        reason: fields.string("reason").map(str::to_owned),
        from: fields.parsed("from", parse_timestamp),
        to: fields.parsed("to", parse_timestamp),
    };
    if filter.ids.as_ref().is_some_and(|ids| ids.is_empty() || ids.len() > REDRIVE_IDS) {
        fields.wrong("ids", format_args!("must have 1 to {REDRIVE_IDS} entries"));
    }
    if body.as_object().is_some_and(serde_json::Map::is_empty) {
        fields.extend([FieldError::new("", "must have ids, or a filter of category, reason, from and to")]);
    }
    fields.finish().map_err(Problem::invalid)?;
    Ok(filter)
}
