//! Runs the tests of the crash matrix and reads their names and what they print.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use super::figures::Figures;
use crate::failure::{Failure, Outcome, While};
use crate::functions::cargo;
use crate::postgres::Postgres;
use crate::progress::Progress;
use crate::project::Project;

/// The rows of the matrix, from 1.
pub(super) const ROWS: u32 = 51;

/// How long row 49 stops Postgres, in seconds; the tests alone stop it for less.
const OUTAGE_SECONDS: &str = "60";

/// How much of what a test died of is told, in lines.
const CAUSE_LINES: u8 = 4;

/// What the tests of the matrix came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tried {
    /// The tests of each row, by their names without the number.
    pub(super) rows: BTreeMap<u32, Vec<Tested>>,
    /// What a row waits for that the product does not have yet.
    pub(super) waiting: BTreeMap<u32, String>,
    /// Tests that failed, rows or not.
    pub(super) failed: Vec<String>,
    /// What the failed tests died of, in their own words.
    pub(super) causes: Vec<String>,
    /// Lines of the last cause that are still to come.
    pub(super) cause_lines: u8,
    /// Tests that passed.
    pub(super) passed: u64,
    /// Crash points struck by each fault, besides the rows.
    pub(super) cells: u64,
    /// What the checker counted in all tests together.
    pub(super) figures: Figures,
    /// How long the backlog took to drain after Postgres had been away under load.
    pub(super) drained_seconds: Option<String>,
}

/// A test of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tested {
    pub(super) promise: String,
    pub(super) has_passed: bool,
}

/// Runs the rows that need real binaries, then those of one flow, then those of the simulator and the model.
pub(super) fn try_rows(project: &Project, progress: &Progress, postgres: &Postgres) -> Outcome<Tried> {
    progress.say("matrix: building the functions, for release and with places to stop them …");
    let mut tried = Tried::default();
    let mut on_binaries = matrix(project, postgres);
    on_binaries.arg("--show-output").env("HARKARA_OUTAGE_SECONDS", OUTAGE_SECONDS);
    run_tests(project, progress, &mut on_binaries, "proof-matrix", &mut tried)?;
    let mut of_one_flow = cargo(project);
    of_one_flow
        .args(["test", "--package", "tests", "--test", "it", "--", "--show-output", "row_"])
        .env("DATABASE_URL", postgres.url("postgres"));
    run_tests(project, progress, &mut of_one_flow, "proof-flows", &mut tried)?;
    let mut simulated = cargo(project);
    simulated.args(["test", "--package", "proof", "--", "--show-output", "row_"]);
    run_tests(project, progress, &mut simulated, "proof-rows", &mut tried)?;
    Ok(tried)
}

/// Draws faults on real binaries for a while; the test says with which seed.
pub(super) fn soak(project: &Project, progress: &Progress, postgres: &Postgres, minutes: u32) -> Outcome<()> {
    progress.say(&format!("real binaries: {minutes} minutes of faults, then until all is at rest …"));
    let mut soaking = matrix(project, postgres);
    let seconds = u64::from(minutes) * 60;
    soaking.args(["row_51", "--nocapture"]).env("HARKARA_SOAK_SECONDS", seconds.to_string());
    let status = soaking.status().while_doing("starting cargo")?;
    if status.success() { Ok(()) } else { Err(Failure::new("faults on real binaries broke an invariant")) }
}

/// The matrix's program, with all that it needs.
fn matrix(project: &Project, postgres: &Postgres) -> Command {
    let mut command = cargo(project);
    command
        .args(["test", "--package", "tests", "--test", "matrix", "--"])
        .env("DATABASE_URL", postgres.url("postgres"))
        .env("HARKARA_POSTGRES_PROGRAMS", postgres.programs());
    command
}

fn run_tests(
    project: &Project,
    progress: &Progress,
    command: &mut Command,
    name: &str,
    tried: &mut Tried,
) -> Outcome<()> {
    let log = project.log(name);
    let mut said = File::create(&log).while_doing(format_args!("opening {}", log.display()))?;
    let err = said.try_clone().while_doing(format_args!("opening {}", log.display()))?;
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(err).spawn().while_doing("starting cargo")?;
    let before = tried.passed + tried.failed.len() as u64;
    let mut announced = 0;
    if let Some(out) = child.stdout.take() {
        for line in BufReader::new(out).lines() {
            let line = line.while_doing("reading what the tests say")?;
            writeln!(said, "{line}").while_doing(format_args!("writing {}", log.display()))?;
            announced += count_announced(&line);
            if tried.read(&line) {
                let done = tried.passed + tried.failed.len() as u64 - before;
                progress.show(&format!("matrix: {done} of {announced} tests, {} failed", tried.failed.len()));
            }
        }
    }
    child.wait().while_doing("waiting for cargo")?;
    if announced == 0 || tried.passed + (tried.failed.len() as u64) < before + announced {
        return Err(Failure::new("the tests of the matrix did not run to their end").with_log(&log));
    }
    Ok(())
}

