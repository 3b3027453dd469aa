//! The events of `tests/fixtures/`, which `cargo lambda invoke` sends, are events that the functions take.

use adapters::store::database::RoleLogins;
use adapters::wire::http::Request;
use adapters::wire::ses_event::read_ses_event;
use adapters::wire::sqs_event::read_event;
use domain::feedback::MailEvent;
use serde_json::Value;
use sqlx::PgPool;
use tests::{Stage, TENANT};

fn fixture(name: &str) -> Value {
    let path = format!("{}/fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn every_function_has_a_fixture() {
    let functions = concat!(env!("CARGO_MANIFEST_DIR"), "/../functions");
    for function in std::fs::read_dir(functions).expect("the functions") {
        let function = function.expect("a folder").file_name().into_string().expect("a name");
        fixture(&function);
    }
}

#[test]
fn requests_and_batches_are_read() {
    for name in ["enqueue", "api"] {
        Request::read(fixture(name)).unwrap_or_else(|problem| panic!("{name}: {problem:?}"));
    }
    for name in ["processor", "dead_letter"] {
        assert_eq!(read_event(fixture(name)).expect("a batch").len(), 1, "{name}");
    }
    for record in read_event(fixture("feedback")).expect("a batch") {
        let event = read_ses_event(&record.body).unwrap_or_else(|error| panic!("{error}: {}", record.body));
        assert_eq!(event.event, MailEvent::Delivered, "as from EventBridge, and as from SNS");
    }
    assert!(fixture("feedback_schedule").get("Records").is_none());
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_message_for_a_delivery_that_is_not_there_is_no_accident(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let records = read_event(fixture("processor")).expect("a batch");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let answer = stage.processor.process_batch(&records, deadline).await;
    let answer = serde_json::to_value(&answer).expect("prints");
    assert_eq!(answer["batchItemFailures"][0]["itemIdentifier"], records[0].message_id, "its row may come yet");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_the_other_fixtures_ask_for_is_done(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let mut event = fixture("enqueue_event");
    event["detail"]["tenant_id"] = TENANT.into();
    event["detail"]["category"] = "greeting".into();
    stage.enqueue.accept_event(&event).await.expect("accepted");
    stage.drain().await;
    assert_eq!(stage.mail.asked()[0].subject.as_str(), "A fixture");

    stage.dead_letter.store_batch(&read_event(fixture("dead_letter")).expect("a batch")).await.expect("stored");
    assert_eq!(stage.count("SELECT count(*) FROM harkara.dead_letters WHERE reason = 'poison'").await, 1);

    let database = tests::database_of(&stage.admin);
    let flow = flow::migrate::Migrate { database, logins: RoleLogins::Secrets(Vec::new()) };
    assert_eq!(flow.migrate(&fixture("migrate")).await.expect("migrated")["applied"], serde_json::json!([]));
    stage.finish().await;
}
