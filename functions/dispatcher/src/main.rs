//! `dispatcher`: each minute. See `flow::dispatcher`.

use adapters::aws::AwsConfig;
use adapters::bus::EventBridgeBus;
use adapters::clock::instant_of;
use adapters::public_url::public_url_from_env;
use adapters::sqs::{QueueConfig, SqsQueue};
use adapters::store::database::{Database, DatabaseConfig};
use flow::dispatcher::Dispatcher;
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
    let flow = &Dispatcher {
        database: Database::new(DatabaseConfig::from_env()?),
        queue: SqsQueue::new(aws.clone(), QueueConfig::with_dlq_from_env()?),
        bus: EventBridgeBus::from_env(aws)?,
        public_url: public_url_from_env()?,
    };
    let frame = &Frame { database: &flow.database, queue: &flow.queue };
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
        let (trigger, deadline) = (read_trigger(&event.payload), instant_of(event.context.deadline(), TIMEOUT));
        let work = async |progress: &Progress<'_>| flow.dispatch_due(deadline, progress).await;
        Ok::<_, Error>(Box::pin(frame.run(Job::Dispatcher, trigger, deadline, work)).await?)
    }))
    .await
}
