//! Everything open has a next step or an end; where something has neither, the auditor finds it, and mends nothing.

use crate::escalation::{begin, start};
use adapters::store::stranded::{
    Stranded, find_stranded_across_tenants, find_stranded_escalations_across_tenants, find_undelivered,
};
use domain::id::TenantId;
use domain::stranded::{StrandedKind, StrandedReason};
use serde_json::{Value, json};
use sqlx::PgPool;
use std::collections::BTreeSet;
use std::time::Duration;
use tests::{Stage, TENANT};

const HOUR: Duration = Duration::from_secs(3600);

/// What no caller of the product can do: takes the next step of what the kind is, past the constraint that refuses it.
const BREAKS: &[(StrandedKind, StrandedReason, &str)] = &[
    without_next_step(
        StrandedKind::Collection,
        "ALTER TABLE harkara.collections DROP CONSTRAINT open_collection_is_due;
         UPDATE harkara.collections SET due_at = NULL",
    ),
    without_next_step(
        StrandedKind::Deadline,
        "ALTER TABLE harkara.deadlines DROP CONSTRAINT escalating_deadline_says_when_or_what_became;
         UPDATE harkara.deadlines SET escalates_at = NULL",
    ),
    without_next_step(
        StrandedKind::Delivery,
        "ALTER TABLE harkara.deliveries DROP CONSTRAINT open_delivery_is_due;
         UPDATE harkara.deliveries SET due_at = NULL WHERE state = 'scheduled' AND notification_id = (
             SELECT notification_id FROM harkara.notifications WHERE metadata ->> 'is' = 'later')",
    ),
    without_next_step(StrandedKind::DomainJob, "UPDATE harkara.domain_job_clocks SET look_at = NULL"),
    without_next_step(
        StrandedKind::DoorRequest,
        "ALTER TABLE harkara.door_requests DROP CONSTRAINT open_request_is_due;
         UPDATE harkara.door_requests SET due_at = NULL",
    ),
    without_next_step(StrandedKind::Escalation, STRAND_ESCALATIONS),
    without_next_step(
        StrandedKind::Rung,
        "ALTER TABLE harkara.rungs DROP CONSTRAINT planned_rung_is_looked_at;
         UPDATE harkara.rungs SET look_at = NULL",
    ),
    (
        StrandedKind::JobRun,
        StrandedReason::NoEnd,
        "UPDATE harkara.job_runs SET lease_ends_at = harkara.now() - interval '61 minutes' WHERE finished_at IS NULL",
    ),
    (
        StrandedKind::Notification,
        StrandedReason::NoDelivery,
        "DELETE FROM harkara.deliveries WHERE notification_id = (
             SELECT notification_id FROM harkara.notifications WHERE metadata ->> 'is' = 'alone')",
    ),
];

const STRAND_ESCALATIONS: &str = "
    ALTER TABLE harkara.escalations DROP CONSTRAINT open_escalation_has_a_next_step;
    UPDATE harkara.escalations SET next_step_at = NULL";

const fn without_next_step(kind: StrandedKind, sql: &'static str) -> (StrandedKind, StrandedReason, &'static str) {
    (kind, StrandedReason::NoNextStep, sql)
}

/// A time so many hours ahead.
fn in_hours(hours: i64) -> String {
    (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(hours)).to_string()
}

/// Something open of each kind, with the next step that it has. Of the digests, see below.
async fn open_each(pool: PgPool) -> Stage {
    let stage = begin(pool).await;
    let post = async |more: Value| {
        let mut body = Stage::greeting("lin@example.org");
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        assert_eq!(stage.post(body).await.status, 202);
    };
    post(json!({"batch": {"key": "k", "window": "PT20H"}})).await;
    post(json!({"metadata": {"is": "later"}, "send_at": in_hours(20)})).await;
    post(json!({"metadata": {"is": "alone"}, "send_at": in_hours(20)})).await;
    start(&stage).await;
    let deadline = json!({
        "category": "greeting", "recipients": ["ada"], "due_at": in_hours(48), "rungs": [{"before": "P1D"}],
        "overdue": {"escalation_policy": "critical"}, "data": {"name": "Ada"},
    });
    stage.put(TENANT, "/v1/deadlines/{key}", "observation-42", deadline).await;
    for row in [
        "INSERT INTO harkara.door_requests (tenant_id, request_id, request) VALUES ($1::uuid, gen_random_uuid(), '{}')",
        "INSERT INTO harkara.domain_jobs (tenant_id, job_key, schedule, timeout_seconds, definition)
         VALUES ($1::uuid, 'returns', 'rate(1 day)', 30, '{}')",
        "INSERT INTO harkara.domain_job_clocks (tenant_id, job_key, next_due_at, look_at)
         VALUES ($1::uuid, 'returns', harkara.now() + interval '20 hours', harkara.now() + interval '20 hours')",
        "INSERT INTO harkara.job_runs (tenant_id, run_id, job, cause, started_at, lease_ends_at)
         SELECT tenant_id, gen_random_uuid(), 'job of ' || $1, 'schedule', harkara.now(), harkara.now() FROM harkara.tenants
         WHERE tenant_id = '00000000-0000-0000-0000-000000000000'",
    ] {
        sqlx::query(row).bind(TENANT).execute(&stage.admin).await.expect("a row");
    }
    stage
}

