//! How columns and constraints are made: STYLE's rules 22 and 25.

use super::assert_each;
use sqlx::PgPool;

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_column_has_a_type_that_keeps_its_meaning(pool: PgPool) {
    let why = "a time without its zone, a float or a bounded text loses what was meant; \
               use timestamptz, integer, bigint, text, boolean, uuid, jsonb or bytea; time is for the hours of anybody's day";
    let statement = "
        SELECT a.attrelid::regclass || '.' || a.attname, a.atttypid = ANY (
            '{timestamptz, time, integer, bigint, text, text[], boolean, uuid, uuid[], jsonb, bytea}'::regtype[])
        FROM pg_attribute a
        JOIN pg_class c ON c.oid = a.attrelid
        WHERE c.relnamespace = 'harkara'::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped";
    assert_each(&pool, why, statement).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_time_is_named_at(pool: PgPool) {
    let why = "a column's name says that it is a moment; not_before is one, too, and a limit";
    let statement = "
        SELECT a.attrelid::regclass || '.' || a.attname, a.attname LIKE '%\\_at' OR a.attname = 'not_before'
        FROM pg_attribute a
        JOIN pg_class c ON c.oid = a.attrelid
        WHERE c.relnamespace = 'harkara'::regnamespace AND c.relkind IN ('r', 'p') AND a.atttypid = 'timestamptz'::regtype";
    assert_each(&pool, why, statement).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_check_is_named_as_a_sentence(pool: PgPool) {
    let why = "the name is what an operator reads when the check refuses a row; say what holds, such as state_is_known";
    let statement = "
        SELECT c.conrelid::regclass || '.' || c.conname,
               c.conname !~ '_check[0-9]*$' AND cardinality(string_to_array(c.conname, '_')) >= 3
        FROM pg_constraint c
        WHERE c.connamespace = 'harkara'::regnamespace AND c.contype = 'c'";
    assert_each(&pool, why, statement).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn history_is_kept_by_month_for_the_coming_year(pool: PgPool) {
    let why = "a month without its partition fills the default one, which then bars the month's own";
    let statement = "
        SELECT history || to_char(month, '_YYYYMM'),
               to_regclass('harkara.' || history || to_char(month, '_YYYYMM')) IS NOT NULL
        FROM unnest('{attempts, audit_log}'::text[]) history
        CROSS JOIN generate_series(
            date_trunc('month', harkara.now() AT TIME ZONE 'UTC'), (harkara.now() AT TIME ZONE 'UTC') + interval '12 months', '1 month') month";
    assert_each(&pool, why, statement).await;
}
