//! Every integration test, in one binary. Each test has a database of its own.

mod action_links;
mod addresses;
mod admission;
mod admission_step;
mod api;
mod attachments;
mod audit;
mod batches;
mod database;
mod dead_letter;
mod debounces;
mod decisions;
mod digest;
mod dispatcher;
mod domain_job;
mod enqueue;
mod escalation;
mod feedback;
mod jobs;
mod limits;
mod link_keys;
mod links;
mod maintenance;
mod migrate;
mod openapi;
mod pages_in_a_browser;
mod privacy;
mod processor;
mod protocol;
mod readme;
mod recipients;
mod reminder;
mod routes;
mod sql_door;
mod stranded;
mod suppressions;
mod templates;
mod timeouts;
mod withdrawals;

mod fixtures;
mod stack;

mod catalog;
mod tidy;

mod project;
