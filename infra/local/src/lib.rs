//! The local stack: everything that AWS runs for the project, on loopback.
//!
//! [`up`] brings it up and [`demo`] shows it: [`python`] fetches Postgres, Node and the emulator; [`functions`] builds
//! and zips; [`deploy`] deploys `template.yaml` as it is; [`serve`] holds the stack's own servers, which are the
//! [`issuer`] of tokens, the strict stand-in for SES ([`ses`]), the [`gate`] before SQS and the [`front`] of the API.
//! [`runtime_api`] is for tests and benches that drive one function without the emulator.
//!
//! Everything listens on 127.0.0.1 only, and everything fetched or recorded is under `.local/`.

pub mod audit;
pub mod contract;
pub mod demo;
pub mod fuzz;
pub mod lint;
pub mod logs;
pub mod mutants;
pub mod openapi;
pub mod proof;
pub mod sql;
pub mod testing;
pub mod token;
pub mod up;

pub mod aws;
pub mod cargo_tool;
pub mod clock;
pub mod deploy;
pub mod emulator;
pub mod functions;
pub mod mailbox;
pub mod npm;
pub mod postgres;
pub mod python;
pub mod seed;

pub mod front;
pub mod gate;
pub mod issuer;
pub mod runtime_api;
pub mod serve;
pub mod ses;

pub mod stack;
pub mod state;

pub mod failure;
pub mod fingerprint;
pub mod interrupt;
pub mod process;
pub mod progress;
pub mod project;
