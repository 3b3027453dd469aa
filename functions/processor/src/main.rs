//! `processor`: the deliveries queue. See `flow::processor`.

use adapters::aws::AwsConfig;
use adapters::public_url::public_url_from_env;
use adapters::ses::{MailConfig, SesMailSender};
use adapters::sqs::{QueueConfig, SqsQueue};
use adapters::store::{database::Database, database::DatabaseConfig, keys::LinkKeys};
use adapters::wire::sqs_event::read_event;
use adapters::{bus::EventBridgeBus, clock::instant_of};
use flow::processor::Processor;
use flow::template_cache::TemplateCache;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;
use std::time::Duration;

/// As `template.yaml` has it.
const TIMEOUT: Duration = Duration::from_secs(30);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    adapters::telemetry::start_logging();
    let aws = AwsConfig::from_env()?;
    let mail_config = MailConfig::from_env()?;
    let flow = &Processor {
        database: Database::new(DatabaseConfig::from_env()?),
        mail: SesMailSender::new(aws.clone(), &mail_config),
        queue: SqsQueue::new(aws.clone(), QueueConfig::with_dlq_from_env()?),
        bus: EventBridgeBus::from_env(aws.clone())?,
        mail_config,
        keys: LinkKeys::from_env(aws)?,
        public_url: public_url_from_env()?,
        templates: TemplateCache::default(),
    };
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
        let records = read_event(event.payload)?;
        let deadline = instant_of(event.context.deadline(), TIMEOUT);
        Ok::<_, Error>(Box::pin(flow.process_batch(&records, deadline)).await)
    }))
    .await
}
