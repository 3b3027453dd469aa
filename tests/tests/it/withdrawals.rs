//! What is withdrawn while an attempt has it, or may have sent it: that may come, and nothing comes after it.

use adapters::ids::new_uuid;
use adapters::store::attempts::{AttemptRecord, record_across_tenants};
use adapters::store::claims::{Claim, ClaimedDelivery, DeliveryKey, claim_across_tenants, hand_back_across_tenants};
use domain::delivery::Reason;
use domain::id::{AttemptId, DeliveryId, TenantId};
use domain::outcome::{Conclusion, ProviderError, SendOutcome, settle_attempt};
use domain::retry::Jitter;
use serde_json::{Value, json};
use sqlx::PgPool;
use std::time::Duration;
use tests::{Stage, TENANT};

/// After any window, lease and wait.
const LATER: Duration = Duration::from_secs(3600);

/// An attempt that a test makes itself.
struct Attempt {
    key: DeliveryKey,
    id: AttemptId,
    claimed: ClaimedDelivery,
}

fn error() -> ProviderError {
    ProviderError { code: "Code".into(), detail: "words".into() }
}

/// What surely did not send it, each in its own way.
fn refusals() -> [SendOutcome; 4] {
    [
        SendOutcome::Transient(error()),
        SendOutcome::Throttled(error()),
        SendOutcome::Unauthorized(error()),
        SendOutcome::Held(Reason::SendingPaused, error()),
    ]
}

/// Claims the one delivery of a notification, as a worker does before it calls the provider.
async fn claim(stage: &Stage, notification: &str) -> Attempt {
    let shown = stage.show(notification).await;
    let delivery = DeliveryId::parse(shown["deliveries"][0]["id"].as_str().expect("an id")).expect("an id");
    let key = DeliveryKey { tenant: TenantId::parse(TENANT).expect("an id"), delivery };
    let id = AttemptId::from_uuid(new_uuid());
    let claimed = claim_across_tenants(&stage.processor.database, &[(key, id)]).await.expect("claimed").remove(&key);
    match claimed {
        Some(Claim::Claimed(claimed)) => Attempt { key, id, claimed: *claimed },
        other => panic!("it is ready: {other:?}"),
    }
}

/// Records what the provider said; whether the delivery became what that leads to.
async fn record(stage: &Stage, attempt: &Attempt, outcome: SendOutcome) -> bool {
    let Attempt { key, id, claimed } = attempt;
    let settlement = settle_attempt(Conclusion::Called(outcome), claimed.budget, &claimed.rules, Jitter::new(0.5));
    let record = AttemptRecord {
        key: *key,
        attempt: *id,
        attempt_number: claimed.attempt_number,
        identity: "default".to_owned(),
        settlement,
        findings: Vec::new(),
        content_hash: None,
        event: None,
    };
    let recorded = record_across_tenants(&stage.processor.database, &[record]).await.expect("recorded");
    recorded.deliveries.contains(&key.delivery)
}

async fn post(stage: &Stage) -> String {
    stage.post(Stage::greeting("lin@example.org")).await.id()
}

