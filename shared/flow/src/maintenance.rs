//! Keeps what is kept within its time, each day: deletes what has ended long enough ago and what has expired, makes the
//! months of the histories ahead, and drops those that are over and empty. Before that, it looks whether anything open is
//! stranded; see `stranded`.
//!
//! The cast: `store::retention` calls the owner's functions, which alone may delete history and decide what that is, a
//! bounded part of one tenant's at a time, in one transaction each. Tenants have their turns, so that nobody's backlog
//! stands before another's. What is left when the time is over is there tomorrow, and a second run at the same time passes
//! over what the first holds. Of what takes the database too long, less is taken at a time.

use crate::job::Done;
use crate::progress::Progress;
use crate::stranded::audit_all;
use adapters::store::database::{Database, StoreError};
use adapters::store::retention::{
    Deleted, DroppedMonths, Place, keep_audit_months_across_tenants, keep_months_across_tenants, keep_retention,
    list_tenants_across_tenants,
};
use adapters::telemetry::chain;
use adapters::wire::audit::print_hash;
use domain::id::TenantId;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Notifications deleted in one transaction, with all that belongs to them and a row of the audit log for each row.
const BATCH: i32 = 200;
/// Nothing new is begun with less time than this left.
const RESERVE: Duration = Duration::from_secs(10);

/// The flow with what it needs.
pub struct Maintenance {
    /// As `harkara_worker`.
    pub database: Database,
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaintenanceCounts {
    /// Notifications deleted, with all that belongs to them.
    pub notifications: u64,
    /// Completed and passed deadlines deleted, with their rungs.
    pub deadlines: u64,
    /// Ended escalations deleted, with their steps.
    pub escalations: u64,
    /// Keys, slots, buckets and refused requests deleted.
    pub expired: u64,
    /// Notifications past their time that something else still refers to.
    pub kept: u64,
    /// Months dropped.
    pub months: u64,
    /// What is open and has no next step and no end.
    pub stranded: usize,
    /// Tenants whose turn failed; the log says why.
    pub failed: u64,
    /// Whether there was no time for all of it.
    pub is_cut_short: bool,
}

impl MaintenanceCounts {
    /// As the function answers.
    pub fn print(&self) -> Value {
        let Self { notifications, deadlines, escalations, expired, kept, months, stranded, failed, is_cut_short: _ } =
            self;
        json!({
            "notifications": notifications, "deadlines": deadlines, "escalations": escalations, "expired": expired,
            "kept": kept, "months": months, "stranded": stranded, "failed": failed,
        })
    }
}

impl From<MaintenanceCounts> for Done {
    fn from(counts: MaintenanceCounts) -> Self {
        Self { counts: counts.print(), leaves_work: counts.is_cut_short }
    }
}

impl MaintenanceCounts {
    fn add(&mut self, deleted: &Deleted) {
        let Deleted { notifications, deadlines, escalations, expired, kept, leaves_more: _, place: _ } = deleted;
        self.notifications += notifications;
        self.deadlines += deadlines;
        self.escalations += escalations;
        self.expired += expired;
        self.kept += kept;
    }
}

/// A tenant in line.
struct Turn {
    tenant: TenantId,
    /// How much of it is deleted at a time.
    limit: i32,
    /// How far it was looked through.
    place: Place,
}

impl Maintenance {
    /// Works until nothing is left to delete or the deadline is near.
    pub async fn run(&self, deadline: Instant, progress: &Progress<'_>) -> Result<MaintenanceCounts, StoreError> {
        adapters::failpoint!("M1_tick", Err(StoreError::Corrupt("failpoint")));
        let mut counts = MaintenanceCounts::default();
        let tenants = list_tenants_across_tenants(&self.database).await?;
        // First, so that no backlog stands before it; where it fails, so does the run, with the rest of its work done.
        let audited = audit_all(&self.database, &tenants).await;
        let turn = |tenant| Turn { tenant, limit: BATCH, place: Place::default() };
        let mut line: VecDeque<Turn> = tenants.into_iter().map(turn).collect();
        while deadline.saturating_duration_since(Instant::now()) > RESERVE
            && let Some(turn) = line.pop_front()
        {
            line.extend(self.take_turn(turn, &mut counts).await?);
            progress.note(counts).await;
        }
        counts.is_cut_short = !line.is_empty();
        if counts.is_cut_short {
            tracing::warn!(
                metric = "retention_cut_short",
                tenant_count = line.len(),
                "of {} tenants more is left than a run has time for",
                line.len()
            );
        }
        // After the rows, whose months they have emptied. Others at work in the histories are not made to wait for it.
        match self.keep_months().await {
            Ok(months) => {
                adapters::failpoint!("M3_months", Err(StoreError::Corrupt("failpoint")));
                counts.months = months;
            }
            // Or nobody waited, and the two were in each other's way.
            Err(error @ (StoreError::Busy(_) | StoreError::Conflict(_))) => {
                tracing::warn!(error = chain(&error), "the months are left for the next run");
            }
            Err(error) => return Err(error),
        }
        counts.stranded = audited?;
        tracing::info!(counts = %counts.print(), is_cut_short = counts.is_cut_short, "deleted what was kept long enough");
        Ok(counts)
    }

    /// Makes months and drops those that are over, of both histories; answers with how many were dropped.
    async fn keep_months(&self) -> Result<u64, StoreError> {
        let of_attempts = keep_months_across_tenants(&self.database).await?;
        let DroppedMonths { count, anchors_hash } = keep_audit_months_across_tenants(&self.database).await?;
        if let Some(anchors) = anchors_hash {
            // In another domain of trust than the database: what is missing from it, and nothing else, was dropped here.
            tracing::info!(
                month_count = count,
                anchors = print_hash(&anchors),
                "dropped {count} months of the audit log"
            );
        }
        Ok(of_attempts + count)
    }

    /// Deletes a batch of a tenant's, and says whether and how its turn comes again.
    async fn take_turn(&self, turn: Turn, counts: &mut MaintenanceCounts) -> Result<Option<Turn>, StoreError> {
        let Turn { tenant, limit, place } = turn;
        match keep_retention(&self.database, tenant, limit, &place).await {
            Ok(deleted) => {
                adapters::failpoint!("M2_deleted", Err(StoreError::Corrupt("failpoint")));
                counts.add(&deleted);
                Ok(deleted.leaves_more.then_some(Turn { tenant, limit, place: deleted.place }))
            }
            Err(error) if error.stops_all() => Err(error),
            Err(error @ StoreError::TimedOut(_)) if limit > 1 => {
                tracing::warn!(tenant_id = %tenant, limit, error = chain(&error), "less is deleted at a time");
                Ok(Some(Turn { tenant, limit: (limit / 8).max(1), place }))
            }
            Err(error) => {
                counts.failed += 1;
                tracing::error!(
                    metric = "retention_failed",
                    tenant_id = %tenant,
                    error = chain(&error),
                    "nothing more was deleted of tenant {tenant}"
                );
                Ok(None)
            }
        }
    }
}
