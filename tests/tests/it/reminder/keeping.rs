//! What nobody completes goes by retention, too: once it has passed, and nothing of what it does is to come.

use super::overdue::{begin, escalating, escalation_of};
use super::{DUE, complete, deadline, finish, get, move_to, plan, put_well};
use crate::escalation::show;
use flow::progress::Progress;
use serde_json::{Value, json};
use sqlx::PgPool;
use std::time::{Duration, Instant};
use tests::{Stage, TENANT};

const DAY: Duration = Duration::from_secs(86_400);

/// A stage whose tenant keeps what has ended for 30 days, and what is of the category `visits` for seven.
async fn begin_keeping(pool: PgPool) -> Stage {
    let stage = begin(pool).await;
    let retention = json!({"retention": {"default_days": 30, "by_class": {"reminder": 7}}}).to_string();
    assert_eq!(stage.call(TENANT, "PUT /v1/settings", None, "", &retention).await.status, 200);
    stage.put(TENANT, "/v1/categories/{key}", "visits", json!({"class": "reminder", "template": "greeting"})).await;
    stage
}

/// A deadline of the category `visits`.
fn visit(rungs: Value) -> Value {
    let mut body = deadline(DUE, rungs);
    body["category"] = "visits".into();
    body
}

/// A deadline of the category `visits` that escalates when it has passed.
fn escalating_visit() -> Value {
    let mut body = escalating();
    body["category"] = "visits".into();
    body
}

async fn is_there(stage: &Stage, key: &str) -> bool {
    stage.call(TENANT, "GET /v1/deadlines/{key}", Some(key), "", "").await.status == 200
}

/// What is sent and told now, so that nothing is late.
async fn send_all(stage: &Stage) {
    stage.drain().await;
    stage.pass(Duration::from_secs(60)).await;
    stage.dispatch().await;
}

