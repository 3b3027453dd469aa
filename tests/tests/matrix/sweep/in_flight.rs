//! The points at which a request is under way: to Postgres, to SQS, to SES.

use super::{add_policy, leave_unpublished, request, settle};
use local::ses::Fault;
use sqlx::PgPool;
use std::time::Duration;
use tests::strict::{DELIVERIES, SqsFault, Wire, WireFault, World};

/// How long a process may take to come to where it is struck.
const LIMIT: Duration = Duration::from_secs(20);

/// What happens to the process while its request is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    /// Nothing: the answer alone is the fault.
    Spared,
    /// SIGKILL.
    Kill,
    /// Its time ends.
    Timeout,
}

impl Blow {
    fn strike(self, world: &World, function: &str) {
        match self {
            Self::Spared => {}
            Self::Kill => world.kill_at_work(function),
            Self::Timeout => world.time_out_at_work(function),
        }
    }
}

/// Each way in which a statement's answer can fail to come.
const STATEMENT: [(&str, WireFault, Blow); 6] = [
    ("kill", WireFault::HoldReply, Blow::Kill),
    ("timeout", WireFault::HoldReply, Blow::Timeout),
    ("error before", WireFault::FatalBefore("57P01"), Blow::Spared),
    ("error after", WireFault::FatalAfter("57P01"), Blow::Spared),
    ("lost request", WireFault::ResetBefore, Blow::Spared),
    ("lost reply", WireFault::LoseReply, Blow::Spared),
];

/// Each way in which SQS's answer can fail to come; how often, because the client tries twice.
const CALL: [(&str, SqsFault, usize, Blow); 6] = [
    ("kill", SqsFault::NoReply, 1, Blow::Kill),
    ("timeout", SqsFault::NoReply, 1, Blow::Timeout),
    ("error", SqsFault::InternalError, 2, Blow::Spared),
    ("throttled", SqsFault::Throttled, 2, Blow::Spared),
    ("lost request", SqsFault::LostRequest, 2, Blow::Spared),
    ("lost reply", SqsFault::LostReply, 2, Blow::Spared),
];

/// Each way in which SES's answer can fail to come.
const SEND: [(&str, Fault, Blow); 10] = [
    ("kill", Fault::Hang, Blow::Kill),
    ("timeout", Fault::Hang, Blow::Timeout),
    ("error", Fault::Fail, Blow::Spared),
    ("unavailable", Fault::Unavailable, Blow::Spared),
    ("throttled", Fault::Throttle, Blow::Spared),
    ("lost reply", Fault::Lost, Blow::Spared),
    ("reset", Fault::Reset, Blow::Spared),
    ("truncated", Fault::Truncated, Blow::Spared),
    ("garbled", Fault::Garbled, Blow::Spared),
    ("empty", Fault::Empty, Blow::Spared),
];

/// Asks for the two mails of a cell and does whatever brings them to `function`.
async fn work(world: &World, function: &str, cell: &str) {
    match function {
        "enqueue" => drop(world.post_until_answered(&format!("key {cell}"), &request(cell)).await),
        "processor" => drop(world.deliver().await),
        // It fails, or not; the next minute comes anyway.
        "dispatcher" => drop(world.dispatch().await),
        "feedback" => drop(world.hear_all().await),
        other => panic!("no work for {other}"),
    }
}

/// What has to be there before the function works.
async fn prepare(world: &World, function: &str, cell: &str) {
    match function {
        "processor" => drop(world.post_until_answered(&format!("key {cell}"), &request(cell)).await),
        "dispatcher" => leave_unpublished(world, cell).await,
        "feedback" => {
            world.let_events_come();
            world.post_until_answered(&format!("key {cell}"), &request(cell)).await;
            world.deliver().await;
        }
        _ => {}
    }
}

async fn finish(mut world: World) {
    let figures = world.check().await;
    assert_eq!((figures.lost, figures.duplicates_undeclared), (0, 0));
}

async fn sweep_statement(admin: PgPool, point: &str, function: &str, needle: &str) {
    let mut world = World::begin_with_failpoints(admin).await;
    add_policy(&world).await;
    let wire = Wire::before(world.database_address()).await.expect("a port is free");
    world.reach_database_by(function, wire.address()).await;
    println!("{point}, under way:");
    for (name, fault, blow) in STATEMENT {
        let cell = format!("{point} {name}");
        prepare(&world, function, &cell).await;
        let met = wire.met_count();
        wire.arm(needle, fault, 1);
        futures::join!(work(&world, function, &cell), async {
            assert!(wire.wait_until_met(met + 1, LIMIT).await, "{cell}: nobody came there");
            if blow != Blow::Spared {
                wire.wait_until_held().await;
            }
            blow.strike(&world, function);
        });
        settle(&mut world, &cell).await;
    }
    finish(world).await;
}

