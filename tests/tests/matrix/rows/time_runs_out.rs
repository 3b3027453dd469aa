//! Rows 33 and 35: the invocation's time ends before its work, or the lease before its worker.

use super::unknown::{attempts, pass};
use crate::due::{Work, name_of};
use local::ses::Fault;
use serde_json::{Value, json};
use sqlx::PgPool;
use std::time::{Duration, Instant};
use tests::TENANT;
use tests::strict::{DELIVERIES, Received, Strike, Verdict, World, read_verdict};

/// A batch as the mapping prints it, as far as a processor reads it.
pub(super) fn print_event(messages: &[Received]) -> Value {
    let records = messages.iter().map(|message| {
        json!({
            "messageId": message.id, "receiptHandle": message.receipt_handle, "body": message.body,
            "attributes": {"ApproximateReceiveCount": message.receive_count.to_string()},
            "messageAttributes": {}, "eventSource": "aws:sqs",
        })
    });
    json!({"Records": records.collect::<Vec<_>>()})
}

/// Eleven records, of which the first five take SES two seconds and leave less than the eight that a send may need.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_33_six_records_near_the_deadline_are_reported_failed_before_it_and_burn_no_attempt(admin: PgPool) {
    const LIMIT: Duration = Duration::from_secs(10);
    let mut world = World::begin(admin).await;
    let category = json!({"class": "transactional", "template": "greeting", "max_attempts": 1});
    world.put(TENANT, "/v1/categories/{key}", "greeting", category).await;
    let addresses: Vec<String> = (0..11).map(|n| format!("{n}@example.org")).collect();
    for address in &addresses {
        world.ses.script(address, vec![Fault::Slow(Duration::from_millis(2_200))]).expect("an address");
        assert_eq!(world.post(&World::greeting(address)).await.status, 202);
    }
    let messages = world.sqs.receive(DELIVERIES, 11).expect("received");
    let begun_at = Instant::now();
    let answer = world.invoke_within("processor", &print_event(&messages), LIMIT).await;
    assert!(begun_at.elapsed() < LIMIT - Duration::from_secs(1), "{:?}", begun_at.elapsed());
    let ids: Vec<&str> = messages.iter().map(|message| message.id.as_str()).collect();
    let verdict = read_verdict(&answer, &ids);
    let Verdict::Partial(failed) = &verdict else { panic!("{answer:?}") };
    assert_eq!(failed.len(), 6);
    for message in messages.iter().filter(|message| verdict.deletes(&message.id)) {
        world.sqs.delete(DELIVERIES, &message.receipt_handle);
    }
    let sent: usize = addresses.iter().map(|address| world.mails_to(address)).sum();
    assert_eq!((sent, world.ses.ledger().entries().len()), (5, 5));
    let handed_back = "SELECT count(*) FROM harkara.deliveries d JOIN harkara.attempts a USING (tenant_id, delivery_id)
                       WHERE d.state = 'queued' AND d.uncounted_attempt_count = 1 AND a.outcome = 'not_sent'";
    assert_eq!(world.count(handed_back).await, 6);

    for address in &addresses {
        world.ses.script(address, Vec::new()).expect("an address");
    }
    let figures = world.finish().await;
    assert_eq!((figures.sent, figures.provider_calls, figures.dead), (11, 11, 0));
}

/// A worker that stands between its answer from SES and its record while `meanwhile` happens; then it goes on.
async fn hold_a_worker(world: &World, meanwhile: impl AsyncFnOnce()) {
    world.strike("P8_answered", Strike::Hold);
    futures::join!(world.deliver(), async {
        world.wait_for_strike("P8_answered").await;
        meanwhile().await;
        world.release();
    });
}

