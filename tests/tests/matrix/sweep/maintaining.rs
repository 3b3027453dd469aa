//! The points of maintenance: whatever it is struck by, what is to go goes whole, and what is to stay stays.

use crate::due::{Work, address, put_recipient};
use jiff::SignedDuration;
use serde_json::json;
use sqlx::PgPool;
use std::time::Duration;
use tests::TENANT;
use tests::strict::{Strike, Wire, WireFault, World};

/// Longer than the lease of maintenance.
const LEASE: Duration = Duration::from_secs(16 * 60);

/// Notifications, and what belongs to them.
const HISTORY: &str = "SELECT (SELECT count(*) FROM harkara.deliveries) + (SELECT count(*) FROM harkara.attempts)
                            + (SELECT count(*) FROM harkara.notifications)";

/// A tenant that keeps what has ended for a day, and somebody whose mails go nowhere: the provider's ledger is to be whole
/// in the end, so nothing that it has heard of is deleted.
async fn furnish(world: &World) {
    Work::Door.furnish(world).await;
    let settings = json!({"retention": {"default_days": 1}}).to_string();
    assert_eq!(world.call(TENANT, "PUT /v1/settings", None, &settings).await.status, 200);
}

/// Three that have ended and been kept for long enough.
async fn age_three(world: &mut World, cell: &str) {
    put_recipient(world, "nobody", &json!({"email": address("nobody"), "time_zone": "UTC"})).await;
    for _ in 0..3 {
        let request =
            json!({"category": "greeting", "recipient": {"id": "nobody"}, "data": {"name": "Ada"}, "sandbox": true});
        crate::due::ask_at_door(&world.admin, &request).await;
    }
    world.dispatch().await.expect("dispatched");
    world.settle().await;
    assert_eq!(world.mails_to(&address("nobody")), 0);
    world.move_to(world.now().await + SignedDuration::from_hours(2 * 24)).await;
    assert!(world.count(HISTORY).await >= 6, "{cell}: there is what is to go");
}

async fn maintain_again(world: &mut World, cell: &str) {
    world.advance(LEASE).await;
    world.tick("maintenance").await.expect("without faults it does its work");
    assert_eq!(world.count(HISTORY).await, 0, "{cell}: all of it is gone, and with it what belongs to it");
    let took = world.settle().await;
    println!("  {cell}: gone, at rest after {} s", took.as_secs());
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_fault_at_each_point_of_maintenance_deletes_whole_or_not_at_all(admin: PgPool) {
    let mut world = World::begin_with_failpoints(admin).await;
    furnish(&world).await;
    for point in ["M1_tick", "M2_deleted", "M3_months"] {
        println!("{point}:");
        for strike in Strike::FAULTS {
            let cell = format!("{point} {strike:?}");
            age_three(&mut world, &cell).await;
            world.strike(point, strike);
            let _ = world.tick("maintenance").await;
            let struck = world.trail().iter().any(|arrival| arrival.point == point && arrival.strike == Some(strike));
            assert!(struck, "{cell}: nobody came there");
            maintain_again(&mut world, &cell).await;
        }
    }
    world.check().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_fault_while_a_deletion_is_under_way_deletes_whole_or_not_at_all(admin: PgPool) {
    let mut world = World::begin_with_failpoints(admin).await;
    furnish(&world).await;
    let wire = Wire::before(world.database_address()).await.expect("a port is free");
    world.reach_database_by("maintenance", wire.address()).await;
    println!("M2, under way:");
    let faults =
        [WireFault::ResetBefore, WireFault::LoseReply, WireFault::FatalBefore("57P01"), WireFault::FatalAfter("57P01")];
    for fault in faults {
        let cell = format!("M2 {fault:?}");
        age_three(&mut world, &cell).await;
        let met = wire.met_count();
        wire.arm("keep_retention", fault, 1);
        let _ = world.tick("maintenance").await;
        assert_eq!(wire.met_count(), met + 1, "{cell}: nobody came there");
        maintain_again(&mut world, &cell).await;
    }
    world.check().await;
}
