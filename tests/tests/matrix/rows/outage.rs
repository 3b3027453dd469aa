//! Row 49: Postgres goes away for a minute in the middle of everything, and comes back.
//!
//! The server is this test's own and is really stopped, in the middle of whatever it does. It stays down for a few
//! seconds, and the rest of the minute is moved time; `HARKARA_OUTAGE_SECONDS=60` lets all of it pass.

mod server;

use std::cell::{Cell, RefCell};
use std::time::Duration;

use serde_json::{Value, json};
use server::Server;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tests::Answer;
use tests::strict::{Verdict, World};

/// How long the database is away.
const OUTAGE: Duration = Duration::from_secs(60);
/// How long the backlog may take after its return.
const DRAIN_MAX: u64 = 120;
/// How far time is moved at once while the backlog drains.
const STEP: u64 = 5;
/// Callers side by side.
const CALLERS: usize = 3;
/// How often each of them asks.
const PERIOD: Duration = Duration::from_millis(60);
/// Mails out before the database goes: by then everything is under way.
const MAILS_BEFORE: usize = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Before,
    /// It is being stopped: some of it may answer yet.
    Going,
    Down,
    /// It is being started: it may answer already.
    Coming,
    Back,
    Over,
}

/// A request of the load, between which phases it was under way, and its answer.
struct Call {
    key: String,
    body: Value,
    from: Phase,
    to: Phase,
    answer: Answer,
}

/// What the workers met while the database was away.
#[derive(Debug, Default)]
struct Failures {
    batches: usize,
    ticks: usize,
}

