//! What takes the database too long for one tenant is that tenant's: less of it is taken at a time, one that takes too long
//! alone is put off, and everybody else is served in the same run.
//!
//! The timeouts are the server's own: a trigger sleeps for much longer than the flows' statements may take.

use adapters::store::database::StoreError;
use serde_json::{Value, json};
use sqlx::PgPool;
use std::time::Duration;
use tests::{OTHER_TENANT, Stage, TENANT, database_within};

/// How long the flows' statements may take here.
const PATIENCE: Duration = Duration::from_secs(2);
const DAY: Duration = Duration::from_secs(86_400);

/// A trigger that sleeps where a condition holds for the notifications of the first tenant in one statement.
const MAKE_SLOW: &str = "
    CREATE FUNCTION public.take_long() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        is_long boolean;
    BEGIN
        EXECUTE 'SELECT ' || TG_ARGV[0] || ' FROM moved WHERE tenant_id = ''018f0000-0000-7000-8000-000000000001'''
        INTO is_long;
        IF is_long THEN
            PERFORM pg_catalog.pg_sleep(600);
        END IF;
        RETURN NULL;
    END
    $$;
    CREATE FUNCTION public.slow_down(operation text, condition text) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        EXECUTE format(
            'CREATE OR REPLACE TRIGGER take_long AFTER %s ON harkara.notifications REFERENCING %s TABLE AS moved
             FOR EACH STATEMENT EXECUTE FUNCTION public.take_long(%L)',
            operation, CASE operation WHEN 'INSERT' THEN 'NEW' ELSE 'OLD' END, condition);
    END
    $$";

/// A stage whose flows have little patience.
async fn hurry(mut stage: Stage) -> Stage {
    stage.lift_limits().await;
    sqlx::raw_sql(MAKE_SLOW).execute(&stage.admin).await.expect("functions");
    let worker = database_within(&stage.admin, "harkara_worker", PATIENCE);
    stage.dispatcher.database = worker.clone();
    stage.digest.database = worker.clone();
    stage.reminder.database = worker.clone();
    stage.escalation.database = worker.clone();
    stage.maintenance.database = worker;
    stage
}

async fn slow_down(stage: &Stage, operation: &str, condition: &str) {
    let slow_down = "SELECT public.slow_down($1, $2)";
    sqlx::query(slow_down).bind(operation).bind(condition).execute(&stage.admin).await.expect("a trigger");
}

async fn put_recipients(stage: &Stage, tenant: &str, count: usize, role: &str) {
    let one = |number| json!({"id": format!("r{number}"), "email": format!("r{number}@example.org"), "roles": [role]});
    let body = json!({"recipients": (0..count).map(one).collect::<Value>()}).to_string();
    assert_eq!(stage.call(tenant, "POST /v1/recipients", None, "", &body).await.status, 200);
}

