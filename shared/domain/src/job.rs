//! The jobs of a deployment: what each does, how often, and when one is late or failing.
//!
//! A job is a scheduled function. The table below is the one list of them, which `template.yaml`, the API and the tests
//! are held to; a new job is a line of it.

use crate::id::JobRunId;
use jiff::{SignedDuration, Timestamp};
use std::fmt;
use std::time::Duration;

/// Failures in a row that are nothing yet: the next run may make up for them. One more, and people are told.
pub const FAILURES_TOLERATED: u32 = 3;

/// The longest that a tick may come late and still be called in time, where the job's period is not shorter.
const GRACE: Duration = Duration::from_secs(5 * 60);

/// How often a job is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    minutes: u32,
}

impl Rate {
    /// Once in so many minutes.
    pub const fn minutes(minutes: u32) -> Self {
        assert!(minutes > 0, "a schedule has a period");
        Self { minutes }
    }

    /// Once in so many hours.
    pub const fn hours(hours: u32) -> Self {
        Self::minutes(hours * 60)
    }

    /// Once in so many days.
    pub const fn days(days: u32) -> Self {
        Self::hours(days * 24)
    }

    /// The time from one run to the next.
    pub const fn period(self) -> Duration {
        Duration::from_secs(self.minutes as u64 * 60)
    }
}

/// As EventBridge reads it, in the largest unit that is whole: `rate(1 minute)`, `rate(6 hours)`.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, unit) = match self.minutes {
            minutes if minutes.is_multiple_of(24 * 60) => (minutes / (24 * 60), "day"),
            minutes if minutes.is_multiple_of(60) => (minutes / 60, "hour"),
            minutes => (minutes, "minute"),
        };
        write!(f, "rate({count} {unit}{})", if count == 1 { "" } else { "s" })
    }
}

macro_rules! job_table {
    ($($variant:ident = $name:literal, $rate:expr, $does:literal, $catch_up:literal;)*) => {
        /// A job, by the function that does it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Job {
            $(#[doc = $does] $variant,)*
        }

        impl Job {
            /// Every job.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name, which is its function's.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// How often it is to run.
            pub const fn rate(self) -> Rate {
                match self { $(Self::$variant => $rate,)* }
            }

            /// What it does, in a sentence.
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => $does,)* }
            }

            /// What becomes of a run that was missed, in a sentence.
            pub const fn catch_up(self) -> &'static str {
                match self { $(Self::$variant => $catch_up,)* }
            }
        }
    };
}

job_table! {
    Dispatcher = "dispatcher", Rate::minutes(1),
        "Publishes everything that is due, and seals the audit log.",
        "The next run does the work of all that were missed, the longest due first.";
    Digest = "digest", Rate::minutes(5),
        "Closes the digests whose period has ended.",
        "The next run closes all that is due, one digest for each recipient, however many periods were missed.";
    Reminder = "reminder", Rate::minutes(1),
        "Fires the rungs of deadlines.",
        "The next run fires the latest rung that is due of each deadline and recipient, and skips those it overtook.";
    Escalation = "escalation", Rate::minutes(1),
        "Fires the steps of escalations.",
        "The next run fires one step of each escalation, and the steps after it at their distances from that.";
    DomainJob = "domain_job", Rate::minutes(1),
        "Runs the jobs that the tenants' domains have registered.",
        "The next run runs each of them that is due, once, however many of its times were missed.";
    Feedback = "feedback", Rate::minutes(15),
        "Compares with the mail provider's own list of addresses, and reads the account's rate.",
        "The next run compares the whole list, so a missed one leaves nothing to be done.";
    Maintenance = "maintenance", Rate::days(1),
        "Looks for what is stranded, deletes what was kept long enough, and makes the months of the histories ahead.",
        "The next run deletes what all that were missed would have; months are made a year ahead.";
}

impl Job {
    /// Reads a name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|job| job.as_str() == text)
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What led to a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Its schedule.
    Schedule,
    /// Somebody asked for it.
    Request {
        /// The run, named by the request, so that a repeated request is no second run; `None` where it came without a name.
        run: Option<JobRunId>,
        /// The subject of the token that asked, where it was one.
        by: Option<String>,
    },
}

impl Trigger {
    /// The cause, as a row has it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Request { .. } => "request",
        }
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RunOutcome {
    /// It did its work, or as much of it as there was time for.
    Succeeded,
    /// It said that it could not.
    Failed,
    /// Its time ended without a word from it.
    Died,
}

