//! Rows 11 to 20: a message on its way to a claim, and what a claimed delivery may meet before it is sent.

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};
use sqlx::PgPool;
use std::time::Duration;
use tests::strict::{
    Before, Burst, DEAD_LETTERS, DELIVERIES, Delivered, Order, Strike, Verdict, Wire, WireFault, World,
};
use tests::{OTHER_TENANT, TENANT};

const ADDRESS: &str = "ada@example.org";
/// What claiming a batch executes.
const CLAIM: &str = "What the batch of messages asks for";
/// What giving a claim up executes that was made without an answer.
const HAND_BACK: &str = "Claims whose answer was lost";

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The ids that an answer reports, and that it holds nothing else.
fn reported(delivered: &Delivered) -> Vec<String> {
    let answer = delivered.answer.as_ref().expect("an answer");
    let failures = answer["batchItemFailures"].as_array().expect("the list is always there");
    let ids: Vec<String> =
        failures.iter().map(|item| item["itemIdentifier"].as_str().expect("an id").to_owned()).collect();
    let items: Vec<Value> = ids.iter().map(|id| json!({"itemIdentifier": id})).collect();
    assert_eq!(answer.to_string(), json!({"batchItemFailures": items}).to_string());
    ids
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_11_two_sandboxes_with_the_same_message_make_one_claim(admin: PgPool) {
    let mut world = World::begin_with_failpoints(admin).await;
    world.post(&World::greeting(ADDRESS)).await;
    world.sqs.deliver_twice(DELIVERIES);
    // The first stands at its claim, just made, while the second asks for the same.
    world.strike("P4_claimed", Strike::Hold);
    let (first, second) = futures::join!(world.deliver(), async {
        world.wait_for_strike("P4_claimed").await;
        let second = world.deliver().await;
        world.release();
        second
    });
    assert_eq!(first.received, second.received);
    assert_eq!((first.verdict, second.verdict), (Verdict::Success, Verdict::Success));
    assert_eq!(world.mails_to(ADDRESS), 1);
    world.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_12_a_copy_that_comes_days_later_is_deleted_and_sends_nothing(admin: PgPool) {
    let mut world = World::begin(admin).await;
    let answer = world.post(&World::greeting(ADDRESS)).await;
    world.deliver_all().await;
    world.settle().await;
    let before = world.show(&answer.id()).await["deliveries"].clone();
    world.advance(seconds(3 * 24 * 60 * 60)).await;
    assert_eq!(world.sqs.undo_deletes(DELIVERIES), 1);
    let copy = world.deliver().await;
    assert_eq!((copy.received.len(), copy.verdict), (1, Verdict::Success));
    assert!(world.sqs.waiting(DELIVERIES).is_empty());
    assert_eq!(world.mails_to(ADDRESS), 1);
    let after = world.show(&answer.id()).await["deliveries"].clone();
    assert_eq!((&after[0]["state"], &after[0]["attempt_count"]), (&before[0]["state"], &before[0]["attempt_count"]));
    world.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_13_a_message_before_its_row_waits_for_it_and_one_without_a_row_is_given_up(admin: PgPool) {
    let mut world = World::begin(admin).await;
    // A transaction that has not committed yet, and a message that was faster.
    let (notification, delivery) = ("018f0000-0000-7000-8000-00000000000a", "018f0000-0000-7000-8000-00000000000b");
    let mut storing = world.admin.begin().await.expect("begun");
    sqlx::query("SELECT harkara.accept_notifications($1::uuid, 'tester', 'POST', NULL, NULL, 'request', $2, '[]')")
        .bind(TENANT)
        .bind(json!([{
            "notification_id": notification, "category_key": "greeting", "email": ADDRESS, "template_key": "greeting",
            "data": {"name": "Ada"}, "metadata": {}, "priority": "normal", "sandbox": false,
            "send_at": "2026-01-01T00:00:00Z", "event_id": notification, "event": {},
            "deliveries": [{"delivery_id": delivery, "channel": "email", "state": "queued", "max_attempts": 3,
                "unknown_policy": "at_least_once", "reconcile_window_seconds": 600,
                "not_before": "2026-01-01T00:00:00Z", "due_at": "2100-01-01T00:00:00Z", "publish_count": 1}],
        }]))
        .execute(&mut *storing)
        .await
        .expect("stored");
    let message = |delivery: &str| {
        let id = delivery.replace('-', "");
        json!({"v": 1, "tenant_id": TENANT, "delivery_id": format!("dlv_{id}")}).to_string()
    };
    world.sqs.put(DELIVERIES, &message(delivery)).expect("sent");
    world.sqs.put(DELIVERIES, &message("018f0000-0000-7000-8000-00000000000c")).expect("sent");
    let early = world.deliver().await;
    assert_eq!(reported(&early).len(), 2);
    assert!(
        world.sqs.waiting(DELIVERIES).iter().all(|waiting| waiting.wait <= seconds(5)),
        "they are tried again soon"
    );
    storing.commit().await.expect("committed");

    world.advance(seconds(5)).await;
    assert_eq!(reported(&world.deliver().await).len(), 1);
    assert_eq!(world.mails_to(ADDRESS), 1);
    world.advance(seconds(5)).await;
    assert_eq!(reported(&world.deliver().await).len(), 0);
    assert_eq!(world.sqs.waiting(DEAD_LETTERS).len(), 1, "three tries, then it is given up");
    world.settle().await;
    let letters = "SELECT count(*) FROM harkara.dead_letters WHERE reason = 'unknown_delivery'";
    assert_eq!(world.count(letters).await, 1);
    assert_eq!(world.ses.ledger().entries().len(), 1);
    world.check().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_14_the_state_decides_in_whatever_order_messages_come(admin: PgPool) {
    let mut world = World::begin(admin).await;
    let canceled = world.post(&World::greeting("canceled@example.org")).await.id();
    let sent = world.post(&World::greeting("sent@example.org")).await.id();
    // Withdrawn while its message is under way; and the message of the other, published again, comes before the first.
    let answer = world.call(TENANT, "POST /v1/notifications/{id}/cancel", Some(&canceled), "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    world.advance(seconds(60)).await;
    world.dispatch().await.expect("dispatched");
    world.sqs.set_order(DELIVERIES, Order::Reversed);
    assert_eq!(world.sqs.waiting(DELIVERIES).len(), 3);
    let delivered = world.deliver().await;
    assert_eq!((delivered.received.len(), delivered.verdict), (3, Verdict::Success));
    assert_eq!(world.outcome(&canceled).await.0, "canceled");
    assert_eq!(world.outcome(&sent).await, ("sent".to_owned(), None, 1));
    assert_eq!((world.mails_to("canceled@example.org"), world.mails_to("sent@example.org")), (0, 1));
    world.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_15_a_poisoned_message_is_buried_with_a_reason_and_its_neighbours_are_sent(admin: PgPool) {
    let mut world = World::begin(admin).await;
    for index in 0..3 {
        world.post(&World::greeting(&format!("{index}@example.org"))).await;
    }
    let sound: Value = serde_json::from_str(&world.sqs.waiting(DELIVERIES)[0].body).expect("a message is JSON");
    let with = |member: &str, value: Value| {
        let mut message = sound.clone();
        message[member] = value;
        message.to_string()
    };
    let poison = [
        "hello".to_owned(),
        with("v", json!(2)),
        with("extra", json!(true)),
        format!("{{\"v\":1,\"pad\":\"{}\"}}", "a".repeat(1_048_576 - 16)),
    ];
    for body in &poison {
        world.sqs.put(DELIVERIES, body).expect("SQS takes any text");
    }
    // A delivery of the first tenant in the name of the second: there is none of that name.
    world.sqs.put(DELIVERIES, &with("tenant_id", json!(OTHER_TENANT))).expect("sent");
    let first = world.deliver().await;
    assert_eq!((first.received.len(), reported(&first).len()), (8, 1));
    for index in 0..3 {
        assert_eq!(world.mails_to(&format!("{index}@example.org")), 1);
    }
    world.settle().await;
    assert_eq!(world.count("SELECT count(*) FROM harkara.dead_letters WHERE reason = 'poison'").await, 4);
    assert_eq!(world.count("SELECT count(*) FROM harkara.dead_letters WHERE reason = 'unknown_delivery'").await, 1);
    let figures = world.check().await;
    assert_eq!((figures.sent, figures.provider_calls), (3, 3));
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_16_a_panic_over_one_record_reports_that_record_alone(admin: PgPool) {
    let mut world = World::begin_with_failpoints(admin).await;
    for index in 0..4 {
        world.post(&World::greeting(&format!("{index}@example.org"))).await;
    }
    world.strike_nth("P5_rendered", 2, Strike::Panic);
    let delivered = world.deliver().await;
    assert_eq!((delivered.received.len(), reported(&delivered).len()), (4, 1));
    let sent = (0..4).filter(|index| world.mails_to(&format!("{index}@example.org")) == 1).count();
    assert_eq!(sent, 3);
    let figures = world.finish().await;
    assert_eq!((figures.sent, figures.provider_accepted), (4, 4));
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_17_a_template_that_explodes_fails_for_good_and_stays_within_its_memory(admin: PgPool) {
    /// As `template.yaml` has it.
    const MEMORY: u64 = 256 * 1024 * 1024;
    let mut world = World::begin(admin).await;
    let nested = "{% for a in l %}{% for b in l %}{% for c in l %}{% for d in l %}{{ a }}{% endfor %}{% endfor %}{% endfor %}{% endfor %}";
    let list: Vec<u32> = (0..200).collect();
    // What the grammar refuses is refused where the template is stored, or where the request is made.
    let refused = [
        "{% set x = namespace(s='aa') %}{% for i in range(24) %}{% set x.s = x.s ~ x.s %}{% endfor %}{{ x.s }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% include 'other' %}",
        "{{ debug() }}",
    ];
    for (index, text) in refused.into_iter().enumerate() {
        let body = json!({"subject": "s", "text": text}).to_string();
        let answer = world.call(TENANT, "PUT /v1/templates/{key}", Some(&format!("bomb-{index}")), &body).await;
        if answer.status == 200 {
            let request =
                json!({"category": "greeting", "recipient": {"email": ADDRESS}, "template": format!("bomb-{index}")});
            assert_eq!(world.post(&request).await.status, 202);
        } else {
            assert_eq!(answer.status, 422, "{text}: {answer:?}");
        }
    }
    let inline = |text: &str| json!({"category": "greeting", "recipient": {"email": ADDRESS}, "subject": "s", "text": text, "data": {"l": list}});
    for text in [nested, "{{ nobody.knows }}"] {
        let answer = world.post(&inline(text)).await;
        assert!([202, 422].contains(&answer.status), "{answer:?}");
    }
    world.post(&World::greeting("neighbour@example.org")).await;
    world.deliver_all().await;
    assert_eq!((world.mails_to(ADDRESS), world.mails_to("neighbour@example.org")), (0, 1));
    let failed = "SELECT count(*) FROM harkara.deliveries WHERE state = 'failed' AND reason = 'render_failed'
                  AND attempt_count = 1";
    let all = "SELECT count(*) FROM harkara.deliveries";
    assert_eq!(world.count(failed).await + 1, world.count(all).await);
    assert!(world.count(failed).await >= 1);
    assert_eq!(world.pids("processor").len(), 1, "one sandbox has lived through all of it");
    let peak = world.peak_memory_bytes("processor");
    assert!(peak < MEMORY, "{peak} bytes");
    world.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_18_a_batch_that_always_kills_its_sandbox_counts_its_attempts_and_ends_dead(admin: PgPool) {
    let mut world = World::begin_with_failpoints(admin).await;
    let answer = world.post(&World::greeting(ADDRESS)).await;
    world.post(&World::greeting("neighbour@example.org")).await;
    world.strike_nth("P5_rendered", 1, Strike::Kill);
    let killed = world.deliver().await;
    assert!(matches!(killed.verdict, Verdict::Failure(_)), "{killed:?}");
    for attempt in 2..=3 {
        // The lease ends, then the window for feedback, then it is published again.
        for _ in 0..40 {
            world.advance(seconds(60)).await;
            world.dispatch().await.expect("dispatched");
            if world.count("SELECT count(*) FROM harkara.deliveries WHERE state = 'queued'").await == 2 {
                break;
            }
        }
        world.strike_nth("P5_rendered", 1, Strike::Kill);
        let killed = world.deliver().await;
        assert!(matches!(killed.verdict, Verdict::Failure(_)), "attempt {attempt}: {killed:?}");
    }
    world.settle().await;
    assert_eq!(world.outcome(&answer.id()).await, ("dead".to_owned(), Some("attempts_used_up".to_owned()), 3));
    let figures = world.check().await;
    assert_eq!((figures.dead, figures.provider_calls), (2, 0));
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_18_a_sandbox_that_runs_out_of_memory_costs_an_attempt_and_no_mail(admin: PgPool) {
    let mut world = World::begin_with_failpoints(admin).await;
    let mut request = World::greeting(ADDRESS);
    request["text"] = "{{ pad }}".into();
    request["subject"] = "large".into();
    request["data"] = json!({"pad": "a".repeat(200_000)});
    let answer = world.post(&request).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    world.strike("P4_claimed", Strike::Hold);
    let (starved, ()) = futures::join!(world.deliver(), async {
        world.wait_for_strike("P4_claimed").await;
        // It may take no more memory: the next large piece that it asks for ends it.
        let pid = world.trail().last().expect("somebody came").pid;
        let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).expect("the sandbox is alive");
        let pages: u64 = statm.split(' ').next().and_then(|pages| pages.parse().ok()).expect("a number");
        let limit = Rlimit { current: Some(pages * 4096), maximum: None };
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        prlimit(pid, Resource::As, limit).expect("the sandbox is ours");
        world.release();
    });
    assert!(matches!(starved.verdict, Verdict::Failure(_)), "{starved:?}");
    assert_eq!(world.outcome(&answer.id()).await, ("sending".to_owned(), None, 1));
    assert_eq!(world.mails_to(ADDRESS), 0);
    let figures = world.finish().await;
    assert_eq!((figures.sent, figures.provider_accepted, figures.unknown), (1, 1, 1));
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_19_a_claim_whose_answer_is_lost_sends_nothing_before_the_attempt_is_settled(admin: PgPool) {
    let mut world = World::begin(admin).await;
    let wire = Wire::before(world.database_address()).await.expect("a port is free");
    world.reach_database_by("processor", wire.address()).await;
    world.post(&World::greeting("first@example.org")).await;
    world.deliver_all().await;
    let prepared = wire.described_bytes(CLAIM);
    let rules = json!([{"payload": CLAIM, "cut_reply": {"after_bytes": prepared + 1}, "times": 1}]);
    let burst = Burst::start(Before::Bytes, world.database_address(), &rules).await;
    world.reach_database_by("processor", burst.address()).await;

    let answer = world.post(&World::greeting(ADDRESS)).await;
    let delivered = world.deliver().await;
    assert_eq!((reported(&delivered), burst.fired().len()), (delivered.received.clone(), 1));
    // The claim stood, and was handed back by the attempt's own id: it costs no attempt, and nothing was sent for it.
    assert_eq!(world.outcome(&answer.id()).await, ("queued".to_owned(), None, 0));
    assert_eq!(world.count("SELECT count(*) FROM harkara.attempts WHERE outcome = 'not_sent'").await, 1);
    assert_eq!(world.mails_to(ADDRESS), 0);
    let figures = world.finish().await;
    assert_eq!((world.mails_to(ADDRESS), figures.provider_accepted, figures.unknown), (1, 2, 0));
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_19_a_claim_that_can_not_even_be_handed_back_sends_nothing_before_it_is_settled(admin: PgPool) {
    let mut world = World::begin(admin).await;
    let wire = Wire::before(world.database_address()).await.expect("a port is free");
    world.reach_database_by("processor", wire.address()).await;
    let answer = world.post(&World::greeting(ADDRESS)).await;
    wire.arm(CLAIM, WireFault::LoseReply, 1);
    wire.arm(HAND_BACK, WireFault::ResetBefore, 100);
    let delivered = world.deliver().await;
    assert_eq!(reported(&delivered), delivered.received);
    assert_eq!(world.outcome(&answer.id()).await, ("sending".to_owned(), None, 1), "it was committed");
    wire.disarm();
    // However often the message comes: the attempt is somebody's, until its lease ends and its window is over.
    world.advance(seconds(180)).await;
    world.deliver_all().await;
    world.dispatch().await.expect("dispatched");
    assert_eq!((world.outcome(&answer.id()).await.0.as_str(), world.mails_to(ADDRESS)), ("unknown", 0));
    let figures = world.finish().await;
    assert_eq!((world.mails_to(ADDRESS), figures.provider_accepted, figures.unknown), (1, 1, 1));
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_19_whatever_ends_the_connection_around_a_claim_nothing_is_sent_unsure(admin: PgPool) {
    let mut world = World::begin(admin).await;
    let wire = Wire::before(world.database_address()).await.expect("a port is free");
    world.reach_database_by("processor", wire.address()).await;
    let faults =
        [WireFault::ResetBefore, WireFault::FatalBefore("57P01"), WireFault::LoseReply, WireFault::FatalAfter("25006")];
    for (index, fault) in faults.into_iter().enumerate() {
        let address = format!("{index}@example.org");
        let answer = world.post(&World::greeting(&address)).await;
        wire.arm(CLAIM, fault, 1);
        let delivered = world.deliver().await;
        assert_eq!(reported(&delivered), delivered.received, "{fault:?}");
        assert_eq!(
            (world.outcome(&answer.id()).await.0.as_str(), world.mails_to(&address)),
            ("queued", 0),
            "{fault:?}"
        );
    }
    assert_eq!(wire.met_count(), 4);
    let figures = world.finish().await;
    assert_eq!((figures.sent, figures.provider_accepted, figures.unknown), (4, 4, 0));
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_20_a_kill_between_claim_and_send_is_followed_by_exactly_one_mail(admin: PgPool) {
    let mut world = World::begin_with_failpoints(admin).await;
    for (index, point) in ["P4_claimed", "P5_rendered"].into_iter().enumerate() {
        let address = format!("{index}@example.org");
        let answer = world.post(&World::greeting(&address)).await;
        world.strike(point, Strike::Kill);
        let killed = world.deliver().await;
        assert!(matches!(killed.verdict, Verdict::Failure(_)), "{killed:?}");
        assert_eq!(world.outcome(&answer.id()).await, ("sending".to_owned(), None, 1));
        world.advance(seconds(100)).await;
        world.dispatch().await.expect("dispatched");
        assert_eq!(world.outcome(&answer.id()).await.0, "unknown", "the lease has ended");
        assert_eq!(world.mails_to(&address), 0);
        world.settle().await;
        assert_eq!(world.outcome(&answer.id()).await, ("sent".to_owned(), None, 2));
        assert_eq!(world.mails_to(&address), 1);
    }
    let figures = world.check().await;
    assert_eq!((figures.unknown, figures.provider_accepted), (2, 2));
}
