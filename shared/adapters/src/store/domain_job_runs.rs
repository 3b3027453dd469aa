//! The runner's statements: whose jobs are due, take one of a tenant, let it rest, and know its candidates again. What the
//! domain has granted is done in `granted`.

use super::database::{Database, StoreError, TenantTransaction};
use domain::id::{JobRunId, TenantId};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::Value;
use std::time::Duration;

/// A job that is due, locked.
#[derive(Clone)]
pub struct DueJob {
    /// Its key.
    pub key: String,
    /// As it was written.
    pub schedule: String,
    /// Whose clocks it follows, by now.
    pub time_zone: String,
    /// Where its rate counts from.
    pub anchored_at: Timestamp,
    /// How long the domain's statement may take.
    pub timeout: Duration,
    /// What it does.
    pub definition: Value,
    /// The run that was asked for, and by whom.
    pub requested: Option<(JobRunId, Option<String>)>,
    /// The database's time.
    pub now: Timestamp,
}

domain::masked_debug!(DueJob, "DueJob", key, schedule, time_zone, requested);

/// What an endpoint is told by a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobMessage {
    /// The first run's that told it: those that make up for it tell the same.
    pub id: JobRunId,
    /// Which time of the schedule it is for; `None` where the run was asked for.
    pub due_at: Option<Timestamp>,
}

/// The tenants that have jobs to look at, in no order.
pub async fn list_job_tenants_across_tenants(database: &Database) -> Result<Vec<TenantId>, StoreError> {
    let mut connection = database.connection().await?;
    let tenants = sqlx::query_scalar!(
        r#"-- Steps from tenant to tenant through the index, however many jobs each has.
           WITH RECURSIVE open AS (
               (SELECT c.tenant_id FROM harkara.domain_job_clocks c WHERE c.look_at IS NOT NULL ORDER BY c.tenant_id LIMIT 1)
               UNION ALL
               SELECT (SELECT c.tenant_id FROM harkara.domain_job_clocks c
                       WHERE c.look_at IS NOT NULL AND c.tenant_id > o.tenant_id ORDER BY c.tenant_id LIMIT 1)
               FROM open o WHERE o.tenant_id IS NOT NULL
           )
           SELECT o.tenant_id AS "tenant_id!" FROM open o
           JOIN harkara.tenants t ON t.tenant_id = o.tenant_id AND t.state = 'active'
           CROSS JOIN LATERAL (
               SELECT FROM harkara.domain_job_clocks c WHERE c.tenant_id = o.tenant_id AND c.look_at <= harkara.now()
               ORDER BY c.look_at LIMIT 1
           ) due
           ORDER BY random()"#,
    )
    .fetch_all(&mut *connection)
    .await?;
    connection.give_back();
    Ok(tenants.into_iter().map(TenantId::from_uuid).collect())
}

/// Takes the tenant's job that is longest due, of those that may take no longer than `most`. What another runner has taken
/// is passed over.
pub async fn take_due_job(transaction: &mut TenantTransaction, most: Duration) -> Result<Option<DueJob>, StoreError> {
    let row = sqlx::query!(
        r#"SELECT c.job_key, j.schedule, coalesce(j.time_zone, t.time_zone) AS "time_zone!",
                  c.anchored_at AS "anchored_at: jiff_sqlx::Timestamp", j.timeout_seconds, j.definition,
                  c.requested_run_id, c.requested_by, harkara.now() AS "now!: jiff_sqlx::Timestamp"
           FROM harkara.domain_job_clocks c
           JOIN harkara.domain_jobs j ON j.tenant_id = c.tenant_id AND j.job_key = c.job_key
           JOIN harkara.tenants t ON t.tenant_id = c.tenant_id
           WHERE c.tenant_id = $1 AND c.look_at <= harkara.now() AND j.timeout_seconds <= $2
           ORDER BY c.look_at, c.job_key
           LIMIT 1
           FOR UPDATE OF c SKIP LOCKED"#,
        transaction.tenant.as_uuid(),
        i32::try_from(most.as_secs()).unwrap_or(i32::MAX),
    )
    .fetch_optional(&mut *transaction.connection)
    .await?;
    Ok(row.map(|row| DueJob {
        key: row.job_key,
        schedule: row.schedule,
        time_zone: row.time_zone,
        anchored_at: row.anchored_at.to_jiff(),
        timeout: Duration::from_secs(u64::try_from(row.timeout_seconds).unwrap_or_default()),
        definition: row.definition,
        requested: row.requested_run_id.map(|id| (JobRunId::from_uuid(id), row.requested_by)),
        now: row.now.to_jiff(),
    }))
}

