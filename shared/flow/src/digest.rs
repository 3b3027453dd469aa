//! Closes digests: what recipients want to hear of by the hour, day or week leaves as one message for each of them.
//!
//! The cast: the processor puts aside what a cadence holds (`store::attempts`); `store::digests` takes what is due, tenant
//! by tenant; `domain::digest` decides about each recipient; `creation` makes the notifications, in the transaction that
//! marks what left with them. Categories with a rhythm of their own are closed place by place: by rounds.
//!
//! A period is closed once, because the database keeps one digest for it. A crash rolls a batch back, and the next run
//! takes it again. Should none run, the dispatcher sends each delivery by itself a day after its period's end; and where a
//! digest ends without being sent, what it holds goes by itself (`harkara.let_members_go`).

mod closing;
mod fitting;
mod rounds;

use crate::job::Done;
use crate::progress::Progress;
use crate::time_left::has_time;
use adapters::store::database::{Database, StoreError, TenantTransaction};
use adapters::store::digest_rounds::read_due_round;
use adapters::store::digests::{self as store, DigestContext, Fate};
use adapters::telemetry::chain;
use closing::{close_all, release_all};
use domain::digest::OpenDigest;
use domain::id::{DeliveryId, TenantId};
use domain::link::PublicUrl;
use domain::queue::Queue;
pub(crate) use fitting::{find_unfit, find_unfit_variables};
use rounds::{open_round, pass_over, plan_rounds};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::Instant;

/// Recipients whose digests one transaction closes.
const BATCH: u32 = 500;
/// Rounds that one transaction plans.
const PLANNED: u32 = 1000;
/// Deliveries that one transaction has decided about anew, for each recipient whose digests it may close.
const REVIEWED: u32 = 2;
/// Digests of a tenant that one run sets aside because the database does not store them: more are no accident.
const MOST_SET_ASIDE: usize = 10;
/// Who the audit log names.
const ACTOR: &str = "digest";

/// The flow with what it needs.
pub struct Digest<Q> {
    /// As `harkara_worker`.
    pub database: Database,
    /// The deliveries queue.
    pub queue: Q,
    /// Where the API is reached, for links in digests.
    pub public_url: PublicUrl,
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DigestCounts {
    /// Digests that left.
    pub digests: usize,
    /// Deliveries that left with them.
    pub members: usize,
    /// Deliveries that expired while they waited.
    pub expired: usize,
    /// Deliveries that wait for the next period, because theirs was closed.
    pub postponed: usize,
    /// Deliveries that go by themselves, because no digest can.
    pub released: usize,
    /// Digests that could not be made.
    pub refused: usize,
    /// Digests that the database did not store: what was to leave with them goes by itself.
    pub set_aside: usize,
    /// Deliveries that are decided about anew, because the tenant has changed what their waiting rests on.
    pub reviewed: usize,
    /// Transactions.
    pub batches: usize,
    /// Tenants of which not everything could be closed.
    pub failed_tenants: usize,
    /// Whether more was due when the deadline was near.
    pub leaves_work: bool,
}

impl DigestCounts {
    /// As the function answers.
    pub fn print(&self) -> Value {
        let Self {
            digests,
            members,
            expired,
            postponed,
            released,
            refused,
            set_aside,
            reviewed,
            batches,
            failed_tenants,
            leaves_work: _,
        } = self;
        json!({
            "digests": digests, "members": members, "expired": expired, "postponed": postponed, "released": released,
            "refused": refused, "set_aside": set_aside, "reviewed": reviewed, "batches": batches,
            "failed_tenants": failed_tenants,
        })
    }
}

impl DigestCounts {
    fn count(&mut self, fates: &[(DeliveryId, Fate)]) {
        for (_, fate) in fates {
            match fate {
                Fate::Absorbed(_) => self.members += 1,
                Fate::Expired => self.expired += 1,
                Fate::Postponed(_) => self.postponed += 1,
                Fate::Released => self.released += 1,
                Fate::Gone => {}
            }
        }
    }
}

impl From<DigestCounts> for Done {
    fn from(counts: DigestCounts) -> Self {
        Self { counts: counts.print(), leaves_work: counts.leaves_work }
    }
}

/// A tenant in line.
#[derive(Clone, Copy, Debug)]
struct Turn {
    tenant: TenantId,
    /// How many of its recipients are taken at a time.
    size: u32,
    set_aside: usize,
    /// Whether this run has planned its rounds: what changes meanwhile is the next run's.
    is_planned: bool,
}

/// What a batch leaves to be done.
struct Rest {
    is_planned: bool,
    leaves_more: bool,
}

impl Turn {
    fn new(tenant: TenantId) -> Self {
        Self { tenant, size: BATCH, set_aside: 0, is_planned: false }
    }
}

impl<Q: Queue + Sync> Digest<Q> {
    /// Works until nothing is due or the deadline is near. Tenants take turns, a batch each; one that fails is passed over.
    pub async fn run(&self, deadline: Instant, progress: &Progress<'_>) -> Result<DigestCounts, StoreError> {
        adapters::failpoint!("G1_tick", Err(StoreError::Corrupt("failpoint")));
        let mut counts = DigestCounts::default();
        let tenants = store::list_tenants_across_tenants(&self.database).await?;
        let mut line: VecDeque<Turn> = tenants.into_iter().map(Turn::new).collect();
        while has_time(deadline) {
            let Some(turn) = line.pop_front() else { break };
            line.extend(self.take_turn(turn, &mut counts).await);
            progress.note(counts).await;
        }
        counts.leaves_work = !line.is_empty();
        tracing::info!(counts = %counts.print(), leaves_work = counts.leaves_work, "closed what was due");
        Ok(counts)
    }

