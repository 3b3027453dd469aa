//! Completing, deleting and erasing: whoever commits first decides, and nobody is reminded of what is done.

use super::{
    DUE, complete, count_notifications, deadline, finish, get, move_to, plan, put_well, see_wait, seven_three_one,
};
use adapters::store::deadlines::complete_deadline;
use domain::id::{DeadlineKey, TenantId};
use serde_json::json;
use sqlx::{PgPool, Postgres, Transaction};
use std::time::Duration;
use tests::{Stage, TENANT};

async fn begin(pool: PgPool) -> Stage {
    let stage = Stage::begin(pool).await;
    move_to(&stage, "2027-06-01T00:00:00Z").await;
    stage
}

/// Holds what every notification of the category needs, so that a reminder waits behind the rungs that it has taken.
async fn hold_category(pool: &PgPool) -> Transaction<'static, Postgres> {
    let mut holder = pool.begin().await.expect("a transaction");
    let hold = "SELECT FROM harkara.categories WHERE category_key = 'greeting' FOR UPDATE";
    sqlx::query(hold).fetch_all(&mut *holder).await.expect("held");
    holder
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn completing_withdraws_what_has_not_fired_and_what_was_not_sent_and_twice_is_fine(pool: PgPool) {
    let stage = begin(pool).await;
    put_well(&stage, "done", &seven_three_one(DUE)).await;
    move_to(&stage, "2027-06-08T12:00:00Z").await;
    stage.remind().await;
    let answer = complete(&stage, "done").await;
    let counts = (&answer.body["canceled_rung_count"], &answer.body["canceled_delivery_count"]);
    assert_eq!(counts, (&json!(2), &json!(1)), "{answer:?}");
    assert_eq!(answer.body["deadline"]["state"], "completed");
    assert_eq!(plan(&stage, "done").await, ["-P7D fired", "-P3D canceled completed", "-P1D canceled completed"]);
    let notification = answer.body["deadline"]["plan"][0]["notification_id"].as_str().expect("an id").to_owned();
    assert_eq!(stage.outcome(&notification).await.0, "canceled");

    let completed_at = answer.body["deadline"]["completed_at"].clone();
    stage.pass(Duration::from_secs(60)).await;
    let again = complete(&stage, "done").await;
    let counts = (&again.body["canceled_rung_count"], &again.body["canceled_delivery_count"]);
    assert_eq!((again.status, counts), (200, (&json!(0), &json!(0))));
    assert_eq!(again.body["deadline"]["completed_at"], completed_at, "the first time counts");
    move_to(&stage, "2027-06-20T12:00:00Z").await;
    assert_eq!(stage.remind().await.fired, 0);
    stage.drain().await;
    assert_eq!(stage.mail.asked().len(), 0);
    finish(stage).await;
}

