//! Runs the jobs that tenants' domains have registered: notifications of a view's rows, and calls of a function or an
//! endpoint.
//!
//! The cast: `store::domain_job_runs` takes one due job of a tenant, and in the same transaction its run begins (a row of
//! `job_runs` with a lease) and its clock moves on to its schedule's next time: whatever runs beside this passes it over.
//! The work follows outside that transaction, and in one that ends the run. Whoever dies between the two is found dead after
//! the lease, and the job is run again: a missed run, a failed clock and a killed one are made up for by one run.
//!
//! Several jobs run side by side, one of each tenant at a time, and tenants take turns; see `line`.
//! A job that fails is on record with a code, stops no other, and is told to its tenant's operators when it keeps failing.

mod candidates;
mod endpoint;
mod line;

use crate::domain_job::candidates::{MakeError, make_notifications};
use crate::domain_job::endpoint::call_endpoint;
use crate::domain_job::line::{Lane, Line};
use crate::job::Done;
use crate::job_alert::{FailingJob, alert_if_failing};
use crate::progress::Progress;
use adapters::endpoint::EndpointClient;
use adapters::envelope::Envelope;
use adapters::ids::new_uuid;
use adapters::store::database::{Database, StoreError, TenantTransaction};
use adapters::store::domain_job_runs::{
    DueJob, JobMessage, end_runs_of_removed_jobs_across_tenants, list_job_tenants_across_tenants, postpone_job,
    start_clock, stop_clock, take_due_job,
};
use adapters::store::granted::call_function;
use adapters::store::job_runs::{Begun, Ended, Ending, FailedRun, begin_job_run_within, end_job_run_within};
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
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Whom the audit log names.
const ACTOR: &str = "domain_job";
/// What a run has beyond its job's own time, to make notifications of what it read and to end.
const WRAP_UP: Duration = Duration::from_secs(30);
/// Nothing new is taken with less time than this left beyond its own.
const RESERVE: Duration = Duration::from_secs(10);
/// How long nobody looks for tenants that have become due while jobs are at work.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
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
    /// Jobs that ended after they were taken for dead, however they did: another run makes up for them.
    pub late: usize,
    /// Notifications that candidates became.
    pub created: usize,
    /// Whether more was due when the deadline was near.
    pub leaves_work: bool,
}

