//! Fires the steps of escalations until somebody acknowledges, or none is left.
//!
//! The cast: `store::escalation_steps` finds tenants of which something is due and locks a bounded batch of one of them,
//! `domain::escalation` decides what comes next for each, `creation` makes the notifications, and one statement writes what
//! was fired and when the next step is due, all in one transaction. So whatever overlaps, repeats or dies half-way fires
//! each step once, and an acknowledgement that was committed before finds nothing fired after it.
//! It never calls a provider. What the queue does not take, the dispatcher publishes.
//!
//! Where each has to acknowledge, and the last who has not is erased, the others' word is enough.
//!
//! After hours without a run, an escalation fires the one step that is due, and the others at their distances from it. A step
//! that reaches nobody is noted with its reason and told, and the next one fires at once.
//! Each run ends with a proof of its work: every open escalation has an end, or a next step that is not long past; see `stranded`.
//! What cannot be read is given up with a reason, and what cannot be stored is put off; neither stops the others.
//! Of what takes the database too long, fewer are taken at a time, once the other tenants have had their turns.

mod answering;
mod firing;
mod starting;
mod telling;

pub(crate) use answering::{AnswerResult, acknowledge_within, resolve_within};
pub(crate) use firing::{fill_data, meant};
pub use starting::{Start, StartRefusal, Started, start_within};

use crate::job::Done;
use crate::progress::Progress;
use crate::stranded::audit_escalations;
use crate::time_left::has_time;
use adapters::store::database::{Database, StoreError, TenantTransaction};
use adapters::store::escalation_steps::{
    hasten_failed_across_tenants, list_due_tenants_across_tenants, lock_due, lock_one_due, put_off, read_due,
};
use adapters::telemetry::chain;
use domain::id::{EscalationId, TenantId};
use domain::queue::{Publication, Queue};
use firing::{MOST_RECIPIENTS, fire};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::Instant;

/// Escalations of one transaction; of those that are large, or whose steps mean very many, fewer are taken.
const BATCH: u32 = 200;
/// Tenants that are asked for at a time.
const TENANTS: u32 = 100;
/// Escalations that a run makes due because all that was sent has failed.
const HASTENED: u32 = 1000;
/// How long what cannot be stored is put off, in seconds.
const PUT_OFF_SECONDS: u32 = 300;
/// Whom the audit log names.
const ACTOR: &str = "escalation";

/// The flow with what it needs.
pub struct Escalation<Q> {
    /// As `harkara_worker`.
    pub database: Database,
    /// The deliveries queue.
    pub queue: Q,
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EscalationCounts {
    /// Steps that reached somebody.
    pub fired: usize,
    /// Steps that reached nobody.
    pub unreached: usize,
    /// Notifications that they became.
    pub notifications: usize,
    /// Escalations that waited only for somebody who was erased, when others had acknowledged them.
    pub acknowledged: usize,
    /// Escalations of which every step had fired.
    pub exhausted: usize,
    /// Escalations that were given up.
    pub canceled: usize,
    /// Escalations that could not be dealt with, and are due again later.
    pub put_off: usize,
    /// Open escalations that have no next step, or one that is long past.
    pub stranded: usize,
    /// Whether more was due when the deadline was near.
    pub leaves_work: bool,
}

impl From<EscalationCounts> for Done {
    fn from(counts: EscalationCounts) -> Self {
        Self { counts: counts.print(), leaves_work: counts.leaves_work }
    }
}

impl EscalationCounts {
    /// As the function answers.
    pub fn print(&self) -> Value {
        let Self {
            fired,
            unreached,
            notifications,
            acknowledged,
            exhausted,
            canceled,
            put_off,
            stranded,
            leaves_work: _,
        } = self;
        json!({
            "fired": fired, "unreached": unreached, "notifications": notifications, "acknowledged": acknowledged,
            "exhausted": exhausted, "canceled": canceled, "put_off": put_off, "stranded": stranded,
        })
    }

