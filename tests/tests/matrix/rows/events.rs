//! Rows 39 to 41: what SES tells of mails, on the function's own binary and its own queue: twice, in any order, forged,
//! not at all, and while its worker is struck down.

use std::time::Duration;

use serde_json::json;
use sqlx::PgPool;
use tests::OTHER_TENANT;
use tests::strict::{FEEDBACK, FEEDBACK_DEAD_LETTERS, Strike, Wire, WireFault, World};

const SUPPRESSIONS: &str = "SELECT count(*) FROM harkara.suppressions";

/// Sends one mail, and returns its notification.
async fn send(world: &World, address: &str) -> String {
    let id = world.post(&World::greeting(address)).await.id();
    world.deliver_all().await;
    id
}

async fn state_of(world: &World, id: &str) -> String {
    world.outcome(id).await.0
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_39_events_that_come_twice_and_backwards_and_forged_among_them_change_what_they_should(admin: PgPool) {
    let mut world = World::begin(admin).await;
    let complained = send(&world, "complaint--a@simulator.harkara.test").await;
    let delivered = send(&world, "delivered--b@simulator.harkara.test").await;
    let events = world.ses.events().events();
    assert!(events.len() >= 5, "{events:?}");
    for event in events.iter().rev() {
        world.tell(&event.event_bridge);
        world.tell(&event.sns);
        let mut forged = event.event_bridge.clone();
        forged["detail"]["mail"]["tags"]["t"] = json!([OTHER_TENANT]);
        world.tell(&forged);
    }
    world.sqs.put(FEEDBACK, "this is no event").expect("SQS takes any text");
    world.hear_all().await;
    assert_eq!(state_of(&world, &complained).await, "complained");
    assert_eq!(state_of(&world, &delivered).await, "delivered");
    assert_eq!(world.count(SUPPRESSIONS).await, 1, "the complainer's, for the one tenant");
    let ignored = world.output().iter().filter(|line| line.contains("feedback_ignored")).count();
    assert_eq!(ignored, events.len(), "each forged one is counted");
    let figures = world.finish().await;
    assert_eq!((figures.complained, figures.delivered), (1, 1));
    assert_eq!(world.sqs.waiting(FEEDBACK_DEAD_LETTERS).len(), 1, "what nobody could read waits for people");
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_40_without_any_event_a_mail_stays_sent_and_the_bounce_is_found_on_the_providers_list(admin: PgPool) {
    let mut world = World::begin(admin).await;
    let address = "bounce--gone@simulator.harkara.test";
    let bounced = send(&world, address).await;
    let fine = send(&world, "delivered--b@simulator.harkara.test").await;
    world.advance(Duration::from_secs(24 * 60 * 60)).await;
    world.dispatch().await.expect("dispatched");
    world.deliver_all().await;
    assert_eq!((state_of(&world, &bounced).await, state_of(&world, &fine).await), ("sent".into(), "sent".into()));
    let found = world.reconcile().await.expect("compared");
    assert_eq!((&found["added"], &found["is_complete"]), (&json!(1), &json!(true)));
    let next = send(&world, address).await;
    assert_eq!(world.outcome(&next).await, ("skipped".to_owned(), Some("address_suppressed".to_owned()), 0));
    let figures = world.finish().await;
    assert_eq!((figures.provider_accepted, figures.skipped), (2, 1));
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_41_events_whose_commit_is_not_heard_of_or_whose_worker_dies_are_applied_once(admin: PgPool) {
    let mut world = World::begin_with_failpoints(admin).await;
    let wire = Wire::before(world.database_address()).await.expect("a port is free");
    world.reach_database_by("feedback", wire.address()).await;
    world.let_events_come();
    for (number, strike) in [None, Some(Strike::Kill), Some(Strike::Timeout)].into_iter().enumerate() {
        let id = send(&world, &format!("bounce--{number}@simulator.harkara.test")).await;
        match strike {
            None => wire.arm("COMMIT", WireFault::LoseReply, 1),
            Some(strike) => world.strike("V4_committed", strike),
        }
        world.hear().await;
        assert_eq!(state_of(&world, &id).await, "bounced", "it had been committed");
    }
    let audited = "SELECT count(*) FROM harkara.audit_log
                   WHERE table_name = 'deliveries' AND new_values ->> 'state' = 'bounced'";
    let figures = world.finish().await;
    assert_eq!((figures.bounced, world.count(audited).await, world.count(SUPPRESSIONS).await), (3, 3, 3));
}
