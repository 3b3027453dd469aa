//! Months of the log are dropped when nobody has to keep them any more, and what is left still proves itself.

use super::{add_block, count_rows, seal_all, verify};
use crate::reminder::see_wait;
use serde_json::{Value, json};
use sqlx::PgPool;
use std::time::Duration;
use tests::{OTHER_TENANT, Stage, TENANT, mend_time};

const DAY: Duration = Duration::from_secs(86_400);

/// What an administrator may do behind everybody's back once rows have been dropped, and what that is.
const TAMPERINGS: &[(&str, &str)] = &[
    ("UPDATE harkara.audit_log SET actor = 'nobody' WHERE actor <> 'nobody'", "rows_changed"),
    ("UPDATE harkara.audit_anchors SET block_hash = sha256('other')", "block_changed"),
    (
        "UPDATE harkara.audit_blocks SET sealed_at = sealed_at - interval '1 day' WHERE block_number = 1",
        "block_changed",
    ),
    (
        // Within the block that lost its rows.
        "INSERT INTO harkara.audit_log (tenant_id, changed_at, actor, table_name, operation, row_key, new_values, xact)
         SELECT b.tenant_id, b.sealed_at, 'forger', 'recipients', 'INSERT', '{}', '{}', b.to_xact - 1
         FROM harkara.audit_blocks b, generate_series(1, 1000) WHERE b.block_number = 1",
        "rows_added",
    ),
    (
        // Not more than it had, and written long after it was sealed.
        "INSERT INTO harkara.audit_log (tenant_id, changed_at, actor, table_name, operation, row_key, new_values, xact)
         SELECT b.tenant_id, b.sealed_at + interval '2 hours', 'forger', 'recipients', 'INSERT', '{}', '{}', b.to_xact - 1
         FROM harkara.audit_blocks b WHERE b.block_number = 1",
        "rows_added",
    ),
];

/// Moves the whole log into a month of long ago.
const MAKE_OLD: &str = "
    DO $$
    DECLARE
        month CONSTANT timestamptz := date_trunc('month', now(), 'UTC') - interval '30 months';
    BEGIN
        EXECUTE format('CREATE TABLE harkara.audit_log_old PARTITION OF harkara.audit_log FOR VALUES FROM (%L) TO (%L)',
            month, month + interval '1 month');
        ALTER TABLE harkara.audit_log_old OWNER TO harkara_owner;
        UPDATE harkara.audit_log SET changed_at = month + interval '1 day';
    END
    $$";

async fn keep_for(stage: &Stage, tenant: &str, retention: Value) {
    let body = json!({"retention": retention}).to_string();
    assert_eq!(stage.call(tenant, "PUT /v1/settings", None, "", &body).await.status, 200);
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_is_left_behind_dropped_months_still_proves_itself(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    keep_for(&stage, TENANT, json!({"default_days": 1})).await;
    keep_for(&stage, OTHER_TENANT, json!({"by_class": {"regulatory": 3650}})).await;
    let before = count_rows(&pool, TENANT).await;
    // The log's times are the server's own, which no test moves.
    sqlx::raw_sql(MAKE_OLD).execute(&pool).await.expect("what was written is thirty months old");
    for tenant in [TENANT, OTHER_TENANT] {
        assert_eq!(seal_all(&pool, tenant).await.broken(), None);
    }
    add_block(&stage, "second").await;
    // As long after they were sealed as anybody has to keep them, and no month of this one is over.
    stage.pass(365 * DAY + Duration::from_secs(60)).await;
    stage.maintain().await;
    let all = count_rows(&pool, TENANT).await;
    assert!(all > before, "one tenant has to keep them for longer");
    let whole = verify(&mut pool.acquire().await.expect("a connection"), TENANT).await;

    keep_for(&stage, OTHER_TENANT, json!({"default_days": 1})).await;
    for tenant in [TENANT, OTHER_TENANT] {
        assert_eq!(seal_all(&pool, tenant).await.broken(), None);
    }
    // Whoever reads the log meanwhile comes to all of its months.
    let mut reader = pool.begin().await.expect("a transaction");
    sqlx::query("LOCK TABLE ONLY harkara.audit_log IN ACCESS SHARE MODE").execute(&mut *reader).await.expect("locked");
    let reading = async {
        see_wait(&pool, 1).await;
        sqlx::query("SELECT count(*) FROM harkara.audit_log").execute(&mut *reader).await.expect("none is in its way");
        reader.commit().await.expect("committed");
    };
    tokio::join!(stage.maintain(), reading);
    assert_eq!(count_rows(&pool, TENANT).await, all - before, "what is old enough is gone, and nothing else");
    for tenant in [TENANT, OTHER_TENANT] {
        let check = seal_all(&pool, tenant).await;
        assert_eq!(check.broken(), None, "{check:?}");
        let shown = stage.call(tenant, "GET /v1/audit/verification", None, "", "").await.body;
        let dropped_to = shown["dropped_to_block"].as_i64().expect("it is shown");
        assert!(shown["is_intact"] == true && dropped_to < shown["head"]["block"].as_i64().expect("a head"), "{shown}");
    }
    let check = verify(&mut pool.acquire().await.expect("a connection"), TENANT).await;
    assert!(check.block_count >= whole.block_count, "the blocks are left: {check:?} {whole:?}");
    stage.maintain().await;
    assert_eq!(count_rows(&pool, TENANT).await, all - before, "once");

    for (tampering, reason) in TAMPERINGS {
        let mut transaction = pool.begin().await.expect("a transaction");
        sqlx::query(*tampering).execute(&mut *transaction).await.unwrap_or_else(|error| panic!("{error}: {tampering}"));
        let check = verify(&mut transaction, TENANT).await;
        assert_eq!(check.broken_reason.as_deref(), Some(*reason), "{tampering}: {check:?}");
    }
    // By an honest clock all of it was sealed just now: an anchor that says that it was dropped is forged.
    mend_time(&stage.admin).await;
    let check = verify(&mut pool.acquire().await.expect("a connection"), TENANT).await;
    assert_eq!(check.broken_reason.as_deref(), Some("rows_missing"), "{check:?}");
    stage.finish().await;
}

/// A clock that was wrong for a moment, or somebody who wants more to be dropped than is old, writes what looks old.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_month_with_a_row_that_was_sealed_within_the_year_is_not_dropped(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    for tenant in [TENANT, OTHER_TENANT] {
        keep_for(&stage, tenant, json!({"default_days": 1})).await;
    }
    sqlx::raw_sql(MAKE_OLD).execute(&pool).await.expect("what was written looks thirty months old");
    for tenant in [TENANT, OTHER_TENANT] {
        assert_eq!(seal_all(&pool, tenant).await.broken(), None);
    }
    let all = count_rows(&pool, TENANT).await;
    stage.maintain().await;
    assert_eq!(count_rows(&pool, TENANT).await, all);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_month_with_rows_that_are_not_sealed_is_not_dropped(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    let mut slow = pool.begin().await.expect("a transaction");
    let insert =
        "INSERT INTO harkara.recipients (tenant_id, recipient_id, email) VALUES ($1::uuid, 'slow', 'x@example.org')";
    sqlx::query(insert).bind(TENANT).execute(&mut *slow).await.expect("written");
    let earlier = count_rows(&pool, TENANT).await;
    stage.pass(440 * DAY).await;
    slow.commit().await.expect("committed");
    stage.maintain().await;
    assert_eq!(count_rows(&pool, TENANT).await, earlier + 1);
    stage.leave_work();
}
