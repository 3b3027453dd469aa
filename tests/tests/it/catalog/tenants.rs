//! Two tenants with a row in every table: neither reaches the other's, because the database refuses.
//!
//! The rows are inserted as the admin and not by the flows, because every table has to hold one at once, of both
//! tenants and under the same keys.

use super::{API, WORKER, begin_as, refusal};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use std::collections::BTreeMap;

const TENANT: &str = "018f0000-0000-7000-8000-000000000001";
const OTHER_TENANT: &str = "018f0000-0000-7000-8000-000000000002";

/// A row for each table, in the order that foreign keys want; $1 is the tenant.
const ROWS: &[(&str, &str)] = &[
    ("tenants", "INSERT INTO harkara.tenants (tenant_id, name) VALUES ($1::uuid, 'a tenant')"),
    (
        "recipients",
        "INSERT INTO harkara.recipients (tenant_id, recipient_id, email) VALUES ($1::uuid, 'ada', 'ada@example.org')",
    ),
    ("templates", "INSERT INTO harkara.templates (tenant_id, template_key) VALUES ($1::uuid, 'greeting')"),
    (
        "template_versions",
        "INSERT INTO harkara.template_versions (tenant_id, template_key, channel, locale, version, subject, text_body)
         VALUES ($1::uuid, 'greeting', 'email', 'en', 1, 'Hello', 'Hello')",
    ),
    (
        "categories",
        "INSERT INTO harkara.categories (tenant_id, category_key, class) VALUES ($1::uuid, 'greeting', 'transactional')",
    ),
    (
        "notifications",
        "INSERT INTO harkara.notifications (tenant_id, notification_id, category_key, recipient_id, template_key, send_at)
         VALUES ($1::uuid, '018f0000-0000-7000-8000-00000000000a', 'greeting', 'ada', 'greeting', harkara.now())",
    ),
    (
        "deliveries",
        "INSERT INTO harkara.deliveries
             (tenant_id, delivery_id, notification_id, channel, state, max_attempts, not_before, due_at)
         VALUES ($1::uuid, '018f0000-0000-7000-8000-00000000000b', '018f0000-0000-7000-8000-00000000000a', 'email',
                 'queued', 3, harkara.now(), harkara.now())",
    ),
    (
        "attempts",
        "INSERT INTO harkara.attempts (tenant_id, attempt_id, delivery_id, attempt_number)
         VALUES ($1::uuid, '018f0000-0000-7000-8000-00000000000c', '018f0000-0000-7000-8000-00000000000b', 1)",
    ),
    (
        "dedupe_keys",
        "INSERT INTO harkara.dedupe_keys (tenant_id, dedupe_key, notification_id, expires_at)
         VALUES ($1::uuid, 'once', '018f0000-0000-7000-8000-00000000000a', harkara.now() + interval '1 hour')",
    ),
    (
        "idempotency_keys",
        "INSERT INTO harkara.idempotency_keys
             (tenant_id, route, idempotency_key, request_hash, request_id, answer, expires_at)
         VALUES ($1::uuid, 'POST /v1/notifications', 'once', '\\x00', 'request-1', '{}', harkara.now() + interval '1 hour')",
    ),
    (
        "events",
        "INSERT INTO harkara.events (tenant_id, event_id, notification_id, detail_type, detail)
         VALUES ($1::uuid, '018f0000-0000-7000-8000-00000000000d', '018f0000-0000-7000-8000-00000000000a',
                 'notification.accepted', '{}')",
    ),
    (
        "dead_letters",
        "INSERT INTO harkara.dead_letters
             (tenant_id, dead_letter_id, queue_message_id, delivery_id, body, reason, receive_count)
         VALUES ($1::uuid, '018f0000-0000-7000-8000-00000000000e', 'message-1',
                 '018f0000-0000-7000-8000-00000000000b', '{}', 'attempts_used_up', 1)",
    ),
    (
        "suppressions",
        "INSERT INTO harkara.suppressions (tenant_id, address, reason, source)
         VALUES ($1::uuid, 'ada@example.org', 'manual', 'api')",
    ),
    (
        "soft_bounces",
        "INSERT INTO harkara.soft_bounces (tenant_id, address, bounce_count) VALUES ($1::uuid, 'ada@example.org', 1)",
    ),
    // The operator's, in the product; walled like everything else.
    (
        "breakers",
        "INSERT INTO harkara.breakers (tenant_id, breaker_key, reason, opened_at, retry_at)
         VALUES ($1::uuid, 'account', 'quota_reached', harkara.now(), harkara.now())",
    ),
    (
        "audit_blocks",
        "INSERT INTO harkara.audit_blocks
             (tenant_id, block_number, from_xact, from_id, to_xact, to_id, row_count, rows_hash, previous_hash, block_hash,
              sealed_at)
         SELECT $1::uuid, 1, 0, 0, 1, 0, 0, hash, hash, hash, harkara.now() FROM sha256('') hash",
    ),
    (
        "audit_anchors",
        "INSERT INTO harkara.audit_anchors (tenant_id, block_number, block_hash, rows_until_at, dropped_at)
         SELECT $1::uuid, 1, sha256(''), harkara.now(), harkara.now()",
    ),
    ("tenant_limits", "INSERT INTO harkara.tenant_limits (tenant_id) VALUES ($1::uuid)"),
    (
        "request_rates",
        "INSERT INTO harkara.request_rates (tenant_id, subject_id, full_at)
         VALUES ($1::uuid, '00000000-0000-0000-0000-000000000000', harkara.now())",
    ),
    (
        "daily_counts",
        "INSERT INTO harkara.daily_counts (tenant_id, day_at, notification_count) VALUES ($1::uuid, harkara.now(), 1)",
    ),
    ("tenant_settings", "INSERT INTO harkara.tenant_settings (tenant_id) VALUES ($1::uuid)"),
    (
        "preferences",
        "INSERT INTO harkara.preferences (tenant_id, subject_id, category_key, channel, is_on)
         VALUES ($1::uuid, '018f0000-0000-7000-8000-000000000010', '*', '*', true)",
    ),
    (
        "consents",
        "INSERT INTO harkara.consents
             (tenant_id, consent_id, subject_id, purpose, channel, is_granted, source, said_at)
         VALUES ($1::uuid, '018f0000-0000-7000-8000-000000000011', '018f0000-0000-7000-8000-000000000010', 'offers', '*',
                 true, 'a form', harkara.now())",
    ),
    (
        "send_slots",
        "INSERT INTO harkara.send_slots (tenant_id, delivery_id, subject_id, category_key, is_capped)
         VALUES ($1::uuid, '018f0000-0000-7000-8000-00000000000b', '018f0000-0000-7000-8000-000000000010', 'greeting',
                 false)",
    ),
    (
        "template_publications",
        "INSERT INTO harkara.template_publications (tenant_id, template_key, version, draft, content_hash)
         VALUES ($1::uuid, 'greeting', 1, '{}', '\\x00')",
    ),
    (
        "attachments",
        "INSERT INTO harkara.attachments (tenant_id, attachment_id, file_name, content_type, content)
         VALUES ($1::uuid, '018f0000-0000-7000-8000-000000000012', 'a.txt', 'text/plain', 'x')",
    ),
    ("door_roles", "INSERT INTO harkara.door_roles (tenant_id, role_name) VALUES ($1::uuid, 'somebody')"),
    (
        "door_requests",
        "INSERT INTO harkara.door_requests (tenant_id, request_id, recipient_id, request)
         VALUES ($1::uuid, '018f0000-0000-7000-8000-000000000013', 'ada', '{}')",
    ),
    (
        "digests",
        "INSERT INTO harkara.digests
             (tenant_id, notification_id, recipient_id, category_key, channel, period_end_at, is_regular, member_count)
         VALUES ($1::uuid, '018f0000-0000-7000-8000-00000000000a', 'ada', 'greeting', 'email', now(), false, 1)",
    ),
    (
        "digest_entries",
        "INSERT INTO harkara.digest_entries (tenant_id, delivery_id, recipient_id, channel, category_key, cadence, due_at)
         VALUES ($1::uuid, '018f0000-0000-7000-8000-00000000000b', 'ada', 'email', 'greeting', 'daily', now())",
    ),
    (
        "digest_rounds",
        "INSERT INTO harkara.digest_rounds (tenant_id, category_key, time_zone, basis, due_at)
         VALUES ($1::uuid, 'greeting', 'UTC', '', now())",
    ),
    (
        "domain_jobs",
        "INSERT INTO harkara.domain_jobs (tenant_id, job_key, schedule, timeout_seconds, definition)
         VALUES ($1::uuid, 'alerts', 'rate(5 minutes)', 30, '{}')",
    ),
    (
        "domain_job_clocks",
        "INSERT INTO harkara.domain_job_clocks (tenant_id, job_key, next_due_at, look_at)
         VALUES ($1::uuid, 'alerts', harkara.now(), harkara.now())",
    ),
    (
        "domain_job_secrets",
        "INSERT INTO harkara.domain_job_secrets (tenant_id, job_key, secret_id, sealed_secret)
         VALUES ($1::uuid, 'alerts', '018f0000-0000-7000-8000-000000000014', '\\x00')",
    ),
    (
        "domain_job_candidates",
        "INSERT INTO harkara.domain_job_candidates (tenant_id, job_key, key_hash) VALUES ($1::uuid, 'alerts', '\\x00')",
    ),
    // The operator's, in the product.
    (
        "job_runs",
        "INSERT INTO harkara.job_runs (tenant_id, run_id, job, cause, started_at, lease_ends_at)
         VALUES ($1::uuid, '018f0000-0000-7000-8000-000000000013', 'dispatcher', 'schedule', now(), now())",
    ),
    (
        "deadlines",
        "INSERT INTO harkara.deadlines (tenant_id, deadline_key, recipients, due_at, rungs, when_past)
         VALUES ($1::uuid, 'audit', '{ada}', now(), '[]', 'skip')",
    ),
    (
        "rungs",
        "INSERT INTO harkara.rungs (tenant_id, deadline_key, recipient_id, rung_key, due_at, state, fire_at, look_at)
         VALUES ($1::uuid, 'audit', 'ada', '-P1D', now(), 'planned', now(), now())",
    ),
    (
        "collections",
        "INSERT INTO harkara.collections
             (tenant_id, collection_id, kind, category_key, recipient_id, collection_key, sandbox, member_count, due_at, latest_at)
         VALUES ($1::uuid, '018f0000-0000-7000-8000-00000000000a', 'batch', 'greeting', 'ada', 'import', false, 1, now(), now())",
    ),
    (
        "collection_members",
        "INSERT INTO harkara.collection_members (tenant_id, notification_id, collection_id, position)
         VALUES ($1::uuid, '018f0000-0000-7000-8000-00000000000a', '018f0000-0000-7000-8000-00000000000a', 1)",
    ),
    (
        "escalation_policies",
        "INSERT INTO harkara.escalation_policies (tenant_id, policy_key, definition) VALUES ($1::uuid, 'critical', '{}')",
    ),
    (
        "escalations",
        "INSERT INTO harkara.escalations (tenant_id, escalation_id, policy_key, definition, next_step_at)
         VALUES ($1::uuid, '018f0000-0000-7000-8000-000000000013', 'critical', '{}', harkara.now())",
    ),
    (
        "escalation_steps",
        "INSERT INTO harkara.escalation_steps
             (tenant_id, escalation_id, repeat_number, level, tier, recipients, reached_count)
         VALUES ($1::uuid, '018f0000-0000-7000-8000-000000000013', 0, 1, 1, '{ada}', 1)",
    ),
    (
        "escalation_notifications",
        "INSERT INTO harkara.escalation_notifications
             (tenant_id, notification_id, escalation_id, repeat_number, level, tier, recipient_id)
         VALUES ($1::uuid, '018f0000-0000-7000-8000-00000000000a', '018f0000-0000-7000-8000-000000000013', 0, 1, 1, 'ada')",
    ),
    (
        "escalation_acknowledgements",
        "INSERT INTO harkara.escalation_acknowledgements (tenant_id, escalation_id, recipient_id)
         VALUES ($1::uuid, '018f0000-0000-7000-8000-000000000013', 'ada')",
    ),
    (
        "action_link_uses",
        "INSERT INTO harkara.action_link_uses (tenant_id, token_hash, escalation_id, recipient_id, action)
         VALUES ($1::uuid, sha256('a token'), '018f0000-0000-7000-8000-000000000013', 'ada', 'acknowledge')",
    ),
    ("send_pace", "INSERT INTO harkara.send_pace (tenant_id) VALUES ($1::uuid)"),
    (
        "tenant_keys",
        "INSERT INTO harkara.tenant_keys (tenant_id, key_id, wrapped_key) VALUES ($1::uuid, 1, '\\x00')",
    ),
    (
        "link_keys",
        "INSERT INTO harkara.link_keys (tenant_id, key_id, sealed_secret) VALUES ($1::uuid, 1, '\\x00')",
    ),
];

