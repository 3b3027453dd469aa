//! The crash matrix: every place where a run can break, and every way, each with a name that says what holds all the same.
//!
//! [`rows`] has the named cells, [`sweep`] every point with every fault, [`registry`] sees that no row lacks its test.

mod calls;
mod due;
mod rows;

mod sweep;

mod registry;
mod release;
