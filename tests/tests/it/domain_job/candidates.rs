//! A view's rows become notifications, each once.

use super::{HOUR, alerts, begin, calls, execute, finish, put, runs, show, told};
use serde_json::json;
use sqlx::PgPool;
use tests::{Stage, TENANT};

async fn run_due(stage: &Stage) -> flow::domain_job::DomainJobCounts {
    stage.pass(super::MINUTE * 5).await;
    stage.run_domain_jobs().await
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_row_becomes_a_notification_once_however_often_it_is_seen_or_comes_back(pool: PgPool) {
    let stage = begin(&pool).await;
    execute(&pool, "INSERT INTO rental.alerts (key) VALUES ('a'), ('b'), ('b')").await;
    put(&stage, "alerts", &alerts()).await;
    assert_eq!(stage.run_domain_jobs().await.succeeded, 0, "it is not due yet");
    assert_eq!(run_due(&stage).await.created, 2);
    execute(&pool, "INSERT INTO rental.alerts (key) VALUES ('c')").await;
    assert_eq!(run_due(&stage).await.created, 1, "a and b are known");
    execute(&pool, "DELETE FROM rental.alerts").await;
    assert_eq!(run_due(&stage).await.created, 0);
    execute(&pool, "INSERT INTO rental.alerts (key) VALUES ('a'), ('a 2027-03-01')").await;
    assert_eq!(run_due(&stage).await.created, 1, "who wants to repeat says so in the key");
    assert_eq!(told(&pool).await, ["a", "a 2027-03-01", "b", "c"]);
    // Removed and put again, it is the same job.
    stage.call(TENANT, "DELETE /v1/jobs/{key}", Some("alerts"), "", "").await;
    put(&stage, "alerts", &alerts()).await;
    assert_eq!(run_due(&stage).await.created, 0);
    let shown = show(&stage, "alerts").await;
    assert_eq!(
        shown["last_run"]["counts"],
        json!({"candidates": 2, "created": 0, "refused": 0, "refused_by_reason": {}})
    );
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_view_shows_a_job_its_own_tenants_rows_only(pool: PgPool) {
    let stage = begin(&pool).await;
    execute(
        &pool,
        "INSERT INTO rental.alerts (tenant_id, key) VALUES ('018f0000-0000-7000-8000-000000000002', 'theirs');
         INSERT INTO rental.alerts (key) VALUES ('ours')",
    )
    .await;
    put(&stage, "alerts", &alerts()).await;
    assert_eq!(run_due(&stage).await.created, 1);
    assert_eq!(told(&pool).await, ["ours"]);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_row_that_cannot_be_sent_stops_no_other_and_is_asked_about_again(pool: PgPool) {
    let stage = begin(&pool).await;
    execute(
        &pool,
        "INSERT INTO rental.alerts (key, recipient) VALUES ('known', 'ada'), ('stranger', 'lin'), (NULL, 'ada'), ('x', 'a b');
         INSERT INTO rental.alerts (key, data) VALUES ('listed', '[1]'), ('wrong', '{\"name\": 5}'),
             ('long', jsonb_build_object('name', repeat('x', 20000)))",
    )
    .await;
    put(&stage, "alerts", &alerts()).await;
    assert_eq!(run_due(&stage).await.created, 1);
    let reasons = &show(&stage, "alerts").await["last_run"]["counts"]["refused_by_reason"];
    assert_eq!(
        *reasons,
        json!({
            "data_no_object": 1, "data_too_large": 1, "key_unusable": 1, "recipient_unusable": 1, "unknown_recipient": 1,
            "wrong_data": 1,
        })
    );
    stage.put(TENANT, "/v1/recipients/{id}", "lin", json!({"email": "lin@example.org"})).await;
    assert_eq!(run_due(&stage).await.created, 1, "the stranger is known by now");
    assert_eq!(told(&pool).await, ["known", "stranger"]);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_view_with_a_million_rows_fails_its_run_and_nothing_of_it_is_sent(pool: PgPool) {
    let stage = begin(&pool).await;
    execute(
        &pool,
        "CREATE VIEW rental.everything AS
         SELECT '018f0000-0000-7000-8000-000000000001'::uuid AS tenant_id, n::text AS key, 'ada' AS recipient,
                '{\"name\": \"Ada\"}'::jsonb AS data
         FROM generate_series(1, 1000000) n;
         CREATE VIEW rental.heavy AS
         SELECT tenant_id, key, recipient, jsonb_build_object('name', repeat('x', 16000)) AS data
         FROM rental.everything WHERE key::integer <= 600;
         GRANT SELECT ON rental.everything, rental.heavy TO harkara_domain_job;
         INSERT INTO rental.alerts (key) VALUES ('one')",
    )
    .await;
    let of = |view: &str| json!({"schedule": "rate(5 minutes)", "candidates": {"view": view, "category": "greeting"}});
    put(&stage, "everything", &of("rental.everything")).await;
    put(&stage, "heavy", &of("rental.heavy")).await;
    put(&stage, "alerts", &alerts()).await;
    let counts = run_due(&stage).await;
    assert_eq!((counts.succeeded, counts.failed, counts.created), (1, 2, 1));
    assert_eq!(runs(&stage, "everything").await, [("failed".to_owned(), Some("too_many_candidates".to_owned()))]);
    assert_eq!(runs(&stage, "heavy").await, [("failed".to_owned(), Some("candidates_too_large".to_owned()))]);
    assert_eq!(told(&pool).await, ["one"]);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_view_that_fails_hangs_or_writes_fails_its_run_with_the_reason(pool: PgPool) {
    let stage = begin(&pool).await;
    execute(
        &pool,
        "CREATE FUNCTION rental.write() RETURNS text LANGUAGE sql SECURITY DEFINER
         AS 'INSERT INTO rental.calls (caller) VALUES (''view'') RETURNING caller';
         CREATE FUNCTION rental.hang() RETURNS text LANGUAGE sql SECURITY DEFINER
         AS 'SELECT pg_advisory_xact_lock(7); SELECT ''hang''';
         GRANT EXECUTE ON FUNCTION rental.write, rental.hang TO harkara_domain_job;
         CREATE VIEW rental.writing AS SELECT tenant_id, rental.write() AS key, recipient, data FROM rental.alerts;
         CREATE VIEW rental.hanging AS SELECT tenant_id, rental.hang() AS key, recipient, data FROM rental.alerts;
         CREATE VIEW rental.dividing AS SELECT tenant_id, (1 / (length(key) - 1))::text AS key, recipient, data
         FROM rental.alerts;
         GRANT SELECT ON rental.writing, rental.hanging, rental.dividing TO harkara_domain_job;
         INSERT INTO rental.alerts (key) VALUES ('1')",
    )
    .await;
    let mut holder = pool.begin().await.expect("a transaction");
    sqlx::query("SELECT pg_advisory_xact_lock(7)").execute(&mut *holder).await.expect("held");
    let table = [
        ("writing", "sqlstate_25006"),
        ("hanging", "timed_out"),
        ("dividing", "sqlstate_22012"),
        ("alerts", "sqlstate_42501"),
        ("nothing", "sqlstate_42P01"),
    ];
    for (view, _) in table {
        let view_name = format!("rental.{view}");
        let body = json!({
            "schedule": "rate(5 minutes)", "timeout_seconds": 1,
            "candidates": {"view": view_name, "category": "greeting"},
        });
        put(&stage, view, &body).await;
    }
    put(&stage, "good", &calls("rental.note_call")).await;
    let counts = run_due(&stage).await;
    assert_eq!((counts.succeeded, counts.failed, counts.created), (1, 5, 0));
    for (view, code) in table {
        assert_eq!(runs(&stage, view).await, [("failed".to_owned(), Some(code.to_owned()))], "{view}");
    }
    holder.rollback().await.expect("let go");
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_row_is_known_until_its_job_has_run_without_it_however_seldom_that_is(pool: PgPool) {
    let stage = begin(&pool).await;
    execute(&pool, "INSERT INTO rental.alerts (key) VALUES ('a'), ('b')").await;
    let answer = stage.call(TENANT, "PUT /v1/settings", None, "", r#"{"retention": {"default_days": 7}}"#).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let mut monthly = alerts();
    monthly["schedule"] = json!("rate(30 days)");
    put(&stage, "monthly", &monthly).await;
    let run_after_a_month = async || {
        stage.pass(HOUR * 24 * 30).await;
        let counts = stage.run_domain_jobs().await;
        stage.drain().await;
        counts.created
    };
    assert_eq!(run_after_a_month().await, 2);
    stage.pass(HOUR * 24 * 20).await;
    stage.maintain().await;
    stage.pass(HOUR * 24 * 10).await;
    assert_eq!(stage.run_domain_jobs().await.created, 0, "it has shown them all the time");
    execute(&pool, "DELETE FROM rental.alerts WHERE key = 'a'").await;
    assert_eq!(run_after_a_month().await, 0);
    stage.maintain().await;
    execute(&pool, "INSERT INTO rental.alerts (key) VALUES ('a')").await;
    assert_eq!(run_after_a_month().await, 1, "it was away for longer than things are kept");
    stage.call(TENANT, "DELETE /v1/jobs/{key}", Some("monthly"), "", "").await;
    stage.pass(HOUR * 24 * 8).await;
    stage.maintain().await;
    assert_eq!(stage.count("SELECT count(*) FROM harkara.domain_job_candidates").await, 0, "of a job that is no more");
    finish(stage).await;
}
