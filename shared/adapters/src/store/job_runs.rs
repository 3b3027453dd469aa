//! Runs of jobs: begun and ended by whatever runs them, shown by `api`.
//!
//! Each of begin and end is one statement, and a transaction of its own: between them lies the work, and no lock. What a run
//! has done so far is noted in between, and stays where it fails or dies.

use super::database::{Database, StoreError, TenantTransaction};
use crate::wire::pages::Page;
use domain::event::Event;
use domain::id::{JobRunId, TenantId};
use domain::job::{RunOutcome, Trigger};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::Value;
use sqlx::PgConnection;
use std::time::Duration;

/// A run that failed or was found dead, and how that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedRun {
    /// Which.
    pub id: JobRunId,
    /// Failures in a row, with it.
    pub failure_count: u32,
    /// Whether people were told of that row of failures.
    pub is_alerted: bool,
}

/// Whether a run may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It has begun; the run before it was found dead, or not.
    Started(Option<FailedRun>),
    /// Another run is at work.
    Overlapped,
    /// The request that asks for it has had its run.
    Repeated,
}

/// How a run that could be heard ended.
#[derive(Clone, Copy, Debug)]
pub enum Ending<'a> {
    /// With its work done, or as much of it as there was time for.
    Succeeded {
        /// What it did, as the flow prints it.
        counts: &'a Value,
        /// Whether it stopped at its deadline.
        leaves_work: bool,
    },
    /// With an error.
    Failed {
        /// Which, by its code.
        error_code: &'a str,
        /// What it had done; `None` is what it has noted last.
        counts: Option<&'a Value>,
    },
}

/// What became of the end of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It is on record as a success.
    Succeeded,
    /// It is on record as a failure.
    Failed(FailedRun),
    /// Nothing: it was taken for dead meanwhile, and another run may do its work again.
    TakenForDead,
}

/// A row of failures that people are to be told of.
#[derive(Clone, Debug)]
pub struct RowOfFailures {
    /// How many runs.
    pub failure_count: i32,
    /// When the first of them began.
    pub failing_since_at: Timestamp,
    /// What the last one ended with; `None` where it died.
    pub error_code: Option<String>,
}

/// A run as people see it.
#[derive(Clone, Debug)]
pub struct JobRunView {
    /// Its id.
    pub id: JobRunId,
    /// The job.
    pub job: String,
    /// What led to it: `schedule` or `request`.
    pub cause: String,
    /// Who asked for it; shown to the job's own tenant only.
    pub requested_by: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended; of one that died, when its time was up.
    pub finished_at: Option<Timestamp>,
    /// How it ended; `None` while it is at work.
    pub outcome: Option<RunOutcome>,
    /// What it failed with.
    pub error_code: Option<String>,
    /// What it did; while it is at work, and where it did not succeed, as far as it has said.
    pub counts: Option<Value>,
    /// When it said so.
    pub counted_at: Option<Timestamp>,
    /// Whether it stopped at its deadline with work left.
    pub leaves_work: Option<bool>,
    /// Failures in a row up to it.
    pub failure_count: i32,
    /// When the schedule last began a run up to this one, or found one at work; `None` where it never has.
    pub scheduled_at: Option<Timestamp>,
}

/// Begins a run for the time that is left to it, unless another one is at work.
pub async fn begin_job_run(
    database: &Database,
    tenant: TenantId,
    job: &str,
    id: JobRunId,
    trigger: &Trigger,
    lease: Duration,
) -> Result<Begun, StoreError> {
    let mut connection = database.connection().await?;
    let begun = begin_on(&mut connection, tenant, job, id, trigger, lease).await?;
    connection.give_back();
    Ok(begun)
}

/// Like [`begin_job_run`], of the transaction's tenant and with whatever else the transaction does.
pub async fn begin_job_run_within(
    transaction: &mut TenantTransaction,
    job: &str,
    id: JobRunId,
    trigger: &Trigger,
    lease: Duration,
) -> Result<Begun, StoreError> {
    begin_on(&mut transaction.connection, transaction.tenant, job, id, trigger, lease).await
}

