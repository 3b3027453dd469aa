//! `infra/examples/stage_trigger.sql`: a dealer's trigger tells customers what became of their registrations.

use super::{DOMAIN, begin, begin_as, count_waiting};
use serde_json::{Value, json};
use sqlx::PgPool;
use tests::{Stage, TENANT};

const EXAMPLE: &str = include_str!("../../../../infra/examples/stage_trigger.sql");
const ROLLBACK: &str = include_str!("../../../../infra/examples/stage_trigger_rollback.sql");

/// Runs an example as an administrator does. Roles are the cluster's, so the one of these tests takes the place of the
/// dealer's; it has nothing but its door, and what the example gives it.
async fn run_example(stage: &Stage, example: &str) {
    let example: &'static str = example.replace("dealer_app", "door_test_domain").leak();
    sqlx::raw_sql(example).execute(&stage.admin).await.expect("it runs");
}

/// What the dealer's program does, in a transaction of its own.
async fn change(stage: &Stage, statement: &'static str) {
    let mut transaction = begin_as(stage, DOMAIN).await;
    sqlx::query(statement).execute(&mut *transaction).await.expect("changed");
    transaction.commit().await.expect("committed");
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_changed_stage_tells_the_customer_unless_this_change_is_not_to(pool: PgPool) {
    let stage = begin(pool).await;
    let template = json!({
        "variables": {"old_stage": {"type": "string", "example": "ordered"}, "new_stage": {"type": "string", "example": "built"},
                      "registration": {"type": "string", "example": "31"}},
        "subject": "{{ registration }}: {{ old_stage }} is {{ new_stage }} now", "text": "{{ new_stage }}",
    });
    stage.publish(TENANT, "registration_stage", template).await;
    let category = json!({"class": "transactional", "template": "registration_stage"});
    stage.put(TENANT, "/v1/categories/{key}", "registration_stage", category).await;

    run_example(&stage, EXAMPLE).await;
    change(&stage, "INSERT INTO dealer.registrations VALUES ('31', 'ada', 'ordered')").await;

    change(&stage, "UPDATE dealer.registrations SET stage = 'built'").await;
    change(&stage, "UPDATE dealer.registrations SET stage = 'built'").await;
    assert_eq!(count_waiting(&stage).await, 1, "what stays as it is tells nothing");
    change(&stage, "UPDATE dealer.registrations SET stage = 'shipped', tell_customer = false").await;
    assert_eq!(count_waiting(&stage).await, 1);
    let choices = "SELECT count(*) FROM dealer.registrations WHERE tell_customer IS NOT NULL";
    assert_eq!(stage.count(choices).await, 0, "the choice was for that change");
    change(&stage, "UPDATE dealer.registrations SET stage = 'registered'").await;
    assert_eq!(count_waiting(&stage).await, 2);

    let asked: Vec<Value> = sqlx::query_scalar("SELECT request FROM harkara.door_requests ORDER BY created_at")
        .fetch_all(&stage.admin)
        .await
        .expect("they wait");
    let debounce = json!({"key": "registration-31", "window": "PT5M", "max": "PT30M"});
    for request in &asked {
        assert_eq!(request["debounce"], debounce, "{request}");
    }
    // How changes that follow each other become one mail is told elsewhere; here each is one.
    sqlx::query("UPDATE harkara.door_requests SET request = request - 'debounce'")
        .execute(&stage.admin)
        .await
        .expect("changed");
    assert_eq!(stage.dispatch().await.requests, 2);
    stage.drain().await;
    let mut subjects: Vec<String> = stage.mail.asked().iter().map(|mail| mail.subject.as_str().to_owned()).collect();
    subjects.sort();
    assert_eq!(subjects, ["31: ordered is built now", "31: shipped is registered now"]);

    run_example(&stage, ROLLBACK).await;
    change(&stage, "UPDATE dealer.registrations SET stage = 'sold'").await;
    assert_eq!(count_waiting(&stage).await, 0, "it is taken back: stages still change, and nobody is told");
    stage.finish().await;
}
