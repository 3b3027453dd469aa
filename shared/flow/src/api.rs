//! Everything that people manage: notifications to see and cancel, dead letters to redrive, recipients, categories
//! and templates to keep.
//!
//! Each request is one transaction of the caller's tenant; what belongs to others does not exist there.
//! A POST does its work and keeps its answer under the `Idempotency-Key` in one commit.

mod audit;
mod categories;
mod consents;
mod dead_letters;
mod deadlines;
mod domain_jobs;
mod door_requests;
mod escalation_policies;
mod escalations;
mod health;
mod jobs;
mod link_keys;
mod notifications;
pub(crate) mod preferences;
mod previews;
mod recipients;
mod settings;
mod suppressions;
mod templates;

use self::recipients::find_recipient;
use crate::links::Links;
use crate::request::{Refused, hash_body};
use adapters::store::database::{Database, TenantTransaction};
use adapters::store::enqueue::RequestKey;
use adapters::store::idempotency::{KeyClaim, claim_key, store_answer};
use adapters::store::keys::LinkKeys;
use adapters::store::limits::{RequestLimit, take_request};
use adapters::wire::fields::FieldError;
use adapters::wire::http::{Request, Response};
use adapters::wire::limits::with_limit;
use adapters::wire::problem::Problem;
use adapters::wire::routes::Route;
use domain::address::EmailAddress;
use domain::endpoint::LocalEndpoints;
use domain::event::EventBus;
use domain::link::PublicUrl;
use domain::queue::{Publication, Queue};
use domain::secret::KeyService;
use serde_json::Value;
use std::fmt::Display;

/// The flow with what it needs.
pub struct Api<Q, K, B> {
    /// As `harkara_api`.
    pub database: Database,
    /// The deliveries queue.
    pub queue: Q,
    /// The project's bus.
    pub bus: B,
    /// What signs the links in mails.
    pub keys: LinkKeys<K>,
    /// Where those links lead.
    pub public_url: PublicUrl,
    /// The sender of tenants that have none, as the processor has it.
    pub sender: EmailAddress,
    /// Addresses of a development machine that jobs may call.
    pub local_endpoints: LocalEndpoints,
}

type Answer = Result<Response, Refused>;

impl<Q: Queue, K: KeyService, B: EventBus> Api<Q, K, B> {
    /// Answers a request.
    pub async fn answer_request(&self, event: Value, request_id: &str) -> Response {
        let request = match Request::read(event) {
            Ok(request) => request,
            Err(problem) => return problem.response(request_id),
        };
        let mut limit = None;
        let response = match self.answer_within_limit(&request, request_id, &mut limit).await {
            Ok(response) => response.with_header("x-request-id", request_id),
            Err(refused) => refused.into_problem(request.idempotency_key.as_ref()).response(request_id),
        };
        with_limit(response, limit.as_ref())
    }

    /// Takes the request out of its caller's bucket first, by a statement of its own, and answers it if it was in it.
    /// Nobody's bucket is known of a public route.
    async fn answer_within_limit(
        &self,
        request: &Request,
        request_id: &str,
        limit: &mut Option<RequestLimit>,
    ) -> Answer {
        if let Ok(caller) = request.caller() {
            *limit = take_request(&self.database, caller).await?;
        }
        match limit.and_then(|limit| limit.retry_after_seconds) {
            Some(seconds) => Err(Problem::rate_limited(seconds).into()),
            None => self.route(request, request_id).await,
        }
    }

