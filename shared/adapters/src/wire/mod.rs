//! The outside formats: what API Gateway, SQS and EventBridge hand over, and what callers read and write.
//!
//! Each has types of its own here. Domain types are parsed from them and never carry serde.

pub mod fields;
pub mod http;
pub mod managed;
pub mod notification_request;
pub mod pages;
pub mod problem;
pub mod queue_message;
pub mod routes;
pub mod ses_event;
pub mod sqs_event;
#[cfg(feature = "services")]
pub mod views;
