//! What callers were promised: I1, I8 and I12.

use super::lookup::{Lookup, Story};
use super::{Found, Invariant};
use crate::history::{Answer, History, QueueName};
use domain::delivery::DeliveryState;
use domain::id::{NotificationId, TenantId};
use std::collections::{HashMap, HashSet};

/// I1: what was answered with 2xx is there with its deliveries, and nothing is there that nobody asked for.
pub(super) fn check_i1(lookup: &Lookup<'_>, found: &mut Found) {
    for (tenant, notification) in accepted_notifications(lookup.history) {
        let deliveries = lookup.deliveries_of(notification);
        if deliveries.is_empty() {
            found.add(Invariant::I1, format!("{notification} was accepted and is not there"));
        }
        for delivery in deliveries {
            if delivery.tenant != tenant {
                let what = format!("{notification} was accepted for {tenant} and belongs to {}", delivery.tenant);
                found.add_of(Invariant::I1, (delivery.tenant, delivery.id), what);
            }
        }
    }
    check_origin(lookup, found);
}

/// I1: each delivery has ended, and what ended as sent was.
///
/// It has ended when it is in no open state; `sent` is an end where no feedback comes. How soon after the last fault is a
/// [`Measure`](crate::history::Measure). That a mail went out, only the provider's ledger shows.
pub(super) fn check_i1_end(lookup: &Lookup<'_>, found: &mut Found) {
    for delivery in &lookup.history.deliveries {
        if delivery.state.is_open() {
            let what = format!("is still {} with {} attempts", delivery.state, delivery.attempt_count);
            found.add_of(Invariant::I1, (delivery.tenant, delivery.id), what);
        }
    }
    for (key, story) in lookup.stories() {
        if was_never_sent(story) {
            let state = story.delivery.map_or("there", |delivery| delivery.state.as_str());
            found.add_of(Invariant::I1, key, format!("is {state}, and the provider never took a mail of it"));
        }
    }
}

/// Whether a delivery says that its mail went out, and the provider took none.
pub(super) fn was_never_sent(story: &Story<'_>) -> bool {
    use DeliveryState::{Bounced, Complained, Delivered, Sent};
    story.delivery.is_some_and(|delivery| {
        matches!(delivery.state, Sent | Delivered | Bounced | Complained)
            && !delivery.is_sandbox
            && !story.calls.iter().any(|call| call.was_accepted)
    })
}

/// Every notification that was accepted, once.
pub(super) fn accepted_notifications(history: &History) -> Vec<(TenantId, NotificationId)> {
    let mut seen = HashSet::new();
    let mut accepted = Vec::new();
    for request in &history.requests {
        if let Answer::Accepted(notifications) = &request.answer {
            accepted.extend(
                notifications.iter().filter(|id| seen.insert(**id)).map(|notification| (request.tenant, *notification)),
            );
        }
    }
    accepted
}

/// No more notifications than were asked for, besides those that schedules made: requests with one key are one request, and
/// refused ones are none.
fn check_origin(lookup: &Lookup<'_>, found: &mut Found) {
    let history = lookup.history;
    if history.requests.is_empty() {
        return;
    }
    let mut asked: HashMap<TenantId, usize> = HashMap::new();
    let mut keys = HashSet::new();
    for request in history.requests.iter().filter(|request| !matches!(request.answer, Answer::Refused(_))) {
        let is_new = request.idempotency_key.as_ref().is_none_or(|key| keys.insert((request.tenant, key)));
        if is_new {
            *asked.entry(request.tenant).or_default() += request.asked_count;
        }
    }
    let mut stored: HashMap<TenantId, HashSet<NotificationId>> = HashMap::new();
    let scheduled: HashSet<NotificationId> =
        history.occurrences.iter().filter_map(|occurrence| occurrence.notification).collect();
    for delivery in history.deliveries.iter().filter(|delivery| !scheduled.contains(&delivery.notification)) {
        stored.entry(delivery.tenant).or_default().insert(delivery.notification);
    }
    for (tenant, notifications) in stored {
        let asked = asked.get(&tenant).copied().unwrap_or_default();
        if notifications.len() > asked {
            let what = format!("{tenant} asked for {asked} notifications and has {}", notifications.len());
            found.add(Invariant::I1, what);
        }
    }
}

/// I8: requests of a tenant with one key and one body have one answer; with another body, none of them is accepted.
///
/// Within the 24 hours that a key is kept: a history that runs longer is cut into days first.
pub(super) fn check_i8(history: &History, found: &mut Found) {
    let mut first: HashMap<(TenantId, &str), (u64, &[NotificationId])> = HashMap::new();
    for request in &history.requests {
        let (Some(key), Answer::Accepted(notifications)) = (request.idempotency_key.as_deref(), &request.answer) else {
            continue;
        };
        let winner = *first.entry((request.tenant, key)).or_insert((request.body_hash, notifications));
        if winner.0 != request.body_hash {
            found.add(Invariant::I8, format!("two bodies were accepted with the key {key} of {}", request.tenant));
        } else if winner.1 != notifications.as_slice() {
            let what = format!("the key {key} of {} was answered {:?} and {notifications:?}", request.tenant, winner.1);
            found.add(Invariant::I8, what);
        }
    }
}

/// I12: nothing waits any more in a queue or in the outbox, whatever is dead has a dead letter with a reason, and
/// whatever is in a dead-letter queue has one too.
///
/// The dead-letter queue of `feedback` may keep what nobody could read.
pub(super) fn check_i12(lookup: &Lookup<'_>, found: &mut Found) {
    let history = lookup.history;
    if history.quiet_at.is_none() && !history.deliveries.is_empty() {
        found.add(Invariant::I12, "the run never became quiet");
    }
    if history.untold_events > 0 {
        found.add(Invariant::I12, format!("{} events were never told", history.untold_events));
    }
    for message in &history.left_messages {
        let is_lost = match message.queue {
            QueueName::Deliveries | QueueName::Feedback => true,
            QueueName::DeadLetters => !history.dead_letters.iter().any(|letter| {
                !letter.reason.is_empty() && message.delivery.is_some_and(|key| Some(key.1) == letter.delivery)
            }),
            QueueName::FeedbackDeadLetters => false,
        };
        if is_lost {
            let what = format!("message {} is left in {:?}", message.message_id, message.queue);
            match message.delivery {
                Some(key) => found.add_of(Invariant::I12, key, what),
                None => found.add(Invariant::I12, what),
            }
        }
    }
    for (key, story) in lookup.stories() {
        let Some(delivery) = story.delivery else { continue };
        if delivery.due_at.is_some() && !delivery.state.is_open() {
            found.add_of(Invariant::I12, key, format!("is {} and still due", delivery.state));
        }
        let has_letter = story.dead_letters.iter().any(|letter| !letter.is_redriven && !letter.reason.is_empty());
        if delivery.state == DeliveryState::Dead && !has_letter {
            found.add_of(Invariant::I12, key, "is dead and has no dead letter with a reason");
        }
    }
}
