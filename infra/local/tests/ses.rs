//! The SES stand-in as the AWS SDK and a raw socket see it.

use std::future::Future;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_sesv2::Client;
use aws_sdk_sesv2::config::retry::RetryConfig;
use aws_sdk_sesv2::config::timeout::TimeoutConfig;
use aws_sdk_sesv2::config::{BehaviorVersion, Region};
use aws_sdk_sesv2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sesv2::operation::send_email::{SendEmailError, SendEmailOutput};
use aws_sdk_sesv2::primitives::Blob;
use aws_sdk_sesv2::types::{
    Attachment, AttachmentContentDisposition, AttachmentContentTransferEncoding, Body, Content, Destination,
    EmailContent, Message, MessageHeader, MessageTag,
};
use local::ses::{Allowed, Answer, EventSink, Fault, Happening, LedgerEntry, Outcome, SesConfig, SesHandle, SesServer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

type Sent = Result<SendEmailOutput, SdkError<SendEmailError>>;

const ANSWER_LIMIT: Duration = Duration::from_millis(300);

async fn start() -> SesHandle {
    start_with(SesConfig::default()).await
}

async fn start_with(config: SesConfig) -> SesHandle {
    SesServer::start(config).await.expect("a port is free")
}

/// The client as the processor has it: one request per send.
fn client(ses: &SesHandle) -> Client {
    Client::from_conf(
        aws_sdk_sesv2::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("ap-south-1"))
            .credentials_provider(Credentials::from_keys("id", "secret", None))
            .endpoint_url(ses.url())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().operation_attempt_timeout(ANSWER_LIMIT).build())
            .build(),
    )
}

fn content(data: &str) -> Content {
    Content::builder().data(data).charset("UTF-8").build().expect("data is set")
}

async fn send(client: &Client, to: &str) -> Sent {
    let header = MessageHeader::builder()
        .name("List-Unsubscribe")
        .value("<https://example.in/u>")
        .build()
        .expect("both are set");
    let tag = MessageTag::builder().name("nid").value("ntf_1").build().expect("both are set");
    let body = Body::builder().text(content("hello")).html(content("<p>hello</p>")).build();
    let message = Message::builder().subject(content("नमस्ते")).body(body).headers(header).build();
    client
        .send_email()
        .from_email_address("Post <post@example.in>")
        .destination(Destination::builder().to_addresses(to).build())
        .content(EmailContent::builder().simple(message).build())
        .email_tags(tag)
        .configuration_set_name("harkara")
        .send()
        .await
}

async fn send_to(ses: &SesHandle, to: &str) -> Sent {
    send(&client(ses), to).await
}

fn code_and_status(sent: &Sent) -> (Option<&str>, Option<u16>) {
    let error = sent.as_ref().expect_err("refused");
    (error.code(), error.raw_response().map(|response| response.status().as_u16()))
}

fn answers(entries: &[LedgerEntry]) -> Vec<Option<Answer>> {
    entries
        .iter()
        .map(|entry| match entry.outcome {
            Outcome::Accepted { answer, .. } => Some(answer),
            Outcome::Refused(_) => None,
        })
        .collect()
}

/// One exchange on a connection of its own; the answer as far as it came, and how the reading ended.
async fn exchange(ses: &SesHandle, request: &str) -> (String, std::io::Result<usize>) {
    let address = ses.url().replace("http://", "");
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    stream.write_all(request.as_bytes()).await.expect("the server reads");
    let mut answer = Vec::new();
    let end = stream.read_to_end(&mut answer).await;
    (String::from_utf8_lossy(&answer).into_owned(), end)
}

fn http_request(method: &str, path: &str, headers: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: ses\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}

const SIGNED_JSON: &str = "content-type: application/json\r\nauthorization: AWS4-HMAC-SHA256 Credential=a/20261121/ap-south-1/ses/aws4_request, SignedHeaders=host, Signature=0\r\n";

