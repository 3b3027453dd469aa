//! The deliveries queue and its dead-letter queue on Amazon SQS.

use crate::aws::{AwsConfig, describe_failure, service_config};
use crate::env::{self, ConfigError};
use crate::wire::queue_message::print_message;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, MessageAttributeValue,
    SendMessageBatchRequestEntry,
};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use domain::outcome::ProviderError;
use domain::queue::{DeadMessage, NotTaken, Publication, Queue};
use futures::future::join_all;
use futures::stream::{self, StreamExt};
use std::sync::OnceLock;
use std::time::Duration;

/// The most entries of a batch request.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html>
const BATCH: usize = 10;
/// The most bytes of a batch request, bodies and attributes together.
const BATCH_SIZE: usize = 1_048_576;
/// What the notes on a dead message may take beside its body: four bytes for each character of the detail, and the rest.
const NOTES_SIZE: usize = 4 * MAX_DETAIL_CHARS + 1024;
/// Publishing calls at a time: a request's hundred notifications in one go, a backlog in several.
const SIDE_BY_SIDE: usize = 16;
/// A message attribute holds what a batch of them may hold together; details are cut far below that.
const MAX_DETAIL_CHARS: usize = 1000;
/// A caller waits for `enqueue`, and the dispatcher publishes what SQS did not take: no long fight here.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the queues are.
#[derive(Clone, Debug)]
pub struct QueueConfig {
    queue_url: String,
    dlq_url: Option<String>,
}

impl QueueConfig {
    /// Reads `QUEUE_URL`.
    pub fn from_env() -> Result<Self, ConfigError> {
        Ok(Self { queue_url: env::required("QUEUE_URL")?, dlq_url: None })
    }

    /// Reads `QUEUE_URL` and `DLQ_URL`, for the functions that bury messages.
    pub fn with_dlq_from_env() -> Result<Self, ConfigError> {
        Ok(Self { dlq_url: Some(env::required("DLQ_URL")?), ..Self::from_env()? })
    }
}

/// The queues, through the SDK. The client is built at the first call.
pub struct SqsQueue {
    aws: AwsConfig,
    config: QueueConfig,
    client: OnceLock<aws_sdk_sqs::Client>,
}

impl SqsQueue {
    /// Keeps what a client needs.
    pub fn new(aws: AwsConfig, config: QueueConfig) -> Self {
        Self { aws, config, client: OnceLock::new() }
    }

    fn client(&self) -> &aws_sdk_sqs::Client {
        self.client.get_or_init(|| {
            let timeouts = TimeoutConfig::builder()
                .connect_timeout(Duration::from_millis(700))
                .operation_attempt_timeout(CALL_TIMEOUT / 2)
                .operation_timeout(CALL_TIMEOUT)
                .build();
            // A second message for a delivery is harmless, so the SDK may repeat a call.
            let retries = RetryConfig::standard().with_max_attempts(2).with_initial_backoff(Duration::from_millis(100));
            let config = service_config!(aws_sdk_sqs, self.aws, self.aws.endpoint("SQS"), retries, timeouts);
            aws_sdk_sqs::Client::from_conf(config)
        })
    }

    async fn send_batch(&self, url: &str, entries: Vec<SendMessageBatchRequestEntry>) -> Vec<usize> {
        let count = entries.len();
        let sent = self.client().send_message_batch().queue_url(url).set_entries(Some(entries)).send().await;
        match sent {
            Ok(output) => failed_places(output.failed(), "send"),
            Err(error) => {
                let ProviderError { code, detail } = describe_failure(&error);
                tracing::warn!(code, error = detail, message_count = count, "the queue took no message of a batch");
                (0..count).collect()
            }
        }
    }
}

impl Queue for SqsQueue {
    async fn publish(&self, publications: &[Publication]) -> NotTaken {
        let batches: Vec<_> = publications
            .chunks(BATCH)
            .map(|batch| async move {
                let entries = batch.iter().enumerate().map(|(place, publication)| {
                    SendMessageBatchRequestEntry::builder()
                        .id(place.to_string())
                        .message_body(print_message(&publication.message))
                        .delay_seconds(i32::try_from(publication.delay.as_secs()).unwrap_or(900).min(900))
                        // On a standard queue the group makes it a fair queue: one tenant's backlog does not delay another's.
                        .message_group_id(publication.message.tenant.to_string())
                        .build()
                        .expect("id and body are set")
                });
                self.send_batch(&self.config.queue_url, entries.collect()).await
            })
            .collect();
        gather(stream::iter(batches).buffered(SIDE_BY_SIDE).collect().await)
    }

