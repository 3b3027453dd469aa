//! The audit log: every change of every table, by whom, and without what is personal.

use super::{API, WORKER, assert_each, begin_as};
use serde_json::{Value, json};
use sqlx::PgPool;
use tests::{OTHER_TENANT, Stage, TENANT};

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_change_of_every_table_is_audited(pool: PgPool) {
    let why = "CALL harkara.audit_table for the table; the log itself and its chain are exceptions, and clocks and \
               counts that every claim or request moves and that say nothing about anybody, and what jobs did, which is \
               a log of its own";
    let statement = "
        SELECT c.relname || ' ' || wanted.operation, EXISTS (
            SELECT FROM pg_trigger t
            WHERE t.tgrelid = c.oid AND t.tgname = 'audit_' || wanted.operation AND t.tgtype = wanted.kind
              AND t.tgenabled = 'O' AND t.tgqual IS NULL AND t.tgfoid = 'harkara.write_audit'::regproc)
        FROM pg_class c
        -- After each statement; the bits of TRIGGER_TYPE_* in Postgres's pg_trigger.h.
        CROSS JOIN (VALUES ('insert', 4), ('delete', 8), ('update', 16)) wanted (operation, kind)
        WHERE c.relnamespace = 'harkara'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
          AND c.relname NOT IN ('audit_log', 'audit_anchors', 'audit_blocks', 'daily_counts', 'domain_job_candidates',
                                'domain_job_clocks', 'job_runs', 'request_rates', 'send_pace', 'send_slots')";
    assert_each(&pool, why, statement).await;
}