    fn add(&mut self, other: Self) {
        let Self { fired, unreached, notifications, acknowledged, exhausted, canceled, put_off, stranded, leaves_work } =
            other;
        self.fired += fired;
        self.unreached += unreached;
        self.notifications += notifications;
        self.acknowledged += acknowledged;
        self.exhausted += exhausted;
        self.canceled += canceled;
        self.put_off += put_off;
        self.stranded += stranded;
        self.leaves_work |= leaves_work;
    }
}

/// How much of a tenant's one transaction takes.
#[derive(Clone, Copy)]
struct Share {
    escalations: u32,
    recipients: usize,
}

impl Share {
    const WHOLE: Self = Self { escalations: BATCH, recipients: MOST_RECIPIENTS };

    /// `None` where it is one already.
    fn fewer(self) -> Option<Self> {
        let Self { escalations, recipients } = self;
        let fewer = Self { escalations: escalations.div_ceil(8), recipients: recipients.div_ceil(8) };
        (escalations > 1).then_some(fewer)
    }
}

/// What a tenant's turn came to.
enum Turn {
    /// Nothing more can be done for it in this run.
    Over,
    /// There may be more, of which so much is to be taken.
    Again(Share),
}

/// What was done within a transaction: to be counted and published once it is committed.
#[derive(Default)]
pub(crate) struct FiredBatch {
    pub(crate) counts: EscalationCounts,
    pub(crate) publications: Vec<Publication>,
}

impl<Q: Queue + Sync> Escalation<Q> {
    /// Works until nothing is due or the deadline is near.
    pub async fn run(&self, deadline: Instant, progress: &Progress<'_>) -> Result<EscalationCounts, StoreError> {
        adapters::failpoint!("X1_tick", Err(StoreError::Corrupt("failpoint")));
        let mut counts = EscalationCounts::default();
        // Where it fails, so does the run, with the rest of its work done.
        let hastened = hasten_failed_across_tenants(&self.database, HASTENED).await;
        // Of which nothing more can be done in this run.
        let mut done: Vec<TenantId> = Vec::new();
        // Of which less is taken than of others.
        let mut shares: HashMap<TenantId, Share> = HashMap::new();
        loop {
            let tenants = list_due_tenants_across_tenants(&self.database, &done, TENANTS).await?;
            if tenants.is_empty() {
                break;
            }
            if !has_time(deadline) {
                counts.leaves_work = true;
                break;
            }
            for tenant in tenants {
                if !has_time(deadline) {
                    break;
                }
                let share = shares.get(&tenant).copied().unwrap_or(Share::WHOLE);
                match self.fire_tenant(tenant, share, deadline, &mut counts).await? {
                    Turn::Over => done.push(tenant),
                    Turn::Again(share) => drop(shares.insert(tenant, share)),
                }
                progress.note(counts).await;
            }
        }
        counts.stranded = audit_escalations(&self.database).await?;
        hastened?;
        tracing::info!(counts = %counts.print(), leaves_work = counts.leaves_work, "fired what was due");
        Ok(counts)
    }

    /// Fires a batch of a tenant.
    async fn fire_tenant(
        &self,
        tenant: TenantId,
        share: Share,
        deadline: Instant,
        counts: &mut EscalationCounts,
    ) -> Result<Turn, StoreError> {
        if let Some(fewer) = share.fewer() {
            match self.fire_batch(tenant, share).await {
                Ok(None) | Err(StoreError::TenantInactive) => return Ok(Turn::Over),
                Ok(Some(batch)) => {
                    counts.add(batch.counts);
                    self.queue.publish(&batch.publications).await;
                    adapters::failpoint!("X6_published", Err(StoreError::Corrupt("failpoint")));
                    return Ok(Turn::Again(share));
                }
                Err(error) if error.stops_all() => return Err(error),
                Err(error @ StoreError::TimedOut(_)) => {
                    tracing::warn!(tenant_id = %tenant, error = chain(&error), "fewer escalations are taken at a time");
                    return Ok(Turn::Again(fewer));
                }
                // One of them, or one of their recipients, is in the way of all.
                Err(error) => {
                    tracing::warn!(tenant_id = %tenant, error = chain(&error), "escalations are dealt with one by one");
                }
            }
        }
        match self.fire_one_by_one(tenant, deadline, counts).await {
            // Nothing of these is due any more, but perhaps more is behind them.
            Ok(true) => Ok(Turn::Again(share)),
            // It was suspended meanwhile.
            Ok(false) | Err(StoreError::TenantInactive) => Ok(Turn::Over),
            Err(error) if error.stops_all() => Err(error),
            Err(error) => {
                tracing::error!(
                    metric = "escalation_put_off",
                    tenant_id = %tenant,
                    error = chain(&error),
                    "escalations of tenant {tenant} are left for the next run"
                );
                Ok(Turn::Over)
            }
        }
    }

