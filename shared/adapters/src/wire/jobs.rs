//! Jobs and their runs as callers read them: the service's own, and those of the tenant's domain.

use super::domain_jobs::read_kept_work;
use crate::store::domain_jobs::DomainJobRow;
use crate::store::job_runs::JobRunView;
use domain::domain_job::{CATCH_UP, judge_lag};
use domain::job::{Job, judge_punctuality};
use jiff::Timestamp;
use serde_json::{Value, json};

/// A job of the service and how it stands; `last` is its newest run. Of one whose schedule has never come nobody knows since
/// when it is due.
pub fn print_job(job: Job, last: Option<&JobRunView>, now: Timestamp) -> Value {
    let stands = last.and_then(|run| run.scheduled_at).map(|at| judge_punctuality(job, at, now));
    json!({
        "name": job.as_str(),
        "kind": "service",
        "description": job.description(),
        "schedule": job.rate().to_string(),
        "time_zone": null,
        "timeout_seconds": null,
        "definition": null,
        "enabled": true,
        "catch_up": job.catch_up(),
        "status": last.map_or("never_run", print_status),
        "last_run": last.map(print_job_run),
        "failure_count": last.map_or(0, |run| run.failure_count),
        "next_due_at": stands.map(|stands| stands.next_due_at),
        "lag_seconds": stands.map(|stands| stands.lag_seconds),
        "is_late": stands.is_some_and(|stands| stands.is_late),
        "updated_at": null,
    })
}

/// A job of the tenant's domain and how it stands.
pub fn print_domain_job(row: &DomainJobRow, last: Option<&JobRunView>, now: Timestamp) -> Value {
    let DomainJobRow { key, schedule, time_zone, timeout_seconds, definition, is_enabled, next_due_at, updated_at } =
        row;
    let stands = next_due_at.map(|at| judge_lag(at, now));
    json!({
        "name": key,
        "kind": "domain",
        "description": read_kept_work(definition).map(|work| work.describe()).unwrap_or_default(),
        "schedule": schedule,
        "time_zone": time_zone,
        "timeout_seconds": timeout_seconds,
        "definition": definition,
        "enabled": is_enabled,
        "catch_up": CATCH_UP,
        "status": match last.map_or("never_run", print_status) {
            status if *is_enabled || status == "running" => status,
            _ => "paused",
        },
        "last_run": last.map(print_job_run),
        "failure_count": last.map_or(0, |run| run.failure_count),
        "next_due_at": next_due_at,
        "lag_seconds": stands.map(|(lag_seconds, _)| lag_seconds),
        "is_late": stands.is_some_and(|(_, is_late)| is_late),
        "updated_at": updated_at,
    })
}

/// A run.
pub fn print_job_run(view: &JobRunView) -> Value {
    let JobRunView {
        id,
        job,
        cause,
        requested_by,
        started_at,
        finished_at,
        outcome: _,
        scheduled_at: _,
        error_code,
        counts,
        counted_at,
        leaves_work,
        failure_count,
    } = view;
    json!({
        "id": id.to_string(),
        "job": job,
        "cause": cause,
        "requested_by": requested_by,
        "started_at": started_at,
        "finished_at": finished_at,
        "status": print_status(view),
        "error": error_code,
        "counts": counts,
        "counted_at": counted_at,
        "leaves_work": leaves_work,
        "failure_count": failure_count,
    })
}

fn print_status(view: &JobRunView) -> &'static str {
    view.outcome.map_or("running", |outcome| outcome.as_str())
}
