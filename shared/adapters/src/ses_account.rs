//! What the SES account says of itself: the addresses that it does not deliver to, and its rate.
//!
//! Both calls only read, so the SDK may repeat them; sending is `ses`'s, whose client never does.
//! <https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_ListSuppressedDestinations.html>
//! <https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_GetAccount.html>

use crate::aws::{AwsConfig, describe_failure, service_config};
use aws_sdk_sesv2::types::SuppressionListReason;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use domain::account::{ListPage, ListedAddress, MailAccount};
use domain::feedback::SuppressionReason;
use domain::outcome::ProviderError;
use std::num::NonZeroU32;
use std::sync::OnceLock;
use std::time::Duration;

/// The most addresses of a page.
const PAGE_SIZE: i32 = 1000;

/// The account, through the SDK. The client is built at the first call.
pub struct SesAccount {
    aws: AwsConfig,
    client: OnceLock<aws_sdk_sesv2::Client>,
}

impl SesAccount {
    /// Keeps what a client needs.
    pub fn new(aws: AwsConfig) -> Self {
        Self { aws, client: OnceLock::new() }
    }

    fn client(&self) -> &aws_sdk_sesv2::Client {
        self.client.get_or_init(|| {
            let timeouts = TimeoutConfig::builder()
                .connect_timeout(Duration::from_secs(2))
                .operation_attempt_timeout(Duration::from_secs(4))
                .operation_timeout(Duration::from_secs(9))
                .build();
            // SES allows one such call in a second; the SDK waits that out.
            let retries = RetryConfig::standard().with_max_attempts(4);
            let config = service_config!(aws_sdk_sesv2, self.aws, self.aws.endpoint("SESV2"), retries, timeouts);
            aws_sdk_sesv2::Client::from_conf(config)
        })
    }
}

impl MailAccount for SesAccount {
    async fn list_suppressed(&self, after: Option<&str>) -> Result<ListPage, ProviderError> {
        let request = self.client().list_suppressed_destinations().page_size(PAGE_SIZE);
        let page =
            request.set_next_token(after.map(str::to_owned)).send().await.map_err(|error| describe_failure(&error))?;
        let listed =
            page.suppressed_destination_summaries.unwrap_or_default().into_iter().map(|summary| ListedAddress {
                address: summary.email_address,
                reason: match summary.reason {
                    SuppressionListReason::Complaint => SuppressionReason::Complaint,
                    _ => SuppressionReason::HardBounce,
                },
            });
        // What is no text that the database takes is no address either.
        let addresses = listed.filter(|listed| !listed.address.chars().any(char::is_control)).collect();
        Ok(ListPage { addresses, next: page.next_token.filter(|token| !token.is_empty()) })
    }

    async fn read_send_rate(&self) -> Result<NonZeroU32, ProviderError> {
        let account = self.client().get_account().send().await;
        let account = account.map_err(|error| describe_failure(&error))?;
        // The provider counts in whole mails a second; a cast saturates, and says 0 of what is none.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates, and rounds down on purpose"
        )]
        let rate = account.send_quota.and_then(|quota| NonZeroU32::new(quota.max_send_rate as u32));
        rate.ok_or_else(|| ProviderError {
            code: "NoRate".to_owned(),
            detail: "the account says nothing of its rate".to_owned(),
        })
    }
}
