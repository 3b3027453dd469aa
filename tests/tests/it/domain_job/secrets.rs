//! What signs the calls of endpoints: shown once, sealed at rest, and replaced while both sign.

use super::endpoints::{begin_with, calls_url, failed, ok, read_secret};
use super::{HOUR, MINUTE, ask, calls, finish, put, runs, show};
use domain::endpoint::{SigningSecret, print_signatures};
use serde_json::json;
use sqlx::PgPool;
use tests::endpoint_server::Behaviour;
use tests::privacy::Heard as Log;
use tests::{OTHER_TENANT, TENANT};

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_secret_is_shown_once_and_stays_until_it_is_replaced(pool: PgPool) {
    let (stage, server) = begin_with(&pool, ok()).await;
    let body = calls_url(&server.url());
    let first = put(&stage, "payouts", &body).await;
    let again = put(&stage, "payouts", &body).await;
    assert_eq!(again.get("secret"), None, "{again}");
    let mut replacing = body.clone();
    replacing["call"]["replace_secret"] = true.into();
    let second = put(&stage, "payouts", &replacing).await;
    assert_eq!(second["definition"], json!({"call": body["call"]}), "what is asked once is not kept");
    let list = stage.call(TENANT, "GET /v1/jobs", None, "", "").await.body;
    for shown in [show(&stage, "payouts").await, list] {
        assert!(!shown.to_string().contains("secret"), "{shown}");
    }
    let signatures = async || {
        stage.pass(MINUTE * 5).await;
        assert_eq!(stage.run_domain_jobs().await.succeeded, 1);
        let request = server.requests().pop().expect("a request");
        let timestamp = request.header("webhook-timestamp").parse().expect("Unix seconds");
        let sign = |secrets: &[SigningSecret]| {
            print_signatures(secrets, request.header("webhook-id"), timestamp, &request.body)
        };
        let both = sign(&[read_secret(&second), read_secret(&first)]);
        (request.header("webhook-signature").to_owned(), both, sign(&[read_secret(&second)]))
    };
    let (sent, both, _) = signatures().await;
    assert_eq!(sent, both, "while it is replaced, both sign");
    stage.pass(HOUR * 24).await;
    let (sent, _, one) = signatures().await;
    assert_eq!(sent, one);
    // Twice at once: the first ends with the second, and two sign at most.
    put(&stage, "payouts", &replacing).await;
    put(&stage, "payouts", &replacing).await;
    assert_eq!(stage.count("SELECT count(*) FROM harkara.domain_job_secrets").await, 2);
    put(&stage, "payouts", &calls("rental.note_call")).await;
    assert_eq!(stage.count("SELECT count(*) FROM harkara.domain_job_secrets").await, 0, "a function has none");
    assert_ne!(put(&stage, "payouts", &body).await["secret"], first["secret"]);
    assert_eq!(stage.call(TENANT, "DELETE /v1/jobs/{key}", Some("payouts"), "", "").await.status, 204);
    assert_eq!(stage.count("SELECT count(*) FROM harkara.domain_job_secrets").await, 0);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn of_two_who_put_a_job_first_at_once_one_is_shown_the_secret(pool: PgPool) {
    let (stage, server) = begin_with(&pool, ok()).await;
    let body = calls_url(&server.url());
    let (one, two) = tokio::join!(put(&stage, "payouts", &body), put(&stage, "payouts", &body));
    let shown: Vec<_> = [one, two].into_iter().filter(|answer| answer.get("secret").is_some()).collect();
    let [answer] = &shown[..] else { panic!("one of them, not {shown:?}") };
    stage.pass(MINUTE * 5).await;
    assert_eq!(stage.run_domain_jobs().await.succeeded, 1);
    let request = server.requests().pop().expect("a request");
    let timestamp = request.header("webhook-timestamp").parse().expect("Unix seconds");
    let signature = print_signatures(&[read_secret(answer)], request.header("webhook-id"), timestamp, &request.body);
    assert_eq!(request.header("webhook-signature"), signature);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_secret_is_in_no_log_and_in_no_row(pool: PgPool) {
    let (stage, server) = begin_with(&pool, Behaviour::status("500 No")).await;
    let heard = Log::default();
    let listening = heard.listen("trace");
    let answer = put(&stage, "payouts", &calls_url(&format!("{}&key=canary-key", server.url()))).await;
    let secret = read_secret(&answer);
    stage.pass(MINUTE * 5).await;
    assert_eq!(stage.run_domain_jobs().await.failed, 1);
    drop(listening);
    let (printed, log) = (secret.print(), heard.text());
    let bare = printed.trim_start_matches("whsec_");
    assert!(log.contains("endpoint_status_500"), "{log}");
    assert!(!log.contains(bare) && !log.contains("canary-key"), "{log}");
    let rows = "SELECT string_agg(t::text, '') FROM (
                    SELECT to_jsonb(a)::text FROM harkara.audit_log a UNION ALL
                    SELECT to_jsonb(s)::text FROM harkara.domain_job_secrets s UNION ALL
                    SELECT to_jsonb(j)::text FROM harkara.domain_jobs j) t";
    let rows: String = sqlx::query_scalar(rows).fetch_one(&pool).await.expect("they can be read");
    let hex: String = secret.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!rows.contains(bare) && !rows.contains(&hex));
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn without_its_secret_an_endpoint_is_told_nothing(pool: PgPool) {
    let (stage, server) = begin_with(&pool, ok()).await;
    put(&stage, "payouts", &calls_url(&server.url())).await;
    put(&stage, "swapped", &calls_url(&server.url())).await;
    // A secret opens in its own row and in no other.
    let swap =
        "UPDATE harkara.domain_job_secrets s SET sealed_secret = o.sealed_secret FROM harkara.domain_job_secrets o
                WHERE s.job_key = 'swapped' AND o.job_key = 'payouts'";
    sqlx::query(swap).execute(&pool).await.expect("swapped");
    stage.pass(MINUTE * 5).await;
    let counts = stage.run_domain_jobs().await;
    assert_eq!((counts.succeeded, counts.failed), (1, 1));
    assert_eq!(runs(&stage, "swapped").await, [failed("endpoint_secret_unusable")]);
    stage.key_service.be_out(true);
    let answer = ask(&stage, OTHER_TENANT, "PUT /v1/jobs/{key}", "payouts", &calls_url(&server.url())).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(stage.count("SELECT count(*) FROM harkara.domain_jobs").await, 2, "nothing of it is stored");
    assert_eq!(server.requests().len(), 1);
    finish(stage).await;
}
