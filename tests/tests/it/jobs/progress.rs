//! A run says how far it is while it is at work, and its row keeps that whatever becomes of it.

use super::{Broken, LEASE, get, show_job, show_runs, succeed};
use crate::{digest, escalation};
use adapters::store::database::StoreError;
use domain::feedback::SuppressionReason;
use domain::job::Trigger;
use flow::job::{Done, Job};
use flow::progress::Progress;
use serde_json::{Value, json};
use sqlx::PgPool;
use std::time::{Duration, Instant};
use tests::{Stage, TENANT};

/// What a job counts here.
#[derive(Clone, Copy, Default, PartialEq)]
struct Steps(u32);

impl From<Steps> for Done {
    fn from(Steps(count): Steps) -> Self {
        Self { counts: json!({"steps": count}), leaves_work: false }
    }
}

/// Does work in the frame, as the dispatcher's.
async fn run<E: Into<flow::job::Failure>>(stage: &Stage, work: impl AsyncFnOnce(&Progress<'_>) -> Result<Steps, E>) {
    let ended = stage.run_telling_job(Job::Dispatcher, Trigger::Schedule, LEASE, work).await;
    drop(ended.map_err(|failure| failure.code));
}

/// Keeps what runs say while they are at work, each time that it is written.
async fn keep_notes(pool: &PgPool) {
    let statements = "
        CREATE TABLE public.notes (number bigint GENERATED ALWAYS AS IDENTITY, job text, counts jsonb);
        CREATE FUNCTION public.keep_note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
        SET search_path = pg_catalog, pg_temp
        AS $$
        BEGIN
            INSERT INTO public.notes (job, counts) VALUES (NEW.job, NEW.counts);
            RETURN NULL;
        END $$;
        CREATE TRIGGER keep_note AFTER UPDATE OF counts ON harkara.job_runs
        FOR EACH ROW WHEN (NEW.finished_at IS NULL) EXECUTE FUNCTION public.keep_note()";
    sqlx::raw_sql(statements).execute(pool).await.expect("a trigger");
}

async fn notes(pool: &PgPool, job: Job) -> Vec<Value> {
    let statement = "SELECT counts FROM public.notes WHERE job = $1 ORDER BY number";
    sqlx::query_scalar(statement).bind(job.as_str()).fetch_all(pool).await.expect("they can be read")
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_run_that_is_at_work_shows_what_it_has_done_so_far(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    run(&stage, async |progress| {
        progress.note(Steps(0)).await;
        let nothing = show_job(&stage).await;
        assert_eq!((&nothing["status"], &nothing["last_run"]["counts"]), (&json!("running"), &Value::Null));
        progress.note(Steps(2)).await;
        let shown = show_job(&stage).await;
        assert_eq!((&shown["status"], &shown["last_run"]["counts"]), (&json!("running"), &json!({"steps": 2})));
        assert_eq!(
            (&shown["last_run"]["leaves_work"], &shown["last_run"]["finished_at"]),
            (&Value::Null, &Value::Null)
        );
        assert!(shown["last_run"]["counted_at"].is_string(), "{shown}");
        assert_eq!(show_runs(&stage, "counts").await, [json!({"steps": 2})]);
        Ok::<_, StoreError>(Steps(5))
    })
    .await;
    let ended = get(&stage, TENANT, "GET /v1/jobs/{key}/runs", Some("dispatcher")).await.body["runs"][0].clone();
    assert_eq!((&ended["status"], &ended["counts"]), (&json!("succeeded"), &json!({"steps": 5})));
    assert!(ended["counted_at"].is_string(), "{ended}");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_run_that_dies_half_way_keeps_what_it_had_done(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let (reached, mut half_way) = tokio::sync::oneshot::channel();
    let work = async |progress: &Progress<'_>| {
        progress.note(Steps(2)).await;
        reached.send(()).expect("somebody waits");
        std::future::pending::<Result<Steps, StoreError>>().await
    };
    tokio::select! {
        biased;
        _ = &mut half_way => {}
        () = run(&stage, work) => panic!("it hangs"),
    }
    stage.pass(LEASE).await;
    let shown = show_job(&stage).await;
    assert_eq!((&shown["status"], &shown["last_run"]["counts"]), (&json!("died"), &json!({"steps": 2})));
    succeed(&stage).await;
    assert_eq!(show_runs(&stage, "status").await, ["succeeded", "died"]);
    assert_eq!(show_runs(&stage, "counts").await, [json!({"done": 3}), json!({"steps": 2})], "once it is marked, too");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_run_that_fails_half_way_keeps_all_that_it_had_done(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    run(&stage, async |progress| {
        for count in 1..=3 {
            progress.note(Steps(count)).await;
        }
        Err(Broken)
    })
    .await;
    run(&stage, async |_| Err(Broken)).await;
    assert_eq!(show_runs(&stage, "status").await, ["failed", "failed"]);
    assert_eq!(show_runs(&stage, "counts").await, [Value::Null, json!({"steps": 3})]);
    assert_eq!(show_runs(&stage, "error").await, vec!["statement_refused"; 2]);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_a_run_says_after_it_was_taken_for_dead_is_not_written(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    run(&stage, async |progress| {
        stage.pass(LEASE).await;
        succeed(&stage).await;
        progress.note(Steps(2)).await;
        Ok::<_, StoreError>(Steps(2))
    })
    .await;
    assert_eq!(show_runs(&stage, "counts").await, [json!({"done": 3}), Value::Null]);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn however_many_batches_a_run_has_it_says_so_once_in_two_seconds(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    keep_notes(&pool).await;
    let begun = Instant::now();
    run(&stage, async |progress| {
        for count in 1..=10_000 {
            progress.note(Steps(count)).await;
        }
        Ok::<_, StoreError>(Steps(10_000))
    })
    .await;
    let most = 1 + begun.elapsed().as_secs() / 2;
    let written = notes(&pool, Job::Dispatcher).await;
    assert!((1..=most).contains(&(written.len() as u64)), "{} times, and at most {most}", written.len());
    assert_eq!(written[0], json!({"steps": 1}), "the first at once");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn each_scheduled_function_says_what_it_has_done_and_nothing_where_nothing_is_due(pool: PgPool) {
    // Ada, who wants her news daily, and what is due for her of each kind.
    let stage = digest::begin(pool.clone()).await;
    stage.maintain().await;
    keep_notes(&pool).await;
    let run_all = async || {
        let end = || Instant::now() + Duration::from_secs(60);
        let of = Trigger::Schedule;
        let run = stage.run_telling_job(Job::Digest, of.clone(), LEASE, async |p| stage.digest.run(end(), p).await);
        run.await.expect("run");
        let run = stage.run_telling_job(Job::Reminder, of.clone(), LEASE, async |p| stage.reminder.run(end(), p).await);
        run.await.expect("run");
        let work = async |p: &Progress<'_>| stage.escalation.run(end(), p).await;
        stage.run_telling_job(Job::Escalation, of.clone(), LEASE, work).await.expect("run");
        let work = async |p: &Progress<'_>| stage.domain_jobs.run(end(), p).await;
        stage.run_telling_job(Job::DomainJob, of.clone(), LEASE, work).await.expect("run");
        let work = async |p: &Progress<'_>| stage.dispatcher.dispatch_due(end(), p).await;
        stage.run_telling_job(Job::Dispatcher, of.clone(), LEASE, work).await.expect("run");
        let work = async |p: &Progress<'_>| stage.maintenance.run(end(), p).await;
        stage.run_telling_job(Job::Maintenance, of.clone(), LEASE, work).await.expect("run");
    };
    run_all().await;
    for job in Job::ALL {
        assert_eq!(notes(&pool, *job).await, Vec::<Value>::new(), "{job} has done nothing");
    }

    digest::ask(&stage, "COMMENTED", "ada", "Ada").await;
    let deadline = json!({
        "category": "greeting", "recipients": ["ada"], "due_at": "2026-12-03T12:00:00Z", "rungs": [{"before": "P1D"}],
        "data": {"name": "Ada"},
    });
    stage.put(TENANT, "/v1/deadlines/{key}", "tax", deadline).await;
    escalation::put_policy(&stage, json!([{"recipients": ["ada"]}, {"delay": "PT30M", "recipients": ["ada"]}])).await;
    escalation::start(&stage).await;
    let domain = "
        CREATE SCHEMA rental;
        CREATE FUNCTION rental.nothing(tenant uuid) RETURNS void LANGUAGE sql AS '';
        GRANT USAGE ON SCHEMA rental TO harkara_domain_job";
    sqlx::raw_sql(domain).execute(&pool).await.expect("the domain's schema");
    let job = json!({"schedule": "rate(5 minutes)", "call": {"function": "rental.nothing"}});
    stage.put(TENANT, "/v1/jobs/{key}", "nothing", job).await;
    digest::move_to(&stage, "2026-12-02T13:00:00Z").await;
    run_all().await;
    let said = async |job: Job, name: &str| {
        let notes = notes(&pool, job).await;
        let last = notes.last().unwrap_or_else(|| panic!("{job} has said nothing"));
        last[name].as_u64().unwrap_or_else(|| panic!("{last}"))
    };
    assert_eq!(said(Job::Digest, "digests").await, 1);
    assert_eq!(said(Job::Reminder, "fired").await, 1);
    assert_eq!(said(Job::Escalation, "fired").await, 1);
    assert_eq!(said(Job::DomainJob, "succeeded").await, 1);
    assert!(said(Job::Dispatcher, "events").await > 0);
    let listed = ["a@example.org", "b@example.org", "c@example.org"].map(|to| (to, SuppressionReason::HardBounce));
    stage.account.set(&listed, 14);
    let work = async |p: &Progress<'_>| stage.feedback.reconcile(Instant::now() + Duration::from_secs(60), p).await;
    stage.run_telling_job(Job::Feedback, Trigger::Schedule, LEASE, work).await.expect("run");
    assert_eq!(said(Job::Feedback, "added").await, 2, "of the first page");
    stage.drain().await;
    // What has ended is old enough to go.
    stage.pass(Duration::from_secs(400 * 24 * 3600)).await;
    run_all().await;
    // Of the tenant whose turn was first: hers, or the operator's, who has old runs.
    assert!(said(Job::Maintenance, "notifications").await + said(Job::Maintenance, "expired").await > 0);
    stage.drain().await;
    stage.finish().await;
}
