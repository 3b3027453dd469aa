//! `feedback`: what SES tells of mails, from its queue; and a job that asks it. See `flow::feedback`.

use adapters::aws::AwsConfig;
use adapters::bus::EventBridgeBus;
use adapters::clock::instant_of;
use adapters::ses_account::SesAccount;
use adapters::sqs::{QueueConfig, SqsQueue};
use adapters::store::database::{Database, DatabaseConfig};
use adapters::wire::sqs_event::read_event;
use flow::feedback::Feedback;
use flow::job::{Frame, Job, NoQueue, read_trigger};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;
use std::time::Duration;

/// As `template.yaml` has it.
const TIMEOUT: Duration = Duration::from_secs(60);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    adapters::telemetry::start_logging();
    let aws = AwsConfig::from_env()?;
    let flow = &Feedback {
        database: Database::new(DatabaseConfig::from_env()?),
        account: SesAccount::new(aws.clone()),
        queue: SqsQueue::new(aws.clone(), QueueConfig::from_env()?),
        bus: EventBridgeBus::from_env(aws)?,
    };
    let frame = &Frame { database: &flow.database, queue: &NoQueue };
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
        let (trigger, deadline) = (read_trigger(&event.payload), instant_of(event.context.deadline(), TIMEOUT));
        if event.payload.get("Records").is_none() {
            let run = frame.run(Job::Feedback, trigger, deadline, async |told| flow.reconcile(deadline, told).await);
            return Ok(Box::pin(run).await?);
        }
        let records = read_event(event.payload)?;
        Ok::<_, Error>(serde_json::to_value(Box::pin(flow.hear_batch(&records, deadline)).await)?)
    }))
    .await
}
