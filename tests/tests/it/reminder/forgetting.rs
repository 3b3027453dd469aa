//! Whoever is erased is in no deadline any more, and in no escalation of one that is not needed.

use super::overdue::{begin, escalating, escalation_of};
use super::{DUE, complete, finish, get, move_to, put_well};
use crate::escalation::show;
use serde_json::json;
use sqlx::PgPool;
use tests::TENANT;

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn whoever_is_erased_is_in_no_deadline_and_no_closed_escalation_of_one(pool: PgPool) {
    let stage = begin(pool).await;
    stage.put(TENANT, "/v1/recipients/{id}", "someone", json!({"email": "someone@example.org"})).await;
    let mut alone = escalating();
    alone["recipients"] = json!(["someone"]);
    alone["data"] = json!({"name": "canary"});
    put_well(&stage, "alone", &alone).await;
    let mut shared = escalating();
    shared["recipients"] = json!(["someone", "ada"]);
    put_well(&stage, "shared", &shared).await;
    move_to(&stage, DUE).await;
    assert_eq!(stage.remind().await.escalated, 2);
    let escalation = escalation_of(&stage, "alone").await["id"].as_str().expect("an id").to_owned();
    complete(&stage, "alone").await;
    stage.drain().await;
    assert_eq!(stage.call(TENANT, "DELETE /v1/recipients/{id}", Some("someone"), "", "").await.status, 204);
    let left = get(&stage, "alone").await;
    assert_eq!((&left["recipients"], &left["data"]), (&json!([]), &json!({})));
    assert_eq!(show(&stage, &escalation).await["data"], json!({}));
    let left = get(&stage, "shared").await;
    assert_eq!((&left["recipients"], &left["data"]["name"]), (&json!(["ada"]), &json!("Ada")));
    finish(stage).await;
}

/// What a deadline said is in its escalation, too, wherever the deadline is by then.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn whoever_is_erased_is_in_no_escalation_of_a_deadline_that_goes_on_was_moved_or_was_deleted(pool: PgPool) {
    let stage = begin(pool).await;
    stage.put(TENANT, "/v1/recipients/{id}", "someone", json!({"email": "someone@example.org"})).await;
    let mut body = escalating();
    body["recipients"] = json!(["someone"]);
    body["data"] = json!({"name": "canary"});
    let mut of_two = body.clone();
    of_two["recipients"] = json!(["someone", "ada"]);
    for (key, body) in [("open", &body), ("moved", &body), ("deleted", &body), ("of-two", &of_two)] {
        put_well(&stage, key, body).await;
    }
    move_to(&stage, DUE).await;
    assert_eq!(stage.remind().await.escalated, 4);
    stage.drain().await;
    let canaries = "SELECT count(*) FROM harkara.escalations WHERE data ->> 'name' = 'canary'";
    assert_eq!(stage.count(canaries).await, 4);
    let mut moved = escalating();
    moved["due_at"] = "2027-06-20T12:00:00Z".into();
    put_well(&stage, "moved", &moved).await;
    stage.call(TENANT, "DELETE /v1/deadlines/{key}", Some("deleted"), "", "").await;

    assert_eq!(stage.call(TENANT, "DELETE /v1/recipients/{id}", Some("someone"), "", "").await.status, 204);
    assert_eq!(stage.count(canaries).await, 2, "what is open is needed, and what is ada's, too, is not theirs alone");
    complete(&stage, "open").await;
    assert_eq!(stage.count(canaries).await, 1, "it is not open any more");
    complete(&stage, "of-two").await;
    assert_eq!(stage.call(TENANT, "DELETE /v1/recipients/{id}", Some("ada"), "", "").await.status, 204);
    assert_eq!(stage.count(canaries).await, 0, "nobody is left whom it is about");
    finish(stage).await;
}
