//! What all SDK clients share: region, credentials, transport, endpoints.
//!
//! Lambda gives credentials in the environment, for as long as the sandbox lives, so no other provider is linked:
//! that keeps the functions small and their start short.

use crate::env::{self, ConfigError};
use aws_credential_types::Credentials;
use aws_smithy_http_client::{Builder, tls};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::display::DisplayErrorContext;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use domain::outcome::ProviderError;

/// Where and as whom AWS is called.
#[derive(Clone, Debug)]
pub struct AwsConfig {
    /// Such as `ap-south-1`.
    pub region: String,
    /// From Lambda; their Debug shows no secret.
    pub credentials: Credentials,
    endpoint: Option<String>,
}

impl AwsConfig {
    /// Reads Lambda's own variables and `AWS_ENDPOINT_URL`.
    pub fn from_env() -> Result<Self, ConfigError> {
        let credentials = Credentials::new(
            env::required("AWS_ACCESS_KEY_ID")?,
            env::required("AWS_SECRET_ACCESS_KEY")?,
            env::optional("AWS_SESSION_TOKEN"),
            None,
            "lambda environment",
        );
        Ok(Self { region: env::required("AWS_REGION")?, credentials, endpoint: env::optional("AWS_ENDPOINT_URL") })
    }

    /// The endpoint of a service where it is not AWS's own: `AWS_ENDPOINT_URL_<service>`, else `AWS_ENDPOINT_URL`.
    /// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>
    pub fn endpoint(&self, service: &str) -> Option<String> {
        env::optional(&format!("AWS_ENDPOINT_URL_{service}")).or_else(|| self.endpoint.clone())
    }
}

/// A transport, with connections of its own. It is made at a client's first call:
/// the root certificates are read from disk, and a start should not wait for that.
pub(crate) fn http_client(endpoint: Option<&str>) -> SharedHttpClient {
    if endpoint.is_some_and(|url| url.starts_with("http://")) {
        return Builder::new().build_http();
    }
    Builder::new().tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring)).build_https()
}

/// Builds the configuration of one service's client; the services' config types share names and no trait.
macro_rules! service_config {
    ($sdk:ident, $aws:expr, $endpoint:expr, $retries:expr, $timeouts:expr) => {{
        let endpoint: Option<String> = $endpoint;
        let builder = $sdk::Config::builder()
            .behavior_version($sdk::config::BehaviorVersion::latest())
            .region($sdk::config::Region::new($aws.region.clone()))
            .credentials_provider($aws.credentials.clone())
            .http_client(crate::aws::http_client(endpoint.as_deref()))
            .retry_config($retries)
            .timeout_config($timeouts);
        match endpoint {
            Some(url) => builder.endpoint_url(url).build(),
            None => builder.build(),
        }
    }};
}
pub(crate) use service_config;

/// What went wrong with a call, without the answer itself: the SDK's error prints its whole body, which may hold a plain
/// key, a secret or addresses.
pub(crate) fn describe_failure<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> ProviderError {
    let (fallback, detail) = match error {
        SdkError::ServiceError(_) => ("None", error.message().unwrap_or("it gave no reason").to_owned()),
        SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
            Some(cause) => ("NoConnection", DisplayErrorContext(cause).to_string()),
            None => ("NoConnection", "it cannot be reached".to_owned()),
        },
        SdkError::TimeoutError(_) => ("Timeout", "it did not answer in time".to_owned()),
        SdkError::ResponseError(_) => ("AnswerUnreadable", "its answer could not be read".to_owned()),
        _ => ("ConstructionFailure", "the request could not be made".to_owned()),
    };
    ProviderError { code: error.code().unwrap_or(fallback).to_owned(), detail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_smithy_types::error::ErrorMetadata;

    #[test]
    fn an_answer_is_not_repeated_in_words() {
        const ANSWER: &str = "PLANTED";
        let named = ErrorMetadata::builder().code("AccessDeniedException").message("words").build();
        let errors = [
            (SdkError::response_error("cut off", ANSWER), "AnswerUnreadable"),
            (SdkError::service_error(named, ANSWER), "AccessDeniedException"),
            (SdkError::service_error(ErrorMetadata::builder().build(), ANSWER), "None"),
            (SdkError::timeout_error("late"), "Timeout"),
            (SdkError::construction_failure("odd"), "ConstructionFailure"),
        ];
        for (error, code) in errors {
            let ProviderError { code: found, detail } = describe_failure(&error);
            assert_eq!(found, code);
            assert!(!detail.contains(ANSWER) && !detail.is_empty(), "{detail}");
        }
    }
}
