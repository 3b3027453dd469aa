//! A local Lambda Runtime API: runs a function's release binary as Lambda would and hands it events.
//!
//! Cast: a [`Function`], which is one execution environment (one child process, one event at a time), and whoever
//! invokes it. Concurrency is several functions, as in Lambda.
//!
//! Flow: bind a port, start the binary with a cleared environment plus Lambda's own variables and the given ones, wait
//! until it asks for its first event, then pass events and answers through until it is dropped.
//!
//! Guarantees:
//! - The child does not outlive its [`Function`].
//! - An invocation ends with an answer or with the reason why there is none: the handler's error, the deadline (the child
//!   is killed then, as Lambda does), or the end of the process with the last lines that it wrote.
//!
//! It needs Linux (`/proc`) for the memory figures, and knows no extensions, no response streaming and no SnapStart.

mod child;
mod function;
mod routes;

pub use function::{Function, FunctionError};