/// Lets it be a moment, has what is due then done and sent, and answers with how many deadlines have gone.
async fn maintain_at(stage: &Stage, moment: &str) -> u64 {
    move_to(stage, moment).await;
    stage.remind().await;
    stage.escalate().await;
    send_all(stage).await;
    let counts = stage.maintain().await;
    assert_eq!((counts.stranded, counts.failed), (0, 0), "{moment}: {counts:?}");
    counts.deadlines
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_has_passed_goes_by_the_days_of_its_class_after_the_last_that_it_did(pool: PgPool) {
    let stage = begin_keeping(pool).await;
    put_well(&stage, "before", &visit(json!([{"before": "P1D", "category": "greeting"}]))).await;
    put_well(&stage, "after", &visit(json!([{"before": "P1D"}, {"after": "P3D"}]))).await;
    let mut told = visit(Value::Null);
    told["overdue"] = json!({"category": "visits"});
    put_well(&stage, "told", &told).await;
    put_well(&stage, "task", &deadline(DUE, json!([{"before": "P1D"}]))).await;

    assert_eq!(maintain_at(&stage, "2027-06-14T12:00:00Z").await, 0);
    let reminder = get(&stage, "before").await["plan"][0]["notification_id"].as_str().expect("it fired").to_owned();
    for moment in ["2027-06-15T12:00:00Z", "2027-06-18T12:00:00Z", "2027-06-22T11:58:00Z"] {
        assert_eq!(maintain_at(&stage, moment).await, 0, "{moment}");
    }
    assert_eq!(get(&stage, "before").await["state"], "overdue");
    assert_eq!(maintain_at(&stage, "2027-06-22T12:00:00Z").await, 2, "a week after both were due");
    assert!(!is_there(&stage, "before").await && !is_there(&stage, "told").await);
    assert_eq!(complete(&stage, "before").await.status, 404);
    assert_eq!(stage.show(&reminder).await["id"], reminder.as_str(), "what it became is kept by its own class");
    assert_eq!(maintain_at(&stage, "2027-06-25T11:58:00Z").await, 0);
    assert_eq!(plan(&stage, "after").await, ["-P1D fired", "+P3D fired"]);
    assert_eq!(maintain_at(&stage, "2027-06-25T12:01:00Z").await, 1, "a week after its last reminder");
    assert_eq!(maintain_at(&stage, "2027-07-15T11:58:00Z").await, 0);
    assert_eq!(maintain_at(&stage, "2027-07-15T12:00:00Z").await, 1, "thirty days, of another class");
    let left = "SELECT (SELECT count(*) FROM harkara.deadlines) + (SELECT count(*) FROM harkara.rungs)";
    assert_eq!(stage.count(left).await, 0);
    let audited = "SELECT count(*) FROM harkara.audit_log WHERE operation = 'DELETE' AND actor = 'maintenance'
                   AND table_name IN ('deadlines', 'rungs')";
    assert_eq!(stage.count(audited).await, 4 + 5);
    finish(stage).await;
}

/// A run that is late, or a tenant that was suspended, has not done yet what is to be done.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_is_late_is_still_to_come_and_keeps_its_deadline(pool: PgPool) {
    let stage = begin_keeping(pool).await;
    put_well(&stage, "reminding", &visit(json!([{"after": "PT1H"}]))).await;
    put_well(&stage, "escalating", &escalating_visit()).await;
    move_to(&stage, "2027-08-01T12:00:00Z").await;
    assert_eq!(stage.maintain().await.deadlines, 0, "nothing ran for six weeks");
    let counts = stage.remind().await;
    assert_eq!((counts.fired, counts.escalated), (1, 1), "and yet all of it is done");
    send_all(&stage).await;
    assert_eq!(stage.maintain().await.deadlines, 0);
    assert_eq!(maintain_at(&stage, "2027-08-08T11:58:00Z").await, 0);
    assert_eq!(maintain_at(&stage, "2027-08-08T12:01:00Z").await, 1, "a week after its reminder");
    assert!(!is_there(&stage, "reminding").await && is_there(&stage, "escalating").await);
    assert_eq!(maintain_at(&stage, "2027-09-01T12:00:00Z").await, 0, "what began has ended only now");
    assert_eq!(maintain_at(&stage, "2027-09-08T12:00:00Z").await, 1);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_open_escalation_keeps_its_deadline_and_one_that_has_ended_does_for_the_days_of_its_class(pool: PgPool) {
    let stage = begin_keeping(pool).await;
    // Bob at once, carol after ten days, and both again.
    let policy = json!({
        "category": "greeting", "steps": [{"recipients": ["bob"]}, {"delay": "P10D", "recipients": ["carol"]}],
        "repeat": {"count": 1, "interval": "P10D"},
    });
    stage.put(TENANT, "/v1/escalation-policies/{key}", "critical", policy).await;
    put_well(&stage, "open", &escalating_visit()).await;
    put_well(&stage, "acknowledged", &escalating_visit()).await;
    assert_eq!(maintain_at(&stage, DUE).await, 0);
    let id = |escalation: &Value| escalation["id"].as_str().expect("an id").to_owned();
    let (open, acknowledged) =
        (id(&escalation_of(&stage, "open").await), id(&escalation_of(&stage, "acknowledged").await));
    move_to(&stage, "2027-06-20T12:00:00Z").await;
    let route = "POST /v1/escalations/{id}/acknowledge";
    assert_eq!(stage.call(TENANT, route, Some(&acknowledged), "", "").await.status, 200);
    assert_eq!(
        maintain_at(&stage, "2027-06-23T12:01:00Z").await,
        0,
        "nothing has happened for a week, and more is to come"
    );
    assert_eq!(maintain_at(&stage, "2027-06-25T12:01:00Z").await, 0, "ten days after it was due");
    assert_eq!(maintain_at(&stage, "2027-06-27T11:58:00Z").await, 0, "not a week after somebody came to it");
    assert_eq!(maintain_at(&stage, "2027-06-27T12:00:00Z").await, 1);
    assert!(!is_there(&stage, "acknowledged").await && is_there(&stage, "open").await);
    assert_eq!(show(&stage, &acknowledged).await["state"], "acknowledged", "kept by the class of its own category");

    for moment in ["2027-07-05T12:02:00Z", "2027-07-15T12:03:00Z"] {
        assert_eq!(maintain_at(&stage, moment).await, 0, "{moment}");
        assert_eq!(show(&stage, &open).await["state"], "open", "{moment}");
    }
    assert_eq!(maintain_at(&stage, "2027-07-15T14:00:00Z").await, 0);
    assert_eq!(show(&stage, &open).await["state"], "exhausted");
    assert_eq!(maintain_at(&stage, "2027-07-22T13:58:00Z").await, 0);
    assert_eq!(maintain_at(&stage, "2027-07-22T14:01:00Z").await, 1, "a week after it ended");
    assert_eq!(show(&stage, &open).await["state"], "exhausted");
    finish(stage).await;
}

/// Whoever completes it withdraws that.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_is_still_to_be_sent_keeps_its_deadline(pool: PgPool) {
    let stage = begin_keeping(pool).await;
    for key in ["completed", "sent"] {
        put_well(&stage, key, &visit(json!([{"after": "PT1H"}]))).await;
    }
    move_to(&stage, "2027-06-15T13:00:00Z").await;
    assert_eq!(stage.remind().await.fired, 2);
    move_to(&stage, "2027-07-01T12:00:00Z").await;
    assert_eq!(stage.maintain().await.deadlines, 0);
    assert_eq!(complete(&stage, "completed").await.body["canceled_delivery_count"], 1);
    send_all(&stage).await;
    assert_eq!(stage.mail.asked().len(), 1);
    assert_eq!(stage.maintain().await.deadlines, 1, "its own time is over");
    assert!(is_there(&stage, "completed").await && !is_there(&stage, "sent").await);
    stage.pass(7 * DAY).await;
    assert_eq!(stage.maintain().await.deadlines, 1, "a week after it was completed");
    finish(stage).await;
}