/// The tables that the API's role does not read.
const WORKERS_ALONE: &[&str] =
    &["breakers", "digest_rounds", "domain_job_candidates", "door_roles", "job_runs", "send_pace", "send_slots"];

/// Every change that the API's role may make to a row that is there, made to the other tenant's rows.
const CHANGES: &[&str] = &[
    "UPDATE harkara.recipients SET name = 'mine now' WHERE tenant_id = $1::uuid",
    "UPDATE harkara.categories SET class = 'marketing' WHERE tenant_id = $1::uuid",
    "UPDATE harkara.templates SET created_at = harkara.now() WHERE tenant_id = $1::uuid",
    "UPDATE harkara.deliveries SET state = 'canceled' WHERE tenant_id = $1::uuid",
    "UPDATE harkara.dedupe_keys SET expires_at = harkara.now() WHERE tenant_id = $1::uuid",
    "UPDATE harkara.idempotency_keys SET answer = '[]' WHERE tenant_id = $1::uuid",
    "UPDATE harkara.dead_letters SET redriven_at = harkara.now() WHERE tenant_id = $1::uuid",
    "DELETE FROM harkara.dedupe_keys WHERE tenant_id = $1::uuid",
    "UPDATE harkara.request_rates SET full_at = harkara.now() WHERE tenant_id = $1::uuid",
    "UPDATE harkara.daily_counts SET notification_count = 1 WHERE tenant_id = $1::uuid",
    "UPDATE harkara.suppressions SET reason = 'manual' WHERE tenant_id = $1::uuid",
    "DELETE FROM harkara.suppressions WHERE tenant_id = $1::uuid",
    "DELETE FROM harkara.soft_bounces WHERE tenant_id = $1::uuid",
    "UPDATE harkara.preferences SET is_on = false WHERE tenant_id = $1::uuid",
    "DELETE FROM harkara.preferences WHERE tenant_id = $1::uuid",
    "UPDATE harkara.tenant_settings SET digest_weekday = 7 WHERE tenant_id = $1::uuid",
    "UPDATE harkara.deadlines SET data = '{}' WHERE tenant_id = $1::uuid",
    "UPDATE harkara.rungs SET look_at = now() WHERE tenant_id = $1::uuid",
    "DELETE FROM harkara.rungs WHERE tenant_id = $1::uuid",
    "DELETE FROM harkara.deadlines WHERE tenant_id = $1::uuid",
    "UPDATE harkara.collections SET member_count = 7 WHERE tenant_id = $1::uuid",
    "UPDATE harkara.escalation_policies SET definition = '[]' WHERE tenant_id = $1::uuid",
    "DELETE FROM harkara.escalation_policies WHERE tenant_id = $1::uuid",
    "UPDATE harkara.escalations SET state = 'resolved' WHERE tenant_id = $1::uuid",
    "UPDATE harkara.domain_job_secrets SET ends_at = harkara.now() WHERE tenant_id = $1::uuid",
    "DELETE FROM harkara.domain_job_secrets WHERE tenant_id = $1::uuid",
];

