//! Jobs in their frame: one run at a time, each on record, and people told when one keeps failing.

mod progress;
mod ticks;

use adapters::store::database::StoreError;
use domain::job::Trigger;
use flow::job::{Done, Failure, Job, read_trigger};
use flow::progress::Progress;
use serde_json::{Value, json};
use sqlx::PgPool;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tests::{Answer, Ask, OTHER_TENANT, Stage, TENANT, mend_time};
use tokio::sync::Notify;

/// The operator's tenant.
const OPERATOR: &str = "00000000-0000-0000-0000-000000000000";
const LEASE: Duration = Duration::from_secs(55);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// A run that did three things.
const fn three(leaves_work: bool) -> Three {
    Three { leaves_work }
}

/// What a job counts here.
struct Three {
    leaves_work: bool,
}

impl From<Three> for Done {
    fn from(three: Three) -> Self {
        Self { counts: json!({"done": 3}), leaves_work: three.leaves_work }
    }
}

/// A failure with words that nobody but the log may hear.
#[derive(Debug)]
struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the driver said ada@example.org")
    }
}

impl std::error::Error for Broken {}

impl From<Broken> for Failure {
    fn from(broken: Broken) -> Self {
        Self { code: "statement_refused", error: Box::new(broken) }
    }
}

/// A run of the dispatcher's job that succeeds.
async fn succeed(stage: &Stage) -> Value {
    let work = async || Ok::<_, StoreError>(three(false));
    stage.run_job(Job::Dispatcher, Trigger::Schedule, LEASE, work).await.expect("run")
}

/// A run that fails.
async fn fail(stage: &Stage) {
    let work = async || Err::<Done, _>(Broken);
    let failed = stage.run_job(Job::Dispatcher, Trigger::Schedule, LEASE, work).await;
    assert!(failed.is_err_and(|failure| failure.error.is::<Broken>()), "the invocation fails, too");
}

/// A run that is killed in its work: nothing of ours runs after that.
async fn die(stage: &Stage) {
    let (reached, mut at_work) = tokio::sync::oneshot::channel();
    let work = async || {
        reached.send(()).expect("somebody waits");
        std::future::pending::<Result<Done, StoreError>>().await
    };
    let run = stage.run_job(Job::Dispatcher, Trigger::Schedule, LEASE, work);
    tokio::select! {
        biased;
        _ = &mut at_work => {}
        _ = run => panic!("it hangs"),
    }
}

