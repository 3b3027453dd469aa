//! What the claim asks before anything is sent: suppressed addresses, open breakers, the account's pace.

use adapters::ids::new_uuid;
use adapters::store::claims::{Claim, DeliveryKey, claim_across_tenants};
use adapters::wire::queue_message::read_message;
use domain::delivery::Reason;
use domain::id::AttemptId;
use domain::outcome::{ProviderError, SendOutcome};
use serde_json::json;
use sqlx::PgPool;
use std::time::Duration;
use tests::{OTHER_TENANT, Stage, TENANT, see};

fn error() -> ProviderError {
    ProviderError { code: "Code".into(), detail: "words".into() }
}

fn quota() -> SendOutcome {
    SendOutcome::Held(Reason::QuotaReached, error())
}

fn unverified() -> SendOutcome {
    SendOutcome::Held(Reason::IdentityUnverified, error())
}

fn unverified_recipient() -> SendOutcome {
    SendOutcome::Held(Reason::RecipientUnverified, error())
}

fn throttled() -> SendOutcome {
    SendOutcome::Throttled(error())
}

const OPERATOR: &str = "00000000-0000-0000-0000-000000000000";

async fn suppress(pool: &PgPool, tenant: &str, address: &str) {
    sqlx::query(
        "INSERT INTO harkara.suppressions (tenant_id, address, reason, source) VALUES ($1::uuid, $2, 'manual', 'api')",
    )
    .bind(tenant)
    .bind(address)
    .execute(pool)
    .await
    .expect("suppressed");
}

/// Sets the account's rate, as the reconcile does.
async fn set_rate(stage: &Stage, per_second: i32) {
    sqlx::query("UPDATE harkara.send_pace SET sends_per_second = $1 WHERE tenant_id = $2::uuid")
        .bind(per_second)
        .bind(OPERATOR)
        .execute(&stage.admin)
        .await
        .expect("set");
}

/// Lets time pass, then takes everything that may come now, as a whole fleet of workers would.
async fn work_after(stage: &Stage, passed: Duration) {
    stage.pass(passed).await;
    stage.process(passed).await;
    while stage.process(Duration::ZERO).await > 0 {}
}

