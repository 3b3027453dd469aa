//! Domain jobs as people manage them: registered, shown, removed, and asked for.

use super::database::{StoreError, TenantTransaction};
use super::job_secrets::delete_job_secrets;
use crate::wire::domain_jobs::{DomainJobBody, print_work};
use domain::domain_job::{MAX_DOMAIN_JOBS, SqlName, Work};
use domain::id::{JobKey, JobRunId};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::Value;

/// A registered job and how it stands.
#[derive(Clone)]
pub struct DomainJobRow {
    /// Its key.
    pub key: String,
    /// As it was written.
    pub schedule: String,
    /// Whose clocks it follows; `None` is the tenant's zone.
    pub time_zone: Option<String>,
    /// How long the domain's statement may take.
    pub timeout_seconds: i32,
    /// What it does.
    pub definition: Value,
    /// Whether its schedule leads to runs; a paused one's does not.
    pub is_enabled: bool,
    /// When a run is due, or was; `None` where none is due any more, or the job is paused.
    pub next_due_at: Option<Timestamp>,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

domain::masked_debug!(DomainJobRow, "DomainJobRow", key, schedule, time_zone, is_enabled, next_due_at);

/// What there is of what a job names.
pub struct JobLookup {
    /// The database's time.
    pub now: Timestamp,
    /// The tenant's zone.
    pub tenant_zone: String,
    /// Whether its category is there.
    pub has_category: bool,
    /// Whether its template is there and can be sent.
    pub has_template: bool,
    /// What is amiss with its view or function, which its domain may still mend.
    pub ungranted: Option<String>,
    /// Its schedule as it is kept, where there is such a job.
    pub kept: Option<KeptSchedule>,
    /// How many jobs the tenant has.
    pub job_count: usize,
}

/// When a job is due, as it was put last.
pub struct KeptSchedule {
    /// As it was written.
    pub schedule: String,
    /// Whose clocks it follows; `None` is the tenant's zone.
    pub time_zone: Option<String>,
    /// Whether it leads to runs.
    pub is_enabled: bool,
}

/// What becomes of a job's next time when the job is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextDue {
    /// It stays, so that putting the same again skips nothing.
    AsBefore,
    /// The first time of another schedule, or of one that goes on.
    At(Timestamp),
    /// There is none while the job is paused.
    Never,
}

impl JobLookup {
    /// Whether one more would be too many.
    pub fn is_full(&self) -> bool {
        self.kept.is_none() && self.job_count >= MAX_DOMAIN_JOBS
    }
}

