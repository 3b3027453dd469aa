//! Waiting for what others do to the database, with an end: where the product is broken, a test fails and does not hang.

use sqlx::PgPool;
use std::time::Duration;

/// Longer than any transaction of these tests takes, also on a slow machine.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Looks until something is there, and answers with it.
pub async fn see<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::task::yield_now().await;
        }
    };
    match tokio::time::timeout(WAIT_MAX, looking).await {
        Ok(seen) => seen,
        Err(_) => panic!("not after {} s: {what}", WAIT_MAX.as_secs()),
    }
}

/// Waits until so many are counted.
pub async fn see_count(admin: &PgPool, statement: &'static str, wanted: i64) {
    see(&format!("{wanted} of {statement}"), async || {
        let count: i64 = sqlx::query_scalar(statement).fetch_one(admin).await.expect("counted");
        (count >= wanted).then_some(())
    })
    .await;
}

/// Waits until so many wait for locks in this database.
pub async fn see_wait(admin: &PgPool, wanted: i64) {
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    see_count(admin, waiting, wanted).await;
}