#[tokio::test]
async fn row_49_a_minute_without_postgres_under_load_loses_nothing_and_the_backlog_drains_in_two_minutes() {
    let mut server = Server::start();
    let admin = connect(&server).await;
    adapters::store::migrations::MIGRATOR.run(&admin).await.expect("migrated");
    let mut world = World::begin(admin).await;
    // Who was refused for a minute asks again all at once, and here that is to go through.
    world.lift_limits().await;
    // A backlog, so that nobody is idle when it happens.
    for first in [0, 100, 200] {
        let bodies: Vec<Value> = (first..first + 100).map(|number| greeting("backlog", number)).collect();
        assert_eq!(world.post(&json!({"notifications": bodies})).await.status, 202);
    }

    let (phase, calls, failures) = (Cell::new(Phase::Before), RefCell::default(), RefCell::default());
    let callers = futures::future::join_all((0..CALLERS).map(|caller| call(&world, caller, &phase, &calls)));
    let outage = async {
        while world.ses.ledger().entries().len() < MAILS_BEFORE {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        phase.set(Phase::Going);
        server.stop().await;
        phase.set(Phase::Down);
        tokio::time::sleep(real_outage()).await;
        phase.set(Phase::Coming);
        server.start_again().await;
        phase.set(Phase::Back);
        // A while of load on the server that is back, too.
        tokio::time::sleep(Duration::from_millis(500)).await;
        phase.set(Phase::Over);
    };
    futures::join!(
        callers,
        work(&world, &phase, &failures),
        work(&world, &phase, &failures),
        tick(&world, &phase, &failures),
        outage,
    );

    let (calls, failures): (Vec<Call>, Failures) = (calls.into_inner(), failures.into_inner());
    judge_answers(&calls);
    assert!(failures.batches > 0 && failures.ticks > 0, "nobody was at work while the database was away: {failures:?}");
    println!("row 49: {failures:?} without a database for {} s", real_outage().as_secs_f64());
    for call in calls.iter().filter(|call| call.answer.status != 202) {
        assert_eq!(world.post_until_answered(&call.key, &call.body).await.status, 202);
    }

    // The rest of the minute. The queues' clock stood still meanwhile, so what failed comes back later than it would.
    world.advance(OUTAGE.saturating_sub(real_outage())).await;
    let drained = drain(&world).await;
    println!("row 49: the backlog drained {drained} s after the database's return");

    let recovery = world.settle().await;
    println!("row 49: everything was settled after {} s, windows for unknown outcomes included", recovery.as_secs());
    let figures = world.check().await;
    println!("row 49: {figures:?}");
    assert_eq!((figures.lost, figures.duplicates_undeclared, figures.dead), (0, 0, 0));
    assert_eq!(figures.accepted, 300 + 2 * calls.len() as u64);
    world.admin.close().await;
}

async fn connect(server: &Server) -> PgPool {
    PgPoolOptions::new().max_connections(5).connect(&server.url()).await.expect("connected")
}

/// How long the server is really down.
fn real_outage() -> Duration {
    let seconds = std::env::var("HARKARA_OUTAGE_SECONDS").map_or(2, |text| text.parse().expect("a number of seconds"));
    Duration::from_secs(seconds)
}

/// A request for a mail. Some go to addresses where something happens, so that outcomes of every kind are in flight.
fn greeting(whose: &str, number: usize) -> Value {
    let address = match number % 25 {
        3 => format!("lost+1--{whose}{number}@simulator.harkara.test"),
        7 => format!("fail+1--{whose}{number}@simulator.harkara.test"),
        11 => format!("unavailable+1--{whose}{number}@simulator.harkara.test"),
        14..=19 => format!("slow+150--{whose}{number}@simulator.harkara.test"),
        _ => format!("{whose}{number}@example.org"),
    };
    World::greeting(&address)
}

/// Asks all the time, whatever the answers are.
async fn call(world: &World, caller: usize, phase: &Cell<Phase>, calls: &RefCell<Vec<Call>>) {
    let mut clock = tokio::time::interval(PERIOD);
    for number in 0.. {
        clock.tick().await;
        let from = phase.get();
        if from == Phase::Over {
            return;
        }
        let key = format!("caller-{caller}-{number}");
        let whose = format!("caller{caller}");
        let body = json!({"notifications": [greeting(&whose, 2 * number), greeting(&whose, 2 * number + 1)]});
        let answer = world.post_with_key(&key, &body).await;
        calls.borrow_mut().push(Call { key, body, from, to: phase.get(), answer });
    }
}

/// Polls the queue all the time.
async fn work(world: &World, phase: &Cell<Phase>, failures: &RefCell<Failures>) {
    while phase.get() != Phase::Over {
        let delivered = world.deliver().await;
        if phase.get() == Phase::Down {
            let deletes_nothing = match &delivered.verdict {
                Verdict::Partial(failed) => failed.len() == delivered.received.len(),
                Verdict::Failure(_) => true,
                Verdict::Success => false,
            };
            failures.borrow_mut().batches += usize::from(deletes_nothing);
        }
        if delivered.received.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Ticks more often than the minute has it, so that a tick meets every phase.
async fn tick(world: &World, phase: &Cell<Phase>, failures: &RefCell<Failures>) {
    let mut clock = tokio::time::interval(Duration::from_millis(400));
    while phase.get() != Phase::Over {
        clock.tick().await;
        if world.dispatch().await.is_err() {
            failures.borrow_mut().ticks += 1;
        }
    }
}

/// Who asks while the database is away hears that it is, and when to come again; nobody hears anything else.
fn judge_answers(calls: &[Call]) {
    let mut refused = 0;
    for Call { key, from, to, answer, .. } in calls {
        match (from, to) {
            (Phase::Down, Phase::Down) => {
                assert_eq!(answer.status, 503, "{key}: {answer:?}");
                refused += 1;
            }
            // A connection that died with the server is found out when it is used next.
            (Phase::Before, Phase::Before) | (Phase::Back | Phase::Over, _) => {
                assert_eq!(answer.status, 202, "{key}: {answer:?}");
            }
            // It was under way when the database went or came.
            _ => assert!(matches!(answer.status, 202 | 503), "{key}: {answer:?}"),
        }
        if answer.status == 503 {
            let seconds = answer.headers["retry-after"].as_str().and_then(|text| text.parse::<u32>().ok());
            assert!(seconds.is_some(), "{key} was not told when to come again: {answer:?}");
        }
    }
    assert!(refused > 0, "nobody asked while the database was away");
}

/// Lets time pass and runs what runs by itself, with the dispatcher's tick at the end of each minute, until nothing is
/// left to do. What nobody knows is not backlog: it waits for feedback, for as long as its category says.
async fn drain(world: &World) -> u64 {
    let mut waited = 0;
    loop {
        world.deliver_all().await;
        world.collect_dead_letters().await;
        let open = world
            .count("SELECT count(*) FROM harkara.deliveries WHERE due_at IS NOT NULL AND state <> 'unknown'")
            .await;
        if open == 0 {
            return waited;
        }
        assert!(waited < DRAIN_MAX, "{open} deliveries are still open {waited} s after the database's return");
        world.advance(Duration::from_secs(STEP)).await;
        waited += STEP;
        if waited.is_multiple_of(60) {
            world.dispatch().await.expect("the database is back");
        }
    }
}
