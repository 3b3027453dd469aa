//! The history of a simulated run.

use super::bound_seconds;
use super::database::{delivery_id, notification_id, tenant_id};
use super::executor::SECOND;
use super::queue::{Body, IN_FLIGHT_LIMIT};
use super::world::{World, clock_at};
use crate::history::{Attempt, DeadLetter, Delivery, History, LeftMessage, Measure, ProviderCall, QueueName};

/// Everything that the world knows at its end, as a history.
pub(super) fn record_history(world: &World) -> History {
    let database = world.database.borrow();
    let is_quiet = world.is_quiet();
    let mut history = History {
        requests: world.requests.borrow().clone(),
        claims: database.claims.clone(),
        transitions: database.transitions.clone(),
        suppressions: database.suppressions.clone(),
        batches: world.batches.borrow().clone(),
        untold_events: database.untold_count(),
        database_clock: Some((clock_at(0), world.clock())),
        faults_cleared_at: Some(clock_at(world.plan.clear_at)),
        quiet_at: is_quiet.then(|| world.clock()),
        ..History::default()
    };
    for (number, delivery) in database.deliveries.iter().enumerate() {
        let (tenant, id, row) = (tenant_id(delivery.tenant), delivery_id(number), &delivery.row);
        history.deliveries.push(Delivery {
            tenant,
            id,
            notification: notification_id(number),
            address: world.plan.addresses[delivery.address].name.clone(),
            is_sandbox: row.is_sandbox,
            state: row.state,
            reason: row.reason,
            attempt_count: row.attempt_count,
            uncounted_attempt_count: row.uncounted_attempt_count,
            max_attempts: row.max_attempts,
            unknown_policy: row.unknown_policy,
            reconcile_window_seconds: row.reconcile_window_seconds,
            due_at: row.due_at,
            created_at: delivery.created_at,
            sent_at: row.sent_at,
            finished_at: row.finished_at,
        });
        history.attempts.extend(row.attempts.iter().map(|attempt| Attempt {
            tenant,
            delivery: id,
            id: None,
            number: attempt.number,
            outcome: attempt.outcome,
            declared_unknown_at: attempt.declared_unknown_at,
            has_server_failed: attempt.has_server_failed,
            feedback_at: attempt.feedback_at,
            started_at: attempt.started_at,
            finished_at: attempt.finished_at,
        }));
        history.dead_letters.extend(row.dead_letters.iter().map(|letter| DeadLetter {
            tenant,
            id: None,
            delivery: Some(id),
            reason: letter.reason.clone(),
            is_redriven: letter.is_redriven,
        }));
    }
    history.calls.extend(world.provider.borrow().calls.iter().map(|call| ProviderCall {
        at: clock_at(call.at),
        notification: Some(notification_id(call.mail.delivery)),
        attempt: Some(call.mail.attempt),
        tenant: Some(tenant_id(call.mail.tenant)),
        address: world.plan.addresses[call.mail.address].name.clone(),
        was_accepted: call.was_accepted,
    }));
    for (name, queue) in world.queues.borrow().iter() {
        history.left_messages.extend(queue.bodies().map(|(id, body)| LeftMessage {
            queue: *name,
            message_id: id.to_string(),
            delivery: match body {
                Body::Delivery { tenant, delivery } => Some((tenant_id(*tenant), delivery_id(*delivery))),
                Body::Poison | Body::Event(_) => None,
            },
        }));
    }
    let waited = world.now().saturating_sub(world.plan.clear_at.max(world.plan.last_planned_at()));
    history.measures.push(Measure {
        name: "seconds from the last fault until nothing was left to do".to_owned(),
        value: (waited / SECOND) as f64,
        limit: bound_seconds(&world.plan),
    });
    history.measures.push(Measure {
        name: "messages in flight at once".to_owned(),
        value: world.with_queue(QueueName::Deliveries, |queue| queue.in_flight_peak) as f64,
        limit: IN_FLIGHT_LIMIT as f64,
    });
    history
}
