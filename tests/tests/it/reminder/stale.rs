//! What has fired and is not sent when the deadline changes: nobody hears of a due time that is none any more.

use super::{DUE, complete, deadline, finish, get, move_to, plan, put_well, see_wait, seven_three_one};
use serde_json::{Value, json};
use sqlx::PgPool;
use tests::{Stage, TENANT};

/// A day and two hours after [`DUE`].
const LATER: &str = "2027-06-16T14:00:00Z";

async fn begin(pool: PgPool) -> Stage {
    let stage = Stage::begin(pool).await;
    move_to(&stage, "2027-06-01T00:00:00Z").await;
    stage.put(TENANT, "/v1/recipients/{id}", "bob", json!({"email": "bob@example.org"})).await;
    stage
}

/// The notification of the deadline's only rung that has fired.
async fn fired(stage: &Stage, key: &str) -> String {
    let shown = get(stage, key).await;
    let mut ids = shown["plan"].as_array().expect("a plan").iter().filter_map(|rung| rung["notification_id"].as_str());
    let id = ids.next().expect("it has fired").to_owned();
    assert_eq!(ids.next(), None, "{shown}");
    id
}

async fn is_withdrawn(stage: &Stage, id: &str) -> bool {
    let (state, reason, _) = stage.outcome(id).await;
    (state.as_str(), reason.as_deref()) == ("canceled", Some("canceled_by_caller"))
}

fn day_before(due: &str) -> Value {
    deadline(due, json!([{"before": "P1D"}]))
}

/// S3: a visit that moves overnight. The mail that quiet hours hold tells of a time that is none any more.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_reminder_that_quiet_hours_hold_is_not_sent_when_the_deadline_moves_and_is_planned_anew(pool: PgPool) {
    let stage = begin(pool).await;
    let category = json!({"class": "reminder", "template": "greeting"});
    stage.put(TENANT, "/v1/categories/{key}", "visit", category).await;
    let quiet = json!({"preferences": [{"quiet_hours": {"from": "22:00", "until": "07:00"}}]}).to_string();
    let answer = stage.call(TENANT, "PUT /v1/recipients/{id}/preferences", Some("ada"), "", &quiet).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let at = |due: &str| {
        let mut body = deadline(due, json!([{"before": "PT11H"}]));
        body["category"] = "visit".into();
        body
    };
    put_well(&stage, "visit-1", &at("2027-06-15T10:00:00Z")).await;
    move_to(&stage, "2027-06-14T23:00:00Z").await;
    assert_eq!(stage.remind().await.fired, 1);
    stage.drain().await;
    let first = fired(&stage, "visit-1").await;
    assert_eq!(stage.outcome(&first).await.1.as_deref(), Some("quiet_hours"));

    move_to(&stage, "2027-06-15T06:00:00Z").await;
    put_well(&stage, "visit-1", &at("2027-06-16T10:00:00Z")).await;
    assert!(is_withdrawn(&stage, &first).await);
    assert_eq!(plan(&stage, "visit-1").await, ["-PT11H planned"]);
    move_to(&stage, "2027-06-15T07:01:00Z").await;
    stage.dispatch().await;
    stage.drain().await;
    assert_eq!(stage.mail.asked().len(), 0, "nobody hears of the old time");

    move_to(&stage, "2027-06-15T23:00:00Z").await;
    assert_eq!(stage.remind().await.fired, 1, "for the new one");
    stage.drain().await;
    move_to(&stage, "2027-06-16T07:01:00Z").await;
    stage.dispatch().await;
    stage.drain().await;
    assert_eq!((stage.mail.asked().len(), stage.remind().await.fired), (1, 0), "once");
    finish(stage).await;
}

