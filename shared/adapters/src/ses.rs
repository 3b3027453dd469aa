//! Mail through Amazon SES v2, and the one place that says what its answers mean.
//!
//! `SendEmail` has no idempotency token, and a request that got no readable answer may have been accepted.
//! So the client makes exactly one request for an attempt (the SDK's own retries would send up to three mails),
//! and whatever may have been accepted is [`SendOutcome::Unknown`].

use crate::aws::{AwsConfig, service_config};
use crate::env::{self, ConfigError};
use aws_sdk_sesv2::error::SdkError;
use aws_sdk_sesv2::operation::send_email::SendEmailError;
use aws_sdk_sesv2::primitives::Blob;
use aws_sdk_sesv2::types::{
    Attachment, AttachmentContentDisposition, AttachmentContentTransferEncoding, Body, Content, Destination,
    EmailContent, Message, MessageHeader, MessageTag,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use domain::address::EmailAddress;
use domain::delivery::Reason;
use domain::mail::{Mail, MailSender};
use domain::outcome::{ProviderError, SendOutcome};
use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Below the 8 seconds that the processor keeps before its deadline.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(6);
/// A connection that has been idle longer may be closed at the other end, and a request on it of unknown fate.
const FRESH: Duration = Duration::from_secs(5);
/// The longest provider message that is kept, in characters.
const MAX_DETAIL_CHARS: usize = 500;
/// The longest code that is kept, in characters.
const MAX_CODE_CHARS: usize = 100;

/// What every mail has in common.
#[derive(Clone, Debug)]
pub struct MailConfig {
    /// Where SES sends its events from.
    pub configuration_set: String,
    /// The sender of tenants that have none.
    pub from: EmailAddress,
}

impl MailConfig {
    /// Reads `SES_CONFIGURATION_SET` and `FROM_ADDRESS`.
    pub fn from_env() -> Result<Self, ConfigError> {
        Ok(Self { configuration_set: env::required("SES_CONFIGURATION_SET")?, from: sender_from_env()? })
    }
}

/// The sender of tenants that have none: `FROM_ADDRESS`.
pub fn sender_from_env() -> Result<EmailAddress, ConfigError> {
    EmailAddress::parse(&env::required("FROM_ADDRESS")?)
        .map_err(|_| ConfigError::Invalid("FROM_ADDRESS", "must be a mail address"))
}

/// SES, through the SDK.
pub struct SesMailSender {
    aws: AwsConfig,
    configuration_set: String,
    client: Mutex<Option<(aws_sdk_sesv2::Client, SystemTime)>>,
}

impl SesMailSender {
    /// Keeps what a client needs.
    pub fn new(aws: AwsConfig, config: &MailConfig) -> Self {
        Self { aws, configuration_set: config.configuration_set.clone(), client: Mutex::new(None) }
    }

    /// A client whose connections are fresh. The wall clock is asked, because a sandbox that was frozen and thawed
    /// does not notice on the other one.
    fn client(&self) -> aws_sdk_sesv2::Client {
        let mut slot = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let now = SystemTime::now();
        let client = match slot.take() {
            Some((client, used)) if now.duration_since(used).is_ok_and(|idle| idle < FRESH) => client,
            _ => self.build_client(),
        };
        *slot = Some((client.clone(), now));
        client
    }

    fn build_client(&self) -> aws_sdk_sesv2::Client {
        // No read timeout beside the attempt's: a timeout of the connector then always means "never connected".
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(2))
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .build();
        let config =
            service_config!(aws_sdk_sesv2, self.aws, self.aws.endpoint("SESV2"), RetryConfig::disabled(), timeouts);
        aws_sdk_sesv2::Client::from_conf(config)
    }
}

impl MailSender for SesMailSender {
    async fn send_mail(&self, mail: &Mail) -> SendOutcome {
        let client = self.client();
        let request = client
            .send_email()
            .from_email_address(mailbox(mail.from_name.as_ref(), &mail.from))
            .destination(Destination::builder().to_addresses(mailbox(mail.to_name.as_ref(), &mail.to)).build())
            .content(EmailContent::builder().simple(print_message(mail)).build())
            .configuration_set_name(&self.configuration_set)
            .email_tags(tag("nid", mail.tags.notification.as_str()))
            .email_tags(tag("att", mail.tags.attempt.as_str()))
            .email_tags(tag("t", mail.tags.tenant.as_str()));
        match request.send().await {
            Ok(output) => {
                let id = output.message_id.filter(|id| !id.is_empty() && id.chars().all(|c| c.is_ascii_graphic()));
                SendOutcome::Sent { provider_message_id: id }
            }
            Err(error) => classify_error(&error, &mail.from),
        }
    }
}

