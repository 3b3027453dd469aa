//! When, how long, and in whose time zone, as callers write it.

use std::fmt;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

pub(crate) const DAY: u64 = 86_400;
pub(crate) const HOUR: u64 = 3_600;
pub(crate) const MINUTE: u64 = 60;

/// The longest window: a leap year.
pub(crate) const MAX_WINDOW: u64 = 366 * DAY;

/// A length of time that a caller asked for: whole seconds, more than none, at most 366 days.
///
/// Written as an ISO 8601 duration of days, hours, minutes and seconds.
/// A day is 24 hours: a window counts elapsed time and knows no zone.
/// One length has several spellings (`PT24H`, `P1D`); `Display` prints the one with the largest units.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    seconds: u32,
}

/// Says why a text is not a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowError {
    /// The text is not an ISO 8601 duration of whole days, hours, minutes and seconds.
    Form,
    /// The text has years, months or weeks.
    Calendar,
    /// The window has no length.
    Zero,
    /// The window is longer than 366 days.
    TooLong,
}

impl fmt::Display for WindowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "not an ISO 8601 duration such as PT5M, PT24H or P1D",
            Self::Calendar => "a duration must not have years, months or weeks: count in days",
            Self::Zero => "a duration must be longer than zero",
            Self::TooLong => "a duration may have at most 366 days",
        })
    }
}

impl std::error::Error for WindowError {}

impl Window {
    /// Makes a window of whole seconds.
    ///
    /// # Errors
    ///
    /// When there are none, or more than 366 days of them.
    pub fn from_seconds(seconds: u64) -> Result<Self, WindowError> {
        if seconds == 0 {
            return Err(WindowError::Zero);
        }
        if seconds > MAX_WINDOW {
            return Err(WindowError::TooLong);
        }
        let seconds = u32::try_from(seconds).map_err(|_| WindowError::TooLong)?;
        Ok(Self { seconds })
    }

    /// Reads an ISO 8601 duration in upper case, without sign and fractions: `P1D`, `PT5M`, `P1DT2H30M`.
    ///
    /// # Errors
    ///
    /// When the text is none, or none that a window can be.
    pub fn parse(text: &str) -> Result<Self, WindowError> {
        let (days, seconds) = parse_duration(text)?;
        Self::from_seconds(days.saturating_mul(DAY).saturating_add(seconds))
    }

    /// How long the window is, in seconds.
    pub fn seconds(self) -> u32 {
        self.seconds
    }

    /// How long the window is, to add to a moment.
    pub fn as_duration(self) -> SignedDuration {
        SignedDuration::from_secs(i64::from(self.seconds))
    }
}

/// Reads an ISO 8601 duration as its days, and the seconds of the rest.
pub(crate) fn parse_duration(text: &str) -> Result<(u64, u64), WindowError> {
    let rest = text.strip_prefix('P').ok_or(WindowError::Form)?;
    let (date, time) = match rest.split_once('T') {
        None => (rest, None),
        Some((date, time)) => (date, Some(time)),
    };
    if date.is_empty() && time.is_none() || time == Some("") {
        return Err(WindowError::Form);
    }
    let calendar = ['Y', 'M', 'W'];
    if date.ends_with(calendar) || date.contains(calendar) && date.ends_with('D') {
        return Err(WindowError::Calendar);
    }
    let seconds = sum_units(time.unwrap_or_default(), &[('H', HOUR), ('M', MINUTE), ('S', 1)])?;
    Ok((sum_units(date, &[('D', 1)])?, seconds))
}

/// Adds up numbers with their units, which must come in the given order and each at most once.
fn sum_units(text: &str, units: &[(char, u64)]) -> Result<u64, WindowError> {
    let mut units = units.iter();
    let mut rest = text;
    let mut sum = 0_u64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).filter(|&end| end > 0).ok_or(WindowError::Form)?;
        let (number, after) = rest.split_at(end);
        let mut characters = after.chars();
        let letter = characters.next().ok_or(WindowError::Form)?;
        let (_, length) = units.find(|(unit, _)| *unit == letter).ok_or(WindowError::Form)?;
        // Only digits are left, so what does not fit is too long.
        let number: u64 = number.parse().map_err(|_| WindowError::TooLong)?;
        sum = sum.saturating_add(number.saturating_mul(*length));
        rest = characters.as_str();
    }
    Ok(sum)
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("P")?;
        let seconds = u64::from(self.seconds);
        if seconds >= DAY {
            write!(f, "{}D", seconds / DAY)?;
        }
        if seconds % DAY > 0 {
            f.write_str("T")?;
        }
        for (count, unit) in [(seconds % DAY / HOUR, 'H'), (seconds % HOUR / MINUTE, 'M'), (seconds % MINUTE, 'S')] {
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Says why a text is not a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampError {
    /// The text is not RFC 3339 with an offset.
    Form,
    /// The text is, but there is no such day or time, or it lies outside the years 0 to 9999.
    NoSuchMoment,
}

impl fmt::Display for TimestampError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "not an RFC 3339 date and time with an offset, such as 2026-11-22T03:30:00Z",
            Self::NoSuchMoment => "there is no such date and time",
        })
    }
}

