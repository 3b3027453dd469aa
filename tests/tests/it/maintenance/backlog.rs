//! A backlog goes in one run, a batch at a time.

use super::{DAY, HISTORY, keep_for};
use flow::progress::Progress;
use serde_json::json;
use sqlx::PgPool;
use std::time::{Duration, Instant};
use tests::{OTHER_TENANT, Stage, TENANT};

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn more_than_a_batch_of_any_kind_goes_in_one_run(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    keep_for(&stage, TENANT, json!({"default_days": 1})).await;
    // Each kind by itself, so that no other one's backlog brings the tenant its next turn.
    for (kind, insert, left) in [
        (
            "keys",
            "INSERT INTO harkara.idempotency_keys
                 (tenant_id, route, idempotency_key, request_hash, request_id, answer, expires_at)
             SELECT $1::uuid, 'r', n::text, '', 'r', '{}', harkara.now() FROM generate_series(1, 450) n",
            "SELECT count(*) FROM harkara.idempotency_keys",
        ),
        (
            "candidates of a job that is no more",
            "INSERT INTO harkara.domain_job_candidates (tenant_id, job_key, key_hash, seen_at)
             SELECT $1::uuid, 'gone', convert_to(n::text, 'UTF8'), harkara.now() - interval '2 days'
             FROM generate_series(1, 450) n",
            "SELECT count(*) FROM harkara.domain_job_candidates",
        ),
        (
            "deadlines",
            "INSERT INTO harkara.deadlines
                 (tenant_id, deadline_key, recipients, due_at, rungs, when_past, completed_at)
             SELECT $1::uuid, n::text, '{ada}', harkara.now(), '[]', 'skip', harkara.now() - interval '2 days'
             FROM generate_series(1, 45) n",
            "SELECT count(*) FROM harkara.deadlines",
        ),
        (
            "escalations",
            "INSERT INTO harkara.escalations
                 (tenant_id, escalation_id, policy_key, definition, state, finished_at, updated_at)
             SELECT $1::uuid, gen_random_uuid(), 'critical', '{}', 'resolved', harkara.now(), harkara.now() - interval '2 days'
             FROM generate_series(1, 450) n",
            "SELECT count(*) FROM harkara.escalations",
        ),
    ] {
        sqlx::query(insert).bind(TENANT).execute(&stage.admin).await.expect("a backlog");
        let counts = stage.maintain().await;
        assert_eq!((stage.count(left).await, counts.is_cut_short), (0, false), "{kind}: {counts:?}");
    }
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn two_runs_at_once_delete_each_once_and_all_of_a_backlog(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    for tenant in [TENANT, OTHER_TENANT] {
        keep_for(&stage, tenant, json!({"default_days": 1})).await;
    }
    // More than a batch of the one tenant's, and one of the other's.
    let many: Vec<_> = (0..450).map(|number| json!({"email": format!("r{number}@example.org")})).collect();
    let body = json!({"category": "greeting", "recipients": many, "data": {"name": "R"}});
    assert_eq!(stage.post(body).await.status, 202);
    stage.post_as(OTHER_TENANT, Stage::greeting("lin@example.org"), &[]).await;
    stage.drain().await;
    stage.pass(3 * DAY).await;
    stage.dispatch().await;
    let deadline = Instant::now() + Duration::from_secs(60);
    let untold = Progress::untold();
    let (first, second) =
        tokio::join!(stage.maintenance.run(deadline, &untold), stage.maintenance.run(deadline, &untold));
    let (first, second) = (first.expect("maintained"), second.expect("maintained"));
    let rest = stage.maintain().await;
    assert_eq!(first.notifications + second.notifications + rest.notifications, 451, "{first:?} {second:?} {rest:?}");
    assert!(rest.notifications == 0 || first.failed + second.failed > 0, "{first:?} {second:?} {rest:?}");
    assert_eq!(stage.count(HISTORY).await, 0);
    let audited = "SELECT count(*) FROM harkara.audit_log WHERE table_name = 'notifications' AND operation = 'DELETE'";
    assert_eq!(stage.count(audited).await, 451);
    stage.finish().await;
}
