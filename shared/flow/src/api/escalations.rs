//! Escalations: started, shown, listed, acknowledged and resolved.

use super::{Answer, Api, parameter, show};
use crate::creation::find_refusals;
use crate::escalation::{
    AnswerResult, Start, StartRefusal, acknowledge_within, fill_data, fire_within, resolve_within, start_within,
};
use crate::request::Refused;
use adapters::store::database::TenantTransaction;
use adapters::store::escalations::{self as store, EscalationFilter, EscalationRow};
use adapters::store::recipients::read_recipient;
use adapters::wire::escalation_policies::read_definition;
use adapters::wire::escalations as bodies;
use adapters::wire::fields::{FieldError, Fields};
use adapters::wire::http::{Request, Response};
use adapters::wire::pages::{Cursor, Query};
use adapters::wire::problem::Problem;
use adapters::wire::views;
use domain::escalation::{EscalationState, Place};
use domain::event::EventBus;
use domain::id::{CategoryKey, EscalationId, EscalationKey};
use domain::notification::{NotificationRequest, Refusal};
use domain::queue::Queue;
use domain::secret::KeyService;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// How an answer came, as events tell it.
const VIA: &str = "api";

impl<Q: Queue, K: KeyService, B: EventBus> Api<Q, K, B> {
    /// Starts an escalation, and fires its first step at once where that has no delay.
    pub(super) async fn start_escalation(&self, request: &Request, request_id: &str) -> Answer {
        let body = request.json()?;
        let start = Start::from(bodies::read_start(&body)?);
        let actor = request.caller()?.subject.clone();
        self.answer_once(request, request_id, &body, async |transaction| {
            let started = start_within(transaction, std::slice::from_ref(&start)).await?.pop();
            let started = match started.unwrap_or(Err(StartRefusal::UnknownPolicy)) {
                Ok(started) => started,
                Err(StartRefusal::Raced) => {
                    return Err(Problem::conflict("the open escalation with this key has just ended; ask again").into());
                }
                Err(StartRefusal::UnknownPolicy) => {
                    let detail = "no escalation policy has this key; create it with PUT /v1/escalation-policies/{key}";
                    return Err(Problem::invalid(vec![FieldError::new("/policy", detail)]).into());
                }
                Err(StartRefusal::UnreadablePolicy) => {
                    let detail = "the policy cannot be read; put it again with PUT /v1/escalation-policies/{key}";
                    return Err(Problem::invalid(vec![FieldError::new("/policy", detail)]).into());
                }
            };
            adapters::failpoint!("A1_started", Err(Problem::internal().into()));
            let mut publications = Vec::new();
            if started.is_new {
                check_data(transaction, started.id).await?;
                publications = fire_within(transaction, &actor, &[started.id]).await?.publications;
            }
            let shown = find(transaction, started.id).await?;
            Ok((json!({"is_new": started.is_new, "escalation": shown}), publications))
        })
        .await
    }

    pub(super) async fn list_escalations(&self, request: &Request) -> Answer {
        let mut query = Query::of(&request.query);
        let state = query.parsed("state", |text| EscalationState::parse(text).ok_or("is not a state of an escalation"));
        let key = query.parsed("key", EscalationKey::parse);
        let page = query.page();
        query.finish()?;
        let mut transaction = self.begin(request).await?;
        let filter = EscalationFilter { id: None, key, state };
        let rows = store::list_escalations(&mut transaction, &filter, &page).await?;
        transaction.commit().await?;
        let cursor = |row: &EscalationRow| Cursor { at: row.created_at, id: row.id.as_uuid() };
        Ok(Response::json(200, &views::print_page("escalations", &rows, page.size, bodies::print_row, cursor)))
    }

    pub(super) async fn get_escalation(&self, request: &Request) -> Answer {
        let id = parameter(request, "id", "escalation", EscalationId::parse)?;
        let mut transaction = self.begin(request).await?;
        let view = store::read_escalation(&mut transaction, id).await?;
        transaction.commit().await?;
        show(view, "escalation", bodies::print_escalation)
    }

