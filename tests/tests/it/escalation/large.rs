//! Very many recipients and much data: bounded in a function's memory and in what is answered, and whole all the same.

use super::{begin, pass_minutes, put_policy, show};
use adapters::wire::escalations::MAX_DATA_BYTES;
use serde_json::{Value, json};
use sqlx::PgPool;
use tests::{Answer, Stage, TENANT};

/// How many have the role.
const CREW: usize = 1000;
/// The most that a function answers with, in bytes; Lambda refuses 6 MB.
const ANSWER: usize = 256 * 1024;

/// A stage where the first step of `critical` is for all of the crew.
async fn begin_with_crew(pool: PgPool, delay: Option<&str>) -> Stage {
    let stage = begin(pool).await;
    let hire = "INSERT INTO harkara.recipients (tenant_id, recipient_id, email, roles)
                SELECT $1::uuid, 'crew-' || lpad(n::text, 4, '0'), n || '@example.org', '{crew}'
                FROM generate_series(1, $2) n";
    sqlx::query(hire).bind(TENANT).bind(CREW as i64).execute(&stage.admin).await.expect("hired");
    put_policy(&stage, json!([{"recipients": ["role:crew"], "delay": delay}])).await;
    stage
}

async fn start_large(stage: &Stage) -> Answer {
    let name = "a".repeat(MAX_DATA_BYTES - r#"{"name":""}"#.len());
    let body = json!({"policy": "critical", "data": {"name": name}});
    let answer = stage.call(TENANT, "POST /v1/escalations", None, "", &body.to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

async fn count_whole(stage: &Stage) -> i64 {
    let whole = "SELECT count(DISTINCT (n.metadata ->> 'escalation_id', n.recipient_id)) FROM harkara.notifications n
                 JOIN harkara.escalation_notifications e USING (tenant_id, notification_id)
                 JOIN harkara.deliveries d USING (tenant_id, notification_id)
                 WHERE octet_length(n.data ->> 'name') > 16000 AND n.data #>> '{escalation,level}' = '1'";
    stage.count(whole).await
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_most_data_for_the_most_recipients_is_stored_with_the_request_and_shown_in_part(pool: PgPool) {
    let stage = begin_with_crew(pool, None).await;
    let answer = start_large(&stage).await;
    assert_eq!(count_whole(&stage).await, 1000, "each has a whole copy");
    let id = answer.body["escalation"]["id"].as_str().expect("an id").to_owned();
    let shown = show(&stage, &id).await;
    assert_eq!(answer.body["escalation"], shown);
    let step = &shown["steps"][0];
    let listed = |name: &str| step[name].as_array().expect("a list").len();
    assert_eq!((listed("recipients"), &step["recipient_count"]), (100, &json!(1000)));
    assert_eq!((listed("notifications"), &step["notification_count"]), (100, &json!(1000)));
    assert_eq!(
        (&step["recipients"][99], &step["notifications"][99]["recipient"]),
        (&json!("crew-0100"), &json!("crew-0100"))
    );
    let resolved = stage.call(TENANT, "POST /v1/escalations/{id}/resolve", Some(&id), "", "").await;
    assert_eq!(resolved.body["canceled_count"], 1000, "of all, shown or not");
    assert!(resolved.body.to_string().len() < ANSWER, "{} bytes", resolved.body.to_string().len());
    stage.leave_work();
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn more_than_one_transaction_takes_is_fired_in_one_run_and_once(pool: PgPool) {
    let stage = begin_with_crew(pool, Some("PT5M")).await;
    for _ in 0..2 {
        start_large(&stage).await;
    }
    pass_minutes(&stage, 5).await;
    let counts = stage.escalate().await;
    assert_eq!((counts.fired, counts.notifications, counts.put_off), (2, 2000, 0));
    assert_eq!(stage.escalate().await.fired, 0, "once");
    assert_eq!(count_whole(&stage).await, 2000);
    stage.leave_work();
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_list_has_counts_in_place_of_what_each_says_and_has_fired(pool: PgPool) {
    let stage = begin_with_crew(pool, Some("PT5M")).await;
    start_large(&stage).await;
    let list = async || stage.call(TENANT, "GET /v1/escalations", None, "", "").await.body["escalations"][0].clone();
    let counts = |entry: &Value| {
        ["step_count", "notification_count", "acknowledgement_count"].map(|name| entry[name].as_i64().expect("a count"))
    };
    assert_eq!(counts(&list().await), [0, 0, 0]);
    pass_minutes(&stage, 5).await;
    stage.escalate().await;
    let entry = list().await;
    assert_eq!(counts(&entry), [1, 1000, 0]);
    assert!(entry.to_string().len() < 1000, "{entry}");
    let id = entry["id"].as_str().expect("an id");
    let shown = show(&stage, id).await;
    assert_eq!(counts(&shown), [1, 1000, 0]);
    let in_list = entry.as_object().expect("an object").iter();
    assert!(in_list.into_iter().all(|(name, value)| shown[name] == *value), "the list says nothing else");
    stage.leave_work();
}

/// The steps of the newest rounds are shown, and the acknowledgements that came first.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn of_very_many_steps_the_last_are_shown_and_of_very_many_acknowledgements_the_first(pool: PgPool) {
    let stage = begin_with_crew(pool, Some("PT5M")).await;
    let id = start_large(&stage).await.body["escalation"]["id"].as_str().expect("an id").to_owned();
    let history = "WITH one AS (SELECT tenant_id, escalation_id FROM harkara.escalations),
                   acknowledged AS (
                       INSERT INTO harkara.escalation_acknowledgements (tenant_id, escalation_id, recipient_id)
                       SELECT o.*, 'crew-' || lpad(n::text, 4, '0') FROM one o, generate_series(1, 150) n)
                   INSERT INTO harkara.escalation_steps
                       (tenant_id, escalation_id, repeat_number, level, tier, recipients, reached_count, reason)
                   SELECT o.*, r, l, 1, '{}', 0, 'no_recipients' FROM one o, generate_series(0, 10) r, generate_series(1, 20) l";
    sqlx::query(history).execute(&stage.admin).await.expect("stored");
    let shown = show(&stage, &id).await;
    let steps = shown["steps"].as_array().expect("a list");
    assert_eq!((steps.len(), &shown["step_count"]), (100, &json!(220)));
    assert_eq!((&steps[0]["repeat"], &steps[0]["level"]), (&json!(6), &json!(1)));
    assert_eq!((&steps[99]["repeat"], &steps[99]["level"]), (&json!(10), &json!(20)));
    let acknowledgements = shown["acknowledgements"].as_array().expect("a list");
    assert_eq!((acknowledgements.len(), &shown["acknowledgement_count"]), (100, &json!(150)));
    assert_eq!(acknowledgements[0]["recipient"], "crew-0001");
    Stage::leave_work(stage);
}
