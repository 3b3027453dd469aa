//! The outside of Harkara: Postgres, SQS, SES, EventBridge, tenants' endpoints, and the formats that callers see.
//!
//! Knows `domain`, whose ports it implements, and nobody else.

pub mod wire;

#[cfg(feature = "services")]
pub mod store;

#[cfg(feature = "services")]
pub mod bus;
#[cfg(feature = "services")]
pub mod endpoint;
#[cfg(feature = "services")]
pub mod kms;
#[cfg(feature = "services")]
pub mod ses;
#[cfg(feature = "services")]
pub mod ses_account;
#[cfg(feature = "services")]
pub mod sqs;

#[cfg(feature = "services")]
pub mod aws;
pub mod clock;
#[cfg(feature = "services")]
pub mod env;
#[cfg(feature = "services")]
pub mod envelope;
pub mod failpoint;
pub mod ids;
#[cfg(feature = "services")]
pub mod public_url;
#[cfg(feature = "services")]
mod secrets;
#[cfg(feature = "services")]
pub mod telemetry;
