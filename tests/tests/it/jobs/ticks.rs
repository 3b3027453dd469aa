//! A tick that finds a run at work begins none, and is a sign of the schedule all the same.

use super::{HOUR, LEASE, MINUTE, show_job, show_runs, succeed, three};
use adapters::store::database::StoreError;
use domain::job::Trigger;
use flow::job::Job;
use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::PgPool;
use tests::Stage;

/// A run that somebody asks for, and what comes while it is at work.
async fn ask(stage: &Stage, meanwhile: impl AsyncFnOnce()) {
    let work = async || {
        meanwhile().await;
        Ok::<_, StoreError>(three(false))
    };
    let counts = stage.run_job(Job::Dispatcher, Trigger::Request { run: None, by: None }, LEASE, work).await;
    assert_eq!(counts.expect("run"), json!({"done": 3}));
}

/// A tick that finds another run at work.
async fn tick_in_vain(stage: &Stage) {
    assert_eq!(succeed(stage).await, json!({"overlapped": true}));
}

/// How long after its last run began the next one is due.
fn seconds_to_next(shown: &Value) -> i64 {
    let time = |value: &Value| value.as_str().expect("a time").parse::<Timestamp>().expect("a time");
    time(&shown["next_due_at"]).duration_since(time(&shown["last_run"]["started_at"])).as_secs()
}

/// The operator asks for a run, and the schedule comes while that is at work: the job is not late until the next tick is.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_tick_that_finds_a_requested_run_at_work_keeps_the_job_in_time(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    succeed(&stage).await;
    stage.pass(HOUR).await;
    ask(&stage, async || {
        assert_eq!(show_job(&stage).await["is_late"], true, "no tick has come for an hour");
        stage.pass(MINUTE / 2).await;
        tick_in_vain(&stage).await;
        assert_eq!(show_job(&stage).await["is_late"], false);
    })
    .await;
    let shown = show_job(&stage).await;
    assert_eq!((&shown["is_late"], &shown["lag_seconds"]), (&json!(false), &json!(0)));
    let seconds = seconds_to_next(&shown);
    assert!((90..120).contains(&seconds), "a minute after the tick: {seconds} s");
    assert_eq!(show_runs(&stage, "cause").await, ["request", "schedule"], "the tick is no run");

    // What is asked for later neither moves that nor hides it, and one tick is in time for one period.
    stage.pass(MINUTE * 3).await;
    ask(&stage, async || ()).await;
    let late = show_job(&stage).await;
    assert_eq!((&late["next_due_at"], &late["is_late"]), (&shown["next_due_at"], &json!(true)));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn of_a_run_that_the_schedule_began_its_last_tick_counts(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let lease = MINUTE * 15;
    let work = async || {
        for _ in 0..3 {
            stage.pass(MINUTE).await;
            tick_in_vain(&stage).await;
        }
        Ok::<_, StoreError>(three(false))
    };
    stage.run_job(Job::Dispatcher, Trigger::Schedule, lease, work).await.expect("run");
    let shown = show_job(&stage).await;
    let seconds = seconds_to_next(&shown);
    assert!((240..270).contains(&seconds), "{seconds} s");
    assert_eq!(shown["is_late"], false);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_schedule_whose_first_tick_finds_a_run_at_work_has_come(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    ask(&stage, async || {
        assert_eq!(show_job(&stage).await["next_due_at"], Value::Null);
        tick_in_vain(&stage).await;
    })
    .await;
    let seconds = seconds_to_next(&show_job(&stage).await);
    assert!((60..90).contains(&seconds), "{seconds} s");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_request_that_finds_a_run_at_work_moves_no_schedule(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    succeed(&stage).await;
    let due = show_job(&stage).await["next_due_at"].clone();
    stage.pass(MINUTE / 2).await;
    ask(&stage, async || {
        let work = async || Ok::<_, StoreError>(three(false));
        let request = Trigger::Request { run: None, by: None };
        let answer = stage.run_job(Job::Dispatcher, request, LEASE, work).await.expect("answered");
        assert_eq!(answer, json!({"overlapped": true}));
    })
    .await;
    assert_eq!(show_job(&stage).await["next_due_at"], due);
    stage.finish().await;
}
