//! The key service: data keys from AWS KMS, bound to their tenant by the encryption context.

use crate::aws::{AwsConfig, describe_failure, service_config};
use crate::env::{self, ConfigError};
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::DataKeySpec;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use domain::id::TenantId;
use domain::outcome::ProviderError;
use domain::secret::{DataKeyBytes, GeneratedKey, KeyService, KeyServiceError};
use std::sync::OnceLock;
use std::time::Duration;
use zeroize::{Zeroize, Zeroizing};

/// The one name in the encryption context. `template.yaml` lets no call through without it.
const CONTEXT: &str = "tenant";
/// KMS answers in milliseconds, and whoever waits for it has other work to do or a caller that waits.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// KMS, through the SDK. The client is built at the first call.
pub struct Kms {
    aws: AwsConfig,
    key_arn: String,
    client: OnceLock<aws_sdk_kms::Client>,
}

impl Kms {
    /// Reads `DATA_KEY_ARN`, the master key that wraps the tenants' data keys.
    pub fn from_env(aws: AwsConfig) -> Result<Self, ConfigError> {
        Ok(Self::new(aws, env::required("DATA_KEY_ARN")?))
    }

    /// Keeps what a client needs.
    pub fn new(aws: AwsConfig, key_arn: String) -> Self {
        Self { aws, key_arn, client: OnceLock::new() }
    }

    fn client(&self) -> &aws_sdk_kms::Client {
        self.client.get_or_init(|| {
            let timeouts = TimeoutConfig::builder()
                .connect_timeout(Duration::from_millis(700))
                .operation_attempt_timeout(CALL_TIMEOUT / 2)
                .operation_timeout(CALL_TIMEOUT)
                .build();
            // A key that is made and not used costs nothing, so the SDK may repeat a call.
            let retries = RetryConfig::standard().with_max_attempts(3).with_initial_backoff(Duration::from_millis(100));
            let config = service_config!(aws_sdk_kms, self.aws, self.aws.endpoint("KMS"), retries, timeouts);
            aws_sdk_kms::Client::from_conf(config)
        })
    }
}

impl KeyService for Kms {
    async fn generate_key(&self, tenant: TenantId) -> Result<GeneratedKey, KeyServiceError> {
        let call = self
            .client()
            .generate_data_key()
            .key_id(&self.key_arn)
            .key_spec(DataKeySpec::Aes256)
            .encryption_context(CONTEXT, tenant.to_string());
        let output = call.send().await.map_err(|error| classify(&error))?;
        let wrapped = output.ciphertext_blob.ok_or_else(no_key)?.into_inner();
        Ok(GeneratedKey { plain: take_plain(output.plaintext)?, wrapped })
    }

    async fn unwrap_key(&self, tenant: TenantId, wrapped: &[u8]) -> Result<DataKeyBytes, KeyServiceError> {
        let call = self
            .client()
            .decrypt()
            // Named, so that nothing is opened that another key of the account has wrapped.
            .key_id(&self.key_arn)
            .ciphertext_blob(Blob::new(wrapped))
            .encryption_context(CONTEXT, tenant.to_string());
        let output = call.send().await.map_err(|error| classify(&error))?;
        take_plain(output.plaintext)
    }
}

/// Moves a plain key out of an answer. The SDK's own copies are its own to drop; this one leaves no other behind.
fn take_plain(blob: Option<Blob>) -> Result<DataKeyBytes, KeyServiceError> {
    let mut bytes = blob.ok_or_else(no_key)?.into_inner();
    let plain = <[u8; 32]>::try_from(bytes.as_slice()).map(Zeroizing::new).map_err(|_| no_key());
    bytes.zeroize();
    plain
}

fn no_key() -> KeyServiceError {
    let detail = "the answer holds no key of 256 bits".to_owned();
    KeyServiceError::Unavailable(ProviderError { code: "NoKey".to_owned(), detail })
}

/// By code: what says that the ciphertext is not this tenant's is final. All else can pass, be it by an operator's hand:
/// a policy that lacks a line, a key that is switched off or about to be deleted.
/// <https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html#API_Decrypt_Errors>
fn classify<E: ProvideErrorMetadata>(error: &SdkError<E>) -> KeyServiceError {
    let said = describe_failure(error);
    let is_final = ["InvalidCiphertextException", "IncorrectKeyException"].contains(&said.code.as_str());
    if is_final { KeyServiceError::Refused(said) } else { KeyServiceError::Unavailable(said) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_kms::error::ErrorMetadata;
    use aws_sdk_kms::operation::decrypt::DecryptError;
    use aws_smithy_runtime_api::http::{Response, StatusCode};
    use aws_smithy_types::body::SdkBody;

    fn answer(body: &str) -> Response {
        Response::new(StatusCode::try_from(200).expect("a status"), SdkBody::from(body))
    }

    fn refused(code: &str) -> SdkError<DecryptError, Response> {
        let metadata = ErrorMetadata::builder().code(code).message("words").build();
        SdkError::service_error(DecryptError::generic(metadata), answer("{}"))
    }

    #[test]
    fn only_a_ciphertext_of_another_tenant_or_key_is_refused_for_good() {
        for (code, is_final) in [
            ("InvalidCiphertextException", true),
            ("IncorrectKeyException", true),
            ("AccessDeniedException", false),
            ("DisabledException", false),
            ("KMSInvalidStateException", false),
            ("KeyUnavailableException", false),
            ("NotFoundException", false),
            ("ThrottlingException", false),
        ] {
            let found = classify(&refused(code));
            assert_eq!(matches!(found, KeyServiceError::Refused(_)), is_final, "{code}: {found}");
        }
        let lost: SdkError<DecryptError, Response> = SdkError::timeout_error("late");
        assert!(matches!(classify(&lost), KeyServiceError::Unavailable(_)));
    }
}
