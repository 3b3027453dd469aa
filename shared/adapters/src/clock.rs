//! The sandbox's clock, for deadlines only: what is due, leased or expired is the database's to say.

use std::time::{Duration, Instant, SystemTime};

/// The moment at which an invocation's time is up, on the clock that never steps. `timeout` is the function's own.
///
/// Lambda tells the deadline by a wall clock, and that of the sandbox may be off. No invocation begins with its time
/// over, or with more of it than the function has: who reads that has a clock that cannot be believed.
pub fn instant_of(deadline: SystemTime, timeout: Duration) -> Instant {
    Instant::now() + time_left(deadline, SystemTime::now(), timeout)
}

fn time_left(deadline: SystemTime, now: SystemTime, timeout: Duration) -> Duration {
    let left = deadline.duration_since(now).ok();
    left.filter(|left| !left.is_zero() && *left <= timeout).unwrap_or(timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_cannot_be_right_is_not_believed() {
        let (now, timeout) = (SystemTime::now(), Duration::from_secs(30));
        let day = Duration::from_secs(24 * 60 * 60);
        for (deadline, left) in [
            (now + Duration::from_secs(29), 29),
            (now + Duration::from_secs(9), 9),
            (now, 30),
            (now + timeout - day, 30),
            (now + timeout + day, 30),
        ] {
            assert_eq!(time_left(deadline, now, timeout), Duration::from_secs(left));
        }
    }
}
