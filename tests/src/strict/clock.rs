//! The time that the stand-ins keep: it stands still until a test moves it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// A clock that only tests move; clones show the same time.
#[derive(Clone, Debug)]
pub struct Clock {
    began_at: Timestamp,
    passed: Arc<Mutex<Duration>>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { began_at: Timestamp::now(), passed: Arc::default() }
    }
}

impl Clock {
    /// Time since the clock was made.
    pub fn now(&self) -> Duration {
        *self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the time.
    pub fn advance(&self, time: Duration) {
        *self.passed.lock().unwrap_or_else(PoisonError::into_inner) += time;
    }

    /// A moment of this clock in milliseconds since 1970, as AWS prints times.
    pub fn epoch_millis(&self, moment: Duration) -> i64 {
        let moment = SignedDuration::try_from(moment).unwrap_or(SignedDuration::MAX);
        self.began_at.saturating_add(moment).map_or(0, |at| at.as_millisecond())
    }
}
