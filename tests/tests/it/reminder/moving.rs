//! A deadline that is put again: what is planned anew, and what is never fired twice.

use super::{DUE, deadline, finish, move_to, plan, plan_of, put_well, seven_three_one, times_of};
use serde_json::json;
use sqlx::PgPool;
use tests::Stage;

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_is_past_when_it_is_put_is_skipped_with_a_note_unless_it_is_asked_for(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    move_to(&stage, "2027-06-13T12:00:00Z").await;
    put_well(&stage, "skipping", &seven_three_one(DUE)).await;
    assert_eq!(plan(&stage, "skipping").await, ["-P7D skipped past", "-P3D skipped past", "-P1D planned"]);
    assert_eq!(stage.remind().await.fired, 0);
    let mut body = seven_three_one(DUE);
    body["when_past"] = "send".into();
    put_well(&stage, "sending", &body).await;
    let counts = stage.remind().await;
    assert_eq!((counts.fired, counts.skipped), (1, 1), "the latest of them only");
    assert_eq!(plan(&stage, "sending").await, ["-P7D skipped overtaken", "-P3D fired", "-P1D planned"]);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn moving_the_due_time_plans_anew_what_has_not_fired(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    move_to(&stage, "2027-06-01T00:00:00Z").await;
    put_well(&stage, "moved", &seven_three_one(DUE)).await;
    let earlier = put_well(&stage, "moved", &seven_three_one("2027-06-10T12:00:00Z")).await;
    assert_eq!(times_of(&earlier), ["2027-06-03T12:00:00Z", "2027-06-07T12:00:00Z", "2027-06-09T12:00:00Z"]);
    move_to(&stage, "2027-06-08T12:00:00Z").await;
    assert_eq!(stage.remind().await.fired, 1, "of the three of the first due time none is left");
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_has_fired_fires_for_no_other_due_time(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    move_to(&stage, "2027-06-01T00:00:00Z").await;
    put_well(&stage, "moved", &seven_three_one(DUE)).await;
    move_to(&stage, "2027-06-12T12:00:00Z").await;
    let counts = stage.remind().await;
    assert_eq!((counts.fired, counts.skipped), (1, 1), "3 days before; 7 days before was missed");
    stage.drain().await;

    // Five days later: seven days before that lies behind, three ahead, where it has fired.
    let later = "2027-06-17T12:00:00Z";
    let mut body = seven_three_one(later);
    body["when_past"] = "send".into();
    let shown = put_well(&stage, "moved", &body).await;
    let of_later: Vec<_> =
        shown["plan"].as_array().expect("a plan").iter().filter(|rung| rung["due_at"] == later).collect();
    let states: Vec<_> = of_later.iter().map(|rung| rung["state"].as_str().expect("a state")).collect();
    assert_eq!(states, ["planned", "skipped", "planned"], "7 days before never fired, and is asked for");
    let counts = stage.remind().await;
    assert_eq!(counts.fired, 1, "7 days before, as asked for");
    stage.drain().await;
    move_to(&stage, "2027-06-14T12:00:00Z").await;
    assert_eq!(stage.remind().await.fired, 0, "3 days before has fired, for the first due time");
    assert!(plan(&stage, "moved").await.contains(&"-P3D skipped fired_before".to_owned()));

    // Back to the first: nothing is decided twice for one due time.
    let mut body = seven_three_one(DUE);
    body["when_past"] = "send".into();
    let shown = put_well(&stage, "moved", &body).await;
    let of_first = shown["plan"].as_array().expect("a plan").iter().filter(|rung| rung["due_at"] == DUE);
    let rungs: Vec<_> = of_first.map(|rung| format!("{} {}", rung["rung"], rung["state"])).collect();
    assert_eq!(rungs, [r#""-P7D" "skipped""#, r#""-P3D" "fired""#, r#""-P1D" "planned""#]);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_fired_for_another_due_time_is_not_sent_late_for_this_one(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    move_to(&stage, "2027-06-01T00:00:00Z").await;
    put_well(&stage, "moved", &seven_three_one(DUE)).await;
    move_to(&stage, "2027-06-08T12:00:00Z").await;
    assert_eq!(stage.remind().await.fired, 1);
    stage.drain().await;
    let mut body = seven_three_one("2027-06-14T12:00:00Z");
    body["when_past"] = "send".into();
    put_well(&stage, "moved", &body).await;
    assert_eq!(stage.remind().await.fired, 0, "whatever is wanted of the past");
    assert_eq!(
        plan(&stage, "moved").await,
        ["-P7D skipped fired_before", "-P3D planned", "-P1D planned", "-P7D fired"]
    );
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_same_deadline_again_changes_nothing_that_was_decided(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    move_to(&stage, "2027-06-01T00:00:00Z").await;
    let mut body = seven_three_one(DUE);
    body["when_past"] = "send".into();
    put_well(&stage, "again", &body).await;
    move_to(&stage, "2027-06-12T12:00:00Z").await;
    stage.remind().await;
    let before = plan(&stage, "again").await;
    assert_eq!(before, ["-P7D skipped overtaken", "-P3D fired", "-P1D planned"]);
    put_well(&stage, "again", &body).await;
    assert_eq!(plan(&stage, "again").await, before);
    assert_eq!(stage.remind().await.fired, 0);
    // Another list: what is gone from it is gone, what is new is planned, what has fired stays.
    let rungs = json!([{"before": "P3D"}, {"before": "PT2H"}]);
    put_well(&stage, "again", &deadline(DUE, rungs)).await;
    assert_eq!(plan(&stage, "again").await, ["-P7D skipped overtaken", "-P3D fired", "-PT2H planned"]);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_deadline_that_was_completed_is_opened_by_putting_it(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    move_to(&stage, "2027-06-09T00:00:00Z").await;
    put_well(&stage, "again", &seven_three_one(DUE)).await;
    assert_eq!(super::complete(&stage, "again").await.status, 200);
    assert_eq!(plan(&stage, "again").await[1..], ["-P3D canceled completed", "-P1D canceled completed"]);
    let shown = put_well(&stage, "again", &seven_three_one(DUE)).await;
    assert_eq!(shown["state"], "open");
    assert_eq!(plan_of(&shown)[1].1, "planned");
    move_to(&stage, "2027-06-12T12:00:00Z").await;
    assert_eq!(stage.remind().await.fired, 1);
    finish(stage).await;
}