    async fn bury(&self, dead: &[DeadMessage]) -> NotTaken {
        let Some(url) = self.config.dlq_url.as_deref() else {
            return NotTaken((0..dead.len()).collect());
        };
        let batches = split_dead(dead).into_iter().map(|(begin, batch)| async move {
            let entries = batch.iter().enumerate().map(|(place, message)| {
                let detail: String =
                    message.detail.chars().filter(|c| !c.is_control()).take(MAX_DETAIL_CHARS).collect();
                let sent_at = message.sent_at_millis.map(|millis| millis.to_string()).unwrap_or_default();
                let notes = [
                    ("reason", message.reason.clone()),
                    ("reason_detail", detail),
                    ("receive_count", message.receive_count.to_string()),
                    ("sent_at_millis", sent_at),
                ];
                // SQS refuses an empty attribute, and attributes beside a body that leaves them no room.
                let has_room = message.body.len() + NOTES_SIZE <= BATCH_SIZE;
                let notes = notes.into_iter().filter(|(_, text)| has_room && !text.is_empty());
                notes
                    .fold(SendMessageBatchRequestEntry::builder(), |entry, (name, text)| {
                        entry.message_attributes(name, text_attribute(&text))
                    })
                    .id(place.to_string())
                    .message_body(&message.body)
                    .build()
                    .expect("id and body are set")
            });
            let failed = self.send_batch(url, entries.collect()).await;
            failed.into_iter().map(|place| begin + place).collect::<Vec<_>>()
        });
        NotTaken(join_all(batches).await.concat())
    }

    async fn hide(&self, hidden: &[(String, Duration)]) -> NotTaken {
        let batches = hidden.chunks(BATCH).map(|batch| async move {
            let entries = batch.iter().enumerate().map(|(place, (receipt, wait))| {
                ChangeMessageVisibilityBatchRequestEntry::builder()
                    .id(place.to_string())
                    .receipt_handle(receipt)
                    .visibility_timeout(i32::try_from(wait.as_secs()).unwrap_or(i32::MAX))
                    .build()
                    .expect("id and receipt are set")
            });
            let changed = self
                .client()
                .change_message_visibility_batch()
                .queue_url(&self.config.queue_url)
                .set_entries(Some(entries.collect()))
                .send()
                .await;
            match changed {
                Ok(output) => failed_places(output.failed(), "hide"),
                Err(error) => {
                    let ProviderError { code, detail } = describe_failure(&error);
                    tracing::warn!(code, error = detail, "no message was hidden; they come back at their own time");
                    (0..batch.len()).collect()
                }
            }
        });
        gather(join_all(batches).await)
    }
}

/// A 200 may carry failures: each entry has its own result.
fn failed_places(failed: &[BatchResultErrorEntry], action: &str) -> Vec<usize> {
    for entry in failed {
        tracing::warn!(
            code = entry.code(),
            sender_fault = entry.sender_fault(),
            "the queue refused to {action} a message"
        );
    }
    failed.iter().filter_map(|entry| entry.id().parse().ok()).collect()
}

/// Dead messages in batches that SQS takes whole, each with its place: somebody else's body may be as large as a batch.
fn split_dead(dead: &[DeadMessage]) -> Vec<(usize, &[DeadMessage])> {
    let (mut batches, mut begin, mut size) = (Vec::new(), 0, 0);
    for (place, message) in dead.iter().enumerate() {
        let more = message.body.len() + NOTES_SIZE;
        if place > begin && (place - begin == BATCH || size + more > BATCH_SIZE) {
            batches.push((begin, &dead[begin..place]));
            (begin, size) = (place, 0);
        }
        size += more;
    }
    if begin < dead.len() {
        batches.push((begin, &dead[begin..]));
    }
    batches
}

fn gather(batches: Vec<Vec<usize>>) -> NotTaken {
    let places = batches.into_iter().enumerate();
    NotTaken(places.flat_map(|(batch, failed)| failed.into_iter().map(move |place| batch * BATCH + place)).collect())
}

fn text_attribute(text: &str) -> MessageAttributeValue {
    MessageAttributeValue::builder().data_type("String").string_value(text).build().expect("the data type is set")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_failed_is_told_by_its_place() {
        let failed = BatchResultErrorEntry::builder().id("1").code("InternalError").sender_fault(false).build();
        assert_eq!(failed_places(&[failed.expect("it has an id")], "SendMessageBatch"), [1]);
    }

    #[test]
    fn dead_messages_go_in_batches_that_the_queue_takes() {
        let dead = |size: usize| DeadMessage {
            body: "a".repeat(size),
            reason: "poison".to_owned(),
            detail: String::new(),
            receive_count: 1,
            sent_at_millis: None,
        };
        let split = |sizes: &[usize]| -> Vec<(usize, usize)> {
            let dead: Vec<_> = sizes.iter().map(|size| dead(*size)).collect();
            split_dead(&dead).into_iter().map(|(begin, batch)| (begin, batch.len())).collect()
        };
        assert_eq!(split(&[]), []);
        assert_eq!(split(&[10; 23]), [(0, 10), (10, 10), (20, 3)]);
        assert_eq!(split(&[10, BATCH_SIZE, 10, 600_000, 600_000]), [(0, 1), (1, 1), (2, 2), (4, 1)]);
    }
}
