//! Due work is found through indexes, however long the history: asked of the planner, for the statements as they are.

use super::{WORKER, begin_as};
use crate::project::root;
use serde_json::Value;
use sqlx::PgPool;

/// The tables that only ever grow.
const HISTORY: &[&str] = &["notifications", "deliveries", "attempts", "dead_letters", "audit_log"];

/// The product's statements, as `.sqlx/` keeps them.
pub(super) fn read_statements() -> Vec<String> {
    let folder = root().join(".sqlx");
    let files = std::fs::read_dir(folder).expect("`cargo local sql` writes .sqlx/");
    let mut statements: Vec<String> = files
        .map(|file| std::fs::read_to_string(file.expect("an entry").path()).expect("a query's file"))
        .map(|text| serde_json::from_str::<Value>(&text).expect("a query's file is JSON"))
        .map(|query| query["query"].as_str().expect("a query's text").to_owned())
        .collect();
    statements.sort();
    statements
}

/// A function that plans any statement, so that none is put together on this side.
const MAKE_PLANNER: &str = "
    CREATE FUNCTION public.plan_statement(statement text) RETURNS jsonb LANGUAGE plpgsql AS $$
    DECLARE
        plan jsonb;
    BEGIN
        EXECUTE 'EXPLAIN (GENERIC_PLAN, FORMAT JSON) ' || statement INTO plan;
        RETURN plan;
    END
    $$";

/// Every node of a plan.
fn nodes(plan: &Value) -> Vec<&Value> {
    match plan {
        Value::Array(entries) => entries.iter().flat_map(nodes).collect(),
        Value::Object(map) => {
            let below = ["Plan", "Plans"].iter().filter_map(|name| map.get(*name)).flat_map(nodes);
            std::iter::once(plan).chain(below).collect()
        }
        _ => Vec::new(),
    }
}

/// The nodes that read a whole table or a whole index of a history table, in words.
fn walks(plan: &Value) -> Vec<String> {
    let history = |name: &str| HISTORY.iter().any(|table| name == *table || name.starts_with(&format!("{table}_2")));
    let text = |node: &Value, name: &str| node[name].as_str().unwrap_or_default().to_owned();
    // A bitmap's index scan does not name the table; its heap scan does, and stands above it.
    nodes(plan)
        .into_iter()
        .filter(|node| history(&text(node, "Relation Name")))
        // All that is in it is due work, and no history.
        .filter(|node| text(node, "Index Name") != "deliveries_due")
        .filter(|node| match text(node, "Node Type").as_str() {
            "Seq Scan" => true,
            "Index Scan" | "Index Only Scan" => node.get("Index Cond").is_none(),
            _ => false,
        })
        .map(|node| format!("{} {} {}", text(node, "Node Type"), text(node, "Relation Name"), text(node, "Index Name")))
        .collect()
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn no_statement_has_to_walk_over_history(pool: PgPool) {
    sqlx::query(MAKE_PLANNER).execute(&pool).await.expect("a function");
    let mut transaction = pool.begin().await.expect("a transaction");
    // The tables are empty, and of an empty table the planner would rather read all.
    for setting in ["SET LOCAL enable_seqscan = off", "SET LOCAL enable_bitmapscan = off"] {
        sqlx::query(setting).execute(&mut *transaction).await.expect("set");
    }
    let statements = read_statements();
    let mut looked_at = 0;
    let mut walking = Vec::new();
    for statement in statements.iter().filter(|statement| !statement.trim_start().starts_with("CALL")) {
        let plan: Value = sqlx::query_scalar("SELECT public.plan_statement($1)")
            .bind(statement)
            .fetch_one(&mut *transaction)
            .await
            .unwrap_or_else(|error| panic!("{error} in {statement}"));
        looked_at += nodes(&plan).len();
        walking.extend(walks(&plan).into_iter().map(|walk| format!("{walk} in {statement}")));
    }
    assert!(looked_at > statements.len(), "the plans were read");
    assert!(walking.is_empty(), "its time grows with the history, see the budgets: {}", walking.join("\n\n"));
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_dispatcher_finds_due_work_through_its_index(pool: PgPool) {
    sqlx::query(MAKE_PLANNER).execute(&pool).await.expect("a function");
    let mut seeding = pool.begin().await.expect("a transaction");
    for statement in [
        // Neither audited nor checked against other tables: it is the number of rows that counts.
        "SET LOCAL session_replication_role = replica",
        "INSERT INTO harkara.deliveries
             (tenant_id, delivery_id, notification_id, channel, state, max_attempts, not_before, due_at, sent_at)
         SELECT md5((n % 7)::text)::uuid, md5(n::text)::uuid, md5(n::text)::uuid, 'email',
                CASE WHEN n % 1000 = 0 THEN 'queued' ELSE 'sent' END, 3, harkara.now(),
                CASE WHEN n % 1000 = 0 THEN harkara.now() END, CASE WHEN n % 1000 > 0 THEN harkara.now() END
         FROM generate_series(1, 20000) n",
        "ANALYZE harkara.deliveries",
    ] {
        sqlx::query(statement).execute(&mut *seeding).await.expect("seeded");
    }
    seeding.commit().await.expect("committed");

    let statements = read_statements();
    let due: Vec<_> = statements
        .iter()
        .filter(|statement| statement.contains("due_at <= harkara.now()") && statement.contains("SKIP LOCKED"))
        .filter(|statement| statement.contains("FROM harkara.deliveries d") && statement.contains("SKIP LOCKED"))
        .filter(|statement| statement.contains("due_at <= harkara.now()"))
        .filter(|statement| statement.contains("d.due_at <= harkara.now()") && statement.contains("SKIP LOCKED"))
        .collect();
    let [due] = due.as_slice() else { panic!("one statement takes what is due, not {due:?}") };
    let mut transaction = begin_as(&pool, WORKER).await;
    let plan: Value = sqlx::query_scalar("SELECT public.plan_statement($1)")
        .bind(due)
        .fetch_one(&mut *transaction)
        .await
        .expect("the worker may plan its own statement");
    let on_deliveries: Vec<_> = nodes(&plan)
        .into_iter()
        .filter(|node| node["Relation Name"] == "deliveries" || node["Index Name"] == "deliveries_due")
        .collect();
    assert!(!on_deliveries.is_empty(), "{plan:#}");
    for node in on_deliveries {
        assert_eq!(node["Index Name"], "deliveries_due", "{plan:#}");
        assert!(["Index Scan", "Index Only Scan"].map(Value::from).contains(&node["Node Type"]), "{plan:#}");
    }
}
