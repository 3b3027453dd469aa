//! A function of the domain's is called, and what it does lasts or does not, together with the run.

use super::{alerts, ask, begin, calls, execute, finish, put, runs, show};
use serde_json::json;
use sqlx::PgPool;
use tests::OTHER_TENANT;

async fn list_calls(pool: &PgPool) -> Vec<(String, String)> {
    let statement = "SELECT tenant_id::text, caller FROM rental.calls";
    sqlx::query_as(statement).fetch_all(pool).await.expect("they can be read")
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_function_is_called_with_its_tenant_and_as_nobody_who_can_do_more(pool: PgPool) {
    let stage = begin(&pool).await;
    execute(
        &pool,
        "CREATE FUNCTION rental.who(tenant uuid) RETURNS void LANGUAGE plpgsql
         AS 'BEGIN PERFORM rental.note(tenant, current_user); PERFORM set_config(''search_path'', ''rental'', false); END';
         CREATE FUNCTION rental.note(tenant uuid, who text) RETURNS void LANGUAGE sql SECURITY DEFINER
         AS 'INSERT INTO rental.calls VALUES (tenant, who)';
         CREATE FUNCTION rental.climb(tenant uuid) RETURNS void LANGUAGE plpgsql
         AS 'BEGIN SET LOCAL ROLE harkara_worker; END';
         CREATE FUNCTION rental.peek(tenant uuid) RETURNS bigint LANGUAGE plpgsql
         AS 'BEGIN RETURN (SELECT count(*) FROM harkara.recipients); END';
         GRANT EXECUTE ON FUNCTION rental.who, rental.note, rental.climb, rental.peek TO harkara_domain_job",
    )
    .await;
    for function in ["who", "climb", "peek"] {
        put(&stage, function, &calls(&format!("rental.{function}"))).await;
    }
    stage.pass(super::MINUTE * 5).await;
    let counts = stage.run_domain_jobs().await;
    assert_eq!((counts.succeeded, counts.failed), (1, 2));
    assert_eq!(list_calls(&pool).await, [(tests::TENANT.to_owned(), "harkara_domain_job".to_owned())]);
    assert_eq!(runs(&stage, "climb").await, [("failed".to_owned(), Some("sqlstate_42501".to_owned()))]);
    assert_eq!(runs(&stage, "peek").await, [("failed".to_owned(), Some("sqlstate_42501".to_owned()))]);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_function_that_fails_leaves_nothing_behind_and_is_called_again_when_it_is_due(pool: PgPool) {
    let stage = begin(&pool).await;
    put(&stage, "failing", &calls("rental.fail")).await;
    put(&stage, "good", &calls("rental.note_call")).await;
    stage.pass(super::MINUTE * 5).await;
    let counts = stage.run_domain_jobs().await;
    assert_eq!((counts.succeeded, counts.failed), (1, 1));
    assert_eq!(list_calls(&pool).await.len(), 1, "of the good one only");
    assert_eq!(stage.run_domain_jobs().await.failed, 0, "not before it is due");
    let shown = show(&stage, "failing").await;
    assert_eq!((&shown["failure_count"], &shown["last_run"]["error"]), (&json!(1), &json!("sqlstate_P0001")));
    assert!(!shown.to_string().contains("ada@example.org"), "what a server says is shown nowhere: {shown}");
    stage.pass(super::MINUTE * 5).await;
    assert_eq!(stage.run_domain_jobs().await.failed, 1);
    finish(stage).await;
}

/// Before Postgres 18 a deferred trigger runs with the rights of whoever ends the transaction, which is our worker.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_a_function_defers_is_done_within_its_call_and_with_its_own_rights(pool: PgPool) {
    let stage = begin(&pool).await;
    execute(
        &pool,
        "CREATE TABLE rental.steps (number int);
         CREATE FUNCTION rental.note(tenant uuid, who text) RETURNS void LANGUAGE sql SECURITY DEFINER
         AS 'INSERT INTO rental.calls VALUES (tenant, who)';
         CREATE FUNCTION rental.go_on() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             PERFORM rental.note(NULL, current_user);
             IF new.number = 9 THEN RAISE EXCEPTION 'no'; END IF;
             SET CONSTRAINTS ALL DEFERRED;
             IF new.number < 4 THEN INSERT INTO rental.steps VALUES (new.number + 1); END IF;
             RETURN NULL;
         END $$;
         CREATE CONSTRAINT TRIGGER later AFTER INSERT ON rental.steps DEFERRABLE INITIALLY DEFERRED
         FOR EACH ROW EXECUTE FUNCTION rental.go_on();
         CREATE FUNCTION rental.defer(tenant uuid) RETURNS void LANGUAGE plpgsql
         AS 'BEGIN INSERT INTO rental.steps VALUES (1); END';
         CREATE FUNCTION rental.break_later(tenant uuid) RETURNS void LANGUAGE plpgsql
         AS 'BEGIN INSERT INTO rental.steps VALUES (9); END';
         GRANT INSERT ON rental.steps TO harkara_domain_job;
         GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA rental TO harkara_domain_job",
    )
    .await;
    put(&stage, "defer", &calls("rental.defer")).await;
    put(&stage, "break_later", &calls("rental.break_later")).await;
    stage.pass(super::MINUTE * 5).await;
    let counts = stage.run_domain_jobs().await;
    assert_eq!((counts.succeeded, counts.failed), (1, 1));
    assert_eq!(runs(&stage, "break_later").await, [("failed".to_owned(), Some("sqlstate_P0001".to_owned()))]);
    let callers: Vec<_> = list_calls_of_anybody(&pool).await;
    assert_eq!(callers, vec!["harkara_domain_job"; 4], "each of them, however often it defers again");
    finish(stage).await;
}

async fn list_calls_of_anybody(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar("SELECT caller FROM rental.calls").fetch_all(pool).await.expect("they can be read")
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_a_domain_leaves_in_a_session_ends_with_its_run(pool: PgPool) {
    let stage = begin(&pool).await;
    execute(
        &pool,
        "CREATE FUNCTION rental.litter(tenant uuid) RETURNS void LANGUAGE plpgsql AS $$
         BEGIN
             PERFORM pg_advisory_lock(1001);
             CREATE TEMP TABLE pg_proc (proname name);
             EXECUTE 'DECLARE held CURSOR WITH HOLD FOR SELECT rental.tell()';
             SET search_path = rental;
             SET TRANSACTION READ ONLY;
         END $$;
         CREATE FUNCTION rental.tell() RETURNS text LANGUAGE plpgsql
         AS 'BEGIN RAISE EXCEPTION ''as %'', current_user; END';
         CREATE FUNCTION rental.lock_and_fail(tenant uuid) RETURNS void LANGUAGE plpgsql
         AS 'BEGIN PERFORM pg_advisory_lock(1002); RAISE EXCEPTION ''no''; END';
         CREATE VIEW rental.locking AS SELECT tenant_id, key || pg_advisory_lock(1003) AS key, recipient, data FROM rental.alerts;
         CREATE VIEW rental.lock_and_divide AS
         SELECT tenant_id, (length(pg_advisory_lock(1004)::text) / 0)::text AS key, recipient, data FROM rental.alerts;
         INSERT INTO rental.alerts (key) VALUES ('a');
         GRANT SELECT ON ALL TABLES IN SCHEMA rental TO harkara_domain_job;
         GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA rental TO harkara_domain_job",
    )
    .await;
    for function in ["litter", "lock_and_fail"] {
        put(&stage, function, &calls(&format!("rental.{function}"))).await;
    }
    for view in ["locking", "lock_and_divide"] {
        let mut body = alerts();
        body["candidates"]["view"] = json!(format!("rental.{view}"));
        put(&stage, view, &body).await;
    }
    let answer = ask(&stage, OTHER_TENANT, "PUT /v1/jobs/{key}", "theirs", &calls("rental.note_call")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    stage.pass(super::MINUTE * 5).await;
    let counts = stage.run_domain_jobs().await;
    assert_eq!((counts.succeeded, counts.failed, counts.created), (3, 2, 1), "nobody else is the worse for it");
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid BETWEEN 1001 AND 1004
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert_eq!(stage.count(locks).await, 0);
    let tables = "SELECT count(*) FROM pg_catalog.pg_class WHERE relname = 'pg_proc' AND relpersistence = 't'";
    assert_eq!(stage.count(tables).await, 0);
    finish(stage).await;
}

/// What runs as `harkara_domain_job` owns what calls it.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_function_cannot_change_what_calls_it(pool: PgPool) {
    let stage = begin(&pool).await;
    execute(
        &pool,
        "CREATE FUNCTION rental.change(tenant uuid) RETURNS void LANGUAGE plpgsql
         AS 'BEGIN ALTER FUNCTION harkara.call_granted(text, text, uuid) SECURITY INVOKER; END';
         CREATE FUNCTION rental.remove(tenant uuid) RETURNS void LANGUAGE plpgsql
         AS 'BEGIN DROP OWNED BY CURRENT_USER; END';
         GRANT EXECUTE ON FUNCTION rental.change, rental.remove TO harkara_domain_job",
    )
    .await;
    for function in ["change", "remove"] {
        put(&stage, function, &calls(&format!("rental.{function}"))).await;
    }
    stage.pass(super::MINUTE * 5).await;
    let counts = stage.run_domain_jobs().await;
    assert_eq!((counts.succeeded, counts.failed), (0, 2));
    for function in ["change", "remove"] {
        assert_eq!(runs(&stage, function).await, [("failed".to_owned(), Some("sqlstate_42501".to_owned()))]);
    }
    put(&stage, "good", &calls("rental.note_call")).await;
    stage.pass(super::MINUTE * 5).await;
    assert_eq!(stage.run_domain_jobs().await.succeeded, 1, "everything is there still");
    finish(stage).await;
}
