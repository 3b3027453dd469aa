//! The harnesses: [`Stage`] has the flows on a real Postgres, with doubles at the provider's edge only; [`strict`] has the
//! functions' own binaries among stand-ins that are as strict as AWS, and faults of every kind; [`running`] is the stack
//! that `cargo local` runs.
//!
//! A test begins a [`Stage`], acts through the product's own flows, moves time with [`Stage::pass`], and ends with
//! [`Stage::finish`], which fails where work was left behind. A stage that is dropped without it fails too.

mod ask;
mod clock;
pub mod contract;
mod doubles;
pub mod endpoint_server;
mod exchange;
mod key_service;
mod page;
pub mod privacy;
pub mod running;
mod stage;
mod stored;
pub mod strict;
mod wait;

pub use ask::Ask;
pub use clock::{mend_time, move_time_to, shift_time};
pub use doubles::{RecordingBus, RecordingQueue, ScriptedAccount, ScriptedMailSender};
pub use exchange::Exchange;
pub use key_service::ScriptedKeyService;
pub use page::{Page, ask_page};
pub use stage::{Answer, OTHER_TENANT, Stage, TENANT, database_of, database_within};
pub use stored::{read_call, read_stored};
pub use wait::{see, see_count, see_wait};
