//! Days are the recipient's, over changes of the clocks, leap days and moves to another zone.

use super::{deadline, finish, get, move_to, plan, put_well, times_of};
use serde_json::{Value, json};
use sqlx::PgPool;
use tests::{Stage, TENANT};

async fn put_zone(stage: &Stage, id: &str, zone: Value) {
    let body = json!({"email": format!("{id}@example.org"), "time_zone": zone});
    stage.put(TENANT, "/v1/recipients/{id}", id, body).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_day_before_is_the_same_local_time_where_the_clocks_change(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    move_to(&stage, "2027-03-01T00:00:00Z").await;
    put_zone(&stage, "york", json!("America/New_York")).await;
    // Summer time begins there on 14 March 2027: noon is 16:00 UTC, and was 17:00 UTC the day before.
    for (before, fires_at) in [("P1D", "2027-03-13T17:00:00Z"), ("PT24H", "2027-03-13T16:00:00Z")] {
        let mut body = deadline("2027-03-14T16:00:00Z", json!([{"before": before}]));
        body["recipients"] = json!(["york"]);
        let shown = put_well(&stage, before, &body).await;
        assert_eq!(times_of(&shown), [fires_at], "24 hours are no day then");
    }
    move_to(&stage, "2027-03-13T16:59:59Z").await;
    assert_eq!(stage.remind().await.fired, 1);
    move_to(&stage, "2027-03-13T17:00:00Z").await;
    assert_eq!(stage.remind().await.fired, 1);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_leap_day_is_counted(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    move_to(&stage, "2028-02-01T00:00:00Z").await;
    let rungs = json!([{"before": "P7D"}, {"before": "P1D", "at": "09:00"}]);
    let shown = put_well(&stage, "leap", &deadline("2028-03-01T12:00:00Z", rungs)).await;
    assert_eq!(times_of(&shown), ["2028-02-23T12:00:00Z", "2028-02-29T09:00:00Z"]);
    move_to(&stage, "2028-02-29T09:00:00Z").await;
    assert_eq!(stage.remind().await.fired, 1);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_time_of_the_day_is_each_recipients_own(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    move_to(&stage, "2027-06-01T00:00:00Z").await;
    put_zone(&stage, "pune", json!("Asia/Kolkata")).await;
    put_zone(&stage, "york", json!("America/New_York")).await;
    put_zone(&stage, "somewhere", Value::Null).await;
    let mut body = deadline("2027-06-15T12:00:00Z", json!([{"before": "P3D", "at": "09:00"}]));
    body["recipients"] = json!(["pune", "york", "somewhere"]);
    body["time_zone"] = "Europe/Berlin".into();
    let shown = put_well(&stage, "nine", &body).await;
    let fires: Vec<_> = shown["plan"]
        .as_array()
        .expect("a plan")
        .iter()
        .map(|rung| (rung["recipient"].as_str().expect("an id"), rung["fire_at"].as_str().expect("a time")))
        .collect();
    let expected =
        [("pune", "2027-06-12T03:30:00Z"), ("somewhere", "2027-06-12T07:00:00Z"), ("york", "2027-06-12T13:00:00Z")];
    assert_eq!(fires, expected, "whoever has no zone has the deadline's");
    for (_, moment) in expected {
        move_to(&stage, moment).await;
        assert_eq!(stage.remind().await.fired, 1, "{moment}");
    }
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn who_moves_to_another_zone_is_reminded_by_its_clock(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    move_to(&stage, "2027-06-01T00:00:00Z").await;
    put_zone(&stage, "mover", json!("Europe/London")).await;
    let mut body = deadline("2027-06-15T12:00:00Z", json!([{"before": "P3D", "at": "09:00"}]));
    body["recipients"] = json!(["mover"]);
    put_well(&stage, "west", &body).await;

    // To the west: what was due at 08:00 UTC is due at 13:00, and not before.
    put_zone(&stage, "mover", json!("America/New_York")).await;
    move_to(&stage, "2027-06-12T08:00:00Z").await;
    let counts = stage.remind().await;
    assert_eq!((counts.fired, counts.replanned), (0, 1));
    assert_eq!(times_of(&get(&stage, "west").await), ["2027-06-12T13:00:00Z"]);
    // To the east: it is due at once, and would have been long ago.
    put_zone(&stage, "mover", json!("Asia/Kolkata")).await;
    assert_eq!(stage.remind().await.fired, 1);

    // To the east, ahead of time: it fires when it is due there, which is earlier.
    let mut body = deadline("2027-06-25T12:00:00Z", json!([{"before": "P3D", "at": "09:00"}]));
    body["recipients"] = json!(["mover"]);
    put_zone(&stage, "mover", json!("America/New_York")).await;
    put_well(&stage, "east", &body).await;
    put_zone(&stage, "mover", json!("Asia/Kolkata")).await;
    assert_eq!(stage.remind().await.replanned, 1);
    move_to(&stage, "2027-06-22T03:30:00Z").await;
    assert_eq!(stage.remind().await.fired, 1);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn who_has_no_zone_follows_the_tenants(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    move_to(&stage, "2027-06-01T00:00:00Z").await;
    let shown =
        put_well(&stage, "nine", &deadline("2027-06-15T12:00:00Z", json!([{"before": "P3D", "at": "09:00"}]))).await;
    assert_eq!(times_of(&shown), ["2027-06-12T09:00:00Z"]);
    let settings = json!({"time_zone": "Asia/Kolkata"}).to_string();
    assert_eq!(stage.call(TENANT, "PUT /v1/settings", None, "", &settings).await.status, 200);
    assert_eq!(stage.remind().await.replanned, 1);
    assert_eq!(times_of(&get(&stage, "nine").await), ["2027-06-12T03:30:00Z"]);
    move_to(&stage, "2027-06-12T03:30:00Z").await;
    assert_eq!(stage.remind().await.fired, 1);
    assert_eq!(plan(&stage, "nine").await, ["-P3D@09:00 fired"]);
    finish(stage).await;
}
