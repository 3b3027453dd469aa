//! The rows of the matrix, by what they strike.

pub(crate) mod answers;
mod calls;
mod enqueue;
mod events;
mod half_way;
mod outage;
mod processor;
mod provider_is_silent;
mod provider_refuses;
mod queue_misbehaves;
mod record_fails;
mod rolling;
mod schedule;
mod soak;
mod suppression;
mod ticks;
mod time_runs_out;
mod unknown;
