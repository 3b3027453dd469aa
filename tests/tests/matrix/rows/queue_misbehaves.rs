//! Rows 31, 32 and 34: the queue does not hide, does not understand, or does not forget.

use super::time_runs_out::print_event;
use serde_json::{Value, json};
use sqlx::PgPool;
use std::time::Duration;
use tests::strict::{DELIVERIES, SqsFault, Strike, Verdict, World, read_verdict};

const HIDE: &str = "ChangeMessageVisibilityBatch";
/// Deliveries that were sent although it was not their time yet: sending leaves the time as it was.
const HASTY: &str = "SELECT count(*) FROM harkara.deliveries WHERE attempt_count > 1 AND not_before > now()";

/// Eight mails that the provider fails on once, each of which is to be tried again after a time of its own.
async fn post_eight(world: &World) {
    for n in 0..8 {
        let request = World::greeting(&format!("fail+1--{n}@simulator.harkara.test"));
        assert_eq!(world.post(&request).await.status, 202);
    }
}

/// The messages are back before their time: what is early by the database is not tried.
async fn assert_early_return_does_nothing(world: &World) {
    let again = world.deliver().await;
    assert_eq!(again.received.len(), 8);
    let early = "SELECT count(*) FROM harkara.deliveries
                 WHERE state = 'queued' AND attempt_count = 1 AND not_before > now()";
    assert!(world.count(early).await > 0, "they came back early");
    assert_eq!(world.count(HASTY).await, 0, "nothing was tried before its time");
}

