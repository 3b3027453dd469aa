//! The use cases, one module for each function, of the same name: parse, decide, write.
//!
//! Knows `domain`, which decides, and `adapters`, which do. The functions know `flow` and hand it their events.

pub mod enqueue;

pub mod processor;

pub mod dispatcher;

pub mod digest;

pub mod dead_letter;

pub mod feedback;

pub mod maintenance;

pub mod api;

pub mod migrate;

mod creation;
mod door;
mod links;
mod message;
mod outbox;
mod request;
pub mod template_cache;
