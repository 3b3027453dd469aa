//! Whatever is due moves on, each minute, whatever was lost on the way.

use serde_json::json;
use sqlx::PgPool;
use std::time::Duration;
use tests::{Stage, TENANT};

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_scheduled_notification_is_published_ahead_and_sent_at_its_time(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let mut body = Stage::greeting("ada@example.org");
    let now: jiff::Timestamp = std::time::SystemTime::now().try_into().expect("a time");
    body["send_at"] = (now + jiff::SignedDuration::from_secs(7200)).to_string().into();
    let answer = stage.post(body).await;
    assert_eq!(stage.outcome(&answer.id()).await.0, "scheduled");
    assert!(stage.queue.is_empty());
    assert_eq!(stage.dispatch().await.published, 0);

    stage.pass(Duration::from_secs(7200 - 119)).await;
    assert_eq!(stage.dispatch().await.published, 1);
    let wait = stage.queue.waiting()[0].wait.as_secs();
    assert!((110..=120).contains(&wait), "held back by the queue for {wait} s");
    stage.drain().await;
    assert_eq!(stage.outcome(&answer.id()).await.0, "sent");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_message_that_the_queue_lost_is_published_again(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let answer = stage.post(Stage::greeting("ada@example.org")).await;
    stage.queue.receive(Duration::ZERO);
    assert_eq!(stage.dispatch().await.published, 0, "it has only just been published");
    stage.pass(Duration::from_secs(30)).await;
    assert_eq!(stage.dispatch().await.published, 1);
    assert_eq!(stage.dispatch().await.published, 0, "once");
    stage.drain().await;
    assert_eq!(stage.outcome(&answer.id()).await.0, "sent");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_claim_whose_worker_died_becomes_unknown_and_is_settled_by_policy(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let at_most_once = json!({"class": "transactional", "template": "greeting", "unknown_policy": "at_most_once"});
    stage.put(TENANT, "/v1/categories/{key}", "once", at_most_once).await;
    for (category, end) in [("greeting", ("sent", None)), ("once", ("failed", Some("outcome_unknown")))] {
        let mut body = Stage::greeting("ada@example.org");
        body["category"] = category.into();
        let answer = stage.post(body).await;
        // A worker claims and dies: nothing of ours runs after its claim.
        let record = stage.queue.receive(Duration::ZERO).remove(0);
        die_after_claim(&stage, &record.body).await;
        assert_eq!(stage.outcome(&answer.id()).await.0, "sending");
        assert_eq!(stage.dispatch().await.leases_ended, 0, "the lease holds");

        stage.pass(Duration::from_secs(90)).await;
        assert_eq!(stage.dispatch().await.leases_ended, 1);
        assert_eq!(stage.outcome(&answer.id()).await.0, "unknown");
        let attempt = stage.show(&answer.id()).await["deliveries"][0]["attempts"][0].clone();
        assert_eq!((&attempt["outcome"], &attempt["error"]["code"]), (&json!("unknown"), &json!("LeaseExpired")));
        stage.pass(Duration::from_secs(600)).await;
        stage.dispatch().await;
        stage.drain().await;
        let (state, reason, _) = stage.outcome(&answer.id()).await;
        assert_eq!((state.as_str(), reason.as_deref()), end);
    }
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_ends_without_an_attempt_is_told_too(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let answer = stage.post(Stage::greeting("ada@example.org")).await;
    stage.queue.receive(Duration::ZERO);
    let expire = "UPDATE harkara.notifications SET send_at = harkara.now() - interval '2 hours', expires_at = harkara.now() - interval '1 hour'";
    sqlx::query(expire).execute(&stage.admin).await.expect("it expires");
    stage.pass(Duration::from_secs(60)).await;
    stage.dispatch().await;
    stage.pass(Duration::from_secs(60)).await;
    stage.dispatch().await;
    assert_eq!(stage.bus.detail_types(), ["notification.accepted", "delivery.expired"]);
    assert_eq!(stage.bus.events()[1].detail["notification_id"], answer.id());
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn one_death_is_one_dead_letter_however_often_it_is_buried(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.mail.script("ada@example.org", [failing as fn() -> _; 3]);
    stage.post(Stage::greeting("ada@example.org")).await;
    stage.drain().await;
    for wait in [60, 120, 240] {
        stage.pass(Duration::from_secs(wait)).await;
        assert_eq!(stage.dispatch().await.buried, 1, "its dead letter is not stored yet");
        assert_eq!(stage.dispatch().await.buried, 0, "less and less often");
    }
    stage.store_dead_letters().await;
    assert_eq!(stage.count("SELECT count(*) FROM harkara.dead_letters").await, 1);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_run_is_bounded_and_loops_until_nothing_is_due(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.queue.refuse(true);
    let recipients: Vec<_> = (0..1000).map(|n| json!({"email": format!("r{n}@example.org")})).collect();
    stage.post(json!({"category": "greeting", "recipients": recipients, "data": {"name": "Ada"}})).await;
    stage.pass(Duration::from_secs(60)).await;
    stage.queue.refuse(false);
    assert_eq!(stage.dispatch().await.published, 1000);
    while stage.process(Duration::ZERO).await > 0 {}
    assert_eq!(stage.mail.asked().len(), 1000);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_dead_delivery_whose_message_was_not_taken_is_buried_later(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let once = json!({"class": "transactional", "template": "greeting", "max_attempts": 1});
    stage.put(TENANT, "/v1/categories/{key}", "once", once).await;
    stage.mail.script("ada@example.org", [failing as fn() -> _]);
    let mut body = Stage::greeting("ada@example.org");
    body["category"] = "once".into();
    let answer = stage.post(body).await;
    let records = stage.queue.receive(Duration::ZERO);
    stage.queue.refuse(true);
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    stage.processor.process_batch(&records, deadline).await;
    assert_eq!(stage.outcome(&answer.id()).await.0, "dead");
    stage.queue.refuse(false);
    stage.pass(Duration::from_secs(60)).await;
    assert_eq!(stage.dispatch().await.buried, 1);
    stage.store_dead_letters().await;
    let listed = stage.call(TENANT, "GET /v1/dead-letters", None, "", "").await;
    assert_eq!(listed.body["dead_letters"][0]["reason"], "attempts_used_up");
    stage.finish().await;
}

fn failing() -> domain::outcome::SendOutcome {
    domain::outcome::SendOutcome::ServerFailed(domain::outcome::ProviderError {
        code: "InternalFailure".into(),
        detail: "words".into(),
    })
}

async fn die_after_claim(stage: &Stage, body: &str) {
    use adapters::store::claims::{DeliveryKey, claim_across_tenants};
    let message = adapters::wire::queue_message::read_message(body).expect("a message");
    let key = DeliveryKey { tenant: message.tenant, delivery: message.delivery };
    let attempt = domain::id::AttemptId::from_uuid(adapters::ids::new_uuid());
    claim_across_tenants(&stage.processor.database, &[(key, attempt)]).await.expect("claimed");
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn one_tenants_backlog_does_not_stand_before_anothers_delivery(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    // The queue takes nothing, so that all of it is due again.
    stage.queue.refuse(true);
    for _ in 0..12 {
        let bodies: Vec<_> = (0..100).map(|number| Stage::greeting(&format!("r{number}@example.org"))).collect();
        stage.post(json!({"notifications": bodies})).await;
    }
    stage.post_as(tests::OTHER_TENANT, Stage::greeting("ada@example.org"), &[]).await;
    stage.queue.refuse(false);
    stage.pass(Duration::from_secs(60)).await;

    let batch =
        adapters::store::due_deliveries::take_due_across_tenants(&stage.dispatcher.database, 500).await.expect("taken");
    let of_the_other = batch.deliveries.iter().filter(|taken| taken.key.tenant.to_string().ends_with("02")).count();
    assert_eq!(of_the_other, 1, "the first batch holds it, although 1,200 were due before");
    assert_eq!(batch.deliveries.len(), 251, "a tenant takes its share only");
    assert!(batch.leaves_more);
    drop(batch);

    assert_eq!(stage.dispatch().await.published, 1201, "one run takes all the same");
    stage.drain().await;
    stage.finish().await;
}
