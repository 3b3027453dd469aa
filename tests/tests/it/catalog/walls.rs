//! The walls between tenants: row level security on every table, and keys that begin with the tenant.

use super::assert_each;
use sqlx::PgPool;

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_table_belongs_to_a_tenant(pool: PgPool) {
    let why = "a table without a tenant_id cannot be walled; give it one that is NOT NULL";
    let statement = "
        SELECT c.relname::text, EXISTS (
            SELECT FROM pg_attribute a
            WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND a.atttypid = 'uuid'::regtype AND a.attnotnull)
        FROM pg_class c
        WHERE c.relnamespace = 'harkara'::regnamespace AND c.relkind IN ('r', 'p')";
    assert_each(&pool, why, statement).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_table_has_its_wall(pool: PgPool) {
    let why = "without forced row level security and the tenant's policy another tenant's rows can be reached; \
               CALL harkara.guard_table for the table, partitions included";
    let statement = "
        SELECT c.relname::text, c.relrowsecurity AND c.relforcerowsecurity AND EXISTS (
            SELECT FROM pg_policy p
            WHERE p.polrelid = c.oid AND p.polname = 'tenant_sees_its_own' AND p.polpermissive AND p.polcmd = '*'
              AND p.polroles = ARRAY['harkara_api'::regrole::oid]
              AND pg_get_expr(p.polqual, p.polrelid)
                  = '(tenant_id = ( SELECT harkara.current_tenant() AS current_tenant))'
              AND pg_get_expr(p.polwithcheck, p.polrelid) = pg_get_expr(p.polqual, p.polrelid))
        FROM pg_class c
        WHERE c.relnamespace = 'harkara'::regnamespace AND c.relkind IN ('r', 'p')";
    assert_each(&pool, why, statement).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn no_second_policy_opens_a_wall(pool: PgPool) {
    let why = "permissive policies add up: one more for harkara_api or PUBLIC shows more than one tenant; \
               restrictive ones only take away";
    let statement = "
        SELECT p.polrelid::regclass || '.' || p.polname,
               NOT p.polpermissive OR NOT (p.polroles && ARRAY['harkara_api'::regrole::oid, 0::oid]) OR p.polname = 'tenant_sees_its_own'
        FROM pg_policy p";
    assert_each(&pool, why, statement).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_view_asks_with_the_readers_rights(pool: PgPool) {
    let views = "SELECT relname::text FROM pg_class
                 WHERE relnamespace = 'harkara'::regnamespace AND relkind IN ('v', 'm')
                   AND NOT coalesce(reloptions @> '{security_invoker=true}', false)";
    let found: Vec<String> = sqlx::query_scalar(views).fetch_all(&pool).await.expect("the catalog answers");
    assert!(found.is_empty(), "a view asks with its owner's rights unless it is a security_invoker: {found:?}");
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_object_is_owned_by_a_role_that_cannot_log_in(pool: PgPool) {
    let why = "an owner can switch its walls off; CREATE under SET LOCAL ROLE harkara_owner";
    let statement = "
        SELECT c.relname::text, c.relowner = 'harkara_owner'::regrole
        FROM pg_class c WHERE c.relnamespace = 'harkara'::regnamespace
        UNION ALL
        SELECT p.proname::text, p.proowner = CASE
            -- What these run is the domain's, and may do no more than the domain has granted.
            WHEN p.proname IN ('read_candidates', 'call_granted') THEN 'harkara_domain_job' ELSE 'harkara_owner'
        END::regrole
        FROM pg_proc p WHERE p.pronamespace = 'harkara'::regnamespace
        UNION ALL
        SELECT 'schema harkara', n.nspowner = 'harkara_owner'::regrole
        FROM pg_namespace n WHERE n.nspname = 'harkara'";
    assert_each(&pool, why, statement).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_unique_key_begins_with_the_tenant(pool: PgPool) {
    let why = "a key over all tenants tells one tenant what another has, by a unique violation";
    let statement = "
        SELECT i.indexrelid::regclass::text, a.attname = 'tenant_id'
        FROM pg_index i
        JOIN pg_class c ON c.oid = i.indrelid
        LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE c.relnamespace = 'harkara'::regnamespace AND i.indisunique";
    assert_each(&pool, why, statement).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_table_has_a_primary_key(pool: PgPool) {
    let why = "the audit log names a row by its primary key";
    let statement = "
        SELECT c.relname::text, EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
        FROM pg_class c
        WHERE c.relnamespace = 'harkara'::regnamespace AND c.relkind IN ('r', 'p')";
    assert_each(&pool, why, statement).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_index_begins_with_the_tenant_unless_it_finds_everybodys_work(pool: PgPool) {
    let why = "a tenant's query through an index of all tenants walks over the others' rows; \
               deliveries_due and events_by_time are for the dispatcher, which serves all";
    let statement = "
        SELECT i.indexrelid::regclass::text, a.attname = 'tenant_id'
        FROM pg_index i
        JOIN pg_class c ON c.oid = i.indrelid
        LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE c.relnamespace = 'harkara'::regnamespace
          AND i.indexrelid NOT IN ('harkara.deliveries_due'::regclass, 'harkara.events_by_time'::regclass)";
    assert_each(&pool, why, statement).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_foreign_key_begins_with_the_tenant(pool: PgPool) {
    let why = "Postgres checks foreign keys past row level security, so only a composite key stays within the tenant";
    let statement = "
        SELECT f.conrelid::regclass || '.' || f.conname, here.attname = 'tenant_id' AND there.attname = 'tenant_id'
        FROM pg_constraint f
        JOIN pg_attribute here ON here.attrelid = f.conrelid AND here.attnum = f.conkey[1]
        JOIN pg_attribute there ON there.attrelid = f.confrelid AND there.attnum = f.confkey[1]
        WHERE f.connamespace = 'harkara'::regnamespace AND f.contype = 'f'";
    assert_each(&pool, why, statement).await;
}
