//! The world's database: how the functions get in, how its time moves, and what a test asks of it.

use std::time::Duration;

use sqlx::{ConnectOptions, PgPool};
use url::Url;

/// Moves back every time in every table, so that as much seems to have passed. As a replica, because no trigger and
/// no constraint between rows is to notice: it is not a change, it is later.
const SHIFT: &str = "
DO $$
DECLARE
    shift   CONSTANT interval := current_setting('strict.shift')::interval;
    moved   record;
BEGIN
    SET LOCAL session_replication_role = replica;
    FOR moved IN
        SELECT c.oid::regclass AS name, string_agg(format('%I = %I - $1', a.attname, a.attname), ', ') AS assignments
        FROM pg_class c
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.atttypid = 'timestamptz'::regtype AND NOT a.attisdropped
        WHERE c.relnamespace = 'harkara'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        GROUP BY c.oid
    LOOP
        EXECUTE format('UPDATE %s SET %s', moved.name, moved.assignments) USING shift;
    END LOOP;
END
$$";

/// The server's own patience with a session that holds a transaction open and does nothing, as the roles have it.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(10);

/// Moves the database's time. Wants a superuser.
pub(super) async fn shift_time(admin: &PgPool, time: Duration) {
    if time >= IDLE_IN_TRANSACTION {
        // In that time the server would have ended them, and with them their locks.
        sqlx::query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND application_name = 'harkara'
               AND state IN ('idle in transaction', 'idle in transaction (aborted)')",
        )
        .execute(admin)
        .await
        .expect("sessions are ended");
    }
    let mut transaction = admin.begin().await.expect("the database is there");
    let seconds = format!("{} seconds", time.as_secs_f64());
    // Longer than that patience: a session that was left within a transaction is ended by the server, and its rows are free.
    sqlx::query("SELECT set_config('strict.shift', $1, true), set_config('lock_timeout', '15s', true)")
        .bind(seconds)
        .execute(&mut *transaction)
        .await
        .expect("settings are set");
    sqlx::raw_sql(SHIFT).execute(&mut *transaction).await.expect("no row is locked while time passes");
    transaction.commit().await.expect("time passes");
}

/// The URL by which a function logs in as a role, with the role's own settings: becoming a role does not bring them,
/// and logging in as it would want its password, which is the cluster's.
pub(super) async fn url_of_role(admin: &PgPool, role: &str) -> Url {
    let settings: Option<Vec<String>> = sqlx::query_scalar("SELECT rolconfig FROM pg_roles WHERE rolname = $1")
        .bind(role)
        .fetch_one(admin)
        .await
        .expect("the role was made by the migrations");
    let mut url = admin.connect_options().to_url_lossy();
    let mut pairs = url.query_pairs_mut();
    pairs.append_pair("options[role]", role);
    for setting in settings.unwrap_or_default() {
        let (name, value) = setting.split_once('=').expect("a setting has a name and a value");
        pairs.append_pair(&format!("options[{name}]"), value);
    }
    drop(pairs);
    url
}

/// Seconds until the next thing falls due in the database: a delivery, or an event for the dispatcher, and the dispatcher
/// may look at it: one that died holds its lease for a while. `None` where nothing is open.
pub(super) async fn next_due(admin: &PgPool) -> Option<f64> {
    sqlx::query_scalar(
        "SELECT extract(epoch FROM greatest(min(due), (SELECT max(lease_ends_at) FROM harkara.job_runs
                                                       WHERE job = 'dispatcher' AND finished_at IS NULL))
                                   - harkara.now())::double precision
         FROM (SELECT due_at AS due FROM harkara.deliveries WHERE due_at IS NOT NULL
               UNION ALL SELECT created_at + interval '10 seconds' FROM harkara.events) waiting
         HAVING count(*) > 0",
    )
    .fetch_optional(admin)
    .await
    .expect("counted")
}

/// What is open, for the message of a test that does not come to rest.
pub(super) async fn describe_open(admin: &PgPool) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT format('%s is %s (%s), attempt %s of %s, due in %s', delivery_id, state, reason, attempt_count,
                       max_attempts, due_at - harkara.now())
         FROM harkara.deliveries WHERE due_at IS NOT NULL
         UNION ALL
         SELECT format('event %s waits', detail_type) FROM harkara.events",
    )
    .fetch_all(admin)
    .await
    .expect("listed")
}
