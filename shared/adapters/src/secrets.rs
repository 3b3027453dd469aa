//! Secrets from AWS Secrets Manager.

use crate::aws::{AwsConfig, describe_failure, service_config};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use secrecy::SecretString;
use std::fmt;
use std::time::Duration;

/// A secret could not be read.
#[derive(Debug)]
pub struct SecretError {
    arn: String,
    cause: String,
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the secret {} could not be read: {}", self.arn, self.cause)
    }
}

impl std::error::Error for SecretError {}

/// Reads the present value of a secret.
pub(crate) async fn read_secret(aws: &AwsConfig, arn: &str) -> Result<SecretString, SecretError> {
    let failed = |cause: String| SecretError { arn: arn.to_owned(), cause };
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(1))
        .operation_timeout(Duration::from_secs(4))
        .build();
    let retries = RetryConfig::standard().with_max_attempts(3);
    let config = service_config!(aws_sdk_secretsmanager, aws, aws.endpoint("SECRETS_MANAGER"), retries, timeouts);
    let client = aws_sdk_secretsmanager::Client::from_conf(config);
    let output = client.get_secret_value().secret_id(arn).send().await.map_err(|error| {
        let said = describe_failure(&error);
        failed(format!("{}: {}", said.code, said.detail))
    })?;
    output.secret_string.map(SecretString::from).ok_or_else(|| failed("it holds bytes and no text".to_owned()))
}