fn send_request(to: &str) -> String {
    let body = json!({
        "FromEmailAddress": "post@example.in",
        "Destination": {"ToAddresses": [to]},
        "Content": {"Simple": {"Subject": {"Data": "s"}, "Body": {"Text": {"Data": "t"}}}}
    });
    http_request("POST", "/v2/email/outbound-emails", SIGNED_JSON, &body.to_string())
}

async fn get_json(ses: &SesHandle, path: &str) -> Value {
    let (answer, _) = exchange(ses, &http_request("GET", path, "", "")).await;
    let (_, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    serde_json::from_str(body).expect("JSON")
}

#[tokio::test]
async fn a_sound_mail_is_accepted_and_kept_whole_in_the_ledger() {
    let ses = start().await;
    let sent = send_to(&ses, "Asha <Asha@example.org>").await.expect("accepted");
    let entries = ses.ledger().entries_to("asha@example.org");
    let [entry] = entries.as_slice() else { panic!("one entry, not {entries:?}") };
    assert_eq!(entry.seq, 1);
    assert_eq!(entry.from.as_deref(), Some("Post <post@example.in>"));
    assert_eq!(entry.subject.as_deref(), Some("नमस्ते"));
    assert_eq!(entry.text.as_deref(), Some("hello"));
    assert_eq!(entry.html.as_deref(), Some("<p>hello</p>"));
    assert_eq!(entry.tags["nid"], "ntf_1");
    assert_eq!(entry.headers["List-Unsubscribe"], "<https://example.in/u>");
    assert_eq!(entry.configuration_set.as_deref(), Some("harkara"));
    let outcome = Outcome::Accepted { message_id: sent.message_id().expect("an id").to_owned(), answer: Answer::Whole };
    assert_eq!(entry.outcome, outcome);
}

#[tokio::test]
async fn a_file_of_the_sdk_is_in_the_ledger_by_name_and_size_and_a_program_is_refused() {
    let ses = start().await;
    let send_file = async |name: &str, to: &str| {
        let file = Attachment::builder()
            .file_name(name)
            .content_type("text/calendar; method=REQUEST; charset=UTF-8")
            .content_disposition(AttachmentContentDisposition::Attachment)
            .content_transfer_encoding(AttachmentContentTransferEncoding::Base64)
            .raw_content(Blob::new("BEGIN:VCALENDAR é"))
            .build()
            .expect("name and content are set");
        let body = Body::builder().text(content("hello")).build();
        let message = Message::builder().subject(content("s")).body(body).attachments(file).build();
        client(&ses)
            .send_email()
            .from_email_address("post@example.in")
            .destination(Destination::builder().to_addresses(to).build())
            .content(EmailContent::builder().simple(message).build())
            .send()
            .await
    };
    send_file("invite.ics", "asha@example.org").await.expect("accepted");
    let entries = ses.ledger().entries_to("asha@example.org");
    let [file] = entries[0].attachments.as_slice() else { panic!("one file, not {entries:?}") };
    assert_eq!((file.file_name.as_str(), file.size_bytes), ("invite.ics", 18));
    assert_eq!(file.content_type.as_deref(), Some("text/calendar; method=REQUEST; charset=UTF-8"));
    let refused = send_file("invite.exe", "bela@example.org").await;
    assert_eq!(code_and_status(&refused), (Some("BadRequestException"), Some(400)));
}

#[tokio::test]
async fn the_sdk_reads_the_code_and_status_of_every_refusal() {
    let ses = start().await;
    for (word, code, status) in [
        ("reject", Some("MessageRejected"), 400),
        ("sandbox", Some("MessageRejected"), 400),
        ("invalid", Some("BadRequestException"), 400),
        ("throttle", Some("TooManyRequestsException"), 429),
        ("busy", None, 429),
        ("rate", Some("ThrottlingException"), 400),
        ("quota", Some("ThrottlingException"), 400),
        ("limit", Some("LimitExceededException"), 400),
        ("paused", Some("SendingPausedException"), 400),
        ("suspended", Some("AccountSuspendedException"), 400),
        ("unverified", Some("MailFromDomainNotVerifiedException"), 400),
        ("missing", Some("NotFoundException"), 404),
        ("expired", Some("ExpiredTokenException"), 403),
        ("fail", Some("InternalServiceErrorException"), 500),
        ("unavailable", Some("ServiceUnavailableException"), 503),
    ] {
        let to = format!("{word}--x@simulator.harkara.test");
        let sent = send_to(&ses, &to).await;
        assert_eq!(code_and_status(&sent), (code, Some(status)), "{word}");
        let entries = ses.ledger().entries_to(&to);
        assert_eq!(answers(&entries), [None], "{word} is in the ledger once, as refused");
    }
}

#[tokio::test]
async fn the_sdk_knows_the_modelled_refusals_as_their_variants() {
    let ses = start().await;
    let variant = async |word: &str| {
        let to = format!("{word}@simulator.harkara.test");
        send_to(&ses, &to).await.expect_err("refused").into_service_error()
    };
    assert!(variant("reject").await.is_message_rejected());
    assert!(variant("invalid").await.is_bad_request_exception());
    assert!(variant("throttle").await.is_too_many_requests_exception());
    assert!(variant("limit").await.is_limit_exceeded_exception());
    assert!(variant("paused").await.is_sending_paused_exception());
    assert!(variant("suspended").await.is_account_suspended_exception());
    assert!(variant("unverified").await.is_mail_from_domain_not_verified_exception());
    assert!(variant("missing").await.is_not_found_exception());
    let quota = variant("quota").await;
    assert_eq!(quota.message(), Some("Daily message quota exceeded."));
}

#[tokio::test]
async fn the_sdk_fails_to_learn_the_end_of_what_was_accepted() {
    let ses = start().await;
    for (word, answer) in [
        ("lost", Answer::Lost),
        ("reset", Answer::Reset),
        ("truncated", Answer::Truncated),
        ("hang", Answer::Never),
        ("garbled", Answer::Garbled),
    ] {
        let to = format!("{word}+1@simulator.harkara.test");
        let client = client(&ses);
        let error = send(&client, &to).await.expect_err("no answer that can be read");
        let is_ambiguous = match &error {
            SdkError::TimeoutError(_) => word == "hang",
            SdkError::DispatchFailure(_) => matches!(word, "lost" | "reset"),
            SdkError::ResponseError(_) => word == "truncated",
            SdkError::ServiceError(service) => {
                word == "garbled" && service.raw().status().is_success() && error.code().is_none()
            }
            _ => false,
        };
        assert!(is_ambiguous, "{word}: {error:?}");
        let again = send(&client, &to).await;
        assert!(again.is_ok(), "{word} ends after its count: {again:?}");
        let entries = ses.ledger().entries_to(&to);
        assert_eq!(answers(&entries), [Some(answer), Some(Answer::Whole)], "{word}");
    }
}

#[tokio::test]
async fn an_empty_answer_is_a_success_without_an_id() {
    let ses = start().await;
    let sent = send_to(&ses, "empty@simulator.harkara.test").await.expect("a success");
    assert_eq!(sent.message_id(), None);
}

#[tokio::test]
async fn the_wire_shows_each_broken_ending_as_it_is() {
    let ses = start().await;
    let (answer, end) = exchange(&ses, &send_request("lost@simulator.harkara.test")).await;
    assert_eq!((answer.as_str(), end.expect("an orderly close")), ("", 0));

    let (answer, end) = exchange(&ses, &send_request("reset@simulator.harkara.test")).await;
    assert_eq!(answer, "");
    assert_eq!(end.expect_err("a reset").kind(), std::io::ErrorKind::ConnectionReset);

    let (answer, end) = exchange(&ses, &send_request("truncated@simulator.harkara.test")).await;
    assert!(end.is_ok(), "an orderly close");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a whole head");
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    let announced: usize = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .and_then(|length| length.parse().ok())
        .expect("an announced length");
    assert!(!body.is_empty() && body.len() < announced, "{} of {announced}", body.len());

    let (answer, _) = exchange(&ses, &send_request("garbled@simulator.harkara.test")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("content-type: text/html"), "{answer}");
}

#[tokio::test]
async fn a_slow_answer_takes_its_time_and_comes() {
    let ses = start_with(SesConfig { latency: Duration::from_millis(20), ..SesConfig::default() }).await;
    for (to, least) in [("asha@example.org", 20), ("slow+60@simulator.harkara.test", 80)] {
        let before = std::time::Instant::now();
        send_to(&ses, to).await.expect("accepted");
        assert!(before.elapsed() >= Duration::from_millis(least), "{to}");
    }
}

#[tokio::test]
async fn a_script_is_played_in_order() {
    let ses = start().await;
    ses.script("asha@example.org", vec![Fault::Throttle, Fault::Fail]).expect("an address");
    let client = client(&ses);
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let sent = send(&client, "asha@example.org").await;
        statuses.push(sent.err().and_then(|e| e.raw_response().map(|r| r.status().as_u16())));
    }
    assert_eq!(statuses, [Some(429), Some(500), None]);
}

