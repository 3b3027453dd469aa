//! `dead_letter`: the dead-letter queue. See `flow::dead_letter`.

use adapters::aws::AwsConfig;
use adapters::bus::EventBridgeBus;
use adapters::store::database::{Database, DatabaseConfig};
use adapters::wire::sqs_event::{BatchResponse, read_event};
use flow::dead_letter::DeadLetter;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    adapters::telemetry::start_logging();
    let flow = &DeadLetter {
        database: Database::new(DatabaseConfig::from_env()?),
        bus: EventBridgeBus::from_env(AwsConfig::from_env()?)?,
    };
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
        Box::pin(flow.store_batch(&read_event(event.payload)?)).await?;
        Ok::<_, Error>(BatchResponse::default())
    }))
    .await
}