async fn sweep_call(admin: PgPool, point: &str, function: &str, action: &str) {
    let mut world = World::begin_with_failpoints(admin).await;
    add_policy(&world).await;
    println!("{point}, under way:");
    for (name, fault, times, blow) in CALL {
        let cell = format!("{point} {name}");
        prepare(&world, function, &cell).await;
        if action.starts_with("Change") {
            let request = request(&cell);
            for notification in request["notifications"].as_array().expect("a list") {
                let address = notification["recipient"]["email"].as_str().expect("an address");
                world.ses.script(address, vec![Fault::Busy]).expect("an address");
            }
        }
        let called = world.sqs.calls().iter().filter(|call| *call == action).count();
        world.sqs.fail(action, fault, times);
        futures::join!(work(&world, function, &cell), async {
            assert!(world.sqs.wait_for_calls(action, called + 1, LIMIT).await, "{cell}: nobody came there");
            blow.strike(&world, function);
        });
        settle(&mut world, &cell).await;
    }
    finish(world).await;
}

async fn sweep_send(admin: PgPool) {
    let mut world = World::begin_with_failpoints(admin).await;
    add_policy(&world).await;
    println!("P7, under way:");
    for (name, fault, blow) in SEND {
        let cell = format!("P7 {name}");
        prepare(&world, "processor", &cell).await;
        let request = request(&cell);
        for notification in request["notifications"].as_array().expect("a list") {
            let address = notification["recipient"]["email"].as_str().expect("an address");
            world.ses.script(address, vec![fault]).expect("an address");
        }
        let asked = world.ses.ledger().entries().len();
        futures::join!(work(&world, "processor", &cell), async {
            let both = |entries: &[local::ses::LedgerEntry]| entries.len() >= asked + 2;
            assert!(world.ses.ledger().wait_for(LIMIT, both).await, "{cell}: nobody came there");
            blow.strike(&world, "processor");
        });
        settle(&mut world, &cell).await;
    }
    finish(world).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_fault_at_e4_while_the_commit_is_under_way_loses_nothing(admin: PgPool) {
    sweep_statement(admin, "E4", "enqueue", "accept_notifications").await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_fault_at_p3_while_the_claim_is_under_way_loses_nothing(admin: PgPool) {
    sweep_statement(admin, "P3", "processor", "What the batch of messages asks for").await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_fault_at_p9_while_the_record_is_under_way_loses_nothing(admin: PgPool) {
    sweep_statement(admin, "P9", "processor", "What the batch came to").await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_fault_at_s4_while_the_commit_is_under_way_loses_nothing(admin: PgPool) {
    sweep_statement(admin, "S4", "dispatcher", "COMMIT").await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_fault_at_v3_while_the_commit_is_under_way_loses_nothing(admin: PgPool) {
    sweep_statement(admin, "V3", "feedback", "COMMIT").await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_fault_at_e6_while_the_publish_is_under_way_loses_nothing(admin: PgPool) {
    sweep_call(admin, "E6", "enqueue", "SendMessageBatch").await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_fault_at_s5_while_the_publish_is_under_way_loses_nothing(admin: PgPool) {
    sweep_call(admin, "S5", "dispatcher", "SendMessageBatch").await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_fault_at_p11_while_messages_are_being_hidden_loses_nothing(admin: PgPool) {
    sweep_call(admin, "P11", "processor", "ChangeMessageVisibilityBatch").await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_fault_at_p7_while_the_mail_is_under_way_loses_nothing(admin: PgPool) {
    sweep_send(admin).await;
}

/// The mapping deletes after the answer. Where it dies before, or its deletes do not last, everything comes again.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_fault_at_p13_when_deletes_do_not_last_sends_nothing_again(admin: PgPool) {
    let mut world = World::begin(admin).await;
    for round in 0..3 {
        let cell = format!("P13 {round}");
        world.post_until_answered(&cell, &World::greeting(&format!("{round}@example.org"))).await;
        world.deliver_all().await;
        assert!(world.sqs.undo_deletes(DELIVERIES) > 0);
        world.deliver_all().await;
        world.settle().await;
        assert_eq!(world.mails_to(&format!("{round}@example.org")), 1);
    }
    world.check().await;
}
