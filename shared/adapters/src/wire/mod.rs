//! The outside formats: what API Gateway, SQS and EventBridge hand over, and what callers read and write.
//!
//! Each has types of its own here. Domain types are parsed from them and never carry serde.

pub mod access;
pub mod attachments;
#[cfg(feature = "services")]
pub mod audit;
pub mod calendar;
pub mod categories;
mod collections;
#[cfg(feature = "services")]
pub mod consents;
pub mod deadlines;
pub mod domain_jobs;
#[cfg(feature = "services")]
pub mod door_requests;
#[cfg(feature = "services")]
pub mod escalation_policies;
#[cfg(feature = "services")]
pub mod escalations;
pub mod fields;
pub mod form;
pub mod http;
pub mod job_event;
#[cfg(feature = "services")]
pub mod jobs;
#[cfg(feature = "services")]
pub mod limits;
pub mod notification_request;
#[cfg(feature = "services")]
pub mod openapi;
pub mod pages;
pub mod preferences;
#[cfg(feature = "services")]
pub mod previews;
pub mod problem;
pub mod queue_message;
pub mod recipients;
pub mod routes;
pub mod ses_event;
#[cfg(feature = "services")]
pub mod settings;
pub mod sqs_event;
#[cfg(feature = "services")]
pub mod suppressions;
pub mod templates;
#[cfg(feature = "services")]
pub mod views;
