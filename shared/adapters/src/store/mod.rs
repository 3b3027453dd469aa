//! Postgres. Every function takes a tenant's transaction or names the tenant, except those whose name says that they
//! cross tenants.

mod claim_row;
mod decisions;
mod iam_token;

pub mod action_links;
pub mod attachments;
pub mod attempts;
pub mod audit;
pub mod categories;
pub mod claims;
pub mod collected_pages;
pub mod collections;
pub mod consents;
pub mod contents;
pub mod database;
pub mod dead_letters;
pub mod deadlines;
pub mod digest_rounds;
pub mod digests;
pub mod door;
pub mod due_deliveries;
mod due_tenants;
pub mod enqueue;
pub mod escalation_policies;
pub mod escalation_steps;
pub mod escalations;
pub mod feedback;
pub mod idempotency;
pub mod job_runs;
pub mod keys;
pub mod limits;
pub mod memberships;
pub mod migrations;
pub mod notifications;
pub mod overdue;
pub mod preferences;
pub mod recipients;
pub mod retention;
pub mod rungs;
pub mod settings;
pub mod stranded;
pub mod subjects;
pub mod suppressions;
pub mod templates;
pub mod tenants;
