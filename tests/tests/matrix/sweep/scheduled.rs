//! The points of what schedules do, one test for each kind of work: a run is struck at every one of them in every way, the
//! next run finishes what it left, and everything is there once.

use crate::due::{Work, name_of};
use sqlx::PgPool;
use tests::strict::{DELIVERIES, Strike, World};

async fn sweep(admin: PgPool, work: Work) {
    let mut world = World::begin_with_failpoints(admin).await;
    work.furnish(&world).await;
    for (point, _) in work.points() {
        println!("{point}:");
        for strike in Strike::FAULTS {
            let cell = format!("{point} {strike:?}");
            let name = name_of(&cell);
            work.make_due(&world, std::slice::from_ref(&name)).await;
            world.strike(point, strike);
            // It fails, or its answer is lost, or it passes over what failed; the next tick comes anyway.
            let _ = world.tick(work.function()).await;
            let struck = world.trail().iter().any(|arrival| arrival.point == *point && arrival.strike == Some(strike));
            assert!(struck, "{cell}: nobody came there");
            world.advance(work.patience()).await;
            world.tick(work.function()).await.expect("without faults it does its work");
            let took = world.settle().await;
            work.expect_once(&world, &name, &cell).await;
            assert!(world.sqs.waiting(DELIVERIES).is_empty(), "{cell}");
            println!("  {cell}: once, at rest after {} s", took.as_secs());
        }
    }
    let figures = world.check().await;
    assert_eq!((figures.lost, figures.duplicates_undeclared), (0, 0));
}

macro_rules! works {
    ($($name:ident: $work:ident;)+) => {$(
        #[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
        async fn $name(admin: PgPool) {
            sweep(admin, Work::$work).await;
        }
    )+};
}

works! {
    every_fault_at_each_point_of_a_digest_closes_it_once: Digest;
    every_fault_at_each_point_of_a_digests_round_closes_it_once: Round;
    every_fault_at_each_point_of_a_reminder_fires_its_rung_once: Reminder;
    every_fault_at_each_point_of_an_overdue_deadline_begins_one_escalation: Overdue;
    every_fault_at_each_point_of_an_escalation_fires_its_step_once: Escalation;
    every_fault_at_each_point_of_a_batchs_close_makes_one_message: Batch;
    every_fault_at_each_point_of_a_debounces_close_makes_one_message: Debounce;
    every_fault_at_each_point_of_the_sql_door_makes_one_notification: Door;
    every_fault_at_each_point_of_a_domains_job_makes_one_notification_of_a_candidate: Candidates;
}
