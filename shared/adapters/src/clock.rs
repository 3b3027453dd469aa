//! The sandbox's clock, for deadlines only: what is due, leased or expired is the database's to say.

use std::time::{Duration, Instant, SystemTime};

/// The moment at which an invocation's time is up, on the clock that never steps.
pub fn instant_of(deadline: SystemTime) -> Instant {
    Instant::now() + deadline.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO)
}
