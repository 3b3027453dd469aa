//! The audit log as people read it, and the chain over it: whoever changes what was sealed is found out, at the block.

mod dropping;
mod tampering;

use super::catalog::{API, begin_as, refusal};
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool};
use std::collections::BTreeSet;
use tests::{OTHER_TENANT, Stage, TENANT, see};

/// What `harkara.verify_audit` said: blocks, rows, head, first broken block and why, rows that are not sealed.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
struct Check {
    block_count: i64,
    row_count: i64,
    head_hash: Option<Vec<u8>>,
    next_block: Option<i64>,
    broken_block: Option<i64>,
    broken_reason: Option<String>,
    unsealed_count: Option<i64>,
}

impl Check {
    fn broken(&self) -> Option<(i64, &str)> {
        self.broken_block.zip(self.broken_reason.as_deref())
    }
}

async fn verify(connection: &mut PgConnection, tenant: &str) -> Check {
    let statement = "SELECT * FROM harkara.verify_audit($1::uuid, 1, 1000000)";
    sqlx::query_as(statement).bind(tenant).fetch_one(connection).await.expect("verified")
}

/// Seals at most so many rows; the number of rows that were sealed, and whether there are more.
async fn seal(pool: &PgPool, most_rows: i32) -> (i64, bool) {
    let statement = "SELECT row_count, leaves_more FROM harkara.seal_audit($1)";
    let sealed: Option<(i64, bool)> =
        sqlx::query_as(statement).bind(most_rows).fetch_optional(pool).await.expect("sealed");
    sealed.unwrap_or((0, true))
}

/// Seals until every row of the tenant is. The horizon is the whole server's, so other tests' transactions hold it up.
async fn seal_all(pool: &PgPool, tenant: &str) -> Check {
    see("every row is sealed", async || {
        seal(pool, 100_000).await;
        let check = verify(&mut pool.acquire().await.expect("a connection"), tenant).await;
        (check.unsealed_count == Some(0) || check.broken_block.is_some()).then_some(check)
    })
    .await
}

/// Changes a few rows of both tenants, and seals them: a block for each. Those of a tenant change in one transaction, so that
/// whatever else the server is at puts no end of a block between them.
async fn add_block(stage: &Stage, name: &str) {
    let change = "
        INSERT INTO harkara.recipients (tenant_id, recipient_id, email, name)
        SELECT $1::uuid, id, 'x@example.org', $2 FROM unnest('{ada, bob, eve}'::text[]) id
        ON CONFLICT (tenant_id, recipient_id) DO UPDATE SET name = excluded.name";
    for tenant in [TENANT, OTHER_TENANT] {
        sqlx::query(change).bind(tenant).bind(name).execute(&stage.admin).await.expect("changed");
    }
    for tenant in [TENANT, OTHER_TENANT] {
        assert_eq!(seal_all(&stage.admin, tenant).await.broken(), None);
    }
}