/// Every row that the API's role may change, given away to the other tenant.
const GIFTS: &[&str] = &[
    "UPDATE harkara.recipients SET tenant_id = $1::uuid",
    "UPDATE harkara.categories SET tenant_id = $1::uuid",
    "UPDATE harkara.templates SET tenant_id = $1::uuid",
    "UPDATE harkara.deliveries SET tenant_id = $1::uuid",
    "UPDATE harkara.dedupe_keys SET tenant_id = $1::uuid",
    "UPDATE harkara.idempotency_keys SET tenant_id = $1::uuid",
    "UPDATE harkara.dead_letters SET tenant_id = $1::uuid",
    "UPDATE harkara.request_rates SET tenant_id = $1::uuid",
    "UPDATE harkara.daily_counts SET tenant_id = $1::uuid",
    "UPDATE harkara.suppressions SET tenant_id = $1::uuid",
    "UPDATE harkara.preferences SET tenant_id = $1::uuid",
    "UPDATE harkara.tenant_settings SET tenant_id = $1::uuid",
    "UPDATE harkara.deadlines SET tenant_id = $1::uuid",
    "UPDATE harkara.rungs SET tenant_id = $1::uuid",
    "UPDATE harkara.collections SET tenant_id = $1::uuid",
    "UPDATE harkara.escalation_policies SET tenant_id = $1::uuid",
    "UPDATE harkara.escalations SET tenant_id = $1::uuid",
];

