//! Escalation policies: put, shown, listed and removed.

use super::{Answer, Api, parameter, show};
use crate::creation::find_refusals;
use crate::escalation::meant;
use crate::request::Refused;
use adapters::store::database::{StoreError, TenantTransaction};
use adapters::store::escalation_policies::{self as store, Named, PolicyRow};
use adapters::store::escalation_steps::find_meant;
use adapters::wire::escalation_policies as bodies;
use adapters::wire::fields::FieldError;
use adapters::wire::http::{Request, Response};
use adapters::wire::pages::Query;
use adapters::wire::problem::Problem;
use adapters::wire::views;
use domain::escalation::{Policy, Whom};
use domain::event::EventBus;
use domain::id::PolicyKey;
use domain::notification::{NotificationRequest, Refusal};
use domain::queue::Queue;
use domain::secret::KeyService;
use serde_json::{Value, json};

impl<Q: Queue, K: KeyService, B: EventBus> Api<Q, K, B> {
    /// A role that nobody has is no error where the step reaches others, because people come and go: the answer warns of it.
    pub(super) async fn put_escalation_policy(&self, request: &Request) -> Answer {
        let key = parameter(request, "key", "escalation policy", PolicyKey::parse)?;
        let policy = bodies::read_policy(&request.json()?)?;
        let mut transaction = self.begin(request).await?;
        let (errors, warnings) = check_named(&mut transaction, &policy).await?;
        if !errors.is_empty() {
            transaction.roll_back().await?;
            return Err(Problem::invalid(errors).into());
        }
        store::put_policy(&mut transaction, &key, &policy).await?;
        let row = store::read_policy(&mut transaction, &key).await?;
        transaction.commit().await?;
        let print = |row: &PolicyRow| {
            let mut printed = bodies::print_policy(row);
            let warning = |warning: &FieldError| json!({"pointer": warning.pointer, "detail": warning.detail});
            printed["warnings"] = warnings.iter().map(warning).collect::<Value>();
            printed
        };
        show(row, "escalation policy", print)
    }

    pub(super) async fn get_escalation_policy(&self, request: &Request) -> Answer {
        let key = parameter(request, "key", "escalation policy", PolicyKey::parse)?;
        let mut transaction = self.begin(request).await?;
        let row = store::read_policy(&mut transaction, &key).await?;
        transaction.commit().await?;
        show(row, "escalation policy", bodies::print_policy)
    }

    pub(super) async fn list_escalation_policies(&self, request: &Request) -> Answer {
        let mut query = Query::of(&request.query);
        let page = query.key_page();
        query.finish()?;
        let mut transaction = self.begin(request).await?;
        let rows = store::list_policies(&mut transaction, &page).await?;
        transaction.commit().await?;
        let key = |row: &PolicyRow| row.key.clone();
        let name = "escalation_policies";
        Ok(Response::json(200, &views::print_key_page(name, &rows, page.size, bodies::print_policy, key)))
    }

    /// Removes a policy. What runs by it goes on, by its own copy.
    pub(super) async fn delete_escalation_policy(&self, request: &Request) -> Answer {
        let key = parameter(request, "key", "escalation policy", PolicyKey::parse)?;
        let mut transaction = self.begin(request).await?;
        let is_deleted = store::delete_policy(&mut transaction, &key).await?;
        transaction.commit().await?;
        if is_deleted { Ok(Response::empty(204)) } else { Err(Problem::not_found("escalation policy").into()) }
    }
}

/// What a policy names that is not there, and whom its steps reach: errors, and warnings where others of the step are reached.
async fn check_named(
    transaction: &mut TenantTransaction,
    policy: &Policy,
) -> Result<(Vec<FieldError>, Vec<FieldError>), Refused> {
    let mut asked = Named::default();
    asked.categories.insert(policy.category.as_str().to_owned());
    for step in &policy.steps {
        asked.categories.extend(step.category.iter().map(|key| key.as_str().to_owned()));
        for whom in &step.whom {
            match whom {
                Whom::Recipient(key) => asked.recipients.insert(key.as_str().to_owned()),
                Whom::Role(role) => asked.roles.insert(role.clone()),
                Whom::Manager => false,
            };
        }
    }
    let found = store::find_named(transaction, &asked).await?;
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    let no_category = "no category has this key; create it with PUT /v1/categories/{key}";
    if !found.categories.contains(policy.category.as_str()) {
        errors.push(FieldError::new("/category", no_category));
    }
    for (place, step) in policy.steps.iter().enumerate() {
        if step.category.as_ref().is_some_and(|key| !found.categories.contains(key.as_str())) {
            errors.push(FieldError::new(format!("/steps/{place}/category"), no_category));
        }
        for (at, whom) in step.whom.iter().enumerate() {
            let pointer = format!("/steps/{place}/recipients/{at}");
            match whom {
                Whom::Recipient(key) if !found.recipients.contains(key.as_str()) => errors
                    .push(FieldError::new(pointer, "no recipient has this id; create it with PUT /v1/recipients/{id}")),
                Whom::Role(role) if !found.roles.contains(role) => {
                    warnings.push(FieldError::new(pointer, "nobody has this role now"));
                }
                Whom::Recipient(_) | Whom::Role(_) | Whom::Manager => {}
            }
        }
    }
    if errors.is_empty() {
        errors = find_unreached(transaction, policy).await?;
        errors.extend(find_empty(transaction, policy).await?);
    }
    Ok((errors, warnings))
}

/// The categories of which nothing can be sent, because they have no template.
async fn find_empty(transaction: &mut TenantTransaction, policy: &Policy) -> Result<Vec<FieldError>, StoreError> {
    let steps = policy.steps.iter().enumerate();
    let own = steps.filter_map(|(place, step)| Some((format!("/steps/{place}/category"), step.category.as_ref()?)));
    let shared = policy.steps.iter().any(|step| step.category.is_none());
    let shared = shared.then(|| ("/category".to_owned(), &policy.category));
    let (pointers, requests): (Vec<_>, Vec<_>) = shared
        .into_iter()
        .chain(own)
        .map(|(pointer, category)| (pointer, NotificationRequest::to_nobody(category.clone(), json!({}))))
        .unzip();
    let refusals = find_refusals(transaction, &requests).await?;
    // Whether the data suits is known when one starts.
    let is_wrong = |refusal: &Refusal| !matches!(refusal, Refusal::WrongData(_));
    let wrong = pointers.into_iter().zip(refusals).filter_map(|(pointer, refusal)| {
        let refusal = refusal.filter(is_wrong)?;
        Some(FieldError::new(pointer, format_args!("reaches nobody: {refusal}")))
    });
    Ok(wrong.collect())
}

/// The steps that would reach nobody, if they fired now one after the other.
async fn find_unreached(transaction: &mut TenantTransaction, policy: &Policy) -> Result<Vec<FieldError>, StoreError> {
    let mut errors = Vec::new();
    let mut before: Vec<String> = Vec::new();
    for (place, step) in policy.steps.iter().enumerate() {
        let asked: Vec<_> = step.whom.iter().map(|whom| (place, meant(whom, &before))).collect();
        let meant = find_meant(transaction, &asked).await?.remove(&place).unwrap_or_default();
        let detail = if meant.is_empty() {
            "reaches nobody: nobody has these roles, or is the manager of those before"
        } else if !store::has_address(transaction, &meant).await? {
            "reaches nobody: none of them has an address for a channel that can be sent"
        } else {
            before = meant;
            continue;
        };
        errors.push(FieldError::new(format!("/steps/{place}/recipients"), detail));
    }
    Ok(errors)
}