/// S3: an appointment that is canceled is not reminded of.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn deleting_withdraws_the_same_and_forgets_the_deadline(pool: PgPool) {
    let stage = begin(pool).await;
    let rungs = json!([{"before": "PT24H"}, {"before": "PT2H"}]);
    put_well(&stage, "appointment-a-1", &deadline(DUE, rungs)).await;
    move_to(&stage, "2027-06-14T12:00:00Z").await;
    stage.remind().await;
    let fired = get(&stage, "appointment-a-1").await["plan"][0]["notification_id"].as_str().expect("an id").to_owned();
    let delete =
        async || stage.call(TENANT, "DELETE /v1/deadlines/{key}", Some("appointment-a-1"), "", "").await.status;
    assert_eq!((delete().await, delete().await), (204, 404));
    assert_eq!(stage.outcome(&fired).await.0, "canceled");
    let gone = stage.call(TENANT, "GET /v1/deadlines/{key}", Some("appointment-a-1"), "", "").await;
    assert_eq!((gone.status, complete(&stage, "appointment-a-1").await.status), (404, 404));
    move_to(&stage, "2027-06-15T10:00:00Z").await;
    assert_eq!(stage.remind().await.fired, 0);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_fires_while_it_is_completed_is_withdrawn(pool: PgPool) {
    let stage = begin(pool).await;
    put_well(&stage, "racing", &deadline(DUE, json!([{"before": "P1D"}]))).await;
    move_to(&stage, "2027-06-14T12:00:00Z").await;
    let holder = hold_category(&stage.admin).await;
    let completing = async {
        see_wait(&stage.admin, 1).await;
        complete(&stage, "racing").await
    };
    let letting_go = async {
        // The reminder for the category, and whoever completes for the reminder.
        see_wait(&stage.admin, 2).await;
        holder.rollback().await.expect("let go");
    };
    let (counts, answer, ()) = tokio::join!(stage.remind(), completing, letting_go);
    assert_eq!(counts.fired, 1, "it was first");
    assert_eq!(answer.body["canceled_delivery_count"], 1, "{answer:?}");
    stage.drain().await;
    assert_eq!(stage.mail.asked().len(), 0, "and yet nobody is told");
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_is_completed_while_it_would_fire_never_fires(pool: PgPool) {
    let stage = begin(pool).await;
    put_well(&stage, "racing", &deadline(DUE, json!([{"before": "P1D"}]))).await;
    move_to(&stage, "2027-06-14T12:00:00Z").await;
    let tenant = TenantId::parse(TENANT).expect("a tenant");
    let mut transaction = stage.api.database.begin(tenant, "tester").await.expect("begun");
    let key = DeadlineKey::parse("racing").expect("a key");
    let withdrawn = complete_deadline(&mut transaction, &key).await.expect("completed").expect("it is there");
    assert_eq!((withdrawn.rung_count, withdrawn.delivery_count), (1, 0));
    assert_eq!(stage.remind().await.fired, 0, "it is passed over, and nobody waits");
    transaction.commit().await.expect("committed");
    assert_eq!((stage.remind().await.fired, count_notifications(&stage).await), (0, 0));
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_fires_while_the_deadline_moves_fires_once(pool: PgPool) {
    let stage = begin(pool).await;
    let body = deadline(DUE, json!([{"before": "P1D"}]));
    put_well(&stage, "racing", &body).await;
    move_to(&stage, "2027-06-14T12:00:00Z").await;
    let holder = hold_category(&stage.admin).await;
    let putting = async {
        see_wait(&stage.admin, 1).await;
        put_well(&stage, "racing", &body).await
    };
    let letting_go = async {
        see_wait(&stage.admin, 2).await;
        holder.rollback().await.expect("let go");
    };
    let (counts, _, ()) = tokio::join!(stage.remind(), putting, letting_go);
    assert_eq!(counts.fired, 1);
    assert_eq!(plan(&stage, "racing").await, ["-P1D fired"]);
    assert_eq!(stage.remind().await.fired, 0);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_fires_while_the_deadline_moves_away_is_withdrawn_and_planned_anew(pool: PgPool) {
    let stage = begin(pool).await;
    put_well(&stage, "racing", &deadline(DUE, json!([{"before": "P1D"}]))).await;
    move_to(&stage, "2027-06-14T12:00:00Z").await;
    let holder = hold_category(&stage.admin).await;
    let moved = deadline("2027-06-17T12:00:00Z", json!([{"before": "P1D"}]));
    let putting = async {
        see_wait(&stage.admin, 1).await;
        put_well(&stage, "racing", &moved).await
    };
    let letting_go = async {
        see_wait(&stage.admin, 2).await;
        holder.rollback().await.expect("let go");
    };
    let (counts, _, ()) = tokio::join!(stage.remind(), putting, letting_go);
    assert_eq!(counts.fired, 1, "it was first");
    assert_eq!(plan(&stage, "racing").await, ["-P1D planned"]);
    stage.drain().await;
    assert_eq!(stage.mail.asked().len(), 0, "and yet nobody is told of the old time");
    move_to(&stage, "2027-06-16T12:00:00Z").await;
    assert_eq!(stage.remind().await.fired, 1);
    stage.drain().await;
    assert_eq!(stage.mail.asked().len(), 1);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn nobody_is_reminded_who_was_erased_and_nothing_personal_is_left(pool: PgPool) {
    let stage = begin(pool).await;
    let person = json!({"email": "someone@example.org"});
    stage.put(TENANT, "/v1/recipients/{id}", "someone", person).await;
    let mut alone = deadline(DUE, json!([{"before": "P1D", "data": {"name": "canary-of-a-rung"}}]));
    alone["recipients"] = json!(["someone"]);
    alone["data"] = json!({"name": "canary-of-a-deadline"});
    put_well(&stage, "alone", &alone).await;
    let mut shared = deadline(DUE, json!([{"before": "P1D"}]));
    shared["recipients"] = json!(["someone", "ada"]);
    put_well(&stage, "shared", &shared).await;

    put_well(&stage, "done", &alone).await;
    let route = "POST /v1/deadlines/{key}/complete";
    assert_eq!(stage.call_with_key(TENANT, route, "done", "once").await.status, 200);

    assert_eq!(stage.call(TENANT, "DELETE /v1/recipients/{id}", Some("someone"), "", "").await.status, 204);
    let left = get(&stage, "alone").await;
    assert_eq!((&left["recipients"], &left["data"]), (&json!([]), &json!({})));
    assert!(!left.to_string().contains("canary"), "{left}");
    assert_eq!(plan(&stage, "alone").await, ["-P1D canceled recipient_erased"]);
    assert_eq!(get(&stage, "shared").await["recipients"], json!(["ada"]));
    let stored = "SELECT count(*) FROM harkara.audit_log
                  WHERE coalesce(old_values, '{}')::text || coalesce(new_values, '{}')::text LIKE '%canary%'";
    assert_eq!(stage.count(stored).await, 0, "the audit log never had it");
    assert_eq!(
        stage.count("SELECT count(*) FROM harkara.idempotency_keys").await,
        0,
        "nor do answers show it any more"
    );
    move_to(&stage, "2027-06-14T12:00:00Z").await;
    assert_eq!(stage.remind().await.fired, 1, "ada still is");
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_recipient_that_is_being_erased_is_passed_over_and_holds_up_nobody(pool: PgPool) {
    let stage = begin(pool).await;
    stage.put(TENANT, "/v1/recipients/{id}", "someone", json!({"email": "someone@example.org"})).await;
    let mut body = deadline(DUE, json!([{"before": "P1D"}]));
    body["recipients"] = json!(["someone", "ada"]);
    put_well(&stage, "shared", &body).await;
    move_to(&stage, "2027-06-14T12:00:00Z").await;
    let mut erasure = stage.admin.begin().await.expect("a transaction");
    let erase = "SELECT harkara.erase_recipient('someone') FROM harkara.set_tenant($1::uuid, 'tester')";
    let erased: bool = sqlx::query_scalar(erase).bind(TENANT).fetch_one(&mut *erasure).await.expect("erased");
    assert!(erased);
    assert_eq!(stage.remind().await.fired, 1, "ada's");
    erasure.commit().await.expect("committed");
    assert_eq!((stage.remind().await.fired, count_notifications(&stage).await), (0, 1));
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_erasure_waits_for_what_is_firing_and_withdraws_it(pool: PgPool) {
    let stage = begin(pool).await;
    put_well(&stage, "racing", &deadline(DUE, json!([{"before": "P1D"}]))).await;
    move_to(&stage, "2027-06-14T12:00:00Z").await;
    let holder = hold_category(&stage.admin).await;
    let erasing = async {
        see_wait(&stage.admin, 1).await;
        stage.call(TENANT, "DELETE /v1/recipients/{id}", Some("ada"), "", "").await.status
    };
    let letting_go = async {
        see_wait(&stage.admin, 2).await;
        holder.rollback().await.expect("let go");
    };
    let (counts, status, ()) = tokio::join!(stage.remind(), erasing, letting_go);
    assert_eq!((counts.fired, status), (1, 204));
    stage.drain().await;
    assert_eq!(stage.mail.asked().len(), 0);
    finish(stage).await;
}
