//! How escalations begin: asked for, each key once, and within another's transaction.

use super::{acknowledge, ask_to_start, begin, put_policy, show, start, told};
use adapters::wire::escalations::StartBody;
use adapters::wire::routes::Route;
use domain::id::{EscalationKey, PolicyKey, TenantId};
use flow::escalation::{Start, StartRefusal, start_within};
use serde_json::{Value, json};
use sqlx::PgPool;
use tests::{Ask, OTHER_TENANT, Stage, TENANT};

fn ask(policy: &str, key: Option<&str>) -> Start {
    let body = StartBody {
        policy: PolicyKey::parse(policy).expect("a key"),
        key: key.map(|key| EscalationKey::parse(key).expect("a key")),
        data: json!({"name": "Ada"}),
    };
    body.into()
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn of_each_key_one_is_open_at_a_time(pool: PgPool) {
    let stage = begin(pool).await;
    let (one, other) = tokio::join!(ask_to_start(&stage, Some("obs-42")), ask_to_start(&stage, Some("obs-42")));
    let id = |answer: &tests::Answer| answer.body["escalation"]["id"].as_str().expect("an id").to_owned();
    assert_eq!(id(&one), id(&other));
    let news: Vec<_> = [&one, &other].iter().filter(|answer| answer.body["is_new"] == true).map(|_| ()).collect();
    assert_eq!(news.len(), 1);
    stage.drain().await;
    assert_eq!(stage.mail.count("ada@example.org"), 1, "its first step fired once");

    assert_eq!(acknowledge(&stage, &id(&one), json!({})).await.status, 200);
    let next = ask_to_start(&stage, Some("obs-42")).await;
    assert_ne!(id(&next), id(&one), "the first is not open any more");
    let of_key = async |key: &str| {
        let found = stage.call(TENANT, "GET /v1/escalations", None, &format!("key={key}"), "").await.body;
        let entries = found["escalations"].as_array().expect("a list").iter();
        entries.map(|entry| entry["id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of_key("obs-42").await, [id(&next), id(&one)], "both are found by their key, the newest first");
    assert!(of_key("obs-4").await.is_empty());
    assert_eq!(told(&stage).await.iter().filter(|name| *name == "escalation.started").count(), 2);
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_same_request_starts_one_and_a_bad_one_none(pool: PgPool) {
    let stage = begin(pool).await;
    let mut ask =
        Ask::of(Route::StartEscalation, TENANT).with_body(&json!({"policy": "critical", "data": {"name": "Ada"}}));
    ask.headers.insert("idempotency-key".to_owned(), "once".to_owned());
    let (first, again) = (stage.ask(&ask).await, stage.ask(&ask).await);
    assert_eq!(first.body, again.body);
    assert_eq!(again.headers["idempotent-replayed"], "true");
    let table: [(Value, &str); 6] = [
        (json!({"policy": "critical", "data": {"name": 7}}), "/data/name"),
        (json!({"policy": "nonsense"}), "/policy"),
        (json!({}), "/policy"),
        (json!({"policy": "critical", "key": " "}), "/key"),
        (json!({"policy": "critical", "data": {"escalation": 1}}), "/data/escalation"),
        (json!({"policy": "critical", "data": {"name": "a".repeat(16 * 1024)}}), "/data"),
    ];
    for (body, pointer) in table {
        let answer = stage.call(TENANT, "POST /v1/escalations", None, "", &body.to_string()).await;
        assert_eq!((answer.status, answer.pointers()), (422, vec![pointer]), "{body}");
    }
    assert_eq!(stage.count("SELECT count(*) FROM harkara.escalations").await, 1);
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_runs_keeps_the_policy_that_it_began_with(pool: PgPool) {
    let stage = begin(pool).await;
    let id = start(&stage).await;
    put_policy(&stage, json!([{"recipients": ["bob"]}])).await;
    stage.call(TENANT, "DELETE /v1/escalation-policies/{key}", Some("critical"), "", "").await;
    super::pass_minutes(&stage, 30).await;
    assert_eq!(stage.escalate().await.fired, 1);
    let shown = show(&stage, &id).await;
    assert_eq!(shown["definition"]["steps"].as_array().expect("steps").len(), 2);
    assert_eq!(shown["steps"][1]["recipients"], json!(["bob"]), "as ada's manager");
    stage.drain().await;
    stage.finish().await;
}

/// As an overdue deadline does it.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_leads_to_an_escalation_starts_it_within_its_own_transaction(pool: PgPool) {
    let stage = begin(pool).await;
    let tenant = TenantId::parse(TENANT).expect("an id");
    let asked = [ask("critical", Some("d-1")), ask("nonsense", None), ask("critical", Some("d-1"))];
    let mut transaction = stage.escalation.database.begin(tenant, "reminder").await.expect("begun");
    start_within(&mut transaction, &asked).await.expect("started");
    transaction.roll_back().await.expect("rolled back");
    assert_eq!(stage.count("SELECT count(*) FROM harkara.escalations").await, 0, "neither happened");

    let mut transaction = stage.escalation.database.begin(tenant, "reminder").await.expect("begun");
    let started = start_within(&mut transaction, &asked).await.expect("started");
    transaction.commit().await.expect("committed");
    let first = started[0].expect("started");
    assert!(first.is_new);
    assert_eq!(started[1], Err(StartRefusal::UnknownPolicy));
    assert_eq!(started[2].map(|again| (again.id, again.is_new)), Ok((first.id, false)));
    assert_eq!(stage.escalate().await.fired, 1, "by the next run");
    stage.drain().await;
    assert_eq!(stage.mail.count("ada@example.org"), 1);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn another_tenant_has_no_part_in_it(pool: PgPool) {
    let stage = begin(pool).await;
    let id = start(&stage).await;
    for route in
        ["GET /v1/escalations/{id}", "POST /v1/escalations/{id}/acknowledge", "POST /v1/escalations/{id}/resolve"]
    {
        assert_eq!(stage.call(OTHER_TENANT, route, Some(&id), "", "").await.status, 404, "{route}");
    }
    let theirs = stage.call(OTHER_TENANT, "GET /v1/escalations", None, "state=open", "").await.body;
    assert_eq!(theirs["escalations"], json!([]));
    let ours = stage.call(TENANT, "GET /v1/escalations", None, "state=open", "").await.body;
    assert_eq!(ours["escalations"][0]["id"], id.as_str());
    let none = stage.call(TENANT, "GET /v1/escalations", None, "state=resolved", "").await.body;
    assert_eq!(none["escalations"], json!([]));
    stage.drain().await;
    stage.finish().await;
}

/// What an open one says is for the others, until somebody answers it.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_an_open_one_said_to_somebody_who_was_erased_goes_when_it_is_answered(pool: PgPool) {
    let stage = begin(pool).await;
    let mut ask =
        Ask::of(Route::StartEscalation, TENANT).with_body(&json!({"policy": "critical", "data": {"name": "canary"}}));
    ask.headers.insert("idempotency-key".to_owned(), "once".to_owned());
    let id = stage.ask(&ask).await.body["escalation"]["id"].as_str().expect("an id").to_owned();
    stage.drain().await;
    assert_eq!(stage.call(TENANT, "DELETE /v1/recipients/{id}", Some("ada"), "", "").await.status, 204);
    assert_eq!(stage.count("SELECT count(*) FROM harkara.idempotency_keys").await, 0, "no answer shows it");
    assert_eq!(show(&stage, &id).await["data"]["name"], "canary", "bob may still need it");
    assert_eq!(acknowledge(&stage, &id, json!({})).await.status, 200);
    assert_eq!(show(&stage, &id).await["data"], json!({}));
    // Without anybody who was erased nothing is forgotten.
    put_policy(&stage, json!([{"recipients": ["bob"]}])).await;
    let id = start(&stage).await;
    acknowledge(&stage, &id, json!({})).await;
    assert_eq!(show(&stage, &id).await["data"]["name"], "Ada");
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn whoever_is_erased_is_told_nothing_more_and_leads_to_nobody(pool: PgPool) {
    let stage = begin(pool).await;
    let id = start(&stage).await;
    stage.drain().await;
    acknowledge(&stage, &id, json!({"recipient": "ada"})).await;
    assert_eq!(stage.call(TENANT, "DELETE /v1/recipients/{id}", Some("ada"), "", "").await.status, 204);
    assert_eq!(show(&stage, &id).await["data"], json!({}), "it was said to ada, and is over");
    let managed = "SELECT count(*) FROM harkara.recipients WHERE manager_id IS NOT NULL";
    assert_eq!(stage.count(managed).await, 0);
    Stage::finish(stage).await;
}
