//! When a delivery is tried again, and who wakes it.

use std::time::Duration;

/// The upper end of the first retry's delay; each further one doubles it.
const BASE: Duration = Duration::from_secs(10);
/// No retry waits longer.
const CEILING: Duration = Duration::from_secs(60 * 60);
/// No retry waits less, so that full jitter cannot mean "at once".
const FLOOR: Duration = Duration::from_secs(1);
/// The longest wait that a message spends hidden in the queue.
/// Hidden messages count as in flight, of which a queue holds about 120,000; longer waits are parked in the database.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html>
const LONGEST_HIDE: Duration = Duration::from_secs(5 * 60);
/// A message that comes this much too early is hidden again; an earlier one is left to the dispatcher.
pub const LONGEST_EARLY: Duration = Duration::from_secs(60);
/// How long after its time a delivery that nobody claimed is published once more.
const FIRST_REPUBLISH: Duration = Duration::from_secs(30);
/// How long a dead letter may take to be stored before its message is buried again.
const FIRST_REBURY: Duration = Duration::from_secs(60);
/// Republishing slows down to this, so that a long queue is not filled with copies.
const SLOWEST_REPUBLISH: Duration = Duration::from_secs(15 * 60);

/// A number from 0 to below 1 that spreads retries out; the shell draws it.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Jitter(f64);

impl Jitter {
    /// Takes any number; what lies outside 0..1 is brought inside.
    pub fn new(number: f64) -> Self {
        Self(if number.is_finite() { number.clamp(0.0, 1.0 - f64::EPSILON) } else { 0.0 })
    }

    fn of(self, whole: Duration) -> Duration {
        whole.mul_f64(self.0)
    }
}

/// The most that the `retry`th retry (from 1) waits: exponential, before jitter.
pub fn longest_backoff(retry: u32) -> Duration {
    let doublings = retry.saturating_sub(1).min(16);
    (BASE * 2u32.pow(doublings)).min(CEILING)
}

/// How long the `retry`th retry (from 1) waits: exponential with full jitter, in whole seconds.
/// Full jitter spreads a burst best: <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>
pub fn backoff(retry: u32, jitter: Jitter) -> Duration {
    whole_seconds(jitter.of(longest_backoff(retry)).max(FLOOR))
}

/// How long a held delivery waits: `least`, and up to half as much again, so that a whole account's work
/// does not come back in one moment.
pub fn hold(least: Duration, jitter: Jitter) -> Duration {
    whole_seconds(least + jitter.of(least / 2))
}

/// Who brings a waiting delivery back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Its message, hidden in the queue until then.
    Message,
    /// The dispatcher; the message is deleted.
    Dispatcher,
}

/// Short waits stay in the queue, where they end on the second; long ones are parked in the database.
pub fn wake_after(wait: Duration) -> Wake {
    if wait <= LONGEST_HIDE { Wake::Message } else { Wake::Dispatcher }
}

/// How long after its time a published delivery is published again if nobody claimed it.
/// `publish_count` is how often it has been published already.
pub fn republish_after(publish_count: u32) -> Duration {
    (FIRST_REPUBLISH * 2u32.pow(publish_count.saturating_sub(1).min(8))).min(SLOWEST_REPUBLISH)
}

/// How long after a dead delivery was buried it is buried again, if its dead letter has not been stored since.
/// `publish_count` is how often that has happened already.
pub fn rebury_after(publish_count: u32) -> Duration {
    (FIRST_REBURY * 2u32.pow(publish_count.min(8))).min(CEILING)
}

fn whole_seconds(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs() + u64::from(duration.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn backoff_doubles_up_to_its_ceiling() {
        let seconds: Vec<u64> = (1..=11).map(|retry| longest_backoff(retry).as_secs()).collect();
        assert_eq!(seconds, [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]);
        assert_eq!(longest_backoff(u32::MAX), CEILING);
    }

    #[test]
    fn five_minutes_wait_in_the_queue_and_more_in_the_database() {
        assert_eq!(wake_after(Duration::from_secs(300)), Wake::Message);
        assert_eq!(wake_after(Duration::from_secs(301)), Wake::Dispatcher);
    }

    #[test]
    fn republishing_slows_down() {
        let seconds: Vec<u64> = (0..=8).map(|count| republish_after(count).as_secs()).collect();
        assert_eq!(seconds, [30, 30, 60, 120, 240, 480, 900, 900, 900]);
    }

    proptest! {
        #[test]
        fn backoff_is_whole_seconds_between_its_bounds(retry in 0u32..100, number in any::<f64>()) {
            let wait = backoff(retry, Jitter::new(number));
            prop_assert!(wait >= FLOOR && wait <= longest_backoff(retry));
            prop_assert_eq!(wait.subsec_nanos(), 0);
        }

        #[test]
        fn whatever_the_number_no_jitter_is_more_than_the_whole(number in any::<f64>()) {
            let whole = Duration::from_secs(1_000);
            prop_assert!(Jitter::new(number).of(whole) <= whole);
        }

        #[test]
        fn no_retry_waits_less_for_more_jitter_and_the_most_jitter_waits_the_longest(
            retry in any::<u32>(), one in 0f64..1.0, other in 0f64..1.0,
        ) {
            let (less, more) = (one.min(other), one.max(other));
            prop_assert!(backoff(retry, Jitter::new(less)) <= backoff(retry, Jitter::new(more)));
            prop_assert_eq!(backoff(retry, Jitter::new(0.0)), FLOOR);
            prop_assert_eq!(backoff(retry, Jitter::new(1.0)), longest_backoff(retry));
        }

        #[test]
        fn what_is_repeated_more_often_is_repeated_no_sooner_and_within_its_bounds(count in 0u32..u32::MAX) {
            prop_assert!(longest_backoff(count) <= longest_backoff(count + 1) && longest_backoff(count) <= CEILING);
            prop_assert!(republish_after(count) <= republish_after(count + 1));
            prop_assert!((FIRST_REPUBLISH..=SLOWEST_REPUBLISH).contains(&republish_after(count)));
            prop_assert!(rebury_after(count) <= rebury_after(count + 1));
            prop_assert!((FIRST_REBURY..=CEILING).contains(&rebury_after(count)));
        }

        #[test]
        fn a_hold_is_at_least_what_it_says(least in 1u64..1000, number in 0f64..1.0) {
            let least = Duration::from_secs(least);
            let wait = hold(least, Jitter::new(number));
            prop_assert!(wait >= least && wait <= least * 3 / 2 + FLOOR);
        }
    }
}
