//! Deadlines: put, shown, listed, completed and deleted.

mod sendable;

use super::{Answer, Api, parameter};
use crate::escalation::{AnswerResult, resolve_within};
use crate::request::Refused;
use adapters::store::database::{StoreError, TenantTransaction};
use adapters::store::deadlines::{
    self as store, DeadlineFilter, DeadlineRow, Lookup, NewRung, Withdrawn, delete_deadline, read_plan,
};
use adapters::wire::deadlines::{self as bodies, DeadlineBody};
use adapters::wire::fields::Fields;
use adapters::wire::http::{Request, Response};
use adapters::wire::pages::Query;
use adapters::wire::problem::Problem;
use adapters::wire::views;
use domain::deadline::{DeadlineState, Planning, plan_rung, zone_of};
use domain::event::EventBus;
use domain::id::{CategoryKey, DeadlineKey, EscalationId, RecipientKey};
use domain::moment::parse_timestamp;
use domain::queue::Queue;
use domain::secret::KeyService;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// How the end of an escalation came, as events tell it.
const VIA: &str = "deadline";

impl<Q: Queue, K: KeyService, B: EventBus> Api<Q, K, B> {
    /// `PUT /v1/deadlines/{key}`: makes it, moves it, or opens it again. It lies ahead then, so that what began when it had
    /// passed is resolved.
    pub(super) async fn put_deadline(&self, request: &Request) -> Answer {
        let key = parameter(request, "key", "deadline", DeadlineKey::parse)?;
        let body = bodies::read_deadline(&request.json()?)?;
        let subject = request.caller()?.subject.clone();
        let mut transaction = self.begin(request).await?;
        let lookup = store::look_up(&mut transaction, &body).await?;
        let errors = bodies::find_errors(&body, &lookup);
        if !errors.is_empty() {
            transaction.roll_back().await?;
            return Err(Problem::invalid(errors).into());
        }
        let errors = sendable::find_unsendable(&mut transaction, &key, &body).await?;
        if !errors.is_empty() {
            transaction.roll_back().await?;
            return Err(Problem::invalid(errors).into());
        }
        let replaced = store::put_deadline(&mut transaction, &key, &body).await?;
        let rungs = plan_rungs(&body, &lookup, &replaced.fired);
        store::insert_rungs(&mut transaction, &key, body.due_at, &rungs).await?;
        resolve(&mut transaction, replaced.escalation, &subject).await?;
        let shown = show_deadline(&mut transaction, &key).await?;
        transaction.commit().await?;
        Ok(Response::json(200, &shown))
    }

    pub(super) async fn get_deadline(&self, request: &Request) -> Answer {
        let key = parameter(request, "key", "deadline", DeadlineKey::parse)?;
        let mut transaction = self.begin(request).await?;
        let shown = show_deadline(&mut transaction, &key).await?;
        transaction.commit().await?;
        Ok(Response::json(200, &shown))
    }

    pub(super) async fn list_deadlines(&self, request: &Request) -> Answer {
        let mut query = Query::of(&request.query);
        let filter = DeadlineFilter {
            state: query.parsed("state", |text| DeadlineState::parse(text).ok_or("is not a state of a deadline")),
            category: query.parsed("category", |text| CategoryKey::parse(text).map(|key| key.as_str().to_owned())),
            recipient: query.parsed("recipient", |text| RecipientKey::parse(text).map(|key| key.as_str().to_owned())),
            from: query.parsed("from", parse_timestamp),
            to: query.parsed("to", parse_timestamp),
        };
        let page = query.key_page();
        query.finish()?;
        let mut transaction = self.begin(request).await?;
        let rows = store::list_deadlines(&mut transaction, &filter, &page).await?;
        transaction.commit().await?;
        let key = |row: &DeadlineRow| row.key.clone();
        Ok(Response::json(200, &views::print_key_page("deadlines", &rows, page.size, bodies::print_deadline, key)))
    }