/// The first argument of an audit trigger names the key columns, the second the hidden ones.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_audited_row_is_named_by_its_whole_key(pool: PgPool) {
    let why = "the key columns are those of the primary key, without the tenant and without the month's column";
    let statement = "
        SELECT t.tgrelid::regclass || ' ' || t.tgname,
               string_to_array(split_part(encode(t.tgargs, 'escape'), '\\000', 1), ',') = (
                   SELECT array_agg(a.attname::text ORDER BY k.place)
                   FROM pg_index i
                   CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY k (attnum, place)
                   JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                   LEFT JOIN pg_partitioned_table p ON p.partrelid = i.indrelid
                   WHERE i.indrelid = t.tgrelid AND i.indisprimary
                     AND (a.attname <> 'tenant_id' OR i.indnkeyatts = 1)
                     AND NOT a.attnum = ANY (coalesce(p.partattrs::smallint[], '{}')))
        FROM pg_trigger t WHERE t.tgfoid = 'harkara.write_audit'::regproc";
    assert_each(&pool, why, statement).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_personal_column_is_hidden_from_the_log(pool: PgPool) {
    let why = "addresses, names, contents, secrets and what others said about them are kept as digests, or not at all; \
               a tenant's or a category's own name is no person's";
    let statement = "
        SELECT t.tgrelid::regclass || '.' || a.attname || ' ' || t.tgname,
               a.attname = ANY (string_to_array(split_part(encode(t.tgargs, 'escape'), '\\000', 2) || ','
                                                || split_part(encode(t.tgargs, 'escape'), '\\000', 3), ','))
        FROM pg_trigger t
        JOIN pg_attribute a ON a.attrelid = t.tgrelid
        WHERE t.tgfoid = 'harkara.write_audit'::regproc
          AND a.attname IN ('email', 'phone', 'name', 'subject', 'text_body', 'html_body', 'data', 'metadata', 'body',
                            'answer', 'detail', 'reason_detail', 'error_detail', 'wrapped_key', 'sealed_secret', 'to_address',
                            'to_name')
          AND t.tgrelid NOT IN ('harkara.tenants'::regclass, 'harkara.categories'::regclass)";
    assert_each(&pool, why, statement).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_hidden_column_exists(pool: PgPool) {
    let why = "a hidden column that the table does not have hides nothing: a slip of the pen, or a renamed column";
    let statement = "
        SELECT t.tgrelid::regclass || '.' || hidden, EXISTS (
            SELECT FROM pg_attribute a WHERE a.attrelid = t.tgrelid AND a.attname = hidden AND NOT a.attisdropped)
        FROM pg_trigger t
        CROSS JOIN LATERAL
            unnest(string_to_array(split_part(encode(t.tgargs, 'escape'), '\\000', 2), ',')) hidden
        WHERE t.tgfoid = 'harkara.write_audit'::regproc";
    assert_each(&pool, why, statement).await;
}

/// Audit rows of one table, the oldest first: actor, operation, old and new value of a column.
async fn read_changes(
    pool: &PgPool,
    table: &str,
    column: &str,
) -> Vec<(String, String, Option<String>, Option<String>)> {
    let statement = "
        SELECT actor, operation, old_values ->> $2, new_values ->> $2 FROM harkara.audit_log
        WHERE table_name = $1 AND tenant_id = $3::uuid
          AND (old_values ->> $2 IS NOT NULL OR new_values ->> $2 IS NOT NULL)
        ORDER BY audit_id";
    sqlx::query_as(statement).bind(table).bind(column).bind(TENANT).fetch_all(pool).await.expect("the log can be read")
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_transition_is_on_record_with_who_made_it(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    stage.post(Stage::greeting("lin@example.org")).await.id();
    stage.drain().await;
    stage.finish().await;

    let changes = read_changes(&pool, "deliveries", "state").await;
    let changes: Vec<_> = changes
        .iter()
        .map(|(actor, operation, old, new)| (actor.as_str(), operation.as_str(), old.as_deref(), new.as_deref()))
        .collect();
    // The subject of the caller's token; then whoever logged in, which is the worker's role, and here the harness's.
    let login: String = sqlx::query_scalar("SELECT session_user::text").fetch_one(&pool).await.expect("a name");
    let expected = [
        ("tester", "INSERT", None, Some("queued")),
        (login.as_str(), "UPDATE", Some("queued"), Some("sending")),
        (login.as_str(), "UPDATE", Some("sending"), Some("sent")),
    ];
    assert_eq!(changes, expected);
    let outcomes = read_changes(&pool, "attempts", "outcome").await;
    assert_eq!(outcomes, [(login, "UPDATE".to_owned(), None, Some("sent".to_owned()))]);
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_log_shows_that_an_address_changed_and_not_the_address(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    let moved = json!({"email": "countess@example.org", "name": "Ada"});
    stage.put(TENANT, "/v1/recipients/{id}", "ada", moved).await;
    stage.post(Stage::greeting("lin@example.org")).await.id();
    stage.drain().await;
    stage.finish().await;

    let changes = read_changes(&pool, "recipients", "email").await;
    let [(_, _, None, Some(first)), (_, _, Some(old), Some(new))] = changes.as_slice() else { panic!("{changes:?}") };
    assert!(first.starts_with("sha256:"), "{first}");
    assert_eq!(first, old);
    assert_ne!(old, new);
    // Whoever reads the log knows the tenant's id, and can try all phone numbers there are; the salt nobody is shown.
    let digest = "
        SELECT 'sha256:' || left(encode(sha256(salt || convert_to('\"countess@example.org\"', 'UTF8')), 'hex'), 16)
        FROM harkara.tenants WHERE tenant_id = $1::uuid";
    let digest: String = sqlx::query_scalar(digest).bind(TENANT).fetch_one(&pool).await.expect("a digest");
    assert_eq!(*new, digest);
    let names = read_changes(&pool, "recipients", "name").await;
    assert_eq!(names.len(), 1, "a column that stayed as it was is not in the change: {names:?}");

    let leaks = stage_leaks(&pool).await;
    assert!(leaks.is_empty(), "{leaks:?}");
}

/// Audit rows that hold a word of the stage's mails or people.
async fn stage_leaks(pool: &PgPool) -> Vec<Value> {
    let statement = "
        SELECT to_jsonb(l) FROM harkara.audit_log l
        WHERE concat(l.row_key, l.old_values, l.new_values) ~ '(ada|countess|lin)@|\"Ada\"|Dear|Hello'";
    sqlx::query_scalar(statement).fetch_all(pool).await.expect("the log can be read")
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_same_address_looks_different_in_each_tenants_log(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    stage.finish().await;
    let statement = "
        SELECT count(DISTINCT new_values ->> 'email') FROM harkara.audit_log
        WHERE table_name = 'recipients' AND tenant_id IN ($1::uuid, $2::uuid)";
    let digests: i64 =
        sqlx::query_scalar(statement).bind(TENANT).bind(OTHER_TENANT).fetch_one(&pool).await.expect("counted");
    assert_eq!(digests, 2);
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_change_and_its_record_happen_together_or_not_at_all(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    stage.finish().await;
    let count = "SELECT count(*) FROM harkara.audit_log WHERE actor = 'auditor'";
    for (keep, expected) in [(false, 0), (true, 1)] {
        let mut transaction = begin_as(&pool, API).await;
        let set = "SELECT harkara.set_tenant($1::uuid, 'auditor')";
        sqlx::query(set).bind(TENANT).execute(&mut *transaction).await.expect("set");
        let change = "UPDATE harkara.recipients SET locale = 'de'";
        let changed = sqlx::query(change).execute(&mut *transaction).await.expect("changed");
        assert_eq!(changed.rows_affected(), 1);
        if keep { transaction.commit().await } else { transaction.rollback().await }.expect("ended");
        let recorded: i64 = sqlx::query_scalar(count).fetch_one(&pool).await.expect("counted");
        assert_eq!(recorded, expected);
    }
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_is_deleted_leaves_its_record(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    stage.post(Stage::greeting("lin@example.org")).await.id();
    stage.drain().await;
    stage.finish().await;
    // An event is deleted from the outbox once it is on the bus.
    let statement = "
        SELECT count(*) FILTER (WHERE operation = 'INSERT'), count(*) FILTER (WHERE operation = 'DELETE')
        FROM harkara.audit_log WHERE table_name = 'events'";
    let (made, deleted): (i64, i64) = sqlx::query_as(statement).fetch_one(&pool).await.expect("counted");
    assert_eq!((made, deleted), (2, 2), "notification.accepted and delivery.sent");
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_log_is_written_to_the_months_own_partition(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    stage.finish().await;
    let statement = "SELECT (SELECT count(*) FROM harkara.audit_log), (SELECT count(*) FROM harkara.audit_log_default)";
    let (all, by_default): (i64, i64) = sqlx::query_as(statement).fetch_one(&pool).await.expect("counted");
    assert!(all > 0);
    assert_eq!(by_default, 0);
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_nobody_has_signed_is_signed_by_the_role_that_logged_in(pool: PgPool) {
    let mut transaction = begin_as(&pool, WORKER).await;
    let actor = "SELECT harkara.current_actor()";
    let actor: String = sqlx::query_scalar(actor).fetch_one(&mut *transaction).await.expect("a name");
    assert_eq!(actor, "harkara_worker");
}