async fn start_escalation(stage: &Stage, tenant: &str, key: &str, whom: &str) -> String {
    let policy = json!({"category": "greeting", "steps": [{"delay": "PT30M", "recipients": [whom]}]});
    stage.put(tenant, "/v1/escalation-policies/{key}", key, policy).await;
    let body = json!({"policy": key, "data": {"name": "Ada"}}).to_string();
    let answer = stage.call(tenant, "POST /v1/escalations", None, "", &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["escalation"]["id"].as_str().expect("an id").to_owned()
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn steps_to_very_many_that_fall_due_together_fire_fewer_at_a_time(pool: PgPool) {
    let stage = hurry(Stage::begin(pool).await).await;
    put_recipients(&stage, TENANT, 300, "guard").await;
    for _ in 0..5 {
        start_escalation(&stage, TENANT, "guards", "role:guard").await;
    }
    start_escalation(&stage, OTHER_TENANT, "ada", "ada").await;
    slow_down(&stage, "INSERT", "count(*) > 300").await;
    stage.pass(Duration::from_secs(30 * 60)).await;
    let counts = stage.escalate().await;
    assert_eq!((counts.fired, counts.notifications, counts.put_off), (6, 1501, 0), "{counts:?}");
    assert_eq!(stage.count("SELECT count(*) FROM harkara.notifications").await, 1501, "each once");
    stage.leave_work();
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_escalation_that_takes_too_long_alone_is_put_off_with_the_reason(pool: PgPool) {
    let stage = hurry(Stage::begin(pool).await).await;
    put_recipients(&stage, TENANT, 1, "guard").await;
    let slow = start_escalation(&stage, TENANT, "r0", "r0").await;
    start_escalation(&stage, TENANT, "ada", "ada").await;
    start_escalation(&stage, OTHER_TENANT, "ada", "ada").await;
    slow_down(&stage, "INSERT", "bool_or(recipient_id = 'r0')").await;
    stage.pass(Duration::from_secs(30 * 60)).await;
    let counts = stage.escalate().await;
    assert_eq!((counts.fired, counts.put_off, counts.stranded), (2, 1, 0), "{counts:?}");
    stage.drain().await;
    stage.pass(Duration::from_secs(20)).await;
    stage.dispatch().await;
    let events = stage.bus.events();
    let told = events.iter().find(|event| event.detail_type == "escalation.put_off").expect("it is told of");
    assert_eq!((&told.detail["escalation_id"], &told.detail["reason"]), (&json!(slow), &json!("timed_out")));
    sqlx::query("DROP TRIGGER take_long ON harkara.notifications").execute(&stage.admin).await.expect("dropped");
    stage.pass(Duration::from_secs(5 * 60)).await;
    assert_eq!(stage.escalate().await.fired, 1, "later");
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn of_what_takes_too_long_to_delete_less_goes_at_a_time(pool: PgPool) {
    let stage = hurry(Stage::begin(pool).await).await;
    for (tenant, count) in [(TENANT, 30), (OTHER_TENANT, 1)] {
        let settings = json!({"retention": {"default_days": 1}}).to_string();
        assert_eq!(stage.call(tenant, "PUT /v1/settings", None, "", &settings).await.status, 200);
        let many: Value = (0..count).map(|number| json!({"email": format!("r{number}@example.org")})).collect();
        let body = json!({"category": "greeting", "recipients": many, "data": {"name": "R"}});
        assert_eq!(stage.post_as(tenant, body, &[]).await.status, 202);
    }
    stage.drain().await;
    stage.pass(3 * DAY).await;
    stage.dispatch().await;

    slow_down(&stage, "DELETE", "count(*) > 0").await;
    let counts = stage.maintain().await;
    assert_eq!((counts.notifications, counts.failed, counts.is_cut_short), (1, 1, false), "{counts:?}");
    assert_eq!(stage.count("SELECT count(*) FROM harkara.notifications").await, 30, "the other tenant's is gone");

    slow_down(&stage, "DELETE", "count(*) > 10").await;
    let counts = stage.maintain().await;
    assert_eq!((counts.notifications, counts.failed), (30, 0), "{counts:?}");
    stage.finish().await;
}

/// Recipients whose daily digests are due, with one notification each.
const SEED_DIGESTS: &str = "
    WITH wanted AS (
        SELECT 'reader-' || n AS recipient_id, gen_random_uuid() AS notification_id, gen_random_uuid() AS delivery_id
        FROM generate_series(1, $2) n
    ),
    readers AS (
        INSERT INTO harkara.recipients (tenant_id, recipient_id, email, time_zone)
        SELECT $1::uuid, recipient_id, recipient_id || '@example.org', 'Asia/Kolkata' FROM wanted
    ),
    asked AS (
        INSERT INTO harkara.notifications (tenant_id, notification_id, category_key, recipient_id, template_key, send_at, data)
        SELECT $1::uuid, notification_id, 'ASSIGNED', recipient_id, 'greeting', harkara.now(), '{\"name\": \"item\"}' FROM wanted
    ),
    held AS (
        INSERT INTO harkara.deliveries
            (tenant_id, delivery_id, notification_id, channel, state, reason, max_attempts, not_before, due_at)
        SELECT $1::uuid, delivery_id, notification_id, 'email', 'held', 'cadence_not_due', 3,
               harkara.now() + interval '1 day', harkara.now() + interval '1 day' FROM wanted
    )
    INSERT INTO harkara.digest_entries (tenant_id, delivery_id, recipient_id, channel, category_key, cadence, due_at)
    SELECT $1::uuid, delivery_id, recipient_id, 'email', 'BULK_DIGEST', 'daily', harkara.now() FROM wanted";

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_batch_of_digests_that_takes_too_long_is_made_smaller(pool: PgPool) {
    let stage = hurry(crate::digest::begin(pool).await).await;
    let text =
        json!({"variables": {"count": {"type": "integer", "example": 1}}, "subject": "News", "text": "{{ count }}"});
    stage.publish(OTHER_TENANT, "digest", text).await;
    let digest = json!({"class": "digest", "template": "digest", "quiet_hours_apply": false});
    stage.put(OTHER_TENANT, "/v1/categories/{key}", "BULK_DIGEST", digest).await;
    let collected = json!({"class": "transactional", "template": "greeting", "digest_category": "BULK_DIGEST"});
    stage.put(OTHER_TENANT, "/v1/categories/{key}", "ASSIGNED", collected).await;
    for (tenant, count) in [(TENANT, 20), (OTHER_TENANT, 1)] {
        sqlx::query(SEED_DIGESTS).bind(tenant).bind(count).execute(&stage.admin).await.expect("seeded");
    }
    crate::digest::move_to(&stage, crate::digest::WEDNESDAY).await;
    slow_down(&stage, "INSERT", "count(*) > 8").await;
    let counts = stage.close_digests().await;
    assert_eq!((counts.digests, counts.members), (21, 21), "{counts:?}");
    assert_eq!((counts.set_aside, counts.failed_tenants), (0, 0), "{counts:?}");
    stage.leave_work();
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_digest_that_takes_too_long_alone_stays_whole_for_the_next_run(pool: PgPool) {
    let stage = hurry(crate::digest::begin(pool).await).await;
    sqlx::query(SEED_DIGESTS).bind(TENANT).bind(2).execute(&stage.admin).await.expect("seeded");
    crate::digest::move_to(&stage, crate::digest::WEDNESDAY).await;
    slow_down(&stage, "INSERT", "true").await;
    let counts = stage.close_digests().await;
    assert_eq!((counts.digests, counts.set_aside, counts.failed_tenants), (0, 0, 1), "{counts:?}");
    slow_down(&stage, "INSERT", "false").await;
    let counts = stage.close_digests().await;
    assert_eq!((counts.digests, counts.members, counts.released), (2, 2, 0), "{counts:?}");
    stage.leave_work();
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn rungs_that_take_too_long_together_fire_fewer_at_a_time(pool: PgPool) {
    let stage = hurry(Stage::begin(pool).await).await;
    put_recipients(&stage, TENANT, 20, "guard").await;
    let due_at = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(48)).to_string();
    let many: Vec<String> = (0..20).map(|number| format!("r{number}")).collect();
    for (tenant, recipients) in [(TENANT, many), (OTHER_TENANT, vec!["ada".to_owned()])] {
        let body = json!({
            "category": "greeting", "recipients": recipients, "due_at": due_at, "data": {"name": "Ada"},
            "rungs": [{"before": "P1D"}],
        });
        stage.put(tenant, "/v1/deadlines/{key}", "job", body).await;
    }
    slow_down(&stage, "INSERT", "count(*) > 8").await;
    stage.pass(DAY + Duration::from_secs(3600)).await;
    let counts = stage.remind().await;
    assert_eq!((counts.fired, counts.set_aside, counts.tenants_passed_over), (21, 0, 0), "{counts:?}");
    stage.leave_work();
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_batch_whose_message_takes_too_long_is_put_off_and_stops_no_other(pool: PgPool) {
    let stage = hurry(crate::batches::begin(pool).await).await;
    put_recipients(&stage, TENANT, 1, "guard").await;
    for (tenant, recipient) in [(TENANT, "r0"), (TENANT, "ada"), (OTHER_TENANT, "ada")] {
        for number in 0..2 {
            let collect = json!({"key": "import-9", "window": "PT5M"});
            let mut body = crate::batches::observation(number, "batch", collect);
            body["recipient"]["id"] = recipient.into();
            assert_eq!(stage.post_as(tenant, body, &[]).await.status, 202);
        }
    }
    slow_down(&stage, "INSERT", "bool_or(recipient_id = 'r0')").await;
    stage.pass(Duration::from_secs(5 * 60)).await;
    let counts = stage.dispatch().await;
    assert_eq!((counts.closed, counts.leaves_work), (2, false), "{counts:?}");
    sqlx::query("DROP TRIGGER take_long ON harkara.notifications").execute(&stage.admin).await.expect("dropped");
    stage.pass(Duration::from_secs(60 * 60)).await;
    assert_eq!(stage.dispatch().await.closed, 1, "later");
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn requests_of_the_door_that_take_too_long_together_are_taken_one_by_one(pool: PgPool) {
    let stage = hurry(Stage::begin(pool).await).await;
    put_recipients(&stage, TENANT, 1, "guard").await;
    let ask = "
        INSERT INTO harkara.door_requests (tenant_id, request_id, recipient_id, request)
        SELECT $1::uuid, harkara.new_id(), $2,
               jsonb_build_object('category', 'greeting', 'recipient', jsonb_build_object('id', $2::text),
                                  'data', '{\"name\": \"Ada\"}'::jsonb)
        FROM generate_series(1, $3)";
    for (tenant, recipient, count) in [(TENANT, "r0", 1), (TENANT, "ada", 7), (OTHER_TENANT, "ada", 1)] {
        sqlx::query(ask).bind(tenant).bind(recipient).bind(count).execute(&stage.admin).await.expect("asked for");
    }
    slow_down(&stage, "INSERT", "count(*) > 4 OR bool_or(recipient_id = 'r0')").await;
    assert_eq!(stage.dispatch().await.requests, 8);
    sqlx::query("DROP TRIGGER take_long ON harkara.notifications").execute(&stage.admin).await.expect("dropped");
    stage.pass(Duration::from_secs(301)).await;
    assert_eq!(stage.dispatch().await.requests, 1, "which has waited alone");
    stage.drain().await;
    stage.finish().await;
}

/// The look at one tenant's notifications takes too long; the other tenant's finding is told, and what is to go goes.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_tenant_that_takes_too_long_to_audit_hides_nothing_of_the_others(pool: PgPool) {
    let stage = hurry(Stage::begin(pool).await).await;
    let id = stage.post_as(OTHER_TENANT, Stage::greeting("lin@example.org"), &[]).await.id();
    stage.drain().await;
    let spoil = "
        SET session_replication_role = replica;
        DELETE FROM harkara.deliveries;
        SET session_replication_role = origin;
        CREATE POLICY take_long ON harkara.notifications AS RESTRICTIVE FOR SELECT TO harkara_worker
        USING (tenant_id <> '018f0000-0000-7000-8000-000000000001' OR pg_catalog.pg_sleep(600) IS NULL)";
    sqlx::raw_sql(spoil).execute(&stage.admin).await.expect("spoilt");
    stage.post(Stage::greeting("lin@example.org")).await;
    let failed = stage
        .maintenance
        .run(std::time::Instant::now() + Duration::from_secs(60), &flow::progress::Progress::untold())
        .await;
    assert!(matches!(failed, Err(StoreError::TimedOut(_))), "{failed:?}");
    let told = "SELECT detail ->> 'key' FROM harkara.events WHERE detail_type = 'stranded.found'";
    let told: Vec<String> = sqlx::query_scalar(told).fetch_all(&stage.admin).await.expect("events");
    assert_eq!(told, [id]);
    stage.leave_work();
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_request_that_takes_too_long_is_answered_as_one_that_may_be_tried_again(pool: PgPool) {
    let mut stage = hurry(Stage::begin(pool).await).await;
    stage.enqueue.database = database_within(&stage.admin, "harkara_api", PATIENCE);
    slow_down(&stage, "INSERT", "count(*) > 0").await;
    let answer = stage.post(Stage::greeting("lin@example.org")).await;
    assert_eq!((answer.status, &answer.body["code"]), (503, &json!("unavailable")), "{answer:?}");
    assert!(!answer.headers["retry-after"].is_null(), "{answer:?}");
    assert_eq!(stage.count("SELECT count(*) FROM harkara.notifications").await, 0);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn only_what_everybody_meets_stops_all(pool: PgPool) {
    let refuse = "
        CREATE FUNCTION public.refuse(state text) RETURNS void LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION USING ERRCODE = state; END $$";
    sqlx::query(refuse).execute(&pool).await.expect("a function");
    for (state, code, stops_all, is_of_rows) in [
        // A statement, a transaction in which nothing was asked, and a transaction that took too long.
        ("57014", "statement_timed_out", false, true),
        ("25P03", "statement_timed_out", false, true),
        ("25P04", "statement_timed_out", false, true),
        // An ending server, one that is not there yet, and a session that was not used.
        ("57P01", "database_unavailable", true, false),
        ("57P03", "database_unavailable", true, false),
        ("57P05", "database_unavailable", true, false),
        ("53300", "database_unavailable", true, false),
        ("08006", "database_unavailable", true, false),
        ("25006", "database_unavailable", true, false),
        ("55P03", "database_busy", false, false),
        ("40P01", "database_conflict", false, false),
        ("23514", "statement_refused", false, true),
    ] {
        let refused = sqlx::query("SELECT public.refuse($1)").bind(state).execute(&pool).await.expect_err("refused");
        let error = StoreError::from(refused);
        assert_eq!((error.code(), error.stops_all(), error.is_of_rows()), (code, stops_all, is_of_rows), "{state}");
    }
}