async fn get(stage: &Stage, tenant: &str, route: &str, name: Option<&str>) -> Answer {
    let mut ask = Ask::of_key(route, tenant);
    ask.parameters.extend(name.map(|name| ("key".to_owned(), name.to_owned())));
    let answer = stage.ask(&ask).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

/// How the dispatcher stands, as any tenant reads it.
async fn show_job(stage: &Stage) -> Value {
    let jobs = get(stage, TENANT, "GET /v1/jobs", None).await.body;
    let jobs = jobs["jobs"].as_array().expect("a list").clone();
    jobs.into_iter().find(|job| job["name"] == "dispatcher").expect("the dispatcher is a job")
}

/// Its runs, the newest first, by a field.
async fn show_runs(stage: &Stage, field: &str) -> Vec<Value> {
    let runs = get(stage, TENANT, "GET /v1/jobs/{key}/runs", Some("dispatcher")).await.body;
    runs["runs"].as_array().expect("a list").iter().map(|run| run[field].clone()).collect()
}

/// The operator's category, template and people for alerts.
async fn set_up_alerts(stage: &Stage) {
    let template = json!({
        "variables": {
            "job": {"type": "string", "example": "digest"}, "failure_count": {"type": "integer", "example": 4},
            "error": {"type": "string", "example": "database_unavailable"},
        },
        "subject": "{{ job }} fails", "text": "{{ failure_count }} times in a row: {{ error }}",
        "html": "<p>{{ failure_count }} times in a row: {{ error }}</p>",
    });
    stage.publish(OPERATOR, "job_failed", template).await;
    let category = json!({"class": "security", "template": "job_failed"});
    stage.put(OPERATOR, "/v1/categories/{key}", "job_failed", category).await;
    let operator = json!({"email": "olga@example.org", "roles": ["operator"]});
    stage.put(OPERATOR, "/v1/recipients/{id}", "olga", operator).await;
    stage.put(OPERATOR, "/v1/recipients/{id}", "otto", json!({"email": "otto@example.org"})).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn two_ticks_at_the_same_instant_run_once(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    for round in 1..=5 {
        let (ran, overlapped) = (AtomicUsize::new(0), Notify::new());
        let tick = async || {
            let work = async || {
                assert_eq!(ran.fetch_add(1, Ordering::SeqCst), 0, "both ran");
                overlapped.notified().await;
                Ok::<_, StoreError>(three(false))
            };
            let answer = stage.run_job(Job::Dispatcher, Trigger::Schedule, LEASE, work).await.expect("answered");
            if answer == json!({"overlapped": true}) {
                overlapped.notify_one();
            }
        };
        tokio::join!(tick(), tick());
        assert_eq!(show_runs(&stage, "status").await, vec!["succeeded"; round]);
    }
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn while_one_is_at_work_another_tick_does_nothing(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let work = async || {
        assert_eq!(succeed(&stage).await, json!({"overlapped": true}));
        let shown = show_job(&stage).await;
        assert_eq!((&shown["status"], &shown["last_run"]["finished_at"]), (&json!("running"), &Value::Null));
        Ok::<_, StoreError>(three(false))
    };
    let counts = stage.run_job(Job::Dispatcher, Trigger::Schedule, LEASE, work).await.expect("run");
    assert_eq!(counts, json!({"done": 3}));
    assert_eq!(show_runs(&stage, "status").await, ["succeeded"]);
    assert_eq!(succeed(&stage).await, json!({"done": 3}), "the lease ends with the run");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn where_the_clock_has_gone_back_another_tick_does_nothing_either(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    stage.pass(HOUR).await;
    succeed(&stage).await;
    mend_time(&pool).await;
    let work = async || {
        assert_eq!(succeed(&stage).await, json!({"overlapped": true}));
        Ok::<_, StoreError>(three(false))
    };
    let counts = stage.run_job(Job::Dispatcher, Trigger::Schedule, LEASE, work).await.expect("run");
    assert_eq!(counts, json!({"done": 3}));
    die(&stage).await;
    stage.pass(LEASE).await;
    assert_eq!(succeed(&stage).await, json!({"done": 3}), "one that died there is found, too");
    assert_eq!(show_runs(&stage, "status").await, ["succeeded", "succeeded", "died", "succeeded"]);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn one_job_does_not_hold_up_another(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    die(&stage).await;
    let work = async || Ok::<_, StoreError>(three(false));
    let counts = stage.run_job(Job::Feedback, Trigger::Schedule, LEASE, work).await.expect("run");
    assert_eq!(counts, json!({"done": 3}));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_run_that_was_killed_half_way_is_found_dead_when_its_lease_is_over_and_the_next_goes_on(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    die(&stage).await;
    stage.pass(LEASE - Duration::from_secs(5)).await;
    assert_eq!(succeed(&stage).await, json!({"overlapped": true}), "it may be at work still");
    stage.pass(Duration::from_secs(5)).await;
    assert_eq!(show_job(&stage).await["status"], "died", "before anybody has marked it");
    assert_eq!(succeed(&stage).await, json!({"done": 3}));
    assert_eq!(show_runs(&stage, "status").await, ["succeeded", "died"]);
    assert_eq!(show_runs(&stage, "failure_count").await, [0, 1]);
    let dead =
        stage.count("SELECT count(*) FROM harkara.job_runs WHERE outcome = 'died' AND finished_at = lease_ends_at");
    assert_eq!(dead.await, 1);
    stage.pass(MINUTE).await;
    stage.dispatch().await;
    let events: Vec<_> = stage.bus.events().into_iter().filter(|event| event.detail_type == "job_run.failed").collect();
    assert_eq!(events.len(), 1);
    assert_eq!((&events[0].detail["job"], &events[0].detail["outcome"]), (&json!("dispatcher"), &json!("died")));
    assert_eq!(events[0].tenant.to_string(), OPERATOR);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_run_that_ends_after_it_was_taken_for_dead_changes_nothing(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let work = async || {
        stage.pass(LEASE).await;
        assert_eq!(succeed(&stage).await, json!({"done": 3}));
        Ok::<_, StoreError>(three(false))
    };
    stage.run_job(Job::Dispatcher, Trigger::Schedule, LEASE, work).await.expect("its work is done");
    assert_eq!(show_runs(&stage, "status").await, ["succeeded", "died"]);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_run_says_whether_it_stopped_at_its_deadline_with_work_left(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let work = async || Ok::<_, StoreError>(three(true));
    stage.run_job(Job::Dispatcher, Trigger::Schedule, LEASE, work).await.expect("run");
    succeed(&stage).await;
    assert_eq!(show_runs(&stage, "leaves_work").await, [false, true]);

    // A dispatcher that has no time takes nothing, and says that there may be more.
    stage.post(Stage::greeting("ada@example.org")).await;
    stage.drain().await;
    let at_once = std::time::Instant::now();
    let counts = stage.dispatcher.dispatch_due(at_once, &Progress::untold()).await.expect("dispatched");
    assert!(counts.leaves_work);
    assert!(!stage.dispatch().await.leaves_work);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_failure_is_on_record_by_its_code_and_told_by_an_event(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    fail(&stage).await;
    let runs = get(&stage, TENANT, "GET /v1/jobs/{key}/runs", Some("dispatcher")).await.body;
    let run = &runs["runs"][0];
    assert_eq!((&run["status"], &run["error"]), (&json!("failed"), &json!("statement_refused")));
    assert_eq!((&run["counts"], &run["leaves_work"], &run["failure_count"]), (&Value::Null, &Value::Null, &json!(1)));
    stage.pass(MINUTE).await;
    stage.dispatch().await;
    let events: Vec<_> = stage.bus.events().into_iter().filter(|event| event.detail_type == "job_run.failed").collect();
    assert_eq!((events.len(), &events[0].detail["error"]), (1, &json!("statement_refused")));
    assert_eq!(events[0].detail["run_id"], run["id"]);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_fourth_failure_in_a_row_is_told_to_the_operators_people_once(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    set_up_alerts(&stage).await;
    for _ in 0..3 {
        fail(&stage).await;
    }
    assert!(stage.queue.is_empty(), "three are no reason to wake anybody");
    for _ in 0..3 {
        fail(&stage).await;
    }
    assert_eq!(stage.queue.waiting().len(), 1, "one mail, to the one with the role, for the whole row");
    stage.drain().await;
    let mails = stage.mail.asked();
    assert_eq!(mails.len(), 1);
    let mail = format!("{} {:?}", mails[0].subject.as_str(), mails[0].text);
    assert!(mail.contains("dispatcher fails") && mail.contains("4 times in a row: statement_refused"), "{mail}");
    let critical = stage.count("SELECT count(*) FROM harkara.notifications WHERE priority = 'critical'").await;
    assert_eq!(critical, 1);

    // A success ends the row; the next one is told of again, and a run that died is a failure like any other.
    succeed(&stage).await;
    assert_eq!(show_job(&stage).await["failure_count"], 0);
    for _ in 0..3 {
        fail(&stage).await;
    }
    assert!(stage.queue.is_empty());
    die(&stage).await;
    stage.pass(LEASE).await;
    succeed(&stage).await;
    stage.drain().await;
    assert_eq!(stage.mail.asked().len(), 2);
    stage.pass(MINUTE).await;
    stage.dispatch().await;
    let failing = stage.bus.detail_types().into_iter().filter(|name| name == "job.failing").count();
    assert_eq!(failing, 2, "one event for each row of failures");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn where_the_operator_has_nobody_to_be_told_the_jobs_go_on_and_the_event_is_there(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    for _ in 0..5 {
        fail(&stage).await;
    }
    assert_eq!(show_job(&stage).await["failure_count"], 5);
    succeed(&stage).await;
    stage.pass(MINUTE).await;
    stage.dispatch().await;
    assert_eq!(stage.bus.detail_types().into_iter().filter(|name| name == "job.failing").count(), 1);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_alert_that_reached_nobody_is_tried_again_until_somebody_is_told(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    for _ in 0..5 {
        fail(&stage).await;
    }
    assert!(stage.queue.is_empty(), "there is nobody");
    let operator = json!({"email": "olga@example.org", "roles": ["operator"]});
    stage.put(OPERATOR, "/v1/recipients/{id}", "olga", operator).await;
    fail(&stage).await;
    assert!(stage.queue.is_empty(), "there is no category");
    set_up_alerts(&stage).await;
    for _ in 0..3 {
        fail(&stage).await;
    }
    assert_eq!(stage.queue.waiting().len(), 1, "one mail, by the next failure");
    stage.drain().await;
    let mail = format!("{:?}", stage.mail.asked()[0].text);
    assert!(mail.contains("7 times in a row"), "{mail}");
    stage.pass(MINUTE).await;
    stage.dispatch().await;
    let failing = stage.bus.detail_types().into_iter().filter(|name| name == "job.failing").count();
    assert_eq!(failing, 1, "one event for the row of failures, as soon as it was one");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_list_of_jobs_tells_the_truth(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let never = show_job(&stage).await;
    assert_eq!((&never["status"], &never["last_run"]), (&json!("never_run"), &Value::Null));
    assert_eq!(
        (&never["is_late"], &never["next_due_at"], &never["lag_seconds"]),
        (&json!(false), &Value::Null, &Value::Null)
    );
    assert_eq!(never["schedule"], "rate(1 minute)");

    succeed(&stage).await;
    let shown = show_job(&stage).await;
    assert_eq!(
        (&shown["status"], &shown["is_late"], &shown["lag_seconds"]),
        (&json!("succeeded"), &json!(false), &json!(0))
    );
    assert_eq!(shown["last_run"]["counts"], json!({"done": 3}));
    let time = |value: &Value| value.as_str().expect("a time").parse::<jiff::Timestamp>().expect("a time");
    let gap = time(&shown["next_due_at"]).duration_since(time(&shown["last_run"]["started_at"]));
    assert_eq!(gap.as_secs(), 60);

    // Three hours without a tick.
    stage.pass(HOUR * 3).await;
    let late = show_job(&stage).await;
    assert_eq!((&late["status"], &late["is_late"]), (&json!("succeeded"), &json!(true)));
    let lag = late["lag_seconds"].as_u64().expect("a number");
    assert!((3 * 3600 - 60..3 * 3600).contains(&lag), "{lag} s");
    succeed(&stage).await;
    let caught_up = show_job(&stage).await;
    assert_eq!((&caught_up["is_late"], &caught_up["lag_seconds"]), (&json!(false), &json!(0)));
    let names = get(&stage, TENANT, "GET /v1/jobs", None).await.body;
    let names: Vec<_> = names["jobs"].as_array().expect("a list").iter().map(|job| job["name"].clone()).collect();
    assert_eq!(names, Job::ALL.iter().map(|job| json!(job.as_str())).collect::<Vec<_>>());
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_run_that_somebody_asks_for_moves_no_schedule(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let ask = async || {
        let work = async || Ok::<_, StoreError>(three(false));
        let request = Trigger::Request { run: None, by: None };
        stage.run_job(Job::Dispatcher, request, LEASE, work).await.expect("run");
    };
    ask().await;
    let shown = show_job(&stage).await;
    assert_eq!((&shown["status"], &shown["next_due_at"]), (&json!("succeeded"), &Value::Null), "no schedule began it");
    succeed(&stage).await;
    let due = show_job(&stage).await["next_due_at"].clone();
    stage.pass(MINUTE / 2).await;
    ask().await;
    assert_eq!(show_job(&stage).await["next_due_at"], due);
    // The schedule stands still, and what is asked for hides that from nobody.
    stage.pass(MINUTE * 10).await;
    ask().await;
    let shown = show_job(&stage).await;
    assert_eq!((&shown["next_due_at"], &shown["is_late"]), (&due, &json!(true)));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn runs_are_listed_page_by_page_the_newest_first(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    for _ in 0..5 {
        succeed(&stage).await;
    }
    let (mut seen, mut after) = (Vec::new(), None::<String>);
    loop {
        let query = after.map_or("page_size=2".to_owned(), |after| format!("page_size=2&after={after}"));
        let page = stage.call(TENANT, "GET /v1/jobs/{key}/runs", Some("dispatcher"), &query, "").await.body;
        seen.extend(page["runs"].as_array().expect("a list").iter().map(|run| run["started_at"].to_string()));
        after = page["page_info"]["after"].as_str().map(str::to_owned);
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 5);
    assert!(seen.is_sorted_by(|newer, older| newer > older), "{seen:?}");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_tenant_is_shown_the_operators_runs_and_nobody_elses(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    succeed(&stage).await;
    let theirs = "
        INSERT INTO harkara.job_runs (tenant_id, run_id, job, cause, requested_by, started_at, lease_ends_at)
        VALUES ($1::uuid, gen_random_uuid(), 'dispatcher', 'request', 'somebody', now() + interval '1 hour', now() + interval '2 hours')";
    sqlx::query(theirs).bind(OTHER_TENANT).execute(&pool).await.expect("inserted");
    for tenant in [TENANT, OTHER_TENANT, OPERATOR] {
        let runs = get(&stage, tenant, "GET /v1/jobs/{key}/runs", Some("dispatcher")).await.body;
        assert_eq!(runs["runs"].as_array().map(Vec::len), Some(1), "{tenant}: {runs}");
    }
    let by = "UPDATE harkara.job_runs SET cause = 'request', requested_by = 'olga' WHERE tenant_id = $1::uuid";
    sqlx::query(by).bind(OPERATOR).execute(&pool).await.expect("updated");
    for (tenant, shown) in [(TENANT, Value::Null), (OPERATOR, json!("olga"))] {
        let runs = get(&stage, tenant, "GET /v1/jobs/{key}/runs", Some("dispatcher")).await.body;
        assert_eq!(runs["runs"][0]["requested_by"], shown, "{tenant}");
    }
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_job_that_is_none_is_not_there(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    for (tenant, route) in [
        (TENANT, "GET /v1/jobs/{key}/runs"),
        (TENANT, "POST /v1/jobs/{key}/run"),
        (OPERATOR, "POST /v1/jobs/{key}/run"),
    ] {
        assert_eq!(stage.call(tenant, route, Some("enqueue"), "", "").await.status, 404, "{route}");
    }
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn only_the_operator_asks_for_a_run(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let answer = stage.call_with_key(TENANT, "POST /v1/jobs/{key}/run", "dispatcher", "once").await;
    assert_eq!((answer.status, &answer.body["code"]), (403, &json!("operator_only")));
    let body = stage.call(OPERATOR, "POST /v1/jobs/{key}/run", Some("dispatcher"), "", r#"{"now": true}"#).await;
    assert_eq!((body.status, body.pointers()), (422, vec!["/now"]));
    assert_eq!(stage.bus.detail_types().len(), 0);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_run_that_is_asked_for_twice_with_one_key_happens_once(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let ask = async || stage.call_with_key(OPERATOR, "POST /v1/jobs/{key}/run", "dispatcher", "once").await;
    let (first, second) = (ask().await, ask().await);
    assert_eq!((first.status, second.status), (202, 202));
    assert_eq!(first.body, second.body);
    // The outbox has it, too, should the bus have refused it.
    stage.pass(MINUTE).await;
    stage.dispatch().await;
    let asked: Vec<_> =
        stage.bus.events().into_iter().filter(|event| event.detail_type == "job.run_requested").collect();
    assert_eq!(asked.len(), 2, "at once, and from the outbox");
    assert_eq!(asked[0], asked[1]);
    assert_eq!(asked[0].detail["job"], "dispatcher");

    // As EventBridge hands it to the function.
    let mut answers = Vec::new();
    for event in &asked {
        let event = json!({"source": "harkara", "detail-type": event.detail_type, "detail": event.detail});
        let work = async || Ok::<_, StoreError>(three(false));
        answers.push(stage.run_job(Job::Dispatcher, read_trigger(&event), LEASE, work).await.expect("answered"));
    }
    assert_eq!(answers, [json!({"done": 3}), json!({"repeated": true})]);
    let runs = get(&stage, OPERATOR, "GET /v1/jobs/{key}/runs", Some("dispatcher")).await.body;
    let run = &runs["runs"][0];
    assert_eq!(
        (&run["id"], &run["cause"], &run["requested_by"]),
        (&first.body["run_id"], &json!("request"), &json!("tester"))
    );
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_bus_that_refuses_a_request_gets_it_from_the_outbox(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.bus.refuse(true);
    let answer = stage.call(OPERATOR, "POST /v1/jobs/{key}/run", Some("feedback"), "", "").await;
    assert_eq!(answer.status, 202, "{answer:?}");
    stage.bus.refuse(false);
    stage.pass(MINUTE).await;
    stage.dispatch().await;
    assert_eq!(stage.bus.detail_types(), ["job.run_requested"]);
    stage.finish().await;
}
