//! `escalation`: each minute. See `flow::escalation`.

use adapters::aws::AwsConfig;
use adapters::clock::instant_of;
use adapters::sqs::{QueueConfig, SqsQueue};
use adapters::store::database::{Database, DatabaseConfig};
use flow::escalation::Escalation;
use flow::job::{Frame, Job, read_trigger};
use flow::progress::Progress;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;
use std::time::Duration;

/// As `template.yaml` has it.
const TIMEOUT: Duration = Duration::from_secs(55);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    adapters::telemetry::start_logging();
    let aws = AwsConfig::from_env()?;
    let flow = &Escalation {
        database: Database::new(DatabaseConfig::from_env()?),
        queue: SqsQueue::new(aws, QueueConfig::from_env()?),
    };
    let frame = &Frame { database: &flow.database, queue: &flow.queue };
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
        let (trigger, deadline) = (read_trigger(&event.payload), instant_of(event.context.deadline(), TIMEOUT));
        let work = async |progress: &Progress<'_>| flow.run(deadline, progress).await;
        Ok::<_, Error>(Box::pin(frame.run(Job::Escalation, trigger, deadline, work)).await?)
    }))
    .await
}
