//! A function of the domain's is called, and what it does lasts or does not, together with the run.

use super::{begin, calls, execute, finish, put, runs, show};
use serde_json::json;
use sqlx::PgPool;

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
