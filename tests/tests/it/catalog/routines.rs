//! Who may call what, and with which names resolved where.

use super::assert_each;
use sqlx::PgPool;

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn no_routine_is_everybodys(pool: PgPool) {
    let why =
        "Postgres lets PUBLIC execute every new routine; REVOKE EXECUTE ON ALL ROUTINES at the end of the migration";
    let statement = "
        SELECT p.oid::regprocedure::text, NOT EXISTS (
            SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) acl WHERE acl.grantee = 0)
        FROM pg_proc p WHERE p.pronamespace = 'harkara'::regnamespace";
    assert_each(&pool, why, statement).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_login_roles_may_call_exactly_these_routines(pool: PgPool) {
    let grants = "
        SELECT acl.grantee::regrole::text, string_agg(p.proname, ' ' ORDER BY p.proname)
        FROM pg_proc p, aclexplode(p.proacl) acl
        WHERE p.pronamespace = 'harkara'::regnamespace AND acl.grantee <> p.proowner
        GROUP BY 1 ORDER BY 1";
    let found: Vec<(String, String)> = sqlx::query_as(grants).fetch_all(&pool).await.expect("the catalog answers");
    let expected = [
        (
            "harkara_api",
            "accept_notifications address_lock address_subject ask_for_review audit_dropped_to audit_genesis audit_sealed_to clock \
             collect_members count_accepted current_actor \
             current_tenant describe_delivery enter_recipient enter_tenant erase_recipient find_ungranted hash_audit_block \
             hash_audit_row is_to_be_forgotten keep_attachments listed_since may_become now read_enqueue_context read_job_runs sees_all_recipients set_tenant take_request \
             verify_audit visible_recipients waits_for_nobody withdraw_deliveries",
        ),
        ("harkara_domain", "cancel cancel enqueue"),
        // Another role's, which the owner may call so that it may take them from everybody.
        ("harkara_owner", "call_granted read_candidates"),
        (
            "harkara_worker",
            "accept_notifications address_lock address_subject admit_sends begin_job_run call_domain_function call_granted clock collect_members \
             count_accepted current_actor current_tenant describe_delivery end_job_run enter_tenant is_to_be_forgotten \
             keep_attachments keep_audit_months keep_ended keep_months keep_retention limit_statements lock_job \
             may_become new_id note_job_alert now print_id read_candidates read_enqueue_context seal_audit \
             sees_all_recipients set_tenant state_after take_send_slots try_digest_lock visible_recipients waits_for_nobody withdraw_deliveries",
        ),
    ];
    assert_eq!(found, expected.map(|(role, routines)| (role.to_owned(), routines.to_owned())));
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_routine_with_its_owners_rights_says_where_names_are_looked_up(pool: PgPool) {
    let why = "a SECURITY DEFINER routine runs what its caller's search_path finds, and pg_temp comes first where it is \
               not named; SET search_path = pg_catalog, pg_temp";
    let statement = "
        SELECT p.oid::regprocedure::text,
               coalesce(p.proconfig @> '{\"search_path=pg_catalog, pg_temp\"}', false)
        FROM pg_proc p WHERE p.pronamespace = 'harkara'::regnamespace AND p.prosecdef";
    assert_each(&pool, why, statement).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn no_plpgsql_depends_on_the_callers_search_path(pool: PgPool) {
    let why = "its names are looked up when it runs, so it sets its own search_path";
    let statement = "
        SELECT p.oid::regprocedure::text, EXISTS (
            SELECT FROM unnest(p.proconfig) setting WHERE setting LIKE 'search_path=pg_catalog%')
        FROM pg_proc p
        JOIN pg_language l ON l.oid = p.prolang
        WHERE p.pronamespace = 'harkara'::regnamespace AND l.lanname = 'plpgsql'";
    assert_each(&pool, why, statement).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn only_set_tenant_sets_the_tenant(pool: PgPool) {
    let why = "the tenant is set in one place, and local to the transaction there; take_request sets how its commit waits, \
         enter_recipient whom a recipient's own token sees, and limit_statements how long a domain's statement may take";
    let statement = "
        SELECT p.proname::text, position('set_config' IN p.prosrc) = 0 OR p.proname IN ('set_tenant', 'take_request', 'enter_recipient', 'limit_statements')
        FROM pg_proc p WHERE p.pronamespace = 'harkara'::regnamespace";
    assert_each(&pool, why, statement).await;
}
