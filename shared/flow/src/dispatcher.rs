//! Brings everything whose time has come: batches and debounces (see `collections`), scheduled deliveries, parked retries,
//! rows whose message never reached the queue, ended leases, unknown outcomes, requests that came through the SQL door
//! (see `door`), and events that are still in the outbox. Then it seals the audit log.
//!
//! The cast: `store::due_deliveries` takes a bounded batch and locks it, `domain::due` decides each, one statement
//! writes them all, and only then the queue is asked. Two dispatchers at once pass over each other's rows.
//! A crash between writing and publishing loses a hint: each written row is due again later.

use crate::collections::close_collections;
use crate::door::accept_requests;
use crate::job::Done;
use crate::outbox::publish_events;
use crate::progress::Progress;
use crate::time_left::has_time;
use adapters::store::audit::{Sealing, seal_across_tenants};
use adapters::store::claims::DeliveryKey;
use adapters::store::database::{Database, StoreError};
use adapters::store::due_deliveries::{
    TakenDelivery, read_waiting_events_across_tenants, release_across_tenants, take_due_across_tenants,
};
use adapters::telemetry::chain;
use adapters::wire::audit::print_hash;
use adapters::wire::queue_message::print_message;
use domain::delivery::Reason;
use domain::due::{DueStep, decide_due};
use domain::event::EventBus;
use domain::link::PublicUrl;
use domain::queue::{DeadMessage, DeliveryMessage, Publication, Queue};
use serde_json::{Value, json};
use std::time::Instant;

/// Deliveries taken at a time: a short transaction, and fifty queue calls side by side.
const BATCH: u32 = 500;
/// Rows of the audit log that one statement seals: about a second of the database's time.
const SEALED_ROWS: i32 = 50_000;

/// The flow with what it needs.
pub struct Dispatcher<Q, B> {
    /// As `harkara_worker`.
    pub database: Database,
    /// The deliveries queue and its dead-letter queue.
    pub queue: Q,
    /// The project's bus.
    pub bus: B,
    /// Where the API is reached, for links in messages.
    pub public_url: PublicUrl,
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DispatchCounts {
    /// Messages on the queue.
    pub published: usize,
    /// Messages that the queue did not take; their deliveries are due again at once.
    pub not_taken: usize,
    /// Leases that had ended.
    pub leases_ended: usize,
    /// Deliveries that ended here.
    pub ended: usize,
    /// Messages for the dead-letter queue.
    pub buried: usize,
    /// Events on the bus.
    pub events: usize,
    /// Batches and debounces that were closed.
    pub closed: usize,
    /// Requests of the SQL door that became notifications.
    pub requests: usize,
    /// Requests of the SQL door that were refused.
    pub requests_refused: usize,
    /// The longest that a request of the SQL door has waited since its domain's transaction began, in milliseconds.
    pub requests_longest_wait_ms: u64,
    /// Whether more was due when the deadline was near.
    pub leaves_work: bool,
}

impl DispatchCounts {
    /// As the function answers.
    pub fn print(&self) -> Value {
        let Self {
            published, not_taken, leases_ended, ended, buried, events, closed, requests, requests_refused, ..
        } = self;
        json!({
            "published": published, "not_taken": not_taken, "leases_ended": leases_ended, "ended": ended,
            "buried": buried, "events": events, "closed": closed, "requests": requests,
            "requests_refused": requests_refused, "requests_longest_wait_ms": self.requests_longest_wait_ms,
        })
    }
}

impl From<DispatchCounts> for Done {
    fn from(counts: DispatchCounts) -> Self {
        Self { counts: counts.print(), leaves_work: counts.leaves_work }
    }
}

/// What one batch came to.
struct Turn {
    taken: usize,
    refused: usize,
    is_full: bool,
}

impl Turn {
    /// A full batch leaves more. Where most of it is refused, going on would take the same rows again and again.
    fn leaves_more(&self) -> bool {
        self.is_full && self.refused * 2 < self.taken
    }
}

/// A batch's steps, sorted by whom they concern.
#[derive(Default)]
struct Sorted {
    publications: Vec<Publication>,
    published: Vec<DeliveryKey>,
    dead: Vec<DeadMessage>,
    buried: Vec<DeliveryKey>,
}

impl<Q: Queue + Sync, B: EventBus + Sync> Dispatcher<Q, B> {
    /// Works until nothing is due or the deadline is near.
    pub async fn dispatch_due(&self, deadline: Instant, progress: &Progress<'_>) -> Result<DispatchCounts, StoreError> {
        adapters::failpoint!("S1_tick", Err(StoreError::Corrupt("failpoint")));
        let mut counts = DispatchCounts::default();
        // By turns, so that a long backlog of the one does not hold up the others.
        let (mut more_requests, mut more_collections) = (true, true);
        let (mut more_deliveries, mut more_events) = (true, true);
        while (more_requests || more_collections || more_deliveries || more_events) && has_time(deadline) {
            if more_requests {
                more_requests = self.dispatch_requests(deadline, &mut counts).await?;
            }
            if more_collections {
                let closed = close_collections(&self.database, &self.queue, &self.public_url, deadline).await?;
                counts.closed += closed.closed;
                counts.published += closed.published;
                counts.not_taken += closed.not_taken;
                more_collections = closed.leaves_more;
                // Members that leave by themselves are due now.
                more_deliveries |= closed.closed > 0;
            }
            if more_deliveries {
                more_deliveries = self.dispatch_deliveries(&mut counts).await?.leaves_more();
            }
            if more_events {
                more_events = self.dispatch_events(&mut counts).await?.leaves_more();
            }
            progress.note(counts).await;
        }
        counts.leaves_work = more_requests || more_collections || more_deliveries || more_events;
        tracing::info!(counts = %counts.print(), leaves_work = counts.leaves_work, "dispatched what was due");
        while has_time(deadline) && seal_audit(&self.database).await {}
        adapters::failpoint!("S6_done", Err(StoreError::Corrupt("failpoint")));
        Ok(counts)
    }

