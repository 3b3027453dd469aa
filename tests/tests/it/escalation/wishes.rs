//! What recipients want holds for escalations, too, and what is critical does not wait for it.

use super::{begin, pass_minutes, show, start, steps};
use serde_json::{Value, json};
use sqlx::PgPool;
use tests::{Stage, TENANT};

/// A policy whose first step has a mail and, ten minutes later, a text message, and whose second is bob's.
async fn put_policy(stage: &Stage, priority: Value) {
    let tiers = json!([{"channels": ["email"]}, {"channels": ["sms"], "after": "PT10M"}]);
    let policy = json!({
        "category": "nudge", "priority": priority,
        "steps": [{"recipients": ["ada"], "tiers": tiers}, {"delay": "PT30M", "recipients": ["bob"]}],
    });
    stage.put(TENANT, "/v1/escalation-policies/{key}", "critical", policy).await;
}

/// State and reason of the first step's notification, once everything that is due was sent.
async fn first_outcome(stage: &Stage, id: &str) -> (String, Option<String>) {
    stage.drain().await;
    let shown = show(stage, id).await;
    let notification = shown["steps"][0]["notifications"][0]["id"].as_str().expect("an id").to_owned();
    let (state, reason, _) = stage.outcome(&notification).await;
    (state, reason)
}

async fn prefer(stage: &Stage, preferences: Value) {
    let body = json!({"preferences": preferences}).to_string();
    let answer = stage.call(TENANT, "PUT /v1/recipients/{id}/preferences", Some("ada"), "", &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_is_critical_waits_for_no_digest_and_what_is_switched_off_goes_to_the_next_tier(pool: PgPool) {
    let stage = begin(pool).await;
    let category = json!({"class": "reminder", "template": "greeting"});
    stage.put(TENANT, "/v1/categories/{key}", "nudge", category).await;
    prefer(&stage, json!([{"category": "nudge", "cadence": "weekly"}])).await;
    put_policy(&stage, Value::Null).await;
    let held = start(&stage).await;
    assert_eq!(first_outcome(&stage, &held).await, ("held".to_owned(), Some("cadence_not_due".to_owned())));
    put_policy(&stage, json!("critical")).await;
    let sent = start(&stage).await;
    assert_eq!(first_outcome(&stage, &sent).await, ("sent".to_owned(), None));
    // Neither of them has failed: the silence of the mail is waited for.
    assert_eq!(stage.escalate().await.unreached, 0);

    prefer(&stage, json!([{"category": "nudge", "enabled": false}])).await;
    let off = start(&stage).await;
    assert_eq!(first_outcome(&stage, &off).await, ("skipped".to_owned(), Some("preference_off".to_owned())));
    assert_eq!(stage.escalate().await.unreached, 1, "the next tier, at once");
    assert_eq!(steps(&show(&stage, &off).await), [(0, 1, 1, 1, None), (0, 1, 2, 0, Some("no_channel"))]);
    pass_minutes(&stage, 10).await;
    assert_eq!(stage.escalate().await.unreached, 2, "of the others, after the silence");
    pass_minutes(&stage, 20).await;
    assert_eq!(stage.escalate().await.fired, 3, "the next level of each of them");
    stage.leave_work();
}
