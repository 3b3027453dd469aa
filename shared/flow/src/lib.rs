//! The use cases, one module for each function, of the same name: parse, decide, write. [`job`] is the frame of those that
//! a schedule starts.
//!
//! Knows `domain`, which decides, and `adapters`, which do. The functions know `flow` and hand it their events.

pub mod enqueue;

pub mod processor;

pub mod dispatcher;

pub mod digest;
pub mod domain_job;
pub mod escalation;
pub mod reminder;

pub mod dead_letter;

pub mod feedback;

pub mod maintenance;

pub mod api;

pub mod migrate;

pub mod job;

mod collections;
mod creation;
mod door;
mod job_alert;
mod links;
mod message;
mod outbox;
pub mod progress;
mod request;
mod stranded;
pub mod template_cache;
mod time_left;