impl std::error::Error for TimestampError {}

/// Reads a moment in RFC 3339: date, time with seconds, up to nine digits of fraction, and an offset.
///
/// # Errors
///
/// When the text has another form, or names a moment that does not exist.
/// `jiff` alone would also take week dates, missing seconds and zone names in brackets.
pub fn parse_timestamp(text: &str) -> Result<Timestamp, TimestampError> {
    if !is_rfc3339(text.as_bytes()) {
        return Err(TimestampError::Form);
    }
    let moment: Timestamp = text.parse().map_err(|_| TimestampError::NoSuchMoment)?;
    // As Postgres keeps it: what is compared here has to compare alike there.
    Timestamp::from_microsecond(moment.as_microsecond()).map_err(|_| TimestampError::NoSuchMoment)
}

fn is_rfc3339(text: &[u8]) -> bool {
    let Some((moment, rest)) = text.split_at_checked("2026-11-22T03:30:00".len()) else {
        return false;
    };
    if !fits(moment, b"0000-00-00T00:00:00") {
        return false;
    }
    let rest = match rest.strip_prefix(b".") {
        None => rest,
        Some(fraction) => {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if !(1..=9).contains(&digits) {
                return false;
            }
            &fraction[digits..]
        }
    };
    rest.eq_ignore_ascii_case(b"Z") || fits(rest, b"+00:00") || fits(rest, b"-00:00")
}

/// Whether a text has a digit where the shape has 0 and the shape's own character elsewhere, in either case.
fn fits(text: &[u8], shape: &[u8]) -> bool {
    text.len() == shape.len()
        && text.iter().zip(shape).all(|(byte, wanted)| {
            if *wanted == b'0' { byte.is_ascii_digit() } else { byte.eq_ignore_ascii_case(wanted) }
        })
}

/// A time zone by its IANA name, such as `Asia/Kolkata`.
///
/// Known zones are those of the database that is compiled in, whatever the machine has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeZoneName(String);

/// Says that a text is not the name of a time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeZoneError;

impl fmt::Display for TimeZoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an IANA time zone such as Asia/Kolkata")
    }
}

impl std::error::Error for TimeZoneError {}

impl TimeZoneName {
    /// Reads a name in any case and keeps it as IANA writes it.
    ///
    /// # Errors
    ///
    /// When there is no zone of that name.
    pub fn parse(text: &str) -> Result<Self, TimeZoneError> {
        let zone = TimeZoneDatabase::bundled().get(text).map_err(|_| TimeZoneError)?;
        if zone.is_unknown() {
            return Err(TimeZoneError);
        }
        let name = zone.iana_name().ok_or(TimeZoneError)?;
        Ok(Self(name.to_owned()))
    }

    /// The name as IANA writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The zone's rules.
    pub fn zone(&self) -> TimeZone {
        TimeZoneDatabase::bundled().get(&self.0).expect("parse found this name in the same compiled-in database")
    }
}

