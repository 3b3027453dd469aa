//! What died is stored with its reason, once, and nothing open is buried alive.

use adapters::wire::sqs_event::Record;
use domain::outcome::{ProviderError, SendOutcome};
use serde_json::json;
use sqlx::PgPool;
use tests::{OTHER_TENANT, Stage, TENANT};

fn server_failed() -> SendOutcome {
    SendOutcome::ServerFailed(ProviderError { code: "Code".into(), detail: "words".into() })
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_message_that_comes_twice_is_one_dead_letter(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let record = Record { message_id: "m-1".into(), body: "not json".into(), receive_count: 25, ..Record::default() };
    for _ in 0..2 {
        stage.dead_letter.store_batch(std::slice::from_ref(&record)).await.expect("stored");
    }
    assert_eq!(stage.count("SELECT count(*) FROM harkara.dead_letters WHERE reason = 'poison'").await, 1);
    assert_eq!(stage.bus.detail_types(), ["dead_letter.added"]);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_open_delivery_whose_message_died_goes_on(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let answer = stage.post(Stage::greeting("ada@example.org")).await;
    let records = stage.queue.receive(std::time::Duration::ZERO);
    stage.dead_letter.store_batch(&records).await.expect("stored");
    assert_eq!(stage.dispatch().await.published, 1, "the database knows better than the queue");
    stage.drain().await;
    assert_eq!(stage.outcome(&answer.id()).await.0, "sent");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_message_of_an_earlier_death_buries_nothing(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.mail.script("ada@example.org", [server_failed as fn() -> _; 6]);
    let answer = stage.post(Stage::greeting("ada@example.org")).await;
    stage.drain().await;
    let earlier = stage.queue.receive_dead();
    stage.dead_letter.store_batch(&earlier).await.expect("stored");
    let redrive = r#"{"from": "2020-01-01T00:00:00Z"}"#;
    stage.call(TENANT, "POST /v1/dead-letters/redrive", None, "", redrive).await;
    stage.drain().await;
    assert_eq!(stage.outcome(&answer.id()).await.0, "dead");

    // SQS may deliver twice, and the second time late.
    stage.dead_letter.store_batch(&earlier).await.expect("stored");
    let still_due = "SELECT count(*) FROM harkara.deliveries WHERE state = 'dead' AND due_at IS NOT NULL";
    assert_eq!(stage.count(still_due).await, 1, "a letter of its own is still to come");
    stage.store_dead_letters().await;
    assert_eq!(stage.count("SELECT count(*) FROM harkara.dead_letters WHERE redriven_at IS NULL").await, 1);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_body_that_names_another_tenants_delivery_touches_nothing(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let answer = stage.post(Stage::greeting("ada@example.org")).await;
    let body = stage.queue.waiting()[0].record.body.replace(TENANT, OTHER_TENANT);
    let record = Record { message_id: "m-1".into(), body, receive_count: 1, ..Record::default() };
    stage.dead_letter.store_batch(&[record]).await.expect("stored");
    let theirs = stage.call(OTHER_TENANT, "GET /v1/dead-letters", None, "", "").await;
    assert_eq!(theirs.body["dead_letters"][0]["delivery_id"], json!(null));
    assert_eq!(stage.outcome(&answer.id()).await.0, "queued");
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_store_that_is_down_acknowledges_nothing(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    sqlx::query("ALTER TABLE harkara.dead_letters RENAME TO gone").execute(&stage.admin).await.expect("renamed");
    let record = Record { message_id: "m-1".into(), body: "not json".into(), receive_count: 1, ..Record::default() };
    assert!(stage.dead_letter.store_batch(&[record]).await.is_err());
    stage.finish().await;
}
