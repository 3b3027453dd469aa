//! A domain whose jobs call it: a function of its own in the database, or an endpoint of its own on this machine. What is
//! called has the job's name, so that each call tells whose it was.

use crate::due::HOUR;
use serde_json::{Value, json};
use std::path::Path;
use tests::TENANT;
use tests::endpoint_server::{Behaviour, EndpointServer, Heard};
use tests::strict::World;

/// What a job calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Callee {
    /// A function that the domain has granted.
    Function,
    /// An endpoint.
    Endpoint,
}

/// The domain, with what was called of it.
pub(crate) struct Domain {
    callee: Callee,
    server: EndpointServer,
    /// The jobs that there are.
    names: Vec<String>,
}

const CALLS: &str = "
    CREATE SCHEMA rental;
    CREATE TABLE rental.calls (name text);
    GRANT USAGE ON SCHEMA rental TO harkara_domain_job;";

/// The function that notes the name in the setting `matrix.name`.
const NOTE: &str = "
    DO $$
    BEGIN
        EXECUTE format(
            'CREATE FUNCTION rental.%1$s(tenant uuid) RETURNS void LANGUAGE sql SECURITY DEFINER
             AS ''INSERT INTO rental.calls VALUES (''''%1$s'''')'';
             GRANT EXECUTE ON FUNCTION rental.%1$s TO harkara_domain_job', current_setting('matrix.name'));
    END
    $$";

impl Domain {
    /// Furnishes the world with a domain, which the functions may call.
    pub(crate) async fn furnish(world: &mut World, callee: Callee) -> Self {
        world.lift_limits().await;
        sqlx::raw_sql(CALLS).execute(&world.admin).await.expect("the domain's schema");
        let server = EndpointServer::begin("localhost", Behaviour::status("204 No Content")).await;
        let authority = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("authority-{}.pem", server.port));
        std::fs::write(&authority, server.authority()).expect("the target folder is ours");
        let authority = authority.to_str().expect("our paths are text");
        let local = format!("127.0.0.1:{0},[::1]:{0}", server.port);
        for function in ["api", "domain_job"] {
            world.redeploy(function, &[("LOCAL_ENDPOINTS", local.as_str()), ("SSL_CERT_FILE", authority)]);
        }
        Self { callee, server, names: Vec::new() }
    }

    /// Like [`Domain::make`], and lets the hour pass.
    pub(crate) async fn make_due(&mut self, world: &World, names: &[String]) {
        self.make(world, names).await;
        world.advance(HOUR).await;
    }

    /// Puts a job of each of these names, which are new, in the place of those that there are. They are due in an hour.
    pub(crate) async fn make(&mut self, world: &World, names: &[String]) {
        for name in std::mem::replace(&mut self.names, names.to_vec()) {
            let answer = world.call(TENANT, "DELETE /v1/jobs/{key}", Some(&name), "").await;
            assert_eq!(answer.status, 204, "{answer:?}");
        }
        for name in names {
            let call = match self.callee {
                Callee::Function => {
                    grant_function(world, name).await;
                    json!({"function": format!("rental.{name}")})
                }
                Callee::Endpoint => json!({"url": self.server.url_of(name)}),
            };
            let body = json!({"schedule": "rate(1 hour)", "timeout_seconds": 30, "call": call});
            world.put(TENANT, "/v1/jobs/{key}", name, body).await;
        }
    }

    /// What its endpoint was told by a job.
    pub(crate) fn told(&self, name: &str) -> Vec<Heard> {
        let line = format!("POST /{name} HTTP/1.1");
        self.server.requests().into_iter().filter(|request| request.line == line).collect()
    }

    /// How many calls of a job have lasted: of its function, or in messages of which each is known when it comes again.
    pub(crate) async fn count(&self, world: &World, name: &str) -> usize {
        match self.callee {
            Callee::Function => {
                let count: i64 = sqlx::query_scalar("SELECT count(*) FROM rental.calls WHERE name = $1")
                    .bind(name)
                    .fetch_one(&world.admin)
                    .await
                    .expect("counted");
                usize::try_from(count).expect("some")
            }
            Callee::Endpoint => {
                let told = self.told(name);
                let ids: std::collections::BTreeSet<_> = told.iter().map(|heard| heard.header("webhook-id")).collect();
                ids.len()
            }
        }
    }
}

async fn grant_function(world: &World, name: &str) {
    let mut transaction = world.admin.begin().await.expect("the database is there");
    sqlx::query("SELECT set_config('matrix.name', $1, true)")
        .bind(name)
        .execute(&mut *transaction)
        .await
        .expect("a setting is set");
    sqlx::raw_sql(NOTE).execute(&mut *transaction).await.expect("the function is made");
    transaction.commit().await.expect("committed");
}

/// Names of jobs, which are names of functions, too.
pub(crate) fn names_of(case: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{}_{number}", case.to_lowercase().replace([' ', '-'], "_"))).collect()
}

/// How the runs of a job have ended, the newest first.
pub(crate) async fn ends_of(world: &World, name: &str) -> Vec<String> {
    let answer = world.call(TENANT, "GET /v1/jobs/{key}/runs", Some(name), "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let runs = answer.body["runs"].as_array().expect("a list");
    runs.iter().map(|run| run["status"].as_str().expect("a status").to_owned()).collect()
}

/// How many jobs a tick did, as the function answers. One that found another at work did none.
pub(crate) fn count_done(answer: &Value) -> u64 {
    answer["succeeded"].as_u64().unwrap_or_default()
}
