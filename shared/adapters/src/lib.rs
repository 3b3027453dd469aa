//! The outside of Harkara: Postgres, SQS, SES, EventBridge, and the formats that callers see.
//!
//! Knows `domain`, whose ports it implements, and nobody else.

pub mod wire;

pub mod store;

pub mod bus;
pub mod ses;
pub mod sqs;

pub mod aws;
pub mod clock;
pub mod env;
pub mod ids;
mod secrets;
pub mod telemetry;
