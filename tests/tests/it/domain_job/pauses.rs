//! A paused job stays as it is, and its schedule leads to no run.

use super::{HOUR, MINUTE, ask, begin, calls, finish, put, runs, show};
use crate::recipients::see_somebody_wait;
use serde_json::{Value, json};
use sqlx::PgPool;
use std::time::Duration;
use tests::{Stage, TENANT};

const CALLS: &str = "SELECT count(*) FROM rental.calls";

async fn pause(stage: &Stage, key: &str, function: &str) -> Value {
    let mut body = calls(function);
    body["enabled"] = json!(false);
    put(stage, key, &body).await
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_paused_job_is_not_run_by_its_schedule_and_goes_on_from_when_it_is_let(pool: PgPool) {
    let stage = begin(&pool).await;
    let shown = put(&stage, "call", &calls("rental.note_call")).await;
    assert_eq!((&shown["enabled"], &shown["status"]), (&json!(true), &json!("never_run")));
    for _ in 0..2 {
        let shown = pause(&stage, "call", "rental.note_call").await;
        assert_eq!((&shown["enabled"], &shown["status"]), (&json!(false), &json!("paused")));
        assert_eq!((&shown["next_due_at"], &shown["lag_seconds"]), (&Value::Null, &Value::Null));
    }
    stage.pass(HOUR).await;
    assert_eq!(stage.run_domain_jobs().await, Default::default(), "and nothing is left");
    assert_eq!(show(&stage, "call").await["is_late"], json!(false));
    assert_eq!(stage.maintain().await.stranded, 0, "nothing is amiss with it");

    put(&stage, "call", &calls("rental.note_call")).await;
    assert_eq!(stage.run_domain_jobs().await.succeeded, 0, "what fell into the pause is not made up for");
    stage.pass(MINUTE * 5).await;
    assert_eq!(stage.run_domain_jobs().await.succeeded, 1);
    assert_eq!(show(&stage, "call").await["status"], "succeeded");
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_job_that_is_put_as_paused_begins_once_it_is_let(pool: PgPool) {
    let stage = begin(&pool).await;
    pause(&stage, "call", "rental.note_call").await;
    stage.pass(HOUR).await;
    assert_eq!(stage.run_domain_jobs().await.succeeded, 0);
    let shown = put(&stage, "call", &calls("rental.note_call")).await;
    assert!(shown["next_due_at"].is_string() && shown["enabled"] == true, "{shown}");
    stage.pass(MINUTE * 5).await;
    assert_eq!(stage.run_domain_jobs().await.succeeded, 1);
    let mut wrong = calls("rental.note_call");
    wrong["enabled"] = json!("no");
    let refused = ask(&stage, TENANT, "PUT /v1/jobs/{key}", "call", &wrong).await;
    assert_eq!((refused.status, refused.pointers()), (422, vec!["/enabled"]));
    assert_eq!(show(&stage, "call").await["enabled"], true, "nothing of it is stored");
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_run_of_a_paused_job_that_is_asked_for_happens_once_and_no_other_follows(pool: PgPool) {
    let stage = begin(&pool).await;
    pause(&stage, "call", "rental.note_call").await;
    let asked = ask(&stage, TENANT, "POST /v1/jobs/{key}/run", "call", &json!({})).await;
    assert_eq!(asked.status, 202, "{asked:?}");
    assert_eq!(stage.run_domain_jobs().await.succeeded, 1);
    stage.pass(HOUR).await;
    assert_eq!((stage.run_domain_jobs().await.succeeded, stage.count(CALLS).await), (0, 1));
    let shown = show(&stage, "call").await;
    assert_eq!((&shown["status"], &shown["next_due_at"]), (&json!("paused"), &Value::Null));
    assert_eq!((&shown["last_run"]["id"], &shown["last_run"]["status"]), (&asked.body["run_id"], &json!("succeeded")));
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_is_at_work_when_its_job_is_paused_goes_on_and_is_made_up_for_where_it_dies(pool: PgPool) {
    let stage = begin(&pool).await;
    for (key, dies) in [("ends", false), ("dies", true)] {
        put(&stage, key, &calls("rental.wait")).await;
        stage.pass(MINUTE * 5).await;
        let mut holder = pool.begin().await.expect("a transaction");
        sqlx::query("SELECT pg_advisory_xact_lock(7)").execute(&mut *holder).await.expect("held");
        let paused = async {
            see_somebody_wait(&pool).await;
            let shown = pause(&stage, key, "rental.wait").await;
            assert_eq!((&shown["status"], &shown["next_due_at"]), (&json!("running"), &Value::Null));
        };
        if dies {
            tokio::select! {
                biased;
                () = paused => {}
                _ = stage.run_domain_jobs() => panic!("it hangs"),
            }
            holder.rollback().await.expect("let go");
            stage.pass(Duration::from_secs(62)).await;
            assert_eq!(stage.run_domain_jobs().await.succeeded, 1, "once");
        } else {
            let let_go = async {
                paused.await;
                holder.rollback().await.expect("let go");
            };
            let (counts, ()) = tokio::join!(stage.run_domain_jobs(), let_go);
            assert_eq!(counts.succeeded, 1);
        }
        stage.pass(HOUR).await;
        assert_eq!(stage.run_domain_jobs().await.succeeded, 0, "{key} is paused");
        assert_eq!(show(&stage, key).await["status"], "paused");
    }
    let ends: Vec<_> = runs(&stage, "dies").await.into_iter().map(|(status, _)| status).collect();
    assert_eq!(ends, ["succeeded", "died"]);
    finish(stage).await;
}