impl DomainJobCounts {
    /// As the function answers.
    pub fn print(&self) -> Value {
        let Self { succeeded, failed, late, created, leaves_work: _ } = self;
        json!({"succeeded": succeeded, "failed": failed, "late": late, "created": created})
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
    /// A job is put off, or is another runner's by now; there may be others.
    Passed,
    /// A job did its work, and so many notifications came of it.
    Succeeded(usize),
    /// A job failed.
    Failed,
    /// A job ended after it was taken for dead, and so many notifications came of it.
    Late(usize),
}

/// What was taken of a tenant.
enum Taken {
    /// Nothing that is due has room in the time.
    Nothing,
    /// A job that cannot be run now.
    PutOff,
    /// A run that has begun; and the run before it, where that was found dead.
    Run(Box<Run>, Option<FailedRun>),
}

/// A run that has begun.
struct Run {
    tenant: TenantId,
    id: JobRunId,
    job: DueJob,
    work: Work,
    /// What its endpoint is told, if it has one.
    message: JobMessage,
    /// When its lease ends or the function does.
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
    pub async fn run(&self, deadline: Instant, progress: &Progress<'_>) -> Result<DomainJobCounts, StoreError> {
        adapters::failpoint!("J1_tick", Err(StoreError::Corrupt("failpoint")));
        let begun = Instant::now();
        end_runs_of_removed_jobs_across_tenants(&self.database).await?;
        let (mut counts, mut broken) = (DomainJobCounts::default(), None);
        let (mut line, mut at_work) = (Line::default(), FuturesUnordered::new());
        loop {
            // Whatever is wrong, jobs that are at work end first: they would have to be run again.
            if broken.is_some() || find_time(deadline).is_none() {
                line.close();
            } else if line.is_to_be_read(begun.elapsed(), LOOK_AGAIN) {
                match list_job_tenants_across_tenants(&self.database).await {
                    Ok(tenants) => line.join(tenants, begun.elapsed()),
                    Err(error) => broken = Some(error),
                }
                continue;
            }
            while let Some((tenant, lane)) = line.take_turn() {
                let look = self.look_at(tenant, lane, deadline);
                at_work.push(Box::pin(async move { (tenant, look.await) }));
            }
            let (tenant, turn) = match tokio::time::timeout(LOOK_AGAIN, at_work.next()).await {
                Ok(Some(looked)) => looked,
                Ok(None) => break,
                Err(_) => continue,
            };
            line.end_turn(tenant, !matches!(turn, Ok(Turn::Idle)));
            match turn {
                Ok(Turn::Idle | Turn::Passed) => {}
                Ok(Turn::Succeeded(created)) => {
                    adapters::failpoint!("J9_done", Err(StoreError::Corrupt("failpoint")));
                    counts.succeeded += 1;
                    counts.created += created;
                }
                Ok(Turn::Failed) => counts.failed += 1,
                Ok(Turn::Late(created)) => {
                    counts.late += 1;
                    counts.created += created;
                }
                Err(error) => drop(broken.get_or_insert(error)),
            }
            progress.note(counts).await;
        }
        if let Some(error) = broken {
            return Err(error);
        }
        counts.leaves_work = !list_job_tenants_across_tenants(&self.database).await?.is_empty();
        let DomainJobCounts { succeeded, failed, late, created, leaves_work } = counts;
        tracing::info!(succeeded, failed, late, created, leaves_work, "ran the domains' jobs");
        Ok(counts)
    }

