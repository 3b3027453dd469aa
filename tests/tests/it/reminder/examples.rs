//! What other systems remind of is data: the example of a rental company is taken as it stands.

use super::{finish, get, move_to, put_well};
use serde_json::{Value, json};
use sqlx::PgPool;
use std::time::Duration;
use tests::{Stage, TENANT};

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_deadlines_of_a_rental_company_are_taken_and_fire(pool: PgPool) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../infra/examples/rental_deadlines.json");
    let text = std::fs::read_to_string(path).expect("the example");
    let example: Value = serde_json::from_str(&text).expect("JSON");
    let stage = Stage::begin(pool).await;
    stage.lift_limits().await;
    move_to(&stage, "2027-03-01T00:00:00Z").await;
    let text = json!({"type": "string", "example": "words"});
    let variables = json!({"deadline": text, "due_at": text});
    let words = json!({"variables": variables, "subject": "{{ deadline }}", "text": "Due {{ due_at }}"});
    stage.publish(TENANT, "reminder", words).await;
    let names =
        |field: &str| example[field].as_array().expect("a list").iter().map(|name| name.as_str().expect("a name"));
    for category in names("categories") {
        let body = json!({"class": "reminder", "template": "reminder"});
        stage.put(TENANT, "/v1/categories/{key}", category, body).await;
    }
    for recipient in names("recipients") {
        let body = json!({"email": format!("{recipient}@example.org"), "time_zone": "Europe/Berlin"});
        stage.put(TENANT, "/v1/recipients/{id}", recipient, body).await;
    }
    for (key, body) in example["escalation_policies"].as_object().expect("policies") {
        stage.put(TENANT, "/v1/escalation-policies/{key}", key, body.clone()).await;
    }
    for (key, body) in example["deadlines"].as_object().expect("deadlines") {
        put_well(&stage, key, body).await;
    }
    // A run each hour is enough to see each of them fire, in order.
    for moment in [
        "2027-03-07T09:00:00Z",
        "2027-03-09T09:00:00Z",
        "2027-03-09T18:00:00Z",
        "2027-03-10T10:00:00Z",
        "2027-03-10T18:00:00Z",
        "2027-03-11T08:00:00Z",
        "2027-03-11T12:00:00Z",
        "2027-03-12T06:00:00Z",
        "2027-03-14T16:00:00Z",
        "2027-03-15T14:00:00Z",
        "2027-03-15T16:00:00Z",
        "2027-03-15T18:00:00Z",
        "2027-05-27T07:00:00Z",
        "2027-05-31T07:00:00Z",
        "2027-05-31T22:00:00Z",
        "2027-06-04T07:00:00Z",
        "2027-08-02T07:00:00Z",
        "2027-09-01T07:00:00Z",
        "2027-09-24T07:00:00Z",
        "2027-09-30T22:00:00Z",
    ] {
        move_to(&stage, moment).await;
        let counts = stage.remind().await;
        assert!(counts.fired > 0 && counts.skipped + counts.failed == 0, "{moment}: {counts:?}");
        stage.drain().await;
    }
    assert_eq!(
        stage.count("SELECT count(*) FROM harkara.escalations").await,
        2,
        "of what was not returned, and not paid"
    );
    stage.escalate().await;
    stage.pass(Duration::from_secs(60)).await;
    stage.dispatch().await;
    assert_eq!(stage.maintain().await.stranded, 0, "nothing was left behind");
    for (key, _) in example["deadlines"].as_object().expect("deadlines") {
        let shown = get(&stage, key).await;
        let rungs = shown["plan"].as_array().expect("a plan");
        assert!(rungs.iter().all(|rung| rung["state"] == "fired"), "{key}: {rungs:#?}");
    }
    finish(stage).await;
}
