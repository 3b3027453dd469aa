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

/// The most errors of a refusal that are said in words.
const SAID_ERRORS: usize = 5;

/// A notification that is to be created.
pub(crate) struct Wanted {
    /// The id that it gets.
    pub(crate) id: NotificationId,
    /// What it is; for one recipient.
    pub(crate) request: NotificationRequest,
}

/// Notifications that are to be created: one for each recipient of a request, which all of them share.
pub(crate) struct WantedForEach {
    /// The ids that they get, in the order of the recipients.
    pub(crate) ids: Vec<NotificationId>,
    /// What they are.
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

/// Creates notifications of the transaction's tenant: two statements for any number that is not very large. `actor` is who
/// the audit log names.
pub(crate) async fn create_notifications(
    transaction: &mut TenantTransaction,
    actor: &str,
    wanted: &[Wanted],
) -> Result<Created, StoreError> {
    debug_assert!(wanted.iter().all(|wanted| wanted.request.recipients.len() == 1), "a notification has one recipient");
    let asked: Vec<_> = wanted.iter().map(|Wanted { id, request }| (std::slice::from_ref(id), request)).collect();
    create(transaction, actor, &asked).await
}

/// Like [`create_notifications`], for each recipient of requests. What is refused is told by its place among all of them.
pub(crate) async fn create_for_each(
    transaction: &mut TenantTransaction,
    actor: &str,
    wanted: &[WantedForEach],
) -> Result<Created, StoreError> {
    let asked: Vec<_> = wanted.iter().map(|WantedForEach { ids, request }| (&ids[..], request)).collect();
    create(transaction, actor, &asked).await
}

async fn create(
    transaction: &mut TenantTransaction,
    actor: &str,
    asked: &[(&[NotificationId], &NotificationRequest)],
) -> Result<Created, StoreError> {
    let mut created = Created::default();
    if asked.is_empty() {
        return Ok(created);
    }
    let context = read_context_within(transaction, asked.iter().map(|(_, request)| *request)).await?;
    let tenant = transaction.tenant();
    let mut accepted = Vec::new();
    let mut first = 0;
    for (ids, request) in asked {
        debug_assert_eq!(ids.len(), request.recipients.len(), "each recipient's notification has an id");
        let places = first..;
        first += ids.len();
        let plans = match plan_notifications(request, &context.tenant, context.now) {
            Ok(plans) => plans,
            Err(refusal) => {
                created.refused.extend(places.zip(*ids).map(|(place, _)| (place, refusal.clone())));
                continue;
            }
        };
        let mut data = None;
        for (place, ((id, recipient), plan)) in places.zip(ids.iter().zip(&request.recipients).zip(plans)) {
            let plan = match plan {
                Ok(plan) => plan,
                Err(refusal) => {
                    created.refused.push((place, refusal));
                    continue;
                }
            };
            if data.is_none() {
                data = plan.template.as_ref().and_then(|key| fill_data(request, context.tenant.templates.get(key)?));
            }
            accepted.push(Accepted {
                id: *id,
                event_id: EventId::from_uuid(new_uuid()),
                request,
                recipient,
                data: data.clone(),
                deliveries: plan.channels.iter().map(|_| DeliveryId::from_uuid(new_uuid())).collect(),
                plan,
                attachments: Vec::new(),
                dedupe_key: None,
                collection_key: scope_collection(tenant, request, recipient),
                traceparent: None,
            });
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

/// A refusal in words, without any value. Of very many errors it names the first: the words are kept with each of whatever
/// was refused for them.
pub(crate) fn say(refusal: &Refusal) -> String {
    match refusal {
        Refusal::WrongData(errors) => {
            let mut said: Vec<_> =
                errors.iter().take(SAID_ERRORS).map(|(pointer, detail)| format!("{pointer} {detail}")).collect();
            if errors.len() > SAID_ERRORS {
                said.push(format!("and {} more", errors.len() - SAID_ERRORS));
            }
            said.join("; ")
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