    /// Runs the tenant's job that is longest due, if there is time for it.
    async fn look_at(&self, tenant: TenantId, lane: Lane, deadline: Instant) -> Result<Turn, StoreError> {
        let Some(most) = find_time(deadline) else { return Ok(Turn::Idle) };
        match self.look_within(tenant, most.min(lane.most()), deadline).await {
            Err(error) if error.stops_all() => Err(error),
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

    async fn look_within(&self, tenant: TenantId, most: Duration, deadline: Instant) -> Result<Turn, StoreError> {
        let (run, dead) = match self.begin(tenant, most, deadline).await? {
            Taken::Nothing => return Ok(Turn::Idle),
            Taken::PutOff => return Ok(Turn::Passed),
            Taken::Run(run, dead) => (*run, dead),
        };
        let (key, run_id) = (&run.job.key, run.id);
        tracing::info!(metric = "domain_job_started", tenant_id = %tenant, job = key, %run_id, "run {run_id} of {key}");
        if let Some(dead) = dead {
            tracing::error!(metric = "domain_job_died", tenant_id = %tenant, job = key, run_id = %dead.id, "{key} has died");
            self.alert(&run, &dead).await;
        }
        let done = match &run.work {
            Work::Function(function) => {
                let mut transaction = self.database.begin(tenant, ACTOR).await?;
                match call_function(&self.database, &mut transaction, function, ACTOR, run.job.timeout).await {
                    // What it did and that it did it last together, or not at all.
                    Ok(()) => {
                        adapters::failpoint!("J4_called", Err(StoreError::Corrupt("failpoint")));
                        if !end_well(&mut transaction, &run, &json!({"called": 1}), false).await? {
                            transaction.roll_back().await?;
                            return Ok(end_late(&run, 0));
                        }
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
                let mut transaction = self.database.begin_even_suspended(tenant, ACTOR).await?;
                let is_in_time = end_well(&mut transaction, &run, &counts, leaves_work).await?;
                transaction.commit().await?;
                // What it did has lasted already, whoever does it again.
                Ok(if is_in_time { Turn::Succeeded(created) } else { end_late(&run, created) })
            }
            Err(error) => self.fail(&run, &error).await,
        }
    }

    /// Takes a job and begins its run, in one transaction.
    async fn begin(&self, tenant: TenantId, most: Duration, deadline: Instant) -> Result<Taken, StoreError> {
        let mut transaction = match self.database.begin(tenant, ACTOR).await {
            Err(StoreError::TenantInactive) => return Ok(Taken::Nothing),
            begun => begun?,
        };
        let Some(job) = take_due_job(&mut transaction, most).await? else {
            transaction.roll_back().await?;
            return Ok(Taken::Nothing);
        };
        let Some((next_due_at, work)) = read_job(&job) else {
            tracing::error!(metric = "domain_job_put_off", tenant_id = %tenant, job = job.key, "a job cannot be read");
            postpone_job(&mut transaction, &job.key, UNREADABLE_WAIT).await?;
            transaction.commit().await?;
            return Ok(Taken::PutOff);
        };
        let (id, trigger) = match &job.requested {
            Some((id, by)) => (*id, Trigger::Request { run: Some(*id), by: by.clone() }),
            None => (JobRunId::from_uuid(new_uuid()), Trigger::Schedule),
        };
        let lease = job.timeout + WRAP_UP;
        let deadline = deadline.min(Instant::now() + lease);
        let begun = begin_job_run_within(&mut transaction, &job.key, id, &trigger, lease).await?;
        let Begun::Started(dead) = begun else {
            // Whatever holds the lease ends, or is found dead.
            postpone_job(&mut transaction, &job.key, OVERLAP_WAIT).await?;
            transaction.commit().await?;
            return Ok(Taken::PutOff);
        };
        // A little behind the lease, so that whoever looks then finds it over.
        let lease = lease + Duration::from_secs(1);
        let message = start_clock(&mut transaction, &job.key, id, next_due_at, lease).await?;
        adapters::failpoint!("J2_taken", Err(StoreError::Corrupt("failpoint")));
        transaction.commit().await?;
        adapters::failpoint!("J3_begun", Err(StoreError::Corrupt("failpoint")));
        Ok(Taken::Run(Box::new(Run { tenant, id, job, work, message, deadline }), dead))
    }

    async fn fail(&self, run: &Run, error: &MakeError) -> Result<Turn, StoreError> {
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
        let mut transaction = self.database.begin_even_suspended(run.tenant, ACTOR).await?;
        stop_clock(&mut transaction, key, run.id, false).await?;
        let ending = Ending::Failed { error_code: &code, counts: None };
        let ended = end_job_run_within(&mut transaction, key, run.id, ending).await?;
        transaction.commit().await?;
        let Ended::Failed(failed) = ended else { return Ok(end_late(run, 0)) };
        self.alert(run, &failed).await;
        Ok(Turn::Failed)
    }

    async fn alert(&self, run: &Run, failed: &FailedRun) {
        let description = run.work.describe();
        let failing = FailingJob { tenant: run.tenant, name: &run.job.key, description: &description, is_own: false };
        alert_if_failing(&self.database, &self.queue, &failing, failed).await;
    }
}

/// Ends a run that did its work; false where it was taken for dead meanwhile. The clock comes before the run, as where one
/// begins: in the other order each would wait for the other.
async fn end_well(
    transaction: &mut TenantTransaction,
    run: &Run,
    counts: &Value,
    leaves_work: bool,
) -> Result<bool, StoreError> {
    stop_clock(transaction, &run.job.key, run.id, leaves_work).await?;
    let ending = Ending::Succeeded { counts, leaves_work };
    let ended = end_job_run_within(transaction, &run.job.key, run.id, ending).await?;
    adapters::failpoint!("J8_ended", Err(StoreError::Corrupt("failpoint")));
    Ok(ended != Ended::TakenForDead)
}

/// The turn of a run whose row says that it died.
fn end_late(run: &Run, created: usize) -> Turn {
    let (key, run_id) = (&run.job.key, run.id);
    tracing::warn!(tenant_id = %run.tenant, job = key, %run_id, "run {run_id} of {key} ended after its lease");
    Turn::Late(created)
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
