//! Each rung fires once, when it is due, as one notification.

use super::{DUE, complete, count_notifications, deadline, finish, get, move_to, plan, put_well, seven_three_one};
use flow::progress::Progress;
use flow::reminder::{Reminder, ReminderCounts};
use serde_json::{Value, json};
use sqlx::PgPool;
use std::time::{Duration, Instant};
use tests::{OTHER_TENANT, Stage, TENANT};

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn seven_three_and_one_day_before_each_comes_once_and_the_overdue_one_last(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    move_to(&stage, "2027-06-01T00:00:00Z").await;
    let mut body = seven_three_one(DUE);
    body["overdue"] = json!({"category": "greeting"});
    let put = put_well(&stage, "observation-42", &body).await;
    assert_eq!(put["state"], "open");
    assert_eq!(stage.remind().await, ReminderCounts::default(), "nothing is due yet");
    let times = ["2027-06-08T12:00:00Z", "2027-06-12T12:00:00Z", "2027-06-14T12:00:00Z", DUE];
    for (fired, moment) in times.iter().enumerate() {
        move_to(&stage, moment).await;
        assert_eq!(stage.remind().await.fired, 1, "{moment}");
        assert_eq!(stage.remind().await.fired, 0, "once");
        stage.drain().await;
        assert_eq!(stage.mail.asked().len(), fired + 1);
    }
    assert_eq!(plan(&stage, "observation-42").await, ["-P7D fired", "-P3D fired", "-P1D fired", "overdue fired"]);
    let shown = get(&stage, "observation-42").await;
    assert_eq!(shown["state"], "overdue");
    let notification = stage.show(shown["plan"][0]["notification_id"].as_str().expect("an id")).await;
    assert_eq!(notification["state"], "sent");
    assert_eq!(notification["metadata"], json!({"deadline": "observation-42", "rung": "-P7D"}));
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_rung_may_have_a_category_a_template_and_data_of_its_own(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    move_to(&stage, "2027-06-01T00:00:00Z").await;
    let text = json!({"type": "string", "example": "words"});
    let variables = json!({"what": text, "deadline": text, "due_at": text});
    let words = json!({"variables": variables, "subject": "{{ what }} {{ deadline }}", "text": "{{ due_at }}"});
    stage.publish(TENANT, "soon", words).await;
    stage.put(TENANT, "/v1/categories/{key}", "soon", json!({"class": "reminder"})).await;
    let rungs = json!([
        {"before": "PT24H", "category": "soon", "template": "soon", "data": {"what": "Tomorrow:"}},
        {"before": "PT2H", "category": "soon", "template": "soon"},
    ]);
    let mut body = deadline(DUE, rungs);
    body["data"] = json!({"what": "Today:"});
    put_well(&stage, "visit-7", &body).await;
    for moment in ["2027-06-14T12:00:00Z", "2027-06-15T10:00:00Z"] {
        move_to(&stage, moment).await;
        stage.remind().await;
        stage.drain().await;
    }
    let asked = stage.mail.asked();
    let subjects: Vec<_> = asked.iter().map(|mail| mail.subject.as_str()).collect();
    assert_eq!(subjects, ["Tomorrow: visit-7", "Today: visit-7"]);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_missed_run_reminds_of_the_latest_only_and_of_nothing_that_has_passed(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    move_to(&stage, "2027-06-01T00:00:00Z").await;
    let rungs =
        json!([{"before": "PT4H"}, {"before": "PT3H"}, {"before": "PT2H"}, {"after": "PT1H"}, {"after": "PT2H"}]);
    let mut body = deadline(DUE, rungs);
    body["overdue"] = json!({"category": "greeting"});
    put_well(&stage, "late", &body).await;
    // Three hours without a run.
    move_to(&stage, "2027-06-15T11:00:00Z").await;
    let counts = stage.remind().await;
    assert_eq!((counts.fired, counts.skipped), (1, 2));
    let expected = [
        "-PT4H skipped overtaken",
        "-PT3H skipped overtaken",
        "-PT2H fired",
        "overdue planned",
        "+PT1H planned",
        "+PT2H planned",
    ];
    assert_eq!(plan(&stage, "late").await, expected);
    // And again, over what comes after.
    move_to(&stage, "2027-06-15T15:00:00Z").await;
    let counts = stage.remind().await;
    assert_eq!((counts.fired, counts.skipped), (2, 1));
    assert_eq!(plan(&stage, "late").await[3..], ["overdue fired", "+PT1H skipped overtaken", "+PT2H fired"]);

    move_to(&stage, "2027-06-15T16:00:00Z").await;
    put_well(&stage, "missed", &deadline("2027-06-16T12:00:00Z", json!([{"before": "PT2H"}]))).await;
    move_to(&stage, "2027-06-16T13:00:00Z").await;
    assert_eq!(stage.remind().await.skipped, 1);
    assert_eq!(plan(&stage, "missed").await, ["-PT2H skipped missed"]);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_reminder_before_the_deadline_expires_with_it_and_one_after_it_does_not(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    move_to(&stage, "2027-06-01T00:00:00Z").await;
    put_well(&stage, "both", &deadline(DUE, json!([{"before": "PT2H"}, {"after": "PT2H"}]))).await;
    for moment in ["2027-06-15T10:00:00Z", "2027-06-15T14:00:00Z"] {
        move_to(&stage, moment).await;
        assert_eq!(stage.remind().await.fired, 1);
    }
    let plan = get(&stage, "both").await["plan"].clone();
    let mut expiries = Vec::new();
    for rung in plan.as_array().expect("a plan") {
        let notification = stage.show(rung["notification_id"].as_str().expect("an id")).await;
        expiries.push(notification["expires_at"].clone());
    }
    assert_eq!(expiries, [json!(DUE), json!(null)]);
    stage.drain().await;
    assert_eq!(stage.mail.asked().len(), 1, "what was held for four hours is no reminder any more");
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn of_two_rungs_that_fall_on_one_moment_one_fires(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    move_to(&stage, "2027-06-01T00:00:00Z").await;
    // The deadline is at noon.
    let mut body = deadline(DUE, json!([{"before": "P1D"}, {"before": "P1D", "at": "12:00"}]));
    body["time_zone"] = "UTC".into();
    put_well(&stage, "noon", &body).await;
    move_to(&stage, "2027-06-14T12:00:00Z").await;
    let counts = stage.remind().await;
    assert_eq!((counts.fired, counts.skipped), (1, 1));
    assert_eq!(plan(&stage, "noon").await, ["-P1D skipped overtaken", "-P1D@12:00 fired"]);
    finish(stage).await;
}

/// Where a run takes fewer rungs than one deadline has late, the earlier ones are overtaken all the same.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_is_late_is_overtaken_by_what_another_batch_takes(pool: PgPool) {
    use adapters::store::rungs::take_due_rungs;
    let stage = Stage::begin(pool).await;
    move_to(&stage, "2027-06-01T00:00:00Z").await;
    put_well(&stage, "late", &seven_three_one(DUE)).await;
    move_to(&stage, "2027-06-14T18:00:00Z").await;
    let tenant = domain::id::TenantId::parse(TENANT).expect("a tenant");
    let mut transaction = stage.reminder.database.begin(tenant, "tester").await.expect("begun");
    let taken = take_due_rungs(&mut transaction, 2).await.expect("taken");
    let found: Vec<_> = taken.iter().map(|rung| (rung.rung.as_str(), rung.is_overtaken)).collect();
    assert_eq!(found, [("-P7D", true), ("-P3D", true)]);
    // Another run takes the rest; what it fires counts for these, too.
    assert_eq!(stage.remind().await.fired, 1);
    transaction.roll_back().await.expect("rolled back");
    assert_eq!((stage.remind().await.skipped, count_notifications(&stage).await), (2, 1));
    finish(stage).await;
}

/// Deadlines of a hundred recipients each, due together.
async fn put_many(stage: &Stage, tenant: &str, deadlines: usize) {
    let recipients: Vec<Value> =
        (0..100).map(|n| json!({"id": format!("r{n}"), "email": format!("r{n}@example.org")})).collect();
    let put = json!({"recipients": recipients}).to_string();
    assert_eq!(stage.call(tenant, "POST /v1/recipients", None, "", &put).await.status, 200);
    let mut body = deadline(DUE, json!([{"before": "P1D"}]));
    body["recipients"] = (0..100).map(|n| format!("r{n}")).collect();
    for number in 0..deadlines {
        stage.put(tenant, "/v1/deadlines/{key}", &format!("many-{number}"), body.clone()).await;
    }
}

const OF_ONE_RUNG: &str = "
    SELECT count(*) FROM (
        SELECT n.recipient_id, n.metadata FROM harkara.notifications n GROUP BY n.tenant_id, n.recipient_id, n.metadata
        HAVING count(*) > 1) twice";

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn two_reminders_at_the_same_instant_fire_each_rung_once(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    move_to(&stage, "2027-06-01T00:00:00Z").await;
    put_many(&stage, TENANT, 12).await;
    move_to(&stage, "2027-06-14T12:00:00Z").await;
    let other = Reminder { database: tests::database_of(&stage.admin), queue: stage.queue.clone() };
    let deadline = Instant::now() + Duration::from_secs(60);
    let untold = Progress::untold();
    let (one, two) = tokio::join!(stage.reminder.run(deadline, &untold), other.run(deadline, &untold));
    let (one, two) = (one.expect("run"), two.expect("run"));
    assert_eq!(one.fired + two.fired + stage.remind().await.fired, 1200);
    assert!(one.fired > 0 && two.fired > 0, "both had a part: {one:?} {two:?}");
    assert_eq!((count_notifications(&stage).await, stage.count(OF_ONE_RUNG).await), (1200, 0));
    let unlike =
        "SELECT count(*) FROM harkara.rungs r LEFT JOIN harkara.notifications n USING (tenant_id, notification_id)
                  WHERE n.metadata ->> 'deadline' IS DISTINCT FROM r.deadline_key
                     OR n.recipient_id IS DISTINCT FROM r.recipient_id";
    assert_eq!(stage.count(unlike).await, 0, "each rung names the notification that it became");
    assert_eq!(stage.queue.waiting().len(), 1200);
    stage.leave_work();
}

/// The transaction that fires a rung marks it; where it never commits, nothing has happened.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_reminder_that_dies_half_way_has_fired_nothing(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    move_to(&stage, "2027-06-01T00:00:00Z").await;
    put_well(&stage, "once", &deadline(DUE, json!([{"before": "P1D"}]))).await;
    move_to(&stage, "2027-06-14T12:00:00Z").await;
    // It waits for the category, behind the rung that it has taken, and dies there.
    let mut holder = stage.admin.begin().await.expect("a transaction");
    sqlx::query("SELECT FROM harkara.categories WHERE category_key = 'greeting' FOR UPDATE")
        .fetch_all(&mut *holder)
        .await
        .expect("held");
    tokio::select! {
        _ = stage.remind() => panic!("it has to wait"),
        () = super::see_wait(&stage.admin, 1) => {}
    }
    holder.rollback().await.expect("let go");
    assert_eq!(stage.remind().await.fired, 1, "another one fires it");
    assert_eq!(count_notifications(&stage).await, 1);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_suspended_tenant_is_passed_over_and_holds_up_nobody(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    move_to(&stage, "2027-06-01T00:00:00Z").await;
    let body = deadline(DUE, json!([{"before": "P1D"}]));
    for tenant in [TENANT, OTHER_TENANT] {
        stage.put(tenant, "/v1/deadlines/{key}", "visit", body.clone()).await;
    }
    let set = "UPDATE harkara.tenants SET state = $2 WHERE tenant_id = $1::uuid";
    sqlx::query(set).bind(OTHER_TENANT).bind("suspended").execute(&stage.admin).await.expect("suspended");
    move_to(&stage, "2027-06-14T12:00:00Z").await;
    let counts = stage.remind().await;
    assert_eq!((counts.fired, counts.tenants_passed_over), (1, 0), "the other one is not even asked for");
    sqlx::query(set).bind(OTHER_TENANT).bind("active").execute(&stage.admin).await.expect("active");
    assert_eq!(stage.remind().await.fired, 1, "late, but before the deadline");
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn tenants_take_turns(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.lift_limits().await;
    move_to(&stage, "2027-06-01T00:00:00Z").await;
    put_many(&stage, TENANT, 11).await;
    stage.put(OTHER_TENANT, "/v1/deadlines/{key}", "visit", deadline(DUE, json!([{"before": "P1D"}]))).await;
    move_to(&stage, "2027-06-14T12:00:00Z").await;
    assert_eq!(stage.remind().await.fired, 1101);
    let before = "
        SELECT count(*) FROM harkara.notifications WHERE tenant_id <> $1::uuid AND notification_id < (
            SELECT notification_id FROM harkara.notifications WHERE tenant_id = $1::uuid)";
    let before: i64 = sqlx::query_scalar(before).bind(OTHER_TENANT).fetch_one(&stage.admin).await.expect("counted");
    assert!(before <= 500, "one batch at most stood before another tenant's rung: {before}");
    stage.leave_work();
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_the_queue_does_not_take_the_dispatcher_publishes(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    move_to(&stage, "2027-06-01T00:00:00Z").await;
    put_well(&stage, "once", &deadline(DUE, json!([{"before": "P1D"}]))).await;
    move_to(&stage, "2027-06-14T12:00:00Z").await;
    stage.queue.refuse(true);
    assert_eq!(stage.remind().await.fired, 1);
    stage.queue.refuse(false);
    stage.pass(Duration::from_secs(60)).await;
    assert_eq!((stage.remind().await.fired, stage.dispatch().await.published), (0, 1));
    complete(&stage, "once").await;
    finish(stage).await;
}
