//! `maintenance`: each day. See `flow::maintenance`.

use adapters::clock::instant_of;
use adapters::store::database::{Database, DatabaseConfig};
use flow::job::{Frame, Job, NoQueue, read_trigger};
use flow::maintenance::Maintenance;
use flow::progress::Progress;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;
use std::time::Duration;

/// As `template.yaml` has it.
const TIMEOUT: Duration = Duration::from_secs(900);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    adapters::telemetry::start_logging();
    let flow = &Maintenance { database: Database::new(DatabaseConfig::from_env()?) };
    let frame = &Frame { database: &flow.database, queue: &NoQueue };
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
        let (trigger, deadline) = (read_trigger(&event.payload), instant_of(event.context.deadline(), TIMEOUT));
        let work = async |progress: &Progress<'_>| flow.run(deadline, progress).await;
        Ok::<_, Error>(Box::pin(frame.run(Job::Maintenance, trigger, deadline, work)).await?)
    }))
    .await
}
