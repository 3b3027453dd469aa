//! Waiting for what others do to the database, with an end: where the product is broken, a test fails and does not hang.

use sqlx::PgPool;
use std::time::Duration;

/// Longer than any statement may take.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// Waits until so many are counted.
pub async fn see_count(admin: &PgPool, statement: &'static str, wanted: i64) {
    let counted = async {
        while sqlx::query_scalar::<_, i64>(statement).fetch_one(admin).await.expect("counted") < wanted {
            tokio::task::yield_now().await;
        }
    };
    let is_counted = tokio::time::timeout(WAIT_MAX, counted).await.is_ok();
    assert!(is_counted, "not {wanted} after {} s: {statement}", WAIT_MAX.as_secs());
}

/// Waits until so many wait for locks in this database.
pub async fn see_wait(admin: &PgPool, wanted: i64) {
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    see_count(admin, waiting, wanted).await;
}