/// The number in `running 102 tests`.
fn count_announced(line: &str) -> u64 {
    let number = line.strip_prefix("running ").and_then(|rest| rest.split(' ').next());
    number.and_then(|number| number.parse().ok()).unwrap_or_default()
}

impl Tried {
    /// Reads a line; says whether it was a test's end.
    fn read(&mut self, line: &str) -> bool {
        if let Some(rest) = line.strip_prefix("test ")
            && let Some((path, outcome)) = rest.split_once(" ... ")
        {
            self.end_test(path, outcome == "ok");
            return true;
        }
        if line.starts_with("thread '") && line.contains(" panicked at ") {
            self.causes.push(line.to_owned());
            self.cause_lines = CAUSE_LINES;
        } else if self.cause_lines > 0
            && let Some(cause) = self.causes.last_mut()
        {
            self.cause_lines -= 1;
            *cause += "\n        ";
            *cause += line;
        } else if let Some(figures) = line.strip_prefix("figures ").and_then(|json| serde_json::from_str(json).ok()) {
            self.figures += figures;
        } else if let Some((row, subject)) = read_waiting(line) {
            self.waiting.insert(row, subject);
        } else if let Some(rest) = line.strip_prefix("row 49: the backlog drained ") {
            self.drained_seconds = rest.split(' ').next().map(str::to_owned);
        } else if line.starts_with("  ") && line.contains(" at rest after ") {
            self.cells += 1;
        }
        false
    }

    fn end_test(&mut self, path: &str, has_passed: bool) {
        let name = path.rsplit("::").next().unwrap_or(path);
        if has_passed {
            self.passed += 1;
        } else {
            self.failed.push(path.to_owned());
        }
        let row = name.strip_prefix("row_").and_then(|rest| rest.split_once('_'));
        if let Some((number, promise)) = row
            && let Ok(number) = number.parse()
        {
            self.rows.entry(number).or_default().push(Tested { promise: promise.replace('_', " "), has_passed });
        }
    }

    /// Rows all of whose tests passed.
    pub(super) fn count_passed_rows(&self) -> usize {
        self.rows.values().filter(|tests| tests.iter().all(|test| test.has_passed)).count()
    }

    /// Rows that neither have a test nor wait for their subject.
    pub(super) fn missing_rows(&self) -> Vec<u32> {
        (1..=ROWS).filter(|row| !self.rows.contains_key(row) && !self.waiting.contains_key(row)).collect()
    }
}

/// `row 45 waits for escalations`.
fn read_waiting(line: &str) -> Option<(u32, String)> {
    let (row, subject) = line.strip_prefix("row ")?.split_once(" waits for ")?;
    Some((row.parse().ok()?, subject.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tests_print_is_read() {
        let mut tried = Tried::default();
        for line in [
            "running 3 tests",
            "test rows::enqueue::row_01_what_breaks_before_the_commit_stores_nothing ... ok",
            "test rows::enqueue::row_02_a_lost_commit ... FAILED",
            "test registry::every_row ... ok",
            "---- registry::every_row stdout ----",
            "thread 'rows::enqueue::row_02_a_lost_commit' (7) panicked at tests/a.rs:1:1:",
            "assertion failed",
            "  left: 429",
            " right: 202",
            "note: run with `RUST_BACKTRACE=1`",
            "row 45 waits for escalations",
            "figures {\"accepted\":3,\"lost\":0,\"duplicates_declared\":1,\"duplicates_undeclared\":0,\"unknown\":2,\"x\":9}",
            "figures {\"accepted\":4,\"lost\":0,\"duplicates_declared\":0,\"duplicates_undeclared\":0,\"unknown\":0}",
            "  P4 Kill: 1 and 1 mails, at rest after 60 s",
            "row 49: the backlog drained 12 s after the database's return",
        ] {
            tried.read(line);
        }
        assert_eq!((tried.passed, tried.cells, tried.count_passed_rows()), (2, 1, 1));
        assert_eq!(tried.failed, ["rows::enqueue::row_02_a_lost_commit"]);
        let [cause] = &tried.causes[..] else { panic!("one cause, not {:?}", tried.causes) };
        assert!(cause.contains("row_02") && cause.contains("left: 429"), "{cause}");
        assert_eq!((tried.figures.accepted, tried.figures.unknown), (7, 2));
        assert_eq!(tried.waiting[&45], "escalations");
        assert_eq!(tried.drained_seconds.as_deref(), Some("12"));
        assert_eq!(tried.rows[&1][0].promise, "what breaks before the commit stores nothing");
        assert_eq!(tried.missing_rows().len(), 48);
        assert_eq!(count_announced("running 3 tests"), 3);
    }
}
