//! The points of a domain's job that calls: a run is struck at every one of them in every way, and what it was to call is
//! called once, or told again in the same message.

use crate::calls::{Callee, Domain, ends_of, names_of};
use crate::due::{HOUR, LEASE};
use sqlx::PgPool;
use tests::strict::{Strike, World};

/// On the way of a call of a function. What it does and that the run has ended last together.
const FUNCTION: &[&str] = &["J1_tick", "J2_taken", "J3_begun", "J4_called", "J8_ended", "J9_done"];
/// On the way of a call of an endpoint.
const ENDPOINT: &[&str] = &["J1_tick", "J2_taken", "J3_begun", "J4_signed", "J5_answered", "J8_ended", "J9_done"];

/// Whether an endpoint may hear a run again that was struck so: it had answered, and that was not yet on record.
fn may_be_repeated(point: &str, strike: Strike) -> bool {
    match point {
        "J5_answered" => !matches!(strike, Strike::LoseAnswer | Strike::Error),
        "J8_ended" => strike != Strike::LoseAnswer,
        _ => false,
    }
}

async fn sweep(admin: PgPool, callee: Callee, points: &[&str]) {
    let mut world = World::begin_with_failpoints(admin).await;
    let mut domain = Domain::furnish(&mut world, callee).await;
    for point in points {
        println!("{point}:");
        for strike in Strike::FAULTS {
            let cell = format!("{point} {strike:?}");
            let names = names_of(&cell, 1);
            let name = names[0].as_str();
            domain.make_due(&world, &names).await;
            world.strike(point, strike);
            let _ = world.tick("domain_job").await;
            let struck = world.trail().iter().any(|arrival| arrival.point == *point && arrival.strike == Some(strike));
            assert!(struck, "{cell}: nobody came there");
            world.advance(LEASE).await;
            world.tick("domain_job").await.expect("without faults it does its work");
            // What failed in words is over, and the schedule's next time comes. Whatever else happened is made up for.
            let is_over = ends_of(&world, name).await[0] == "failed";
            assert_eq!(is_over, *point == "J4_signed" && strike == Strike::Error, "{cell}");
            if is_over {
                world.advance(HOUR).await;
                world.tick("domain_job").await.expect("without faults it does its work");
            }
            let ends = ends_of(&world, name).await;
            assert_eq!(ends.iter().filter(|end| *end == "succeeded").count(), 1, "{cell}: {ends:?}");
            assert_eq!(domain.count(&world, name).await, 1, "{cell}");
            if callee == Callee::Endpoint {
                let times = if may_be_repeated(point, strike) { 2 } else { 1 };
                assert_eq!(domain.told(name).len(), times, "{cell}: {ends:?}");
            }
            println!("  {cell}: {ends:?}");
        }
    }
    world.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_fault_at_each_point_of_a_call_of_a_function_calls_it_once(admin: PgPool) {
    sweep(admin, Callee::Function, FUNCTION).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_fault_at_each_point_of_a_call_of_an_endpoint_tells_it_one_message(admin: PgPool) {
    sweep(admin, Callee::Endpoint, ENDPOINT).await;
}