/// Writes that a run of a taken job is at work, until `lease` is over, and when its schedule is due next, unless the job is
/// paused by now. Answers with what an
/// endpoint is told: what a run that died may have told is told again, and a run that was asked for tells something new.
pub async fn start_clock(
    transaction: &mut TenantTransaction,
    key: &str,
    run: JobRunId,
    next_due_at: Option<Timestamp>,
    lease: Duration,
) -> Result<JobMessage, StoreError> {
    let row = sqlx::query!(
        r#"UPDATE harkara.domain_job_clocks c
           SET run_id = $3,
               next_due_at = (SELECT $4::timestamptz FROM harkara.domain_jobs j
                              WHERE j.tenant_id = $1 AND j.job_key = $2 AND j.is_enabled),
               look_at = harkara.now() + make_interval(secs => $5),
               message_id = CASE WHEN c.requested_run_id IS NULL THEN coalesce(c.message_id, $3) ELSE $3 END,
               message_due_at = CASE WHEN c.requested_run_id IS NOT NULL THEN NULL
                                     WHEN c.message_id IS NOT NULL THEN c.message_due_at ELSE c.next_due_at END,
               requested_run_id = NULL, requested_by = NULL
           WHERE c.tenant_id = $1 AND c.job_key = $2
           RETURNING c.message_id AS "id!", c.message_due_at AS "due_at: jiff_sqlx::Timestamp""#,
        transaction.tenant.as_uuid(),
        key,
        run.as_uuid(),
        next_due_at.map(|at| at.to_sqlx()) as Option<jiff_sqlx::Timestamp>,
        lease.as_secs_f64(),
    )
    .fetch_one(&mut *transaction.connection)
    .await?;
    Ok(JobMessage { id: JobRunId::from_uuid(row.id), due_at: row.due_at.map(|at| at.to_jiff()) })
}

/// Lets a taken job wait, because an earlier run of it may still be at work.
pub async fn postpone_job(transaction: &mut TenantTransaction, key: &str, wait: Duration) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE harkara.domain_job_clocks c SET look_at = harkara.now() + make_interval(secs => $3)
         WHERE c.tenant_id = $1 AND c.job_key = $2",
        transaction.tenant.as_uuid(),
        key,
        wait.as_secs_f64(),
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(())
}

/// Writes that a run has ended: the job is looked at when it is due next, or at once where more is to be done. A run that
/// was taken for dead meanwhile changes nothing.
pub async fn stop_clock(
    transaction: &mut TenantTransaction,
    key: &str,
    run: JobRunId,
    leaves_work: bool,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE harkara.domain_job_clocks c
         SET run_id = NULL, message_id = NULL, message_due_at = NULL,
             look_at = CASE WHEN c.requested_run_id IS NOT NULL OR $4 THEN harkara.now() ELSE c.next_due_at END
         WHERE c.tenant_id = $1 AND c.job_key = $2 AND c.run_id = $3",
        transaction.tenant.as_uuid(),
        key,
        run.as_uuid(),
        leaves_work,
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(())
}

/// Ends the runs that died of jobs that were removed meanwhile: there is no next one that would find them.
pub async fn end_runs_of_removed_jobs_across_tenants(database: &Database) -> Result<(), StoreError> {
    let mut connection = database.connection().await?;
    sqlx::query!(
        "SELECT FROM harkara.job_runs r
         CROSS JOIN LATERAL harkara.end_job_run(r.tenant_id, r.job, r.run_id, 'died', NULL, NULL, NULL)
         WHERE r.finished_at IS NULL AND r.lease_ends_at <= harkara.now() AND r.tenant_id <> $1 AND NOT EXISTS (
             SELECT FROM harkara.domain_job_clocks c WHERE c.tenant_id = r.tenant_id AND c.job_key = r.job)",
        TenantId::OPERATOR.as_uuid(),
    )
    .execute(&mut *connection)
    .await?;
    connection.give_back();
    Ok(())
}

/// Keeps the hashes of candidates' keys, and answers with those that were not kept before. Whoever keeps the same at this
/// moment is waited for.
pub async fn keep_candidates(
    transaction: &mut TenantTransaction,
    key: &str,
    hashes: &[Vec<u8>],
) -> Result<Vec<Vec<u8>>, StoreError> {
    let new = sqlx::query_scalar!(
        "INSERT INTO harkara.domain_job_candidates (tenant_id, job_key, key_hash)
         SELECT $1, $2, h FROM unnest($3::bytea[]) h ORDER BY h
         ON CONFLICT (tenant_id, job_key, key_hash) DO NOTHING
         RETURNING key_hash",
        transaction.tenant.as_uuid(),
        key,
        hashes,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    // To the day: those that are there in every run are not written in every run.
    sqlx::query!(
        "UPDATE harkara.domain_job_candidates c SET seen_at = harkara.now()
         FROM (
             SELECT o.key_hash FROM harkara.domain_job_candidates o
             WHERE o.tenant_id = $1 AND o.job_key = $2 AND o.key_hash = ANY ($3)
               AND o.seen_at < harkara.now() - interval '1 day'
             ORDER BY o.key_hash
             FOR UPDATE
         ) seen
         WHERE c.tenant_id = $1 AND c.job_key = $2 AND c.key_hash = seen.key_hash",
        transaction.tenant.as_uuid(),
        key,
        hashes,
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(new)
}

/// Forgets candidates of which nothing was made, so that the next run asks again.
pub async fn drop_candidates(
    transaction: &mut TenantTransaction,
    key: &str,
    hashes: &[Vec<u8>],
) -> Result<(), StoreError> {
    sqlx::query!(
        "DELETE FROM harkara.domain_job_candidates c WHERE c.tenant_id = $1 AND c.job_key = $2 AND c.key_hash = ANY ($3)",
        transaction.tenant.as_uuid(),
        key,
        hashes,
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(())
}
