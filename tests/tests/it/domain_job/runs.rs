//! Each occurrence runs once, whatever overlaps, is missed, is asked for or dies.

use super::{HOUR, MINUTE, alerts, ask, begin, calls, execute, finish, other_runner, put, runs, show, told};
use crate::recipients::see_somebody_wait;
use flow::progress::Progress;
use serde_json::json;
use sqlx::PgPool;
use std::time::{Duration, Instant};
use tests::{OTHER_TENANT, TENANT, see_count};

const CALLS: &str = "SELECT count(*) FROM rental.calls";

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn two_runners_at_the_same_instant_run_each_occurrence_once(pool: PgPool) {
    let stage = begin(&pool).await;
    execute(&pool, "INSERT INTO rental.alerts (key) SELECT n::text FROM generate_series(1, 20) n").await;
    for number in 0..6 {
        put(&stage, &format!("call{number}"), &calls("rental.note_call")).await;
    }
    put(&stage, "alerts", &alerts()).await;
    let other = other_runner(&stage);
    stage.pass(MINUTE * 5).await;
    let deadline = Instant::now() + Duration::from_secs(300);
    let untold = Progress::untold();
    let (one, two) = tokio::join!(stage.domain_jobs.run(deadline, &untold), other.run(deadline, &untold));
    let (one, two) = (one.expect("run"), two.expect("run"));
    assert_eq!(one.succeeded + two.succeeded, 7, "{one:?} {two:?}");
    assert_eq!((one.failed + two.failed, one.created + two.created), (0, 20));
    assert_eq!(stage.count(CALLS).await, 6);
    assert_eq!(told(&pool).await.len(), 20);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_missed_run_of_three_hours_is_made_up_for_by_one(pool: PgPool) {
    let stage = begin(&pool).await;
    put(&stage, "call", &calls("rental.note_call")).await;
    stage.pass(HOUR * 3 + MINUTE * 2).await;
    let shown = show(&stage, "call").await;
    let lag = shown["lag_seconds"].as_u64().expect("a lag");
    assert!((10_620..10_680).contains(&lag) && shown["is_late"] == json!(true), "{shown}");
    assert_eq!(stage.run_domain_jobs().await.succeeded, 1);
    assert_eq!(stage.run_domain_jobs().await.succeeded, 0);
    assert_eq!(stage.count(CALLS).await, 1);
    let shown = show(&stage, "call").await;
    assert_eq!((&shown["lag_seconds"], &shown["is_late"]), (&json!(0), &json!(false)));
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_run_that_is_killed_half_way_is_found_dead_after_its_lease_and_made_up_for(pool: PgPool) {
    let stage = begin(&pool).await;
    let mut waiting = calls("rental.wait");
    waiting["schedule"] = json!("rate(1 day)");
    put(&stage, "nightly", &waiting).await;
    stage.pass(HOUR * 24).await;
    let mut holder = pool.begin().await.expect("a transaction");
    sqlx::query("SELECT pg_advisory_xact_lock(7)").execute(&mut *holder).await.expect("held");
    tokio::select! {
        biased;
        () = see_somebody_wait(&pool) => {}
        _ = stage.run_domain_jobs() => panic!("it hangs"),
    }
    holder.rollback().await.expect("let go");
    assert_eq!(show(&stage, "nightly").await["status"], "running");
    assert_eq!(stage.run_domain_jobs().await.succeeded, 0, "its lease holds");
    stage.pass(Duration::from_secs(62)).await;
    assert_eq!(stage.run_domain_jobs().await.succeeded, 1, "and not only the next night");
    assert_eq!(stage.count(CALLS).await, 1, "what the killed one did went with it");
    let ends: Vec<_> = runs(&stage, "nightly").await.into_iter().map(|(status, _)| status).collect();
    assert_eq!(ends, ["succeeded", "died"]);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_run_that_is_killed_after_its_job_was_removed_is_found_dead_all_the_same(pool: PgPool) {
    let stage = begin(&pool).await;
    put(&stage, "removed", &calls("rental.wait")).await;
    stage.pass(MINUTE * 5).await;
    let mut holder = pool.begin().await.expect("a transaction");
    sqlx::query("SELECT pg_advisory_xact_lock(7)").execute(&mut *holder).await.expect("held");
    tokio::select! {
        biased;
        () = see_somebody_wait(&pool) => {}
        _ = stage.run_domain_jobs() => panic!("it hangs"),
    }
    holder.rollback().await.expect("let go");
    assert_eq!(stage.call(TENANT, "DELETE /v1/jobs/{key}", Some("removed"), "", "").await.status, 204);
    let found = "SELECT count(*) FROM harkara.job_runs WHERE outcome = 'died'";
    stage.run_domain_jobs().await;
    assert_eq!(stage.count(found).await, 0, "it may be at work still");
    stage.pass(Duration::from_secs(62)).await;
    stage.run_domain_jobs().await;
    assert_eq!(stage.count(found).await, 1);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_job_that_is_removed_and_put_again_waits_for_the_run_that_is_at_work(pool: PgPool) {
    let stage = begin(&pool).await;
    put(&stage, "again", &calls("rental.wait")).await;
    stage.pass(MINUTE * 5).await;
    let mut holder = pool.begin().await.expect("a transaction");
    sqlx::query("SELECT pg_advisory_xact_lock(7)").execute(&mut *holder).await.expect("held");
    let other = other_runner(&stage);
    let (first, ()) = tokio::join!(stage.run_domain_jobs(), async {
        see_somebody_wait(&pool).await;
        assert_eq!(stage.call(TENANT, "DELETE /v1/jobs/{key}", Some("again"), "", "").await.status, 204);
        put(&stage, "again", &calls("rental.note_call")).await;
        let asked = ask(&stage, TENANT, "POST /v1/jobs/{key}/run", "again", &json!({})).await;
        assert_eq!(asked.status, 202, "{asked:?}");
        let counts = other.run(Instant::now() + Duration::from_secs(300), &Progress::untold()).await.expect("run");
        assert_eq!((counts.succeeded, counts.failed), (0, 0));
        holder.rollback().await.expect("let go");
    });
    assert_eq!((first.succeeded, first.failed), (1, 0), "what it did lasts, though its job is another by now");
    stage.pass(Duration::from_secs(31)).await;
    assert_eq!(stage.run_domain_jobs().await.succeeded, 1, "the one that was asked for");
    let ends: Vec<_> = runs(&stage, "again").await.into_iter().map(|(status, _)| status).collect();
    assert_eq!(ends, ["succeeded", "succeeded"]);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_run_that_is_asked_for_is_due_at_once_and_happens_once(pool: PgPool) {
    let stage = begin(&pool).await;
    put(&stage, "call", &calls("rental.note_call")).await;
    let due = show(&stage, "call").await["next_due_at"].clone();
    let asked = ask(&stage, TENANT, "POST /v1/jobs/{key}/run", "call", &json!({})).await;
    assert_eq!(asked.status, 202, "{asked:?}");
    let again = ask(&stage, TENANT, "POST /v1/jobs/{key}/run", "call", &json!({})).await;
    assert_eq!(again.body["run_id"], asked.body["run_id"], "it has not begun");
    assert_eq!(stage.run_domain_jobs().await.succeeded, 1);
    assert_eq!(stage.run_domain_jobs().await.succeeded, 0);
    let shown = show(&stage, "call").await;
    assert_eq!(shown["last_run"]["id"], asked.body["run_id"]);
    assert_eq!(
        (&shown["last_run"]["cause"], &shown["last_run"]["requested_by"]),
        (&json!("request"), &json!("tester"))
    );
    assert_eq!(shown["next_due_at"], due, "its schedule goes on");
    assert!(stage.bus.detail_types().contains(&"job.run_requested".to_owned()));
    for (tenant, key) in [(OTHER_TENANT, "call"), (TENANT, "nonsense")] {
        assert_eq!(ask(&stage, tenant, "POST /v1/jobs/{key}/run", key, &json!({})).await.status, 404);
    }
    assert_eq!(ask(&stage, TENANT, "POST /v1/jobs/{key}/run", "dispatcher", &json!({})).await.status, 403);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_run_that_is_asked_for_while_another_is_at_work_begins_after_it(pool: PgPool) {
    let stage = begin(&pool).await;
    put(&stage, "call", &calls("rental.wait")).await;
    stage.pass(MINUTE * 5).await;
    let mut holder = pool.begin().await.expect("a transaction");
    sqlx::query("SELECT pg_advisory_xact_lock(7)").execute(&mut *holder).await.expect("held");
    let (counts, asked) = tokio::join!(stage.run_domain_jobs(), async {
        see_somebody_wait(&pool).await;
        let asked = ask(&stage, TENANT, "POST /v1/jobs/{key}/run", "call", &json!({})).await;
        holder.rollback().await.expect("let go");
        asked.body["run_id"].clone()
    });
    assert_eq!((counts.succeeded, counts.failed, stage.count(CALLS).await), (2, 0, 2));
    assert_eq!(show(&stage, "call").await["last_run"]["id"], asked);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn more_than_three_failures_in_a_row_are_told_to_the_tenants_operators_once(pool: PgPool) {
    let stage = begin(&pool).await;
    let text = json!({"type": "string", "example": "words"});
    let template = json!({
        "variables": {"job": text, "error": text}, "subject": "{{ job }} fails", "text": "{{ error }}",
    });
    stage.publish(TENANT, "job_failed", template).await;
    let category = json!({"class": "security", "template": "job_failed"});
    stage.put(TENANT, "/v1/categories/{key}", "job_failed", category).await;
    let operator = json!({"email": "olga@example.org", "roles": ["operator"]});
    stage.put(TENANT, "/v1/recipients/{id}", "olga", operator).await;
    put(&stage, "failing", &calls("rental.fail")).await;
    for _ in 0..6 {
        stage.pass(MINUTE * 5).await;
        assert_eq!(stage.run_domain_jobs().await.failed, 1);
    }
    let told = "SELECT count(*) FROM harkara.notifications WHERE category_key = 'job_failed' AND priority = 'critical'";
    assert_eq!(stage.count(told).await, 1, "one person, once");
    let events =
        "SELECT count(*) FROM harkara.events WHERE detail_type = 'job.failing' AND detail ->> 'job' = 'failing'";
    assert_eq!(stage.count(events).await, 1);
    assert_eq!(show(&stage, "failing").await["failure_count"], 6);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_slow_job_of_one_tenant_holds_up_none_of_anothers(pool: PgPool) {
    let stage = begin(&pool).await;
    put(&stage, "slow", &calls("rental.wait")).await;
    for number in 0..3 {
        let key = format!("quick{number}");
        let answer = ask(&stage, OTHER_TENANT, "PUT /v1/jobs/{key}", &key, &calls("rental.note_call")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    stage.pass(MINUTE * 5).await;
    let mut holder = pool.begin().await.expect("a transaction");
    sqlx::query("SELECT pg_advisory_xact_lock(7)").execute(&mut *holder).await.expect("held");
    // It is let go once the others are done.
    let (counts, ()) = tokio::join!(stage.run_domain_jobs(), async {
        see_count(&pool, CALLS, 3).await;
        holder.rollback().await.expect("let go");
    });
    assert_eq!((counts.succeeded, counts.failed), (4, 0), "{counts:?}");
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_job_that_is_put_off_holds_up_none_of_its_tenants_others(pool: PgPool) {
    let stage = begin(&pool).await;
    for key in ["a", "b"] {
        put(&stage, key, &calls("rental.note_call")).await;
    }
    execute(&pool, "UPDATE harkara.domain_jobs SET definition = '{\"of_a_later_release\": {}}' WHERE job_key = 'a'")
        .await;
    stage.pass(MINUTE * 5).await;
    let counts = stage.run_domain_jobs().await;
    assert_eq!((counts.succeeded, counts.failed, counts.leaves_work), (1, 0, false));
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_run_says_that_it_leaves_what_it_has_no_time_for(pool: PgPool) {
    let stage = begin(&pool).await;
    let mut long = calls("rental.note_call");
    long["timeout_seconds"] = json!(240);
    put(&stage, "long", &long).await;
    put(&stage, "quick", &calls("rental.note_call")).await;
    stage.pass(MINUTE * 5).await;
    let counts =
        stage.domain_jobs.run(Instant::now() + Duration::from_secs(120), &Progress::untold()).await.expect("run");
    assert_eq!((counts.succeeded, counts.leaves_work), (1, true));
    let counts = stage.run_domain_jobs().await;
    assert_eq!((counts.succeeded, counts.leaves_work), (1, false));
    let counts = stage.domain_jobs.run(Instant::now(), &Progress::untold()).await.expect("run");
    assert_eq!((counts.succeeded, counts.leaves_work), (0, false), "nothing is due");
    finish(stage).await;
}

/// Postgres tells a statement once that its time is over, and a function may catch that.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_does_not_end_when_it_is_told_to_is_ended_with_its_session(pool: PgPool) {
    let stage = begin(&pool).await;
    execute(
        &pool,
        "CREATE FUNCTION rental.go_on(tenant uuid) RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$
         BEGIN
             LOOP
                 BEGIN
                     PERFORM pg_sleep(3600);
                 EXCEPTION WHEN query_canceled THEN
                     NULL;
                 END;
             END LOOP;
         END $$;
         CREATE VIEW rental.endless AS SELECT tenant_id, rental.go_on(tenant_id) AS key, recipient, data FROM rental.alerts;
         INSERT INTO rental.alerts (tenant_id, key) VALUES ('018f0000-0000-7000-8000-000000000002', 'a');
         GRANT SELECT ON rental.endless TO harkara_domain_job;
         GRANT EXECUTE ON FUNCTION rental.go_on TO harkara_domain_job",
    )
    .await;
    let (mut endless, mut view) = (calls("rental.go_on"), alerts());
    endless["timeout_seconds"] = json!(1);
    (view["timeout_seconds"], view["candidates"]["view"]) = (json!(1), json!("rental.endless"));
    stage.put(OTHER_TENANT, "/v1/categories/{key}", "greeting", json!({"class": "reminder"})).await;
    put(&stage, "endless", &endless).await;
    let answer = ask(&stage, OTHER_TENANT, "PUT /v1/jobs/{key}", "view", &view).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    put(&stage, "good", &calls("rental.note_call")).await;
    stage.pass(MINUTE * 5).await;
    // With sessions that it may end: those of a stage are an administrator's.
    let counts =
        other_runner(&stage).run(Instant::now() + Duration::from_secs(300), &Progress::untold()).await.expect("run");
    assert_eq!((counts.succeeded, counts.failed), (1, 2));
    assert_eq!(runs(&stage, "endless").await, [("failed".to_owned(), Some("timed_out".to_owned()))]);
    let going_on =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    assert_eq!(stage.count(going_on).await, 0);
    finish(stage).await;
}
