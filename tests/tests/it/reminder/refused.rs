//! A rung that cannot become a notification is recorded with the reason, told, and holds up nobody.

use super::{DUE, deadline, finish, get, move_to, plan, put_well};
use serde_json::json;
use sqlx::PgPool;
use std::time::Duration;
use tests::{Stage, TENANT};

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_bad_rung_fails_alone_with_its_reason(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    move_to(&stage, "2027-06-01T00:00:00Z").await;
    stage.put(TENANT, "/v1/recipients/{id}", "phone-only", json!({"phone": "+4915112345678"})).await;
    let bare = async |template: Option<&str>| {
        stage.put(TENANT, "/v1/categories/{key}", "bare", json!({"class": "reminder", "template": template})).await;
    };
    bare(Some("greeting")).await;
    let rungs = json!([{"before": "P1D"}]);
    let body = deadline(DUE, rungs.clone());
    put_well(&stage, "good", &body).await;
    let mut unreached = body.clone();
    unreached["recipients"] = json!(["phone-only", "ada"]);
    put_well(&stage, "unreached", &unreached).await;
    let mut of_bare = body.clone();
    of_bare["category"] = "bare".into();
    put_well(&stage, "bare", &of_bare).await;
    bare(None).await;
    for key in ["incomplete", "gone", "garbled"] {
        put_well(&stage, key, &body).await;
    }
    // What no caller of the API can do.
    for change in [
        r#"UPDATE harkara.deadlines SET rungs = '[{"before": "P1D", "category": "never-was"}]' WHERE deadline_key = 'gone'"#,
        "UPDATE harkara.deadlines SET data = '{}' WHERE deadline_key = 'incomplete'",
        r#"UPDATE harkara.deadlines SET rungs = '[{"before": "P2D"}]' WHERE deadline_key = 'garbled'"#,
    ] {
        sqlx::query(change).execute(&stage.admin).await.expect("changed");
    }

    move_to(&stage, "2027-06-14T12:00:00Z").await;
    let counts = stage.remind().await;
    assert_eq!((counts.fired, counts.failed), (2, 5));
    assert_eq!(plan(&stage, "good").await, ["-P1D fired"]);
    let mut of_unreached = plan(&stage, "unreached").await;
    of_unreached.sort();
    assert_eq!(of_unreached, ["-P1D failed no_address", "-P1D fired"]);
    for (key, note) in
        [("incomplete", "wrong_data"), ("bare", "no_content"), ("gone", "unknown_category"), ("garbled", "unreadable")]
    {
        assert_eq!(plan(&stage, key).await, [format!("-P1D failed {note}")], "{key}");
    }
    let detail = get(&stage, "incomplete").await["plan"][0]["detail"].clone();
    assert_eq!(detail, "/data/name is required by the template");
    assert_eq!(stage.remind().await.failed, 0, "each is tried once");

    stage.drain().await;
    stage.pass(Duration::from_secs(60)).await;
    stage.dispatch().await;
    let told: Vec<_> = stage.bus.events().into_iter().filter(|event| event.detail_type == "rung.failed").collect();
    assert_eq!(told.len(), 5);
    let of_incomplete = told.iter().find(|event| event.detail["deadline"] == "incomplete").expect("it is told of");
    assert_eq!(
        (&of_incomplete.detail["reason"], &of_incomplete.detail["rung"]),
        (&json!("wrong_data"), &json!("-P1D"))
    );
    finish(stage).await;
}

/// Whatever the database does not store, the others are stored beside it.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_the_database_refuses_is_found_and_stands_alone(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    move_to(&stage, "2027-06-01T00:00:00Z").await;
    let recipients: Vec<_> =
        (0..60).map(|n| json!({"id": format!("r{n}"), "email": format!("r{n}@example.org")})).collect();
    let put = json!({"recipients": recipients}).to_string();
    assert_eq!(stage.call(TENANT, "POST /v1/recipients", None, "", &put).await.status, 200);
    let mut body = deadline(DUE, json!([{"before": "P1D"}]));
    body["recipients"] = (0..60).map(|n| format!("r{n}")).collect();
    put_well(&stage, "many", &body).await;
    sqlx::raw_sql(
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'raise_exception'; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON harkara.notifications FOR EACH ROW WHEN (NEW.recipient_id = 'r30')
         EXECUTE FUNCTION public.refuse()",
    )
    .execute(&stage.admin)
    .await
    .expect("a trigger");
    move_to(&stage, "2027-06-14T12:00:00Z").await;
    let counts = stage.remind().await;
    assert_eq!((counts.fired, counts.set_aside), (59, 1));
    let shown = get(&stage, "many").await;
    let left = shown["plan"].as_array().expect("a plan").iter().find(|rung| rung["state"] == "planned");
    let left = left.expect("one is left");
    assert_eq!(
        (&left["recipient"], &left["detail"]),
        (&json!("r30"), &json!("it could not be stored, and is tried again"))
    );
    assert_eq!(stage.remind().await.set_aside, 0, "not at once");
    sqlx::query("DROP TRIGGER refuse ON harkara.notifications").execute(&stage.admin).await.expect("dropped");
    stage.pass(Duration::from_secs(600)).await;
    assert_eq!(stage.remind().await.fired, 1);
    finish(stage).await;
}
