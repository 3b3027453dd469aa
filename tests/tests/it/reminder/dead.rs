//! What has fired and died when the deadline moves: somebody is reminded of the new time, and nobody twice.

use super::{DUE, deadline, finish, move_to, plan, put, put_well};
use domain::outcome::{ProviderError, SendOutcome};
use serde_json::{Value, json};
use sqlx::PgPool;
use tests::{Answer, Stage, TENANT};

/// A week after [`DUE`].
const LATER: &str = "2027-06-22T12:00:00Z";
/// A day before each.
const FIRST: &str = "2027-06-14T12:00:00Z";
const SECOND: &str = "2027-06-21T12:00:00Z";
const ADA: &str = "ada@example.org";

fn error() -> ProviderError {
    ProviderError { code: "Code".into(), detail: "words".into() }
}

/// Surely not sent.
fn no_connection() -> SendOutcome {
    SendOutcome::Transient(error())
}

/// It may have been sent.
fn server_failed() -> SendOutcome {
    SendOutcome::ServerFailed(error())
}

fn day_before(due: &str) -> Value {
    deadline(due, json!([{"before": "P1D"}]))
}

/// A reminder that has died in the provider's outage, which is over.
async fn begin(pool: PgPool, outage: [fn() -> SendOutcome; 3]) -> Stage {
    let stage = Stage::begin(pool).await;
    move_to(&stage, "2027-06-01T00:00:00Z").await;
    put_well(&stage, "visit", &day_before(DUE)).await;
    stage.mail.script(ADA, outage);
    move_to(&stage, FIRST).await;
    assert_eq!(stage.remind().await.fired, 1);
    stage.drain().await;
    stage.store_dead_letters().await;
    assert_eq!(stage.count("SELECT count(*) FROM harkara.deliveries WHERE state = 'dead'").await, 1);
    assert_eq!(stage.mail.count(ADA), 3, "it was tried as often as its category allows");
    stage
}

async fn redrive(stage: &Stage) -> Answer {
    let all = r#"{"from": "2020-01-01T00:00:00Z"}"#;
    let answer = stage.call(TENANT, "POST /v1/dead-letters/redrive", None, "", all).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

/// How many mails are asked for until the new time's rung has had its moment.
async fn mails_for_the_new_time(stage: &Stage) -> usize {
    let before = stage.mail.count(ADA);
    stage.drain().await;
    move_to(stage, SECOND).await;
    stage.remind().await;
    stage.drain().await;
    stage.mail.count(ADA) - before
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_reminder_that_died_in_an_outage_is_planned_anew_when_the_deadline_moves(pool: PgPool) {
    let stage = begin(pool, [no_connection; 3]).await;
    put_well(&stage, "visit", &day_before(LATER)).await;
    assert_eq!(plan(&stage, "visit").await, ["-P1D planned"]);
    redrive(&stage).await;
    stage.drain().await;
    assert_eq!(stage.mail.count(ADA), 3, "nobody hears of the old time");
    assert_eq!(mails_for_the_new_time(&stage).await, 1);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_reminder_that_died_and_may_have_been_sent_is_not_sent_again_when_the_deadline_moves(pool: PgPool) {
    let stage = begin(pool, [no_connection, server_failed, no_connection]).await;
    put_well(&stage, "visit", &day_before(LATER)).await;
    assert_eq!(plan(&stage, "visit").await, ["-P1D fired", "-P1D skipped fired_before"]);
    assert_eq!(mails_for_the_new_time(&stage).await, 0);
    finish(stage).await;
}

/// Its worker was killed before it could say how it ended.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_attempt_without_an_end_may_have_sent_what_died(pool: PgPool) {
    let stage = begin(pool, [no_connection; 3]).await;
    let forget = "
        UPDATE harkara.attempts SET outcome = NULL, finished_at = NULL, error_code = NULL, error_detail = NULL
        WHERE attempt_number = 2";
    sqlx::query(forget).execute(&stage.admin).await.expect("changed");
    put_well(&stage, "visit", &day_before(LATER)).await;
    assert_eq!(plan(&stage, "visit").await, ["-P1D fired", "-P1D skipped fired_before"]);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_reminder_that_died_and_that_the_provider_told_of_after_all_is_not_sent_again(pool: PgPool) {
    let stage = begin(pool, [no_connection; 3]).await;
    let tell = "
        UPDATE harkara.attempts SET feedback = 'delivered', feedback_at = harkara.now() WHERE attempt_number = 2";
    sqlx::query(tell).execute(&stage.admin).await.expect("changed");
    put_well(&stage, "visit", &day_before(LATER)).await;
    assert_eq!(plan(&stage, "visit").await, ["-P1D fired", "-P1D skipped fired_before"]);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_reminder_that_died_stays_to_be_redriven_while_the_deadline_stays(pool: PgPool) {
    let stage = begin(pool, [no_connection; 3]).await;
    let mut other = day_before(DUE);
    other["data"] = json!({"name": "Ada Lovelace"});
    other["when_past"] = "send".into();
    put_well(&stage, "visit", &other).await;
    assert_eq!(plan(&stage, "visit").await, ["-P1D fired"]);
    assert_eq!(stage.remind().await.fired, 0);
    redrive(&stage).await;
    stage.drain().await;
    assert_eq!(stage.mail.count(ADA), 4);
    finish(stage).await;
}

/// Whoever redrives and whoever moves meet at the delivery's row; whoever is first, it is said once.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_reminder_that_is_redriven_while_the_deadline_moves_is_sent_for_the_new_time_only(pool: PgPool) {
    let stage = begin(pool, [no_connection; 3]).await;
    let moved = day_before(LATER);
    let (_, answer) = tokio::join!(redrive(&stage), put(&stage, "visit", &moved));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(plan(&stage, "visit").await, ["-P1D planned"]);
    assert_eq!(mails_for_the_new_time(&stage).await, 1);
    finish(stage).await;
}
