//! Where attempts went: kept as it was at that time, for whoever may see the recipient, and for as long as there is one.

use crate::recipients::{begin_to_erase, see_somebody_wait};
use adapters::ids::new_uuid;
use adapters::store::attempts::{AttemptRecord, record_across_tenants};
use adapters::store::claims::{Claim, DeliveryKey, claim_across_tenants};
use adapters::wire::queue_message::read_message;
use adapters::wire::routes::Route;
use domain::category::{DeliveryRules, UnknownPolicy};
use domain::id::AttemptId;
use domain::outcome::{AttemptBudget, Conclusion, ProviderError, SendOutcome, settle_attempt};
use domain::retry::Jitter;
use serde_json::{Value, json};
use sqlx::PgPool;
use std::time::Duration;
use tests::{Ask, Stage, TENANT};

const KEPT: &str = "SELECT count(*) FROM harkara.attempts WHERE to_address IS NOT NULL OR to_name IS NOT NULL";

fn transient() -> SendOutcome {
    SendOutcome::Transient(ProviderError { code: "Code".into(), detail: "words".into() })
}

fn to_ada() -> Value {
    json!({"category": "greeting", "recipient": {"id": "ada"}, "data": {"name": "Ada"}})
}

async fn put_ada(stage: &Stage, email: &str, name: &str) {
    stage.put(TENANT, "/v1/recipients/{id}", "ada", json!({"email": email, "name": name})).await;
}

/// Where each attempt of a notification went.
fn went(shown: &Value) -> Vec<Value> {
    let attempts = shown["deliveries"][0]["attempts"].as_array().expect("a list");
    attempts.iter().map(|attempt| attempt["to"].clone()).collect()
}

