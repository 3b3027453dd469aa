//! When a domain's job is due: `rate(…)` and `cron(…)` as EventBridge writes them.
//!
//! The grammar is EventBridge's own, and what it would refuse is refused here, too.
//! <https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html>
//! The walk through the calendar is croner's; this file puts the one dialect into the other.
//!
//! Where clocks change, a job at one time of the day runs once that day: after the gap, and at the first of two equal times.
//! One with several times a day follows the clock: times that do not exist are left out, and those that are there twice
//! run twice.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::fmt;

/// The longest expression, in bytes, as EventBridge has it.
pub const MAX_SCHEDULE_BYTES: usize = 256;
/// The longest rate, in minutes: a leap year.
const MAX_RATE_MINUTES: u32 = 366 * 24 * 60;

const MONTHS: &[&str] = &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: &[&str] = &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// When a job is due, again and again.
#[derive(Clone)]
pub struct Schedule {
    text: String,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    /// At even distances.
    Rate { minutes: u32 },
    /// By the calendar.
    Cron(Box<Cron>),
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Says why a text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleError(String);

impl fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ScheduleError {}

fn wrong<T>(detail: impl Into<String>) -> Result<T, ScheduleError> {
    Err(ScheduleError(detail.into()))
}

impl Schedule {
    /// Reads `rate(5 minutes)` or `cron(0 2 ? * MON-FRI *)`.
    ///
    /// # Errors
    ///
    /// When EventBridge would refuse it.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        if text.len() > MAX_SCHEDULE_BYTES {
            return wrong(format!("must have at most {MAX_SCHEDULE_BYTES} bytes"));
        }
        let within = |name: &str| text.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
        let kind = match (within("rate"), within("cron")) {
            (Some(rate), _) => Kind::Rate { minutes: read_rate(rate)? },
            (_, Some(cron)) => Kind::Cron(Box::new(read_cron(cron)?)),
            _ => return wrong("must be rate(…) or cron(…), such as rate(5 minutes) or cron(0 2 * * ? *)"),
        };
        Ok(Self { text: text.to_owned(), kind })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The first time behind `after`, counted from `anchored_at` where it is a rate, and by the clocks of `zone` where it is
    /// not. `None` where there is none any more.
    pub fn next_after(&self, anchored_at: Timestamp, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match &self.kind {
            Kind::Rate { minutes } => {
                let period = i64::from(*minutes) * 60;
                let passed = after.duration_since(anchored_at).as_secs();
                // Before its anchor a rate is due at the anchor's first distance, as right behind it.
                let count = passed.max(0) / period + 1;
                anchored_at.checked_add(SignedDuration::from_secs(count * period)).ok()
            }
            Kind::Cron(cron) => {
                let next = cron.find_next_occurrence(&after.to_zoned(zone.clone()), false).ok()?;
                Some(next.timestamp())
            }
        }
    }
}

/// `5 minutes`: the unit's number agrees with the value's.
fn read_rate(text: &str) -> Result<u32, ScheduleError> {
    const FORM: &str = "must be rate(value unit), such as rate(1 minute), rate(12 hours) or rate(7 days)";
    let Some((value, unit)) = text.split_once(' ') else { return wrong(FORM) };
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return wrong(FORM);
    }
    let Ok(value) = value.parse::<u32>() else { return wrong("has a rate of more than 366 days") };
    let (singular, minutes) = match unit {
        "minute" | "minutes" => ("minute", 1),
        "hour" | "hours" => ("hour", 60),
        "day" | "days" => ("day", 24 * 60),
        _ => return wrong("must have minutes, hours or days for its unit"),
    };
    match (value, unit == singular) {
        (0, _) => return wrong("must have a rate above zero"),
        (1, false) => return wrong(format!("must say {singular} beside 1")),
        (2.., true) => return wrong(format!("must say {singular}s beside {value}")),
        _ => {}
    }
    match value.checked_mul(minutes).filter(|minutes| *minutes <= MAX_RATE_MINUTES) {
        Some(minutes) => Ok(minutes),
        None => wrong("has a rate of more than 366 days"),
    }
}

/// What a field of an expression may hold.
struct Field {
    name: &'static str,
    least: u16,
    most: u16,
    /// Other words for the values, from the least.
    names: &'static [&'static str],
    /// Whether `/` is among its signs.
    has_steps: bool,
}

const MINUTES: Field = Field { name: "minutes", least: 0, most: 59, names: &[], has_steps: true };
const HOURS: Field = Field { name: "hours", least: 0, most: 23, names: &[], has_steps: true };
const DAYS_OF_MONTH: Field = Field { name: "day-of-month", least: 1, most: 31, names: &[], has_steps: true };
const MONTH: Field = Field { name: "month", least: 1, most: 12, names: MONTHS, has_steps: true };
const DAYS_OF_WEEK: Field = Field { name: "day-of-week", least: 1, most: 7, names: WEEKDAYS, has_steps: false };
const YEAR: Field = Field { name: "year", least: 1970, most: 2199, names: &[], has_steps: true };

impl Field {
    fn wrong<T>(&self, text: &str, detail: impl fmt::Display) -> Result<T, ScheduleError> {
        wrong(format!("has {text:?} for its {}, {detail}", self.name))
    }