    async fn route(&self, request: &Request, request_id: &str) -> Answer {
        match request.route {
            Route::ListNotifications => self.list_notifications(request).await,
            Route::GetNotification => self.get_notification(request).await,
            Route::CancelNotification => self.cancel_notification(request, request_id).await,
            Route::ListDoorRequests => self.list_door_requests(request).await,
            Route::GetDoorRequest => self.get_door_request(request).await,
            Route::ListDeadlines => self.list_deadlines(request).await,
            Route::PutDeadline => self.put_deadline(request).await,
            Route::GetDeadline => self.get_deadline(request).await,
            Route::CompleteDeadline => self.complete_deadline(request, request_id).await,
            Route::DeleteDeadline => self.delete_deadline(request).await,
            Route::ListDeadLetters => self.list_dead_letters(request).await,
            Route::RedriveDeadLetters => self.redrive_dead_letters(request, request_id).await,
            Route::ListJobs => self.list_jobs(request).await,
            Route::GetJob => self.get_job(request).await,
            Route::PutDomainJob => self.put_domain_job(request).await,
            Route::DeleteDomainJob => self.delete_domain_job(request).await,
            Route::ListJobRuns => self.list_job_runs(request).await,
            Route::RunJob => self.run_job(request, request_id).await,
            Route::ExplainNotification => self.explain_notification(request).await,
            Route::ListRecipients => self.list_recipients(request).await,
            Route::PutRecipients => self.put_recipients(request, request_id).await,
            Route::DeleteRecipient => self.delete_recipient(request).await,
            Route::GetPreferences => self.get_preferences(request).await,
            Route::PutPreferences => self.put_preferences(request).await,
            Route::ListConsents => self.list_consents(request).await,
            Route::AddConsent => self.add_consent(request, request_id).await,
            Route::ListUnreachable => self.list_unreachable(request).await,
            Route::GetTenantPreferences => self.get_tenant_preferences(request).await,
            Route::PutTenantPreferences => self.put_tenant_preferences(request).await,
            Route::GetSettings => self.get_settings(request).await,
            Route::PutSettings => self.put_settings(request).await,
            Route::ListCategories => self.list_categories(request).await,
            Route::PutRecipient => self.put_recipient(request).await,
            Route::GetRecipient => self.get_recipient(request).await,
            Route::PutCategory => self.put_category(request).await,
            Route::GetCategory => self.get_category(request).await,
            Route::ListEscalationPolicies => self.list_escalation_policies(request).await,
            Route::PutEscalationPolicy => self.put_escalation_policy(request).await,
            Route::GetEscalationPolicy => self.get_escalation_policy(request).await,
            Route::DeleteEscalationPolicy => self.delete_escalation_policy(request).await,
            Route::ListEscalations => self.list_escalations(request).await,
            Route::StartEscalation => self.start_escalation(request, request_id).await,
            Route::GetEscalation => self.get_escalation(request).await,
            Route::AcknowledgeEscalation => self.acknowledge_escalation(request, request_id).await,
            Route::ResolveEscalation => self.resolve_escalation(request, request_id).await,
            Route::PutTemplate => self.put_template(request).await,
            Route::GetTemplate => self.get_template(request).await,
            Route::ListTemplates => self.list_templates(request).await,
            Route::PublishTemplate => self.publish_template(request, request_id).await,
            Route::GetTemplateVersion => self.get_template_version(request).await,
            Route::PreviewTemplate => self.preview_template(request).await,
            Route::GetDeliveryContent => self.get_delivery_content(request).await,
            Route::ListChanges => self.list_changes(request).await,
            Route::VerifyAudit => self.verify_audit(request).await,
            Route::ListSuppressions => self.list_suppressions(request).await,
            Route::GetSuppression => self.get_suppression(request).await,
            Route::PutSuppression => self.put_suppression(request).await,
            Route::DeleteSuppression => self.delete_suppression(request).await,
            Route::ListLinkKeys => self.list_link_keys(request).await,
            Route::AddLinkKey => self.add_link_key(request, request_id).await,
            Route::ShowUnsubscribe => Ok(self.links().show_unsubscribe(request).await),
            Route::Unsubscribe => Ok(self.links().unsubscribe(request).await),
            Route::ShowPreferenceCenter => Ok(self.links().show_preference_center(request).await),
            Route::SavePreferenceCenter => Ok(self.links().save_preference_center(request).await),
            Route::ShowCollected => Ok(self.links().show_collected(request).await),
            Route::ShowAction => Ok(self.links().show_action(request).await),
            Route::Act => Ok(self.links().act(request).await),
            Route::GetHealth => self.get_health(request).await,
            Route::GetOpenapi => self.get_openapi(),
            // `enqueue` answers it.
            Route::CreateNotifications => Err(Problem::not_found("path").into()),
        }
    }

    /// The public pages.
    fn links(&self) -> Links<'_, K> {
        Links { database: &self.database, keys: &self.keys }
    }

    /// Begins a transaction of the caller's tenant; of one recipient, where the token is that recipient's own.
    async fn begin(&self, request: &Request) -> Result<TenantTransaction, Refused> {
        let caller = request.caller()?;
        Ok(match &caller.own_recipient {
            None => self.database.begin(caller.tenant, &caller.subject).await?,
            Some(recipient) => self.database.begin_as_recipient(caller.tenant, &caller.subject, recipient).await?,
        })
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
            // What stands in the path is part of what was asked.
            route: request.describe_path(),
            key: request.idempotency_key.clone(),
            request_hash: hash_body(body),
            request_id: request_id.to_owned(),
        };
        let mut transaction = self.begin(request).await?;
        if request.caller()?.own_recipient.is_some() {
            // What its token cannot see has no stored answer for it either.
            find_recipient(&mut transaction, request).await?;
        }
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
        adapters::failpoint!("A2_answered", Err(Problem::internal().into()));
        transaction.commit().await?;
        adapters::failpoint!("A3_committed", Err(Problem::internal().into()));
        self.queue.publish(&publications).await;
        adapters::failpoint!("A4_published", Err(Problem::internal().into()));
        Ok(Response::json(200, &answer))
    }
}

/// What the path names by the parameter `name`. What cannot be an id is not there, like what is not there.
fn parameter<T, E: Display>(
    request: &Request,
    name: &str,
    what: &str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<T, Problem> {
    parse(request.parameter(name)).map_err(|error| match request.route.method() {
        "PUT" => Problem::invalid(vec![FieldError::new("", format_args!("the {what}'s key in the path {error}"))]),
        _ => Problem::not_found(what),
    })
}

fn show<T>(row: Option<T>, what: &str, print: impl Fn(&T) -> Value) -> Answer {
    let row = row.ok_or_else(|| Problem::not_found(what))?;
    Ok(Response::json(200, &print(&row)))
}
