//! Row 51: faults of every kind, drawn by a seed, on the real binaries. The simulator does the same with thousands of
//! seeds; `cargo local soak` runs both for as long as it is told.

use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use sqlx::PgPool;
use tests::TENANT;
use tests::strict::{DELIVERIES, FEEDBACK, SqsFault, Strike, Wire, WireFault, World};

/// Where a process can be struck.
const POINTS: [&str; 31] = [
    "E1_authenticated",
    "E2_begin",
    "E5_committed",
    "E6_publish",
    "E7_published",
    "E8_told",
    "E9_reply",
    "P1_batch",
    "P2_parsed",
    "P3_claim",
    "P4_claimed",
    "P5_rendered",
    "P6_send",
    "P8_answered",
    "P9_record",
    "P10_recorded",
    "P11_hide",
    "P12_reply",
    "S1_tick",
    "S2_taken",
    "S3_written",
    "S4_committed",
    "S5_publish",
    "S5_published",
    "S6_done",
    "V1_batch",
    "V2_taken",
    "V3_written",
    "V4_committed",
    "V5_reply",
    "D2_stored",
];

/// What SES does with a mail at first.
const ANSWERS: [&str; 13] = [
    "accept+1",
    "throttle+1",
    "busy+1",
    "fail+1",
    "unavailable+1",
    "lost+1",
    "reset+1",
    "truncated+1",
    "garbled+1",
    "empty+1",
    "reject",
    "quota+1",
    "paused+1",
];

/// What it tells of it afterwards.
const EVENTS: [&str; 8] =
    ["delivered", "bounce", "softbounce", "complaint.reversed", "delayed", "rejected", "silent", "delivered.twice"];

/// Statements of the functions, by words that are in no other.
const STATEMENTS: [&str; 3] = ["harkara.admit_sends", "COMMIT", "Claims whose answer was lost"];

/// Faults that wait for somebody at once, at most.
const MOST_FAULTS: usize = 40;

/// How long faults go on where nobody says otherwise.
const SECONDS: u64 = 20;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a whole number")))
}

/// Rounds of work until the time is up, each with faults of its own; then the world has to come to rest.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_51_random_faults_on_real_binaries_lose_nothing_and_repeat_nothing_silently(admin: PgPool) {
    let seed = variable("HARKARA_SOAK_SEED").unwrap_or_else(rand::random);
    println!("row 51: HARKARA_SOAK_SEED={seed} draws these faults again");
    let mut dice = SmallRng::seed_from_u64(seed);
    let mut world = World::begin_with_failpoints(admin).await;
    world.let_events_come();
    let category = json!({"class": "transactional", "template": "greeting", "unknown_policy": "at_most_once"});
    world.put(TENANT, "/v1/categories/{key}", "once", category).await;
    let wire = Wire::before(world.database_address()).await.expect("a port is free");
    for function in ["enqueue", "processor", "dispatcher", "feedback"] {
        world.reach_database_by(function, wire.address()).await;
    }

    let time = Duration::from_secs(variable("HARKARA_SOAK_SECONDS").unwrap_or(SECONDS));
    let began = Instant::now();
    let mut rounds = 0;
    while began.elapsed() < time {
        rounds += 1;
        for _ in 0..dice.random_range(0..3) {
            harm(&world, &wire, &mut dice);
        }
        post(&world, &mut dice, &format!("{seed} {rounds}")).await;
        act(&world, &mut dice).await;
        world.advance(Duration::from_secs(*[1, 10, 61, 200, 700].choose(&mut dice).expect("a list"))).await;
    }
    wire.disarm();
    let struck = world.trail().iter().filter(|arrival| arrival.strike.is_some()).count();
    assert!(struck > 0, "nobody was struck in {rounds} rounds");

    let figures = world.finish().await;
    println!("row 51: {rounds} rounds, {struck} processes struck, {figures:?}");
    assert_eq!((figures.lost, figures.duplicates_undeclared), (0, 0));
}

/// Something is going to go wrong, once.
fn harm(world: &World, wire: &Wire, dice: &mut SmallRng) {
    match dice.random_range(0..10) {
        0..4 => {
            let point = POINTS.choose(dice).expect("a list");
            world.strike(point, *Strike::FAULTS.choose(dice).expect("a list"));
        }
        4 | 5 => {
            let faults = [
                WireFault::ResetBefore,
                WireFault::FatalBefore("57P01"),
                WireFault::LoseReply,
                WireFault::FatalAfter("25006"),
            ];
            let statement = STATEMENTS.choose(dice).expect("a list");
            wire.arm(statement, *faults.choose(dice).expect("a list"), 1);
        }
        6 => {
            let faults = [
                SqsFault::Throttled,
                SqsFault::InternalError,
                SqsFault::Unavailable,
                SqsFault::LostRequest,
                SqsFault::LostReply,
            ];
            let action = ["SendMessageBatch", "ChangeMessageVisibilityBatch"].choose(dice).expect("a list");
            world.sqs.fail(action, *faults.choose(dice).expect("a list"), dice.random_range(1..3));
        }
        7 => world.sqs.refuse_entries(1),
        8 => world.sqs.deliver_twice([DELIVERIES, FEEDBACK].choose(dice).expect("a list")),
        _ => drop(world.sqs.undo_deletes([DELIVERIES, FEEDBACK].choose(dice).expect("a list"))),
    }
}

/// A caller asks until it is answered.
async fn post(world: &World, dice: &mut SmallRng, key: &str) {
    let notifications: Vec<Value> = (0..dice.random_range(1..6))
        .map(|number| {
            let (answer, event) = (ANSWERS.choose(dice).expect("a list"), EVENTS.choose(dice).expect("a list"));
            let tag = key.replace(' ', "-");
            let mut notification = World::greeting(&format!("{answer}.{event}--{tag}-{number}@simulator.harkara.test"));
            if dice.random_bool(0.3) {
                notification["category"] = json!("once");
            }
            notification
        })
        .collect();
    let body = json!({"notifications": notifications});
    // As many faults as may be armed at once can meet one request, one after the other.
    for _ in 0..MOST_FAULTS {
        let answer = world.post_with_key(key, &body).await;
        if answer.status < 500 {
            assert_eq!(answer.status, 202, "{answer:?}");
            return;
        }
    }
    panic!("{MOST_FAULTS} requests with the key {key} were not answered");
}

/// Workers do what there is to do, some at the same time.
async fn act(world: &World, dice: &mut SmallRng) {
    match dice.random_range(0..4) {
        0 => drop(futures::join!(world.deliver(), world.deliver(), world.hear())),
        1 => drop(futures::join!(world.deliver(), world.dispatch(), world.hear_all())),
        2 => drop(futures::join!(world.dispatch(), world.dispatch(), world.deliver())),
        _ => drop(futures::join!(world.deliver_all(), world.collect_dead_letters(), world.hear())),
    }
}
