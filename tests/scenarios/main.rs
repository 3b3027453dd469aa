//! The five systems that the service has to run, each told once from end to end on the running stack.
//!
//! Each reads as the team that asked for it would tell it. Everything that is particular to a team is data, beside its
//! story: categories, templates, recipients, policies, deadlines. See [`cast`] for how time passes and mail is read.

mod cast;
mod jobs;

mod s0;
mod s1;
mod s1_jobs;
mod s2;
mod s3;
mod s4;
