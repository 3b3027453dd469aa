//! Moved time: everything asks `harkara.now()` for the time, so letting time pass means replacing that function.

use jiff::Timestamp;
use sqlx::PgPool;
use std::time::Duration;

/// Lets time pass for the whole database. Wants its admin.
pub async fn shift_time(admin: &PgPool, time: Duration) {
    let passed: f64 = sqlx::query_scalar("SELECT extract(epoch FROM harkara.now() - now())::double precision")
        .fetch_one(admin)
        .await
        .expect("the database says how far it is ahead");
    be_ahead(admin, passed + time.as_secs_f64()).await;
}

/// Lets it be a moment, at which the database's time goes on from there. Wants the database's admin.
pub async fn move_time_to(admin: &PgPool, moment: Timestamp) {
    let ahead: f64 = sqlx::query_scalar("SELECT extract(epoch FROM $1::timestamptz - now())::double precision")
        .bind(moment.to_string())
        .fetch_one(admin)
        .await
        .expect("the database says how far that is");
    be_ahead(admin, ahead).await;
}

/// Lets the database's time be the server's own again. Wants the database's admin.
pub async fn mend_time(admin: &PgPool) {
    be_ahead(admin, 0.0).await;
}

/// A function's body takes no parameters, so the seconds come by a setting of the transaction.
const REPLACE: &str = "
    DO $$
    BEGIN
        EXECUTE format(
            'CREATE OR REPLACE FUNCTION harkara.now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE
             RETURN pg_catalog.now() + make_interval(secs => %L::double precision)', current_setting('tests.ahead'));
    END
    $$";

async fn be_ahead(admin: &PgPool, seconds: f64) {
    let mut transaction = admin.begin().await.expect("the database is there");
    sqlx::query("SELECT set_config('tests.ahead', $1, true)")
        .bind(seconds.to_string())
        .execute(&mut *transaction)
        .await
        .expect("a setting is set");
    sqlx::raw_sql(REPLACE).execute(&mut *transaction).await.expect("the function is replaced");
    transaction.commit().await.expect("time passes");
}
