//! `domain_job`: each minute. See `flow::domain_job`.

use adapters::aws::AwsConfig;
use adapters::clock::instant_of;
use adapters::endpoint::EndpointClient;
use adapters::envelope::Envelope;
use adapters::kms::Kms;
use adapters::sqs::{QueueConfig, SqsQueue};
use adapters::store::database::{Database, DatabaseConfig};
use flow::domain_job::DomainJobs;
use flow::job::{Frame, Job, read_trigger};
use flow::progress::Progress;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;
use std::time::Duration;

/// As `template.yaml` has it.
const TIMEOUT: Duration = Duration::from_secs(300);
/// One for each job at work, and one beside them.
const CONNECTIONS: usize = 4;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    adapters::telemetry::start_logging();
    let aws = AwsConfig::from_env()?;
    let flow = &DomainJobs {
        database: Database::with_connections(DatabaseConfig::from_env()?, CONNECTIONS),
        queue: SqsQueue::new(aws.clone(), QueueConfig::from_env()?),
        envelope: Envelope::new(Kms::from_env(aws)?),
        endpoints: EndpointClient::from_env()?,
    };
    let frame = &Frame { database: &flow.database, queue: &flow.queue };
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
        let (trigger, deadline) = (read_trigger(&event.payload), instant_of(event.context.deadline(), TIMEOUT));
        let work = async |progress: &Progress<'_>| flow.run(deadline, progress).await;
        Ok::<_, Error>(Box::pin(frame.run(Job::DomainJob, trigger, deadline, work)).await?)
    }))
    .await
}