async fn begin_on(
    connection: &mut PgConnection,
    tenant: TenantId,
    job: &str,
    id: JobRunId,
    trigger: &Trigger,
    lease: Duration,
) -> Result<Begun, StoreError> {
    let requested_by = match trigger {
        Trigger::Schedule => None,
        Trigger::Request { by, .. } => by.as_deref(),
    };
    let row = sqlx::query!(
        r#"SELECT answer AS "answer!", dead_run_id, failure_count, is_alerted
           FROM harkara.begin_job_run($1, $2, $3, $4, $5, $6)"#,
        tenant.as_uuid(),
        job,
        id.as_uuid(),
        trigger.as_str(),
        requested_by,
        i64::try_from(lease.as_millis()).unwrap_or(i64::MAX),
    )
    .fetch_one(connection)
    .await?;
    match row.answer.as_str() {
        "started" => {
            let dead = match (row.dead_run_id, row.failure_count, row.is_alerted) {
                (Some(id), Some(count), Some(is_alerted)) => {
                    Some(read_failed(JobRunId::from_uuid(id), count, is_alerted)?)
                }
                _ => None,
            };
            Ok(Begun::Started(dead))
        }
        "overlapped" => Ok(Begun::Overlapped),
        "repeated" => Ok(Begun::Repeated),
        _ => Err(StoreError::Corrupt("answer of begin_job_run")),
    }
}

/// Notes what a run has done so far. Of one that has ended, or was taken for dead, nothing is noted any more.
pub async fn note_job_progress(
    database: &Database,
    tenant: TenantId,
    job: &str,
    id: JobRunId,
    counts: &Value,
) -> Result<(), StoreError> {
    let mut connection = database.connection().await?;
    note_progress_on(&mut connection, tenant, job, id, counts).await?;
    connection.give_back();
    Ok(())
}

/// Like [`note_job_progress`], of the transaction's tenant and with what the transaction does: at its end, because whoever
/// finds the run dead waits for the row.
pub async fn note_job_progress_within(
    transaction: &mut TenantTransaction,
    job: &str,
    id: JobRunId,
    counts: &Value,
) -> Result<(), StoreError> {
    note_progress_on(&mut transaction.connection, transaction.tenant, job, id, counts).await
}

