//! Rows 21 to 24 and 38: the provider surely takes no mail, and says why.

use super::unknown::{attempts, pass};
use local::ses::Fault;
use serde_json::{Value, json};
use sqlx::PgPool;
use std::time::Duration;
use tests::strict::{DELIVERIES, World};
use tests::{OTHER_TENANT, TENANT};

const OPEN: &str = "SELECT count(*) FROM harkara.deliveries WHERE state <> 'sent'";

/// Lets a delivery of both tenants spend so many attempts.
async fn allow_attempts(world: &World, count: u32) {
    let category = json!({"class": "transactional", "template": "greeting", "max_attempts": count});
    for tenant in [TENANT, OTHER_TENANT] {
        world.put(tenant, "/v1/categories/{key}", "greeting", category.clone()).await;
    }
}

/// Posts one request for mails to addresses, each of which meets these faults first.
async fn post_to_all(world: &World, addresses: &[String], faults: &[Fault]) {
    for address in addresses {
        world.ses.script(address, faults.to_vec()).expect("an address");
    }
    let recipients: Vec<Value> = addresses.iter().map(|address| json!({"email": address})).collect();
    let request = json!({"category": "greeting", "recipients": recipients, "data": {"name": "Ada"}});
    assert_eq!(world.post(&request).await.status, 202);
}

/// How many requests for mails reached SES.
fn request_count(world: &World) -> usize {
    world.ses.ledger().entries().len()
}

/// Twenty deliveries, which may spend two attempts, are throttled five times each, in all the words that SES has for it.
/// A thousand would only say the same more often: what counts is more throttles of a delivery than it may spend attempts.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_21_a_hundred_throttles_slow_the_account_down_and_lose_nothing_and_spend_no_attempt(admin: PgPool) {
    let mut world = World::begin(admin).await;
    allow_attempts(&world, 2).await;
    let addresses: Vec<String> = (0..20).map(|n| format!("{n}@example.org")).collect();
    let throttles = [Fault::Throttle, Fault::Rate, Fault::Busy, Fault::Throttle, Fault::Rate];
    post_to_all(&world, &addresses, &throttles).await;

    world.deliver().await;
    assert_eq!(request_count(&world), 10, "one batch is throttled");
    let slowed = "SELECT count(*) FROM harkara.send_pace p
                  WHERE p.tenant_id = '00000000-0000-0000-0000-000000000000'
                    AND p.next_send_at >= (SELECT max(finished_at) FROM harkara.attempts) + interval '3 seconds'";
    assert_eq!(world.count(slowed).await, 1, "the account's next send moves away");
    world.deliver().await;
    let paced = "SELECT count(*) FROM harkara.deliveries
                 WHERE state = 'queued' AND attempt_count = 0 AND not_before > created_at";
    assert_eq!((request_count(&world), world.count(paced).await), (10, 10), "and the rest waits for it");

    for _ in 0..30 {
        if world.count(OPEN).await == 0 {
            break;
        }
        world.advance(Duration::from_secs(200)).await;
        world.deliver_all().await;
    }
    // The pace holds for everybody: nothing was begun within a second after a throttle.
    let hasty = "SELECT count(*) FROM harkara.attempts a JOIN harkara.attempts b
                   ON b.started_at > a.finished_at AND b.started_at < a.finished_at + interval '1 second'
                 WHERE a.outcome = 'throttled'";
    assert_eq!(world.count(hasty).await, 0);
    let spent = "SELECT count(*) FROM harkara.deliveries WHERE attempt_count = 6 AND uncounted_attempt_count = 5";
    assert_eq!(world.count(spent).await, 20);
    let figures = world.finish().await;
    assert_eq!((figures.provider_calls, figures.provider_accepted), (120, 20));
    assert_eq!((figures.sent, figures.dead, figures.lost), (20, 0, 0));
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_22_six_hours_without_quota_hold_the_account_outside_of_the_queue_and_it_drains_afterwards(admin: PgPool) {
    let mut world = World::begin(admin).await;
    allow_attempts(&world, 1).await;
    let addresses: Vec<String> = (0..30).map(|n| format!("{n}@example.org")).collect();
    post_to_all(&world, &addresses, &[Fault::Quota; 100]).await;
    world.deliver_all().await;
    assert_eq!(request_count(&world), 10, "the first batch finds out, and nobody else asks");

    let held = "SELECT count(*) FROM harkara.deliveries WHERE state = 'held' AND reason = 'quota_reached'";
    for half_hour in 0..12 {
        assert_eq!(world.count(held).await, 30, "after {half_hour} half hours");
        let waiting = world.sqs.waiting(DELIVERIES);
        assert!(waiting.is_empty(), "nothing that is held is in flight: {waiting:?}");
        let asked = request_count(&world);
        pass(&world, Duration::from_secs(30 * 60)).await;
        assert!(request_count(&world) <= asked + 1, "one probe at a time");
    }
    for address in &addresses {
        world.ses.script(address, Vec::new()).expect("an address");
    }
    let recovery = world.settle().await;
    assert!(recovery <= Duration::from_secs(65 * 60), "a breaker asks every hour at least: {recovery:?}");
    assert_eq!(world.count(OPEN).await, 0);
    let figures = world.check().await;
    assert_eq!((figures.sent, figures.provider_accepted, figures.dead), (30, 30, 0));
}

