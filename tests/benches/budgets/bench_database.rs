//! A database of the benches' own, migrated by the `migrate` function, with logins that have the functions' roles, and a domain's.

use std::time::Duration;

use local::runtime_api::Function;
use serde_json::json;
use sqlx::PgPool;
use url::Url;

use crate::events::TENANT;
use crate::functions::binary;
use crate::{Outcome, progress};

const DATABASE: &str = "harkara_bench";
/// Logins of the benches' own are members of the functions' roles, so that no password of a running stack is changed.
const PASSWORD: &str = "bench";
const DROP_DATABASE: &str = "DROP DATABASE IF EXISTS harkara_bench WITH (FORCE)";
const DROP_ROLES: &str = "DROP ROLE IF EXISTS harkara_bench_api, harkara_bench_worker, bench_domain";

/// The database, and how to reach it.
#[derive(Debug)]
pub(crate) struct BenchDatabase {
    server: Url,
    /// A superuser's connections: they see through row level security.
    pub(crate) admin: PgPool,
}

impl BenchDatabase {
    /// Makes and migrates the database. Errors: `DATABASE_URL` is not set, no superuser's, or does not answer.
    pub(crate) async fn create() -> Outcome<Self> {
        progress("making and migrating the database");
        let url = std::env::var("DATABASE_URL")
            .map_err(|_| "set DATABASE_URL to a superuser's URL of a Postgres server, or run `cargo local bench`")?;
        let server = Url::parse(&url)?;
        let pool = PgPool::connect(server.as_str()).await?;
        sqlx::query(DROP_DATABASE).execute(&pool).await?;
        sqlx::query(DROP_ROLES).execute(&pool).await?;
        sqlx::query("CREATE DATABASE harkara_bench").execute(&pool).await?;
        pool.close().await;
        let mut own = server.clone();
        own.set_path(DATABASE);
        let admin = PgPool::connect(own.as_str()).await?;
        let database = Self { server, admin };
        database.migrate(own.as_str()).await?;
        for role in [
            "CREATE ROLE harkara_bench_api LOGIN PASSWORD 'bench' IN ROLE harkara_api",
            "CREATE ROLE harkara_bench_worker LOGIN PASSWORD 'bench' IN ROLE harkara_worker",
            "CREATE ROLE bench_domain LOGIN PASSWORD 'bench'",
        ] {
            sqlx::query(role).execute(&database.admin).await?;
        }
        database.fill_what_claims_ask().await?;
        Ok(database)
    }

    /// An account of known rate, whose clock every claim keeps, and addresses that it looks among. The rate is one that
    /// nothing here comes near, for what is measured is the asking, and not the waiting.
    async fn fill_what_claims_ask(&self) -> Outcome<()> {
        for statement in [
            "UPDATE harkara.send_pace SET sends_per_second = 100000 WHERE tenant_id = '00000000-0000-0000-0000-000000000000'",
            "INSERT INTO harkara.suppressions (tenant_id, address, reason, source)
             SELECT t.tenant_id, format('gone%s@example.org', n), 'hard_bounce', 'feedback'
             FROM harkara.tenants t, generate_series(1, 2000) n WHERE t.name = 'bench'",
        ] {
            sqlx::query(statement).execute(&self.admin).await?;
        }
        Ok(())
    }

    async fn migrate(&self, url: &str) -> Outcome<()> {
        let env = [("DATABASE_URL", url), ("LOG_LEVEL", "warn")];
        let migrate = Function::start(binary("migrate"), env).await?;
        let event = json!({"tenants": [{"id": TENANT, "name": "bench", "from_address": "post@example.in"}]});
        migrate.invoke(&event, Duration::from_secs(120)).await?;
        Ok(())
    }

    /// Host and port of the server, for a proxy.
    pub(crate) fn server_address(&self) -> String {
        let host = self.server.host_str().unwrap_or("127.0.0.1");
        format!("{host}:{}", self.server.port().unwrap_or(5432))
    }

    /// The URL for `enqueue` and `api`, straight to the server.
    pub(crate) fn api_url(&self) -> Outcome<Url> {
        self.login("harkara_bench_api")
    }

    /// The URL for the workers, straight to the server.
    pub(crate) fn worker_url(&self) -> Outcome<Url> {
        self.login("harkara_bench_worker")
    }

    /// The URL for a domain that has the SQL door.
    pub(crate) fn domain_url(&self) -> Outcome<Url> {
        self.login("bench_domain")
    }

    fn login(&self, user: &str) -> Outcome<Url> {
        let mut url = self.server.clone();
        url.set_path(DATABASE);
        // The counting proxy reads the wire, so it must be plain.
        url.set_query(Some("sslmode=disable"));
        url.set_username(user)
            .and_then(|()| url.set_password(Some(PASSWORD)))
            .map_err(|()| "DATABASE_URL takes no user")?;
        Ok(url)
    }

    /// The environment by which a client program of Postgres reaches the database as its superuser.
    pub(crate) fn client_env(&self) -> Vec<(&'static str, String)> {
        let mut env = vec![
            ("PGHOST", self.server.host_str().unwrap_or("127.0.0.1").to_owned()),
            ("PGPORT", self.server.port().unwrap_or(5432).to_string()),
            ("PGUSER", self.server.username().to_owned()),
            ("PGDATABASE", DATABASE.to_owned()),
        ];
        env.extend(self.server.password().map(|password| ("PGPASSWORD", password.to_owned())));
        env
    }

    /// Drops the database and the logins.
    pub(crate) async fn drop(self) -> Outcome<()> {
        self.admin.close().await;
        let pool = PgPool::connect(self.server.as_str()).await?;
        sqlx::query(DROP_DATABASE).execute(&pool).await?;
        sqlx::query(DROP_ROLES).execute(&pool).await?;
        pool.close().await;
        Ok(())
    }
}
