//! A domain's endpoint is called: signed, outside of every wall of ours, and told the same again when nobody knows.

use super::{HOUR, MINUTE, ask, begin, calls, finish, other_runner, put, runs, show};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::endpoint::{LocalEndpoints, SigningSecret, print_signatures};
use flow::progress::Progress;
use serde_json::{Value, json};
use sqlx::PgPool;
use std::time::{Duration, Instant};
use tests::endpoint_server::{Behaviour, EndpointServer};
use tests::{OTHER_TENANT, Stage, TENANT};

pub(super) fn calls_url(url: &str) -> Value {
    json!({"schedule": "rate(5 minutes)", "timeout_seconds": 5, "call": {"url": url}})
}

pub(super) fn ok() -> Behaviour {
    Behaviour::status("204 No Content")
}

/// A stage whose functions may call a server on this machine.
pub(super) async fn begin_with(pool: &PgPool, behaviour: Behaviour) -> (Stage, EndpointServer) {
    let mut stage = begin(pool).await;
    let server = EndpointServer::begin("localhost", behaviour).await;
    server.allow(&mut stage);
    (stage, server)
}

/// The secret that an answer shows.
pub(super) fn read_secret(answer: &Value) -> SigningSecret {
    let text = answer["secret"].as_str().unwrap_or_else(|| panic!("no secret in {answer}"));
    let bytes = STANDARD.decode(text.strip_prefix("whsec_").expect("its prefix")).expect("base64");
    assert_eq!(bytes.len(), 32);
    SigningSecret::of(bytes.into())
}

/// Puts a job that calls this URL, lets it be due, runs it, and answers with how it ended.
async fn end_of(stage: &Stage, key: &str, url: &str, timeout_seconds: u32) -> (String, Option<String>) {
    let mut body = calls_url(url);
    body["timeout_seconds"] = timeout_seconds.into();
    put(stage, key, &body).await;
    stage.pass(MINUTE * 5).await;
    stage.run_domain_jobs().await;
    runs(stage, key).await.into_iter().next().expect("a run")
}

pub(super) fn failed(code: &str) -> (String, Option<String>) {
    ("failed".to_owned(), Some(code.to_owned()))
}