async fn count_rows(pool: &PgPool, tenant: &str) -> i64 {
    let statement = "SELECT count(*) FROM harkara.audit_log WHERE tenant_id = $1::uuid";
    sqlx::query_scalar(statement).bind(tenant).fetch_one(pool).await.expect("counted")
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_chain_verifies_after_writers_that_ran_beside_its_sealing(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    let write = async |writer: i32| {
        for turn in 0..10 {
            // Some commit late, some not at all, and each has several rows.
            let mut transaction = pool.begin().await.expect("a transaction");
            for row in 0..3 {
                sqlx::query(
                    "INSERT INTO harkara.recipients (tenant_id, recipient_id, email)
                     VALUES ($1::uuid, format('w%s-%s-%s', $2::integer, $3::integer, $4::integer), 'w@example.org')",
                )
                .bind(if writer % 2 == 0 { TENANT } else { OTHER_TENANT })
                .bind(writer)
                .bind(turn)
                .bind(row)
                .execute(&mut *transaction)
                .await
                .expect("written");
            }
            if turn % 4 == 3 { transaction.rollback().await } else { transaction.commit().await }.expect("ended");
        }
    };
    let sealing = async {
        for _ in 0..40 {
            seal(&pool, 17).await;
        }
    };
    tokio::join!(write(0), write(1), write(2), write(3), sealing);
    for tenant in [TENANT, OTHER_TENANT] {
        let check = seal_all(&pool, tenant).await;
        assert_eq!(check.broken(), None, "{check:?}");
        assert_eq!(check.row_count, count_rows(&pool, tenant).await, "every row is in a block");
        assert!(check.block_count > 1, "{check:?}");
    }
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn nothing_is_sealed_that_a_running_transaction_could_still_add_to(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    for tenant in [TENANT, OTHER_TENANT] {
        seal_all(&pool, tenant).await;
    }
    let insert =
        "INSERT INTO harkara.recipients (tenant_id, recipient_id, email) VALUES ($1::uuid, $2, 'x@example.org')";
    let mut slow = pool.begin().await.expect("a transaction");
    sqlx::query(insert).bind(TENANT).bind("slow").execute(&mut *slow).await.expect("written");
    sqlx::query(insert).bind(TENANT).bind("quick").execute(&pool).await.expect("written and committed");
    assert_eq!(seal(&pool, 1000).await.0, 0, "an earlier transaction still runs");
    slow.commit().await.expect("committed");
    let check = seal_all(&pool, TENANT).await;
    assert_eq!((check.broken(), check.row_count), (None, count_rows(&pool, TENANT).await));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn one_sealing_at_a_time(pool: PgPool) {
    let mut first = pool.begin().await.expect("a transaction");
    let statement = "SELECT count(*) FROM harkara.seal_audit(10)";
    let rows: i64 = sqlx::query_scalar(statement).fetch_one(&mut *first).await.expect("sealed");
    let rows_of_second: i64 = sqlx::query_scalar(statement).fetch_one(&pool).await.expect("not held up");
    assert_eq!((rows, rows_of_second), (1, 0));
    first.rollback().await.expect("ended");
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_sealing_is_bounded_and_a_block_may_end_within_a_transaction(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    // All of both, so that nobody else's rows take a part of what follows.
    for tenant in [TENANT, OTHER_TENANT] {
        seal_all(&pool, tenant).await;
    }
    let many = "
        INSERT INTO harkara.recipients (tenant_id, recipient_id, email)
        SELECT $1::uuid, 'many' || n, 'x@example.org' FROM generate_series(1, 50) n";
    sqlx::query(many).bind(TENANT).execute(&pool).await.expect("written");
    let mut sealed = 0;
    see("all of them are sealed", async || {
        let (rows, leaves_more) = seal(&pool, 7).await;
        assert!(rows <= 7, "{rows}");
        // The first calls may find the horizon held up by others.
        sealed += rows;
        assert_eq!(leaves_more, rows == 7 || rows == 0 && leaves_more);
        (sealed >= 50).then_some(())
    })
    .await;
    let check = seal_all(&pool, TENANT).await;
    assert_eq!((check.broken(), check.row_count), (None, count_rows(&pool, TENANT).await));
    let blocks =
        "SELECT count(*) FROM harkara.audit_blocks WHERE tenant_id = $1::uuid AND row_count = 7 AND block_number > 1";
    let blocks: i64 = sqlx::query_scalar(blocks).bind(TENANT).fetch_one(&pool).await.expect("counted");
    assert_eq!(blocks, 7);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_column_of_a_row_and_of_a_block_counts(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    seal_all(&pool, TENANT).await;
    // Another value of the column's type, whatever it holds; NULL and 'null' are not the same either.
    let statement = "
        WITH other (kind, value) AS (VALUES
            ('uuid', to_jsonb(md5('other'))), ('timestamptz', '\"2001-01-01T00:00:00Z\"'), ('bigint', '424242'),
            ('text', '\"other\"'), ('jsonb', '{\"other\": 1}'), ('bytea', '\"\\\\x00\"'))
        SELECT a.attrelid::regclass || '.' || a.attname,
               CASE a.attrelid
                   WHEN 'harkara.audit_log'::regclass THEN (
                       SELECT harkara.hash_audit_row(l) <> harkara.hash_audit_row(
                           jsonb_populate_record(l, jsonb_build_object(a.attname, o.value)))
                       FROM harkara.audit_log l LIMIT 1)
                   ELSE (
                       SELECT harkara.hash_audit_block(b) <> harkara.hash_audit_block(
                           jsonb_populate_record(b, jsonb_build_object(a.attname, o.value)))
                       FROM harkara.audit_blocks b LIMIT 1)
               END AS counts
        FROM pg_attribute a
        LEFT JOIN other o ON o.kind::regtype = a.atttypid
        WHERE a.attrelid IN ('harkara.audit_log'::regclass, 'harkara.audit_blocks'::regclass)
          AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> 'block_hash'";
    let columns: Vec<(String, Option<bool>)> = sqlx::query_as(statement).fetch_all(&pool).await.expect("compared");
    assert!(columns.len() >= 20, "{columns:?}");
    for (column, counts) in columns {
        assert_eq!(counts, Some(true), "{column} is not in the hash, so changing it does not show");
    }
    let nulls = "
        SELECT harkara.hash_audit_row(jsonb_populate_record(l, '{\"old_values\": null}'))
               <> harkara.hash_audit_row((SELECT r FROM (
                   SELECT l.tenant_id, l.changed_at, l.audit_id, l.actor, l.table_name, l.operation, l.row_key,
                          'null'::jsonb, l.new_values, l.xact) r)::text::harkara.audit_log)
        FROM harkara.audit_log l WHERE l.operation = 'INSERT' LIMIT 1";
    let differ: bool = sqlx::query_scalar(nulls).fetch_one(&pool).await.expect("compared");
    assert!(differ, "no value is not the value null");
    stage.finish().await;
}

/// A dump restored into a young cluster: transactions are counted from the start again.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn after_a_restore_into_another_cluster_sealing_stops_until_a_new_epoch_begins(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    // The old cluster was far ahead of this one.
    let ahead = "CREATE OR REPLACE FUNCTION harkara.audit_epoch() RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE
                 RETURN 1000000000000::bigint";
    let here = "CREATE OR REPLACE FUNCTION harkara.audit_epoch() RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE
                RETURN 0::bigint";
    sqlx::query(ahead).execute(&pool).await.expect("ahead");
    add_block(&stage, "before the dump").await;
    stage.put(TENANT, "/v1/recipients/{id}", "ada", json!({"email": "unsealed@example.org"})).await;
    sqlx::query(here).execute(&pool).await.expect("restored");
    stage.put(TENANT, "/v1/recipients/{id}", "ada", json!({"email": "restored@example.org"})).await;

    let refused = sqlx::query("SELECT * FROM harkara.seal_audit(100)").fetch_all(&pool).await;
    let (code, said) = refusal(refused);
    assert_eq!(code, "55000", "{said}");
    stage.dispatch().await;

    sqlx::query("CALL harkara.begin_audit_epoch()").execute(&pool).await.expect("a new epoch");
    let check = seal_all(&pool, TENANT).await;
    assert_eq!((check.broken(), check.row_count), (None, count_rows(&pool, TENANT).await), "{check:?}");
    stage.put(TENANT, "/v1/recipients/{id}", "ada", json!({"email": "later@example.org"})).await;
    assert_eq!(seal_all(&pool, TENANT).await.broken(), None);
    let (code, _) = refusal(sqlx::query("CALL harkara.begin_audit_epoch()").execute(&pool).await);
    assert_eq!(code, "55000", "there is nothing to be done");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_dispatcher_seals_and_a_tenant_sees_its_chain(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    let verification = async |tenant: &str, query: &str| {
        let answer = stage.call(tenant, "GET /v1/audit/verification", None, query, "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    };
    let before = verification(TENANT, "").await;
    assert_eq!((&before["is_intact"], &before["head"]), (&json!(true), &Value::Null));
    let shown = see("the dispatcher has sealed every row", async || {
        stage.dispatch().await;
        let shown = verification(TENANT, "").await;
        (shown["unsealed_count"] == 0).then_some(shown)
    })
    .await;
    assert_eq!((&shown["is_intact"], &shown["broken"]), (&json!(true), &Value::Null));
    assert_eq!(shown["row_count"], before["unsealed_count"]);
    let head = shown["head"]["block"].as_i64().expect("a number");
    assert_eq!(shown["head"]["hash"].as_str().map(str::len), Some(64));
    let later = verification(TENANT, &format!("from_block={}", head + 1)).await;
    assert_eq!((&later["block_count"], &later["head"]), (&json!(0), &shown["head"]), "{later}");
    let beyond = verification(TENANT, &format!("from_block={}", head + 3)).await;
    assert_eq!(beyond["broken"], json!({"block": head + 2, "reason": "block_missing"}));

    sqlx::query(
        "UPDATE harkara.audit_log SET actor = 'nobody' WHERE table_name = 'recipients' AND tenant_id = $1::uuid",
    )
    .bind(TENANT)
    .execute(&pool)
    .await
    .expect("changed");
    let broken = verification(TENANT, "").await;
    assert_eq!((&broken["is_intact"], &broken["broken"]["reason"]), (&json!(false), &json!("rows_changed")));
    assert_eq!(verification(OTHER_TENANT, "").await["is_intact"], true);
    let bad = stage.call(TENANT, "GET /v1/audit/verification", None, "from_block=0&x=1", "").await;
    assert_eq!((bad.status, bad.pointers()), (422, vec!["?from_block", "?x"]));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_long_chain_is_verified_part_by_part(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    seal_all(&pool, TENANT).await;
    for name in ["second", "third", "fourth"] {
        add_block(&stage, name).await;
    }
    let (mut from_block, mut seen, mut heads) = (1, 0, Vec::new());
    loop {
        let statement = "SELECT * FROM harkara.verify_audit($1::uuid, $2, 2)";
        let part: Check =
            sqlx::query_as(statement).bind(TENANT).bind(from_block).fetch_one(&pool).await.expect("verified");
        assert_eq!(part.broken(), None);
        seen += part.row_count;
        heads.extend(part.head_hash);
        match part.next_block {
            Some(next) => from_block = next,
            None => break,
        }
    }
    let whole = verify(&mut pool.acquire().await.expect("a connection"), TENANT).await;
    let parts = usize::try_from((whole.block_count + 1) / 2).expect("a few");
    assert_eq!((seen, heads.len(), heads.last()), (whole.row_count, parts, whole.head_hash.as_ref()));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn no_login_role_can_rewrite_the_chain(pool: PgPool) {
    for statement in [
        "DELETE FROM harkara.audit_blocks",
        "UPDATE harkara.audit_blocks SET row_count = 0",
        "INSERT INTO harkara.audit_blocks SELECT * FROM harkara.audit_blocks",
        "TRUNCATE harkara.audit_blocks",
        "CALL harkara.begin_audit_epoch()",
        "SELECT * FROM harkara.seal_audit(1)",
    ] {
        let mut transaction = begin_as(&pool, API).await;
        let (code, said) = refusal(sqlx::query(statement).execute(&mut *transaction).await);
        assert_eq!(code, "42501", "{statement}: {said}");
    }
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_log_is_paged_and_says_from_what_to_what(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    let category = |attempts: u32| json!({"class": "security", "max_attempts": attempts});
    stage.put(TENANT, "/v1/categories/{key}", "alarm", category(2)).await;
    stage.put(TENANT, "/v1/categories/{key}", "alarm", category(5)).await;
    let list = async |query: &str| {
        let answer = stage.call(TENANT, "GET /v1/audit", None, query, "").await;
        assert_eq!(answer.status, 200, "{query}: {answer:?}");
        answer.body["changes"].as_array().expect("a list").clone()
    };
    let alarm = list("table=categories&key=alarm").await;
    let [changed, made] = alarm.as_slice() else { panic!("{alarm:?}") };
    assert_eq!((&changed["operation"], &changed["actor"]), (&json!("update"), &json!("tester")));
    assert_eq!(changed["key"], json!({"category_key": "alarm"}));
    assert_eq!(changed["changes"]["max_attempts"], json!({"from": 2, "to": 5}));
    assert_eq!(changed["changes"]["class"], Value::Null, "what stayed as it was is no change");
    assert_eq!(made["operation"], "insert");
    assert_eq!(made["changes"]["max_attempts"], json!({"from": null, "to": 2}));
    assert_eq!(list("operation=update&table=categories").await, std::slice::from_ref(changed));
    assert_eq!(list("actor=somebody").await, Vec::<Value>::new());
    assert_eq!(list("to=2020-01-01T00:00:00Z").await, Vec::<Value>::new());

    let id = stage.post(Stage::greeting("lin@example.org")).await.id();
    let of_one = list(&format!("table=notifications&key={id}")).await;
    assert_eq!(of_one.len(), 1, "{of_one:?}");
    assert_eq!(of_one[0]["key"], json!({"notification_id": id}), "printed as the rest of the API prints it");

    let mut seen = BTreeSet::new();
    let mut query = "page_size=3".to_owned();
    loop {
        let page = stage.call(TENANT, "GET /v1/audit", None, &query, "").await;
        for row in page.body["changes"].as_array().expect("a list") {
            assert!(seen.insert(row["id"].as_i64().expect("a number")), "no row comes twice");
        }
        match page.body["page_info"]["after"].as_str() {
            Some(after) => query = format!("page_size=3&after={after}"),
            None => break,
        }
    }
    let all = count_rows(&pool, TENANT).await;
    assert_eq!(i64::try_from(seen.len()).expect("a few"), all, "and none is left out");
    let bad = stage.call(TENANT, "GET /v1/audit", None, "operation=INSERT&from=soon&page_size=51", "").await;
    assert_eq!((bad.status, bad.pointers()), (422, vec!["?operation", "?from", "?page_size"]));
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_tenant_reads_its_own_log_only(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    stage.put(TENANT, "/v1/recipients/{id}", "eve", json!({"email": "eve@example.org"})).await;
    let theirs = stage.call(OTHER_TENANT, "GET /v1/audit", None, "key=eve", "").await;
    assert_eq!(theirs.body["changes"], json!([]));
    // Asked of the database itself, as its login role.
    let mut transaction = begin_as(&pool, API).await;
    sqlx::query("SELECT harkara.set_tenant($1::uuid, 'tester')")
        .bind(OTHER_TENANT)
        .execute(&mut *transaction)
        .await
        .expect("set");
    let check = verify(&mut transaction, TENANT).await;
    assert_eq!((check.block_count, check.row_count, check.unsealed_count), (0, 0, Some(0)));
    transaction.rollback().await.expect("ended");
    stage.finish().await;
}

/// A log of millions is searched part by part, and none of them takes longer than a statement may.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_search_looks_at_so_many_rows_and_goes_on_where_it_ended(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    stage.put(TENANT, "/v1/recipients/{id}", "needle", json!({"email": "x@example.org"})).await;
    let many = "INSERT INTO harkara.audit_log (tenant_id, actor, table_name, operation, row_key, new_values)
                SELECT $1::uuid, 'tester', 'recipients', 'INSERT', jsonb_build_object('recipient_id', 'hay' || n), '{}'
                FROM generate_series(1, 60000) n";
    sqlx::query(many).bind(TENANT).execute(&pool).await.expect("written");
    let list = async |query: &str| {
        let answer = stage.call(TENANT, "GET /v1/audit", None, query, "").await;
        assert_eq!(answer.status, 200, "{query}: {answer:?}");
        answer.body
    };
    for filter in ["key=needle", "key=needle&table=recipients&operation=insert&actor=tester"] {
        let first = list(filter).await;
        assert_eq!(first["changes"], json!([]), "nothing fits of what it looked at");
        let after = first["page_info"]["after"].as_str().expect("and there is more");
        let second = list(&format!("{filter}&after={after}")).await;
        assert_eq!(second["changes"].as_array().map(Vec::len), Some(1), "{second}");
        assert_eq!(second["changes"][0]["key"], json!({"recipient_id": "needle"}));
        assert_eq!(second["page_info"]["after"], Value::Null);
    }
    let full = list("table=recipients&page_size=2").await;
    assert_eq!(full["changes"].as_array().map(Vec::len), Some(2), "a full page ends where it is full");
    let hay = |row: &Value| row["key"]["recipient_id"].as_str().map(|key| key[3..].parse().expect("a number"));
    let [Some(first), Some(second)]: [Option<u32>; 2] = [hay(&full["changes"][0]), hay(&full["changes"][1])] else {
        panic!("{full}")
    };
    let after = full["page_info"]["after"].as_str().expect("there is more");
    let next = list(&format!("table=recipients&page_size=2&after={after}")).await;
    assert_eq!((hay(&next["changes"][0]), first - 1), (Some(second - 1), second));
    stage.finish().await;
}

/// Everything that the API writes, by whichever route, names the caller's subject, and never the role behind it.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_write_of_the_api_is_signed_by_its_caller(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    let before: i64 =
        sqlx::query_scalar("SELECT max(audit_id) FROM harkara.audit_log").fetch_one(&pool).await.expect("a row");
    let mut body = Stage::greeting("lin@example.org");
    body["dedupe"] = json!({"key": "once", "window": "PT1H"});
    let headers = [("idempotency-key", "k1")];
    let id = stage.post_as(TENANT, body, &headers).await.id();
    stage.call_with_key(TENANT, "POST /v1/notifications/{id}/cancel", &id, "k2").await;
    stage.put(TENANT, "/v1/recipients/{id}", "ada", json!({"email": "new@example.org"})).await;
    stage.publish(TENANT, "own", json!({"subject": "s", "text": "t"})).await;
    stage.put(TENANT, "/v1/categories/{key}", "own", json!({"class": "security"})).await;
    stage.call(TENANT, "PUT /v1/suppressions/{address}", Some("lin@example.org"), "", "").await;
    stage.call(TENANT, "DELETE /v1/suppressions/{address}", Some("lin@example.org"), "", "").await;

    let statement = "SELECT DISTINCT table_name, actor FROM harkara.audit_log WHERE audit_id > $1 ORDER BY 1, 2";
    let signed: Vec<(String, String)> =
        sqlx::query_as(statement).bind(before).fetch_all(&pool).await.expect("the log can be read");
    let tables = [
        "categories",
        "dedupe_keys",
        "deliveries",
        "events",
        "idempotency_keys",
        "notifications",
        "recipients",
        "suppressions",
        "template_publications",
        "template_versions",
        "templates",
    ];
    assert_eq!(signed, tables.map(|table| (table.to_owned(), "tester".to_owned())));
    stage.drain().await;
    stage.finish().await;
}