async fn note_progress_on(
    connection: &mut PgConnection,
    tenant: TenantId,
    job: &str,
    id: JobRunId,
    counts: &Value,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE harkara.job_runs r SET counts = $4, counted_at = harkara.now()
         WHERE r.tenant_id = $1 AND r.job = $2 AND r.run_id = $3 AND r.finished_at IS NULL",
        tenant.as_uuid(),
        job,
        id.as_uuid(),
        counts,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends a run.
pub async fn end_job_run(
    database: &Database,
    tenant: TenantId,
    job: &str,
    id: JobRunId,
    ending: Ending<'_>,
) -> Result<Ended, StoreError> {
    let mut connection = database.connection().await?;
    let ended = end_on(&mut connection, tenant, job, id, ending).await?;
    connection.give_back();
    Ok(ended)
}

/// Like [`end_job_run`], of the transaction's tenant and with whatever else the transaction does.
pub async fn end_job_run_within(
    transaction: &mut TenantTransaction,
    job: &str,
    id: JobRunId,
    ending: Ending<'_>,
) -> Result<Ended, StoreError> {
    end_on(&mut transaction.connection, transaction.tenant, job, id, ending).await
}

async fn end_on(
    connection: &mut PgConnection,
    tenant: TenantId,
    job: &str,
    id: JobRunId,
    ending: Ending<'_>,
) -> Result<Ended, StoreError> {
    let (outcome, error_code, counts, leaves_work) = match ending {
        Ending::Succeeded { counts, leaves_work } => (RunOutcome::Succeeded, None, Some(counts), Some(leaves_work)),
        Ending::Failed { error_code, counts } => (RunOutcome::Failed, Some(error_code), counts, None),
    };
    let row = sqlx::query!(
        r#"SELECT failure_count AS "failure_count!", is_alerted AS "is_alerted!"
           FROM harkara.end_job_run($1, $2, $3, $4, $5, $6, $7)"#,
        tenant.as_uuid(),
        job,
        id.as_uuid(),
        outcome.as_str(),
        error_code,
        counts,
        leaves_work,
    )
    .fetch_optional(connection)
    .await?;
    match (row, ending) {
        (None, _) => Ok(Ended::TakenForDead),
        (Some(_), Ending::Succeeded { .. }) => Ok(Ended::Succeeded),
        (Some(row), Ending::Failed { .. }) => read_failed(id, row.failure_count, row.is_alerted).map(Ended::Failed),
    }
}

/// Notes that people are told of the row of failures that a run belongs to, with its event, which is told once. `None` where
/// somebody else has.
pub async fn note_job_alert(
    transaction: &mut TenantTransaction,
    job: &str,
    id: JobRunId,
) -> Result<Option<RowOfFailures>, StoreError> {
    let row = sqlx::query!(
        r#"SELECT failure_count AS "failure_count!", failing_since_at AS "failing_since_at!: jiff_sqlx::Timestamp",
                  error_code
           FROM harkara.note_job_alert($1, $2, $3)"#,
        transaction.tenant.as_uuid(),
        job,
        id.as_uuid(),
    )
    .fetch_optional(&mut *transaction.connection)
    .await?;
    Ok(row.map(|row| RowOfFailures {
        failure_count: row.failure_count,
        failing_since_at: row.failing_since_at.to_jiff(),
        error_code: row.error_code,
    }))
}

/// Takes back what [`note_job_alert`] has noted within the same transaction, because nobody could be told: the next failure
/// tries again. Its event stays.
pub async fn take_job_alert_back(
    transaction: &mut TenantTransaction,
    job: &str,
    id: JobRunId,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE harkara.job_runs r SET is_alerted = false WHERE r.tenant_id = $1 AND r.job = $2 AND r.run_id = $3",
        transaction.tenant.as_uuid(),
        job,
        id.as_uuid(),
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(())
}

/// The newest run of each of the jobs of `owner` that has had any: of the operator's, or of the transaction's own tenant's.
pub async fn read_last_job_runs(
    transaction: &mut TenantTransaction,
    owner: TenantId,
    jobs: &[&str],
) -> Result<Vec<JobRunView>, StoreError> {
    select_runs(transaction, owner, jobs, &Page { after: None, size: 0 }).await
}

/// A page of a job's runs, the newest first, and one more where there is another page.
pub async fn list_job_runs(
    transaction: &mut TenantTransaction,
    owner: TenantId,
    job: &str,
    page: &Page,
) -> Result<Vec<JobRunView>, StoreError> {
    select_runs(transaction, owner, &[job], page).await
}

/// The database's time.
pub async fn read_time(transaction: &mut TenantTransaction) -> Result<Timestamp, StoreError> {
    let now = sqlx::query_scalar!(r#"SELECT harkara.now() AS "now!: jiff_sqlx::Timestamp""#)
        .fetch_one(&mut *transaction.connection)
        .await?;
    Ok(now.to_jiff())
}

/// Puts the event that asks for a run into the outbox.
pub async fn request_job_run(transaction: &mut TenantTransaction, event: &Event) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO harkara.events (tenant_id, event_id, detail_type, detail) VALUES ($1, $2, $3, $4)",
        transaction.tenant.as_uuid(),
        event.id.as_uuid(),
        event.detail_type,
        event.detail,
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(())
}

async fn select_runs(
    transaction: &mut TenantTransaction,
    owner: TenantId,
    jobs: &[&str],
    page: &Page,
) -> Result<Vec<JobRunView>, StoreError> {
    let names: Vec<_> = jobs.iter().map(|job| (*job).to_owned()).collect();
    let rows = sqlx::query!(
        r#"SELECT job AS "job!", run_id AS "run_id!", cause AS "cause!", requested_by,
                  started_at AS "started_at!: jiff_sqlx::Timestamp", finished_at AS "finished_at: jiff_sqlx::Timestamp",
                  outcome, error_code, counts, counted_at AS "counted_at: jiff_sqlx::Timestamp", leaves_work,
                  failure_count AS "failure_count!", scheduled_at AS "scheduled_at: jiff_sqlx::Timestamp"
           FROM harkara.read_job_runs($1, $2, $3, $4, $5)"#,
        owner.as_uuid(),
        &names,
        page.after.map(|after| after.at.to_sqlx()) as Option<jiff_sqlx::Timestamp>,
        page.after.map(|after| after.id),
        i64::from(page.size) + 1,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let run = rows.into_iter().map(|row| {
        let outcome = row.outcome.as_deref();
        Ok(JobRunView {
            id: JobRunId::from_uuid(row.run_id),
            job: row.job,
            cause: row.cause,
            requested_by: row.requested_by,
            started_at: row.started_at.to_jiff(),
            finished_at: row.finished_at.map(|at| at.to_jiff()),
            outcome: outcome
                .map(|text| RunOutcome::parse(text).ok_or(StoreError::Corrupt("outcome of a run")))
                .transpose()?,
            error_code: row.error_code,
            counts: row.counts,
            counted_at: row.counted_at.map(|at| at.to_jiff()),
            leaves_work: row.leaves_work,
            failure_count: row.failure_count,
            scheduled_at: row.scheduled_at.map(|at| at.to_jiff()),
        })
    });
    run.collect()
}

fn read_failed(id: JobRunId, failure_count: i32, is_alerted: bool) -> Result<FailedRun, StoreError> {
    let failure_count = u32::try_from(failure_count).map_err(|_| StoreError::Corrupt("count of failures"))?;
    Ok(FailedRun { id, failure_count, is_alerted })
}
