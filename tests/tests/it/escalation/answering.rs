//! Who answers, and what that stops.

use super::{acknowledge, addressees, begin, pass_minutes, resolve, show, start, steps, told};
use crate::recipients::see_somebody_wait;
use domain::outcome::{ProviderError, SendOutcome};
use serde_json::json;
use sqlx::PgPool;
use tests::{Stage, TENANT};

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_45_an_acknowledgement_before_a_step_stops_it_and_one_after_it_withdraws_it(pool: PgPool) {
    let stage = begin(pool).await;
    let (before, after) = (start(&stage).await, start(&stage).await);
    stage.drain().await;
    assert_eq!(acknowledge(&stage, &before, json!({})).await.body["is_first"], true);
    pass_minutes(&stage, 30).await;
    assert_eq!(stage.escalate().await.fired, 1, "of the other one");
    let answer = acknowledge(&stage, &after, json!({})).await;
    assert_eq!(answer.body["canceled_count"], 1);
    stage.drain().await;
    assert_eq!(addressees(&stage), ["ada@example.org", "ada@example.org"], "bob has heard nothing");
    let shown = show(&stage, &after).await;
    let notification = shown["steps"][1]["notifications"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(stage.outcome(&notification).await.0, "canceled");
    for id in [&before, &after] {
        let shown = show(&stage, id).await;
        assert_eq!((&shown["state"], &shown["next_step_at"]), (&json!("acknowledged"), &json!(null)));
    }
    pass_minutes(&stage, 600).await;
    assert_eq!(stage.escalate().await.fired, 0);
    stage.finish().await;
}

/// Whichever has the row first.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_45_the_row_decides_whether_the_acknowledgement_or_the_step_is_first(pool: PgPool) {
    let stage = begin(pool.clone()).await;
    let id = start(&stage).await;
    stage.drain().await;
    pass_minutes(&stage, 30).await;

    // Somebody acknowledges and has not committed: the run passes it over.
    let mut answering = pool.begin().await.expect("a transaction");
    let acknowledge_by_hand = "UPDATE harkara.escalations SET state = 'acknowledged', acknowledged_at = harkara.now(),
                               acknowledged_by = 'ada', next_step_at = NULL";
    sqlx::query(acknowledge_by_hand).execute(&mut *answering).await.expect("acknowledged");
    assert_eq!(stage.escalate().await.fired, 0);
    answering.rollback().await.expect("rolled back");

    // The step is being fired: whoever acknowledges waits for that.
    let mut firing = pool.begin().await.expect("a transaction");
    sqlx::query("SELECT FROM harkara.escalations FOR UPDATE").execute(&mut *firing).await.expect("locked");
    let (answer, ()) = tokio::join!(acknowledge(&stage, &id, json!({})), async {
        see_somebody_wait(&pool).await;
        firing.commit().await.expect("committed");
    });
    assert_eq!(answer.body["is_first"], true, "{answer:?}");
    assert_eq!(stage.escalate().await.fired, 0, "the acknowledgement was first after all");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn whoever_comes_second_learns_who_was_first(pool: PgPool) {
    let stage = begin(pool).await;
    let id = start(&stage).await;
    stage.drain().await;
    let first = acknowledge(&stage, &id, json!({"recipient": "ada"})).await.body;
    let second = acknowledge(&stage, &id, json!({"recipient": "bob"})).await.body;
    assert_eq!((&first["is_first"], &second["is_first"]), (&json!(true), &json!(false)));
    assert_eq!(second["escalation"]["acknowledged"]["by"], "ada");
    assert_eq!(second["escalation"], first["escalation"]);
    let unknown = acknowledge(&stage, &id, json!({"recipient": "nobody"})).await;
    assert_eq!((unknown.status, unknown.pointers()), (422, vec!["/recipient"]));
    let replays = [1, 2].map(|_| "POST /v1/escalations/{id}/acknowledge");
    for route in replays {
        let answer = stage.call_with_key(TENANT, route, &id, "once").await;
        assert_eq!(answer.body["is_first"], false);
    }
    assert_eq!(told(&stage).await.iter().filter(|name| *name == "escalation.acknowledged").count(), 1);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn where_each_is_needed_the_steps_go_on_for_the_others(pool: PgPool) {
    let stage = begin(pool).await;
    let policy = json!({
        "category": "greeting", "acknowledgement": "each",
        "steps": [{"recipients": ["ada", "bob"]}, {"delay": "PT10M", "recipients": ["ada", "bob"]},
                  {"delay": "PT10M", "recipients": ["ada"]}],
    });
    stage.put(TENANT, "/v1/escalation-policies/{key}", "critical", policy).await;
    let id = start(&stage).await;
    let nobody = acknowledge(&stage, &id, json!({})).await;
    assert_eq!((nobody.status, nobody.pointers()), (422, vec!["/recipient"]));
    assert_eq!(acknowledge(&stage, &id, json!({"recipient": "ada"})).await.body["canceled_count"], 1);
    stage.drain().await;
    assert_eq!(addressees(&stage), ["bob@example.org"]);
    pass_minutes(&stage, 10).await;
    assert_eq!(stage.escalate().await.notifications, 1);
    pass_minutes(&stage, 10).await;
    assert_eq!(stage.escalate().await.unreached, 1, "ada has acknowledged already");
    let shown = show(&stage, &id).await;
    assert_eq!((&shown["state"], steps(&shown)[2].4), (&json!("open"), Some("all_acknowledged")));
    let whole = acknowledge(&stage, &id, json!({"recipient": "bob"})).await.body;
    assert_eq!(whole["escalation"]["state"], "acknowledged");
    assert_eq!(whole["escalation"]["acknowledgements"].as_array().expect("a list").len(), 2);
    stage.drain().await;
    stage.finish().await;
}

/// Whoever has acknowledged keeps nobody waiting whose own mail has failed.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn where_each_is_needed_a_tier_that_failed_with_all_who_have_not_acknowledged_is_not_waited_for(pool: PgPool) {
    let stage = begin(pool).await;
    let tiers = json!([{"channels": ["email"]}, {"channels": ["push"], "after": "PT30M"}]);
    let policy = json!({
        "category": "greeting", "acknowledgement": "each",
        "steps": [{"recipients": ["ada", "bob"], "tiers": tiers}], "exhausted_after": "PT2H",
    });
    stage.put(TENANT, "/v1/escalation-policies/{key}", "critical", policy).await;
    let refused = || SendOutcome::Rejected(ProviderError { code: "MessageRejected".into(), detail: "no".into() });
    stage.mail.script("bob@example.org", [refused as fn() -> SendOutcome]);
    // The first one's mail is the one that is refused.
    let id = start(&stage).await;
    stage.drain().await;
    let patient = start(&stage).await;
    stage.drain().await;
    assert_eq!(stage.escalate().await, Default::default(), "ada's mail has arrived, and she may answer");
    for id in [&id, &patient] {
        acknowledge(&stage, id, json!({"recipient": "ada"})).await;
    }
    assert_eq!(stage.escalate().await.unreached, 1, "bob's has failed, which is not waited for");
    assert_eq!(steps(&show(&stage, &id).await), [(0, 1, 1, 2, None), (0, 1, 2, 0, Some("no_channel"))]);
    assert_eq!(show(&stage, &patient).await["tier"], 1, "bob's mail has arrived there");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn where_each_is_needed_nobody_waits_for_who_was_erased(pool: PgPool) {
    let stage = begin(pool).await;
    let policy = json!({"category": "greeting", "acknowledgement": "each", "steps": [{"recipients": ["ada", "bob"]}]});
    stage.put(TENANT, "/v1/escalation-policies/{key}", "critical", policy).await;
    let id = start(&stage).await;
    stage.drain().await;
    erase(&stage, "ada").await;
    let answer = acknowledge(&stage, &id, json!({"recipient": "bob"})).await.body;
    assert_eq!(answer["escalation"]["state"], "acknowledged");
    stage.finish().await;
}

/// A stage with an escalation that each of ada and bob has to acknowledge before carol is told, an hour later.
async fn begin_for_each(pool: PgPool) -> (Stage, String) {
    let stage = begin(pool).await;
    stage.put(TENANT, "/v1/recipients/{id}", "carol", json!({"email": "carol@example.org"})).await;
    let policy = json!({
        "category": "greeting", "acknowledgement": "each",
        "steps": [{"recipients": ["ada", "bob"]}, {"delay": "PT1H", "recipients": ["carol"]}],
    });
    stage.put(TENANT, "/v1/escalation-policies/{key}", "critical", policy).await;
    let id = start(&stage).await;
    stage.drain().await;
    (stage, id)
}

async fn erase(stage: &Stage, recipient: &str) {
    assert_eq!(stage.call(TENANT, "DELETE /v1/recipients/{id}", Some(recipient), "", "").await.status, 204);
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn where_the_last_who_has_not_acknowledged_is_erased_the_others_word_is_enough(pool: PgPool) {
    let (stage, id) = begin_for_each(pool).await;
    acknowledge(&stage, &id, json!({"recipient": "ada"})).await;
    assert_eq!(stage.escalate().await.acknowledged, 0, "bob is waited for");
    erase(&stage, "bob").await;
    let counts = stage.escalate().await;
    assert_eq!((counts.acknowledged, counts.fired), (1, 0), "by the next run");
    let shown = show(&stage, &id).await;
    assert_eq!((&shown["state"], &shown["acknowledged"]["by"]), (&json!("acknowledged"), &json!("ada")));
    told(&stage).await;
    let events = stage.bus.events();
    let whole =
        events.iter().find(|event| event.detail_type == "escalation.acknowledged" && event.detail["is_whole"] == true);
    assert_eq!(whole.expect("it is told").detail["via"], "erasure");
    pass_minutes(&stage, 600).await;
    assert_eq!(stage.escalate().await, Default::default(), "carol is told nothing");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn where_nobody_is_left_and_nobody_has_acknowledged_the_next_step_fires_at_once(pool: PgPool) {
    let (stage, id) = begin_for_each(pool).await;
    erase(&stage, "ada").await;
    assert_eq!(stage.escalate().await.fired, 0, "bob may still acknowledge");
    erase(&stage, "bob").await;
    assert_eq!(stage.escalate().await.fired, 1);
    assert_eq!(show(&stage, &id).await["level"], 2);
    stage.drain().await;
    stage.finish().await;
}

/// Whoever has the row is at its turn, and may wait for whom is being erased.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_erasure_waits_for_no_escalation_whose_next_turn_decides_the_same(pool: PgPool) {
    let (stage, id) = begin_for_each(pool.clone()).await;
    acknowledge(&stage, &id, json!({"recipient": "ada"})).await;
    let mut firing = pool.begin().await.expect("a transaction");
    sqlx::query("SELECT FROM harkara.escalations FOR UPDATE").execute(&mut *firing).await.expect("locked");
    erase(&stage, "bob").await;
    firing.rollback().await.expect("let go");
    assert_eq!(stage.escalate().await, Default::default(), "it is not due");
    pass_minutes(&stage, 60).await;
    let counts = stage.escalate().await;
    assert_eq!((counts.acknowledged, counts.fired), (1, 0));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_is_resolved_is_over_and_what_is_exhausted_can_still_be_answered(pool: PgPool) {
    let stage = begin(pool).await;
    let (early, late) = (start(&stage).await, start(&stage).await);
    let answer = resolve(&stage, &early).await;
    assert_eq!((&answer.body["is_first"], &answer.body["canceled_count"]), (&json!(true), &json!(1)));
    assert_eq!(resolve(&stage, &early).await.body["is_first"], false);
    assert_eq!(acknowledge(&stage, &early, json!({})).await.body["escalation"]["state"], "resolved");
    for _ in 0..2 {
        pass_minutes(&stage, 90).await;
        stage.escalate().await;
    }
    assert_eq!(show(&stage, &late).await["state"], "exhausted");
    let shown = acknowledge(&stage, &late, json!({})).await.body["escalation"].clone();
    assert_eq!((&shown["state"], &shown["finished_at"]), (&json!("acknowledged"), &json!(null)));
    assert_eq!(resolve(&stage, &late).await.body["escalation"]["state"], "resolved");
    let none = stage.call(TENANT, "POST /v1/escalations/{id}/resolve", Some("esc_nonsense"), "", "").await;
    assert_eq!(none.status, 404);
    stage.drain().await;
    Stage::finish(stage).await;
}
