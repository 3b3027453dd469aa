//! Postgres. Every function takes a tenant's transaction or names the tenant, except those whose name says that they
//! cross tenants.

mod iam_token;

pub mod claims;
pub mod database;
pub mod dead_letters;
pub mod due_deliveries;
pub mod enqueue;
pub mod feedback;
pub mod idempotency;
pub mod keys;
pub mod managed;
pub mod migrations;
pub mod notifications;
