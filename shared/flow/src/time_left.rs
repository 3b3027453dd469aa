//! When a scheduled flow begins nothing new any more.

use std::time::{Duration, Instant};

/// The least time for one more batch: a transaction of up to a thousand rows, and the publishing of what it made.
const RESERVE: Duration = Duration::from_secs(10);

/// Whether there is time for one more batch before `deadline`.
pub(crate) fn has_time(deadline: Instant) -> bool {
    deadline.saturating_duration_since(Instant::now()) > RESERVE
}