async fn finish_with_two_attempts_each(world: &mut World) {
    let figures = world.finish().await;
    assert_eq!((figures.sent, figures.attempts, figures.provider_calls), (8, 16, 16));
    assert_eq!(world.count("SELECT count(*) FROM harkara.deliveries WHERE attempt_count <> 2").await, 0);
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_31_a_message_that_cannot_be_hidden_for_throttling_is_reported_failed_all_the_same(admin: PgPool) {
    let mut world = World::begin(admin).await;
    post_eight(&world).await;
    // The client tries twice.
    world.sqs.fail(HIDE, SqsFault::Throttled, 2);
    let delivered = world.deliver().await;
    assert_eq!(delivered.verdict, Verdict::Partial(delivered.received.clone()));
    assert_eq!(world.sqs.calls().iter().filter(|call| *call == HIDE).count(), 2);
    for message in world.sqs.waiting(DELIVERIES) {
        assert_eq!(message.wait, Duration::from_secs(180), "it is hidden as long as the queue hides any");
    }
    // Copies, as a queue may make them, come at once.
    for message in world.sqs.waiting(DELIVERIES) {
        world.sqs.put(DELIVERIES, &message.body).expect("taken");
    }
    assert_early_return_does_nothing(&world).await;
    finish_with_two_attempts_each(&mut world).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_31_a_message_that_is_not_in_flight_any_more_comes_back_early_and_is_not_tried(admin: PgPool) {
    let mut world = World::begin(admin).await;
    post_eight(&world).await;
    world.sqs.deliver_twice(DELIVERIES);
    let delivered = world.deliver().await;
    assert_eq!(delivered.verdict, Verdict::Partial(delivered.received.clone()));
    assert!(world.sqs.waiting(DELIVERIES).iter().all(|message| message.wait.is_zero()), "none could be hidden");
    assert_early_return_does_nothing(&world).await;
    finish_with_two_attempts_each(&mut world).await;
}

/// The longest that a message can be hidden from one receive on, less a second: any wait of two seconds is beyond it.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_31_a_message_at_its_twelfth_hour_cannot_be_hidden_and_comes_back_early_and_is_not_tried(admin: PgPool) {
    const HOURS: u64 = 12 * 60 * 60;
    let mut world = World::begin_with_failpoints(admin).await;
    post_eight(&world).await;
    let messages = world.sqs.receive(DELIVERIES, 10).expect("received");
    for message in &messages {
        let hide = json!({"QueueUrl": DELIVERIES, "ReceiptHandle": message.receipt_handle, "VisibilityTimeout": HOURS});
        world.sqs.act("ChangeMessageVisibility", &hide).expect("just within the limit");
    }
    world.strike("P8_answered", Strike::Hold);
    let event = print_event(&messages);
    let (answer, ()) = futures::join!(world.invoke("processor", &event), async {
        world.wait_for_strike("P8_answered").await;
        world.advance(Duration::from_secs(HOURS - 1)).await;
        world.release();
    });
    let ids: Vec<&str> = messages.iter().map(|message| message.id.as_str()).collect();
    let Verdict::Partial(failed) = read_verdict(&answer, &ids) else { panic!("{answer:?}") };
    assert_eq!(failed.len(), 8);
    assert!(world.output().iter().any(|line| line.contains("refused to hide")), "SQS refused some");
    world.advance(Duration::from_secs(1)).await;
    let waiting = world.sqs.waiting(DELIVERIES);
    assert!(waiting.iter().any(|message| message.wait.is_zero()), "{waiting:?}");
    world.deliver().await;
    assert_eq!(world.count(HASTY).await, 0, "nothing was tried before its time");
    finish_with_two_attempts_each(&mut world).await;
}

/// What the real processor answers, byte for byte, and what every mutant of it would make the mapping do.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_32_the_answer_names_what_failed_in_the_mappings_own_words_and_each_mutant_fails_the_batch(admin: PgPool) {
    let mut world = World::begin(admin).await;
    for address in ["fail+1@simulator.harkara.test", "ada@example.org"] {
        assert_eq!(world.post(&World::greeting(address)).await.status, 202);
    }
    world.sqs.put(DELIVERIES, "no JSON").expect("taken");
    let failing = world.sqs.waiting(DELIVERIES)[0].id.clone();
    let delivered = world.deliver().await;
    assert_eq!(delivered.received.len(), 3);
    let answer = delivered.answer.expect("answered");
    assert_eq!(answer.to_string(), format!(r#"{{"batchItemFailures":[{{"itemIdentifier":"{failing}"}}]}}"#));
    assert_eq!(delivered.verdict, Verdict::Partial(vec![failing.clone()]));
    let left: Vec<String> = world.sqs.waiting(DELIVERIES).into_iter().map(|message| message.id).collect();
    assert_eq!(left, std::slice::from_ref(&failing), "what was done is deleted, and nothing else");

    let batch: Vec<&str> = delivered.received.iter().map(String::as_str).collect();
    let mutants = [
        answer.to_string().replace(&failing, ""),
        answer.to_string().replace(&format!("\"{failing}\""), "null"),
        answer.to_string().replace(&failing, "7f1d3c7e-0000-4000-8000-000000000000"),
        answer.to_string().replace("itemIdentifier", "item_identifier"),
        answer.to_string().replace("itemIdentifier", "ItemIdentifier"),
    ];
    for mutant in mutants {
        let mutated: Value = serde_json::from_str(&mutant).expect("JSON");
        let verdict = read_verdict(&Ok(mutated), &batch);
        assert!(matches!(verdict, Verdict::Failure(_)), "{mutant}: {verdict:?}");
        assert!(batch.iter().all(|id| !verdict.deletes(id)), "{mutant}");
    }
    // The one mutation that loses messages without a word: the mapping finds no list, and deletes everything.
    for lost in ["BatchItemFailures", "batch_item_failures"] {
        let mutated = serde_json::from_str(&answer.to_string().replace("batchItemFailures", lost)).expect("JSON");
        assert_eq!(read_verdict(&Ok(mutated), &batch), Verdict::Success);
    }

    world.advance(Duration::from_secs(10)).await;
    let again = world.deliver().await;
    assert_eq!(again.answer.expect("answered").to_string(), r#"{"batchItemFailures":[]}"#);
    world.collect_dead_letters().await;
    let figures = world.finish().await;
    assert_eq!((figures.sent, figures.attempts), (2, 3));
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_34_a_message_that_was_deleted_and_is_back_sends_nothing(admin: PgPool) {
    let mut world = World::begin(admin).await;
    let expected = [
        ("ada@example.org", "sent", None, 1),
        ("reject@simulator.harkara.test", "failed", Some("provider_rejected"), 1),
        ("lost+1@simulator.harkara.test", "unknown", Some("outcome_unknown"), 1),
        ("paused+1@simulator.harkara.test", "held", Some("sending_paused"), 0),
    ];
    let mut ids = Vec::new();
    for (address, ..) in expected {
        ids.push(world.post(&World::greeting(address)).await.id());
    }
    world.deliver_all().await;
    for round in 1..=3 {
        assert_eq!(world.sqs.undo_deletes(DELIVERIES), 4, "round {round}");
        let again = world.deliver().await;
        assert_eq!((again.received.len(), again.verdict), (4, Verdict::Success), "round {round}");
        for (id, (address, state, reason, spent)) in ids.iter().zip(expected) {
            assert_eq!(world.ses.ledger().entries_to(address).len(), 1, "round {round}: requests for {address}");
            let outcome = (state.to_owned(), reason.map(str::to_owned), spent);
            assert_eq!(world.outcome(id).await, outcome, "round {round}: {address}");
        }
    }
    let figures = world.finish().await;
    assert_eq!((figures.sent, figures.failed, figures.duplicates_declared, figures.provider_calls), (3, 1, 1, 6));
}
