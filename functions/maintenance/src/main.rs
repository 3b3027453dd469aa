//! `maintenance`: each day. See `flow::maintenance`.

use adapters::clock::instant_of;
use adapters::store::database::{Database, DatabaseConfig};
use flow::maintenance::Maintenance;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;
use std::time::Duration;

/// As `template.yaml` has it.
const TIMEOUT: Duration = Duration::from_secs(900);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    adapters::telemetry::start_logging();
    let flow = &Maintenance { database: Database::new(DatabaseConfig::from_env()?) };
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
        let counts = Box::pin(flow.run(instant_of(event.context.deadline(), TIMEOUT))).await?;
        Ok::<_, Error>(counts.print())
    }))
    .await
}