async fn cancel(stage: &Stage, notification: &str) -> Value {
    let answer = stage.call(TENANT, "POST /v1/notifications/{id}/cancel", Some(notification), "", "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

async fn standing(stage: &Stage, notification: &str) -> (String, Option<String>) {
    let (state, reason, _) = stage.outcome(notification).await;
    (state, reason)
}

fn is(state: &str, reason: &str) -> (String, Option<String>) {
    (state.to_owned(), Some(reason.to_owned()))
}

async fn explain(stage: &Stage, notification: &str) -> String {
    stage.call(TENANT, "GET /v1/notifications/{id}/explain", Some(notification), "", "").await.body.to_string()
}

/// Whatever would bring it back has its time, again and again.
async fn let_everything_come_due(stage: &Stage) {
    for _ in 0..4 {
        stage.pass(LATER).await;
        stage.dispatch().await;
        stage.drain().await;
    }
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_is_canceled_while_it_is_sent_is_not_tried_again(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let mut canceled = Vec::new();
    for outcome in refusals() {
        let id = post(&stage).await;
        let attempt = claim(&stage, &id).await;
        let answer = cancel(&stage, &id).await;
        let delivery = &answer["notification"]["deliveries"][0];
        assert_eq!((&answer["canceled_count"], &delivery["state"]), (&json!(0), &json!("sending")), "it is too late");
        assert!(delivery["withdrawn_at"].is_string(), "{delivery}");
        assert!(!record(&stage, &attempt, outcome.clone()).await, "nothing more is the worker's to do");
        assert_eq!(standing(&stage, &id).await, is("canceled", "canceled_by_caller"), "{outcome:?}");
        let again = cancel(&stage, &id).await;
        assert_eq!(again["notification"]["deliveries"][0]["withdrawn_at"], delivery["withdrawn_at"]);
        canceled.push(id);
        // Who is throttled slows everybody down.
        stage.pass(Duration::from_secs(60)).await;
    }
    // An open breaker holds everybody else's.
    sqlx::query("DELETE FROM harkara.breakers").execute(&stage.admin).await.expect("closed");
    let_everything_come_due(&stage).await;
    assert_eq!(stage.mail.asked().len(), 0, "nobody got any of them");
    let told = stage.bus.events().into_iter().filter(|event| event.detail_type == "delivery.canceled");
    let told: Vec<_> =
        told.map(|event| event.detail["notification_id"].as_str().unwrap_or_default().to_owned()).collect();
    for id in &canceled {
        assert_eq!(told.iter().filter(|told| *told == id).count(), 1, "each is told of once");
        assert!(explain(&stage, id).await.contains("It was withdrawn at"));
    }
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_last_attempt_of_what_is_canceled_leaves_no_dead_letter(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let id = post(&stage).await;
    sqlx::query("UPDATE harkara.deliveries SET max_attempts = 1").execute(&stage.admin).await.expect("changed");
    let attempt = claim(&stage, &id).await;
    cancel(&stage, &id).await;
    record(&stage, &attempt, SendOutcome::Transient(error())).await;
    assert_eq!(standing(&stage, &id).await, is("canceled", "canceled_by_caller"));
    let_everything_come_due(&stage).await;
    assert_eq!(stage.queue.buried().len(), 0);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_was_sent_after_all_is_sent_whoever_withdrew_it(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let id = post(&stage).await;
    let attempt = claim(&stage, &id).await;
    cancel(&stage, &id).await;
    assert!(record(&stage, &attempt, SendOutcome::Sent { provider_message_id: Some("m".to_owned()) }).await);
    assert_eq!(stage.outcome(&id).await.0, "sent");
    stage.drain().await;
    stage.finish().await;
}

/// The provider failed: at least once would repeat that at once.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_may_have_been_sent_is_unknown_and_then_given_up(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let id = post(&stage).await;
    let attempt = claim(&stage, &id).await;
    cancel(&stage, &id).await;
    record(&stage, &attempt, SendOutcome::ServerFailed(error())).await;
    assert_eq!(standing(&stage, &id).await, is("unknown", "outcome_unknown"), "and not canceled: it may come");
    let_everything_come_due(&stage).await;
    assert_eq!(standing(&stage, &id).await, is("failed", "outcome_unknown"));
    assert_eq!(stage.mail.asked().len(), 0);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_claim_that_is_handed_back_is_not_tried_again_either(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let id = post(&stage).await;
    let attempt = claim(&stage, &id).await;
    cancel(&stage, &id).await;
    let back = hand_back_across_tenants(&stage.processor.database, &[(attempt.key, attempt.id)]).await;
    assert_eq!(back.expect("handed back"), 1);
    assert_eq!(standing(&stage, &id).await, is("canceled", "canceled_by_caller"));
    let_everything_come_due(&stage).await;
    assert_eq!(stage.mail.asked().len(), 0);
    assert!(stage.bus.detail_types().contains(&"delivery.canceled".to_owned()));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_has_died_and_is_canceled_is_not_redriven(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let id = post(&stage).await;
    sqlx::query("UPDATE harkara.deliveries SET max_attempts = 1").execute(&stage.admin).await.expect("changed");
    let attempt = claim(&stage, &id).await;
    record(&stage, &attempt, SendOutcome::Transient(error())).await;
    let_everything_come_due(&stage).await;
    stage.store_dead_letters().await;
    assert_eq!(stage.outcome(&id).await.0, "dead");
    assert_eq!(cancel(&stage, &id).await["canceled_count"], 0);
    let redrive = r#"{"from": "2020-01-01T00:00:00Z"}"#;
    let answer = stage.call(TENANT, "POST /v1/dead-letters/redrive", None, "", redrive).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let_everything_come_due(&stage).await;
    assert_eq!(stage.outcome(&id).await.0, "dead");
    assert_eq!(stage.mail.asked().len(), 0);
    stage.finish().await;
}

/// S1: the first mail's answer was lost; whoever is on it is not called again.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_answered_escalation_sends_nothing_again_that_may_have_been_sent(pool: PgPool) {
    let stage = crate::escalation::begin(pool).await;
    let escalation = crate::escalation::start(&stage).await;
    let shown = crate::escalation::show(&stage, &escalation).await;
    let mail = shown["steps"][0]["notifications"][0]["id"].as_str().expect("an id").to_owned();
    let attempt = claim(&stage, &mail).await;
    record(&stage, &attempt, SendOutcome::Unknown(error())).await;
    assert_eq!(standing(&stage, &mail).await, is("unknown", "outcome_unknown"));
    let answer = stage.call(TENANT, "POST /v1/escalations/{id}/acknowledge", Some(&escalation), "", "{}").await;
    assert_eq!((&answer.body["is_first"], &answer.body["canceled_count"]), (&json!(true), &json!(0)), "{answer:?}");
    let_everything_come_due(&stage).await;
    assert_eq!(standing(&stage, &mail).await, is("failed", "outcome_unknown"));
    assert_eq!(stage.mail.asked().len(), 0, "nobody is told once more that somebody is needed");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_resolved_escalation_tries_nothing_again_that_a_worker_died_with(pool: PgPool) {
    let stage = crate::escalation::begin(pool).await;
    let escalation = crate::escalation::start(&stage).await;
    let shown = crate::escalation::show(&stage, &escalation).await;
    let mail = shown["steps"][0]["notifications"][0]["id"].as_str().expect("an id").to_owned();
    claim(&stage, &mail).await;
    let answer = stage.call(TENANT, "POST /v1/escalations/{id}/resolve", Some(&escalation), "", "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let_everything_come_due(&stage).await;
    assert_eq!(standing(&stage, &mail).await, is("failed", "outcome_unknown"));
    let story = explain(&stage, &mail).await;
    assert!(story.contains("the escalation was answered") && story.contains("It was withdrawn at"), "{story}");
    assert_eq!(stage.mail.asked().len(), 0);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_completed_deleted_or_moved_deadline_tries_no_reminder_again(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let due_in = |hours: i64| (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(hours)).to_string();
    let deadline = |due_at: String| {
        json!({
            "category": "greeting", "recipients": ["ada"], "due_at": due_at, "rungs": [{"before": "P1D"}],
            "data": {"name": "Ada"},
        })
    };
    for key in ["completed", "deleted", "moved"] {
        stage.put(TENANT, "/v1/deadlines/{key}", key, deadline(due_in(30))).await;
    }
    stage.pass(Duration::from_secs(7 * 3600)).await;
    assert_eq!(stage.remind().await.fired, 3);
    let mut mails = Vec::new();
    for key in ["completed", "deleted", "moved"] {
        let shown = stage.call(TENANT, "GET /v1/deadlines/{key}", Some(key), "", "").await;
        let mail = shown.body["plan"][0]["notification_id"].as_str().expect("an id").to_owned();
        let attempt = claim(&stage, &mail).await;
        mails.push((mail, attempt));
    }
    let complete = stage.call(TENANT, "POST /v1/deadlines/{key}/complete", Some("completed"), "", "").await;
    assert_eq!(complete.body["canceled_delivery_count"], 0, "{complete:?}");
    assert_eq!(stage.call(TENANT, "DELETE /v1/deadlines/{key}", Some("deleted"), "", "").await.status, 204);
    stage.put(TENANT, "/v1/deadlines/{key}", "moved", deadline(due_in(24 * 300))).await;
    for (mail, attempt) in &mails {
        record(&stage, attempt, SendOutcome::Transient(error())).await;
        assert_eq!(standing(&stage, mail).await, is("canceled", "canceled_by_caller"));
    }
    let_everything_come_due(&stage).await;
    assert_eq!(stage.mail.asked().len(), 0, "nobody is reminded of what is done");
    stage.finish().await;
}

/// A cancel and the worker's record at the same instant: whichever is first, nothing is tried again.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_cancel_and_a_record_at_the_same_instant_leave_nothing_to_be_tried(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.lift_limits().await;
    for _ in 0..20 {
        let id = post(&stage).await;
        let attempt = claim(&stage, &id).await;
        tokio::join!(cancel(&stage, &id), record(&stage, &attempt, SendOutcome::Transient(error())));
        assert_eq!(standing(&stage, &id).await, is("canceled", "canceled_by_caller"));
    }
    let_everything_come_due(&stage).await;
    assert_eq!(stage.mail.asked().len(), 0);
    stage.finish().await;
}
