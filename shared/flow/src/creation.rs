//! Creates notifications for flows that nobody called: planned and stored in the way of `enqueue`, within the transaction
//! of what leads to them, so that both happen or neither.
//!
//! The row comes first here, too. The caller commits, and then publishes what it was given.

use adapters::ids::new_uuid;
use adapters::store::database::{StoreError, TenantTransaction};
use adapters::store::enqueue::{Accepted, accept_within, read_context_within};
use domain::id::{DeliveryId, EventId, NotificationId, TenantId};
use domain::notification::{NotificationRequest, Recipient, Refusal, plan_notifications};
use domain::queue::{DeliveryMessage, Publication};
use domain::template::Variables;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// A notification that is to be created.
pub(crate) struct Wanted {
    /// The id that it gets.
    pub(crate) id: NotificationId,
    /// What it is; for one recipient.
    pub(crate) request: NotificationRequest,
}

/// What became of what was wanted.
#[derive(Default)]
pub(crate) struct Created {
    /// What to publish once the transaction is committed; without it, the dispatcher publishes later.
    pub(crate) publications: Vec<Publication>,
    /// What cannot be sent as it stands, by its place in what was wanted, and why. Nothing of it is stored.
    pub(crate) refused: Vec<(usize, Refusal)>,
}

/// Creates notifications of the transaction's tenant: two statements for any number. `actor` is who the audit log names.
pub(crate) async fn create_notifications(
    transaction: &mut TenantTransaction,
    actor: &str,
    wanted: &[Wanted],
) -> Result<Created, StoreError> {
    let mut created = Created::default();
    if wanted.is_empty() {
        return Ok(created);
    }
    let context = read_context_within(transaction, wanted.iter().map(|wanted| &wanted.request)).await?;
    let tenant = transaction.tenant();
    let mut accepted = Vec::new();
    for (place, Wanted { id, request }) in wanted.iter().enumerate() {
        debug_assert_eq!(request.recipients.len(), 1, "a notification has one recipient");
        let plans = plan_notifications(request, &context.tenant, context.now);
        let plan = plans.and_then(|mut plans| plans.pop().unwrap_or(Err(Refusal::UnknownRecipient(0))));
        match (plan, request.recipients.first()) {
            (Ok(plan), Some(recipient)) => {
                let variables = plan.template.as_ref().and_then(|key| context.tenant.templates.get(key));
                accepted.push(Accepted {
                    id: *id,
                    event_id: EventId::from_uuid(new_uuid()),
                    request,
                    recipient,
                    data: variables.and_then(|variables| fill_data(request, variables)),
                    deliveries: plan.channels.iter().map(|_| DeliveryId::from_uuid(new_uuid())).collect(),
                    plan,
                    attachments: Vec::new(),
                    dedupe_key: None,
                    collection_key: scope_collection(tenant, request, recipient),
                    traceparent: None,
                });
            }
            (Ok(_), None) => created.refused.push((place, Refusal::UnknownRecipient(0))),
            (Err(refusal), _) => created.refused.push((place, refusal)),
        }
    }
    if !accepted.is_empty() {
        accept_within(transaction, actor, &accepted).await?;
    }
    created.publications = accepted.iter().flat_map(|accepted| list_publications(tenant, accepted)).collect();
    Ok(created)
}

/// What is wrong with each of these requests, whomever they are for.
pub(crate) async fn find_refusals(
    transaction: &mut TenantTransaction,
    requests: &[NotificationRequest],
) -> Result<Vec<Option<Refusal>>, StoreError> {
    let context = read_context_within(transaction, requests.iter()).await?;
    let refusal = |request| plan_notifications(request, &context.tenant, context.now).err();
    Ok(requests.iter().map(refusal).collect())
}

/// A refusal in words, without any value.
pub(crate) fn say(refusal: &Refusal) -> String {
    match refusal {
        Refusal::WrongData(errors) => {
            errors.iter().map(|(pointer, detail)| format!("{pointer} {detail}")).collect::<Vec<_>>().join("; ")
        }
        other => other.to_string(),
    }
}

/// The data with what the template may ask for and the request leaves out; once for all recipients of a request.
pub(crate) fn fill_data(request: &NotificationRequest, variables: &Option<Variables>) -> Option<Arc<Value>> {
    let mut data = request.data.clone();
    variables.as_ref()?.fill_absent(&mut data);
    Some(Arc::new(data))
}

/// A caller's key, as it holds for one recipient, so that a list of them is not cut down to its first.
/// The recipient is in it as a digest: keys are names of rows, and stand in the audit log as they are.
pub(crate) fn scope_key(tenant: TenantId, key: &str, recipient: &Recipient) -> String {
    let whom = match recipient {
        Recipient::Known(id) => id.as_str(),
        Recipient::Inline(inline) => {
            let email = inline.email.as_ref().map(|email| email.as_str());
            email.or(inline.phone.as_ref().map(|phone| phone.as_str())).unwrap_or_default()
        }
    };
    let digest = Sha256::digest(format!("{tenant} {whom}"));
    let digest: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{key} {digest}")
}

/// The key of the collection that a notification to `recipient` waits in.
pub(crate) fn scope_collection(
    tenant: TenantId,
    request: &NotificationRequest,
    recipient: &Recipient,
) -> Option<String> {
    request.collect.as_ref().map(|collect| scope_key(tenant, collect.key.as_str(), recipient))
}

/// The messages of what was accepted, where they do not wait for the dispatcher.
pub(crate) fn list_publications(tenant: TenantId, accepted: &Accepted<'_>) -> Vec<Publication> {
    let Some(delay) = accepted.plan.start.publish_delay else { return Vec::new() };
    let message = |delivery: &DeliveryId| DeliveryMessage {
        tenant,
        delivery: *delivery,
        traceparent: accepted.traceparent.clone(),
    };
    accepted.deliveries.iter().map(|delivery| Publication { message: message(delivery), delay }).collect()
}
