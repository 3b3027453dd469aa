//! Runs the jobs that tenants' domains have registered: notifications of a view's rows, and calls of a function or an
//! endpoint.
//!
//! The cast: `store::domain_job_runs` takes one due job of a tenant, and in the same transaction its run begins (a row of
//! `job_runs` with a lease) and its clock moves on to its schedule's next time: whatever runs beside this passes it over.
//! The work follows outside that transaction, and in one that ends the run. Whoever dies between the two is found dead after
//! the lease, and the job is run again: a missed run, a failed clock and a killed one are made up for by one run.
//!
//! Several jobs run side by side, one of each tenant at a time, so that nobody waits for another's slow view.
//! A job that fails is on record with a code, stops no other, and is told to its tenant's operators when it keeps failing.

mod candidates;
mod endpoint;

use crate::domain_job::candidates::{MakeError, make_notifications};
use crate::domain_job::endpoint::call_endpoint;
use crate::job::Done;
use crate::job_alert::{FailingJob, alert_if_failing};
use adapters::endpoint::EndpointClient;
use adapters::envelope::Envelope;
use adapters::ids::new_uuid;
use adapters::store::database::{Database, StoreError, TenantTransaction};
use adapters::store::domain_job_runs::{
    DueJob, JobMessage, call_function, list_job_tenants_across_tenants, postpone_job, start_clock, stop_clock,
    take_due_job,
};
use adapters::store::job_runs::{Begun, Ending, FailedRun, begin_job_run_within, end_job_run_within};
use adapters::telemetry::chain;
use adapters::wire::domain_jobs::read_kept_work;
use domain::domain_job::Work;
use domain::id::{JobRunId, TenantId};
use domain::job::Trigger;
use domain::moment::TimeZoneName;
use domain::queue::Queue;
use domain::schedule::Schedule;
use domain::secret::KeyService;
use futures::StreamExt;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Whom the audit log names.
const ACTOR: &str = "domain_job";
/// Jobs at work at a time, each with a connection.
const SIDE_BY_SIDE: usize = 3;
/// What a run has beyond its job's own time, to make notifications of what it read and to end.
const WRAP_UP: Duration = Duration::from_secs(30);
/// Nothing new is taken with less time than this left beyond its own.
const RESERVE: Duration = Duration::from_secs(10);
/// How long a job waits whose earlier run may still be at work.
const OVERLAP_WAIT: Duration = Duration::from_secs(30);
/// How long a job waits that cannot be read: a release that knows more has written it.
const UNREADABLE_WAIT: Duration = Duration::from_secs(3600);

/// The flow with what it needs.
pub struct DomainJobs<Q, K> {
    /// As `harkara_worker`, with a connection for each job at work.
    pub database: Database,
    /// The deliveries queue.
    pub queue: Q,
    /// Opens what signs the calls of endpoints.
    pub envelope: Envelope<K>,
    /// The way to endpoints.
    pub endpoints: EndpointClient,
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DomainJobCounts {
    /// Jobs that did their work.
    pub succeeded: usize,
    /// Jobs that failed.
    pub failed: usize,
    /// Notifications that candidates became.
    pub created: usize,
    /// Whether more was due when the deadline was near.
    pub leaves_work: bool,
}

impl DomainJobCounts {
    /// As the function answers.
    pub fn print(&self) -> Value {
        let Self { succeeded, failed, created, leaves_work: _ } = self;
        json!({"succeeded": succeeded, "failed": failed, "created": created})
    }
}

impl From<DomainJobCounts> for Done {
    fn from(counts: DomainJobCounts) -> Self {
        Self { counts: counts.print(), leaves_work: counts.leaves_work }
    }
}

/// What became of a look at one tenant.
enum Turn {
    /// Nothing that can be run now.
    Idle,
    /// A job did its work, and so many notifications came of it.
    Succeeded(usize),
    /// A job failed.
    Failed,
}

/// A run that has begun.
struct Run {
    tenant: TenantId,
    id: JobRunId,
    job: DueJob,
    work: Work,
    /// What its endpoint is told, if it has one.
    message: JobMessage,
    /// When its lease ends, with room for its end.
    deadline: Instant,
}

/// What a job did.
struct Finished {
    counts: Value,
    created: usize,
    leaves_work: bool,
}

impl<Q: Queue + Sync, K: KeyService> DomainJobs<Q, K> {
    /// Runs everything that is due, until nothing is or the deadline is near.
    pub async fn run(&self, deadline: Instant) -> Result<DomainJobCounts, StoreError> {
        let mut counts = DomainJobCounts::default();
        loop {
            let tenants = list_job_tenants_across_tenants(&self.database).await?;
            if !tenants.is_empty() && find_time(deadline).is_none() {
                counts.leaves_work = true;
                break;
            }
            let turns = tenants.into_iter().map(|tenant| Box::pin(self.look_at(tenant, deadline)));
            let turns: Vec<_> = futures::stream::iter(turns).buffer_unordered(SIDE_BY_SIDE).collect().await;
            let mut is_idle = true;
            for turn in turns {
                match turn? {
                    Turn::Idle => continue,
                    Turn::Succeeded(created) => {
                        counts.succeeded += 1;
                        counts.created += created;
                    }
                    Turn::Failed => counts.failed += 1,
                }
                is_idle = false;
            }
            if is_idle {
                break;
            }
        }
        let DomainJobCounts { succeeded, failed, created, leaves_work } = counts;
        tracing::info!(succeeded, failed, created, leaves_work, "ran the domains' jobs");
        Ok(counts)
    }

