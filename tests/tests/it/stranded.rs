//! Everything open has a next step or an end; where something has neither, the auditor finds it, and mends nothing.

use crate::escalation::{begin, start};
use adapters::store::stranded::{Stranded, find_stranded_across_tenants, find_undelivered_across_tenants};
use domain::stranded::{StrandedKind, StrandedReason};
use serde_json::{Value, json};
use sqlx::PgPool;
use std::collections::BTreeSet;
use std::time::Duration;
use tests::{Stage, TENANT};

const HOUR: Duration = Duration::from_secs(3600);

/// What no caller of the product can do: takes the next step of what the kind is, past the constraint that refuses it.
const BREAKS: &[(StrandedKind, StrandedReason, &str)] = &[
    (
        StrandedKind::Collection,
        StrandedReason::NoNextStep,
        "ALTER TABLE harkara.collections DROP CONSTRAINT open_collection_is_due;
         UPDATE harkara.collections SET due_at = NULL",
    ),
    (
        StrandedKind::Deadline,
        StrandedReason::NoNextStep,
        "ALTER TABLE harkara.deadlines DROP CONSTRAINT escalating_deadline_says_when_or_what_became;
         UPDATE harkara.deadlines SET escalates_at = NULL",
    ),
    (
        StrandedKind::Delivery,
        StrandedReason::NoNextStep,
        "ALTER TABLE harkara.deliveries DROP CONSTRAINT open_delivery_is_due;
         UPDATE harkara.deliveries SET due_at = NULL WHERE state = 'scheduled' AND notification_id = (
             SELECT notification_id FROM harkara.notifications WHERE metadata ->> 'is' = 'later')",
    ),
    (
        StrandedKind::DoorRequest,
        StrandedReason::NoNextStep,
        "ALTER TABLE harkara.door_requests DROP CONSTRAINT open_request_is_due;
         UPDATE harkara.door_requests SET due_at = NULL",
    ),
    (
        StrandedKind::Escalation,
        StrandedReason::NoNextStep,
        "ALTER TABLE harkara.escalations DROP CONSTRAINT open_escalation_has_a_next_step;
         UPDATE harkara.escalations SET next_step_at = NULL",
    ),
    (
        StrandedKind::Rung,
        StrandedReason::NoNextStep,
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

/// Something open of each kind, with the next step that it has. Of the digests, see below.
async fn open_each(pool: PgPool) -> Stage {
    let stage = begin(pool).await;
    let post = async |more: Value| {
        let mut body = Stage::greeting("lin@example.org");
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        assert_eq!(stage.post(body).await.status, 202);
    };
    let later = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(20)).to_string();
    post(json!({"batch": {"key": "k", "window": "PT20H"}})).await;
    post(json!({"metadata": {"is": "later"}, "send_at": later})).await;
    post(json!({"metadata": {"is": "alone"}, "send_at": later})).await;
    start(&stage).await;
    let due_at = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(48)).to_string();
    let deadline = json!({
        "category": "greeting", "recipients": ["ada"], "due_at": due_at, "rungs": [{"before": "P1D"}],
        "overdue": {"escalation_policy": "critical"}, "data": {"name": "Ada"},
    });
    stage.put(TENANT, "/v1/deadlines/{key}", "observation-42", deadline).await;
    for row in [
        "INSERT INTO harkara.door_requests (tenant_id, request_id, request) VALUES ($1::uuid, gen_random_uuid(), '{}')",
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
    found.extend(find_undelivered_across_tenants(database, 1000, 20).await.expect("found"));
    found
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn each_kind_is_found_when_it_is_broken_and_what_is_sound_is_not(pool: PgPool) {
    let stage = open_each(pool).await;
    assert_eq!(find(&stage).await, [], "all is well");
    let mut known = BTreeSet::new();
    for (kind, reason, break_it) in BREAKS {
        sqlx::raw_sql(*break_it).execute(&stage.admin).await.expect("broken");
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
    let (_, _, break_it) =
        BREAKS.iter().find(|(kind, ..)| *kind == StrandedKind::Escalation).expect("it is in the list");
    sqlx::raw_sql(*break_it).execute(&stage.admin).await.expect("broken");
    let counts = stage.escalate().await;
    assert_eq!((counts.stranded, &counts.print()["stranded"]), (1, &json!(1)));
    stage.leave_work();
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_nobody_has_dealt_with_for_an_hour_is_late_unless_its_tenant_is_suspended(pool: PgPool) {
    let stage = open_each(pool).await;
    let late = async || -> BTreeSet<StrandedKind> {
        let found = find(&stage).await.into_iter().filter(|one| one.reason == StrandedReason::Late);
        found.map(|one| one.kind).collect()
    };
    stage.pass(HOUR - Duration::from_secs(60)).await;
    assert_eq!(late().await, BTreeSet::new());
    stage.pass(48 * HOUR + Duration::from_secs(120)).await;
    let all = BTreeSet::from([
        StrandedKind::Collection,
        StrandedKind::Deadline,
        StrandedKind::Delivery,
        StrandedKind::DoorRequest,
        StrandedKind::Escalation,
        StrandedKind::Rung,
    ]);
    assert_eq!(late().await, all);
    let suspend = "UPDATE harkara.tenants SET state = 'suspended' WHERE tenant_id = $1::uuid";
    sqlx::query(suspend).bind(TENANT).execute(&stage.admin).await.expect("suspended");
    assert_eq!(late().await, BTreeSet::new(), "it stands still by somebody's will");
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
    let kinds: BTreeSet<_> = find(&stage).await.into_iter().map(|one| (one.kind, one.reason)).collect();
    let late = [StrandedKind::DigestEntry, StrandedKind::DigestRound].map(|kind| (kind, StrandedReason::Late));
    assert_eq!(kinds, BTreeSet::from(late));
    stage.close_digests().await;
    assert_eq!(find(&stage).await, [], "closed, it is not open any more");
    stage.drain().await;
    stage.finish().await;
}
