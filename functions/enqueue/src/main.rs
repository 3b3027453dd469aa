//! `enqueue`: `POST /v1/notifications` and EventBridge `notification.requested`. See `flow::enqueue`.

use adapters::aws::AwsConfig;
use adapters::sqs::{QueueConfig, SqsQueue};
use adapters::store::database::{Database, DatabaseConfig};
use flow::enqueue::Enqueue;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    adapters::telemetry::start_logging();
    let flow = &Enqueue {
        database: Database::new(DatabaseConfig::from_env()?),
        queue: SqsQueue::new(AwsConfig::from_env()?, QueueConfig::from_env()?),
    };
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
        let LambdaEvent { payload, context } = event;
        if payload.get("detail-type").is_some() {
            Box::pin(flow.accept_event(&payload)).await?;
            return Ok::<_, Error>(Value::Null);
        }
        let response = Box::pin(flow.answer_request(payload, &context.request_id)).await;
        Ok(serde_json::to_value(response.into_gateway())?)
    }))
    .await
}
