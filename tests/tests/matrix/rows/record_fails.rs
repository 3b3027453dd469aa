//! Rows 28 to 30: the mail is sent, and what became of it cannot be written, or is written and nobody hears of it.

use super::unknown::{Trio, pass};
use serde_json::json;
use sqlx::PgPool;
use std::time::Duration;
use tests::strict::{Before, Burst, DELIVERIES, Strike, Verdict, Wire, WireFault, World};

/// What only the statement says that records a batch.
const RECORD: &str = "What the batch came to";

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_28_a_database_that_is_down_after_the_send_leaves_it_sending_and_nobody_sends_blindly_again(admin: PgPool) {
    let mut world = World::begin_with_failpoints(admin).await;
    let trio = Trio::post(&world, "accept").await;
    let wire = Wire::before(world.database_address()).await.expect("a port is free");
    for function in ["processor", "dispatcher"] {
        world.reach_database_by(function, wire.address()).await;
    }
    world.strike_nth("P8_answered", 3, Strike::Hold);
    let (delivered, ()) = futures::join!(world.deliver(), async {
        world.wait_for_strike("P8_answered").await;
        // From here on nobody listens where the database was.
        drop(wire);
        world.release();
    });
    assert!(matches!(&delivered.verdict, Verdict::Partial(failed) if failed.len() == 3), "{delivered:?}");
    trio.assert_asked_once(&world, "sending", None).await;
    world.advance(Duration::from_secs(60)).await;
    assert!(world.dispatch().await.is_err(), "the dispatcher finds no database either");

    for function in ["processor", "dispatcher"] {
        world.reach_database_by(function, world.database_address()).await;
    }
    pass(&world, Duration::from_secs(20)).await;
    trio.assert_asked_once(&world, "sending", None).await;
    pass(&world, Duration::from_secs(15)).await;
    trio.assert_asked_once(&world, "unknown", Some("lease_expired")).await;

    Trio::settle(&[trio], &world).await;
    let figures = world.finish().await;
    assert_eq!((figures.unknown, figures.outcome_unknown, figures.delivered), (3, 1, 1));
    assert_eq!((figures.duplicates_declared, figures.duplicates_undeclared), (1, 0));
}

/// One mail that is taken, one that is refused for good, and one that is throttled; recorded once each, whatever the
/// record meets.
async fn assert_recorded_once(world: &World, name: &str) {
    let addresses = [
        format!("accept--{name}@simulator.harkara.test"),
        format!("reject--{name}@simulator.harkara.test"),
        format!("throttle+1--{name}@simulator.harkara.test"),
    ];
    let mut ids = Vec::new();
    for address in &addresses {
        ids.push(world.post(&World::greeting(address)).await.id());
    }
    let delivered = world.deliver().await;
    assert!(delivered.answer.is_ok(), "{name}: {delivered:?}");
    let expected = [
        ("sent".to_owned(), None, 1),
        ("failed".to_owned(), Some("provider_rejected".to_owned()), 1),
        ("queued".to_owned(), None, 0),
    ];
    for ((id, address), expected) in ids.iter().zip(&addresses).zip(expected) {
        assert_eq!(world.outcome(id).await, expected, "{name}: {address}");
        assert_eq!(world.ses.ledger().entries_to(address).len(), 1, "{name}: requests for {address}");
    }
    let uncounted = "SELECT coalesce(max(uncounted_attempt_count), 0)::bigint FROM harkara.deliveries";
    assert!(world.count(uncounted).await <= 1, "{name}: what is written twice counts once");
    // The throttle has slowed the account down, and the next round is not about that.
    pass(world, Duration::from_secs(60)).await;
    assert_eq!(world.outcome(&ids[2]).await, ("sent".to_owned(), None, 1), "{name}");
}

/// What each delivery's audit tells: every state once.
async fn assert_audited_once(world: &World) {
    let repeated = "SELECT count(*) FROM (
                        SELECT FROM harkara.audit_log
                        WHERE table_name = 'deliveries' AND new_values ->> 'state' IN ('sent', 'failed')
                        GROUP BY row_key HAVING count(*) <> 1
                    ) repeated";
    assert_eq!(world.count(repeated).await, 0);
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_29_a_failover_before_the_record_commits_is_outlived_by_recording_again(admin: PgPool) {
    let mut world = World::begin(admin).await;
    let burst = Burst::start(Before::Postgres, world.database_address(), &json!([])).await;
    world.reach_database_by("processor", burst.address()).await;
    let faults = [
        ("57p01", json!({"code": "57P01", "severity": "FATAL", "message": "terminating connection"})),
        ("25006", json!({"code": "25006", "severity": "ERROR", "message": "read-only transaction"})),
    ];
    for (name, error) in faults {
        let fired = burst.fired().len();
        burst.set_rules(&json!([{"sql": RECORD, "times": 1, "error": error}]));
        assert_recorded_once(&world, name).await;
        assert_eq!(burst.fired().len(), fired + 1, "{name}");
    }
    assert_audited_once(&world).await;
    let figures = world.finish().await;
    assert_eq!((figures.sent, figures.failed, figures.unknown, figures.provider_accepted), (4, 2, 0, 4));
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_29_a_record_that_commits_without_an_answer_is_recorded_again_to_no_effect(admin: PgPool) {
    let mut world = World::begin(admin).await;
    let wire = Wire::before(world.database_address()).await.expect("a port is free");
    world.reach_database_by("processor", wire.address()).await;
    let faults = [
        ("lost", WireFault::LoseReply),
        ("57p01", WireFault::FatalAfter("57P01")),
        ("25006", WireFault::FatalAfter("25006")),
        ("reset", WireFault::ResetBefore),
    ];
    for (index, (name, fault)) in faults.into_iter().enumerate() {
        wire.arm(RECORD, fault, 1);
        assert_recorded_once(&world, name).await;
        assert_eq!(wire.met_count(), index + 1, "{name}");
    }
    assert_audited_once(&world).await;
    let figures = world.finish().await;
    assert_eq!((figures.sent, figures.failed, figures.unknown, figures.provider_accepted), (8, 4, 0, 8));
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_30_a_kill_after_the_record_brings_the_message_back_to_a_delivery_that_has_ended(admin: PgPool) {
    let mut world = World::begin_with_failpoints(admin).await;
    for point in ["P10_recorded", "P11_hide", "P12_reply"] {
        let address = format!("{}@example.org", &point[..3]);
        world.strike(point, Strike::Kill);
        let id = world.post(&World::greeting(&address)).await.id();
        let delivered = world.deliver().await;
        assert!(matches!(delivered.verdict, Verdict::Failure(_)), "{point}: {delivered:?}");
        assert_eq!(world.outcome(&id).await, ("sent".to_owned(), None, 1), "{point}");
        assert_eq!(world.sqs.waiting(DELIVERIES).len(), 1, "{point}");

        world.advance(Duration::from_secs(180)).await;
        let again = world.deliver().await;
        assert_eq!((again.received, again.verdict), (delivered.received, Verdict::Success), "{point}");
        assert!(world.sqs.waiting(DELIVERIES).is_empty(), "{point}");
        assert_eq!(world.ses.ledger().entries_to(&address).len(), 1, "{point}");
        assert_eq!(world.outcome(&id).await, ("sent".to_owned(), None, 1), "{point}");
    }
    let figures = world.finish().await;
    assert_eq!((figures.sent, figures.provider_calls, figures.attempts), (3, 3, 3));
}
