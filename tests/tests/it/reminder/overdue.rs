//! A deadline that has passed starts one escalation by itself, and whoever is done with it stops that.

use super::{DUE, complete, deadline, finish, get, move_to, plan, put_well, see_wait};
use crate::escalation::{put_policy, show};
use adapters::store::deadlines::complete_deadline;
use domain::id::{DeadlineKey, TenantId};
use serde_json::{Value, json};
use sqlx::PgPool;
use std::time::Duration;
use tests::{Stage, TENANT};

/// A stage with a policy `critical`: bob at once, carol after an hour.
pub(super) async fn begin(pool: PgPool) -> Stage {
    let stage = Stage::begin(pool).await;
    move_to(&stage, "2027-06-01T00:00:00Z").await;
    for name in ["bob", "carol"] {
        let body = json!({"email": format!("{name}@example.org")});
        stage.put(TENANT, "/v1/recipients/{id}", name, body).await;
    }
    put_policy(&stage, json!([{"recipients": ["bob"]}, {"delay": "PT1H", "recipients": ["carol"]}])).await;
    stage
}

/// A deadline of ada that has no reminders.
pub(super) fn escalating() -> Value {
    let mut body = deadline(DUE, Value::Null);
    body["overdue"] = json!({"escalation_policy": "critical"});
    body
}

pub(super) async fn escalation_of(stage: &Stage, key: &str) -> Value {
    let shown = get(stage, key).await;
    assert_eq!(shown["escalation_note"], Value::Null, "{shown}");
    show(stage, shown["escalation_id"].as_str().expect("it began")).await
}