/// The lease ends, and then the message is seen again: a second worker gets it and does nothing.
async fn end_the_lease(world: &World, id: &str, address: &str) {
    pass(world, Duration::from_secs(95)).await;
    let unknown = ("unknown".to_owned(), Some("lease_expired".to_owned()), 1);
    assert_eq!(world.outcome(id).await, unknown);
    world.advance(Duration::from_secs(90)).await;
    let second = world.deliver().await;
    assert_eq!((second.received.len(), second.verdict), (1, Verdict::Success), "the second worker lets go of it");
    assert_eq!(world.outcome(id).await, unknown);
    assert_eq!(world.ses.ledger().entries_to(address).len(), 1);
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_35_while_a_slow_worker_lives_no_second_one_sends_and_its_late_word_settles_the_delivery(admin: PgPool) {
    let mut world = World::begin_with_failpoints(admin).await;
    let address = "ada@example.org";
    let id = world.post(&World::greeting(address)).await.id();
    hold_a_worker(&world, async || end_the_lease(&world, &id, address).await).await;
    // Nobody has claimed it since, so that the worker's own word still counts.
    assert_eq!(world.outcome(&id).await, ("sent".to_owned(), None, 1));
    let figures = world.finish().await;
    assert_eq!((figures.provider_calls, figures.attempts, figures.unknown, figures.unknown_settled), (1, 1, 1, 1));
}

/// The worker comes back when another attempt has been made: its word about the first one changes nothing of the delivery.
async fn come_back_too_late(admin: PgPool, address: &str, first: &str) -> World {
    let world = World::begin_with_failpoints(admin).await;
    let id = world.post(&World::greeting(address)).await.id();
    let row = "SELECT count(*) FROM harkara.deliveries d JOIN harkara.attempts a USING (tenant_id, delivery_id)
               WHERE d.state = 'sent' AND d.attempt_count = 2 AND a.attempt_number = 2
                 AND d.provider_message_id = a.provider_message_id AND d.sent_at = a.finished_at";
    let version = async || {
        let version: String = sqlx::query_scalar("SELECT xmin::text FROM harkara.deliveries")
            .fetch_one(&world.admin)
            .await
            .expect("one delivery");
        version
    };
    let mut before = String::new();
    hold_a_worker(&world, async || {
        end_the_lease(&world, &id, address).await;
        pass(&world, Duration::from_secs(600)).await;
        assert_eq!(world.outcome(&id).await, ("sent".to_owned(), None, 2));
        assert_eq!(world.count(row).await, 1);
        before = version().await;
    })
    .await;
    assert_eq!(version().await, before, "the stale completion wrote no row of the delivery");
    assert_eq!(world.count(row).await, 1);
    assert_eq!(attempts(&world, &id).await, [first, "sent"], "what became of the attempt itself is kept");
    world
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_35_a_worker_that_sent_and_comes_back_after_the_next_attempt_is_fenced(admin: PgPool) {
    let mut world = come_back_too_late(admin, "ada@example.org", "sent").await;
    let figures = world.finish().await;
    assert_eq!((figures.provider_accepted, figures.duplicates_declared, figures.duplicates_undeclared), (2, 1, 0));
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_35_a_worker_that_was_refused_and_comes_back_after_the_next_attempt_is_fenced(admin: PgPool) {
    let mut world = come_back_too_late(admin, "reject+1@simulator.harkara.test", "rejected").await;
    let figures = world.finish().await;
    assert_eq!((figures.provider_accepted, figures.failed, figures.duplicates_declared), (1, 0, 0));
}

/// What is kept back of each run's time is longer than this.
const NO_TIME: Duration = Duration::from_secs(8);

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_scheduled_run_whose_time_is_over_at_once_does_nothing_and_says_that_it_leaves_work(admin: PgPool) {
    let mut world = World::begin(admin).await;
    for work in Work::ALL {
        work.furnish(&world).await;
        let name = name_of(&format!("{work:?} no time"));
        work.make_due(&world, std::slice::from_ref(&name)).await;
        let answer = world.tick_within(work.function(), NO_TIME).await.expect("it answers in its time");
        assert_eq!(work.count(&answer), 0, "{work:?}");
        let last = "SELECT leaves_work FROM harkara.job_runs WHERE job = $1 ORDER BY started_at DESC LIMIT 1";
        let leaves_work: Option<bool> =
            sqlx::query_scalar(last).bind(work.function()).fetch_one(&world.admin).await.expect("a run");
        assert_eq!(leaves_work, Some(true), "{work:?}");
        assert_eq!(work.count(&world.tick(work.function()).await.expect("it does its work")), 1, "{work:?}");
        let leaves_work: Option<bool> =
            sqlx::query_scalar(last).bind(work.function()).fetch_one(&world.admin).await.expect("a run");
        assert_eq!(leaves_work, Some(false), "{work:?}");
        world.settle().await;
        work.expect_once(&world, &name, "in the end").await;
    }
    world.check().await;
}
