//! What went wrong, and what the person at the keyboard can do about it.

use std::fmt;
use std::path::{Path, PathBuf};

/// A failure of a command: the fact, the log that tells more, and what to do.
#[derive(Debug)]
pub struct Failure {
    what: String,
    log: Option<PathBuf>,
    advice: Option<String>,
}

/// What a step of the local stack returns.
pub type Outcome<T> = Result<T, Failure>;

impl Failure {
    /// States the fact, without a full stop.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), log: None, advice: None }
    }

    /// Names the log that tells more; its last lines are printed with the failure.
    #[must_use]
    pub fn with_log(mut self, log: &Path) -> Self {
        self.log = Some(log.to_owned());
        self
    }

    /// Says what to do, as a sentence.
    #[must_use]
    pub fn with_advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        if let Some(log) = &self.log {
            for line in last_lines(log, 12) {
                write!(f, "\n    | {line}")?;
            }
            write!(f, "\n  The whole log: {}", log.display())?;
        }
        if let Some(advice) = &self.advice {
            write!(f, "\n  What to do: {advice}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// Turns an error of the operating system into a [`Failure`] that says what was being done.
pub trait While<T> {
    /// `doing` reads after "while": `starting Postgres`.
    fn while_doing(self, doing: impl fmt::Display) -> Outcome<T>;
}

impl<T, E: fmt::Display> While<T> for Result<T, E> {
    fn while_doing(self, doing: impl fmt::Display) -> Outcome<T> {
        self.map_err(|error| Failure::new(format!("{error} while {doing}")))
    }
}

fn last_lines(log: &Path, count: usize) -> Vec<String> {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].iter().map(|line| line.chars().take(400).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_the_end_of_its_log_and_what_to_do() {
        let log = std::env::temp_dir().join(format!("failure-{}.log", std::process::id()));
        std::fs::write(&log, "first\nsecond\n").unwrap();
        let text = Failure::new("it broke").with_log(&log).with_advice("Mend it.").to_string();
        std::fs::remove_file(&log).unwrap();
        assert!(text.starts_with("it broke\n"));
        assert!(text.contains("| second"));
        assert!(text.ends_with("What to do: Mend it."));
    }
}