    /// Acknowledges an escalation, for a recipient or for whoever asks. A second one is answered with who was first.
    pub(super) async fn acknowledge_escalation(&self, request: &Request, request_id: &str) -> Answer {
        let id = parameter(request, "id", "escalation", EscalationId::parse)?;
        let body = request.json_or_empty()?;
        let recipient = bodies::read_acknowledgement(&body)?;
        let subject = request.caller()?.subject.clone();
        self.answer_once(request, request_id, &body, async |transaction| {
            if let Some(recipient) = &recipient
                && read_recipient(transaction, recipient).await?.is_none()
            {
                let detail = "no recipient has this id; create it with PUT /v1/recipients/{id}";
                return Err(Problem::invalid(vec![FieldError::new("/recipient", detail)]).into());
            }
            let result = acknowledge_within(transaction, id, recipient.as_ref(), &subject, VIA).await?;
            adapters::failpoint!("A1_acknowledged", Err(Problem::internal().into()));
            Ok((print_result(transaction, id, result).await?, Vec::new()))
        })
        .await
    }

    pub(super) async fn resolve_escalation(&self, request: &Request, request_id: &str) -> Answer {
        let id = parameter(request, "id", "escalation", EscalationId::parse)?;
        let body = request.json_or_empty()?;
        Fields::of(&body, "").map_err(|error| vec![error]).and_then(Fields::finish).map_err(Problem::invalid)?;
        let subject = request.caller()?.subject.clone();
        self.answer_once(request, request_id, &body, async |transaction| {
            let result = resolve_within(transaction, id, &subject, VIA).await?;
            Ok((print_result(transaction, id, result).await?, Vec::new()))
        })
        .await
    }
}

/// Holds an escalation's data against the templates of all its steps: what one of them cannot take is the caller's mistake
/// now, and would be a step that reaches nobody later.
async fn check_data(transaction: &mut TenantTransaction, id: EscalationId) -> Result<(), Refused> {
    let Some(view) = store::read_escalation(transaction, id).await? else { return Ok(()) };
    let Ok(policy) = read_definition(&view.definition) else { return Ok(()) };
    let categories: BTreeSet<_> = policy.steps.iter().map(|step| policy.category_of(step)).collect();
    let data = fill_data(view.data, id, &view.row.policy, view.row.created_at, Place::FIRST);
    let request = |category: &CategoryKey| NotificationRequest::to_nobody(category.clone(), data.clone());
    let requests: Vec<_> = categories.into_iter().map(request).collect();
    let mut errors = BTreeMap::new();
    for refusal in find_refusals(transaction, &requests).await? {
        if let Some(Refusal::WrongData(wrong)) = refusal {
            errors.extend(wrong);
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Problem::invalid(errors.into_iter().map(|(pointer, detail)| FieldError::new(pointer, detail)).collect()).into())
}

async fn print_result(
    transaction: &mut TenantTransaction,
    id: EscalationId,
    result: AnswerResult,
) -> Result<Value, Refused> {
    match result {
        AnswerResult::NotFound => Err(Problem::not_found("escalation").into()),
        AnswerResult::RecipientNeeded => {
            let detail = "is required: by this policy each recipient acknowledges for itself";
            Err(Problem::invalid(vec![FieldError::new("/recipient", detail)]).into())
        }
        AnswerResult::Done { is_first, canceled_count } => {
            let shown = find(transaction, id).await?;
            Ok(json!({"is_first": is_first, "canceled_count": canceled_count, "escalation": shown}))
        }
    }
}

async fn find(transaction: &mut TenantTransaction, id: EscalationId) -> Result<Value, Refused> {
    let view = store::read_escalation(transaction, id).await?.ok_or_else(|| Problem::not_found("escalation"))?;
    Ok(bodies::print_escalation(&view))
}