#[tokio::test]
async fn other_processes_script_read_and_clear_over_http() {
    let ses = start().await;
    let script = json!({"to": "asha@example.org", "script": ["reject", "slow+5"]}).to_string();
    let (answer, _) = exchange(&ses, &http_request("POST", "/faults", SIGNED_JSON, &script)).await;
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    let client = client(&ses);
    send(&client, "asha@example.org").await.expect_err("rejected");
    send(&client, "asha@example.org").await.expect("accepted");
    send(&client, "ravi@example.org").await.expect("accepted");

    let entries = get_json(&ses, "/ledger?to=Asha%40example.org").await;
    assert_eq!(entries.as_array().map(Vec::len), Some(2));
    assert_eq!(entries[0]["outcome"]["kind"], "refused");
    assert_eq!(entries[0]["outcome"]["code"], "MessageRejected");
    assert_eq!(entries[1]["outcome"]["kind"], "accepted");
    assert_eq!(entries[1]["tags"]["nid"], "ntf_1");
    assert_eq!(get_json(&ses, "/ledger").await.as_array().map(Vec::len), Some(3));

    let (answer, _) = exchange(&ses, &http_request("DELETE", "/ledger", "", "")).await;
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    assert_eq!(get_json(&ses, "/ledger").await, json!([]));

    let unknown = json!({"to": "asha@example.org", "script": ["trottle"]}).to_string();
    let (answer, _) = exchange(&ses, &http_request("POST", "/faults", SIGNED_JSON, &unknown)).await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("trottle"), "{answer}");
}

