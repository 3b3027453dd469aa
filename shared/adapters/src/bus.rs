//! The project's event bus on Amazon EventBridge.

use crate::aws::{AwsConfig, describe_failure, service_config};
use crate::env::{self, ConfigError};
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use domain::event::{Event, EventBus};
use domain::outcome::ProviderError;
use domain::queue::NotTaken;
use futures::future::join_all;
use std::sync::OnceLock;
use std::time::Duration;

/// The most entries of a request, which may hold 1 MB together; an event of ours holds a few kilobytes at most.
/// <https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html>
const BATCH: usize = 10;
/// The source of everything that this service publishes.
const SOURCE: &str = "harkara";

/// The bus, through the SDK. The client is built at the first call.
pub struct EventBridgeBus {
    aws: AwsConfig,
    name: String,
    client: OnceLock<aws_sdk_eventbridge::Client>,
}

impl EventBridgeBus {
    /// Reads `EVENT_BUS_NAME`.
    pub fn from_env(aws: AwsConfig) -> Result<Self, ConfigError> {
        Ok(Self { aws, name: env::required("EVENT_BUS_NAME")?, client: OnceLock::new() })
    }

    fn client(&self) -> &aws_sdk_eventbridge::Client {
        self.client.get_or_init(|| {
            let timeouts = TimeoutConfig::builder()
                .connect_timeout(Duration::from_millis(700))
                .operation_timeout(Duration::from_secs(3))
                .build();
            // An event on the bus twice carries the same id twice, so the SDK may repeat a call.
            let retries = RetryConfig::standard().with_max_attempts(2);
            let config =
                service_config!(aws_sdk_eventbridge, self.aws, self.aws.endpoint("EVENTBRIDGE"), retries, timeouts);
            aws_sdk_eventbridge::Client::from_conf(config)
        })
    }
}

impl EventBus for EventBridgeBus {
    async fn publish_events(&self, events: &[Event]) -> NotTaken {
        let batches = events.chunks(BATCH).map(|batch| async move {
            let entries = batch.iter().map(|event| {
                PutEventsRequestEntry::builder()
                    .event_bus_name(&self.name)
                    .source(SOURCE)
                    .detail_type(&event.detail_type)
                    .detail(event.detail.to_string())
                    .build()
            });
            let put = self.client().put_events().set_entries(Some(entries.collect())).send().await;
            match put {
                // A 200 may carry failures: results stand in the order of the entries.
                Ok(output) if output.failed_entry_count() > 0 => {
                    tracing::warn!(
                        failed_entry_count = output.failed_entry_count(),
                        "the bus refused events; they stay in the outbox"
                    );
                    let results = output.entries().iter().enumerate();
                    results.filter(|(_, result)| result.error_code().is_some()).map(|(place, _)| place).collect()
                }
                Ok(_) => Vec::new(),
                Err(error) => {
                    let ProviderError { code, detail } = describe_failure(&error);
                    tracing::warn!(code, error = detail, "the bus took no event; they stay in the outbox");
                    (0..batch.len()).collect::<Vec<_>>()
                }
            }
        });
        let results = join_all(batches).await.into_iter().enumerate();
        NotTaken(
            results.flat_map(|(batch, failed)| failed.into_iter().map(move |place| batch * BATCH + place)).collect(),
        )
    }
}
