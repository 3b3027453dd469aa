//! Tells people that a job keeps failing: once for each row of failures that is longer than a few, in the transaction that
//! notes it.
//!
//! That is not the run's own work: where it fails or reaches nobody, the log says so, and the next failure tries again. The
//! event that goes with it is told once.

use crate::creation::{Wanted, create_notifications};
use adapters::ids::new_uuid;
use adapters::store::database::{Database, StoreError};
use adapters::store::job_runs::{FailedRun, RowOfFailures, note_job_alert, take_job_alert_back};
use adapters::store::recipients::{RecipientFilter, list_recipients};
use adapters::telemetry::chain;
use adapters::wire::pages::KeyPage;
use domain::category::Priority;
use domain::id::{CategoryKey, JobRunId, NotificationId, RecipientKey, TenantId};
use domain::job::must_alert;
use domain::notification::NotificationRequest;
use domain::queue::Queue;
use serde_json::json;

/// The category of what tells people of a row of failures.
const ALERT_CATEGORY: &str = "job_failed";
/// The role of the recipients that are told.
const ALERT_ROLE: &str = "operator";
/// The most of them.
const MOST_ALERTED: u32 = 100;

/// The job that fails, as people are told of it.
pub(crate) struct FailingJob<'a> {
    /// Whose recipients are told.
    pub(crate) tenant: TenantId,
    /// Its name.
    pub(crate) name: &'a str,
    /// What it does.
    pub(crate) description: &'a str,
    /// Whether it is the service's own, whose failures the operator's alarms hear of.
    pub(crate) is_own: bool,
}

/// Tells people where a job has failed too often in a row, until somebody could be told of the row of failures.
pub(crate) async fn alert_if_failing(
    database: &Database,
    queue: &impl Queue,
    failing: &FailingJob<'_>,
    failed: &FailedRun,
) {
    if !must_alert(failed.failure_count, failed.is_alerted) {
        return;
    }
    let (failing_metric, unsent_metric) = match failing.is_own {
        true => ("job_failing", "job_alert_unsent"),
        false => ("domain_job_failing", "domain_job_alert_unsent"),
    };
    let (job, tenant_id, failure_count) = (failing.name, failing.tenant, failed.failure_count);
    tracing::error!(
        metric = failing_metric,
        job,
        %tenant_id,
        failure_count,
        "{job} has failed {failure_count} times in a row"
    );
    match alert(database, queue, failing, failed.id).await {
        Ok(reached) if reached > 0 => {}
        Ok(_) => tracing::error!(
            metric = unsent_metric,
            job,
            %tenant_id,
            "nobody is told that {job} fails: tenant {tenant_id} needs a category {ALERT_CATEGORY} and recipients with \
             the role {ALERT_ROLE}; the next failure tries again"
        ),
        Err(error) => tracing::error!(
            metric = unsent_metric,
            job,
            %tenant_id,
            error = chain(&error),
            "nobody could be told that {job} fails; the next failure tries again"
        ),
    }
}

/// Notes the alert and creates its notifications, in one transaction. Answers with how many people that reaches.
async fn alert(
    database: &Database,
    queue: &impl Queue,
    failing: &FailingJob<'_>,
    run: JobRunId,
) -> Result<usize, StoreError> {
    let job = failing.name;
    let mut transaction = database.begin(failing.tenant, job).await?;
    let Some(failures) = note_job_alert(&mut transaction, job, run).await? else {
        transaction.commit().await?;
        // Another run has told of the same failures.
        return Ok(1);
    };
    let filter = RecipientFilter { role: Some(ALERT_ROLE.to_owned()) };
    let page = KeyPage { after: None, size: MOST_ALERTED };
    let recipients = list_recipients(&mut transaction, &filter, &page).await?;
    let wanted: Vec<Wanted> = recipients
        .iter()
        .take(MOST_ALERTED as usize)
        .filter_map(|recipient| RecipientKey::parse(&recipient.id).ok())
        .map(|recipient| Wanted {
            id: NotificationId::from_uuid(new_uuid()),
            request: write_alert(failing, recipient, &failures),
        })
        .collect();
    let created = create_notifications(&mut transaction, job, &wanted).await?;
    let reached = wanted.len() - created.refused.len();
    if reached == 0 {
        take_job_alert_back(&mut transaction, job, run).await?;
    }
    transaction.commit().await?;
    for (_, refusal) in &created.refused {
        tracing::error!(job, "an alert cannot be sent as it stands: {refusal}");
    }
    queue.publish(&created.publications).await;
    Ok(reached)
}

fn write_alert(failing: &FailingJob<'_>, recipient: RecipientKey, failures: &RowOfFailures) -> NotificationRequest {
    let RowOfFailures { failure_count, failing_since_at, error_code } = failures;
    let data = json!({
        "job": failing.name,
        "description": failing.description,
        "failure_count": failure_count,
        "failing_since": failing_since_at,
        "error": error_code.as_deref().unwrap_or("died"),
    });
    let category = CategoryKey::parse(ALERT_CATEGORY).expect("the category's key is one");
    NotificationRequest { priority: Priority::Critical, ..NotificationRequest::to_recipient(category, recipient, data) }
}
