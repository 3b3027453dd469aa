//! The proof: what must hold whatever fails, checked over histories of any run.
//!
//! Read in this order: [`history`] is what happened in a run, wherever it ran; [`check`] holds it to the invariants I1 to I16
//! and counts the published figures; [`protocol`] is what the store's statements do to one delivery, as a pure step that
//! takes every decision from `domain`; [`admission`] is what the claim asks before it sends; [`simulator`] runs many
//! workers over that step in a world that fails; [`model`] runs two workers over it in every possible order.
//!
//! Everything here is pure but for the binary: no database, no network, no clock.

pub mod history;

pub mod check;

pub mod protocol;

pub mod admission;

pub mod simulator;

pub mod model;