impl RunOutcome {
    /// Every outcome.
    pub const ALL: &[Self] = &[Self::Succeeded, Self::Failed, Self::Died];

    /// As a row has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Died => "died",
        }
    }

    /// Reads a row's.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|outcome| outcome.as_str() == text)
    }
}

/// Whether people are to be told of a row of failures: once for each row.
pub const fn must_alert(failure_count: u32, is_alerted: bool) -> bool {
    failure_count > FAILURES_TOLERATED && !is_alerted
}

/// How a job stands to its schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Punctuality {
    /// When the next run is due, or was.
    pub next_due_at: Timestamp,
    /// How long it has been due, in whole seconds; zero while it is not.
    pub lag_seconds: u64,
    /// Whether that is longer than a schedule's ticks vary.
    pub is_late: bool,
}

/// How a job stands to its schedule, which came last at `last_scheduled_at`: it began a run, however that went, or found one
/// at work. A run that somebody asked for moves no schedule.
pub fn judge_punctuality(job: Job, last_scheduled_at: Timestamp, now: Timestamp) -> Punctuality {
    let period = job.rate().period();
    let later = |at: Timestamp, time: Duration| {
        at.saturating_add(SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MAX)
    };
    let next_due_at = later(last_scheduled_at, period);
    let lag_seconds = u64::try_from(now.duration_since(next_due_at).as_secs()).unwrap_or(0);
    Punctuality { next_due_at, lag_seconds, is_late: now > later(next_due_at, period.min(GRACE)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_rate_is_printed_as_eventbridge_reads_it() {
        for (rate, text) in [
            (Rate::minutes(1), "rate(1 minute)"),
            (Rate::minutes(15), "rate(15 minutes)"),
            (Rate::minutes(60), "rate(1 hour)"),
            (Rate::minutes(90), "rate(90 minutes)"),
            (Rate::hours(6), "rate(6 hours)"),
            (Rate::days(1), "rate(1 day)"),
            (Rate::days(2), "rate(2 days)"),
        ] {
            assert_eq!(rate.to_string(), text);
        }
    }

    #[test]
    fn a_job_is_read_as_it_is_printed_and_no_name_is_there_twice() {
        let names: BTreeSet<_> = Job::ALL.iter().map(|job| job.as_str()).collect();
        assert_eq!(names.len(), Job::ALL.len());
        for job in Job::ALL {
            assert_eq!(Job::parse(job.as_str()), Some(*job));
            assert!(job.description().ends_with('.') && job.catch_up().ends_with('.'), "{job} is told in sentences");
        }
        assert_eq!(Job::parse("enqueue"), None);
        for outcome in RunOutcome::ALL {
            assert_eq!(RunOutcome::parse(outcome.as_str()), Some(*outcome));
        }
    }

    #[test]
    fn people_are_told_of_the_fourth_failure_in_a_row_and_once() {
        let told: Vec<u32> = (0..7).filter(|count| must_alert(*count, *count > 4)).collect();
        assert_eq!(told, [4]);
        assert!(must_alert(9, false), "who could not be told at the fourth is told later");
    }

    #[test]
    fn a_job_is_late_once_its_tick_is_overdue_by_more_than_ticks_vary() {
        let started_at: Timestamp = "2026-11-22T09:00:00Z".parse().expect("a time");
        // Job, seconds since its last start, lag, whether it is late.
        let table = [
            (Job::Dispatcher, 0, 0, false),
            (Job::Dispatcher, 60, 0, false),
            (Job::Dispatcher, 61, 1, false),
            (Job::Dispatcher, 120, 60, false),
            (Job::Dispatcher, 121, 61, true),
            (Job::Feedback, 15 * 60, 0, false),
            (Job::Feedback, 20 * 60, 300, false),
            (Job::Feedback, 20 * 60 + 1, 301, true),
            (Job::Feedback, 3 * 3600, 3 * 3600 - 15 * 60, true),
            (Job::Dispatcher, -5, 0, false),
        ];
        for (job, seconds, lag_seconds, is_late) in table {
            let judged = judge_punctuality(job, started_at, started_at + SignedDuration::from_secs(seconds));
            assert_eq!((judged.lag_seconds, judged.is_late), (lag_seconds, is_late), "{job} after {seconds} s");
        }
        let due = judge_punctuality(Job::Dispatcher, started_at, started_at).next_due_at;
        assert_eq!(due.to_string(), "2026-11-22T09:01:00Z");
    }
}