fn succeeded() -> (String, Option<String>) {
    ("succeeded".to_owned(), None)
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_endpoint_is_told_in_a_signed_message_what_is_due(pool: PgPool) {
    let (stage, server) = begin_with(&pool, ok()).await;
    let put_answer = put(&stage, "payouts", &calls_url(&server.url())).await;
    let secret = read_secret(&put_answer);
    assert_eq!(put_answer["definition"], json!({"call": {"url": server.url()}}));
    assert_eq!(put_answer["description"], format!("Calls https://localhost:{}.", server.port));
    stage.pass(MINUTE * 5).await;
    assert_eq!(stage.run_domain_jobs().await.succeeded, 1);
    assert_eq!(stage.run_domain_jobs().await.succeeded, 0);
    let [request] = &server.requests()[..] else { panic!("one request, not {:?}", server.requests()) };
    assert_eq!(request.line, "POST /jobs/reconcile?dry=1 HTTP/1.1");
    assert_eq!(request.header("host"), format!("localhost:{}", server.port));
    assert_eq!(request.header("content-type"), "application/json");
    let (id, timestamp) = (request.header("webhook-id"), request.header("webhook-timestamp"));
    let timestamp: i64 = timestamp.parse().expect("Unix seconds");
    assert_eq!(request.header("webhook-signature"), print_signatures(&[secret], id, timestamp, &request.body));
    let (shown, body) = (show(&stage, "payouts").await, request.json());
    let run_id = shown["last_run"]["id"].as_str().expect("an id");
    assert_eq!(run_id, id, "the message is the run's");
    let at: jiff::Timestamp = body["timestamp"].as_str().expect("a time").parse().expect("a time");
    assert_eq!(at.as_second(), timestamp);
    assert_eq!(body["type"], "job.due");
    let scheduled_at = &put_answer["next_due_at"];
    let data = json!({"job": "payouts", "tenant_id": TENANT, "run_id": run_id, "scheduled_at": scheduled_at});
    assert_eq!(body["data"], data);
    assert_eq!(shown["last_run"]["counts"], json!({"called": 1, "status": 204}));
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_46_whatever_is_no_success_fails_the_run_with_its_status_and_none_of_its_words(pool: PgPool) {
    let (stage, server) = begin_with(&pool, ok()).await;
    let elsewhere = EndpointServer::begin("localhost", ok()).await;
    let redirect = |status: &str| {
        let port = elsewhere.port;
        let head = format!("HTTP/1.1 {status}\r\nlocation: https://127.0.0.1:{port}/\r\ncontent-length: 0\r\n\r\n");
        (Behaviour::Say(head), format!("endpoint_status_{}", &status[..3]))
    };
    let said = "HTTP/1.1 500 canary-reason\r\ncontent-length: 11\r\n\r\ncanary-body".to_owned();
    let table = [
        (Behaviour::Say(said), "endpoint_status_500".to_owned()),
        (Behaviour::status("404 Not Found"), "endpoint_status_404".to_owned()),
        (Behaviour::status("101 Switching Protocols"), "endpoint_status_101".to_owned()),
        redirect("302 Found"),
        redirect("307 Temporary Redirect"),
        redirect("308 Permanent Redirect"),
        (Behaviour::Say("SSH-2.0-OpenSSH_9.9\r\n".to_owned()), "endpoint_answer_unreadable".to_owned()),
        (Behaviour::Say(String::new()), "endpoint_answer_unreadable".to_owned()),
    ];
    for (behaviour, code) in table {
        server.behave(behaviour);
        assert_eq!(end_of(&stage, "payouts", &server.url(), 5).await, failed(&code));
    }
    assert_eq!(elsewhere.connection_count(), 0, "a redirect leads nobody anywhere");
    let shown = show(&stage, "payouts").await;
    assert!(!shown.to_string().contains("canary"), "{shown}");
    let ids: std::collections::BTreeSet<_> =
        server.requests().iter().map(|request| request.header("webhook-id").to_owned()).collect();
    assert_eq!(ids.len(), 8, "each time of the schedule is a message of its own");
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_46_an_endpoint_that_takes_its_time_is_left_when_the_jobs_time_is_over(pool: PgPool) {
    let (stage, server) = begin_with(&pool, ok()).await;
    for head in ["", "HTTP/1.1 200 OK\r\nx-slow: "] {
        server.behave(Behaviour::Hang(head));
        assert_eq!(end_of(&stage, "payouts", &server.url(), 1).await, failed("timed_out"), "{head:?}");
    }
    let begun = Instant::now();
    server.behave(Behaviour::Hang("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nslow"));
    assert_eq!(end_of(&stage, "payouts", &server.url(), 60).await, succeeded(), "its status is known");
    server.behave(Behaviour::Flood);
    assert_eq!(end_of(&stage, "payouts", &server.url(), 60).await, succeeded());
    assert!(begun.elapsed() < Duration::from_secs(50), "nobody waits for a body");
    assert!(server.flooded() < 64 * 1024 * 1024, "{} bytes of ten gigabytes have left", server.flooded());
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_46_a_name_that_leads_inside_is_not_connected_to(pool: PgPool) {
    let (mut stage, server) = begin_with(&pool, ok()).await;
    // The port is allowed, and the address that `localhost` has is not.
    let local = || LocalEndpoints::parse(&format!("127.0.0.9:{}", server.port)).expect("an address");
    stage.domain_jobs.endpoints = server.client(local());
    assert_eq!(end_of(&stage, "payouts", &server.url(), 5).await, failed("endpoint_refused"));
    // As it is in production: neither is.
    stage.domain_jobs.endpoints = server.client(LocalEndpoints::default());
    assert_eq!(end_of(&stage, "payouts", &server.url(), 5).await, failed("endpoint_refused"));
    assert_eq!(end_of(&stage, "https_port", "https://localhost/", 5).await, failed("endpoint_refused"));
    assert_eq!(server.connection_count(), 0);
    let unknown = "https://nobody-has-this-name.invalid/";
    assert_eq!(end_of(&stage, "unknown", unknown, 5).await, failed("endpoint_name_unknown"));
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_endpoint_whose_certificate_is_not_its_own_is_told_nothing(pool: PgPool) {
    let mut stage = begin(&pool).await;
    let server = EndpointServer::begin("somebody.example", ok()).await;
    server.allow(&mut stage);
    assert_eq!(end_of(&stage, "payouts", &server.url(), 5).await, failed("endpoint_tls_failed"));
    let other = EndpointServer::begin("localhost", ok()).await;
    stage.domain_jobs.endpoints = server.client(other.local());
    stage.api.local_endpoints = other.local();
    assert_eq!(end_of(&stage, "payouts", &other.url(), 5).await, failed("endpoint_tls_failed"), "of no authority");
    assert_eq!((server.requests().len(), other.requests().len()), (0, 0));
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_46_a_url_that_may_not_be_called_is_refused_with_a_pointer_and_nothing_is_stored(pool: PgPool) {
    let stage = begin(&pool).await;
    for url in [
        "http://example.com/",
        "https://example.com:8443/",
        "https://ada@example.com/",
        "https://example.com/#part",
        "https://127.0.0.1/",
        "https://127.0.0.1:9001/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://10.1.2.3/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[64:ff9b::10.0.0.1]/",
        "https://[fd00:ec2::254]/",
        "example.com",
    ] {
        let answer = ask(&stage, TENANT, "PUT /v1/jobs/{key}", "payouts", &calls_url(url)).await;
        assert_eq!((answer.status, answer.pointers()), (422, vec!["/call/url"]), "{url}: {answer:?}");
    }
    let mut secretless = calls("rental.note_call");
    secretless["call"]["replace_secret"] = true.into();
    let answer = ask(&stage, TENANT, "PUT /v1/jobs/{key}", "payouts", &secretless).await;
    assert_eq!((answer.status, answer.pointers()), (422, vec!["/call/replace_secret"]));
    let stored = "SELECT (SELECT count(*) FROM harkara.domain_jobs) + (SELECT count(*) FROM harkara.domain_job_clocks)
                         + (SELECT count(*) FROM harkara.domain_job_secrets) + (SELECT count(*) FROM harkara.tenant_keys)";
    assert_eq!(stage.count(stored).await, 0);
    put(&stage, "payouts", &calls_url("https://payouts.example.com/jobs")).await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_run_that_is_killed_while_it_calls_tells_the_same_message_again(pool: PgPool) {
    let (stage, server) = begin_with(&pool, Behaviour::Hang("")).await;
    let mut nightly = calls_url(&server.url());
    nightly["schedule"] = json!("rate(1 day)");
    let due = put(&stage, "nightly", &nightly).await["next_due_at"].clone();
    stage.pass(HOUR * 24).await;
    for killed in 1..=2 {
        tokio::select! {
            biased;
            () = server.see(killed) => {}
            _ = stage.run_domain_jobs() => panic!("it hangs"),
        }
        assert_eq!(stage.run_domain_jobs().await.failed, 0, "its lease holds, and nobody else calls");
        stage.pass(Duration::from_secs(37)).await;
    }
    server.behave(ok());
    assert_eq!(stage.run_domain_jobs().await.succeeded, 1, "and not only the next night");
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    for request in &requests {
        assert_eq!(request.header("webhook-id"), requests[0].header("webhook-id"), "the endpoint knows it again");
        assert_eq!(request.json()["data"]["scheduled_at"], due);
    }
    assert_ne!(requests[0].json()["data"]["run_id"], requests[2].json()["data"]["run_id"]);
    let ends: Vec<_> = runs(&stage, "nightly").await.into_iter().map(|(status, _)| status).collect();
    assert_eq!(ends, ["succeeded", "died", "died"]);
    // What comes next is something else, and so is what somebody asks for.
    stage.pass(HOUR * 24).await;
    assert_eq!(stage.run_domain_jobs().await.succeeded, 1);
    let asked = ask(&stage, TENANT, "POST /v1/jobs/{key}/run", "nightly", &json!({})).await;
    assert_eq!(stage.run_domain_jobs().await.succeeded, 1);
    let requests = server.requests();
    assert_ne!(requests[3].header("webhook-id"), requests[2].header("webhook-id"));
    assert_eq!(requests[4].json()["data"]["run_id"], asked.body["run_id"]);
    assert_eq!(requests[4].json()["data"]["scheduled_at"], Value::Null);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_tenant_that_is_suspended_calls_nobody_and_what_had_begun_ends(pool: PgPool) {
    let (stage, server) = begin_with(&pool, Behaviour::Hang("")).await;
    let mut body = calls_url(&server.url());
    body["timeout_seconds"] = json!(1);
    put(&stage, "payouts", &body).await;
    stage.pass(MINUTE * 5).await;
    let (counts, ()) = tokio::join!(stage.run_domain_jobs(), async {
        server.see(1).await;
        sqlx::query("UPDATE harkara.tenants SET state = 'suspended'").execute(&pool).await.expect("suspended");
    });
    assert_eq!((counts.succeeded, counts.failed), (0, 1));
    assert_eq!(stage.count("SELECT count(*) FROM harkara.job_runs WHERE finished_at IS NULL").await, 0);
    stage.pass(MINUTE * 5).await;
    let counts = stage.run_domain_jobs().await;
    assert_eq!((counts.succeeded, counts.failed, server.requests().len()), (0, 0, 1));
    sqlx::query("UPDATE harkara.tenants SET state = 'active'").execute(&pool).await.expect("active");
    server.behave(ok());
    assert_eq!(stage.run_domain_jobs().await.succeeded, 1, "it is made up for when the tenant is back");
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn two_runners_at_the_same_instant_call_once(pool: PgPool) {
    let (stage, server) = begin_with(&pool, ok()).await;
    for number in 0..4 {
        put(&stage, &format!("call{number}"), &calls_url(&server.url())).await;
    }
    let answer = ask(&stage, OTHER_TENANT, "PUT /v1/jobs/{key}", "call0", &calls_url(&server.url())).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let mut other = other_runner(&stage);
    other.endpoints = server.client(server.local());
    stage.pass(MINUTE * 5).await;
    let deadline = Instant::now() + Duration::from_secs(300);
    let untold = Progress::untold();
    let (one, two) = tokio::join!(stage.domain_jobs.run(deadline, &untold), other.run(deadline, &untold));
    let (one, two) = (one.expect("run"), two.expect("run"));
    assert_eq!((one.succeeded + two.succeeded, one.failed + two.failed), (5, 0));
    assert_eq!(server.requests().len(), 5);
    finish(stage).await;
}
