//! Rules about the code itself, each with its reason in the message. A rule that a machine holds needs no reviewer.
//!
//! Sources are read as Rust's tokens, so that neither a comment nor a text can break a rule, nor hide that one is broken.

mod files;
mod fuzz;
mod layers;
mod migrations;
mod privacy;
mod proof;
mod prose;
mod shells;
mod sources;
mod store;
mod words;
