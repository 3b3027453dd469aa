//! What has ended is kept for as long as its tenant says, and no longer.

mod backlog;
mod place;

use flow::progress::Progress;
use serde_json::json;
use sqlx::PgPool;
use std::time::{Duration, Instant};
use tests::{OTHER_TENANT, Stage, TENANT};

const DAY: Duration = Duration::from_secs(86_400);

/// Everything of a notification, over both tenants.
const HISTORY: &str = "
    SELECT (SELECT count(*) FROM harkara.notifications) + (SELECT count(*) FROM harkara.deliveries)
         + (SELECT count(*) FROM harkara.attempts) + (SELECT count(*) FROM harkara.attachments)
         + (SELECT count(*) FROM harkara.dead_letters) + (SELECT count(*) FROM harkara.dedupe_keys)";

async fn keep_for(stage: &Stage, tenant: &str, retention: serde_json::Value) {
    let body = json!({"retention": retention}).to_string();
    let answer = stage.call(tenant, "PUT /v1/settings", None, "", &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// Sends one and lets its events be told.
async fn send(stage: &Stage, tenant: &str, body: serde_json::Value) -> String {
    let id = stage.post_as(tenant, body, &[]).await.id();
    stage.drain().await;
    stage.pass(Duration::from_secs(60)).await;
    stage.dispatch().await;
    id
}

async fn is_there(stage: &Stage, tenant: &str, id: &str) -> bool {
    stage.call(tenant, "GET /v1/notifications/{id}", Some(id), "", "").await.status == 200
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_has_ended_goes_with_all_that_belongs_to_it_when_its_time_is_over(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    keep_for(&stage, TENANT, json!({"default_days": 30})).await;
    let mut body = Stage::greeting("lin@example.org");
    body["attachments"] = json!([{"filename": "a.txt", "content_type": "text/plain", "content": "aGk="}]);
    body["dedupe"] = json!({"key": "once", "window": "P1D"});
    let id = send(&stage, TENANT, body).await;
    let others = send(&stage, OTHER_TENANT, Stage::greeting("lin@example.org")).await;
    let rows = stage.count(HISTORY).await;

    stage.pass(29 * DAY).await;
    let counts = stage.maintain().await;
    assert_eq!(counts.notifications, 0);
    assert_eq!(stage.count(HISTORY).await, rows - 1, "only the dedupe key, which has expired");

    stage.pass(DAY).await;
    let counts = stage.maintain().await;
    assert_eq!((counts.notifications, counts.kept, counts.is_cut_short), (1, 0, false));
    assert!(!is_there(&stage, TENANT, &id).await);
    assert!(is_there(&stage, OTHER_TENANT, &others).await, "a year is what holds where nothing is said");
    assert_eq!(stage.count(HISTORY).await, 3, "the other tenant's notification, delivery and attempt");
    assert_eq!(stage.maintain().await.notifications, 0, "once");

    stage.pass(336 * DAY).await;
    assert_eq!(stage.maintain().await.notifications, 1);
    assert_eq!(stage.count(HISTORY).await, 0);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_class_has_its_own_time(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    for (key, class) in [("job_done", "reminder"), ("finding", "regulatory")] {
        stage.put(TENANT, "/v1/categories/{key}", key, json!({"class": class, "template": "greeting"})).await;
    }
    keep_for(&stage, TENANT, json!({"by_class": {"reminder": 7, "regulatory": 3650}})).await;
    let shown = stage.call(TENANT, "GET /v1/settings", None, "", "").await;
    assert_eq!(shown.body["retention"], json!({"default_days": 365, "by_class": {"reminder": 7, "regulatory": 3650}}));
    let mut ids = Vec::new();
    for category in ["job_done", "greeting", "finding"] {
        let mut body = Stage::greeting("lin@example.org");
        body["category"] = category.into();
        ids.push(send(&stage, TENANT, body).await);
    }
    for (days, left) in [(8, vec![false, true, true]), (365, vec![false, false, true]), (3650, vec![false; 3])] {
        stage.pass(days * DAY).await;
        stage.maintain().await;
        let mut found = Vec::new();
        for id in &ids {
            found.push(is_there(&stage, TENANT, id).await);
        }
        assert_eq!(found, left, "after {days} days more");
    }
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn completed_deadlines_and_ended_escalations_go_by_the_time_of_their_class(pool: PgPool) {
    let stage = crate::escalation::begin(pool).await;
    keep_for(&stage, TENANT, json!({"default_days": 30, "by_class": {"reminder": 7}})).await;
    let reminder = json!({"class": "reminder", "template": "greeting"});
    stage.put(TENANT, "/v1/categories/{key}", "job_done", reminder).await;
    let due_at = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(48)).to_string();
    for (key, category) in [("job", "job_done"), ("task", "greeting"), ("waiting", "job_done")] {
        let body = json!({
            "category": category, "recipients": ["ada"], "due_at": due_at, "data": {"name": "Ada"},
            "rungs": [{"before": "P1D"}],
        });
        stage.put(TENANT, "/v1/deadlines/{key}", key, body).await;
    }
    for key in ["job", "task"] {
        stage.call(TENANT, "POST /v1/deadlines/{key}/complete", Some(key), "", "").await;
    }
    let ended = crate::escalation::start(&stage).await;
    stage.drain().await;
    stage.call(TENANT, "POST /v1/escalations/{id}/resolve", Some(&ended), "", "").await;
    crate::escalation::start(&stage).await;
    stage.drain().await;
    let left = "SELECT (SELECT count(*) FROM harkara.deadlines) * 100 + (SELECT count(*) FROM harkara.rungs) * 10
                     + (SELECT count(*) FROM harkara.escalations)";
    assert_eq!(stage.count(left).await, 332);

    for (days, deadlines, escalations, rest) in [(6, 0, 0, 332), (2, 1, 0, 222), (21, 0, 0, 222), (2, 1, 1, 111)] {
        stage.pass(days * DAY).await;
        let counts = stage.maintain().await;
        assert_eq!((counts.deadlines, counts.escalations), (deadlines, escalations), "after {days} days more");
        assert_eq!(stage.count(left).await, rest);
    }
    stage.pass(365 * DAY).await;
    stage.maintain().await;
    assert_eq!(stage.count(left).await, 111, "what has a reminder to come, and what is open, stays");
    let of_ended = "SELECT (SELECT count(*) FROM harkara.escalation_steps)
                         + (SELECT count(*) FROM harkara.escalation_notifications)";
    assert_eq!(stage.count(of_ended).await, 2, "those of the open one");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn nothing_open_is_deleted_however_old_it_is(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    keep_for(&stage, TENANT, json!({"default_days": 1})).await;
    let open = stage.post(Stage::greeting("lin@example.org")).await.id();
    stage.pass(60 * DAY).await;
    assert_eq!(stage.maintain().await.notifications, 0);
    assert_eq!(stage.outcome(&open).await.0, "queued");
    stage.bus.refuse(true);
    stage.drain().await;
    assert_eq!(stage.outcome(&open).await.0, "sent");
    stage.pass(2 * DAY).await;
    assert_eq!(stage.maintain().await.notifications, 0, "its events are still to be told");
    stage.bus.refuse(false);
    stage.dispatch().await;
    assert_eq!(stage.maintain().await.notifications, 1);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_an_open_debounce_has_replaced_stays_until_that_has_told_of_it(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    keep_for(&stage, TENANT, json!({"default_days": 1})).await;
    for _ in 0..2 {
        let mut body = Stage::greeting("lin@example.org");
        body["debounce"] = json!({"key": "registration-31", "window": "PT20H", "max": "P7D"});
        assert_eq!(stage.post(body).await.status, 202);
    }
    // What is still to be told of them would keep them, too.
    stage.pass(Duration::from_secs(60)).await;
    stage.dispatch().await;
    assert_eq!(stage.count("SELECT count(*) FROM harkara.events").await, 0);
    stage.pass(3 * DAY).await;
    stage.maintain().await;
    assert_eq!(stage.count("SELECT count(*) FROM harkara.collection_members").await, 2, "the first one, too");
    stage.dispatch().await;
    stage.drain().await;
    stage.pass(2 * DAY).await;
    stage.dispatch().await;
    assert!(stage.maintain().await.notifications >= 2);
    assert_eq!(stage.count("SELECT count(*) FROM harkara.collections").await, 0, "nor is it kept itself");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_something_else_refers_to_stays_and_holds_up_no_other(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    keep_for(&stage, TENANT, json!({"default_days": 1})).await;
    let kept = send(&stage, TENANT, Stage::greeting("lin@example.org")).await;
    let gone = send(&stage, TENANT, Stage::greeting("max@example.org")).await;
    let refer = "
        CREATE TABLE public.references_one AS
        SELECT tenant_id, notification_id FROM harkara.notifications WHERE email = 'lin@example.org';
        ALTER TABLE public.references_one
        ADD FOREIGN KEY (tenant_id, notification_id) REFERENCES harkara.notifications";
    sqlx::raw_sql(refer).execute(&stage.admin).await.expect("somebody refers to it");
    stage.pass(3 * DAY).await;
    let counts = stage.maintain().await;
    assert_eq!((counts.notifications, counts.kept), (1, 1));
    assert!(is_there(&stage, TENANT, &kept).await && !is_there(&stage, TENANT, &gone).await);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_fails_for_one_tenant_is_counted_and_stops_no_other(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    for tenant in [TENANT, OTHER_TENANT] {
        keep_for(&stage, tenant, json!({"default_days": 1})).await;
        send(&stage, tenant, Stage::greeting("lin@example.org")).await;
    }
    let refuse = "
        CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'raise_exception'; END $$;
        CREATE TRIGGER refuse BEFORE DELETE ON harkara.notifications FOR EACH ROW EXECUTE FUNCTION public.refuse()";
    sqlx::raw_sql(refuse).execute(&stage.admin).await.expect("a trigger");
    stage.pass(3 * DAY).await;
    let counts = stage.maintain().await;
    assert_eq!(
        (counts.notifications, counts.failed),
        (0, 2),
        "after the first, whichever it is, the other has its turn"
    );
    let of_one = "
        DROP TRIGGER refuse ON harkara.notifications;
        CREATE TRIGGER refuse BEFORE DELETE ON harkara.notifications FOR EACH ROW
        WHEN (OLD.tenant_id = '018f0000-0000-7000-8000-000000000001') EXECUTE FUNCTION public.refuse()";
    sqlx::raw_sql(of_one).execute(&stage.admin).await.expect("a trigger");
    let counts = stage.maintain().await;
    assert_eq!((counts.notifications, counts.failed), (1, 1));
    sqlx::raw_sql("DROP TRIGGER refuse ON harkara.notifications").execute(&stage.admin).await.expect("dropped");
    assert_eq!(stage.maintain().await.notifications, 1, "by the next run");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn without_time_nothing_is_begun_and_the_next_run_goes_on(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    keep_for(&stage, TENANT, json!({"default_days": 1})).await;
    send(&stage, TENANT, Stage::greeting("lin@example.org")).await;
    stage.pass(3 * DAY).await;
    let counts =
        stage.maintenance.run(Instant::now() + Duration::from_secs(5), &Progress::untold()).await.expect("maintained");
    assert_eq!((counts.notifications, counts.is_cut_short), (0, true));
    assert_eq!(stage.maintain().await.notifications, 1);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn keys_slots_and_buckets_go_when_they_have_expired(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let insert = "
        INSERT INTO harkara.idempotency_keys (tenant_id, route, idempotency_key, request_hash, request_id, answer, expires_at)
        SELECT $1::uuid, 'r', n::text, '', 'r', '{}', harkara.now() + n * interval '1 day' FROM generate_series(1, 2) n";
    sqlx::query(insert).bind(TENANT).execute(&stage.admin).await.expect("keys");
    let insert = "
        INSERT INTO harkara.send_slots (tenant_id, delivery_id, subject_id, category_key, is_capped, taken_at)
        SELECT $1::uuid, gen_random_uuid(), gen_random_uuid(), 'c', false, harkara.now() - n * interval '28 days'
        FROM generate_series(0, 1) n";
    sqlx::query(insert).bind(TENANT).execute(&stage.admin).await.expect("slots");
    let rates = "UPDATE harkara.request_rates SET full_at = harkara.now() + interval '1 hour'";
    sqlx::query(rates).execute(&stage.admin).await.expect("buckets that the stage's requests have made");
    let buckets = stage.count("SELECT count(*) FROM harkara.request_rates").await;
    assert_eq!(stage.maintain().await.expired, 0);
    stage.pass(DAY).await;
    assert_eq!(stage.maintain().await.expired, 1, "a key");
    stage.pass(DAY + Duration::from_secs(1)).await;
    assert_eq!(stage.maintain().await.expired, u64::try_from(buckets).expect("a count") + 1, "a key and the buckets");
    stage.pass(DAY).await;
    assert_eq!(stage.maintain().await.expired, 1, "a slot");
    assert_eq!(stage.count("SELECT count(*) FROM harkara.send_slots").await, 1);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn months_are_made_ahead_and_dropped_only_when_they_are_over_and_empty(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let months = "
        SELECT count(*) FROM pg_inherits
        WHERE inhparent IN ('harkara.attempts'::regclass, 'harkara.audit_log'::regclass)";
    let all = stage.count(months).await;
    let drop = "
        DO $$ BEGIN EXECUTE format('DROP TABLE harkara.attempts_%s, harkara.audit_log_%1$s',
            to_char((now() AT TIME ZONE 'UTC') + interval '12 months', 'YYYYMM')); END $$";
    sqlx::query(drop).execute(&stage.admin).await.expect("two months are lacking");
    // A month is told by its bounds and its parent, and not by its name.
    let decoy = "CREATE TABLE harkara.attempts_202001 (tenant_id uuid)";
    sqlx::raw_sql(decoy).execute(&stage.admin).await.expect("a table");
    assert_eq!(stage.maintain().await.months, 0);
    assert_eq!(stage.count(months).await, all);

    let id = send(&stage, TENANT, Stage::greeting("lin@example.org")).await;
    stage.pass(70 * DAY).await;
    let first = stage.maintain().await.months;
    assert!((1..=2).contains(&first), "those after this one, and this one has a row: {first}");
    assert_eq!(stage.show(&id).await["deliveries"][0]["attempts"].as_array().map(Vec::len), Some(1));
    keep_for(&stage, TENANT, json!({"default_days": 1})).await;
    let counts = stage.maintain().await;
    // The server's own clock stands where it stood: what was dropped ahead of it is made anew, and dropped again.
    assert_eq!((counts.notifications, counts.months), (1, first + 1), "emptied, it goes, too");
    let kept = "SELECT count(*) FROM pg_class WHERE oid IN ('harkara.attempts_default'::regclass, 'harkara.attempts_202001'::regclass)";
    assert_eq!(stage.count(kept).await, 2);
    let audit = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'harkara.audit_log'::regclass";
    assert_eq!(stage.count(audit).await, 14, "the audit log keeps its months");
    stage.finish().await;
}

/// Whoever holds the history may come to any of its months: had the run one of them, each would wait for the other.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_month_is_dropped_behind_whoever_is_at_its_history(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    stage.pass(70 * DAY).await;
    let mut writer = pool.begin().await.expect("a transaction");
    sqlx::query("LOCK TABLE ONLY harkara.attempts IN ROW EXCLUSIVE MODE").execute(&mut *writer).await.expect("locked");
    let writing = async {
        crate::reminder::see_wait(&pool, 1).await;
        sqlx::query("DELETE FROM harkara.attempts").execute(&mut *writer).await.expect("no month is in its way");
        writer.commit().await.expect("committed");
    };
    let (counts, ()) = tokio::join!(stage.maintain(), writing);
    assert!(counts.months > 0, "{counts:?}");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_retention_that_is_none_is_named_by_its_place(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    for (retention, pointer) in [
        (json!({"default_days": 0}), "/retention/default_days"),
        (json!({"default_days": 3651}), "/retention/default_days"),
        (json!({"by_class": {"reminder": "7"}}), "/retention/by_class/reminder"),
        (json!({"by_class": {"nobody": 7}}), "/retention/by_class/nobody"),
        (json!({"for": 7}), "/retention/for"),
        (json!(7), "/retention"),
    ] {
        let body = json!({"retention": retention}).to_string();
        let answer = stage.call(TENANT, "PUT /v1/settings", None, "", &body).await;
        assert_eq!((answer.status, answer.pointers()), (422, vec![pointer]));
    }
    stage.finish().await;
}