/// Looks up what a job names, and locks the job: what is decided by how it is kept, and by how many there are, holds until
/// the transaction ends.
pub async fn look_up_job(
    transaction: &mut TenantTransaction,
    key: &JobKey,
    work: &Work,
) -> Result<JobLookup, StoreError> {
    // One at a time for each tenant, so that its jobs are counted as they will be.
    sqlx::query!(
        "SELECT pg_advisory_xact_lock(hashtextextended('domain jobs ' || $1::uuid, 0))",
        transaction.tenant.as_uuid(),
    )
    .execute(&mut *transaction.connection)
    .await?;
    sqlx::query!(
        "SELECT FROM harkara.domain_jobs WHERE tenant_id = $1 AND job_key = $2 FOR UPDATE",
        transaction.tenant.as_uuid(),
        key.as_str(),
    )
    .execute(&mut *transaction.connection)
    .await?;
    let (name, category, template): (Option<&SqlName>, Option<&str>, Option<&str>) = match work {
        Work::Candidates(candidates) => (
            Some(&candidates.view),
            Some(candidates.category.as_str()),
            candidates.template.as_ref().map(|template| template.as_str()),
        ),
        Work::Function(function) => (Some(function), None, None),
        Work::Endpoint(_) => (None, None, None),
    };
    let row = sqlx::query!(
        r#"SELECT harkara.now() AS "now!: jiff_sqlx::Timestamp", t.time_zone,
                  $3::text IS NULL OR EXISTS (
                      SELECT FROM harkara.categories c WHERE c.tenant_id = $1 AND c.category_key = $3) AS "has_category!",
                  $4::text IS NULL OR EXISTS (
                      SELECT FROM harkara.templates m
                      WHERE m.tenant_id = $1 AND m.template_key = $4 AND m.kind = 'message'
                        AND (m.published_version IS NOT NULL OR m.draft IS NULL)) AS "has_template!",
                  CASE WHEN $5::text IS NOT NULL THEN harkara.find_ungranted($5, $6, $7) END AS ungranted,
                  j.schedule AS "schedule?", j.time_zone AS job_zone, j.is_enabled AS "is_enabled?",
                  (SELECT count(*) FROM harkara.domain_jobs o WHERE o.tenant_id = $1) AS "job_count!"
           FROM harkara.tenants t
           LEFT JOIN harkara.domain_jobs j ON j.tenant_id = t.tenant_id AND j.job_key = $2
           WHERE t.tenant_id = $1"#,
        transaction.tenant.as_uuid(),
        key.as_str(),
        category,
        template,
        name.map(SqlName::schema),
        name.map(SqlName::name),
        matches!(work, Work::Function(_)),
    )
    .fetch_one(&mut *transaction.connection)
    .await?;
    Ok(JobLookup {
        now: row.now.to_jiff(),
        tenant_zone: row.time_zone,
        has_category: row.has_category,
        has_template: row.has_template,
        ungranted: row.ungranted,
        kept: row.schedule.zip(row.is_enabled).map(|(schedule, is_enabled)| KeptSchedule {
            schedule,
            time_zone: row.job_zone,
            is_enabled,
        }),
        job_count: usize::try_from(row.job_count).unwrap_or(usize::MAX),
    })
}

/// Registers a job, or changes it, with its next time.
pub async fn put_domain_job(
    transaction: &mut TenantTransaction,
    key: &JobKey,
    body: &DomainJobBody,
    next_due: NextDue,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO harkara.domain_jobs (tenant_id, job_key, schedule, time_zone, timeout_seconds, definition, is_enabled)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (tenant_id, job_key) DO UPDATE
         SET schedule = excluded.schedule, time_zone = excluded.time_zone, timeout_seconds = excluded.timeout_seconds,
             definition = excluded.definition, is_enabled = excluded.is_enabled, updated_at = harkara.now()",
        transaction.tenant.as_uuid(),
        key.as_str(),
        body.schedule.as_str(),
        body.time_zone.as_ref().map(|zone| zone.as_str()),
        i32::try_from(body.timeout_seconds).unwrap_or(i32::MAX),
        print_work(&body.work),
        body.is_enabled,
    )
    .execute(&mut *transaction.connection)
    .await?;
    let next_due_at = match next_due {
        NextDue::AsBefore => return Ok(()),
        NextDue::At(at) => Some(at.to_sqlx()),
        NextDue::Never => None,
    };
    sqlx::query!(
        "INSERT INTO harkara.domain_job_clocks AS c (tenant_id, job_key, next_due_at, look_at)
             VALUES ($1, $2, $3, $3)
             ON CONFLICT (tenant_id, job_key) DO UPDATE
             SET anchored_at = harkara.now(), next_due_at = excluded.next_due_at,
                 -- A run that is at work or asked for is looked at as before.
                 look_at = CASE WHEN c.run_id IS NULL AND c.requested_run_id IS NULL THEN excluded.look_at
                           ELSE c.look_at END",
        transaction.tenant.as_uuid(),
        key.as_str(),
        next_due_at as Option<jiff_sqlx::Timestamp>,
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(())
}

