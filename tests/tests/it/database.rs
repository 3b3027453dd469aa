//! What the flows may rely on of their connections.

use adapters::store::collections::lock_due_collections;
use domain::id::TenantId;
use serde_json::json;
use sqlx::PgPool;
use std::time::Duration;
use tests::{Stage, TENANT};

/// Or whoever tries less of it would pass over what is still locked.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_a_left_transaction_had_locked_is_free_for_the_next_one(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let mut batch = Stage::greeting("lin@example.org");
    batch["batch"] = json!({"key": "k", "window": "PT30M"});
    assert_eq!(stage.post(batch).await.status, 202);
    stage.pass(Duration::from_secs(1800)).await;
    let database = &stage.dispatcher.database;
    let tenant = TenantId::parse(TENANT).expect("an id");
    let begin = async || database.begin(tenant, "a test").await.expect("begun");
    // Two connections, both idle.
    let first = begin().await;
    let second = begin().await;
    first.roll_back().await.expect("given back");
    second.roll_back().await.expect("given back");
    for _ in 0..3 {
        let mut left = begin().await;
        assert_eq!(lock_due_collections(&mut left, 1).await.expect("locked").len(), 1);
        drop(left);
    }
    stage.leave_work();
}
