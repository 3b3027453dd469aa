//! Deadlines and their reminders: each once, at its recipient's own time, whatever is late, moved, or done meanwhile.

mod bodies;
mod dead;
mod examples;
mod firing;
mod forgetting;
mod keeping;
mod moving;
mod overdue;
mod refused;
mod stale;
mod withdrawing;
mod zones;

use serde_json::{Value, json};
use tests::{Answer, Stage, TENANT, move_time_to};

pub(crate) use tests::see_wait;

/// When the tests' deadline is, unless they say otherwise.
const DUE: &str = "2027-06-15T12:00:00Z";

/// A deadline of ada.
fn deadline(due: &str, rungs: Value) -> Value {
    json!({"category": "greeting", "recipients": ["ada"], "due_at": due, "rungs": rungs, "data": {"name": "Ada"}})
}

/// With reminders seven, three and one day before.
fn seven_three_one(due: &str) -> Value {
    deadline(due, json!([{"before": "P7D"}, {"before": "P3D"}, {"before": "P1D"}]))
}

async fn put(stage: &Stage, key: &str, body: &Value) -> Answer {
    stage.call(TENANT, "PUT /v1/deadlines/{key}", Some(key), "", &body.to_string()).await
}

/// Puts what has to be taken.
async fn put_well(stage: &Stage, key: &str, body: &Value) -> Value {
    let answer = put(stage, key, body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

async fn get(stage: &Stage, key: &str) -> Value {
    let answer = stage.call(TENANT, "GET /v1/deadlines/{key}", Some(key), "", "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

async fn complete(stage: &Stage, key: &str) -> Answer {
    stage.call(TENANT, "POST /v1/deadlines/{key}/complete", Some(key), "", "").await
}

async fn move_to(stage: &Stage, moment: &str) {
    move_time_to(&stage.admin, moment.parse().expect("a timestamp")).await;
}

/// Each rung in the order of time: key, state, note.
fn plan_of(shown: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let rungs = shown["plan"].as_array().expect("a plan").iter();
    rungs.map(|rung| (text(&rung["rung"]), text(&rung["state"]), text(&rung["note"]))).collect()
}

/// The same of one deadline, as it is now, in few words: `-P7D fired`, `-P3D skipped past`.
async fn plan(stage: &Stage, key: &str) -> Vec<String> {
    let plan = plan_of(&get(stage, key).await);
    plan.iter().map(|(rung, state, note)| format!("{rung} {state} {note}").trim_end().to_owned()).collect()
}

/// The time at which each rung fires, in the order of time.
fn times_of(shown: &Value) -> Vec<&str> {
    let rungs = shown["plan"].as_array().expect("a plan").iter();
    rungs.map(|rung| rung["fire_at"].as_str().expect("a time")).collect()
}

async fn count_notifications(stage: &Stage) -> i64 {
    stage.count("SELECT count(*) FROM harkara.notifications").await
}

/// Sends what is queued, and ends the test.
async fn finish(stage: Stage) {
    stage.drain().await;
    stage.finish().await;
}