/// Says what a failed call means for the mail. One arm for each row of SES's error table; what is not known to be
/// unsent may have been sent.
fn classify_error(error: &SdkError<SendEmailError, HttpResponse>, sender: &EmailAddress) -> SendOutcome {
    match error {
        SdkError::ConstructionFailure(_) => {
            SendOutcome::Rejected(named("ConstructionFailure", "the request could not be built"))
        }
        SdkError::TimeoutError(_) => SendOutcome::Unknown(named("Timeout", "no answer came in time")),
        SdkError::DispatchFailure(failure) if failure.as_connector_error().is_some_and(never_connected) => {
            SendOutcome::Transient(named("ConnectFailed", "no connection to the provider could be made"))
        }
        SdkError::DispatchFailure(_) => {
            SendOutcome::Unknown(named("ConnectionLost", "the connection broke before an answer came"))
        }
        SdkError::ResponseError(_) => SendOutcome::Unknown(named("AnswerUnreadable", "the answer broke off")),
        SdkError::ServiceError(context) => {
            let status = context.raw().status().as_u16();
            let said = context.err().meta();
            classify_answer(status, said.code(), said.message().unwrap_or_default(), sender)
        }
        _ => SendOutcome::Unknown(named("Unclassified", "the SDK reported something new")),
    }
}

/// <https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html>
fn classify_answer(status: u16, code: Option<&str>, message: &str, sender: &EmailAddress) -> SendOutcome {
    let said =
        || named(code.unwrap_or("None"), if message.is_empty() { "the provider gave no reason" } else { message });
    let mentions = |words: &str| message.to_ascii_lowercase().contains(words);
    match (status, code) {
        // A success whose body is none was a success all the same, probably.
        (200..=299, _) => SendOutcome::Unknown(named(
            "AnswerUnreadable",
            "the provider answered success with a body that says nothing",
        )),
        (_, Some("TooManyRequestsException")) => SendOutcome::Throttled(said()),
        (_, Some("Throttling" | "ThrottlingException")) if mentions("daily") => {
            SendOutcome::Held(Reason::QuotaReached, said())
        }
        (_, Some("Throttling" | "ThrottlingException")) => SendOutcome::Throttled(said()),
        (_, Some("LimitExceededException")) => SendOutcome::Held(Reason::QuotaReached, said()),
        (_, Some("SendingPausedException")) => SendOutcome::Held(Reason::SendingPaused, said()),
        (_, Some("AccountSuspendedException")) => SendOutcome::Held(Reason::AccountSuspended, said()),
        (_, Some("MailFromDomainNotVerifiedException")) => SendOutcome::Held(Reason::IdentityUnverified, said()),
        // The same code says "bad content", "unverified identity" and, in the provider's sandbox, "unverified recipient".
        (_, Some("MessageRejected")) if mentions("not verified") && names_others_only(message, sender) => {
            SendOutcome::Held(Reason::RecipientUnverified, said())
        }
        (_, Some("MessageRejected")) if mentions("not verified") => {
            SendOutcome::Held(Reason::IdentityUnverified, said())
        }
        (_, Some("MessageRejected" | "BadRequestException")) => SendOutcome::Rejected(said()),
        (_, Some("NotFoundException")) => SendOutcome::Held(Reason::ConfigurationMissing, said()),
        (429, _) => SendOutcome::Throttled(said()),
        // Expired credentials, or a skewed clock: the next sandbox has its own.
        (401 | 403, _) => SendOutcome::Unauthorized(said()),
        (500..=599, _) => SendOutcome::ServerFailed(said()),
        // A code that is not in the table was refused by the front door: nothing was sent, and nobody said "never".
        (400..=499, _) => SendOutcome::Transient(said()),
        _ => SendOutcome::Unknown(said()),
    }
}

