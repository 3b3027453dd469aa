//! Each invariant finds the violation that is planted for it, and nothing in a clean run.

mod found;
mod published;

use super::{Figures, Violation, check_history, count_figures};
use crate::history::*;
use domain::category::UnknownPolicy;
use domain::delivery::{AttemptOutcome, DeliveryState};
use domain::id::{DeliveryId, NotificationId, TenantId};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

/// So many seconds after the run began.
fn second(count: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(count)
}

fn tenant(number: u128) -> TenantId {
    TenantId::from_uuid(Uuid::from_u128(number))
}

fn notification(number: u128) -> NotificationId {
    NotificationId::from_uuid(Uuid::from_u128(number))
}

fn delivery_id(number: u128) -> DeliveryId {
    DeliveryId::from_uuid(Uuid::from_u128(number))
}

/// A run of an hour in which a tenant asked for one mail, and it was sent and delivered at once.
fn clean() -> History {
    let mut history = History {
        database_clock: Some((second(0), second(3600))),
        faults_cleared_at: Some(second(1800)),
        quiet_at: Some(second(3600)),
        ..History::default()
    };
    history.requests.push(Request {
        sent_at: second(0),
        tenant: tenant(1),
        idempotency_key: Some("key".to_owned()),
        body_hash: 1,
        asked_count: 1,
        answer: Answer::Accepted(vec![notification(1)]),
    });
    history.deliveries.push(Delivery {
        tenant: tenant(1),
        id: delivery_id(1),
        notification: notification(1),
        address: "ada@example.org".to_owned(),
        is_sandbox: false,
        state: DeliveryState::Delivered,
        reason: None,
        attempt_count: 0,
        uncounted_attempt_count: 0,
        max_attempts: 3,
        unknown_policy: UnknownPolicy::AtLeastOnce,
        reconcile_window_seconds: 600,
        due_at: None,
        created_at: second(0),
        sent_at: Some(second(11)),
        finished_at: Some(second(12)),
    });
    move_to(&mut history, DeliveryState::Queued, 0);
    attempt(&mut history, 10, AttemptOutcome::Sent);
    move_to(&mut history, DeliveryState::Sent, 11);
    move_to(&mut history, DeliveryState::Delivered, 12);
    history.attempts[0].feedback_at = Some(second(12));
    history
}

/// The next attempt of the delivery, with its claim and its accepted call.
fn attempt(history: &mut History, at: i64, outcome: AttemptOutcome) {
    history.deliveries[0].attempt_count += 1;
    let number = history.deliveries[0].attempt_count;
    let (tenant, delivery) = (tenant(1), delivery_id(1));
    history.claims.push(Claim { tenant, delivery, attempt: number, committed_at: second(at) });
    move_to(history, DeliveryState::Sending, at);
    history.calls.push(ProviderCall {
        at: second(at),
        notification: Some(notification(1)),
        attempt: Some(number),
        tenant: Some(tenant),
        address: "ada@example.org".to_owned(),
        was_accepted: true,
    });
    history.attempts.push(Attempt {
        tenant,
        delivery,
        id: None,
        number,
        outcome: Some(outcome),
        declared_unknown_at: (outcome == AttemptOutcome::Unknown).then(|| second(at + 1)),
        has_server_failed: false,
        feedback_at: None,
        started_at: second(at),
        finished_at: Some(second(at + 1)),
    });
}

/// The audit log has a move of the delivery.
fn move_to(history: &mut History, to: DeliveryState, at: i64) {
    let from = history.transitions.last().map(|transition| transition.to);
    let attempt_count = history.deliveries[0].attempt_count;
    let (tenant, delivery) = (tenant(1), delivery_id(1));
    history.transitions.push(Transition { tenant, delivery, at: second(at), from, to, attempt_count });
}

/// A run in which the first attempt's outcome was unknown, and the second was sent at this second.
fn repeated_at(at: i64) -> History {
    let mut history = clean();
    let delivered = history.attempts.remove(0);
    history.transitions.truncate(1);
    (history.claims, history.calls) = (Vec::new(), Vec::new());
    history.deliveries[0].attempt_count = 0;
    attempt(&mut history, 10, AttemptOutcome::Unknown);
    move_to(&mut history, DeliveryState::Unknown, 11);
    move_to(&mut history, DeliveryState::Queued, at - 1);
    attempt(&mut history, at, AttemptOutcome::Sent);
    move_to(&mut history, DeliveryState::Sent, at + 1);
    move_to(&mut history, DeliveryState::Delivered, at + 2);
    history.attempts[1].feedback_at = delivered.feedback_at.map(|_| second(at + 2));
    history
}

/// What the checks say of a run.
fn violations(history: &History) -> Vec<Violation> {
    check_history(history).err().unwrap_or_default()
}
