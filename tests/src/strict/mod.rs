//! The strict harness: the functions' own binaries, driven as Lambda drives them, among stand-ins that are as strict as
//! AWS where emulators are lax.
//!
//! Cast: the binaries, each in sandboxes behind the Runtime API; [`Sqs`], SES (`local::ses`) and [`Bus`] over HTTP; the
//! event source mapping between queue and function ([`read_verdict`]); a Postgres of the test's own; and the test,
//! which acts as callers, as AWS and as misfortune. Nothing waits: the test moves the time of the queues and of the
//! database together ([`World::advance`]).
//!
//! ```no_run
//! # use sqlx::PgPool; use std::time::Duration; use tests::strict::{Strike, World};
//! // #[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
//! async fn a_kill_between_commit_and_publish_loses_nothing(admin: PgPool) {
//!     let mut world = World::begin_with_failpoints(admin).await;
//!
//!     // The process is killed where its transaction has just been committed; the caller gets API Gateway's 500.
//!     world.strike("E5_committed", Strike::Kill);
//!     let answer = world.post(&World::greeting("ada@example.org")).await;
//!     assert_eq!(answer.status, 500);
//!     assert_eq!(world.sqs.sent_count("deliveries"), 0);
//!
//!     // Within a minute the dispatcher publishes what nobody published.
//!     world.advance(Duration::from_secs(60)).await;
//!     world.dispatch().await.expect("dispatched");
//!     world.deliver_all().await;
//!     assert_eq!(world.mails_to("ada@example.org"), 1);
//!
//!     // Faults end, everything runs until nothing is left to do, and the history is held to I1 to I16.
//!     world.finish().await;
//! }
//! ```
//!
//! Faults, from the inside out:
//! - at a point of the code, by name: [`World::strike`] (the points are where `failpoint!` stands);
//! - in SQS: [`Sqs::fail`], [`Sqs::refuse_entries`], [`Sqs::shut`], [`Sqs::deliver_twice`], [`Sqs::undo_deletes`];
//! - in SES: `world.ses.script(address, faults)`, or an address of its simulator;
//! - before Postgres: [`Wire`], by the statement, and [`Burst`], with [`World::reach_database_by`];
//! - on the bus: [`Bus::fail`], [`Bus::refuse_entries`], [`Bus::shut`].
//!
//! Rules: each test has its own database and shares nothing; it ends with [`World::finish`] or [`World::check`], without
//! which it fails; it never sleeps.

mod binaries;
mod burst;
mod bus;
mod clock;
mod database;
mod door;
mod hearing;
mod history;
mod kms;
mod mapping;
mod points;
mod sandboxes;
mod schedule;
mod sqs;
mod wire;
mod world;

pub use binaries::{Build, failpoints_binary, functions, release_binary, require_binaries};
pub use burst::{Before, Burst};
pub use bus::{Bus, BusEvent};
pub use clock::Clock;
pub use kms::{KEY_ARN, Kms};
pub use mapping::{Verdict, read_verdict};
pub use points::{Arrival, Strike};
pub use sqs::{Order, QueueSetup, Received, Refused, Sqs, SqsFault, Waiting};
pub use wire::{Wire, WireFault};
pub use world::{DEAD_LETTERS, DELIVERIES, Delivered, FEEDBACK, FEEDBACK_DEAD_LETTERS, World};