/// Mail is the only channel by now, so the other one is put beside it here.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_rung_that_another_channel_has_told_of_is_not_planned_anew(pool: PgPool) {
    let stage = begin(pool).await;
    put_well(&stage, "visit", &day_before(DUE)).await;
    move_to(&stage, "2027-06-14T12:00:00Z").await;
    assert_eq!(stage.remind().await.fired, 1);
    let told = "
        ALTER TABLE harkara.deliveries DROP CONSTRAINT channel_is_known;
        INSERT INTO harkara.deliveries
            (tenant_id, delivery_id, notification_id, channel, state, max_attempts, not_before, sent_at)
        SELECT tenant_id, gen_random_uuid(), notification_id, 'sms', 'sent', max_attempts, not_before, harkara.now()
        FROM harkara.deliveries";
    sqlx::raw_sql(told).execute(&stage.admin).await.expect("sent");
    put_well(&stage, "visit", &day_before(LATER)).await;
    let withdrawn = "SELECT count(*) FROM harkara.deliveries WHERE channel = 'email' AND state = 'canceled'";
    assert_eq!(stage.count(withdrawn).await, 1, "the mail is not sent");
    assert_eq!(plan(&stage, "visit").await, ["-P1D fired", "-P1D skipped fired_before"]);
    move_to(&stage, "2027-06-15T14:00:00Z").await;
    assert_eq!(stage.remind().await.fired, 0);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn whoever_is_taken_off_the_list_hears_nothing_any_more_and_the_others_once(pool: PgPool) {
    let stage = begin(pool).await;
    let mut both = day_before(DUE);
    both["recipients"] = json!(["ada", "bob"]);
    both["when_past"] = "send".into();
    let mut one = both.clone();
    one["recipients"] = json!(["ada"]);
    put_well(&stage, "shared", &both).await;
    move_to(&stage, "2027-06-14T12:00:00Z").await;
    assert_eq!(stage.remind().await.fired, 2);
    put_well(&stage, "shared", &one).await;
    assert_eq!(plan(&stage, "shared").await, ["-P1D fired"]);
    assert_eq!(stage.remind().await.fired, 0, "for this due time ada's has fired");
    stage.drain().await;
    assert_eq!((stage.mail.count("ada@example.org"), stage.mail.count("bob@example.org")), (1, 0));

    put_well(&stage, "shared", &both).await;
    assert_eq!(stage.remind().await.fired, 1, "nobody told bob");
    stage.drain().await;
    put_well(&stage, "shared", &both).await;
    assert_eq!(stage.remind().await.fired, 0);
    assert_eq!((stage.mail.count("ada@example.org"), stage.mail.count("bob@example.org")), (1, 1));
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_rung_that_is_taken_off_the_list_is_withdrawn_and_other_data_withdraws_nothing(pool: PgPool) {
    let stage = begin(pool).await;
    let mut overdue = seven_three_one(DUE);
    overdue["overdue"] = json!({"category": "greeting"});
    for key in ["fewer", "never-mind", "corrected"] {
        put_well(&stage, key, &overdue).await;
    }
    move_to(&stage, "2027-06-12T12:00:00Z").await;
    assert_eq!(stage.remind().await.fired, 3);
    let (fewer, corrected) = (fired(&stage, "fewer").await, fired(&stage, "corrected").await);
    put_well(&stage, "fewer", &day_before(DUE)).await;
    assert!(is_withdrawn(&stage, &fewer).await);
    let mut other = overdue.clone();
    other["data"] = json!({"name": "Ada Lovelace"});
    put_well(&stage, "corrected", &other).await;
    assert!(!is_withdrawn(&stage, &corrected).await, "its time has passed, and there would be no reminder at all");
    stage.drain().await;
    assert_eq!(stage.mail.asked().len(), 2);

    // That it has passed is not said of what has not.
    move_to(&stage, DUE).await;
    stage.remind().await;
    put_well(&stage, "never-mind", &{
        let mut moved = overdue.clone();
        moved["due_at"] = LATER.into();
        moved
    })
    .await;
    stage.drain().await;
    assert_eq!(stage.mail.asked().len(), 3, "of the deadline that did not move");
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_completing_withdrew_is_said_when_the_deadline_is_put_for_another_time(pool: PgPool) {
    let stage = begin(pool).await;
    put_well(&stage, "again", &day_before(DUE)).await;
    move_to(&stage, "2027-06-14T12:00:00Z").await;
    assert_eq!(stage.remind().await.fired, 1);
    assert_eq!(complete(&stage, "again").await.status, 200);
    put_well(&stage, "again", &day_before(LATER)).await;
    assert_eq!(plan(&stage, "again").await, ["-P1D planned"]);
    move_to(&stage, "2027-06-15T14:00:00Z").await;
    assert_eq!(stage.remind().await.fired, 1);
    stage.drain().await;
    assert_eq!(stage.mail.asked().len(), 1);
    finish(stage).await;
}

/// Whoever sends and whoever moves meet at the delivery's row, and the first decides.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_is_being_sent_while_the_deadline_moves_has_fired(pool: PgPool) {
    let stage = begin(pool).await;
    put_well(&stage, "racing", &day_before(DUE)).await;
    move_to(&stage, "2027-06-14T12:00:00Z").await;
    assert_eq!(stage.remind().await.fired, 1);
    let mut sender = stage.admin.begin().await.expect("a transaction");
    let claim = "UPDATE harkara.deliveries SET state = 'sending', attempt_count = 1";
    sqlx::query(claim).execute(&mut *sender).await.expect("claimed");
    let committing = async {
        see_wait(&stage.admin, 1).await;
        sender.commit().await.expect("committed");
    };
    let moved = day_before(LATER);
    let (_, ()) = tokio::join!(put_well(&stage, "racing", &moved), committing);
    assert_eq!(plan(&stage, "racing").await, ["-P1D fired", "-P1D skipped fired_before"]);
    stage.leave_work();
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_deadline_that_moves_while_its_reminders_are_sent_tells_each_recipient_once(pool: PgPool) {
    let stage = begin(pool).await;
    stage.lift_limits().await;
    let recipients: Vec<_> =
        (0..40).map(|n| json!({"id": format!("r{n}"), "email": format!("r{n}@example.org")})).collect();
    let put = json!({"recipients": recipients}).to_string();
    assert_eq!(stage.call(TENANT, "POST /v1/recipients", None, "", &put).await.status, 200);
    let all: Value = (0..40).map(|n| format!("r{n}")).collect();
    let (mut body, mut moved) = (day_before(DUE), day_before(LATER));
    body["recipients"] = all.clone();
    moved["recipients"] = all;
    put_well(&stage, "racing", &body).await;
    move_to(&stage, "2027-06-14T12:00:00Z").await;
    assert_eq!(stage.remind().await.fired, 40);
    tokio::join!(stage.drain(), put_well(&stage, "racing", &moved));
    move_to(&stage, "2027-06-15T14:00:00Z").await;
    let (first, second) = tokio::join!(stage.remind(), stage.remind());
    stage.drain().await;
    assert_eq!(stage.mail.asked().len(), 40, "{first:?} {second:?}");
    for n in 0..40 {
        assert_eq!(stage.mail.count(&format!("r{n}@example.org")), 1, "r{n}");
    }
    finish(stage).await;
}
