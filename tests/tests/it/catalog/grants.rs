//! What the roles are and what they may do.

use super::{API, WORKER, assert_each, begin_as, refusal};
use sqlx::PgPool;

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn no_role_of_ours_stands_above_the_walls(pool: PgPool) {
    let why = "a superuser or BYPASSRLS role sees every row, and one that makes roles can become such a one";
    let statement = "
        SELECT rolname::text, NOT (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication)
                        AND rolcanlogin = (rolname IN ('harkara_api', 'harkara_worker'))
        FROM pg_roles WHERE rolname IN ('harkara_owner', 'harkara_api', 'harkara_worker', 'harkara_domain', 'harkara_domain_job')";
    assert_each(&pool, why, statement).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn no_login_role_can_become_another(pool: PgPool) {
    let why = "a member may SET ROLE to what it is a member of, such as the owner";
    let statement = "
        SELECT r.rolname::text, NOT EXISTS (
            SELECT FROM pg_auth_members m
            WHERE m.member = r.oid AND m.roleid IN (SELECT oid FROM pg_roles WHERE rolname LIKE 'harkara%' OR rolsuper))
        FROM pg_roles r WHERE r.rolname IN ('harkara_api', 'harkara_worker', 'harkara_domain', 'harkara_domain_job')";
    assert_each(&pool, why, statement).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_login_role_has_its_timeouts(pool: PgPool) {
    let why = "RDS Proxy takes no start-up options and cannot cancel: the role's own timeout is the only brake";
    let statement = "
        SELECT r.rolname || ' ' || timeout, EXISTS (
            SELECT FROM unnest(r.rolconfig) setting
            WHERE split_part(setting, '=', 1) = timeout
              AND split_part(setting, '=', 2)::interval BETWEEN interval '1 second' AND interval '30 seconds')
        FROM pg_roles r
        CROSS JOIN unnest('{statement_timeout, lock_timeout, idle_in_transaction_session_timeout}'::text[]) timeout
        WHERE r.rolname IN ('harkara_api', 'harkara_worker')";
    assert_each(&pool, why, statement).await;
}

/// Another grant is another way in, so it has to be written here, too. Partitions are reached through their parents only.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_login_roles_hold_exactly_these_grants(pool: PgPool) {
    let grants = "
        SELECT grantee::regrole || ' ' || relname || ': '
               || string_agg(privilege_type || coalesce(' (' || columns || ')', ''), ', ' ORDER BY privilege_type)
        FROM (
            SELECT c.relname, acl.grantee, acl.privilege_type, NULL AS columns
            FROM pg_class c, aclexplode(c.relacl) acl
            WHERE c.relnamespace = 'harkara'::regnamespace AND acl.grantee <> c.relowner
            UNION ALL
            SELECT c.relname, acl.grantee, acl.privilege_type, string_agg(a.attname, ', ' ORDER BY a.attname)
            FROM pg_class c
            JOIN pg_attribute a ON a.attrelid = c.oid, aclexplode(a.attacl) acl
            WHERE c.relnamespace = 'harkara'::regnamespace AND acl.grantee <> c.relowner
            GROUP BY c.relname, acl.grantee, acl.privilege_type
        ) held
        GROUP BY grantee, relname
        ORDER BY grantee::regrole::text, relname";
    let found: Vec<String> = sqlx::query_scalar(grants).fetch_all(&pool).await.expect("the catalog answers");
    let expected = [
        "harkara_api action_link_uses: INSERT, SELECT",
        "harkara_api attachments: INSERT, SELECT",
        "harkara_api attempts: SELECT",
        "harkara_api audit_anchors: SELECT",
        "harkara_api audit_blocks: SELECT",
        "harkara_api audit_log: SELECT",
        "harkara_api categories: INSERT, SELECT, UPDATE",
        "harkara_api collection_members: INSERT, SELECT",
        "harkara_api collections: INSERT, SELECT, UPDATE (due_at, member_count)",
        "harkara_api consents: INSERT, SELECT",
        "harkara_api daily_counts: INSERT, SELECT, UPDATE",
        "harkara_api dead_letters: SELECT, UPDATE (redriven_at)",
        "harkara_api deadlines: DELETE, INSERT, SELECT, UPDATE",
        "harkara_api dedupe_keys: DELETE, INSERT, SELECT, UPDATE",
        "harkara_api deliveries: INSERT, SELECT, UPDATE (due_at, finished_at, not_before, publish_count, reason, \
         reason_detail, state, uncounted_attempt_count, updated_at, withdrawn_at)",
        "harkara_api digest_entries: SELECT, UPDATE (decided_at)",
        "harkara_api digests: SELECT",
        "harkara_api domain_job_clocks: DELETE, INSERT, SELECT, UPDATE",
        "harkara_api domain_job_secrets: DELETE, INSERT, SELECT, UPDATE (ends_at)",
        "harkara_api domain_jobs: DELETE, INSERT, SELECT, UPDATE",
        "harkara_api door_requests: SELECT",
        "harkara_api escalation_acknowledgements: INSERT, SELECT",
        "harkara_api escalation_notifications: INSERT, SELECT",
        "harkara_api escalation_policies: DELETE, INSERT, SELECT, UPDATE",
        "harkara_api escalation_steps: INSERT, SELECT",
        "harkara_api escalations: INSERT, SELECT, UPDATE",
        "harkara_api events: INSERT, SELECT",
        "harkara_api idempotency_keys: INSERT, SELECT, UPDATE",
        "harkara_api link_keys: INSERT, SELECT",
        "harkara_api notifications: INSERT, SELECT",
        "harkara_api preferences: DELETE, INSERT, SELECT, UPDATE",
        "harkara_api recipients: INSERT, SELECT, UPDATE",
        "harkara_api request_rates: INSERT, SELECT, UPDATE",
        "harkara_api rungs: DELETE, INSERT, SELECT, UPDATE (decided_at, look_at, note, state)",
        "harkara_api soft_bounces: DELETE, SELECT",
        "harkara_api suppressions: DELETE, INSERT, SELECT, UPDATE (reason, source)",
        "harkara_api template_publications: INSERT, SELECT",
        "harkara_api template_versions: INSERT, SELECT",
        "harkara_api templates: INSERT, SELECT, UPDATE",
        "harkara_api tenant_keys: INSERT, SELECT",
        "harkara_api tenant_limits: SELECT",
        "harkara_api tenant_settings: INSERT, SELECT, UPDATE",
        "harkara_api tenants: SELECT, UPDATE (locale, time_zone, updated_at)",
        "harkara_worker attachments: INSERT, SELECT",
        "harkara_worker attempts: INSERT, SELECT, UPDATE",
        "harkara_worker breakers: DELETE, INSERT, SELECT, UPDATE",
        "harkara_worker categories: SELECT",
        "harkara_worker collection_members: INSERT, SELECT",
        "harkara_worker collections: INSERT, SELECT, UPDATE",
        "harkara_worker consents: SELECT",
        "harkara_worker daily_counts: INSERT, SELECT, UPDATE",
        "harkara_worker dead_letters: INSERT, SELECT",
        "harkara_worker deadlines: SELECT, UPDATE (escalates_at, escalation_id, escalation_note)",
        "harkara_worker dedupe_keys: DELETE, INSERT, SELECT, UPDATE",
        "harkara_worker deliveries: INSERT, SELECT, UPDATE",
        "harkara_worker digest_entries: DELETE, INSERT, SELECT, UPDATE",
        "harkara_worker digest_rounds: DELETE, INSERT, SELECT, UPDATE",
        "harkara_worker digests: INSERT, SELECT",
        "harkara_worker domain_job_candidates: DELETE, INSERT, SELECT, UPDATE",
        "harkara_worker domain_job_clocks: SELECT, UPDATE",
        "harkara_worker domain_job_secrets: SELECT",
        "harkara_worker domain_jobs: SELECT",
        "harkara_worker door_requests: DELETE, SELECT, UPDATE",
        "harkara_worker escalation_acknowledgements: SELECT",
        "harkara_worker escalation_notifications: INSERT, SELECT",
        "harkara_worker escalation_policies: SELECT",
        "harkara_worker escalation_steps: INSERT, SELECT",
        "harkara_worker escalations: INSERT, SELECT, UPDATE",
        "harkara_worker events: DELETE, INSERT, SELECT",
        "harkara_worker idempotency_keys: SELECT",
        "harkara_worker job_runs: INSERT, SELECT, UPDATE",
        "harkara_worker link_keys: INSERT, SELECT",
        "harkara_worker notifications: INSERT, SELECT",
        "harkara_worker preferences: SELECT",
        "harkara_worker recipients: SELECT, UPDATE (updated_at)",
        "harkara_worker rungs: SELECT, UPDATE",
        "harkara_worker send_pace: INSERT, SELECT, UPDATE",
        "harkara_worker send_slots: DELETE, INSERT, SELECT, UPDATE",
        "harkara_worker soft_bounces: DELETE, INSERT, SELECT, UPDATE",
        "harkara_worker suppressions: DELETE, INSERT, SELECT, UPDATE",
        "harkara_worker template_publications: SELECT",
        "harkara_worker template_versions: SELECT",
        "harkara_worker templates: SELECT",
        "harkara_worker tenant_keys: INSERT, SELECT",
        "harkara_worker tenant_limits: SELECT",
        "harkara_worker tenant_settings: SELECT",
        "harkara_worker tenants: SELECT",
    ];
    assert_eq!(found, expected);
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn no_role_may_make_objects_beside_ours(pool: PgPool) {
    let why = "whoever may create in the schema can put a function in the way of another; and what a domain's job runs must \
               not name what calls it, because its role owns that";
    let statement = "
        SELECT r.rolname::text, has_schema_privilege(r.oid, 'harkara', 'USAGE') = (r.rolname <> 'harkara_domain_job')
                                AND NOT has_schema_privilege(r.oid, 'harkara', 'CREATE')
        FROM pg_roles r WHERE r.rolname IN ('harkara_api', 'harkara_worker', 'harkara_domain', 'harkara_domain_job')
        UNION ALL
        SELECT 'PUBLIC', NOT EXISTS (
            SELECT FROM pg_namespace n, aclexplode(n.nspacl) acl WHERE n.nspname = 'harkara' AND acl.grantee = 0)";
    assert_each(&pool, why, statement).await;
}

/// What happened stays on record: tried, beside the grants' list, because this is what an auditor asks.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn no_login_role_can_rewrite_history(pool: PgPool) {
    let statements = [
        "DELETE FROM harkara.audit_log",
        "UPDATE harkara.audit_log SET actor = 'somebody else'",
        "INSERT INTO harkara.audit_log (tenant_id, actor, table_name, operation, row_key, new_values)
         VALUES ('00000000-0000-0000-0000-000000000000', 'nobody', 'tenants', 'INSERT', '{}', '{}')",
        "DELETE FROM harkara.attempts",
        "DELETE FROM harkara.deliveries",
        "DELETE FROM harkara.notifications",
        "UPDATE harkara.notifications SET subject = 'something else'",
        "DELETE FROM harkara.dead_letters",
        "DELETE FROM harkara.action_link_uses",
        "DELETE FROM harkara.escalations",
        "DELETE FROM harkara.escalation_steps",
        "UPDATE harkara.escalation_steps SET reached_count = 1",
        "UPDATE harkara.escalation_acknowledgements SET recipient_id = 'somebody else'",
        "DELETE FROM harkara.template_versions",
        "UPDATE harkara.template_versions SET subject = 'something else'",
        "DELETE FROM harkara.tenant_keys",
        "UPDATE harkara.tenant_keys SET wrapped_key = ''",
        "DELETE FROM harkara.link_keys",
        "UPDATE harkara.link_keys SET sealed_secret = ''",
        "TRUNCATE harkara.audit_log",
        "TRUNCATE harkara.attempts",
        "TRUNCATE harkara.deliveries CASCADE",
        "TRUNCATE harkara.notifications CASCADE",
        "TRUNCATE harkara.dead_letters",
        "TRUNCATE harkara.template_versions",
        "TRUNCATE harkara.events",
        "DROP TABLE harkara.audit_log",
        "ALTER TABLE harkara.audit_log DISABLE TRIGGER ALL",
        "ALTER TABLE harkara.deliveries NO FORCE ROW LEVEL SECURITY",
        "SET ROLE harkara_owner",
    ];
    for role in [API, WORKER] {
        for statement in statements {
            let mut transaction = begin_as(&pool, role).await;
            let (code, said) = refusal(sqlx::query(statement).execute(&mut *transaction).await);
            assert_eq!(code, "42501", "{role}; {statement}: {said}");
            assert!(!said.contains("row-level security"), "refused by a policy only: {role}; {statement}: {said}");
        }
    }
}