    /// Runs the tenant's job that is longest due, if there is time for it.
    async fn look_at(&self, tenant: TenantId, deadline: Instant) -> Result<Turn, StoreError> {
        let Some(most) = find_time(deadline) else { return Ok(Turn::Idle) };
        match self.look_within(tenant, most).await {
            Err(error @ (StoreError::Unavailable(_) | StoreError::Secret(_) | StoreError::Url)) => Err(error),
            // A run that has begun is found dead after its lease, and is made up for.
            Err(error) => {
                tracing::error!(
                    metric = "domain_job_put_off",
                    tenant_id = %tenant,
                    error = chain(&error),
                    "a job of tenant {tenant} could not be run"
                );
                Ok(Turn::Idle)
            }
            Ok(turn) => Ok(turn),
        }
    }

    async fn look_within(&self, tenant: TenantId, most: Duration) -> Result<Turn, StoreError> {
        let Some((run, dead)) = self.begin(tenant, most).await? else { return Ok(Turn::Idle) };
        let (key, run_id) = (&run.job.key, run.id);
        tracing::info!(metric = "domain_job_started", tenant_id = %tenant, job = key, %run_id, "run {run_id} of {key}");
        if let Some(dead) = dead {
            tracing::error!(metric = "domain_job_died", tenant_id = %tenant, job = key, run_id = %dead.id, "{key} has died");
            self.alert(&run, &dead).await;
        }
        let done = match &run.work {
            Work::Function(function) => {
                let mut transaction = self.database.begin(tenant, ACTOR).await?;
                match call_function(&mut transaction, function, ACTOR, run.job.timeout).await {
                    // What it did and that it did it last together, or not at all.
                    Ok(()) => {
                        end_well(&mut transaction, &run, &json!({"called": 1}), false).await?;
                        transaction.commit().await?;
                        return Ok(Turn::Succeeded(0));
                    }
                    Err(error) => {
                        drop(transaction);
                        Err(MakeError::from(error))
                    }
                }
            }
            Work::Candidates(candidates) => make_notifications(&self.database, &self.queue, &run, candidates).await,
            Work::Endpoint(url) => call_endpoint(&self.database, &self.envelope, &self.endpoints, &run, url).await,
        };
        match done {
            Ok(Finished { counts, created, leaves_work }) => {
                let mut transaction = self.database.begin(tenant, ACTOR).await?;
                end_well(&mut transaction, &run, &counts, leaves_work).await?;
                transaction.commit().await?;
                Ok(Turn::Succeeded(created))
            }
            Err(error) => {
                self.fail(&run, &error).await?;
                Ok(Turn::Failed)
            }
        }
    }