    async fn fire_batch(&self, tenant: TenantId, share: Share) -> Result<Option<FiredBatch>, StoreError> {
        let mut transaction = self.database.begin(tenant, ACTOR).await?;
        let ids = lock_due(&mut transaction, share.escalations).await?;
        if ids.is_empty() {
            transaction.commit().await?;
            return Ok(None);
        }
        adapters::failpoint!("X2_locked", Err(StoreError::Corrupt("failpoint")));
        let due = read_due(&mut transaction, &ids).await?;
        let batch = fire(&mut transaction, ACTOR, due, share.recipients).await?;
        adapters::failpoint!("X4_written", Err(StoreError::Corrupt("failpoint")));
        transaction.commit().await?;
        adapters::failpoint!("X5_committed", Err(StoreError::Corrupt("failpoint")));
        Ok(Some(batch))
    }

    /// Fires a batch of a tenant, each in a transaction of its own, up to one that takes too long. False where nothing could
    /// be taken.
    async fn fire_one_by_one(
        &self,
        tenant: TenantId,
        deadline: Instant,
        counts: &mut EscalationCounts,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.database.begin(tenant, ACTOR).await?;
        let ids = lock_due(&mut transaction, BATCH).await?;
        transaction.roll_back().await?;
        let has_taken = !ids.is_empty();
        for id in ids {
            if !has_time(deadline) {
                counts.leaves_work = true;
                break;
            }
            match self.fire_one(tenant, id).await {
                Ok(batch) => {
                    counts.add(batch.counts);
                    self.queue.publish(&batch.publications).await;
                }
                Err(error) if error.stops_all() || matches!(error, StoreError::TenantInactive) => return Err(error),
                Err(error) => {
                    tracing::error!(
                        tenant_id = %tenant,
                        escalation_id = %id,
                        metric = "escalation_put_off",
                        error = chain(&error),
                        "escalation {id} is put off"
                    );
                    let mut transaction = self.database.begin(tenant, ACTOR).await?;
                    put_off(&mut transaction, id, PUT_OFF_SECONDS).await?;
                    telling::tell_put_off(&mut transaction, id, &error).await?;
                    transaction.commit().await?;
                    counts.put_off += 1;
                    // The others have waited for it.
                    if matches!(error, StoreError::TimedOut(_)) {
                        break;
                    }
                }
            }
        }
        Ok(has_taken)
    }

    async fn fire_one(&self, tenant: TenantId, id: EscalationId) -> Result<FiredBatch, StoreError> {
        let mut transaction = self.database.begin(tenant, ACTOR).await?;
        let batch = match lock_one_due(&mut transaction, id).await? {
            true => fire_within(&mut transaction, ACTOR, &[id]).await?,
            false => FiredBatch::default(),
        };
        transaction.commit().await?;
        Ok(batch)
    }
}

/// Fires what is due of these escalations, which the transaction has locked or made, or as much of it as one transaction
/// takes. The caller commits, and then publishes.
pub(crate) async fn fire_within(
    transaction: &mut TenantTransaction,
    actor: &str,
    ids: &[EscalationId],
) -> Result<FiredBatch, StoreError> {
    let due = read_due(transaction, ids).await?;
    fire(transaction, actor, due, MOST_RECIPIENTS).await
}