async fn find(stage: &Stage) -> Vec<Stranded> {
    let database = &stage.maintenance.database;
    let mut found = find_stranded_across_tenants(database, 20).await.expect("found");
    found.extend(find_undelivered(database, tenant(), 1000, 20).await.expect("found"));
    found
}

fn tenant() -> TenantId {
    TenantId::parse(TENANT).expect("a tenant")
}

/// The kinds that are late.
async fn late(stage: &Stage) -> BTreeSet<StrandedKind> {
    let found = find(stage).await.into_iter().filter(|one| one.reason == StrandedReason::Late);
    found.map(|one| one.kind).collect()
}

async fn change(stage: &Stage, statement: &'static str) {
    sqlx::raw_sql(statement).execute(&stage.admin).await.expect("changed");
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn each_kind_is_found_when_it_is_broken_and_what_is_sound_is_not(pool: PgPool) {
    let stage = open_each(pool).await;
    assert_eq!(find(&stage).await, [], "all is well");
    let mut known = BTreeSet::new();
    for (kind, reason, break_it) in BREAKS {
        change(&stage, break_it).await;
        let now: Vec<_> =
            find(&stage).await.into_iter().filter(|one| !known.contains(&(one.kind, one.reason))).collect();
        let found: Vec<_> = now.iter().map(|one| (one.kind, one.reason, one.tenant.to_string())).collect();
        let tenant = if *kind == StrandedKind::JobRun { "00000000-0000-0000-0000-000000000000" } else { TENANT };
        assert_eq!(found, [(*kind, *reason, tenant.to_owned())], "{kind}");
        known.insert((*kind, *reason));
    }
    let rows = "SELECT count(*) FROM harkara.deliveries WHERE due_at IS NULL AND state = 'scheduled'";
    let before = stage.count(rows).await;
    assert_eq!(stage.maintain().await.stranded, BREAKS.len());
    assert_eq!(stage.maintain().await.stranded, BREAKS.len(), "each day, until somebody mends it");
    assert_eq!(stage.count(rows).await, before, "nothing is mended");
    let told = stage.count("SELECT count(*) FROM harkara.events WHERE detail_type = 'stranded.found'").await;
    assert_eq!(usize::try_from(told), Ok(2 * BREAKS.len()), "each time by an event of its tenant");
    stage.leave_work();
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn each_run_of_escalation_proves_that_what_is_open_goes_on(pool: PgPool) {
    let stage = begin(pool).await;
    start(&stage).await;
    assert_eq!(stage.escalate().await.stranded, 0);
    change(&stage, STRAND_ESCALATIONS).await;
    let counts = stage.escalate().await;
    assert_eq!((counts.stranded, &counts.print()["stranded"]), (1, &json!(1)));
    stage.leave_work();
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_nobody_has_dealt_with_for_an_hour_is_late_unless_its_tenant_is_suspended(pool: PgPool) {
    let stage = open_each(pool).await;
    stage.pass(HOUR - Duration::from_secs(60)).await;
    assert_eq!(late(&stage).await, BTreeSet::new());
    stage.pass(48 * HOUR + Duration::from_secs(120)).await;
    let all = BTreeSet::from([
        StrandedKind::Collection,
        StrandedKind::Deadline,
        StrandedKind::Delivery,
        StrandedKind::DomainJob,
        StrandedKind::DoorRequest,
        StrandedKind::Escalation,
        StrandedKind::Event,
        StrandedKind::Rung,
    ]);
    assert_eq!(late(&stage).await, all);
    // A run of the tenant's own, which nobody has ended either.
    change(&stage, "UPDATE harkara.job_runs SET tenant_id = (SELECT tenant_id FROM harkara.domain_jobs)").await;
    change(
        &stage,
        "UPDATE harkara.tenants SET state = 'suspended' WHERE tenant_id IN (SELECT tenant_id FROM harkara.domain_jobs)",
    )
    .await;
    let kinds: BTreeSet<_> = find(&stage).await.into_iter().map(|one| one.kind).collect();
    assert_eq!(kinds, BTreeSet::from([StrandedKind::Event]), "it stands still by somebody's will, and is told of");
    stage.leave_work();
}

/// Whatever cannot be stored is looked at every few minutes, so that nothing but its own time says that it is late.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_is_set_aside_again_and_again_is_late_all_the_same(pool: PgPool) {
    let stage = open_each(pool).await;
    stage.pass(49 * HOUR + Duration::from_secs(60)).await;
    for statement in [
        "UPDATE harkara.rungs SET look_at = harkara.now() + interval '10 minutes'",
        "UPDATE harkara.deadlines SET escalates_at = harkara.now() + interval '10 minutes'",
        "UPDATE harkara.domain_job_clocks SET look_at = harkara.now() + interval '10 minutes'",
    ] {
        change(&stage, statement).await;
    }
    let late = late(&stage).await;
    for kind in [StrandedKind::Rung, StrandedKind::Deadline, StrandedKind::DomainJob] {
        assert!(late.contains(&kind), "{kind}: {late:?}");
    }
    stage.leave_work();
}

/// Asks through the SQL door, as its own transaction does.
async fn ask_at_the_door(stage: &Stage) {
    let statement = "
        INSERT INTO harkara.door_requests (tenant_id, request_id, request)
        VALUES ($1::uuid, gen_random_uuid(), $2)";
    let request = Stage::greeting("door@example.org");
    sqlx::query(statement).bind(TENANT).bind(request).execute(&stage.admin).await.expect("asked");
}

/// Nothing can be stored: a mistake of ours, or of the schema.
const REFUSE_NOTIFICATIONS: &str = "
    CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON harkara.notifications FOR EACH ROW EXECUTE FUNCTION public.refuse();";

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn whatever_cannot_be_stored_and_is_put_off_again_and_again_is_late(pool: PgPool) {
    let stage = begin(pool).await;
    let mut batch = Stage::greeting("lin@example.org");
    batch["batch"] = json!({"key": "k", "window": "PT30M"});
    // One alone would leave by itself, with nothing to be stored.
    for _ in 0..2 {
        assert_eq!(stage.post(batch.clone()).await.status, 202);
    }
    start(&stage).await;
    stage.drain().await;
    stage.pass(Duration::from_secs(1800)).await;
    ask_at_the_door(&stage).await;
    change(&stage, REFUSE_NOTIFICATIONS).await;
    let five_minutes = Duration::from_secs(301);
    for _ in 0..11 {
        assert_eq!((stage.dispatch().await.requests, stage.escalate().await.put_off), (0, 1));
        assert_eq!(late(&stage).await, BTreeSet::new(), "none of it for an hour");
        stage.pass(five_minutes).await;
    }
    stage.pass(five_minutes).await;
    stage.dispatch().await;
    let counts = stage.escalate().await;
    assert_eq!((counts.put_off, counts.stranded), (1, 1), "each run says so from now on");
    let ahead = "SELECT (SELECT count(*) FROM harkara.door_requests WHERE due_at > harkara.now())
                      + (SELECT count(*) FROM harkara.collections WHERE due_at > harkara.now())
                      + (SELECT count(*) FROM harkara.escalations WHERE next_step_at > harkara.now())";
    assert_eq!(stage.count(ahead).await, 3, "each of them has its next step ahead");
    let put_off = BTreeSet::from([StrandedKind::Collection, StrandedKind::DoorRequest, StrandedKind::Escalation]);
    assert_eq!(late(&stage).await.intersection(&put_off).copied().collect::<BTreeSet<_>>(), put_off);
    change(&stage, "UPDATE harkara.tenants SET state = 'suspended'").await;
    assert_eq!(stage.escalate().await.stranded, 0, "what is suspended stands still by somebody's will");
    change(&stage, "UPDATE harkara.tenants SET state = 'active'; DROP TRIGGER refuse ON harkara.notifications").await;
    stage.pass(2 * HOUR).await;
    stage.dispatch().await;
    let counts = stage.escalate().await;
    assert_eq!((counts.fired, counts.stranded), (1, 0));
    assert!(late(&stage).await.is_disjoint(&put_off), "it was dealt with");
    stage.leave_work();
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_request_at_the_door_that_waits_for_the_quota_is_not_late(pool: PgPool) {
    let stage = begin(pool).await;
    crate::digest::move_to(&stage, crate::digest::WEDNESDAY).await;
    let quota = "INSERT INTO harkara.tenant_limits (tenant_id, notifications_per_day) VALUES ($1::uuid, 1)";
    sqlx::query(quota).bind(TENANT).execute(&stage.admin).await.expect("limited");
    for _ in 0..2 {
        ask_at_the_door(&stage).await;
    }
    stage.dispatch().await;
    stage.drain().await;
    stage.pass(2 * HOUR).await;
    stage.dispatch().await;
    let waiting = "SELECT count(*) FROM harkara.door_requests WHERE due_at > harkara.now()";
    assert_eq!(stage.count(waiting).await, 1, "until tomorrow");
    assert!(!late(&stage).await.contains(&StrandedKind::DoorRequest));
    stage.leave_work();
}

/// The minute's audit, for a step that nobody has fired.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn each_run_of_escalation_finds_a_step_that_is_an_hour_late(pool: PgPool) {
    let stage = begin(pool).await;
    start(&stage).await;
    let database = &stage.escalation.database;
    stage.pass(Duration::from_secs(1800) + HOUR - Duration::from_secs(60)).await;
    assert_eq!(find_stranded_escalations_across_tenants(database, 20).await.expect("found"), []);
    stage.pass(Duration::from_secs(120)).await;
    let found = find_stranded_escalations_across_tenants(database, 20).await.expect("found");
    let found: Vec<_> = found.iter().map(|one| (one.kind, one.reason, one.tenant)).collect();
    assert_eq!(found, [(StrandedKind::Escalation, StrandedReason::Late, tenant())]);
    assert_eq!(stage.escalate().await.stranded, 0, "the run has fired it");
    stage.leave_work();
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_waits_and_is_not_decided_about_anew_is_late(pool: PgPool) {
    let stage = crate::digest::begin(pool).await;
    crate::digest::ask(&stage, "ASSIGNED", "ada", "Ada").await;
    stage.drain().await;
    change(&stage, "SELECT harkara.ask_for_review(tenant_id) FROM harkara.digest_entries").await;
    stage.pass(HOUR).await;
    assert!(!late(&stage).await.contains(&StrandedKind::DigestEntry));
    stage.pass(Duration::from_secs(120)).await;
    assert!(late(&stage).await.contains(&StrandedKind::DigestEntry));
    stage.close_digests().await;
    assert!(!late(&stage).await.contains(&StrandedKind::DigestEntry), "it has been asked for");
    stage.leave_work();
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_digest_that_is_not_closed_is_late(pool: PgPool) {
    let stage = crate::digest::begin(pool).await;
    crate::digest::ask(&stage, "ASSIGNED", "ada", "Ada").await;
    let rhythm = json!({
        "class": "digest", "template": "digest", "digest": {"cadence": "daily", "roles": ["auditor"]},
    });
    crate::digest::put_category(&stage, "WEEKLY", rhythm).await;
    crate::digest::put_recipient(&stage, "eve", "Asia/Kolkata", &["auditor"]).await;
    stage.close_digests().await;
    assert_eq!(find(&stage).await, []);
    crate::digest::move_to(&stage, crate::digest::WEDNESDAY).await;
    stage.pass(HOUR + Duration::from_secs(1)).await;
    // Beside what the bus is to be told, which nobody does here.
    let of_digests = async || -> BTreeSet<StrandedKind> {
        late(&stage).await.into_iter().filter(|kind| *kind != StrandedKind::Event).collect()
    };
    assert_eq!(of_digests().await, BTreeSet::from([StrandedKind::DigestEntry, StrandedKind::DigestRound]));
    stage.close_digests().await;
    assert_eq!(of_digests().await, BTreeSet::new(), "closed, it is not open any more");
    stage.drain().await;
    stage.finish().await;
}
