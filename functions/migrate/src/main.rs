//! `migrate`: a step of the deploy, invoked by hand or by a pipeline. See `flow::migrate`.

use adapters::store::database::{Database, DatabaseConfig, RoleLogins};
use flow::migrate::Migrate;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    adapters::telemetry::start_logging();
    let flow = &Migrate { database: Database::new(DatabaseConfig::from_env()?), logins: RoleLogins::from_env()? };
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
        Box::pin(flow.migrate(&event.payload)).await.map_err(Error::from)
    }))
    .await
}