async fn count_escalations(stage: &Stage) -> i64 {
    stage.count("SELECT count(*) FROM harkara.escalations").await
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_overdue_deadline_starts_one_escalation_whose_first_step_leaves_at_once(pool: PgPool) {
    let stage = begin(pool).await;
    let mut body = escalating();
    body["recipients"] = json!(["ada", "bob", "carol"]);
    body["rungs"] = json!([{"before": "P1D"}]);
    body["overdue"] = json!({"category": "greeting", "escalation_policy": "critical"});
    let put = put_well(&stage, "observation-42", &body).await;
    assert_eq!((&put["overdue"], &put["escalation_id"]), (&body["overdue"], &Value::Null));
    move_to(&stage, "2027-06-14T12:00:00Z").await;
    let counts = stage.remind().await;
    assert_eq!((counts.fired, counts.escalated), (3, 0), "not before it has passed");
    stage.drain().await;

    move_to(&stage, DUE).await;
    let counts = stage.remind().await;
    assert_eq!((counts.fired, counts.escalated, counts.failed), (3, 1, 0), "all are told, and one begins");
    assert_eq!(stage.remind().await.escalated, 0, "once");
    let escalation = escalation_of(&stage, "observation-42").await;
    assert_eq!((&escalation["state"], &escalation["level"]), (&json!("open"), &json!(1)));
    let data = json!({"name": "Ada", "deadline": "observation-42", "due_at": DUE});
    assert_eq!(escalation["data"], data, "what the deadline says reaches its notifications");
    let before = stage.mail.count("bob@example.org");
    stage.drain().await;
    assert_eq!(stage.mail.count("bob@example.org") - before, 2, "that it is overdue, and the first step");

    stage.pass(Duration::from_secs(3600)).await;
    assert_eq!(stage.escalate().await.fired, 1, "it goes on like any other");
    stage.dispatch().await;
    let told: Vec<_> =
        stage.bus.events().into_iter().filter(|event| event.detail_type == "deadline.escalated").collect();
    assert_eq!(told.len(), 1);
    assert_eq!(
        (&told[0].detail["deadline"], &told[0].detail["escalation_id"]),
        (&json!("observation-42"), &escalation["id"])
    );
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn two_reminders_at_once_start_each_escalation_once(pool: PgPool) {
    let stage = begin(pool).await;
    stage.lift_limits().await;
    for number in 0..60 {
        put_well(&stage, &format!("d-{number}"), &escalating()).await;
    }
    move_to(&stage, DUE).await;
    let (first, second) = tokio::join!(stage.remind(), stage.remind());
    assert_eq!(first.escalated + second.escalated + stage.remind().await.escalated, 60, "{first:?} {second:?}");
    let linked = "SELECT count(DISTINCT d.escalation_id) FROM harkara.deadlines d JOIN harkara.escalations USING (escalation_id)";
    assert_eq!((count_escalations(&stage).await, stage.count(linked).await), (60, 60));
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn whatever_ends_an_overdue_deadline_resolves_its_escalation(pool: PgPool) {
    let stage = begin(pool).await;
    for key in ["completed", "deleted", "moved"] {
        put_well(&stage, key, &escalating()).await;
    }
    move_to(&stage, DUE).await;
    assert_eq!(stage.remind().await.escalated, 3);
    let mut ids = Vec::new();
    for key in ["completed", "deleted", "moved"] {
        ids.push(escalation_of(&stage, key).await["id"].as_str().expect("an id").to_owned());
    }
    let answer = complete(&stage, "completed").await;
    assert_eq!(answer.body["canceled_delivery_count"], 1, "its first step was not sent yet: {answer:?}");
    assert_eq!(answer.body["deadline"]["escalation_id"], ids[0].as_str());
    assert_eq!(complete(&stage, "completed").await.body["canceled_delivery_count"], 0);
    let delete = stage.call(TENANT, "DELETE /v1/deadlines/{key}", Some("deleted"), "", "").await;
    assert_eq!(delete.status, 204);
    let mut moved = escalating();
    moved["due_at"] = "2027-06-20T12:00:00Z".into();
    assert_eq!(put_well(&stage, "moved", &moved).await["escalation_id"], Value::Null);
    for id in &ids {
        assert_eq!(show(&stage, id).await["state"], "resolved");
    }
    stage.pass(Duration::from_secs(3600)).await;
    assert_eq!(stage.escalate().await.fired, 0);
    stage.drain().await;
    assert_eq!(stage.mail.asked().len(), 0, "nobody is told of what is done");

    move_to(&stage, "2027-06-20T12:00:00Z").await;
    assert_eq!(stage.remind().await.escalated, 1, "a new due time has an escalation of its own");
    assert_ne!(escalation_of(&stage, "moved").await["id"], ids[2].as_str());
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_is_completed_before_it_has_passed_never_escalates(pool: PgPool) {
    let stage = begin(pool).await;
    put_well(&stage, "done", &escalating()).await;
    complete(&stage, "done").await;
    move_to(&stage, DUE).await;
    assert_eq!((stage.remind().await.escalated, count_escalations(&stage).await), (0, 0));
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_is_completed_while_it_would_escalate_never_does(pool: PgPool) {
    let stage = begin(pool).await;
    put_well(&stage, "racing", &escalating()).await;
    move_to(&stage, DUE).await;
    let tenant = TenantId::parse(TENANT).expect("a tenant");
    let mut transaction = stage.api.database.begin(tenant, "tester").await.expect("begun");
    let key = DeadlineKey::parse("racing").expect("a key");
    complete_deadline(&mut transaction, &key).await.expect("completed").expect("it is there");
    assert_eq!(stage.remind().await.escalated, 0, "it is passed over, and nobody waits");
    transaction.commit().await.expect("committed");
    assert_eq!((stage.remind().await.escalated, count_escalations(&stage).await), (0, 0));
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_escalates_while_it_is_completed_or_moved_is_resolved(pool: PgPool) {
    let stage = begin(pool).await;
    put_well(&stage, "completed", &escalating()).await;
    put_well(&stage, "moved", &escalating()).await;
    let mut moved = escalating();
    moved["due_at"] = "2027-06-20T12:00:00Z".into();
    move_to(&stage, DUE).await;
    // What every notification of the category needs, so that the reminder waits behind the deadlines that it has taken.
    let mut holder = stage.admin.begin().await.expect("a transaction");
    let hold = "SELECT FROM harkara.categories WHERE category_key = 'greeting' FOR UPDATE";
    sqlx::query(hold).fetch_all(&mut *holder).await.expect("held");
    let answering = async {
        see_wait(&stage.admin, 1).await;
        tokio::join!(complete(&stage, "completed"), put_well(&stage, "moved", &moved))
    };
    let letting_go = async {
        see_wait(&stage.admin, 3).await;
        holder.rollback().await.expect("let go");
    };
    let (counts, _, ()) = tokio::join!(stage.remind(), answering, letting_go);
    assert_eq!(counts.escalated, 2, "it was first");
    let open = "SELECT count(*) FROM harkara.escalations WHERE state = 'resolved'";
    assert_eq!(stage.count(open).await, 2);
    stage.drain().await;
    assert_eq!(stage.mail.asked().len(), 0, "and yet nobody is told");
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_policy_that_is_gone_is_noted_and_stops_nothing_else(pool: PgPool) {
    let stage = begin(pool).await;
    let policy = json!({"category": "greeting", "steps": [{"recipients": ["bob"]}]});
    for key in ["gone", "unreadable"] {
        stage.put(TENANT, "/v1/escalation-policies/{key}", key, policy.clone()).await;
        let mut body = escalating();
        body["overdue"] = json!({"category": "greeting", "escalation_policy": key});
        put_well(&stage, key, &body).await;
    }
    put_well(&stage, "good", &escalating()).await;
    put_well(&stage, "garbled", &escalating()).await;
    let gone = stage.call(TENANT, "DELETE /v1/escalation-policies/{key}", Some("gone"), "", "").await;
    assert_eq!(gone.status, 204);
    // What no caller of the API can do.
    for change in [
        "UPDATE harkara.escalation_policies SET definition = '{}' WHERE policy_key = 'unreadable'",
        "UPDATE harkara.deadlines SET overdue = '{}' WHERE deadline_key = 'garbled'",
    ] {
        sqlx::query(change).execute(&stage.admin).await.expect("changed");
    }
    move_to(&stage, DUE).await;
    let counts = stage.remind().await;
    assert_eq!((counts.fired, counts.escalated, counts.failed), (2, 1, 3));
    for (key, note) in [("gone", "unknown_policy"), ("unreadable", "unreadable_policy"), ("garbled", "unreadable")] {
        let shown = get(&stage, key).await;
        assert_eq!((&shown["escalation_id"], &shown["escalation_note"]), (&Value::Null, &json!(note)), "{key}");
    }
    assert_eq!(plan(&stage, "gone").await, ["overdue fired"]);
    assert_eq!(stage.remind().await.failed, 0, "each is tried once");
    stage.drain().await;
    stage.pass(Duration::from_secs(60)).await;
    stage.dispatch().await;
    let told = stage.bus.events().into_iter().filter(|event| event.detail_type == "deadline.not_escalated");
    let mut reasons: Vec<_> = told.map(|event| event.detail["reason"].as_str().expect("a reason").to_owned()).collect();
    reasons.sort();
    assert_eq!(reasons, ["unknown_policy", "unreadable", "unreadable_policy"]);
    finish(stage).await;
}

/// Whatever the database does not store of one, it has begun, and `escalation` deals with it.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_first_step_that_cannot_be_stored_holds_up_no_escalation(pool: PgPool) {
    let stage = begin(pool).await;
    let policy = json!({"category": "greeting", "steps": [{"recipients": ["carol"]}]});
    stage.put(TENANT, "/v1/escalation-policies/{key}", "refused", policy).await;
    let mut refused = escalating();
    refused["overdue"]["escalation_policy"] = "refused".into();
    put_well(&stage, "refused", &refused).await;
    put_well(&stage, "good", &escalating()).await;
    sqlx::raw_sql(
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'raise_exception'; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON harkara.notifications FOR EACH ROW WHEN (NEW.recipient_id = 'carol')
         EXECUTE FUNCTION public.refuse()",
    )
    .execute(&stage.admin)
    .await
    .expect("a trigger");
    move_to(&stage, DUE).await;
    assert_eq!(stage.remind().await.escalated, 2);
    let counts = stage.escalate().await;
    assert_eq!(counts.put_off, 1, "{counts:?}");
    sqlx::query("DROP TRIGGER refuse ON harkara.notifications").execute(&stage.admin).await.expect("dropped");
    stage.pass(Duration::from_secs(300)).await;
    assert_eq!(stage.escalate().await.fired, 1);
    stage.drain().await;
    assert_eq!((stage.mail.count("bob@example.org"), stage.mail.count("carol@example.org")), (1, 1));
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_deadline_whose_escalation_cannot_be_stored_is_set_aside_and_stops_no_other(pool: PgPool) {
    let stage = begin(pool).await;
    let policy = json!({"category": "greeting", "steps": [{"recipients": ["carol"]}]});
    stage.put(TENANT, "/v1/escalation-policies/{key}", "refused", policy).await;
    let mut refused = escalating();
    refused["overdue"]["escalation_policy"] = "refused".into();
    put_well(&stage, "refused", &refused).await;
    for key in ["one", "other"] {
        put_well(&stage, key, &escalating()).await;
    }
    sqlx::raw_sql(
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'raise_exception'; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON harkara.escalations FOR EACH ROW WHEN (NEW.policy_key = 'refused')
         EXECUTE FUNCTION public.refuse()",
    )
    .execute(&stage.admin)
    .await
    .expect("a trigger");
    move_to(&stage, DUE).await;
    let counts = stage.remind().await;
    assert_eq!((counts.escalated, counts.set_aside), (2, 1), "{counts:?}");
    assert_eq!(stage.remind().await.set_aside, 0, "it is left alone for a while");
    sqlx::query("DROP TRIGGER refuse ON harkara.escalations").execute(&stage.admin).await.expect("dropped");
    stage.pass(Duration::from_secs(600)).await;
    assert_eq!(stage.remind().await.escalated, 1);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_place_of_the_escalation_in_the_data_is_not_the_callers(pool: PgPool) {
    let stage = begin(pool).await;
    let mut body = escalating();
    body["data"]["escalation"] = "mine".into();
    let answer = super::put(&stage, "wrong", &body).await;
    assert_eq!((answer.status, answer.pointers()), (422, vec!["/data/escalation"]));
    body["overdue"] = json!({"category": "greeting"});
    put_well(&stage, "right", &body).await;
    finish(stage).await;
}
