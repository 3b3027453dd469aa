//! One function says what time it is, so that moving it moves everything.

use super::assert_each;
use super::plans::read_statements;
use sqlx::PgPool;
use std::time::Duration;
use tests::shift_time;

/// What asks the server itself: the clock, and the audit log, whose chain is held against other logs.
const OWN_TIME: &str = "{now,clock,write_audit,seal_audit,verify_audit,make_partitions}";

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_routine_asks_one_function_for_the_time(pool: PgPool) {
    let statement = "
        SELECT p.proname::text
        FROM pg_proc p
        WHERE p.pronamespace = 'harkara'::regnamespace AND p.proname <> ALL ($1::text::text[])
          AND pg_get_functiondef(p.oid) ~ '(?<![.\\w])(now|clock_timestamp|statement_timestamp|transaction_timestamp)\\(\\)|current_timestamp|localtimestamp'";
    let found: Vec<String> =
        sqlx::query_scalar(statement).bind(OWN_TIME).fetch_all(&pool).await.expect("the catalog answers");
    assert!(
        found.is_empty(),
        "harkara.now() and harkara.clock() are what tests can move; these ask the server: {found:?}"
    );
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_default_asks_one_function_for_the_time(pool: PgPool) {
    let why = "a default that asks the server does not move with everything else; DEFAULT harkara.now()";
    let statement = "
        SELECT d.adrelid::regclass || '.' || a.attname,
               pg_get_expr(d.adbin, d.adrelid) !~ '(^|[^.])(now|clock_timestamp)\\(\\)|CURRENT_TIMESTAMP'
                   OR c.relname LIKE 'audit\\_log%'
        FROM pg_attrdef d
        JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
        JOIN pg_class c ON c.oid = d.adrelid
        WHERE c.relnamespace = 'harkara'::regnamespace AND a.atttypid = 'timestamptz'::regtype";
    assert_each(&pool, why, statement).await;
}

#[test]
fn every_statement_asks_one_function_for_the_time() {
    for statement in read_statements() {
        for (place, _) in statement.match_indices("now()") {
            let before = &statement[..place];
            assert!(before.ends_with("harkara."), "harkara.now() is what tests can move: {statement}");
        }
        let asked = ["clock_timestamp", "statement_timestamp", "current_timestamp", "CURRENT_TIMESTAMP"];
        let asked = asked.iter().find(|name| statement.contains(**name));
        assert_eq!(asked, None, "harkara.clock() is what tests can move: {statement}");
    }
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_id_of_the_database_is_a_uuid_of_version_7_with_the_time_in_front(pool: PgPool) {
    let hour = Duration::from_secs(3600);
    shift_time(&pool, hour).await;
    let (id, at): (uuid::Uuid, f64) =
        sqlx::query_as("SELECT harkara.new_id(), extract(epoch FROM harkara.now())::double precision")
            .fetch_one(&pool)
            .await
            .expect("an id");
    assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122));
    let (seconds, _) = id.get_timestamp().expect("version 7 has a time").to_unix();
    assert!((at.floor()..=at + 60.0).contains(&(seconds as f64)), "{id} is of {seconds}, and it is {at}");
}
