//! The functions as they act: each like the flow of the same name, with the simulated outside in place of the real one.

mod dead_letter;
mod dispatcher;
mod enqueue;
mod feedback;
mod people;
mod processor;

pub(super) use dead_letter::store_dead_letters;
pub(super) use dispatcher::dispatch_due;
pub(super) use enqueue::ask;
pub(super) use feedback::{hear_feedback, reconcile_list};
pub(super) use people::act;
pub(super) use processor::process_batch;
