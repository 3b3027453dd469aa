//! The points of whoever starts an escalation, acknowledges it, or presses its link: each is struck in every way, whoever
//! asked asks again, and it has happened once.

use crate::due::{LEASE, address, name_of, put_policy, put_recipient};
use crate::rows::answers::{
    ACKNOWLEDGE, begin_escalation, expect_acknowledged, press_until_answered, put_links, tokens_of,
};
use serde_json::json;
use sqlx::PgPool;
use tests::strict::{Strike, World};

/// What is asked for.
#[derive(Clone, Copy, Debug)]
enum Ask {
    /// An escalation whose first step fires at once.
    Start,
    /// An acknowledgement by the API.
    Acknowledge,
    /// An acknowledgement by the link in the mail.
    Press,
}

async fn sweep(admin: PgPool, ask: Ask, points: &[&str]) {
    let mut world = World::begin_with_failpoints(admin).await;
    world.lift_limits().await;
    put_links(&world).await;
    for point in points {
        println!("{point}, {ask:?}:");
        for strike in Strike::FAULTS {
            let cell = format!("{ask:?} {point} {strike:?}");
            let name = name_of(&cell);
            match ask {
                Ask::Start => {
                    put_recipient(&world, &name, &json!({"email": address(&name)})).await;
                    put_policy(&world, &name, json!([{"recipients": [name]}])).await;
                    world.strike(point, strike);
                    let body = json!({"policy": name, "data": {"name": "Ada"}});
                    let answer = world.call_until_answered("POST /v1/escalations", None, &cell, &body).await;
                    assert_eq!(answer.status, 200, "{cell}: {answer:?}");
                }
                Ask::Acknowledge => {
                    let id = begin_escalation(&world, &name).await;
                    world.strike(point, strike);
                    let answer = world.call_until_answered(ACKNOWLEDGE, Some(&id), &cell, &json!({})).await;
                    assert_eq!((answer.status, &answer.body["is_first"]), (200, &json!(true)), "{cell}: {answer:?}");
                    expect_acknowledged(&world, &name, &id, &cell).await;
                }
                Ask::Press => {
                    let id = begin_escalation(&world, &name).await;
                    let [token, _] = tokens_of(&world, &name);
                    world.strike(point, strike);
                    let status = press_until_answered(&world, &token).await;
                    assert!(matches!(status, 200 | 410), "{cell}: {status}");
                    expect_acknowledged(&world, &name, &id, &cell).await;
                }
            }
            let struck = world.trail().iter().any(|arrival| arrival.point == *point && arrival.strike == Some(strike));
            assert!(struck, "{cell}: nobody came there");
            world.advance(LEASE).await;
            world.tick("escalation").await.expect("it does its work");
            let took = world.settle().await;
            assert_eq!(world.mails_to(&address(&name)), 1, "{cell}");
            println!("  {cell}: once, at rest after {} s", took.as_secs());
        }
    }
    let started: i64 = world.count("SELECT count(*) FROM harkara.escalations").await;
    assert_eq!(started, (points.len() * Strike::FAULTS.len()) as i64, "each once");
    let figures = world.check().await;
    assert_eq!((figures.lost, figures.duplicates_undeclared), (0, 0));
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_fault_at_each_point_of_starting_starts_one_escalation(admin: PgPool) {
    let points = ["A1_started", "X3_created", "A2_answered", "A3_committed", "A4_published"];
    sweep(admin, Ask::Start, &points).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_fault_at_each_point_of_acknowledging_acknowledges_once(admin: PgPool) {
    sweep(admin, Ask::Acknowledge, &["A1_acknowledged", "A2_answered", "A3_committed", "A4_published"]).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_fault_at_each_point_of_a_link_that_acts_acts_once(admin: PgPool) {
    sweep(admin, Ask::Press, &["L1_used", "L2_acted", "L3_committed"]).await;
}