#[tokio::test]
async fn reading_the_ledger_can_wait_for_what_is_still_to_come() {
    let ses = start().await;
    let reading = get_json(&ses, "/ledger?to=asha@example.org&at_least=1&within_ms=10000");
    let client = client(&ses);
    let (entries, sent) = tokio::join!(reading, send(&client, "asha@example.org"));
    sent.expect("accepted");
    assert_eq!(entries.as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn what_cannot_be_read_or_is_not_signed_is_refused_and_recorded() {
    let ses = start().await;
    let path = "/v2/email/outbound-emails";
    let unsigned = "content-type: application/json\r\n";
    let form = SIGNED_JSON.replace("application/json", "text/plain");
    for (request, status, code) in [
        (http_request("POST", path, SIGNED_JSON, "{"), 400, "SerializationException"),
        (http_request("POST", path, SIGNED_JSON, "{\"TenantName\":\"t\"}"), 400, "SerializationException"),
        (http_request("POST", path, &form, "{}"), 400, "SerializationException"),
        (http_request("POST", path, unsigned, "{}"), 403, "MissingAuthenticationTokenException"),
    ] {
        let (answer, _) = exchange(&ses, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert!(answer.contains(&format!("x-amzn-errortype: {code}")), "{answer}");
    }
    assert_eq!(answers(&ses.ledger().entries()), [None; 4]);
}

#[tokio::test]
async fn unknown_identities_and_configuration_sets_are_refused() {
    let ses = start_with(SesConfig {
        identities: Allowed::only(["example.in"]),
        configuration_sets: Allowed::only(["other"]),
        ..SesConfig::default()
    })
    .await;
    let sent = send_to(&ses, "asha@example.org").await;
    assert_eq!(code_and_status(&sent), (Some("NotFoundException"), Some(404)));

    let ses = start_with(SesConfig { identities: Allowed::only(["example.org"]), ..SesConfig::default() }).await;
    let sent = send_to(&ses, "asha@example.org").await;
    assert_eq!(code_and_status(&sent), (Some("MessageRejected"), Some(400)));
    let message = sent.expect_err("refused").into_service_error();
    assert!(message.message().is_some_and(|m| m.starts_with("Email address is not verified.")));
}

#[tokio::test]
async fn a_mistyped_fault_is_refused_not_accepted() {
    let ses = start().await;
    let sent = send_to(&ses, "trottle+2@simulator.harkara.test").await;
    assert_eq!(code_and_status(&sent), (Some("BadRequestException"), Some(400)));
}

#[tokio::test]
async fn the_mailbox_gets_every_accepted_mail_even_when_its_answer_is_lost() {
    let mailbox = start().await;
    let ses =
        start_with(SesConfig { mailbox_url: Some(mailbox.url().parse().expect("a URL")), ..SesConfig::default() })
            .await;
    for (to, fault) in [("lost@example.org", Fault::Lost), ("fail@example.org", Fault::Fail)] {
        ses.script(to, vec![fault]).expect("an address");
    }
    send_to(&ses, "asha@example.org").await.expect("accepted");
    send_to(&ses, "lost@example.org").await.expect_err("no answer");
    send_to(&ses, "fail@example.org").await.expect_err("refused");
    let arrived: Vec<_> = mailbox.ledger().entries().into_iter().flat_map(|entry| entry.to).collect();
    assert_eq!(arrived, ["asha@example.org", "lost@example.org"]);
    assert_eq!(answers(&ses.ledger().entries()), [Some(Answer::Whole), Some(Answer::Lost), None]);
}

#[tokio::test]
async fn a_mailbox_that_is_gone_turns_the_answer_into_a_failure() {
    let mailbox = start().await;
    let url = mailbox.url();
    mailbox.stop().await;
    let ses = start_with(SesConfig { mailbox_url: Some(url.parse().expect("a URL")), ..SesConfig::default() }).await;
    let sent = send_to(&ses, "asha@example.org").await;
    assert_eq!(code_and_status(&sent), (Some("InternalServiceErrorException"), Some(500)));
}

#[tokio::test]
async fn it_counts_the_most_sends_under_way_at_once() {
    let ses = start_with(SesConfig { latency: Duration::from_millis(50), ..SesConfig::default() }).await;
    let client = client(&ses);
    let sends = (0..4).map(|n| {
        let client = client.clone();
        tokio::spawn(async move { send(&client, &format!("r{n}@example.org")).await })
    });
    for send in sends.collect::<Vec<_>>() {
        send.await.expect("no panic").expect("accepted");
    }
    assert_eq!(ses.max_in_flight(), 4);
}

/// Waits for a condition of the future at most as long as a stuck server would deserve.
async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.unwrap_or_else(|_| panic!("{what} takes too long"))
}

#[tokio::test]
async fn stopping_lets_answers_finish_and_does_not_wait_for_those_that_never_come() {
    let ses = start().await;
    let client = client(&ses);
    let slow = tokio::spawn({
        let client = client.clone();
        async move { send(&client, "slow+150@simulator.harkara.test").await }
    });
    let hanging = tokio::spawn(async move { send(&client, "hang@simulator.harkara.test").await });
    let both = |entries: &[LedgerEntry]| entries.len() == 2;
    assert!(ses.ledger().wait_for(Duration::from_secs(5), both).await, "both have arrived");
    let url = ses.url();
    in_time("stop", ses.stop()).await;
    slow.await.expect("no panic").expect("answered before the stop");
    hanging.await.expect("no panic").expect_err("never answered");
    let address = url.replace("http://", "");
    TcpStream::connect(address).await.expect_err("nobody listens");
}

/// The events of an address: what happened, in the order in which it was told.
fn told(ses: &SesHandle, address: &str) -> Vec<Happening> {
    ses.events().events_to(address).iter().map(|event| event.happening).collect()
}

#[tokio::test]
async fn an_accepted_mail_is_followed_by_the_events_that_its_address_asks_for() {
    use Happening::{
        AutomaticAnswer, Complaint, Delivery, DeliveryDelay, GloballySuppressed, HardBounce, Reject, Send,
    };
    let ses = start().await;
    for (to, expected) in [
        ("asha@example.org", vec![Send, Delivery]),
        ("accept--a@simulator.harkara.test", vec![Send, Delivery]),
        ("bounce--a@simulator.harkara.test", vec![Send, HardBounce]),
        ("complaint.reversed@simulator.harkara.test", vec![Complaint, Delivery, Send]),
        ("rejected.twice@simulator.harkara.test", vec![Send, Send, Reject, Reject]),
        ("delayed@simulator.harkara.test", vec![Send, DeliveryDelay, Delivery]),
        ("silent@simulator.harkara.test", vec![]),
        ("success+x@simulator.amazonses.com", vec![Send, Delivery]),
        ("ooto@simulator.amazonses.com", vec![Send, Delivery, AutomaticAnswer]),
        ("suppressionlist+x@simulator.amazonses.com", vec![Send, GloballySuppressed]),
    ] {
        send_to(&ses, to).await.expect("accepted");
        assert_eq!(told(&ses, to), expected, "{to}");
    }
    // Whether the answer arrives makes no difference, and what is refused is told of by nothing.
    send_to(&ses, "lost@simulator.harkara.test").await.expect_err("the answer is lost");
    assert_eq!(told(&ses, "lost@simulator.harkara.test"), [Send, Delivery]);
    send_to(&ses, "lost.silent@simulator.harkara.test").await.expect_err("the answer is lost");
    send_to(&ses, "reject@simulator.harkara.test").await.expect_err("refused");
    for to in ["lost.silent@simulator.harkara.test", "reject@simulator.harkara.test"] {
        assert_eq!(told(&ses, to), []);
    }
}

#[tokio::test]
async fn an_event_names_the_mail_by_its_id_and_tags_in_each_form() {
    let ses = start().await;
    let sent = send_to(&ses, "asha@example.org").await.expect("accepted");
    let events = get_json(&ses, "/events?to=Asha@example.org&at_least=2&within_ms=1000").await;
    assert_eq!(events.as_array().map(Vec::len), Some(2));
    let event = &events[1];
    assert_eq!(event["event_bridge"]["detail-type"], "Email Delivered");
    assert_eq!(event["event_bridge"]["source"], "aws.ses");
    let record = &event["event_bridge"]["detail"];
    assert_eq!(record["mail"]["messageId"], sent.message_id().expect("an id"));
    assert_eq!(record["mail"]["tags"]["nid"], json!(["ntf_1"]));
    assert_eq!(record["mail"]["tags"]["ses:configuration-set"], json!(["harkara"]));
    assert_eq!(record["mail"]["destination"], json!(["asha@example.org"]));
    let message: Value = serde_json::from_str(event["sns"]["Message"].as_str().expect("a text")).expect("JSON");
    assert_eq!(&message, record);
    assert_eq!(&event["record"], record);
}

#[tokio::test]
async fn what_bounced_is_on_the_accounts_list_and_swallowed_from_then_on() {
    let ses = start().await;
    let client = client(&ses);
    let bouncing = "bounce+1@simulator.harkara.test";
    for happening in [Happening::HardBounce, Happening::Suppressed] {
        send(&client, bouncing).await.expect("accepted");
        assert_eq!(told(&ses, bouncing).last(), Some(&happening));
    }
    send(&client, "complaint@simulator.harkara.test").await.expect("accepted");
    send(&client, "softbounce@simulator.harkara.test").await.expect("accepted");
    // The simulator's own addresses never get there.
    send(&client, "bounce@simulator.amazonses.com").await.expect("accepted");

    let first = client.list_suppressed_destinations().page_size(1).send().await.expect("listed");
    let [listed] = first.suppressed_destination_summaries() else { panic!("{first:?}") };
    assert_eq!((listed.email_address(), listed.reason().as_str()), (bouncing, "BOUNCE"));
    let next = client.list_suppressed_destinations().page_size(1).next_token(first.next_token().expect("more"));
    let second = next.send().await.expect("listed");
    let [listed] = second.suppressed_destination_summaries() else { panic!("{second:?}") };
    assert_eq!((listed.email_address(), listed.reason().as_str()), ("complaint@simulator.harkara.test", "COMPLAINT"));
    assert_eq!(second.next_token(), None);

    client.delete_suppressed_destination().email_address(bouncing).send().await.expect("taken off");
    client.delete_suppressed_destination().email_address(bouncing).send().await.expect_err("it is not there");
    send(&client, bouncing).await.expect("accepted");
    assert_eq!(told(&ses, bouncing).last(), Some(&Happening::Delivery));
}

#[tokio::test]
async fn the_account_is_told_as_the_sdk_reads_it_and_strange_questions_are_refused() {
    let ses = start_with(SesConfig { max_send_rate: 14.0, ..SesConfig::default() }).await;
    let client = client(&ses);
    let rate =
        async || client.get_account().send().await.expect("told").send_quota().map(|quota| quota.max_send_rate());
    assert_eq!(rate().await, Some(14.0));
    ses.set_max_send_rate(2.5);
    assert_eq!(rate().await, Some(2.5));

    ses.suppress("asha@example.org").expect("an address");
    let list = || client.list_suppressed_destinations();
    assert_eq!(list().send().await.expect("listed").suppressed_destination_summaries().len(), 1);
    for (what, refused) in [
        ("no page", list().page_size(0).send().await),
        ("a page too large", list().page_size(1001).send().await),
        ("a token that nobody gave", list().next_token("x").send().await),
    ] {
        assert_eq!(refused.expect_err(what).code(), Some("BadRequestException"), "{what}");
    }
    let unsigned = "/v2/email/suppression/addresses?Colour=red";
    let (answer, _) = exchange(&ses, &http_request("GET", unsigned, "", "")).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    let (answer, _) = exchange(&ses, &http_request("GET", unsigned, SIGNED_JSON, "")).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "an unknown member: {answer}");
    ses.forgive("asha@example.org").expect("an address");
    assert_eq!(list().send().await.expect("listed").suppressed_destination_summaries().len(), 0);
}

#[tokio::test]
async fn events_are_sent_to_the_queue_in_both_forms_whether_it_is_there_or_not() {
    // A queue that answers two messages and is then gone.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let queue_url = format!("{endpoint}/000000000000/feedback");
    let ses =
        start_with(SesConfig { event_sink: Some(EventSink { endpoint, queue_url }), ..SesConfig::default() }).await;
    let queue = tokio::spawn(async move {
        let mut bodies = Vec::new();
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut read = Vec::new();
        while bodies.len() < 2 {
            let mut buffer = [0; 4096];
            let count = stream.read(&mut buffer).await.expect("a request");
            read.extend_from_slice(&buffer[..count]);
            let text = String::from_utf8_lossy(&read).into_owned();
            let Some((_, body)) = text.split_once("\r\n\r\n") else { continue };
            let Ok(message) = serde_json::from_str::<Value>(body) else { continue };
            assert!(text.contains("AmazonSQS.SendMessage"), "{text}");
            bodies.push(message);
            read.clear();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.expect("answered");
        }
        bodies
    });
    send_to(&ses, "asha@example.org").await.expect("accepted");
    let bodies = in_time("the events", queue).await.expect("no panic");
    let event: Vec<Value> = bodies
        .iter()
        .map(|body| serde_json::from_str(body["MessageBody"].as_str().expect("a body")).expect("JSON"))
        .collect();
    assert_eq!((&event[0]["detail-type"], &event[1]["Type"]), (&json!("Email Sent"), &json!("Notification")));
    // The queue is gone, and sending goes on.
    send_to(&ses, "bela@example.org").await.expect("accepted");
    assert_eq!(told(&ses, "bela@example.org").len(), 2);
}
