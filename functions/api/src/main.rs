//! `api`: every route but `POST /v1/notifications`. See `flow::api`.

use adapters::aws::AwsConfig;
use adapters::bus::EventBridgeBus;
use adapters::endpoint::local_endpoints_from_env;
use adapters::public_url::public_url_from_env;
use adapters::ses::sender_from_env;
use adapters::sqs::{QueueConfig, SqsQueue};
use adapters::store::database::{Database, DatabaseConfig};
use adapters::store::keys::LinkKeys;
use flow::api::Api;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    adapters::telemetry::start_logging();
    let aws = AwsConfig::from_env()?;
    let flow = &Api {
        database: Database::new(DatabaseConfig::from_env()?),
        queue: SqsQueue::new(aws.clone(), QueueConfig::from_env()?),
        bus: EventBridgeBus::from_env(aws.clone())?,
        keys: LinkKeys::from_env(aws)?,
        public_url: public_url_from_env()?,
        sender: sender_from_env()?,
        local_endpoints: local_endpoints_from_env()?,
    };
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
        let LambdaEvent { payload, context } = event;
        let response = Box::pin(flow.answer_request(payload, &context.request_id)).await;
        Ok::<_, Error>(response.into_gateway())
    }))
    .await
}
