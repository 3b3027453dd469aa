//! What an administrator of the database may do behind everybody's back, and at which block it shows.

use super::{add_block, seal_all, verify};
use serde_json::json;
use sqlx::{PgConnection, PgPool};
use tests::{OTHER_TENANT, Stage, TENANT};

/// The block at which a tampering shows.
#[derive(Clone, Copy, Debug)]
enum Place {
    First,
    /// One in the middle of the chain, with three rows or more.
    Middle,
    Last,
    /// What would be the next.
    BehindLast,
}

/// What an administrator of the database may do behind everybody's back, and where it shows.
const TAMPERINGS: &[(&str, &str, Place, &str)] = &[
    (
        "a changed value",
        "UPDATE harkara.audit_log SET new_values = '{\"name\": \"sha256:0000\"}' WHERE audit_id = (SELECT id FROM middle)",
        Place::Middle,
        "rows_changed",
    ),
    (
        "another actor",
        "UPDATE harkara.audit_log SET actor = 'nobody' WHERE audit_id = (SELECT id FROM middle)",
        Place::Middle,
        "rows_changed",
    ),
    (
        "another time, by a microsecond",
        "UPDATE harkara.audit_log SET changed_at = changed_at + interval '1 microsecond' \
         WHERE audit_id = (SELECT id FROM middle)",
        Place::Middle,
        "rows_changed",
    ),
    ("a removed row", "DELETE FROM harkara.audit_log WHERE audit_id = (SELECT id FROM middle)", Place::Middle, "rows_missing"),
    (
        "a row of long ago that was not there",
        "INSERT INTO harkara.audit_log (tenant_id, changed_at, actor, table_name, operation, row_key, old_values, new_values, xact)
         SELECT tenant_id, changed_at, 'forger', table_name, operation, row_key, old_values, new_values, xact
         FROM harkara.audit_log WHERE audit_id = (SELECT id FROM middle)",
        Place::Middle,
        "rows_added",
    ),
    (
        "a row that moved to another transaction",
        "UPDATE harkara.audit_log SET xact = xact + 1000000 WHERE audit_id = (SELECT id FROM middle)",
        Place::Middle,
        "rows_missing",
    ),
    (
        "two rows that changed places",
        "UPDATE harkara.audit_log l SET row_key = o.row_key
         FROM (SELECT audit_id, lead(row_key) OVER w AS row_key FROM harkara.audit_log, middle
               WHERE audit_id BETWEEN middle.id AND middle.id + 2 WINDOW w AS (ORDER BY audit_id)) o
         WHERE o.audit_id = l.audit_id AND o.row_key IS NOT NULL",
        Place::Middle,
        "rows_changed",
    ),
    (
        "a changed block",
        "UPDATE harkara.audit_blocks SET sealed_at = sealed_at - interval '1 day'
         WHERE tenant_id = (SELECT tenant_id FROM middle) AND block_number = (SELECT number FROM middle)",
        Place::Middle,
        "block_changed",
    ),
    (
        "a block that says fewer rows, with a hash to match",
        "UPDATE harkara.audit_blocks b SET row_count = c.row_count, block_hash = harkara.hash_audit_block(c)
         FROM (SELECT (jsonb_populate_record(b, '{\"row_count\": 1}')).* FROM harkara.audit_blocks b) c
         WHERE b.tenant_id = (SELECT tenant_id FROM middle) AND b.block_number = (SELECT number FROM middle)
           AND c.tenant_id = b.tenant_id AND c.block_number = b.block_number",
        Place::Middle,
        "rows_added",
    ),
    (
        "a removed block",
        "DELETE FROM harkara.audit_blocks WHERE tenant_id = (SELECT tenant_id FROM middle) AND block_number = (SELECT number FROM middle)",
        Place::Middle,
        "block_missing",
    ),
    (
        "a removed first block",
        "DELETE FROM harkara.audit_blocks WHERE tenant_id = (SELECT tenant_id FROM middle) AND block_number = 1",
        Place::First,
        "block_missing",
    ),
    (
        "a removed last block",
        "DELETE FROM harkara.audit_blocks WHERE tenant_id = (SELECT tenant_id FROM middle) AND block_number = (SELECT last_number FROM middle)",
        Place::Last,
        "rows_unsealed",
    ),
    (
        "a chain that was taken away",
        "DELETE FROM harkara.audit_blocks WHERE tenant_id = (SELECT tenant_id FROM middle)",
        Place::First,
        "rows_unsealed",
    ),
    (
        "the block of another tenant",
        "UPDATE harkara.audit_blocks b
         SET from_xact = o.from_xact, to_xact = o.to_xact, row_count = o.row_count, rows_hash = o.rows_hash,
             previous_hash = o.previous_hash, block_hash = o.block_hash, sealed_at = o.sealed_at
         FROM harkara.audit_blocks o
         WHERE b.tenant_id = (SELECT tenant_id FROM middle) AND b.block_number = (SELECT number FROM middle)
           AND o.tenant_id NOT IN (b.tenant_id, '00000000-0000-0000-0000-000000000000') AND o.block_number = b.block_number",
        Place::Middle,
        "block_changed",
    ),
    (
        "the first block of another tenant, with a hash to match",
        "UPDATE harkara.audit_blocks b SET previous_hash = c.previous_hash, block_hash = harkara.hash_audit_block(c)
         FROM (SELECT (jsonb_populate_record(b, jsonb_build_object('previous_hash', harkara.audit_genesis(md5('x')::uuid)))).*
               FROM harkara.audit_blocks b) c
         WHERE b.tenant_id = (SELECT tenant_id FROM middle) AND b.block_number = 1
           AND c.tenant_id = b.tenant_id AND c.block_number = b.block_number",
        Place::First,
        "block_misplaced",
    ),
    (
        "a row that no sealing saw",
        "INSERT INTO harkara.audit_log (tenant_id, actor, table_name, operation, row_key, new_values, xact)
         SELECT tenant_id, 'forger', 'recipients', 'INSERT', '{}', '{}',
                (SELECT max(to_xact) FROM harkara.audit_blocks b WHERE b.tenant_id = middle.tenant_id)
         FROM middle",
        Place::BehindLast,
        "rows_unsealed",
    ),
];