    /// Takes a job and begins its run, in one transaction; also answers with the run before it, where that was found dead.
    async fn begin(&self, tenant: TenantId, most: Duration) -> Result<Option<(Run, Option<FailedRun>)>, StoreError> {
        let mut transaction = match self.database.begin(tenant, ACTOR).await {
            Err(StoreError::TenantInactive) => return Ok(None),
            begun => begun?,
        };
        let Some(job) = take_due_job(&mut transaction, most).await? else {
            transaction.roll_back().await?;
            return Ok(None);
        };
        let Some((next_due_at, work)) = read_job(&job) else {
            tracing::error!(metric = "domain_job_put_off", tenant_id = %tenant, job = job.key, "a job cannot be read");
            postpone_job(&mut transaction, &job.key, UNREADABLE_WAIT).await?;
            transaction.commit().await?;
            return Ok(None);
        };
        let (id, trigger) = match &job.requested {
            Some((id, by)) => (*id, Trigger::Request { run: Some(*id), by: by.clone() }),
            None => (JobRunId::from_uuid(new_uuid()), Trigger::Schedule),
        };
        let lease = job.timeout + WRAP_UP;
        let deadline = Instant::now() + lease;
        let begun = begin_job_run_within(&mut transaction, &job.key, id, &trigger, lease).await?;
        let Begun::Started(dead) = begun else {
            // Whatever holds the lease ends, or is found dead.
            postpone_job(&mut transaction, &job.key, OVERLAP_WAIT).await?;
            transaction.commit().await?;
            return Ok(None);
        };
        // A little behind the lease, so that whoever looks then finds it over.
        let lease = lease + Duration::from_secs(1);
        let message = start_clock(&mut transaction, &job.key, id, next_due_at, lease).await?;
        transaction.commit().await?;
        Ok(Some((Run { tenant, id, job, work, message, deadline }, dead)))
    }

    async fn fail(&self, run: &Run, error: &MakeError) -> Result<(), StoreError> {
        let (key, code) = (&run.job.key, error.code());
        tracing::warn!(
            metric = "domain_job_failed",
            tenant_id = %run.tenant,
            job = key,
            run_id = %run.id,
            code,
            "run {} of {key} failed",
            run.id
        );
        let mut transaction = self.database.begin(run.tenant, ACTOR).await?;
        let ending = Ending::Failed { error_code: &code };
        let failed = end_job_run_within(&mut transaction, key, run.id, ending).await?;
        stop_clock(&mut transaction, key, run.id, false).await?;
        transaction.commit().await?;
        if let Some(failed) = failed {
            self.alert(run, &failed).await;
        }
        Ok(())
    }

    async fn alert(&self, run: &Run, failed: &FailedRun) {
        let description = run.work.describe();
        let failing = FailingJob { tenant: run.tenant, name: &run.job.key, description: &description, is_own: false };
        alert_if_failing(&self.database, &self.queue, &failing, failed).await;
    }
}

async fn end_well(
    transaction: &mut TenantTransaction,
    run: &Run,
    counts: &Value,
    leaves_work: bool,
) -> Result<(), StoreError> {
    let ending = Ending::Succeeded { counts, leaves_work };
    end_job_run_within(transaction, &run.job.key, run.id, ending).await?;
    stop_clock(transaction, &run.job.key, run.id, leaves_work).await
}

/// When a taken job is due next, and what it does.
fn read_job(job: &DueJob) -> Option<(Option<Timestamp>, Work)> {
    let schedule = Schedule::parse(&job.schedule).ok()?;
    let zone = TimeZoneName::parse(&job.time_zone).ok()?.zone();
    Some((schedule.next_after(job.anchored_at, job.now, &zone), read_kept_work(&job.definition)?))
}

/// The most time that a job's own statement may take now; `None` where there is none left.
fn find_time(deadline: Instant) -> Option<Duration> {
    let left = deadline.saturating_duration_since(Instant::now()).checked_sub(RESERVE)?;
    (left >= Duration::from_secs(1)).then_some(left)
}
