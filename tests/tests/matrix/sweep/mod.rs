//! Every crash point, and at each of them every fault: kill, panic, timeout, error, and an answer that is lost.
//!
//! A point in the code is struck there ([`at_points`]). Where a request is under way to Postgres, SQS or SES, the process
//! only waits, so it cannot panic there; the other four are made by whoever was to answer ([`in_flight`]).
//!
//! What schedules do is swept by the kind of work ([`scheduled`]), and what calls a domain apart ([`calling`]).
//!
//! Each cell is work of its own: something is asked for, the fault strikes, the world settles, and its history is held to
//! the invariants. The callers repeat what was not answered; deliveries of both policies for an unknown outcome are in
//! each batch.

mod answering;
mod at_points;
mod calling;
mod in_flight;
mod maintaining;
mod scheduled;

use serde_json::{Value, json};
use std::time::Duration;
use tests::TENANT;
use tests::strict::{DELIVERIES, Strike, World};

/// The category that sends again after an unknown outcome, and the one that does not.
const POLICIES: [&str; 2] = ["greeting", "once"];

/// Adds the category whose deliveries are never sent twice, whatever happens.
async fn add_policy(world: &World) {
    let category = json!({"class": "transactional", "template": "greeting", "unknown_policy": "at_most_once"});
    world.put(TENANT, "/v1/categories/{key}", "once", category).await;
}

/// A request for one mail of each policy. The addresses tell what was sent for which cell.
fn request(cell: &str) -> Value {
    let cell = cell.to_lowercase().replace(' ', "-");
    let notification = |category: &&str| {
        let mut notification = World::greeting(&format!("{cell}.{category}@example.org"));
        notification["category"] = json!(category);
        notification
    };
    json!({"notifications": POLICIES.iter().map(notification).collect::<Vec<_>>()})
}

/// Requests that the dispatcher has to publish, because nobody did.
async fn leave_unpublished(world: &World, cell: &str) {
    world.strike("E5_committed", Strike::Kill);
    let answer = world.post_with_key(&format!("key {cell}"), &request(cell)).await;
    assert_eq!(answer.status, 500, "{cell}");
    world.advance(Duration::from_secs(60)).await;
}

/// What a cell came to, for the list that a sweep prints.
async fn settle(world: &mut World, cell: &str) {
    let took = world.settle().await;
    let cell_name = cell.to_lowercase().replace(' ', "-");
    let mails = POLICIES.map(|category| world.mails_to(&format!("{cell_name}.{category}@example.org")));
    assert!(mails[1] <= 1, "{cell}: at_most_once was sent {} times", mails[1]);
    assert!(world.sqs.waiting(DELIVERIES).is_empty(), "{cell}");
    println!("  {cell}: {} and {} mails, at rest after {} s", mails[0], mails[1], took.as_secs());
}