/// A table with the tenant, a block in the middle of its chain and the first row in it, and the last block.
const FIND_MIDDLE: &str = "
    CREATE TEMPORARY TABLE middle ON COMMIT DROP AS
    SELECT b.tenant_id, b.block_number AS number, min(l.audit_id) AS id,
           (SELECT max(o.block_number) FROM harkara.audit_blocks o WHERE o.tenant_id = b.tenant_id) AS last_number
    FROM harkara.audit_blocks b
    JOIN harkara.audit_log l ON l.tenant_id = b.tenant_id
     AND (l.xact, l.audit_id) >= (b.from_xact, b.from_id) AND (l.xact, l.audit_id) < (b.to_xact, b.to_id)
    WHERE b.tenant_id = $1::uuid AND b.block_number > 1 AND b.row_count >= 3
    GROUP BY b.tenant_id, b.block_number
    ORDER BY b.block_number
    LIMIT 1";

/// Prepares the table; the numbers of its block and of the last one.
async fn find_middle(connection: &mut PgConnection) -> (i64, i64) {
    sqlx::query(FIND_MIDDLE).bind(TENANT).execute(&mut *connection).await.expect("made");
    let statement = "SELECT number, last_number FROM middle";
    let (middle, last) = sqlx::query_as(statement).fetch_one(connection).await.expect("there is such a block");
    assert!(middle < last, "{middle} of {last}");
    (middle, last)
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn whatever_is_changed_behind_the_log_shows_at_its_block(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    seal_all(&pool, TENANT).await;
    for name in ["second", "third", "fourth"] {
        add_block(&stage, name).await;
    }
    // Only the other tenant's: what a sealing passes by without a row of this one.
    stage.put(OTHER_TENANT, "/v1/recipients/{id}", "ada", json!({"email": "y@example.org"})).await;
    seal_all(&pool, OTHER_TENANT).await;
    let before = verify(&mut pool.acquire().await.expect("a connection"), TENANT).await;
    assert_eq!((before.broken(), before.unsealed_count), (None, Some(0)), "{before:?}");

    for (what, statement, place, reason) in TAMPERINGS {
        let mut transaction = pool.begin().await.expect("a transaction");
        let (middle, last) = find_middle(&mut transaction).await;
        let block = match place {
            Place::First => 1,
            Place::Middle => middle,
            Place::Last => last,
            Place::BehindLast => last + 1,
        };
        let done = sqlx::query(*statement).execute(&mut *transaction).await.unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(done.rows_affected() > 0, "{what}: nothing was changed");
        let check = verify(&mut transaction, TENANT).await;
        assert_eq!(check.broken(), Some((block, *reason)), "{what}: {check:?}");
        let theirs = verify(&mut transaction, OTHER_TENANT).await;
        assert_eq!(theirs.broken(), None, "{what}: the other tenant's chain is its own: {theirs:?}");
        transaction.rollback().await.expect("undone");
    }
    assert_eq!(verify(&mut pool.acquire().await.expect("a connection"), TENANT).await, before);
    stage.finish().await;
}

/// Who recomputes a block's hashes has to recompute all that follow, and then their head is another than was kept.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_row_that_is_changed_with_its_block_breaks_the_next_one(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    seal_all(&pool, TENANT).await;
    for name in ["second", "third"] {
        add_block(&stage, name).await;
    }
    let mut transaction = pool.begin().await.expect("a transaction");
    let (middle, _) = find_middle(&mut transaction).await;
    for statement in [
        "UPDATE harkara.audit_log SET actor = 'nobody' WHERE audit_id = (SELECT id FROM middle)",
        "UPDATE harkara.audit_blocks b SET rows_hash = (
             SELECT sha256(string_agg(harkara.hash_audit_row(l), '' ORDER BY l.xact, l.audit_id)) FROM harkara.audit_log l
             WHERE l.tenant_id = b.tenant_id AND (l.xact, l.audit_id) >= (b.from_xact, b.from_id)
               AND (l.xact, l.audit_id) < (b.to_xact, b.to_id))
         WHERE b.tenant_id = (SELECT tenant_id FROM middle) AND b.block_number = (SELECT number FROM middle)",
        "UPDATE harkara.audit_blocks b SET block_hash = harkara.hash_audit_block(b)
         WHERE b.tenant_id = (SELECT tenant_id FROM middle) AND b.block_number = (SELECT number FROM middle)",
    ] {
        sqlx::query(statement).execute(&mut *transaction).await.expect("changed");
    }
    assert_eq!(verify(&mut transaction, TENANT).await.broken(), Some((middle + 1, "block_misplaced")));
    transaction.rollback().await.expect("undone");
    stage.finish().await;
}