async fn post_many(stage: &Stage, tenant: &str, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for first in (0..count).step_by(100) {
        let bodies: Vec<_> = (first..count.min(first + 100))
            .map(|number| Stage::greeting(&format!("r{number}-{}@example.org", &tenant[35..])))
            .collect();
        let answer = stage.post_as(tenant, json!({"notifications": bodies}), &[]).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        let results = answer.body["notifications"].as_array().expect("a list").clone();
        ids.extend(results.iter().map(|result| result["id"].as_str().expect("an id").to_owned()));
    }
    ids
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_suppressed_address_is_skipped_without_an_attempt_and_says_why(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    suppress(&stage.admin, TENANT, "ada@example.org").await;
    // However it is spelled.
    let answer = stage.post(Stage::greeting("Ada@Example.org")).await;
    stage.drain().await;
    assert_eq!(stage.outcome(&answer.id()).await, ("skipped".to_owned(), Some("address_suppressed".to_owned()), 0));
    assert_eq!(stage.mail.asked().len(), 0);
    stage.pass(Duration::from_secs(60)).await;
    stage.dispatch().await;
    assert!(stage.bus.detail_types().contains(&"delivery.skipped".to_owned()));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn one_tenants_suppression_is_not_anothers_but_the_operators_is_everybodys(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    suppress(&stage.admin, OTHER_TENANT, "ada@example.org").await;
    suppress(&stage.admin, OPERATOR, "grace@example.org").await;
    let sent = stage.post(Stage::greeting("ada@example.org")).await;
    let skipped = stage.post(Stage::greeting("grace@example.org")).await;
    stage.drain().await;
    assert_eq!(stage.outcome(&sent.id()).await.0, "sent");
    assert_eq!(stage.outcome(&skipped.id()).await.0, "skipped");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_claim_that_meets_an_uncommitted_suppression_waits_for_it_and_is_none(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let answer = stage.post(Stage::greeting("ada@example.org")).await;
    let key = key_of_the_one_message(&stage);

    let mut suppressing = stage.admin.begin().await.expect("begun");
    sqlx::query("INSERT INTO harkara.suppressions (tenant_id, address, reason, source) VALUES ($1::uuid, 'ada@example.org', 'complaint', 'feedback')")
        .bind(TENANT)
        .execute(&mut *suppressing)
        .await
        .expect("not committed yet");
    let database = stage.processor.database.clone();
    let claim = tokio::spawn(async move {
        claim_across_tenants(&database, &[(key, AttemptId::from_uuid(new_uuid()))]).await.expect("answered")
    });
    wait_for_a_waiter(&stage, "ShareLock").await;
    suppressing.commit().await.expect("committed");
    let claims = claim.await.expect("no panic");
    assert!(matches!(claims[&key], Claim::NotOpen), "{claims:?}");
    assert_eq!(stage.outcome(&answer.id()).await.0, "skipped");
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_suppression_that_meets_an_uncommitted_claim_commits_after_it(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    // The claim's own function, in a transaction that stays open, stands for the claim before its commit.
    let mut claiming = stage.admin.begin().await.expect("begun");
    let verdict: String = sqlx::query_scalar(
        "SELECT verdict FROM harkara.admit_sends(ARRAY[$1::uuid], ARRAY[$2::uuid], ARRAY['ada@example.org'], \
         ARRAY['default'], ARRAY[false], ARRAY[NULL::timestamptz])",
    )
    .bind(new_uuid())
    .bind(TENANT)
    .fetch_one(&mut *claiming)
    .await
    .expect("a verdict");
    assert_eq!(verdict, "claim");
    let pool = stage.admin.clone();
    let suppression = tokio::spawn(async move { suppress(&pool, TENANT, "ada@example.org").await });
    wait_for_a_waiter(&stage, "ExclusiveLock").await;
    assert_eq!(stage.count("SELECT count(*) FROM harkara.suppressions").await, 0, "it waits for the claim");
    claiming.commit().await.expect("committed");
    suppression.await.expect("no panic");
    assert_eq!(stage.count("SELECT count(*) FROM harkara.suppressions").await, 1);
    stage.finish().await;
}

/// Waits until somebody waits for an advisory lock of this kind in this database.
async fn wait_for_a_waiter(stage: &Stage, mode: &str) {
    let waiting = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                   WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.mode = $1 AND NOT l.granted";
    see("somebody waits for the address", async || {
        let count: i64 = sqlx::query_scalar(waiting).bind(mode).fetch_one(&stage.admin).await.expect("counted");
        (count > 0).then_some(())
    })
    .await;
}

fn key_of_the_one_message(stage: &Stage) -> DeliveryKey {
    let waiting = stage.queue.waiting();
    assert_eq!(waiting.len(), 1);
    let message = read_message(&waiting[0].record.body).expect("a message");
    DeliveryKey { tenant: message.tenant, delivery: message.delivery }
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_used_up_quota_holds_everybody_and_one_probe_lets_all_go(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.mail.script("first@example.org", [quota as fn() -> _]);
    stage.post(Stage::greeting("first@example.org")).await;
    stage.drain().await;
    assert_eq!(stage.count("SELECT count(*) FROM harkara.breakers").await, 1);
    let mut ids = post_many(&stage, TENANT, 30).await;
    ids.extend(post_many(&stage, OTHER_TENANT, 30).await);
    stage.drain().await;
    assert_eq!(stage.mail.asked().len(), 1, "nobody tries while the breaker is open");
    assert_eq!(
        stage.count("SELECT count(*) FROM harkara.deliveries WHERE state = 'held' AND reason = 'quota_reached'").await,
        61
    );
    assert!(stage.queue.is_empty(), "what is held is not in flight");
    assert_eq!(
        stage.count("SELECT count(DISTINCT due_at) FROM harkara.deliveries WHERE due_at IS NOT NULL").await,
        61,
        "each has a time of its own to come back"
    );

    // Past the first hold, before the last slot: one goes as the probe, and closes the breaker.
    stage.pass(Duration::from_secs(16 * 60)).await;
    stage.dispatch().await;
    stage.drain().await;
    assert_eq!(stage.count("SELECT count(*) FROM harkara.breakers").await, 0);
    stage.pass(Duration::from_secs(16 * 60)).await;
    stage.dispatch().await;
    stage.drain().await;
    assert_eq!(stage.count("SELECT count(*) FROM harkara.deliveries WHERE state = 'sent'").await, 61);
    assert_eq!(
        stage.count("SELECT max(attempt_count - uncounted_attempt_count)::bigint FROM harkara.deliveries").await,
        1,
        "a hold costs no attempt"
    );
    let types = stage.bus.detail_types();
    assert_eq!(types.iter().filter(|name| *name == "breaker.opened").count(), 1);
    assert_eq!(types.iter().filter(|name| *name == "breaker.closed").count(), 1);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_probe_that_fails_doubles_the_wait(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.mail.script("ada@example.org", [quota as fn() -> _; 3]);
    let answer = stage.post(Stage::greeting("ada@example.org")).await;
    let mut waits = Vec::new();
    for _ in 0..3 {
        stage.drain().await;
        assert_eq!(stage.outcome(&answer.id()).await, ("held".to_owned(), Some("quota_reached".to_owned()), 0));
        let wait = stage
            .count("SELECT round(extract(epoch FROM retry_at - harkara.now()) / 60)::bigint FROM harkara.breakers")
            .await;
        waits.push(wait);
        stage.pass(Duration::from_secs(65 * 60)).await;
        stage.dispatch().await;
    }
    stage.drain().await;
    assert!((10..=15).contains(&waits[0]), "{waits:?}");
    assert!((20..=30).contains(&waits[1]), "{waits:?}");
    assert!((40..=60).contains(&waits[2]), "{waits:?}");
    assert_eq!(stage.outcome(&answer.id()).await, ("sent".to_owned(), None, 1));
    stage.finish().await;
}

/// The other tenant has a sender of its own, which SES has refused once.
async fn refuse_own_sender(stage: &Stage) {
    sqlx::query("UPDATE harkara.tenants SET from_address = 'own@second.test' WHERE tenant_id = $1::uuid")
        .bind(OTHER_TENANT)
        .execute(&stage.admin)
        .await
        .expect("set");
    stage.mail.script("first@example.org", [unverified as fn() -> _]);
    stage.post_as(OTHER_TENANT, Stage::greeting("first@example.org"), &[]).await;
    stage.drain().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_unverified_sender_holds_back_its_own_tenant_only(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    refuse_own_sender(&stage).await;
    stage.post_as(OTHER_TENANT, Stage::greeting("second@example.org"), &[]).await;
    let unharmed = stage.post(Stage::greeting("third@example.org")).await;
    stage.drain().await;
    assert_eq!(stage.mail.count("second@example.org"), 0);
    assert_eq!(stage.outcome(&unharmed.id()).await.0, "sent");
    stage.leave_work();
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_sender_that_is_held_back_does_not_take_the_accounts_probe(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    refuse_own_sender(&stage).await;
    stage.mail.script("quota@example.org", [quota as fn() -> _]);
    stage.post(Stage::greeting("quota@example.org")).await;
    stage.drain().await;
    assert_eq!(stage.count("SELECT count(*) FROM harkara.breakers").await, 2);
    sqlx::query(
        "UPDATE harkara.breakers
         SET retry_at = harkara.now() + CASE breaker_key WHEN 'account' THEN interval '-1 second' ELSE interval '1 hour' END",
    )
    .execute(&stage.admin)
    .await
    .expect("set");
    // Of the sender that is refused anyway: it finds nothing out about the account.
    stage.post_as(OTHER_TENANT, Stage::greeting("second@example.org"), &[]).await;
    stage.drain().await;
    let probe = stage.post(Stage::greeting("third@example.org")).await;
    stage.drain().await;
    assert_eq!(stage.mail.count("second@example.org"), 0);
    assert_eq!(stage.outcome(&probe.id()).await.0, "sent");
    assert_eq!(stage.count("SELECT count(*) FROM harkara.breakers WHERE breaker_key = 'account'").await, 0);
    stage.leave_work();
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_unverified_recipient_holds_back_nobody_else(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.mail.script("first@example.org", [unverified_recipient as fn() -> _]);
    let held = stage.post(Stage::greeting("first@example.org")).await;
    stage.drain().await;
    let sent = stage.post(Stage::greeting("second@example.org")).await;
    stage.drain().await;
    assert_eq!(stage.outcome(&held.id()).await.1.as_deref(), Some("recipient_unverified"));
    assert_eq!(stage.outcome(&sent.id()).await.0, "sent");
    stage.leave_work();
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn no_second_sends_more_than_the_account_may(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    set_rate(&stage, 10).await;
    post_many(&stage, TENANT, 100).await;
    let mut sent_by_second = Vec::new();
    let mut seconds = 0;
    while stage.mail.asked().len() < 100 {
        let before = stage.mail.asked().len();
        let passed = Duration::from_secs(u64::from(seconds > 0));
        work_after(&stage, passed).await;
        sent_by_second.push(stage.mail.asked().len() - before);
        stage.dispatch().await;
        seconds += 1;
        assert!(seconds < 60, "{sent_by_second:?}");
    }
    // A burst of a second and the credit of those whose turn it is, then the rate.
    assert!(sent_by_second[0] <= 31, "{sent_by_second:?}");
    let most = sent_by_second.windows(10).map(|window| window.iter().sum::<usize>()).max().unwrap_or_default();
    assert!(most <= 10 * 10 + 30, "{sent_by_second:?}");
    assert_eq!(stage.count("SELECT sum(uncounted_attempt_count)::bigint FROM harkara.deliveries").await, 0);
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn another_tenants_backlog_makes_nobody_wait(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    set_rate(&stage, 10).await;
    post_many(&stage, TENANT, 500).await;
    work_after(&stage, Duration::ZERO).await;
    let line = stage
        .count(
            "SELECT extract(epoch FROM line_ends_at - harkara.now())::bigint FROM harkara.send_pace WHERE line_ends_at > harkara.now()",
        )
        .await;
    // Fifty seconds, less what this machine has taken since; far more than the other one waits below.
    assert!(line > 10, "the first tenant stands in a line of {line} seconds");
    let answer = stage.post_as(OTHER_TENANT, Stage::greeting("ada@example.org"), &[]).await;
    assert_eq!(answer.status, 202);
    work_after(&stage, Duration::ZERO).await;
    // At most the credit of two seconds and the hiding's whole second.
    work_after(&stage, Duration::from_secs(3)).await;
    assert_eq!(stage.mail.count("ada@example.org"), 1);
    stage.leave_work();
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_throttled_account_pauses_for_everybody(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.mail.script("first@example.org", [throttled as fn() -> _]);
    stage.post(Stage::greeting("first@example.org")).await;
    stage.process(Duration::ZERO).await;
    let second = stage.post(Stage::greeting("second@example.org")).await;
    assert_eq!(stage.process(Duration::ZERO).await, 1);
    assert_eq!(stage.mail.count("second@example.org"), 0, "the account was just told to slow down");
    stage.drain().await;
    assert_eq!(stage.outcome(&second.id()).await, ("sent".to_owned(), None, 1));
    stage.finish().await;
}
