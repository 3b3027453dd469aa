//! Posts a signed message to a job's endpoint, outside of any transaction.
//!
//! At least once: a run that dies after its endpoint has understood it is made up for by another that tells the same, by the
//! same `webhook-id`. A call that failed in words is over; the next time of the schedule is another message.

use super::candidates::MakeError;
use super::{ACTOR, Finished, Run};
use adapters::endpoint::{EndpointClient, SignedMessage};
use adapters::envelope::Envelope;
use adapters::store::database::Database;
use adapters::store::job_secrets::{JobSecretError, load_job_secrets};
use adapters::telemetry::chain;
use domain::endpoint::{EndpointUrl, print_signatures};
use domain::secret::KeyService;
use serde_json::json;

/// Calls the endpoint that the job names.
pub(super) async fn call_endpoint<K: KeyService>(
    database: &Database,
    envelope: &Envelope<K>,
    client: &EndpointClient,
    run: &Run,
    url: &EndpointUrl,
) -> Result<Finished, MakeError> {
    let secrets = load_job_secrets(envelope, database, run.tenant, &run.job.key, ACTOR).await;
    let secrets = secrets.map_err(|error| match error {
        JobSecretError::Store(error) => MakeError::from(error),
        JobSecretError::Envelope(_) => {
            let (tenant, job) = (run.tenant, &run.job.key);
            tracing::error!(%tenant, job, error = chain(&error), "the secret of {job} cannot be had");
            MakeError::Job("endpoint_secret_unusable")
        }
    })?;
    if secrets.is_empty() {
        // It was removed, or calls no endpoint any more, since this run has begun.
        return Err(MakeError::Job("endpoint_secret_missing"));
    }
    let id = run.message.id.to_string();
    let timestamp = run.job.now.as_second();
    let body = json!({
        "type": "job.due",
        "timestamp": run.job.now,
        "data": {
            "job": run.job.key,
            "tenant_id": run.tenant.to_string(),
            "run_id": run.id.to_string(),
            "scheduled_at": run.message.due_at,
        },
    })
    .to_string();
    let signatures = print_signatures(&secrets, &id, timestamp, &body);
    let message = SignedMessage { id, timestamp, signatures, body };
    adapters::failpoint!("J4_signed", Err(adapters::store::database::StoreError::Corrupt("failpoint").into()));
    let status = client.post(url, message, run.job.timeout).await.map_err(MakeError::Endpoint)?;
    // Only by death is it forgotten that the endpoint has understood.
    adapters::failpoint!("J5_answered");
    Ok(Finished { counts: json!({"called": 1, "status": status}), created: 0, leaves_work: false })
}