/// Removes a job; false where there is none. Its runs stay on record, and so does which candidates it has told of.
pub async fn delete_domain_job(transaction: &mut TenantTransaction, key: &JobKey) -> Result<bool, StoreError> {
    // First, as where a job is put: in another order each would wait for the other.
    let locked = sqlx::query_scalar!(
        "SELECT job_key FROM harkara.domain_jobs WHERE tenant_id = $1 AND job_key = $2 FOR UPDATE",
        transaction.tenant.as_uuid(),
        key.as_str(),
    )
    .fetch_optional(&mut *transaction.connection)
    .await?;
    if locked.is_none() {
        return Ok(false);
    }
    delete_job_secrets(transaction, key).await?;
    sqlx::query!(
        "DELETE FROM harkara.domain_job_clocks WHERE tenant_id = $1 AND job_key = $2",
        transaction.tenant.as_uuid(),
        key.as_str(),
    )
    .execute(&mut *transaction.connection)
    .await?;
    sqlx::query!(
        "DELETE FROM harkara.domain_jobs WHERE tenant_id = $1 AND job_key = $2",
        transaction.tenant.as_uuid(),
        key.as_str(),
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(true)
}

/// A job of the tenant.
pub async fn read_domain_job(
    transaction: &mut TenantTransaction,
    key: &JobKey,
) -> Result<Option<DomainJobRow>, StoreError> {
    Ok(select_jobs(transaction, Some(key.as_str())).await?.pop())
}

/// The tenant's jobs, by key.
pub async fn list_domain_jobs(transaction: &mut TenantTransaction) -> Result<Vec<DomainJobRow>, StoreError> {
    select_jobs(transaction, None).await
}

/// Asks for a run, once whatever is at work has ended, also of a job that is paused. `None` where there is no such job. One that
/// was asked for and has not begun is asked for once.
pub async fn request_domain_run(
    transaction: &mut TenantTransaction,
    key: &JobKey,
    run: JobRunId,
    by: &str,
) -> Result<Option<JobRunId>, StoreError> {
    let run = sqlx::query_scalar!(
        r#"UPDATE harkara.domain_job_clocks c
           SET requested_run_id = coalesce(c.requested_run_id, $3),
               requested_by = CASE WHEN c.requested_run_id IS NULL THEN $4 ELSE c.requested_by END,
               look_at = CASE WHEN c.run_id IS NULL THEN harkara.now() ELSE c.look_at END
           WHERE c.tenant_id = $1 AND c.job_key = $2
           RETURNING c.requested_run_id AS "run_id!""#,
        transaction.tenant.as_uuid(),
        key.as_str(),
        run.as_uuid(),
        by,
    )
    .fetch_optional(&mut *transaction.connection)
    .await?;
    Ok(run.map(JobRunId::from_uuid))
}

async fn select_jobs(transaction: &mut TenantTransaction, key: Option<&str>) -> Result<Vec<DomainJobRow>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT j.job_key, j.schedule, j.time_zone, j.timeout_seconds, j.definition, j.is_enabled,
                  c.next_due_at AS "next_due_at: jiff_sqlx::Timestamp", j.updated_at AS "updated_at: jiff_sqlx::Timestamp"
           FROM harkara.domain_jobs j
           JOIN harkara.domain_job_clocks c ON c.tenant_id = j.tenant_id AND c.job_key = j.job_key
           WHERE j.tenant_id = $1 AND ($2::text IS NULL OR j.job_key = $2)
           ORDER BY j.job_key"#,
        transaction.tenant.as_uuid(),
        key,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let job = rows.into_iter().map(|row| DomainJobRow {
        key: row.job_key,
        schedule: row.schedule,
        time_zone: row.time_zone,
        timeout_seconds: row.timeout_seconds,
        definition: row.definition,
        is_enabled: row.is_enabled,
        next_due_at: row.next_due_at.map(|at| at.to_jiff()),
        updated_at: row.updated_at.to_jiff(),
    });
    Ok(job.collect())
}
