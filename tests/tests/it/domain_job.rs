//! Domain jobs: what a tenant registers is run when it is due, once, and is seen.

mod bodies;
mod calls;
mod candidates;
mod endpoints;
mod half_way;
mod pauses;
mod rental;
mod runs;
mod secrets;

use adapters::endpoint::EndpointClient;
use adapters::envelope::Envelope;
use domain::endpoint::LocalEndpoints;
use flow::domain_job::DomainJobs;
use serde_json::{Value, json};
use sqlx::PgPool;
use std::time::Duration;
use tests::{Answer, Ask, RecordingQueue, ScriptedKeyService, Stage, TENANT};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// A domain's schema beside ours: alerts of both tenants behind a view, and functions.
const RENTAL: &str = "
    CREATE SCHEMA rental;
    CREATE TABLE rental.alerts (
        tenant_id uuid DEFAULT '018f0000-0000-7000-8000-000000000001', key text, recipient text DEFAULT 'ada',
        data jsonb DEFAULT '{\"name\": \"Ada\"}');
    CREATE VIEW rental.alert_candidates AS SELECT * FROM rental.alerts;
    CREATE TABLE rental.calls (tenant_id uuid, caller text);
    CREATE FUNCTION rental.note_call(tenant uuid) RETURNS void LANGUAGE sql SECURITY DEFINER
    AS 'INSERT INTO rental.calls VALUES (tenant, session_user)';
    CREATE FUNCTION rental.fail(tenant uuid) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
    AS 'BEGIN INSERT INTO rental.calls VALUES (tenant, ''fail''); RAISE EXCEPTION ''ada@example.org''; END';
    CREATE FUNCTION rental.wait(tenant uuid) RETURNS void LANGUAGE sql SECURITY DEFINER
    AS 'INSERT INTO rental.calls VALUES (tenant, ''wait''); SELECT pg_advisory_xact_lock(7)';
    GRANT USAGE ON SCHEMA rental TO harkara_domain_job;
    GRANT SELECT ON rental.alert_candidates TO harkara_domain_job;
    REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA rental FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION rental.note_call, rental.fail, rental.wait TO harkara_domain_job;";

/// A stage with the domain beside it.
async fn begin(pool: &PgPool) -> Stage {
    let stage = Stage::begin(pool.clone()).await;
    stage.lift_limits().await;
    sqlx::raw_sql(RENTAL).execute(pool).await.expect("the domain's schema");
    stage
}

/// Another instance of the function, with connections of its own.
fn other_runner(stage: &Stage) -> DomainJobs<RecordingQueue, ScriptedKeyService> {
    DomainJobs {
        database: tests::database_of(&stage.admin),
        queue: stage.queue.clone(),
        envelope: Envelope::new(stage.key_service.clone()),
        endpoints: EndpointClient::trusting(LocalEndpoints::default(), &[]),
    }
}

fn alerts() -> Value {
    json!({"schedule": "rate(5 minutes)", "candidates": {"view": "rental.alert_candidates", "category": "greeting"}})
}

fn calls(function: &str) -> Value {
    json!({"schedule": "rate(5 minutes)", "call": {"function": function}})
}

async fn ask(stage: &Stage, tenant: &str, route: &str, key: &str, body: &Value) -> Answer {
    let mut ask = Ask::of_key(route, tenant).with_text(&body.to_string());
    ask.parameters.insert("key".to_owned(), key.to_owned());
    stage.ask(&ask).await
}

async fn put(stage: &Stage, key: &str, body: &Value) -> Value {
    let answer = ask(stage, TENANT, "PUT /v1/jobs/{key}", key, body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

async fn show(stage: &Stage, key: &str) -> Value {
    let answer = stage.call(TENANT, "GET /v1/jobs/{key}", Some(key), "", "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

/// The job's runs, the newest first: how they ended and with which error.
async fn runs(stage: &Stage, key: &str) -> Vec<(String, Option<String>)> {
    let answer = stage.call(TENANT, "GET /v1/jobs/{key}/runs", Some(key), "", "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let text = |run: &Value, field: &str| run[field].as_str().map(str::to_owned);
    let runs = answer.body["runs"].as_array().expect("a list").clone();
    runs.iter().map(|run| (text(run, "status").expect("a status"), text(run, "error"))).collect()
}

async fn execute(pool: &PgPool, statement: &'static str) {
    sqlx::raw_sql(statement).execute(pool).await.expect("executed");
}

/// Notifications of jobs, by the keys of their candidates.
async fn told(pool: &PgPool) -> Vec<String> {
    let statement =
        "SELECT metadata ->> 'candidate' FROM harkara.notifications WHERE metadata ? 'candidate' ORDER BY 1";
    sqlx::query_scalar(statement).fetch_all(pool).await.expect("they can be read")
}

/// Sends what is queued, and ends.
async fn finish(stage: Stage) {
    stage.drain().await;
    stage.finish().await;
}