/// Claims what waits in the queue, as a worker does that is then slow.
async fn claim(stage: &Stage) -> (DeliveryKey, AttemptId) {
    let message = read_message(&stage.queue.receive(Duration::ZERO)[0].body).expect("a message");
    let key = DeliveryKey { tenant: message.tenant, delivery: message.delivery };
    let attempt = AttemptId::from_uuid(new_uuid());
    let claims = claim_across_tenants(&stage.processor.database, &[(key, attempt)]).await.expect("asked");
    assert!(matches!(claims[&key], Claim::Claimed(_)));
    (key, attempt)
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn each_attempt_keeps_the_address_and_the_name_that_it_went_to(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    put_ada(&stage, "ada@example.org", "Ada King").await;
    stage.mail.script("ada@example.org", [transient as fn() -> _]);
    let known = stage.post(to_ada()).await.id();
    stage.process(Duration::ZERO).await;
    // She moves between two attempts, and once more after the last.
    put_ada(&stage, "countess@example.org", "Ada Lovelace").await;
    stage.drain().await;
    put_ada(&stage, "elsewhere@example.org", "Somebody Else").await;
    let first = json!({"address": "ada@example.org", "name": "Ada King"});
    let second = json!({"address": "countess@example.org", "name": "Ada Lovelace"});
    assert_eq!(went(&stage.show(&known).await), [first, second]);

    let mut inline = Stage::greeting("lin@example.org");
    let bare = stage.post(inline.clone()).await.id();
    inline["recipient"]["name"] = "Lin".into();
    let named = stage.post(inline).await.id();
    let nowhere = stage.post(to_ada()).await.id();
    // Her address is gone before anything is sent.
    stage.put(TENANT, "/v1/recipients/{id}", "ada", json!({"phone": "+4915112345678", "name": "Ada King"})).await;
    stage.drain().await;
    assert_eq!(went(&stage.show(&bare).await), [json!({"address": "lin@example.org", "name": null})]);
    assert_eq!(went(&stage.show(&named).await), [json!({"address": "lin@example.org", "name": "Lin"})]);
    assert_eq!(went(&stage.show(&nowhere).await), [Value::Null]);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_attempt_whose_end_nobody_recorded_says_where_it_went(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    put_ada(&stage, "ada@example.org", "Ada King").await;
    let id = stage.post(to_ada()).await.id();
    claim(&stage).await;
    // The worker is no more.
    stage.pass(Duration::from_secs(90)).await;
    stage.dispatch().await;
    let shown = stage.show(&id).await;
    assert_eq!(shown["deliveries"][0]["attempts"][0]["outcome"], "unknown");
    assert_eq!(went(&shown), [json!({"address": "ada@example.org", "name": "Ada King"})]);
    stage.leave_work();
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn where_mail_went_is_shown_to_whoever_may_see_the_recipient_and_to_nobody_else(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    put_ada(&stage, "ada@example.org", "Ada King").await;
    stage.put(TENANT, "/v1/recipients/{id}", "eve", json!({"email": "eve@example.org"})).await;
    let id = stage.post(to_ada()).await.id();
    stage.drain().await;
    let ask = |route: Route, scope: &str, who: &str| {
        let ask = Ask::of(route, TENANT).with_claim("scope", scope).with_claim("sub", who);
        if route == Route::ListNotifications { ask } else { ask.with_parameter("id", &id) }
    };
    for (scope, who, is_shown) in [
        ("notifications:read", "a program", false),
        ("notifications:read notifications:write jobs:run", "a program", false),
        ("notifications:read manage", "a person", true),
        ("self", "ada", true),
        // Whatever other scopes it names.
        ("self manage notifications:read", "ada", true),
    ] {
        for route in [Route::GetNotification, Route::ListNotifications] {
            let answer = stage.ask(&ask(route, scope, who)).await;
            let text = answer.body.to_string();
            let holds = ["ada@example.org", "Ada King", "\"to\""].map(|word| text.contains(word));
            assert_eq!((answer.status, holds), (200, [is_shown; 3]), "{route} with {scope}: {text}");
        }
    }
    let theirs = stage.ask(&ask(Route::GetNotification, "self manage", "eve")).await;
    assert_eq!(theirs.status, 404, "{theirs:?}");
    let list = stage.ask(&ask(Route::ListNotifications, "self manage", "eve")).await;
    assert_eq!(list.body["notifications"], json!([]));
    stage.finish().await;
}

/// What is kept for a key is found by no erasure.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn no_answer_that_is_kept_says_where_mail_went(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    put_ada(&stage, "ada@example.org", "Ada King").await;
    let id = stage.post(to_ada()).await.id();
    stage.drain().await;
    let answer = stage.call_with_key(TENANT, "POST /v1/notifications/{id}/cancel", &id, "k").await;
    assert_eq!((answer.status, &answer.body["notification"]["state"]), (200, &json!("sent")));
    assert!(!answer.body.to_string().contains("ada@example.org"), "{answer:?}");
    let kept = "SELECT count(*) FROM harkara.idempotency_keys WHERE answer::text ~ 'ada@example.org|Ada King'";
    assert_eq!(stage.count(kept).await, 0);
    assert_eq!(stage.count(KEPT).await, 1);
    stage.finish().await;
}

/// A worker that begins an attempt has read the address before it is erased.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_attempt_that_is_begun_while_its_recipient_is_erased_forgets_where_it_went(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    stage.post(to_ada()).await;
    let mut claim = pool.begin().await.expect("a transaction");
    let begin = "
        WITH d AS (
            UPDATE harkara.deliveries
            SET state = 'sending', attempt_count = 1, due_at = harkara.now() + interval '90 seconds'
            WHERE state = 'queued' RETURNING *
        )
        INSERT INTO harkara.attempts (tenant_id, attempt_id, delivery_id, attempt_number, to_address, to_name)
        SELECT tenant_id, gen_random_uuid(), delivery_id, attempt_count, 'ada@example.org', 'Ada King' FROM d";
    assert_eq!(sqlx::query(begin).execute(&mut *claim).await.expect("begun").rows_affected(), 1);
    let end = async {
        see_somebody_wait(&pool).await;
        claim.commit().await.expect("claimed");
    };
    let (erased, ()) = tokio::join!(stage.call(TENANT, "DELETE /v1/recipients/{id}", Some("ada"), "", ""), end);
    assert_eq!(erased.status, 204, "{erased:?}");
    assert_eq!(stage.count("SELECT count(*) FROM harkara.attempts").await, 1);
    assert_eq!(stage.count(KEPT).await, 0);
    stage.leave_work();
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_attempt_that_ends_while_its_recipient_is_erased_is_not_followed_by_one_to_the_old_address(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    let id = stage.post(to_ada()).await.id();
    let (key, attempt) = claim(&stage).await;
    let rules =
        DeliveryRules { max_attempts: 3, unknown_policy: UnknownPolicy::AtLeastOnce, reconcile_window_seconds: 600 };
    let budget = AttemptBudget { spent: 1, made: 1 };
    let ended = [AttemptRecord {
        key,
        attempt,
        attempt_number: 1,
        identity: "default".into(),
        settlement: settle_attempt(Conclusion::Called(transient()), budget, &rules, Jitter::new(0.0)),
        findings: Vec::new(),
        content_hash: None,
        event: None,
    }];
    let erasure = begin_to_erase(&pool).await;
    let end = async {
        see_somebody_wait(&pool).await;
        let state = "SELECT state FROM harkara.deliveries";
        let state: String = sqlx::query_scalar(state).fetch_one(&pool).await.expect("a delivery");
        assert_eq!(state, "sending", "the record waits, so that nobody can begin the next attempt before");
        erasure.commit().await.expect("erased");
    };
    let (recorded, ()) = tokio::join!(record_across_tenants(&stage.processor.database, &ended), end);
    assert_eq!(recorded.expect("recorded").deliveries.len(), 1);
    stage.pass(Duration::from_secs(600)).await;
    stage.dispatch().await;
    stage.drain().await;
    assert_eq!(stage.outcome(&id).await.1.as_deref(), Some("no_address"));
    assert_eq!(stage.mail.asked().len(), 0);
    assert_eq!(stage.count(KEPT).await, 0);
    stage.leave_work();
}
