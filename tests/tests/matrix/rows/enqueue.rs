//! Rows 1 to 10: a request on its way into the database and onto the queue.

use futures::future::join_all;
use serde_json::{Value, json};
use sqlx::PgPool;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};
use tests::strict::{Before, Burst, DELIVERIES, SqsFault, Strike, Wire, WireFault, World};
use tests::{TENANT, see_count};

const ADDRESS: &str = "ada@example.org";
/// What storing a request executes.
const STORE: &str = "accept_notifications";

fn greeting() -> Value {
    World::greeting(ADDRESS)
}

const STORED: &str = "SELECT count(*) FROM harkara.notifications";

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_01_what_breaks_before_the_commit_stores_nothing_and_the_next_try_succeeds_once(admin: PgPool) {
    let mut world = World::begin_with_failpoints(admin).await;
    for point in ["E1_authenticated", "E2_begin"] {
        for strike in [Strike::Kill, Strike::Panic] {
            world.strike(point, strike);
            assert_eq!(world.post_with_key("key-1", &greeting()).await.status, 500, "{strike:?} at {point}");
            assert_eq!(world.count(STORED).await, 0, "{strike:?} at {point}");
        }
    }
    // E3: the rows are in, and the statement waits for a lock; function and connection die there.
    let mut lock = world.admin.begin().await.expect("begun");
    sqlx::query("LOCK TABLE harkara.events IN SHARE MODE").execute(&mut *lock).await.expect("locked");
    let request = greeting();
    let (answer, ()) = futures::join!(world.post_with_key("key-1", &request), async {
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'harkara.events'::regclass";
        see_count(&world.admin, waits, 1).await;
        world.kill_at_work("enqueue");
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks
                   WHERE NOT granted AND relation = 'harkara.events'::regclass";
        assert_eq!(world.count(end).await, 1);
    });
    assert_eq!(answer.status, 500);
    lock.rollback().await.expect("let go");
    assert_eq!(world.count(STORED).await, 0);

    let answer = world.post_with_key("key-1", &greeting()).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let figures = world.finish().await;
    assert_eq!((figures.accepted, figures.sent, figures.provider_accepted), (1, 1, 1));
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_02_a_commit_whose_answer_is_lost_is_answered_with_the_same_id_at_the_next_try(admin: PgPool) {
    let mut world = World::begin(admin).await;
    // The answer to preparing the statement passes; the answer to executing it, which commits, is cut.
    let wire = Wire::before(world.database_address()).await.expect("a port is free");
    world.reach_database_by("enqueue", wire.address()).await;
    assert_eq!(world.post(&World::greeting("first@example.org")).await.status, 202);
    let prepared = wire.described_bytes(STORE);
    let rules = json!([{"payload": STORE, "cut_reply": {"after_bytes": prepared + 1}, "times": 1}]);
    let burst = Burst::start(Before::Bytes, world.database_address(), &rules).await;
    world.reach_database_by("enqueue", burst.address()).await;

    let lost = world.post_with_key("key-2", &greeting()).await;
    assert_eq!(lost.status, 503, "{lost:?}");
    assert_eq!(burst.fired().len(), 1);
    assert_eq!(world.count(STORED).await, 2, "it was committed");
    let answer = world.post_with_key("key-2", &greeting()).await;
    assert_eq!((answer.status, &answer.headers["idempotent-replayed"]), (202, &json!("true")), "{answer:?}");
    assert_eq!(world.count(STORED).await, 2, "it was not stored again");
    let shown = world.show(&answer.id()).await;
    assert_eq!(shown["id"], answer.id());
    let figures = world.finish().await;
    assert_eq!((figures.accepted, figures.provider_accepted), (2, 2));
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_03_a_reset_before_the_commit_stores_nothing_and_the_next_try_makes_one(admin: PgPool) {
    let mut world = World::begin(admin).await;
    let rules = json!([{"sql": STORE, "reset": true, "times": 1}]);
    let burst = Burst::start(Before::Postgres, world.database_address(), &rules).await;
    world.reach_database_by("enqueue", burst.address()).await;
    let answer = world.post_with_key("key-3", &greeting()).await;
    assert_eq!((answer.status, &answer.headers["retry-after"]), (503, &json!("5")), "{answer:?}");
    assert_eq!(burst.fired().len(), 1);
    assert_eq!(world.count(STORED).await, 0);
    assert_eq!(world.post_with_key("key-3", &greeting()).await.status, 202);
    let figures = world.finish().await;
    assert_eq!((figures.accepted, figures.provider_accepted), (1, 1));
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_04_a_kill_between_commit_and_publish_loses_nothing(admin: PgPool) {
    let mut world = World::begin_with_failpoints(admin).await;
    let points = ["E5_committed", "E6_publish"];
    for (index, point) in points.iter().enumerate() {
        world.strike(point, Strike::Kill);
        assert_eq!(world.post(&World::greeting(&format!("{index}@example.org"))).await.status, 500);
    }
    assert_eq!((world.count(STORED).await, world.sqs.sent_count(DELIVERIES)), (2, 0));

    world.advance(Duration::from_secs(60)).await;
    world.dispatch().await.expect("dispatched");
    world.deliver_all().await;
    assert_eq!((world.mails_to("0@example.org"), world.mails_to("1@example.org")), (1, 1));
    let figures = world.finish().await;
    assert_eq!((figures.stored_unanswered, figures.provider_accepted), (2, 2));
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_05_a_queue_that_is_down_for_ten_minutes_costs_no_request_and_no_mail(admin: PgPool) {
    let mut world = World::begin(admin).await;
    let throttle = json!([{"service": "sqs", "error": {"code": "RequestThrottled"}}]);
    let burst = Burst::start(Before::Aws, world.sqs.address(), &throttle).await;
    world.redeploy("enqueue", &[("AWS_ENDPOINT_URL_SQS", &format!("http://{}", burst.address()))]);
    assert_eq!(world.post(&World::greeting("throttled@example.org")).await.status, 202);
    assert!(!burst.fired().is_empty(), "the queue was asked, and wanted fewer requests");
    burst.set_rules(&json!([]));

    world.sqs.fail("SendMessageBatch", SqsFault::InternalError, 2);
    assert_eq!(world.post(&World::greeting("failed@example.org")).await.status, 202);
    world.redeploy("enqueue", &[("AWS_ENDPOINT_URL_SQS", &world.sqs.url())]);
    world.sqs.shut().await;
    assert_eq!(world.post(&World::greeting("refused@example.org")).await.status, 202);
    for _ in 0..10 {
        world.advance(Duration::from_secs(60)).await;
        let counts = world.dispatch().await.expect("a queue that is down is no reason to fail");
        assert_eq!((&counts["published"], &counts["not_taken"]), (&json!(0), &json!(3)));
    }
    assert_eq!(world.sqs.sent_count(DELIVERIES), 0);

    let recovery = world.settle().await;
    assert!(recovery <= Duration::from_secs(120), "{recovery:?}");
    let figures = world.check().await;
    assert_eq!((figures.accepted, figures.sent, figures.provider_accepted), (3, 3, 3));
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_06_a_publish_whose_answer_is_lost_makes_two_messages_and_one_mail(admin: PgPool) {
    let mut world = World::begin(admin).await;
    let burst = Burst::start(Before::Aws, world.sqs.address(), &json!([])).await;
    world.redeploy("enqueue", &[("AWS_ENDPOINT_URL_SQS", &format!("http://{}", burst.address()))]);
    let operation = "SendMessageBatch";
    burst.set_rules(&json!([{"service": "sqs", "operation": operation, "response": {"abort_bytes": 1}, "times": 1}]));
    assert_eq!(world.post(&greeting()).await.status, 202);
    assert_eq!((burst.fired().len(), world.sqs.sent_count(DELIVERIES)), (1, 2));
    futures::join!(world.deliver(), world.deliver());
    assert_eq!(world.mails_to(ADDRESS), 1);
    world.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_07_a_kill_after_the_publish_makes_a_second_message_that_does_nothing(admin: PgPool) {
    let mut world = World::begin_with_failpoints(admin).await;
    for (index, point) in ["E7_published", "E8_told"].iter().enumerate() {
        let (key, request) = (format!("key-{point}"), World::greeting(&format!("{index}@example.org")));
        world.strike(point, Strike::Kill);
        assert_eq!(world.post_with_key(&key, &request).await.status, 500);
        assert_eq!(world.post_with_key(&key, &request).await.status, 202);
    }
    assert_eq!(world.sqs.sent_count(DELIVERIES), 2);
    // The processor is slow to come, so the dispatcher publishes again.
    world.advance(Duration::from_secs(60)).await;
    world.dispatch().await.expect("dispatched");
    assert_eq!(world.sqs.sent_count(DELIVERIES), 4);
    world.deliver_all().await;
    let figures = world.finish().await;
    assert_eq!((figures.accepted, figures.provider_accepted), (2, 2));
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_08_a_body_that_is_too_much_is_refused_and_leaves_nothing_behind(admin: PgPool) {
    /// As `template.yaml` has it.
    const MEMORY: u64 = 256 * 1024 * 1024;
    let mut world = World::begin(admin).await;
    let with_data = |data: &str| {
        format!(r#"{{"category":"greeting","recipient":{{"email":"ada@example.org"}},"data":{{"name":{data}}}}}"#)
    };
    let recipients: Vec<Value> = (0..10_000).map(|n| json!({"email": format!("{n}@example.org")})).collect();
    let many = json!({"category": "greeting", "recipients": recipients, "data": {"name": "Ada"}}).to_string();
    let large = |bytes: usize| with_data(&format!("\"{}\"", "a".repeat(bytes)));
    let table = [
        ("one byte more than 1 MiB", large(1024 * 1024 + 1 - with_data("\"\"").len()), 413),
        ("10 MB", large(10_000_000), 413),
        ("deep JSON", with_data(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))), 400),
        ("a NUL", with_data(r#""\u0000""#), 422),
        ("a lone surrogate", with_data(r#""\ud800""#), 400),
        ("10,000 recipients", many, 422),
        ("no JSON", "{".to_owned(), 400),
        ("nothing", String::new(), 400),
    ];
    for (what, body, status) in table {
        let answer = world.post_text(TENANT, None, &body).await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{what}");
        assert_eq!(answer.body["status"], status, "{what}");
    }
    assert_eq!((world.count(STORED).await, world.sqs.sent_count(DELIVERIES)), (0, 0));
    assert_eq!(world.pids("enqueue").len(), 1, "one sandbox has lived through all of it");
    let peak = world.peak_memory_bytes("enqueue");
    assert!(peak < MEMORY, "{peak} bytes");
    world.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_09_fifty_requests_with_one_key_make_one_notification_and_get_one_answer(admin: PgPool) {
    let mut world = World::begin(admin).await;
    let request = greeting();
    let answers = join_all((0..50).map(|_| world.post_with_key("key-9", &request))).await;
    let first = answers[0].id();
    for answer in &answers {
        assert_eq!((answer.status, answer.id(), &answer.body), (202, first.clone(), &answers[0].body), "{answer:?}");
    }
    assert_eq!(world.count(STORED).await, 1);
    let other = world.post_with_key("key-9", &World::greeting("other@example.org")).await;
    assert_eq!((other.status, &other.body["code"]), (422, &json!("idempotency_key_reused")));
    let figures = world.finish().await;
    assert_eq!((figures.accepted, figures.provider_accepted), (1, 1));
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_10_without_a_database_the_caller_hears_503_within_five_seconds_and_nothing_is_published(admin: PgPool) {
    let mut world = World::begin(admin).await;
    let full = json!([{"operation": "startup", "error":
        {"code": "53300", "message": "sorry, too many clients already", "severity": "FATAL"}}]);
    let burst = Burst::start(Before::Postgres, world.database_address(), &full).await;
    // A server that takes connections and never says a word, and a port where nobody is.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let silent = silent.local_addr().map(|address| (silent, address)).expect("it has an address");
    let nobody: SocketAddr = {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        listener.local_addr().expect("it has an address")
    };
    for (what, address) in [("53300", burst.address()), ("a silent server", silent.1), ("nobody there", nobody)] {
        world.reach_database_by("enqueue", address).await;
        let asked_at = Instant::now();
        let answer = world.post_with_key("key-10", &greeting()).await;
        assert_eq!((answer.status, &answer.headers["retry-after"]), (503, &json!("5")), "{what}: {answer:?}");
        assert!(asked_at.elapsed() < Duration::from_secs(5), "{what}: {:?}", asked_at.elapsed());
    }
    assert!(!burst.fired().is_empty());
    assert_eq!((world.count(STORED).await, world.sqs.sent_count(DELIVERIES)), (0, 0));
    world.reach_database_by("enqueue", world.database_address()).await;
    assert_eq!(world.post_with_key("key-10", &greeting()).await.status, 202);
    let figures = world.finish().await;
    assert_eq!((figures.accepted, figures.provider_accepted), (1, 1));
}

/// Row 2 again with faults at the very statement: the connection dies just before, or just after, the commit.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_02_whatever_ends_the_connection_around_the_commit_a_key_makes_one_notification(admin: PgPool) {
    let mut world = World::begin(admin).await;
    let wire = Wire::before(world.database_address()).await.expect("a port is free");
    world.reach_database_by("enqueue", wire.address()).await;
    let faults = [
        WireFault::ResetBefore,
        WireFault::FatalBefore("57P01"),
        WireFault::LoseReply,
        WireFault::FatalAfter("57P01"),
        WireFault::FatalAfter("25006"),
    ];
    for (index, fault) in faults.into_iter().enumerate() {
        wire.arm(STORE, fault, 1);
        let (key, request) = (format!("key-{index}"), World::greeting(&format!("{index}@example.org")));
        assert_eq!(world.post_with_key(&key, &request).await.status, 503, "{fault:?}");
        assert_eq!(world.post_with_key(&key, &request).await.status, 202, "{fault:?}");
    }
    assert_eq!(wire.met_count(), faults.len());
    assert_eq!(world.count(STORED).await, 5);
    let figures = world.finish().await;
    assert_eq!((figures.accepted, figures.provider_accepted, figures.unanswered), (5, 5, 5));
}