async fn insert_rows(pool: &PgPool, tenant: &str) {
    for (table, row) in ROWS {
        let result = sqlx::query(*row).bind(tenant).execute(pool).await;
        assert!(result.is_ok(), "{table}: {result:?}");
    }
}

/// A transaction of the API's role with its tenant set, as every one of the product's is.
async fn begin_of(pool: &PgPool, tenant: &str) -> Transaction<'static, Postgres> {
    let mut transaction = begin_as(pool, API).await;
    set_tenant(&mut transaction, tenant).await;
    transaction
}

async fn set_tenant(connection: &mut PgConnection, tenant: &str) {
    let statement = "SELECT harkara.set_tenant($1::uuid, 'tester')";
    sqlx::query(statement).bind(tenant).execute(connection).await.expect("a login role may set the tenant");
}

/// A function that counts, with its caller's rights, in every table that the caller may read: rows of the tenant, and
/// rows of anybody else. It asks the catalog for the tables, so that a new one is not forgotten.
const MAKE_COUNTER: &str = "
    CREATE FUNCTION public.count_rows(tenant uuid)
    RETURNS TABLE (table_name text, own_count bigint, others_count bigint) LANGUAGE plpgsql AS $$
    BEGIN
        FOR table_name IN
            SELECT c.relname FROM pg_class c
            WHERE c.relnamespace = 'harkara'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
              AND has_table_privilege(c.oid, 'SELECT')
        LOOP
            EXECUTE format(
                'SELECT count(*) FILTER (WHERE tenant_id = $1), count(*) FILTER (WHERE tenant_id <> $1) FROM harkara.%I',
                table_name)
            INTO own_count, others_count USING tenant;
            RETURN NEXT;
        END LOOP;
    END
    $$";

