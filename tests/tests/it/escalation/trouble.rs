//! What is wrong with one stops no other.

use super::{begin, pass_minutes, put_policy, show, start, steps, told};
use serde_json::json;
use sqlx::PgPool;
use tests::{OTHER_TENANT, Stage, TENANT};

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn one_that_cannot_be_read_is_given_up_with_a_reason(pool: PgPool) {
    let stage = begin(pool).await;
    let (bad, good) = (start(&stage).await, start(&stage).await);
    let spoil = "UPDATE harkara.escalations SET definition = '{\"steps\": 7}' WHERE escalation_id = $1::uuid";
    let bare = bad.trim_start_matches("esc_").to_owned();
    sqlx::query(spoil).bind(bare).execute(&stage.admin).await.expect("spoilt");
    pass_minutes(&stage, 30).await;
    let counts = stage.escalate().await;
    assert_eq!((counts.canceled, counts.fired), (1, 1));
    let shown = show(&stage, &bad).await;
    assert_eq!((&shown["state"], &shown["reason"]), (&json!("canceled"), &json!("policy_unreadable")));
    assert_eq!(show(&stage, &good).await["level"], 2);
    assert!(told(&stage).await.contains(&"escalation.canceled".to_owned()));
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn one_that_cannot_be_stored_is_put_off_and_told(pool: PgPool) {
    let stage = begin(pool).await;
    let (bad, good) = (start(&stage).await, start(&stage).await);
    // A row that is there already where the next step's would be.
    let spoil = "INSERT INTO harkara.escalation_steps
                     (tenant_id, escalation_id, repeat_number, level, tier, recipients, reached_count)
                 VALUES ($1::uuid, $2::uuid, 0, 2, 1, '{}', 1)";
    let bare = bad.trim_start_matches("esc_").to_owned();
    sqlx::query(spoil).bind(TENANT).bind(bare).execute(&stage.admin).await.expect("spoilt");
    pass_minutes(&stage, 30).await;
    let counts = stage.escalate().await;
    assert_eq!((counts.put_off, counts.fired), (1, 1));
    assert_eq!(show(&stage, &good).await["level"], 2);
    let shown = show(&stage, &bad).await;
    assert_eq!((&shown["state"], &shown["level"]), (&json!("open"), &json!(1)));
    assert!(told(&stage).await.contains(&"escalation.put_off".to_owned()));
    pass_minutes(&stage, 5).await;
    assert_eq!(stage.escalate().await.put_off, 1, "and it is tried again");
    stage.drain().await;
    stage.finish().await;
}

/// More are due than are taken at a time, and one of the first cannot be stored.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn those_behind_a_bad_batch_fire_in_the_same_run(pool: PgPool) {
    let stage = begin(pool).await;
    stage.lift_limits().await;
    let bad = start(&stage).await;
    for _ in 0..60 {
        start(&stage).await;
    }
    let spoil = "INSERT INTO harkara.escalation_steps
                     (tenant_id, escalation_id, repeat_number, level, tier, recipients, reached_count)
                 VALUES ($1::uuid, $2::uuid, 0, 2, 1, '{}', 1)";
    let bare = bad.trim_start_matches("esc_").to_owned();
    sqlx::query(spoil).bind(TENANT).bind(bare).execute(&stage.admin).await.expect("spoilt");
    pass_minutes(&stage, 30).await;
    let counts = stage.escalate().await;
    assert_eq!((counts.fired, counts.put_off), (60, 1));
    stage.leave_work();
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_category_that_lost_its_template_is_a_step_that_reaches_nobody(pool: PgPool) {
    let stage = begin(pool).await;
    let category = |template: Option<&str>| json!({"class": "security", "template": template});
    stage.put(TENANT, "/v1/categories/{key}", "bare", category(Some("greeting"))).await;
    let bare = json!({"recipients": ["ada"], "category": "bare"});
    put_policy(&stage, json!([bare, {"delay": "PT30M", "recipients": ["bob"]}])).await;
    stage.put(TENANT, "/v1/categories/{key}", "bare", category(None)).await;
    let id = start(&stage).await;
    assert_eq!(stage.escalate().await.fired, 1, "the next one, at once");
    let shown = show(&stage, &id).await;
    assert_eq!(steps(&shown), [(0, 1, 1, 0, Some("refused")), (0, 2, 1, 1, None)]);
    assert!(shown["steps"][0]["note"].as_str().is_some_and(|note| note.contains("template")), "{shown}");
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_suspended_tenant_waits_and_holds_nobody_up(pool: PgPool) {
    let stage = begin(pool).await;
    let id = start(&stage).await;
    stage.drain().await;
    let policy = json!({"category": "greeting", "steps": [{"delay": "PT30M", "recipients": ["ada"]}]});
    stage.put(OTHER_TENANT, "/v1/escalation-policies/{key}", "critical", policy).await;
    let start = json!({"policy": "critical", "data": {"name": "Ada"}}).to_string();
    assert_eq!(stage.call(OTHER_TENANT, "POST /v1/escalations", None, "", &start).await.status, 200);
    pass_minutes(&stage, 30).await;
    let suspend = "UPDATE harkara.tenants SET state = $2 WHERE tenant_id = $1::uuid";
    sqlx::query(suspend).bind(TENANT).bind("suspended").execute(&stage.admin).await.expect("suspended");
    assert_eq!(stage.escalate().await.fired, 1, "of the other tenant");
    sqlx::query(suspend).bind(TENANT).bind("active").execute(&stage.admin).await.expect("active again");
    assert_eq!(stage.escalate().await.fired, 1);
    assert_eq!(show(&stage, &id).await["level"], 2);
    stage.drain().await;
    Stage::finish(stage).await;
}
