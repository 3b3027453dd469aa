//! The harness: the flows on a real Postgres, with doubles at the provider's edge only.
//!
//! A test begins a [`Stage`], acts through the product's own flows, moves time with [`Stage::pass`], and ends with
//! [`Stage::finish`], which fails where work was left behind. A stage that is dropped without it fails too.

mod doubles;
mod stage;

pub use doubles::{RecordingBus, RecordingQueue, ScriptedMailSender};
pub use stage::{Answer, OTHER_TENANT, Stage, TENANT, database_of};
