//! Escalations: policies, what fires when, and who answers.

mod answering;
mod firing;
mod large;
mod policies;
mod starting;
mod trouble;
mod wishes;

use serde_json::{Value, json};
use std::time::Duration;
use tests::{Answer, Stage, TENANT};

/// A stage with bob, who is ada's manager, and a policy `critical`: ada at once, her manager after half an hour.
pub(crate) async fn begin(pool: sqlx::PgPool) -> Stage {
    let stage = Stage::begin(pool).await;
    stage.put(TENANT, "/v1/recipients/{id}", "bob", json!({"email": "bob@example.org"})).await;
    stage.put(TENANT, "/v1/recipients/{id}", "ada", json!({"email": "ada@example.org", "manager": "bob"})).await;
    put_policy(&stage, json!([{"recipients": ["ada"]}, {"delay": "PT30M", "recipients": ["manager"]}])).await;
    stage
}

/// Puts the policy `critical` with these steps.
pub(crate) async fn put_policy(stage: &Stage, steps: Value) {
    stage
        .put(TENANT, "/v1/escalation-policies/{key}", "critical", json!({"category": "greeting", "steps": steps}))
        .await;
}

/// Asks for an escalation by the policy `critical`.
async fn ask_to_start(stage: &Stage, key: Option<&str>) -> Answer {
    let body = json!({"policy": "critical", "key": key, "data": {"name": "Ada"}});
    stage.call(TENANT, "POST /v1/escalations", None, "", &body.to_string()).await
}

/// Starts an escalation by the policy `critical`.
pub(crate) async fn start(stage: &Stage) -> String {
    let answer = ask_to_start(stage, None).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["escalation"]["id"].as_str().expect("an id").to_owned()
}

/// The escalation as its tenant reads it.
pub(crate) async fn show(stage: &Stage, id: &str) -> Value {
    let answer = stage.call(TENANT, "GET /v1/escalations/{id}", Some(id), "", "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

async fn acknowledge(stage: &Stage, id: &str, body: Value) -> Answer {
    stage.call(TENANT, "POST /v1/escalations/{id}/acknowledge", Some(id), "", &body.to_string()).await
}

async fn resolve(stage: &Stage, id: &str) -> Answer {
    stage.call(TENANT, "POST /v1/escalations/{id}/resolve", Some(id), "", "").await
}

pub(crate) async fn pass_minutes(stage: &Stage, minutes: u64) {
    stage.pass(Duration::from_secs(minutes * 60)).await;
}

/// What was fired: repeat, level, tier, how many it reached, and why nobody.
fn steps(shown: &Value) -> Vec<(i64, i64, i64, usize, Option<&str>)> {
    let number = |step: &Value, name: &str| step[name].as_i64().expect("a number");
    let steps = shown["steps"].as_array().expect("steps").iter();
    steps
        .map(|step| {
            let reached = step["notifications"].as_array().expect("a list").len();
            (number(step, "repeat"), number(step, "level"), number(step, "tier"), reached, step["reason"].as_str())
        })
        .collect()
}

/// The addresses that mails went to, in order.
fn addressees(stage: &Stage) -> Vec<String> {
    stage.mail.asked().iter().map(|mail| mail.to.as_str().to_owned()).collect()
}

/// The events of escalations on the bus, in order, once everything has been told.
async fn told(stage: &Stage) -> Vec<String> {
    stage.pass(Duration::from_secs(20)).await;
    stage.dispatch().await;
    let events = stage.bus.detail_types().into_iter().filter(|name| name.starts_with("escalation."));
    events.collect()
}