    fn read_value(&self, text: &str, whole: &str) -> Result<u16, ScheduleError> {
        if let Some(place) = self.names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
            return Ok(self.least + u16::try_from(place).unwrap_or_default());
        }
        let is_number = !text.is_empty() && text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse::<u16>().ok().filter(|value| is_number && (self.least..=self.most).contains(value)) {
            Some(value) => Ok(value),
            None => self.wrong(whole, format_args!("which is not within {} to {}", self.least, self.most)),
        }
    }

    /// Reads one entry of a list into bounds and a step: `5`, `1-5`, `0/15`, `10-50/20`, `*/5`.
    fn read_entry(&self, text: &str, whole: &str) -> Result<(u16, u16, Option<u16>), ScheduleError> {
        let (range, step) = match text.split_once('/') {
            None => (text, None),
            Some(_) if !self.has_steps => return self.wrong(whole, "which takes no steps"),
            Some((range, step)) => (range, Some(step)),
        };
        let step = match step.map(|step| (step.parse::<u16>().ok().filter(|step| (1..=self.most).contains(step)), step))
        {
            None => None,
            Some((Some(count), step)) if step.bytes().all(|byte| byte.is_ascii_digit()) => Some(count),
            Some(_) => return self.wrong(whole, format_args!("whose step is not within 1 to {}", self.most)),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" && step.is_some() => (self.least, self.most),
            None if step.is_some() => (self.read_value(range, whole)?, self.most),
            None => {
                let value = self.read_value(range, whole)?;
                (value, value)
            }
            Some((first, last)) => (self.read_value(first, whole)?, self.read_value(last, whole)?),
        };
        if first > last {
            return self.wrong(whole, "whose range ends before it begins");
        }
        Ok((first, last, step))
    }

    /// The field as croner reads it. Its days of the week begin with 0, so `offset` is taken off each value.
    fn translate(&self, text: &str, offset: u16) -> Result<String, ScheduleError> {
        if text == "*" {
            // Only the years have other bounds there.
            return Ok(if self.least > 31 { format!("{}-{}", self.least, self.most) } else { text.to_owned() });
        }
        let mut entries = Vec::new();
        for entry in text.split(',') {
            let (first, last, step) = self.read_entry(entry, text)?;
            let (first, last) = (first - offset, last - offset);
            entries.push(match step {
                Some(step) if entry.starts_with('*') && self.least <= 1 => format!("*/{step}"),
                Some(step) => format!("{first}-{last}/{step}"),
                None if first == last => first.to_string(),
                None => format!("{first}-{last}"),
            });
        }
        Ok(entries.join(","))
    }
}

/// `minutes hours day-of-month month day-of-week year`.
fn read_cron(text: &str) -> Result<Cron, ScheduleError> {
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let &[minutes, hours, day, month, weekday, year] = fields.as_slice() else {
        return wrong(format!(
            "must have six fields within cron(…), minutes hours day-of-month month day-of-week year, and has {}",
            fields.len()
        ));
    };
    if (day == "?") == (weekday == "?") {
        return wrong("must have ? for exactly one of day-of-month and day-of-week");
    }
    let pattern = format!(
        "0 {} {} {} {} {} {}",
        MINUTES.translate(minutes, 0)?,
        HOURS.translate(hours, 0)?,
        translate_day(day)?,
        MONTH.translate(month, 0)?,
        translate_weekday(weekday)?,
        YEAR.translate(year, 0)?,
    );
    let parser = CronParser::builder().seconds(Seconds::Required).year(Year::Required).build();
    parser.parse(&pattern).map_err(|_| ScheduleError("is no expression that can be followed".to_owned()))
}

/// Also `?`, `L` for the last day, `15W` for the working day that is nearest to the 15th, `LW` for the last of them.
fn translate_day(text: &str) -> Result<String, ScheduleError> {
    let field = DAYS_OF_MONTH;
    match text.to_ascii_uppercase().as_str() {
        "?" => Ok("*".to_owned()),
        special @ ("L" | "LW") => Ok(special.to_owned()),
        upper => match upper.strip_suffix('W') {
            Some(day) => Ok(format!("{}W", field.read_value(day, text)?)),
            None => field.translate(text, 0),
        },
    }
}

/// Also `?`, `L` for the last day of the week, `6L` for the last Friday of the month, `6#3` for the third.
fn translate_weekday(text: &str) -> Result<String, ScheduleError> {
    let field = DAYS_OF_WEEK;
    let upper = text.to_ascii_uppercase();
    if upper == "?" {
        return Ok("*".to_owned());
    }
    if upper == "L" {
        return Ok("6".to_owned());
    }
    if let Some((day, week)) = upper.split_once('#') {
        let day = field.read_value(day, text)? - 1;
        return match week {
            "1" | "2" | "3" | "4" | "5" => Ok(format!("{day}#{week}")),
            _ => field.wrong(text, "whose week is not within 1 to 5"),
        };
    }
    match upper.strip_suffix('L') {
        Some(day) => Ok(format!("{}#L", field.read_value(day, text)? - 1)),
        None => field.translate(text, 1),
    }
}

#[cfg(test)]
mod tests;