impl fmt::Display for TimeZoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_window_has_one_printed_form() {
        let cases = [
            ("PT5M", 300, "PT5M"),
            ("PT24H", 86_400, "P1D"),
            ("P1D", 86_400, "P1D"),
            ("PT1440M", 86_400, "P1D"),
            ("PT90M", 5_400, "PT1H30M"),
            ("P1DT2H30M15S", 95_415, "P1DT2H30M15S"),
            ("P0DT1S", 1, "PT1S"),
            ("PT05M", 300, "PT5M"),
            ("P366D", 31_622_400, "P366D"),
            ("PT31622400S", 31_622_400, "P366D"),
        ];
        for (text, seconds, printed) in cases {
            let window = Window::parse(text).unwrap();
            assert_eq!(window.seconds(), seconds, "{text}");
            assert_eq!(window.to_string(), printed, "{text}");
            assert_eq!(window.as_duration().as_secs(), i64::from(seconds));
        }
    }

    #[test]
    fn what_is_no_window_is_refused_for_its_reason() {
        let form = [
            "",
            "P",
            "PT",
            "P1DT",
            "5M",
            "PT5",
            "PTM",
            "P5",
            "T5M",
            "pt5m",
            "PT5m",
            "P-1D",
            "-P1D",
            "+P1D",
            "PT+5M",
            "PT1.5H",
            "PT1,5H",
            "PT5M5H",
            "PT5M5M",
            "PT5S5M",
            "P1H",
            "PT1D",
            "P1D1D",
            "P1DT5MT5M",
            " PT5M",
            "PT5M ",
            "PT5M\n",
            "PT५M",
            "P1D5M1",
            "5 minutes",
            "PTT5M",
        ];
        for text in form {
            assert_eq!(Window::parse(text), Err(WindowError::Form), "{text:?}");
        }
        for text in ["P1Y", "P1M", "P1W", "P1M1D", "P1Y2M3D", "P1MT5M"] {
            assert_eq!(Window::parse(text), Err(WindowError::Calendar), "{text:?}");
        }
        for text in ["P0D", "PT0S", "P0DT0H0M0S"] {
            assert_eq!(Window::parse(text), Err(WindowError::Zero), "{text:?}");
        }
        for text in [
            "P367D",
            "P366DT1S",
            "PT31622401S",
            "P99999999999999999999D",
            "PT18446744073709551615H",
            "P18446744073709551615DT18446744073709551615S",
        ] {
            assert_eq!(Window::parse(text), Err(WindowError::TooLong), "{text:?}");
        }
    }

    #[test]
    fn a_timestamp_is_rfc3339() {
        let cases = [
            ("2026-11-22T03:30:00Z", "2026-11-22T03:30:00Z"),
            ("2026-11-22T09:00:00+05:30", "2026-11-22T03:30:00Z"),
            ("2026-11-21T22:30:00-05:00", "2026-11-22T03:30:00Z"),
            ("2026-11-22t03:30:00z", "2026-11-22T03:30:00Z"),
            ("2026-11-22T03:30:00.123456789Z", "2026-11-22T03:30:00.123456Z"),
            ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"),
        ];
        for (text, wanted) in cases {
            let moment = parse_timestamp(text).map(|moment| moment.to_string());
            assert_eq!(moment, Ok(wanted.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_timestamp_is_refused_for_its_reason() {
        let form = [
            "",
            "tomorrow",
            "2026-11-22",
            "2026-11-22T03:30:00",
            "2026-11-22T03:30Z",
            "2026-11-22 03:30:00Z",
            "2026-11-22T03:30:00.Z",
            "2026-11-22T03:30:00.1234567890Z",
            "2026-11-22T03:30:00,5Z",
            "2026-11-22T03:30:00+0530",
            "2026-11-22T03:30:00+05",
            "2026-11-22T03:30:00+05:30[Asia/Kolkata]",
            "2026-11-22T03:30:00Z[UTC]",
            "2026-W47-7T03:30:00Z",
            "20261122T033000Z",
            "+002026-11-22T03:30:00Z",
            " 2026-11-22T03:30:00Z",
            "2026-11-22T03:30:00Z\n",
            "1790000000",
            "2026-11-22T03:30:0éZ",
        ];
        for text in form {
            assert_eq!(parse_timestamp(text), Err(TimestampError::Form), "{text:?}");
        }
        for text in [
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T03:60:00Z",
            "2026-11-22T03:30:00+99:00",
        ] {
            assert_eq!(parse_timestamp(text), Err(TimestampError::NoSuchMoment), "{text:?}");
        }
    }

    #[test]
    fn a_time_zone_keeps_its_iana_name() {
        let cases = [
            ("Asia/Kolkata", "Asia/Kolkata"),
            ("asia/kolkata", "Asia/Kolkata"),
            ("EUROPE/BERLIN", "Europe/Berlin"),
            ("UTC", "UTC"),
            ("Etc/UTC", "Etc/UTC"),
        ];
        for (text, wanted) in cases {
            let zone = TimeZoneName::parse(text).unwrap();
            assert_eq!(zone.as_str(), wanted, "{text}");
            assert_eq!(zone.zone().iana_name(), Some(wanted));
        }
        for text in [
            "",
            " ",
            "IST",
            "Asia/Nowhere",
            "Kolkata",
            "+05:30",
            "IST-5:30",
            "Etc/Unknown",
            "local",
            "../../etc/passwd",
            "Asia/Kolkata\n",
            " Asia/Kolkata",
        ] {
            assert_eq!(TimeZoneName::parse(text), Err(TimeZoneError), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_window_is_read_back_as_printed(seconds in 1_u64..=MAX_WINDOW) {
            let window = Window::from_seconds(seconds).unwrap();
            prop_assert_eq!(Window::parse(&window.to_string()), Ok(window));
        }

        #[test]
        fn no_text_breaks_the_parsers(text in "P[0-9DHMSTYW.+-]{0,30}|.{0,40}") {
            if let Ok(window) = Window::parse(&text) {
                prop_assert!(u64::from(window.seconds()) <= MAX_WINDOW);
            }
            let _ = parse_timestamp(&text);
            let _ = TimeZoneName::parse(&text);
        }

        #[test]
        fn a_timestamp_is_read_back_as_printed(
            second in Timestamp::MIN.as_second() + 400 * 365 * 86_400 * 25..Timestamp::MAX.as_second()
        ) {
            let moment = Timestamp::from_second(second).unwrap();
            prop_assume!((0..=9999).contains(&moment.to_zoned(TimeZone::UTC).year()));
            prop_assert_eq!(parse_timestamp(&moment.to_string()), Ok(moment));
        }
    }

    #[test]
    fn every_zone_of_the_database_is_read_back_as_printed() {
        let database = TimeZoneDatabase::bundled();
        let mut count = 0;
        for name in database.available() {
            // The database lists its own placeholder too.
            if name.as_str() == "Etc/Unknown" {
                continue;
            }
            let zone = TimeZoneName::parse(name.as_str()).unwrap();
            assert_eq!(TimeZoneName::parse(zone.as_str()), Ok(zone.clone()));
            assert_eq!(zone.as_str(), name.as_str());
            count += 1;
        }
        assert!(count > 400, "only {count} zones");
    }
}