/// Whether the identities that the message lists after its colon are all somebody else's than the sender's.
fn names_others_only(message: &str, sender: &EmailAddress) -> bool {
    let Some((_, list)) = message.split_once(": ") else { return false };
    let mut named = list.split(',').map(|identity| identity.trim().trim_end_matches('.')).peekable();
    let domain = sender.as_str().rsplit('@').next().unwrap_or_default();
    named.peek().is_some()
        && named
            .all(|identity| !identity.eq_ignore_ascii_case(sender.as_str()) && !identity.eq_ignore_ascii_case(domain))
}

/// Whether the connection itself failed, so that no request was written.
fn never_connected(error: &ConnectorError) -> bool {
    if error.is_timeout() {
        return true;
    }
    let mut source: Option<&(dyn Error + 'static)> = error.source();
    while let Some(cause) = source {
        if cause.downcast_ref::<hyper_util::client::legacy::Error>().is_some_and(|cause| cause.is_connect()) {
            return true;
        }
        source = cause.source();
    }
    false
}

fn print_message(mail: &Mail) -> Message {
    let utf8 = |data: &str| Content::builder().data(data).charset("UTF-8").build().expect("the data is set");
    let body =
        Body::builder().set_text(mail.text.as_deref().map(utf8)).set_html(mail.html.as_deref().map(utf8)).build();
    let headers = mail.headers.iter().map(|header| {
        MessageHeader::builder()
            .name(header.name().as_str())
            .value(header.value().as_str())
            .build()
            .expect("name and value are set")
    });
    // None of none: an empty list is a member that SES need not look at.
    let attachments = (!mail.attachments.is_empty()).then(|| mail.attachments.iter().map(print_attachment).collect());
    Message::builder()
        .subject(utf8(mail.subject.as_str()))
        .body(body)
        .set_headers(Some(headers.collect()))
        .set_attachments(attachments)
        .build()
}

/// In base64 whatever it is: SES would otherwise send 7-bit text, which most files are not.
fn print_attachment(attachment: &domain::attachment::Attachment) -> Attachment {
    Attachment::builder()
        .file_name(attachment.file_name.as_str())
        .content_type(attachment.content_type.as_str())
        .content_disposition(AttachmentContentDisposition::Attachment)
        .content_transfer_encoding(AttachmentContentTransferEncoding::Base64)
        .raw_content(Blob::new(&*attachment.content))
        .build()
        .expect("name and content are set")
}

fn mailbox(name: Option<&domain::name::DisplayName>, address: &EmailAddress) -> String {
    name.map_or_else(|| address.as_str().to_owned(), |name| name.mailbox(address))
}

fn tag(name: &str, value: &str) -> MessageTag {
    MessageTag::builder().name(name).value(value).build().expect("name and value are set")
}

/// The provider's words, without any address that they quote.
fn named(code: &str, message: &str) -> ProviderError {
    // What is no printable character could fail the statement that records it.
    let message: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let hide = |word: &str| if word.contains('@') { "(address)".to_owned() } else { word.to_owned() };
    let detail: Vec<String> = message.split_whitespace().map(hide).collect();
    let code: String = code.chars().filter(|c| c.is_ascii_graphic()).take(MAX_CODE_CHARS).collect();
    ProviderError { code, detail: detail.join(" ").chars().take(MAX_DETAIL_CHARS).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender() -> EmailAddress {
        EmailAddress::parse("sender@example.org").expect("an address")
    }

    #[test]
    fn each_row_of_the_error_table_has_its_class() {
        let said = |code: &str, message: &str| named(code, message);
        let words = "words";
        let table = [
            (
                429,
                Some("TooManyRequestsException"),
                words,
                SendOutcome::Throttled(said("TooManyRequestsException", words)),
            ),
            (
                400,
                Some("ThrottlingException"),
                "Maximum sending rate exceeded.",
                SendOutcome::Throttled(said("ThrottlingException", "Maximum sending rate exceeded.")),
            ),
            (
                400,
                Some("ThrottlingException"),
                "Daily message quota exceeded.",
                SendOutcome::Held(Reason::QuotaReached, said("ThrottlingException", "Daily message quota exceeded.")),
            ),
            (
                400,
                Some("LimitExceededException"),
                words,
                SendOutcome::Held(Reason::QuotaReached, said("LimitExceededException", words)),
            ),
            (
                400,
                Some("SendingPausedException"),
                words,
                SendOutcome::Held(Reason::SendingPaused, said("SendingPausedException", words)),
            ),
            (
                400,
                Some("AccountSuspendedException"),
                words,
                SendOutcome::Held(Reason::AccountSuspended, said("AccountSuspendedException", words)),
            ),
            (
                400,
                Some("MailFromDomainNotVerifiedException"),
                words,
                SendOutcome::Held(Reason::IdentityUnverified, said("MailFromDomainNotVerifiedException", words)),
            ),
            (
                400,
                Some("MessageRejected"),
                "Email address is not verified.",
                SendOutcome::Held(
                    Reason::IdentityUnverified,
                    said("MessageRejected", "Email address is not verified."),
                ),
            ),
            (400, Some("MessageRejected"), words, SendOutcome::Rejected(said("MessageRejected", words))),
            (400, Some("BadRequestException"), words, SendOutcome::Rejected(said("BadRequestException", words))),
            (
                404,
                Some("NotFoundException"),
                words,
                SendOutcome::Held(Reason::ConfigurationMissing, said("NotFoundException", words)),
            ),
            (429, None, words, SendOutcome::Throttled(said("None", words))),
            (
                403,
                Some("ExpiredTokenException"),
                words,
                SendOutcome::Unauthorized(said("ExpiredTokenException", words)),
            ),
            (500, Some("InternalFailure"), words, SendOutcome::ServerFailed(said("InternalFailure", words))),
            (503, None, words, SendOutcome::ServerFailed(said("None", words))),
        ];
        for (status, code, message, expected) in table {
            assert_eq!(classify_answer(status, code, message, &sender()), expected, "{status} {code:?}");
        }
    }

    #[test]
    fn a_success_that_cannot_be_read_may_have_been_sent() {
        assert!(matches!(classify_answer(200, None, "", &sender()), SendOutcome::Unknown(_)));
    }

    #[test]
    fn an_unverified_recipient_says_nothing_about_the_sender() {
        let reason_of = |list: &str| {
            let message = format!(
                "Email address is not verified. The following identities failed the check in region AP-SOUTH-1: {list}"
            );
            match classify_answer(400, Some("MessageRejected"), &message, &sender()) {
                SendOutcome::Held(reason, _) => reason,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(reason_of("ada@example.net"), Reason::RecipientUnverified);
        assert_eq!(reason_of("ada@example.net, sender@example.org"), Reason::IdentityUnverified);
        assert_eq!(reason_of("Example.org"), Reason::IdentityUnverified);
    }

    #[test]
    fn a_file_leaves_in_base64_under_its_own_type_and_a_mail_without_files_names_none() {
        let tag = |text: &str| domain::header::TagValue::parse(text).expect("a tag");
        let mut mail = Mail {
            from: sender(),
            from_name: None,
            to: sender(),
            to_name: None,
            subject: domain::header::Subject::parse("s").expect("a subject"),
            text: Some("t".to_owned()),
            html: None,
            headers: Vec::new(),
            attachments: Vec::new(),
            tags: domain::mail::MailTags { notification: tag("n"), attempt: tag("1"), tenant: tag("t") },
        };
        assert_eq!(print_message(&mail).attachments, None);
        mail.attachments.push(domain::attachment::Attachment {
            file_name: domain::attachment::FileName::parse("invite.ics").expect("a name"),
            content_type: domain::attachment::ContentType::of_invitation(domain::calendar::Method::Request),
            content: "BEGIN:VCALENDAR é".as_bytes().into(),
        });
        let printed = print_message(&mail);
        let [file] = printed.attachments() else { panic!("one file, not {printed:?}") };
        assert_eq!((file.file_name(), file.raw_content().as_ref()), ("invite.ics", "BEGIN:VCALENDAR é".as_bytes()));
        assert_eq!(file.content_type(), Some("text/calendar; method=REQUEST; charset=UTF-8"));
        assert_eq!(file.content_disposition(), Some(&AttachmentContentDisposition::Attachment));
        assert_eq!(file.content_transfer_encoding(), Some(&AttachmentContentTransferEncoding::Base64));
    }

    #[test]
    fn the_providers_words_are_kept_without_addresses() {
        assert_eq!(named("C", "Email address ada@example.org is bad").detail, "Email address (address) is bad");
    }
}