/// Of each table that the role may read: rows of the tenant, and rows of anybody else.
async fn count_rows(connection: &mut PgConnection, tenant: &str) -> BTreeMap<String, (i64, i64)> {
    let statement = "SELECT table_name, own_count, others_count FROM public.count_rows($1::uuid)";
    let rows: Vec<(String, i64, i64)> =
        sqlx::query_as(statement).bind(tenant).fetch_all(connection).await.expect("every table can be counted");
    rows.into_iter().map(|(table, own, others)| (table, (own, others))).collect()
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_tenant_sees_its_own_rows_and_no_others_in_any_table(pool: PgPool) {
    insert_rows(&pool, TENANT).await;
    insert_rows(&pool, OTHER_TENANT).await;
    let mut admin = pool.acquire().await.expect("a connection");
    sqlx::query(MAKE_COUNTER).execute(&mut *admin).await.expect("a function");
    let all = count_rows(&mut admin, TENANT).await;
    let bare: Vec<_> = all.iter().filter(|(_, (own, others))| *own == 0 || *others == 0).collect();
    assert!(bare.is_empty(), "without a row in ROWS these tables are not looked at: {bare:?}");

    let mut transaction = begin_of(&pool, TENANT).await;
    let seen = count_rows(&mut transaction, TENANT).await;
    let unread: Vec<_> = all.keys().filter(|table| !seen.contains_key(*table)).collect();
    assert_eq!(unread, WORKERS_ALONE, "the API's role reads every table but these");
    let leaking: Vec<_> = seen.iter().filter(|(_, (own, others))| *own == 0 || *others > 0).collect();
    assert!(leaking.is_empty(), "(own, others') rows that a tenant sees: {leaking:?}");
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn without_a_tenant_there_are_no_rows(pool: PgPool) {
    insert_rows(&pool, TENANT).await;
    sqlx::query(MAKE_COUNTER).execute(&pool).await.expect("a function");
    let mut transaction = begin_as(&pool, API).await;
    let seen = count_rows(&mut transaction, TENANT).await;
    assert!(!seen.is_empty());
    assert!(seen.values().all(|counts| *counts == (0, 0)), "{seen:?}");
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_tenant_ends_with_its_transaction(pool: PgPool) {
    insert_rows(&pool, TENANT).await;
    let mut connection = pool.acquire().await.expect("a connection");
    sqlx::query("SET SESSION AUTHORIZATION harkara_api").execute(&mut *connection).await.expect("the admin may");
    let count = "SELECT count(*) FROM harkara.recipients";
    for end in ["COMMIT", "ROLLBACK"] {
        sqlx::query("BEGIN").execute(&mut *connection).await.expect("begun");
        set_tenant(&mut connection, TENANT).await;
        let during: i64 = sqlx::query_scalar(count).fetch_one(&mut *connection).await.expect("counted");
        sqlx::query(end).execute(&mut *connection).await.expect("ended");
        let after: i64 = sqlx::query_scalar(count).fetch_one(&mut *connection).await.expect("counted");
        assert_eq!((during, after), (1, 0), "after {end}");
    }
    set_tenant(&mut connection, TENANT).await;
    let after: i64 = sqlx::query_scalar(count).fetch_one(&mut *connection).await.expect("counted");
    assert_eq!(after, 0, "set outside a transaction, it is gone before the next statement");
    sqlx::query("RESET SESSION AUTHORIZATION").execute(&mut *connection).await.expect("reset");
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_same_keys_are_free_to_every_tenant(pool: PgPool) {
    insert_rows(&pool, TENANT).await;
    insert_rows(&pool, OTHER_TENANT).await;
    let statement =
        "SELECT count(*) FROM harkara.deliveries WHERE delivery_id = '018f0000-0000-7000-8000-00000000000b'";
    let count: i64 = sqlx::query_scalar(statement).fetch_one(&pool).await.expect("counted");
    assert_eq!(count, 2);
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_tenant_cannot_insert_for_another(pool: PgPool) {
    insert_rows(&pool, TENANT).await;
    let mut by_policy = 0;
    for (table, row) in ROWS {
        let mut transaction = begin_of(&pool, TENANT).await;
        let (code, said) = refusal(sqlx::query(*row).bind(OTHER_TENANT).execute(&mut *transaction).await);
        assert_eq!(code, "42501", "{table}: {said}");
        by_policy += usize::from(said.contains("row-level security"));
    }
    assert_eq!(by_policy, 32, "into this many tables the API's role may insert, and only the policy is in the way");
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_tenant_cannot_change_anothers_rows(pool: PgPool) {
    insert_rows(&pool, TENANT).await;
    insert_rows(&pool, OTHER_TENANT).await;
    for change in CHANGES {
        let mut transaction = begin_of(&pool, TENANT).await;
        let changed = sqlx::query(*change).bind(OTHER_TENANT).execute(&mut *transaction).await.expect("it may ask");
        assert_eq!(changed.rows_affected(), 0, "{change}");
    }
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_tenant_cannot_give_its_rows_to_another(pool: PgPool) {
    insert_rows(&pool, TENANT).await;
    for gift in GIFTS {
        let mut transaction = begin_of(&pool, TENANT).await;
        let (code, said) = refusal(sqlx::query(*gift).bind(OTHER_TENANT).execute(&mut *transaction).await);
        assert_eq!(code, "42501", "{gift}: {said}");
    }
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_tenant_cannot_refer_to_anothers_recipient(pool: PgPool) {
    insert_rows(&pool, TENANT).await;
    let only_there =
        "INSERT INTO harkara.recipients (tenant_id, recipient_id, email) VALUES ($1::uuid, 'bob', 'bob@example.org')";
    sqlx::query("INSERT INTO harkara.tenants (tenant_id, name) VALUES ($1::uuid, 'the other')")
        .bind(OTHER_TENANT)
        .execute(&pool)
        .await
        .expect("a tenant");
    sqlx::query(only_there).bind(OTHER_TENANT).execute(&pool).await.expect("a recipient");
    let reference = "
        INSERT INTO harkara.notifications (tenant_id, notification_id, category_key, recipient_id, template_key, send_at)
        VALUES ($1::uuid, '018f0000-0000-7000-8000-0000000000ff', 'greeting', 'bob', 'greeting', harkara.now())";
    let mut transaction = begin_of(&pool, TENANT).await;
    let result = sqlx::query(reference).bind(TENANT).execute(&mut *transaction).await;
    assert_eq!(refusal(result), ("23503".to_owned(), "notifications_tenant_id_recipient_id_fkey".to_owned()));
}

/// The counterpart: what the tests above do not see is there, and the worker, which serves all tenants, sees it.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_worker_serves_every_tenant(pool: PgPool) {
    insert_rows(&pool, TENANT).await;
    insert_rows(&pool, OTHER_TENANT).await;
    let mut transaction = begin_as(&pool, WORKER).await;
    let statement = "SELECT count(DISTINCT tenant_id) FROM harkara.deliveries";
    let count: i64 = sqlx::query_scalar(statement).fetch_one(&mut *transaction).await.expect("counted");
    assert_eq!(count, 2);
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn no_hand_moves_a_delivery_against_the_state_machine(pool: PgPool) {
    insert_rows(&pool, TENANT).await;
    for back in [
        // It was never tried.
        "UPDATE harkara.deliveries SET state = 'sent', sent_at = harkara.now(), due_at = NULL",
        "UPDATE harkara.deliveries SET state = 'scheduled'",
    ] {
        let mut transaction = begin_as(&pool, WORKER).await;
        let result = sqlx::query(back).execute(&mut *transaction).await;
        assert_eq!(refusal(result), ("23514".to_owned(), "delivery_moves_forward".to_owned()), "{back}");
    }
}