    async fn dispatch_requests(&self, deadline: Instant, counts: &mut DispatchCounts) -> Result<bool, StoreError> {
        let turn = accept_requests(&self.database, &self.queue, deadline).await?;
        counts.requests += turn.accepted;
        counts.requests_refused += turn.refused;
        counts.requests_longest_wait_ms = counts.requests_longest_wait_ms.max(turn.longest_wait_ms);
        Ok(turn.leaves_more)
    }

    async fn dispatch_deliveries(&self, counts: &mut DispatchCounts) -> Result<Turn, StoreError> {
        let batch = take_due_across_tenants(&self.database, BATCH).await?;
        let (taken, is_full) = (batch.deliveries.len(), batch.leaves_more);
        if taken == 0 {
            return Ok(Turn { taken: 0, refused: 0, is_full: false });
        }
        let steps: Vec<DueStep> = batch.deliveries.iter().map(|taken| decide_due(&taken.due)).collect();
        let sorted = sort_steps(&batch.deliveries, &steps);
        batch.write_steps(&steps).await?;

        adapters::failpoint!("S5_publish", Err(StoreError::Corrupt("failpoint")));
        let (unpublished, unburied) =
            tokio::join!(self.queue.publish(&sorted.publications), self.queue.bury(&sorted.dead));
        adapters::failpoint!("S5_published", Err(StoreError::Corrupt("failpoint")));
        let refused: Vec<DeliveryKey> = unpublished
            .0
            .iter()
            .filter_map(|place| sorted.published.get(*place))
            .chain(unburied.0.iter().filter_map(|place| sorted.buried.get(*place)))
            .copied()
            .collect();
        release_across_tenants(&self.database, &refused).await?;

        counts.published += sorted.published.len() - unpublished.0.len();
        counts.buried += sorted.buried.len() - unburied.0.len();
        counts.not_taken += refused.len();
        counts.leases_ended += steps.iter().filter(|step| matches!(step, DueStep::AwaitFeedback { .. })).count();
        counts.ended += steps.iter().filter(|step| matches!(step, DueStep::End(..))).count();
        Ok(Turn { taken, refused: refused.len(), is_full })
    }

    async fn dispatch_events(&self, counts: &mut DispatchCounts) -> Result<Turn, StoreError> {
        let events = read_waiting_events_across_tenants(&self.database, BATCH).await?;
        let published = publish_events(&self.database, &self.bus, &events).await?;
        counts.events += published.taken;
        Ok(Turn { taken: events.len(), refused: published.refused, is_full: events.len() == BATCH as usize })
    }
}

/// Seals what can be sealed of the audit log, and says whether there is more. It fails nobody: what is not sealed now is
/// sealed later, and so far nobody can be shown that it was not changed.
async fn seal_audit(database: &Database) -> bool {
    match seal_across_tenants(database, SEALED_ROWS).await {
        Ok(Some(sealing)) => {
            log_heads(&sealing);
            sealing.leaves_more
        }
        // Another dispatcher is at it.
        Ok(None) => false,
        Err(error) => {
            tracing::error!(metric = "audit_not_sealed", error = chain(&error), "the audit log was not sealed");
            false
        }
    }
}

/// The digest is what the chains are compared with: whoever may write the database cannot write this log.
fn log_heads(sealing: &Sealing) {
    let Sealing { block_count, row_count, heads_hash, sealed_to, sealed_at, leaves_more: _ } = sealing;
    if let Some(heads) = heads_hash {
        tracing::info!(
            audit_heads = print_hash(heads),
            %sealed_at,
            sealed_to,
            block_count,
            row_count,
            "sealed {row_count} rows of the audit log"
        );
    }
}

fn sort_steps(taken: &[TakenDelivery], steps: &[DueStep]) -> Sorted {
    let mut sorted = Sorted::default();
    for (taken, step) in taken.iter().zip(steps) {
        let message = DeliveryMessage {
            tenant: taken.key.tenant,
            delivery: taken.key.delivery,
            traceparent: taken.traceparent.clone(),
        };
        match *step {
            DueStep::Publish { delay, .. } => {
                sorted.publications.push(Publication { message, delay });
                sorted.published.push(taken.key);
            }
            DueStep::DeadLetter(_) => {
                sorted.dead.push(DeadMessage {
                    body: print_message(&message),
                    reason: Reason::AttemptsUsedUp.as_str().to_owned(),
                    detail: taken.reason_detail.clone().unwrap_or_default(),
                    receive_count: 0,
                    sent_at_millis: None,
                });
                sorted.buried.push(taken.key);
            }
            DueStep::AwaitFeedback { .. } | DueStep::End(..) => {}
        }
    }
    sorted
}
