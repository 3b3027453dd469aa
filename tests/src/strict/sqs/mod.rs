//! A stand-in for Amazon SQS that is as strict as SQS and misbehaves on request.
//!
//! Cast: functions that call it over HTTP with the SDK, the event source mapping that receives and deletes for them,
//! and a test that looks, moves the time and asks for faults.
//!
//! Strict: the limits of every request, what a handle of an earlier receive may do, what of a batch fails for itself,
//! twelve hours of hiding at most, messages in flight, and when a message is given up to the dead-letter queue.
//! Misbehaving as AWS may: a message twice, in any order, or again after it was deleted ([`Sqs::deliver_twice`],
//! [`Sqs::set_order`], [`Sqs::undo_deletes`]); calls that fail in every way ([`Sqs::fail`]); nobody there ([`Sqs::shut`]).
//!
//! Its time is a [`Clock`](super::Clock), so that nothing waits.

mod actions;
mod fault;
mod queue;
mod refusal;
mod server;

pub use fault::SqsFault;
pub use queue::{Order, QueueSetup, Received, Waiting};
pub use refusal::Refused;
pub use server::Sqs;

#[cfg(test)]
mod tests;
