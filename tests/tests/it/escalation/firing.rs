//! What fires when, to whom, and once.

use super::{addressees, begin, pass_minutes, put_policy, show, start, steps, told};
use domain::outcome::{ProviderError, SendOutcome};
use flow::escalation::{Escalation, EscalationCounts};
use flow::progress::Progress;
use serde_json::json;
use sqlx::PgPool;
use std::time::{Duration, Instant};
use tests::{OTHER_TENANT, Stage, TENANT};

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn it_goes_up_level_by_level_until_nobody_is_left(pool: PgPool) {
    let stage = begin(pool).await;
    let template = json!({
        "variables": {
            "name": {"type": "string", "example": "Grace"},
            "escalation": {"type": "object", "example": {"level": 1, "policy": "critical"}},
        },
        "subject": "{{ name }}: level {{ escalation.level }} of {{ escalation.policy }}", "text": "Dear {{ name }}",
    });
    stage.publish(TENANT, "greeting", template).await;
    let id = start(&stage).await;
    stage.drain().await;
    assert_eq!(addressees(&stage), ["ada@example.org"], "at once, and not by the next run");
    assert_eq!(stage.mail.asked()[0].subject.as_str(), "Ada: level 1 of critical");

    pass_minutes(&stage, 29).await;
    assert_eq!(stage.escalate().await, EscalationCounts::default(), "its time has not come");
    pass_minutes(&stage, 1).await;
    assert_eq!(stage.escalate().await, EscalationCounts { fired: 1, notifications: 1, ..Default::default() });
    assert_eq!(stage.escalate().await, EscalationCounts::default(), "once");
    stage.drain().await;
    assert_eq!(addressees(&stage), ["ada@example.org", "bob@example.org"]);

    let shown = show(&stage, &id).await;
    assert_eq!(steps(&shown), [(0, 1, 1, 1, None), (0, 2, 1, 1, None)]);
    let notification = shown["steps"][1]["notifications"][0]["id"].as_str().expect("an id");
    let metadata = &stage.show(notification).await["metadata"];
    assert_eq!(*metadata, json!({"escalation_id": id, "level": 2}), "the delivery says what caused it");

    pass_minutes(&stage, 60).await;
    assert_eq!(stage.escalate().await.exhausted, 1);
    let shown = show(&stage, &id).await;
    assert_eq!((&shown["state"], &shown["next_step_at"]), (&json!("exhausted"), &json!(null)));
    let expected = ["started", "step_fired", "step_fired", "exhausted"].map(|name| format!("escalation.{name}"));
    assert_eq!(told(&stage).await, expected);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn two_functions_at_the_same_instant_fire_each_step_once(pool: PgPool) {
    let stage = begin(pool).await;
    for _ in 0..20 {
        start(&stage).await;
    }
    pass_minutes(&stage, 30).await;
    let other = Escalation { database: tests::database_of(&stage.admin), queue: stage.queue.clone() };
    let deadline = Instant::now() + Duration::from_secs(30);
    let untold = Progress::untold();
    let (one, two) = tokio::join!(stage.escalation.run(deadline, &untold), other.run(deadline, &untold));
    assert_eq!(one.expect("run").fired + two.expect("run").fired, 20);
    let twice = "SELECT count(*) FROM (SELECT FROM harkara.notifications WHERE recipient_id = 'bob'
                 GROUP BY metadata HAVING count(*) > 1) twice";
    assert_eq!(stage.count(twice).await, 0);
    assert_eq!(stage.count("SELECT count(*) FROM harkara.notifications WHERE recipient_id = 'bob'").await, 20);
    stage.drain().await;
    stage.finish().await;
}

