//! `digest`: every five minutes. See `flow::digest`.

use adapters::aws::AwsConfig;
use adapters::clock::instant_of;
use adapters::public_url::public_url_from_env;
use adapters::sqs::{QueueConfig, SqsQueue};
use adapters::store::database::{Database, DatabaseConfig};
use flow::digest::Digest;
use flow::job::{Frame, Job, read_trigger};
use flow::progress::Progress;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;
use std::time::Duration;

/// As `template.yaml` has it.
const TIMEOUT: Duration = Duration::from_secs(240);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    adapters::telemetry::start_logging();
    let aws = AwsConfig::from_env()?;
    let flow = &Digest {
        database: Database::new(DatabaseConfig::from_env()?),
        queue: SqsQueue::new(aws, QueueConfig::from_env()?),
        public_url: public_url_from_env()?,
    };
    let frame = &Frame { database: &flow.database, queue: &flow.queue };
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
        let (trigger, deadline) = (read_trigger(&event.payload), instant_of(event.context.deadline(), TIMEOUT));
        let work = async |progress: &Progress<'_>| flow.run(deadline, progress).await;
        Ok::<_, Error>(Box::pin(frame.run(Job::Digest, trigger, deadline, work)).await?)
    }))
    .await
}
