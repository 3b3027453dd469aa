//! Runs that stand half-way: what is seen of them, what stays where they die, and what becomes of those that end too late.

use super::{MINUTE, alerts, begin, calls, execute, finish, other_runner, put, runs, show, told};
use crate::recipients::see_somebody_wait;
use flow::domain_job::DomainJobCounts;
use flow::progress::Progress;
use serde_json::json;
use sqlx::{PgPool, Postgres, Transaction};
use std::time::{Duration, Instant};
use tests::{Stage, TENANT, see_count};

/// Lets a run's time pass that waits for `holder`, lets another runner take it for dead, and then both of them go on.
async fn take_for_dead(stage: &Stage, pool: &PgPool, holder: Transaction<'static, Postgres>) -> DomainJobCounts {
    see_somebody_wait(pool).await;
    stage.pass(Duration::from_secs(62)).await;
    let (other, untold) = (other_runner(stage), Progress::untold());
    let (made_up, ()) = tokio::join!(other.run(Instant::now() + Duration::from_secs(300), &untold), async {
        see_count(pool, "SELECT count(*) FROM harkara.job_runs WHERE outcome = 'died'", 1).await;
        holder.rollback().await.expect("let go");
    });
    made_up.expect("run")
}

/// Puts a job of six hundred candidates, which is due, and keeps its last one from being stored: a run of it stands half-way.
async fn begin_half_way(stage: &Stage, pool: &PgPool) -> Transaction<'static, Postgres> {
    execute(pool, "INSERT INTO rental.alerts (key) SELECT n::text FROM generate_series(1, 600) n").await;
    put(stage, "alerts", &alerts()).await;
    stage.pass(MINUTE * 5).await;
    let mut holder = pool.begin().await.expect("a transaction");
    let keep = "INSERT INTO harkara.domain_job_candidates (tenant_id, job_key, key_hash)
                VALUES ($1::uuid, 'alerts', sha256('600'))";
    sqlx::query(keep).bind(TENANT).execute(&mut *holder).await.expect("held");
    holder
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_run_that_comes_to_its_end_after_it_was_taken_for_dead_leaves_nothing_behind(pool: PgPool) {
    let stage = begin(&pool).await;
    put(&stage, "slow", &calls("rental.wait")).await;
    stage.pass(MINUTE * 5).await;
    let mut holder = pool.begin().await.expect("a transaction");
    sqlx::query("SELECT pg_advisory_xact_lock(7)").execute(&mut *holder).await.expect("held");
    let (first, made_up) = tokio::join!(stage.run_domain_jobs(), take_for_dead(&stage, &pool, holder));
    assert_eq!((first.succeeded, first.failed, first.late), (0, 0, 1), "its time was over");
    assert_eq!((made_up.succeeded, made_up.failed), (1, 0));
    assert_eq!(stage.count("SELECT count(*) FROM rental.calls").await, 1, "of the one that is on record");
    let ends: Vec<_> = runs(&stage, "slow").await.into_iter().map(|(status, _)| status).collect();
    assert_eq!(ends, ["succeeded", "died"]);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_run_that_fails_after_it_was_taken_for_dead_is_late_and_no_failure_more(pool: PgPool) {
    let stage = begin(&pool).await;
    execute(
        &pool,
        "CREATE FUNCTION rental.wait_and_fail(tenant uuid) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
         AS 'BEGIN PERFORM pg_advisory_xact_lock(7); RAISE EXCEPTION ''no''; END';
         GRANT EXECUTE ON FUNCTION rental.wait_and_fail TO harkara_domain_job",
    )
    .await;
    put(&stage, "slow", &calls("rental.wait_and_fail")).await;
    stage.pass(MINUTE * 5).await;
    let mut holder = pool.begin().await.expect("a transaction");
    sqlx::query("SELECT pg_advisory_xact_lock(7)").execute(&mut *holder).await.expect("held");
    let (first, made_up) = tokio::join!(stage.run_domain_jobs(), take_for_dead(&stage, &pool, holder));
    assert_eq!((first.failed, first.late), (0, 1));
    assert_eq!((made_up.failed, made_up.late), (1, 0));
    let ends: Vec<_> = runs(&stage, "slow").await.into_iter().map(|(status, _)| status).collect();
    assert_eq!(ends, ["failed", "died"]);
    assert_eq!(show(&stage, "slow").await["failure_count"], 2);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn candidates_whose_run_stands_half_way_are_counted_so_far_and_stay_so_where_it_dies(pool: PgPool) {
    let stage = begin(&pool).await;
    let holder = begin_half_way(&stage, &pool).await;
    let so_far = json!({"candidates": 600, "created": 500, "refused": 0, "refused_by_reason": {}});
    tokio::select! {
        biased;
        () = see_somebody_wait(&pool) => {}
        _ = stage.run_domain_jobs() => panic!("it hangs"),
    }
    let shown = show(&stage, "alerts").await;
    assert_eq!((&shown["status"], &shown["last_run"]["counts"]), (&json!("running"), &so_far));
    holder.rollback().await.expect("let go");
    stage.pass(Duration::from_secs(62)).await;
    let shown = show(&stage, "alerts").await;
    assert_eq!((&shown["status"], &shown["last_run"]["counts"]), (&json!("died"), &so_far));
    let counts = stage.run_domain_jobs().await;
    assert_eq!((counts.succeeded, counts.created), (1, 100), "the next run does the rest");
    let listed = stage.call(TENANT, "GET /v1/jobs/{key}/runs", Some("alerts"), "", "").await.body;
    assert_eq!((&listed["runs"][0]["counts"]["created"], &listed["runs"][1]["counts"]), (&json!(100), &so_far));
    assert_eq!(told(&pool).await.len(), 600);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn candidates_of_a_run_that_was_taken_for_dead_meanwhile_are_made_and_the_run_is_late(pool: PgPool) {
    let stage = begin(&pool).await;
    let holder = begin_half_way(&stage, &pool).await;
    let (first, made_up) = tokio::join!(stage.run_domain_jobs(), take_for_dead(&stage, &pool, holder));
    assert_eq!((first.succeeded, first.failed, first.late), (0, 0, 1), "its row says that it died");
    assert_eq!((made_up.succeeded, made_up.failed, made_up.late), (1, 0, 0));
    assert_eq!(first.created + made_up.created, 600);
    let ends: Vec<_> = runs(&stage, "alerts").await.into_iter().map(|(status, _)| status).collect();
    assert_eq!(ends, ["succeeded", "died"]);
    assert_eq!(told(&pool).await.len(), 600);
    finish(stage).await;
}
