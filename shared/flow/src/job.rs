//! The frame in which every scheduled function does its work: who runs, for how long, and how it ended.
//!
//! The cast: `store::job_runs` keeps a row for each run, with a lease until the function's own deadline; a flow does the
//! work, between two short statements and outside any transaction, and says how far it is; see `progress`. Whoever comes
//! while another one holds the lease does nothing; that it was the schedule is kept, so that nobody takes the job for late. A
//! run that ends without a word, because its sandbox was killed, is found dead by the next one after its lease.
//!
//! The guard saves work and makes what happened plain. It is not what makes a flow's work happen once: a function may
//! outlive its lease by the skew of a clock, so each flow claims its rows as if it were alone with its twin.
//!
//! A row of failures that is longer than a few is told to the operator's recipients; see `job_alert`.

use crate::job_alert::{FailingJob, alert_if_failing};
use crate::progress::Progress;
use adapters::ids::new_uuid;
use adapters::store::database::{Database, StoreError};
use adapters::store::job_runs::{Begun, Ended, Ending, FailedRun, begin_job_run, end_job_run};
use adapters::telemetry::chain;
use domain::id::{JobRunId, TenantId};
use domain::job::Trigger;
use domain::queue::Queue;
use serde_json::{Value, json};
use std::error::Error;
use std::fmt;
use std::time::Instant;

// What a shell names beside the frame: it depends on no crate of values.
pub use adapters::wire::job_event::read_trigger;
pub use domain::job::Job;
pub use domain::queue::NoQueue;

/// What a flow did in a run; each flow's counts become it.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    /// As the function answers, and as the run's row keeps it.
    pub counts: Value,
    /// Whether it stopped at its deadline with work left.
    pub leaves_work: bool,
}

/// Why an invocation failed; what a flow fails with becomes it.
#[derive(Debug)]
pub struct Failure {
    /// A code for it, which holds nothing that a server has said.
    pub code: &'static str,
    /// The failure itself, for the log.
    pub error: Box<dyn Error + Send + Sync>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self { code: error.code(), error: Box::new(error) }
    }
}

/// The frame with what it needs.
pub struct Frame<'a, Q> {
    /// As `harkara_worker`.
    pub database: &'a Database,
    /// The deliveries queue, for alerts; `domain::queue::NoQueue` for a function that may not send.
    pub queue: &'a Q,
}

impl<Q: Queue> Frame<'_, Q> {
    /// Runs a job until its deadline, unless it is at work already. Answers with what the flow has counted.
    pub async fn run<C: Into<Done>, E: Into<Failure>>(
        &self,
        job: Job,
        trigger: Trigger,
        deadline: Instant,
        work: impl AsyncFnOnce(&Progress<'_>) -> Result<C, E>,
    ) -> Result<Value, Failure> {
        let id = match &trigger {
            Trigger::Request { run: Some(id), .. } => *id,
            Trigger::Schedule | Trigger::Request { run: None, .. } => JobRunId::from_uuid(new_uuid()),
        };
        let lease = deadline.saturating_duration_since(Instant::now());
        let begun = begin_job_run(self.database, TenantId::OPERATOR, job.as_str(), id, &trigger, lease).await;
        let dead = match begun? {
            Begun::Started(dead) => dead,
            Begun::Overlapped => {
                tracing::info!(%job, run_id = %id, cause = trigger.as_str(), "{job} is at work already");
                return Ok(json!({"overlapped": true}));
            }
            Begun::Repeated => {
                tracing::info!(%job, run_id = %id, "run {id} of {job} has been asked for again");
                return Ok(json!({"repeated": true}));
            }
        };
        tracing::info!(metric = "job_run_started", %job, run_id = %id, cause = trigger.as_str(), "run {id} of {job}");
        if let Some(dead) = dead {
            tracing::error!(metric = "job_run_died", %job, run_id = %dead.id, "run {} of {job} has died", dead.id);
            self.alert_if_failing(job, &dead).await;
        }
        let progress = Progress::of_run(self.database, job, id);
        match work(&progress).await {
            Ok(done) => {
                let Done { counts, leaves_work } = done.into();
                let ending = Ending::Succeeded { counts: &counts, leaves_work };
                end_job_run(self.database, TenantId::OPERATOR, job.as_str(), id, ending).await?;
                Ok(counts)
            }
            Err(error) => {
                let failure = error.into();
                tracing::error!(
                    metric = "job_run_failed",
                    %job,
                    run_id = %id,
                    error = chain(&failure),
                    "run {id} of {job} failed"
                );
                let counts = progress.into_counts();
                let ending = Ending::Failed { error_code: failure.code, counts: counts.as_ref() };
                match end_job_run(self.database, TenantId::OPERATOR, job.as_str(), id, ending).await {
                    Ok(Ended::Failed(failed)) => self.alert_if_failing(job, &failed).await,
                    Ok(Ended::Succeeded | Ended::TakenForDead) => {}
                    // Most often for the same reason. The next run finds it dead.
                    Err(error) => tracing::warn!(%job, run_id = %id, error = chain(&error), "run {id} stays open"),
                }
                Err(failure)
            }
        }
    }

    /// Tells the operator's people where a job has failed too often in a row.
    async fn alert_if_failing(&self, job: Job, failed: &FailedRun) {
        let failing =
            FailingJob { tenant: TenantId::OPERATOR, name: job.as_str(), description: job.description(), is_own: true };
        alert_if_failing(self.database, self.queue, &failing, failed).await;
    }
}