    /// `POST /v1/deadlines/{key}/complete`: a second time nothing is left to withdraw.
    pub(super) async fn complete_deadline(&self, request: &Request, request_id: &str) -> Answer {
        let key = parameter(request, "key", "deadline", DeadlineKey::parse)?;
        let body = request.json_or_empty()?;
        Fields::of(&body, "").map_err(|error| vec![error]).and_then(Fields::finish).map_err(Problem::invalid)?;
        let subject = request.caller()?.subject.clone();
        self.answer_once(request, request_id, &body, async |transaction| {
            let withdrawn = complete(transaction, &key, &subject).await?;
            let withdrawn = withdrawn.ok_or_else(|| Problem::not_found("deadline"))?;
            let shown = show_deadline(transaction, &key).await?;
            let answer = json!({
                "canceled_rung_count": withdrawn.rung_count,
                "canceled_delivery_count": withdrawn.delivery_count,
                "deadline": shown,
            });
            Ok((answer, Vec::new()))
        })
        .await
    }

    /// `DELETE /v1/deadlines/{key}`: what was sent stays on record as notifications.
    pub(super) async fn delete_deadline(&self, request: &Request) -> Answer {
        let key = parameter(request, "key", "deadline", DeadlineKey::parse)?;
        let subject = request.caller()?.subject.clone();
        let mut transaction = self.begin(request).await?;
        let was_there = complete(&mut transaction, &key, &subject).await?.is_some();
        if was_there {
            delete_deadline(&mut transaction, &key).await?;
        }
        transaction.commit().await?;
        if was_there { Ok(Response::empty(204)) } else { Err(Problem::not_found("deadline").into()) }
    }
}

/// Completes a deadline, and resolves what began when it had passed: whatever was to be done is done.
async fn complete(
    transaction: &mut TenantTransaction,
    key: &DeadlineKey,
    subject: &str,
) -> Result<Option<Withdrawn>, StoreError> {
    let Some(withdrawn) = store::complete_deadline(transaction, key).await? else { return Ok(None) };
    let of_escalation = resolve(transaction, withdrawn.escalation, subject).await?;
    Ok(Some(Withdrawn { delivery_count: withdrawn.delivery_count + of_escalation, ..withdrawn }))
}

/// Answers with how many deliveries were withdrawn.
async fn resolve(
    transaction: &mut TenantTransaction,
    escalation: Option<EscalationId>,
    subject: &str,
) -> Result<u32, StoreError> {
    let Some(escalation) = escalation else { return Ok(0) };
    match resolve_within(transaction, escalation, subject, VIA).await? {
        AnswerResult::Done { canceled_count, .. } => Ok(canceled_count),
        // Retention has deleted it.
        AnswerResult::NotFound | AnswerResult::RecipientNeeded => Ok(0),
    }
}

async fn show_deadline(transaction: &mut TenantTransaction, key: &DeadlineKey) -> Result<Value, Refused> {
    let row = store::read_deadline(transaction, key).await?.ok_or_else(|| Problem::not_found("deadline"))?;
    let plan = read_plan(transaction, key).await?;
    Ok(bodies::print_with_plan(&row, &plan))
}

/// A rung for each recipient and each thing that the deadline does.
fn plan_rungs<'a>(body: &'a DeadlineBody, lookup: &Lookup, fired: &BTreeSet<(String, String)>) -> Vec<NewRung<'a>> {
    let all = body.all_rungs();
    let of_recipient = body.recipients.iter().flat_map(|recipient| {
        let own = lookup.zones.get(recipient.as_str()).and_then(Option::as_deref);
        let zone = zone_of(own, body.time_zone.as_ref().map(|zone| zone.as_str()), &lookup.tenant_zone);
        all.iter().map(move |rung| {
            let key = rung.to_string();
            let planning = Planning {
                due: body.due_at,
                now: lookup.now,
                when_past: body.when_past,
                has_fired: fired.contains(&(recipient.as_str().to_owned(), key.clone())),
            };
            let (fire_at, note) = plan_rung(*rung, &zone, &planning);
            NewRung { recipient: recipient.as_str(), rung: key, fire_at, note }
        })
    });
    of_recipient.collect()
}
