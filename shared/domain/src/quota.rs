//! A tenant's notifications of a day: the day is UTC's, so that everybody's ends at one time and no change of a clock
//! makes one longer.

use jiff::Timestamp;

/// Seconds in a day of UTC.
const DAY: i64 = 24 * 60 * 60;

/// Whole seconds until the next day of UTC begins, when a quota that is used up is whole again; at least 1.
pub fn seconds_to_next_day(now: Timestamp) -> u32 {
    let passed = now.as_second().rem_euclid(DAY);
    u32::try_from(DAY - passed).expect("a day has less than four billion seconds")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_ends_at_midnight_utc() {
        for (now, seconds) in [
            ("2026-11-21T00:00:00Z", 86_400),
            ("2026-11-21T23:59:59.999Z", 1),
            ("2026-11-21T12:00:00+05:30", 63_000),
            ("1969-12-31T23:00:00Z", 3_600),
        ] {
            assert_eq!(seconds_to_next_day(now.parse().expect("a time")), seconds, "{now}");
        }
    }
}
