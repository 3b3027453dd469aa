//! What can be registered, and what is said of it.

use super::{alerts, ask, begin, calls, put, show};
use domain::domain_job::MAX_DOMAIN_JOBS;
use futures::future::join_all;
use serde_json::{Value, json};
use sqlx::PgPool;
use tests::{OTHER_TENANT, Stage, TENANT, move_time_to};

async fn refuse(stage: &Stage, key: &str, body: &Value, pointers: &[&str]) {
    let answer = ask(stage, TENANT, "PUT /v1/jobs/{key}", key, body).await;
    assert_eq!(answer.status, 422, "{key} {body}: {answer:?}");
    let found: Vec<_> =
        answer.body["errors"].as_array().expect("errors").iter().map(|error| &error["pointer"]).collect();
    assert_eq!(found, pointers, "{key} {body}");
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_job_that_could_not_run_is_refused_with_a_pointer_and_nothing_is_stored(pool: PgPool) {
    let stage = begin(&pool).await;
    let with = |field: &str, value: Value| {
        let mut body = alerts();
        body[field] = value;
        body
    };
    for schedule in ["rate(1 minutes)", "rate(0 hours)", "cron(0 1 * * * *)", "cron(0 25 * * ? *)", "hourly"] {
        refuse(&stage, "a", &with("schedule", json!(schedule)), &["/schedule"]).await;
    }
    for never in ["cron(0 0 1 1 ? 2020)", "cron(0 0 30 2 ? *)"] {
        refuse(&stage, "a", &with("schedule", json!(never)), &["/schedule"]).await;
    }
    refuse(&stage, "a", &with("time_zone", json!("Mars/Base")), &["/time_zone"]).await;
    refuse(&stage, "a", &with("timeout_seconds", json!(241)), &["/timeout_seconds"]).await;
    refuse(&stage, "a", &with("call", json!({"function": "rental.note_call"})), &[""]).await;
    let view = |view: &str| with("candidates", json!({"view": view, "category": "greeting"}));
    for foreign in ["pg_catalog.pg_class", "harkara.notifications", "alerts", "rental.\"a\"", "rental.a; DROP TABLE x"]
    {
        refuse(&stage, "a", &view(foreign), &["/candidates/view"]).await;
    }
    let unknown = json!({"view": "rental.alert_candidates", "category": "nonsense", "template": "nonsense"});
    refuse(&stage, "a", &with("candidates", unknown), &["/candidates/category", "/candidates/template"]).await;
    for taken in ["dispatcher", "domain_job", "maintenance"] {
        refuse(&stage, taken, &alerts(), &[""]).await;
    }
    assert_eq!(stage.count("SELECT count(*) FROM harkara.domain_jobs").await, 0);
    assert_eq!(stage.count("SELECT count(*) FROM harkara.domain_job_clocks").await, 0);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_job_is_shown_beside_the_services_own_to_its_tenant_only(pool: PgPool) {
    let stage = begin(&pool).await;
    let shown = put(&stage, "alerts", &alerts()).await;
    assert_eq!(
        (&shown["kind"], &shown["status"], &shown["is_late"]),
        (&json!("domain"), &json!("never_run"), &json!(false))
    );
    assert_eq!(shown["warnings"], json!([]));
    assert_eq!(shown["description"], "Makes notifications of the rows of rental.alert_candidates.");
    let names = async |tenant: &str| {
        let jobs = stage.call(tenant, "GET /v1/jobs", None, "", "").await.body;
        let jobs = jobs["jobs"].as_array().expect("a list").clone();
        jobs.iter().filter(|job| job["kind"] == "domain").map(|job| job["name"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(TENANT).await, ["alerts"]);
    assert_eq!(names(OTHER_TENANT).await, Vec::<Value>::new());
    for route in ["GET /v1/jobs/{key}", "GET /v1/jobs/{key}/runs", "POST /v1/jobs/{key}/run", "DELETE /v1/jobs/{key}"] {
        assert_eq!(stage.call(OTHER_TENANT, route, Some("alerts"), "", "").await.status, 404, "{route}");
    }
    assert_eq!(show(&stage, "dispatcher").await["kind"], "service");
    assert_eq!(stage.call(TENANT, "DELETE /v1/jobs/{key}", Some("alerts"), "", "").await.status, 204);
    assert_eq!(stage.call(TENANT, "GET /v1/jobs/{key}", Some("alerts"), "", "").await.status, 404);
    assert_eq!(stage.call(TENANT, "DELETE /v1/jobs/{key}", Some("dispatcher"), "", "").await.status, 404);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_is_not_granted_yet_is_told_at_once(pool: PgPool) {
    let stage = begin(&pool).await;
    let table = [
        (json!({"candidates": {"view": "rental.nothing", "category": "greeting"}}), "/candidates/view", "is not there"),
        (
            json!({"candidates": {"view": "rental.alerts", "category": "greeting"}}),
            "/candidates/view",
            "is not granted to harkara_domain_job",
        ),
        (json!({"call": {"function": "rental.nothing"}}), "/call/function", "is not there"),
    ];
    for (mut body, pointer, detail) in table {
        body["schedule"] = json!("rate(1 hour)");
        let shown = put(&stage, "a", &body).await;
        assert_eq!(shown["warnings"], json!([{"pointer": pointer, "detail": detail}]));
    }
    assert_eq!(put(&stage, "a", &calls("rental.note_call")).await["warnings"], json!([]));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn putting_the_same_schedule_again_skips_nothing_and_another_counts_from_now(pool: PgPool) {
    let stage = begin(&pool).await;
    let first = put(&stage, "alerts", &alerts()).await["next_due_at"].clone();
    stage.pass(super::MINUTE * 7).await;
    assert_eq!(put(&stage, "alerts", &alerts()).await["next_due_at"], first, "it is due, and stays so");
    let mut other = alerts();
    other["schedule"] = json!("rate(1 hour)");
    assert_ne!(put(&stage, "alerts", &other).await["next_due_at"], first);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_tenant_has_a_hundred_jobs_and_may_change_each(pool: PgPool) {
    let stage = begin(&pool).await;
    for number in 0..MAX_DOMAIN_JOBS {
        put(&stage, &format!("job{number}"), &alerts()).await;
    }
    refuse(&stage, "one_more", &alerts(), &[""]).await;
    put(&stage, "job7", &calls("rental.note_call")).await;
    let answer = ask(&stage, OTHER_TENANT, "PUT /v1/jobs/{key}", "theirs", &calls("rental.note_call")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(stage.call(TENANT, "DELETE /v1/jobs/{key}", Some("job7"), "", "").await.status, 204);
    put(&stage, "one_more", &alerts()).await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn requests_at_the_same_instant_make_no_more_than_a_hundred(pool: PgPool) {
    let stage = begin(&pool).await;
    for number in 1..MAX_DOMAIN_JOBS {
        put(&stage, &format!("job{number}"), &alerts()).await;
    }
    let body = alerts();
    let put_together = async |keys: [&str; 3]| {
        let asked = keys.map(|key| ask(&stage, TENANT, "PUT /v1/jobs/{key}", key, &body));
        let mut statuses: Vec<_> = join_all(asked).await.into_iter().map(|answer| answer.status).collect();
        statuses.sort_unstable();
        statuses
    };
    // These open the connections, for which the others would wait one after the other.
    assert_eq!(put_together(["job1", "job2", "job3"]).await, [200, 200, 200]);
    assert_eq!(put_together(["a", "b", "c"]).await, [200, 422, 422]);
    stage.finish().await;
}

/// The catalogue of the rental company, as it stands in the examples.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_twelve_jobs_of_a_rental_company_are_taken_and_due_when_they_say(pool: PgPool) {
    let example: Value =
        serde_json::from_str(include_str!("../../../../infra/examples/rental_jobs.json")).expect("JSON");
    let stage = Stage::begin(pool.clone()).await;
    let domain = sqlx::raw_sql(include_str!("../../../../infra/examples/rental_domain.sql"));
    domain.execute(&pool).await.expect("what the example has behind it");
    move_time_to(&stage.admin, "2027-03-27T12:03:00Z".parse().expect("a time")).await;
    for category in example["categories"].as_array().expect("categories") {
        let body = json!({"class": "reminder", "template": "greeting"});
        stage.put(TENANT, "/v1/categories/{key}", category.as_str().expect("a key"), body).await;
    }
    let jobs = example["jobs"].as_object().expect("jobs");
    for (key, body) in jobs {
        assert_eq!(put(&stage, key, body).await["warnings"], json!([]), "{key}");
    }
    // The tenant's zone is UTC; Berlin's clocks go forward in the coming night.
    let table = [
        ("refresh_materialized_views", "2027-03-27T12:18:00Z"),
        ("generate_dashboard_alerts", "2027-03-27T12:08:00Z"),
        ("booking_reminders", "2027-03-27T13:00:00Z"),
        ("maintenance_reminders", "2027-03-28T06:00:00Z"),
        ("installment_reminders", "2027-03-27T12:15:00Z"),
        ("sla_monitor", "2027-03-27T12:08:00Z"),
        ("insurance_reminders", "2027-03-28T06:30:00Z"),
        ("promotion_scheduler", "2027-03-27T12:15:00Z"),
        ("contract_reminders", "2027-03-27T12:30:00Z"),
        ("payout_reconciliation", "2027-03-28T01:00:00Z"),
        ("segment_refresh", "2027-03-28T01:00:00Z"),
        ("audit_anomaly_detector", "2027-03-27T13:03:00Z"),
    ];
    assert_eq!(jobs.len(), table.len());
    for (key, due) in table {
        let shown = show(&stage, key).await["next_due_at"].as_str().expect("a time").to_owned();
        // To the minute: a rate counts from when it was put.
        assert_eq!(shown.split_at(16).0, due.split_at(16).0, "{key}");
    }
    stage.finish().await;
}