/// A refusal of the account, or of a sender, holds its mail, tells the bus, and costs no attempt.
async fn holds(admin: PgPool, fault: Fault, reason: &str, breaker: &str) {
    let mut world = World::begin(admin).await;
    allow_attempts(&world, 1).await;
    sqlx::query("UPDATE harkara.tenants SET from_address = 'other@harkara.test' WHERE tenant_id = $1::uuid")
        .bind(OTHER_TENANT)
        .execute(&world.admin)
        .await
        .expect("the other tenant has its own sender");
    world.ses.script("first@example.org", vec![fault; 3]).expect("an address");
    let first = world.post(&World::greeting("first@example.org")).await.id();
    world.deliver_all().await;
    let held = || ("held".to_owned(), Some(reason.to_owned()), 0);
    assert_eq!(world.outcome(&first).await, held());
    assert_eq!(attempts(&world, &first).await, ["held"]);

    // Who comes later is held without being tried.
    let second = world.post(&World::greeting("second@example.org")).await.id();
    world.post_text(OTHER_TENANT, None, &World::greeting("third@example.org").to_string()).await;
    world.deliver_all().await;
    assert_eq!(world.outcome(&second).await, held());
    assert!(attempts(&world, &second).await.is_empty());
    assert!(world.ses.ledger().entries_to("second@example.org").is_empty());
    // Another sender's mail goes on, unless the account itself is refused.
    assert_eq!(world.mails_to("third@example.org"), usize::from(breaker != "account"));
    let waiting = world.sqs.waiting(DELIVERIES);
    assert!(waiting.is_empty(), "nothing that is held is in flight: {waiting:?}");
    let told = |detail_type: &str| {
        let is_ours = |event: &&tests::strict::BusEvent| {
            event.detail_type == detail_type && event.detail["breaker"] == breaker && event.detail["reason"] == reason
        };
        world.bus.events().iter().filter(is_ours).count()
    };
    assert_eq!((told("breaker.opened"), told("breaker.closed")), (1, 0), "the operator is told");

    for _ in 0..12 {
        pass(&world, Duration::from_secs(60 * 60)).await;
    }
    assert!(told("breaker.closed") >= 1, "and told again when it is over");
    assert_eq!(world.count(OPEN).await, 0);
    let burned = "SELECT count(*) FROM harkara.deliveries WHERE attempt_count - uncounted_attempt_count <> 1";
    assert_eq!(world.count(burned).await, 0, "only the attempt that went through counts");
    let figures = world.finish().await;
    assert_eq!((figures.sent, figures.provider_accepted, figures.provider_calls, figures.dead), (3, 3, 6, 0));
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_23_a_paused_account_holds_all_mail_and_burns_no_attempt(admin: PgPool) {
    holds(admin, Fault::Paused, "sending_paused", "account").await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_23_a_suspended_account_holds_all_mail_and_burns_no_attempt(admin: PgPool) {
    holds(admin, Fault::Suspended, "account_suspended", "account").await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_23_an_unverified_mail_from_domain_holds_its_senders_mail_only_and_burns_no_attempt(admin: PgPool) {
    holds(admin, Fault::Unverified, "identity_unverified", "identity:default").await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_23_a_missing_configuration_set_holds_all_mail_and_burns_no_attempt(admin: PgPool) {
    holds(admin, Fault::Missing, "configuration_missing", "account").await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_24_a_rejected_mail_fails_for_good_after_one_attempt_and_its_neighbours_are_sent(admin: PgPool) {
    let mut world = World::begin(admin).await;
    let mut ids = Vec::new();
    for address in ["reject@simulator.harkara.test", "invalid@simulator.harkara.test", "ada@example.org"] {
        ids.push((address, world.post(&World::greeting(address)).await.id()));
    }
    let delivered = world.deliver().await;
    assert_eq!(delivered.answer.expect("answered"), json!({"batchItemFailures": []}));
    let outcomes = async || {
        let mut outcomes = Vec::new();
        for (address, id) in &ids {
            outcomes.push((world.outcome(id).await, world.ses.ledger().entries_to(address).len()));
        }
        outcomes
    };
    let failed = || (("failed".to_owned(), Some("provider_rejected".to_owned()), 1), 1);
    let expected = vec![failed(), failed(), (("sent".to_owned(), None, 1), 1)];
    assert_eq!(outcomes().await, expected);
    let told = world.bus.events().iter().filter(|event| event.detail_type == "delivery.failed").count();
    assert_eq!(told, 2);

    // For good: neither a copy of the message nor any time brings it back.
    assert_eq!(world.sqs.undo_deletes(DELIVERIES), 3);
    pass(&world, Duration::from_secs(24 * 60 * 60)).await;
    assert_eq!(outcomes().await, expected);
    let figures = world.finish().await;
    assert_eq!((figures.failed, figures.sent, figures.provider_calls), (2, 1, 3));
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_38_credentials_that_expired_and_clocks_that_are_off_delay_mail_and_burn_no_attempt(admin: PgPool) {
    let mut world = World::begin(admin).await;
    allow_attempts(&world, 1).await;
    post_to_all(&world, &["expired@example.org".to_owned()], &[Fault::Expired; 4]).await;
    post_to_all(&world, &["skewed@example.org".to_owned()], &[Fault::Skewed; 4]).await;
    world.deliver_all().await;
    let waiting = "SELECT count(*) FROM harkara.deliveries
                   WHERE state = 'queued' AND attempt_count = 1 AND uncounted_attempt_count = 1
                     AND not_before BETWEEN updated_at + interval '1 second' AND updated_at + interval '10 seconds'";
    assert_eq!(world.count(waiting).await, 2, "the database says when to try again");
    let figures = world.finish().await;
    assert_eq!((figures.sent, figures.dead, figures.provider_calls), (2, 0, 10));
    let spent = "SELECT count(*) FROM harkara.deliveries WHERE attempt_count = 5 AND uncounted_attempt_count = 4";
    assert_eq!(world.count(spent).await, 2);
}
