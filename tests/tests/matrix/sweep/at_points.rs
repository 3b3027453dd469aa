//! The points in the code, one test each.

use super::{add_policy, leave_unpublished, request, settle};
use sqlx::PgPool;
use std::time::Duration;
use tests::strict::{DELIVERIES, Strike, World};

/// What brings a function to its points.
#[derive(Clone, Copy, Debug)]
enum Work {
    /// A caller's request.
    Request,
    /// A batch of messages.
    Batch,
    /// A batch in which SES is too busy, so that messages are hidden.
    BusyBatch,
    /// The dispatcher's tick, with something to publish.
    Tick,
    /// A dead letter.
    DeadLetter,
    /// What SES tells of two mails of which nobody knows whether they were taken.
    Feedback,
}

async fn sweep(admin: PgPool, point: &str, work: Work) {
    let mut world = World::begin_with_failpoints(admin).await;
    add_policy(&world).await;
    println!("{point}:");
    for strike in Strike::FAULTS {
        let cell = format!("{point} {strike:?}");
        let key = format!("key {cell}");
        match work {
            Work::Request => {
                world.strike(point, strike);
                world.post_until_answered(&key, &request(&cell)).await;
            }
            Work::Batch | Work::BusyBatch => {
                world.post_until_answered(&key, &request(&cell)).await;
                if matches!(work, Work::BusyBatch) {
                    for address in addresses(&cell) {
                        world.ses.script(&address, vec![local::ses::Fault::Busy]).expect("an address");
                    }
                }
                world.strike(point, strike);
                world.deliver().await;
            }
            Work::Tick => {
                leave_unpublished(&world, &cell).await;
                world.strike(point, strike);
                // It fails, or its answer is lost; the next minute comes anyway.
                let _ = world.dispatch().await;
                // A sandbox that panicked lives on and holds its locks, until the server loses its patience with it.
                world.advance(Duration::from_secs(10)).await;
            }
            Work::DeadLetter => {
                world.sqs.put(DELIVERIES, &cell).expect("SQS takes any text");
                world.deliver().await;
                world.strike(point, strike);
                world.collect_dead_letters().await;
            }
            Work::Feedback => {
                world.let_events_come();
                for address in addresses(&cell) {
                    world.ses.script(&address, vec![local::ses::Fault::Lost]).expect("an address");
                }
                world.post_until_answered(&key, &request(&cell)).await;
                world.deliver().await;
                world.strike(point, strike);
                world.hear_all().await;
                world.advance(Duration::from_secs(10)).await;
            }
        }
        let struck = world.trail().iter().any(|arrival| arrival.point == point && arrival.strike == Some(strike));
        assert!(struck, "{cell}: nobody came there");
        settle(&mut world, &cell).await;
    }
    let figures = world.check().await;
    assert_eq!((figures.lost, figures.duplicates_undeclared), (0, 0));
}

fn addresses(cell: &str) -> Vec<String> {
    let request = request(cell);
    let list = request["notifications"].as_array().expect("a list");
    list.iter().map(|it| it["recipient"]["email"].as_str().expect("an address").to_owned()).collect()
}

macro_rules! points {
    ($($name:ident: $point:literal, $work:ident;)+) => {$(
        #[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
        async fn $name(admin: PgPool) {
            sweep(admin, $point, Work::$work).await;
        }
    )+};
}

points! {
    every_fault_at_e1_authenticated_loses_nothing: "E1_authenticated", Request;
    every_fault_at_e2_begin_loses_nothing: "E2_begin", Request;
    every_fault_at_e5_committed_loses_nothing: "E5_committed", Request;
    every_fault_at_e6_publish_loses_nothing: "E6_publish", Request;
    every_fault_at_e7_published_loses_nothing: "E7_published", Request;
    every_fault_at_e8_told_loses_nothing: "E8_told", Request;
    every_fault_at_e9_reply_loses_nothing: "E9_reply", Request;
    every_fault_at_p1_batch_loses_nothing: "P1_batch", Batch;
    every_fault_at_p2_parsed_loses_nothing: "P2_parsed", Batch;
    every_fault_at_p3_claim_loses_nothing: "P3_claim", Batch;
    every_fault_at_p4_claimed_loses_nothing: "P4_claimed", Batch;
    every_fault_at_p5_rendered_loses_nothing: "P5_rendered", Batch;
    every_fault_at_p6_send_loses_nothing: "P6_send", Batch;
    every_fault_at_p8_answered_loses_nothing: "P8_answered", Batch;
    every_fault_at_p9_record_loses_nothing: "P9_record", Batch;
    every_fault_at_p10_recorded_loses_nothing: "P10_recorded", Batch;
    every_fault_at_p11_hide_loses_nothing: "P11_hide", BusyBatch;
    every_fault_at_p12_reply_loses_nothing: "P12_reply", Batch;
    every_fault_at_s1_tick_loses_nothing: "S1_tick", Tick;
    every_fault_at_s2_taken_loses_nothing: "S2_taken", Tick;
    every_fault_at_s3_written_loses_nothing: "S3_written", Tick;
    every_fault_at_s4_committed_loses_nothing: "S4_committed", Tick;
    every_fault_at_s5_publish_loses_nothing: "S5_publish", Tick;
    every_fault_at_s5_published_loses_nothing: "S5_published", Tick;
    every_fault_at_s6_done_loses_nothing: "S6_done", Tick;
    every_fault_at_v1_batch_loses_nothing: "V1_batch", Feedback;
    every_fault_at_v2_taken_loses_nothing: "V2_taken", Feedback;
    every_fault_at_v3_written_loses_nothing: "V3_written", Feedback;
    every_fault_at_v4_committed_loses_nothing: "V4_committed", Feedback;
    every_fault_at_v5_reply_loses_nothing: "V5_reply", Feedback;
    every_fault_at_d1_batch_loses_nothing: "D1_batch", DeadLetter;
    every_fault_at_d2_stored_loses_nothing: "D2_stored", DeadLetter;
}