/// Nothing of a step is there without all of it: what dies before its commit fires by the next run.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_the_queue_does_not_take_leaves_all_the_same(pool: PgPool) {
    let stage = begin(pool).await;
    start(&stage).await;
    stage.drain().await;
    pass_minutes(&stage, 30).await;
    stage.queue.refuse(true);
    assert_eq!(stage.escalate().await.fired, 1);
    stage.queue.refuse(false);
    assert_eq!(stage.escalate().await.fired, 0);
    pass_minutes(&stage, 1).await;
    stage.dispatch().await;
    stage.drain().await;
    assert_eq!(addressees(&stage), ["ada@example.org", "bob@example.org"]);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn after_three_hours_without_a_run_levels_come_one_by_one_at_their_distances(pool: PgPool) {
    let stage = begin(pool).await;
    let third = json!({"delay": "PT20M", "recipients": ["ada", "bob"]});
    let second = json!({"delay": "PT30M", "recipients": ["manager"]});
    put_policy(&stage, json!([{"recipients": ["ada"]}, second, third])).await;
    let id = start(&stage).await;
    pass_minutes(&stage, 180).await;
    let mut levels = Vec::new();
    for (passed, fired) in [(0, 1), (0, 0), (19, 0), (1, 1), (0, 0)] {
        pass_minutes(&stage, passed).await;
        assert_eq!(stage.escalate().await.fired, fired, "after {passed} more minutes");
        levels.push(show(&stage, &id).await["level"].as_i64().expect("a level"));
    }
    assert_eq!(levels, [2, 2, 2, 3, 3], "none is left out");
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_step_that_reaches_nobody_is_told_and_the_next_fires_at_once(pool: PgPool) {
    let stage = begin(pool).await;
    let cleo = |roles: &[&str]| json!({"email": "cleo@example.org", "roles": roles});
    stage.put(TENANT, "/v1/recipients/{id}", "cleo", cleo(&["CAE"])).await;
    let nobody = json!({"delay": "PT10M", "recipients": ["role:CAE"]});
    let next = json!({"delay": "PT1H", "recipients": ["bob"]});
    put_policy(&stage, json!([{"recipients": ["ada"]}, nobody, next])).await;
    let id = start(&stage).await;
    stage.put(TENANT, "/v1/recipients/{id}", "cleo", cleo(&[])).await;
    pass_minutes(&stage, 10).await;
    let counts = stage.escalate().await;
    assert_eq!((counts.unreached, counts.fired), (1, 1), "in one run");
    let shown = show(&stage, &id).await;
    assert_eq!(steps(&shown), [(0, 1, 1, 1, None), (0, 2, 1, 0, Some("no_recipients")), (0, 3, 1, 1, None)]);
    told(&stage).await;
    let events = stage.bus.events();
    let fired = events.iter().filter(|event| event.detail_type == "escalation.step_fired");
    let reasons: Vec<_> = fired.map(|event| event.detail["reason"].clone()).collect();
    assert_eq!(reasons, [json!(null), json!("no_recipients"), json!(null)]);
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_tier_that_cannot_be_sent_is_passed_over_and_one_that_failed_too(pool: PgPool) {
    let stage = begin(pool).await;
    let tiers = json!([
        {"channels": ["sms"]}, {"channels": ["email"], "after": "PT10M"}, {"channels": ["push"], "after": "PT10M"},
    ]);
    let next = json!({"delay": "PT30M", "recipients": ["bob"]});
    put_policy(&stage, json!([{"recipients": ["ada"], "tiers": tiers}, next])).await;
    let refused = || SendOutcome::Rejected(ProviderError { code: "MessageRejected".into(), detail: "no".into() });
    stage.mail.script("ada@example.org", [refused as fn() -> SendOutcome]);
    let id = start(&stage).await;
    stage.escalate().await;
    assert_eq!(steps(&show(&stage, &id).await), [(0, 1, 1, 0, Some("no_channel")), (0, 1, 2, 1, None)]);
    assert_eq!(stage.escalate().await.unreached, 0, "silence is not over, and nothing has failed");
    stage.drain().await;
    assert_eq!(stage.escalate().await.unreached, 1, "the mail has failed, which is not waited for");
    let shown = show(&stage, &id).await;
    assert_eq!(steps(&shown)[2], (0, 1, 3, 0, Some("no_channel")));
    pass_minutes(&stage, 29).await;
    assert_eq!(stage.escalate().await.fired, 0, "the next level keeps its time");
    pass_minutes(&stage, 1).await;
    assert_eq!(stage.escalate().await.fired, 1);
    stage.drain().await;
    stage.finish().await;
}

/// A policy's steps keep their times; what is for failures are tiers.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_step_of_which_all_has_failed_leaves_the_next_one_its_time(pool: PgPool) {
    let stage = begin(pool).await;
    let refused = || SendOutcome::Rejected(ProviderError { code: "MessageRejected".into(), detail: "no".into() });
    stage.mail.script("ada@example.org", [refused as fn() -> SendOutcome]);
    let id = start(&stage).await;
    stage.drain().await;
    for minutes in [0, 29] {
        pass_minutes(&stage, minutes).await;
        assert_eq!(stage.escalate().await, EscalationCounts::default(), "after {minutes} minutes");
    }
    pass_minutes(&stage, 1).await;
    assert_eq!(stage.escalate().await.fired, 1);
    assert_eq!(steps(&show(&stage, &id).await), [(0, 1, 1, 1, None), (0, 2, 1, 1, None)]);
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn it_begins_anew_as_often_as_its_policy_says(pool: PgPool) {
    let stage = begin(pool).await;
    let policy = json!({
        "category": "greeting", "steps": [{"recipients": ["ada"]}, {"delay": "PT10M", "recipients": ["manager"]}],
        "repeat": {"count": 1, "interval": "PT2H"}, "exhausted_after": "PT5M",
    });
    stage.put(TENANT, "/v1/escalation-policies/{key}", "critical", policy).await;
    let id = start(&stage).await;
    for (minutes, fired, exhausted) in [(10, 1, 0), (119, 0, 0), (1, 1, 0), (10, 1, 0), (4, 0, 0), (1, 0, 1)] {
        pass_minutes(&stage, minutes).await;
        let counts = stage.escalate().await;
        assert_eq!((counts.fired, counts.exhausted), (fired, exhausted), "after {minutes} more minutes");
    }
    let places: Vec<_> = steps(&show(&stage, &id).await).into_iter().map(|step| (step.0, step.1)).collect();
    assert_eq!(places, [(0, 1), (0, 2), (1, 1), (1, 2)]);
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn whoever_has_a_role_is_told_with_those_who_are_named_each_once(pool: PgPool) {
    let stage = begin(pool).await;
    for id in ["cleo", "dan"] {
        let body = json!({"email": format!("{id}@example.org"), "roles": ["CAE"]});
        stage.put(TENANT, "/v1/recipients/{id}", id, body).await;
    }
    put_policy(&stage, json!([{"recipients": ["role:CAE", "dan", "ada"]}])).await;
    start(&stage).await;
    stage.drain().await;
    let mut sent = addressees(&stage);
    sent.sort();
    assert_eq!(sent, ["ada@example.org", "cleo@example.org", "dan@example.org"]);
    Stage::finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_one_escalation_has_asked_for_is_listed_by_itself(pool: PgPool) {
    let stage = begin(pool).await;
    let (one, other) = (start(&stage).await, start(&stage).await);
    stage.drain().await;
    pass_minutes(&stage, 30).await;
    stage.escalate().await;
    stage.drain().await;
    stage.post(Stage::greeting("lin@example.org")).await;
    stage.drain().await;
    let list = async |tenant: &str, query: &str| {
        let page = stage.call(tenant, "GET /v1/notifications", None, query, "").await;
        assert_eq!(page.status, 200, "{query}: {page:?}");
        let rows = page.body["notifications"].as_array().expect("a list").clone();
        let mut ids: Vec<_> = rows.iter().map(|row| row["id"].as_str().expect("an id").to_owned()).collect();
        ids.sort();
        ids
    };
    for id in [&one, &other] {
        let shown = show(&stage, id).await;
        let asked = |step: usize| shown["steps"][step]["notifications"][0]["id"].as_str().expect("an id").to_owned();
        let mut expected = [asked(0), asked(1)];
        expected.sort();
        assert_eq!(list(TENANT, &format!("escalation={id}")).await, expected);
        let to_bob = list(TENANT, &format!("escalation={id}&recipient=bob&channel=email&state=sent")).await;
        assert_eq!(to_bob, [asked(1)], "together with others");
        assert!(list(OTHER_TENANT, &format!("escalation={id}")).await.is_empty());
    }
    assert_eq!(list(TENANT, "").await.len(), 5);
    stage.finish().await;
}