/// Whichever has the row first.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_is_put_again_while_it_would_go_stays(pool: PgPool) {
    let stage = begin_keeping(pool).await;
    put_well(&stage, "visit", &visit(json!([{"before": "P1D"}]))).await;
    move_to(&stage, "2027-06-14T12:00:00Z").await;
    stage.remind().await;
    send_all(&stage).await;
    move_to(&stage, "2027-07-15T12:00:00Z").await;
    let mut putting = stage.admin.begin().await.expect("a transaction");
    let put = "UPDATE harkara.deadlines SET due_at = '2027-08-01T12:00:00Z'";
    sqlx::query(put).execute(&mut *putting).await.expect("put");
    assert_eq!(stage.maintain().await.deadlines, 0, "it is passed over, and nobody waits");
    putting.commit().await.expect("committed");
    assert_eq!(stage.maintain().await.deadlines, 0);
    assert_eq!(get(&stage, "visit").await["state"], "open");
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn two_runs_at_once_take_each_once_and_all_of_a_backlog(pool: PgPool) {
    let stage = begin_keeping(pool).await;
    stage.lift_limits().await;
    for number in 0..50 {
        put_well(&stage, &format!("visit-{number}"), &visit(json!([{"before": "P1D"}]))).await;
        if number % 5 == 0 {
            complete(&stage, &format!("visit-{number}")).await;
        }
    }
    move_to(&stage, "2027-06-14T12:00:00Z").await;
    stage.remind().await;
    send_all(&stage).await;
    move_to(&stage, "2027-07-15T12:00:00Z").await;
    let deadline = Instant::now() + Duration::from_secs(60);
    let untold = Progress::untold();
    let (first, second) =
        tokio::join!(stage.maintenance.run(deadline, &untold), stage.maintenance.run(deadline, &untold));
    let (first, second) = (first.expect("maintained"), second.expect("maintained"));
    let rest = stage.maintain().await;
    assert_eq!(first.deadlines + second.deadlines + rest.deadlines, 50, "{first:?} {second:?} {rest:?}");
    assert_eq!(stage.count("SELECT count(*) FROM harkara.rungs").await, 0);
    let audited = "SELECT count(*) FROM harkara.audit_log WHERE operation = 'DELETE' AND table_name = 'deadlines'";
    assert_eq!(stage.count(audited).await, 50);
    finish(stage).await;
}