    /// Closes a batch of a tenant, and says whether and how its turn comes again.
    async fn take_turn(&self, turn: Turn, counts: &mut DigestCounts) -> Option<Turn> {
        let Turn { tenant, size, set_aside, is_planned: _ } = turn;
        let failed = match self.close_batch(turn, counts).await {
            Ok(Rest { is_planned, leaves_more }) => {
                return leaves_more.then_some(Turn { size: (size * 2).min(BATCH), is_planned, ..turn });
            }
            // What is suspended waits until it is not.
            Err(StoreError::TenantInactive) => return None,
            Err(error) => error,
        };
        // Whatever the database cannot store is found by taking fewer at a time, and then stands alone.
        if failed.is_of_rows() && size > 1 {
            tracing::warn!(tenant_id = %tenant, size, error = chain(&failed), "a batch of digests failed; fewer are tried");
            return Some(Turn { size: size.div_ceil(8), ..turn });
        }
        // What takes too long alone is no fault of its own: the next run tries it again.
        let is_at_fault = failed.is_of_rows() && !matches!(failed, StoreError::TimedOut(_));
        if is_at_fault && set_aside < MOST_SET_ASIDE {
            tracing::error!(tenant_id = %tenant, error = chain(&failed), "a digest cannot be closed, and is set aside");
            match self.set_first_aside(tenant, counts).await {
                Ok(()) => return Some(Turn { size: 2, set_aside: set_aside + 1, ..turn }),
                Err(error) => tracing::error!(tenant_id = %tenant, error = chain(&error), "it was not set aside"),
            }
        }
        counts.failed_tenants += 1;
        tracing::error!(tenant_id = %tenant, error = chain(&failed), "digests of {tenant} were not closed");
        None
    }

    /// Closes the digests of up to so many of a tenant's recipients, publishes their messages after the commit, and says
    /// what is left to be done.
    async fn close_batch(&self, turn: Turn, counts: &mut DigestCounts) -> Result<Rest, StoreError> {
        let mut transaction = self.database.begin(turn.tenant, ACTOR).await?;
        let Some(context) = store::try_lock(&mut transaction).await? else {
            transaction.roll_back().await?;
            return Ok(Rest { is_planned: turn.is_planned, leaves_more: false });
        };
        let to_review = turn.size * REVIEWED;
        let reviewed = store::review_waiting(&mut transaction, to_review).await?;
        let is_planned = turn.is_planned || plan_rounds(&mut transaction, &context).await?;
        let (open, may_have_more) = open_next(&mut transaction, &context, turn.size).await?;
        adapters::failpoint!("G2_locked", Err(StoreError::Corrupt("failpoint")));
        // The counts of what is rolled back do not count.
        let mut done = *counts;
        let publications = close_all(&mut transaction, &context, &open, &self.public_url, &mut done).await?;
        adapters::failpoint!("G4_written", Err(StoreError::Corrupt("failpoint")));
        transaction.commit().await?;
        adapters::failpoint!("G5_committed", Err(StoreError::Corrupt("failpoint")));
        done.batches += 1;
        done.reviewed += reviewed as usize;
        *counts = done;
        // What the queue does not take, the dispatcher publishes later.
        self.queue.publish(&publications).await;
        adapters::failpoint!("G6_published", Err(StoreError::Corrupt("failpoint")));
        Ok(Rest { is_planned, leaves_more: may_have_more || reviewed == to_review || !is_planned })
    }

    /// Lets what waits for the digest that comes first go by itself, so that it does not stand before the others.
    async fn set_first_aside(&self, tenant: TenantId, counts: &mut DigestCounts) -> Result<(), StoreError> {
        let mut transaction = self.database.begin(tenant, ACTOR).await?;
        let Some(context) = store::try_lock(&mut transaction).await? else {
            return transaction.roll_back().await;
        };
        let mut done = *counts;
        if let Some(round) = read_due_round(&mut transaction).await? {
            pass_over(&mut transaction, &context, &round).await?;
        } else {
            let mut open = store::read_due_digests(&mut transaction, &context, 1).await?;
            store::read_members(&mut transaction, &mut open).await?;
            release_all(&mut transaction, &open, &mut done).await?;
        }
        transaction.commit().await?;
        done.set_aside += 1;
        *counts = done;
        Ok(())
    }
}

/// What is to be closed next, a round before anything else, and whether there may be more.
async fn open_next(
    transaction: &mut TenantTransaction,
    context: &DigestContext,
    size: u32,
) -> Result<(Vec<OpenDigest>, bool), StoreError> {
    if let Some(round) = read_due_round(transaction).await? {
        return Ok((open_round(transaction, context, &round, size).await?, true));
    }
    let mut open = store::read_due_digests(transaction, context, size).await?;
    if !open.is_empty() {
        store::read_members(transaction, &mut open).await?;
    }
    // What somebody else has in hand is not asked for again in this run.
    let may_have_more = open.iter().any(|open| !open.members.is_empty());
    Ok((open, may_have_more))
}
