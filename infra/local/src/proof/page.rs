//! The page: what was tried, what it came to, and what is left to doubt.

use std::fmt::Write;

use super::LEAST_SEEDS;
use super::matrix::{ROWS, Tried};
use super::simulation::{Explored, Simulated};

/// The faults that end a worker; the others hinder it.
const CRASHES: [&str; 2] = ["worker_crashed", "invocation_timed_out"];

/// Which state of the project was proven, and when.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) date: String,
    pub(super) commit: String,
    /// Whether there were changes on top of the commit.
    pub(super) is_changed: bool,
}

/// Everything that a proof consists of.
#[derive(Clone, Debug)]
pub(super) struct Proof {
    pub(super) version: Version,
    pub(super) tried: Tried,
    pub(super) simulated: Simulated,
    pub(super) explored: Vec<Explored>,
}

impl Proof {
    /// The whole page.
    pub(super) fn print(&self) -> String {
        let mut page = String::from(
            "# Proof\n\nWhat `cargo local proof` found last: the crash matrix on real binaries and a real Postgres, \
             the simulator, and the model.\nThe program writes this page.\n\n",
        );
        page.push_str(&self.print_figures());
        page.push_str("\n## Faults in the simulator\n\nHow often each was injected, over all seeds.\n\n");
        page.push_str("| fault | times |\n|---|---|\n");
        for (name, times) in &self.simulated.faults {
            line(&mut page, &name.replace('_', " "), &thousands(*times));
        }
        page.push_str("\n## The model\n\nEvery order of every step of two workers, within each bound.\n\n");
        page.push_str("| bound | states |\n|---|---|\n");
        for model in &self.explored {
            line(&mut page, &model.name, &thousands(model.unique_states));
        }
        page.push_str("\n## Rows of the matrix\n\nEach promise is the name of a test.\n\n");
        page.push_str("| row | promise | held |\n|---|---|---|\n");
        for row in 1..=ROWS {
            for test in self.tried.rows.get(&row).into_iter().flatten() {
                let held = if test.has_passed { "yes" } else { "no" };
                let _ = writeln!(page, "| {row} | {} | {held} |", test.promise);
            }
            if let Some(subject) = self.tried.waiting.get(&row) {
                let _ = writeln!(page, "| {row} | | there are no {subject} yet |");
            }
        }
        page
    }

    /// The table that the README shows too.
    pub(super) fn print_figures(&self) -> String {
        let Self { version, tried, simulated, explored } = self;
        let mut table = String::from("| what | figure |\n|---|---|\n");
        line(&mut table, "date", &version.date);
        let changed = if version.is_changed { " and changes on top" } else { "" };
        line(&mut table, "commit", &format!("`{}`{changed}", version.commit));
        line(&mut table, "rows of the matrix passed", &format!("{} of {ROWS}", tried.count_passed_rows()));
        let waiting: Vec<String> = tried.waiting.iter().map(|(row, subject)| format!("{row} ({subject})")).collect();
        line(&mut table, "rows that wait for something to prove", &none_or(&waiting.join(", ")));
        line(&mut table, "pairs of a crash point and a fault, besides the rows", &thousands(tried.cells));
        line(
            &mut table,
            "notifications accepted",
            &format!(
                "{} on real binaries, {} in the simulator",
                thousands(tried.figures.accepted),
                thousands(simulated.figures.accepted)
            ),
        );
        line(&mut table, "lost", &thousands(self.lost()));
        line(&mut table, "duplicates that were not declared", &thousands(self.undeclared()));
        line(
            &mut table,
            "duplicates that were declared",
            &format!(
                "{} after {} attempts of unknown outcome",
                thousands(tried.figures.duplicates_declared + simulated.figures.duplicates_declared),
                thousands(tried.figures.unknown + simulated.figures.unknown)
            ),
        );
        line(&mut table, "seeds", &thousands(simulated.seeds));
        line(&mut table, "first seed", &simulated.base_seed.to_string());
        let crashes: u64 = CRASHES.iter().filter_map(|name| simulated.faults.get(*name)).sum();
        line(&mut table, "crashes and timeouts in the simulator", &thousands(crashes));
        line(&mut table, "faults injected in the simulator", &thousands(simulated.faults.values().sum()));
        line(
            &mut table,
            "time to recover in the simulator, from the last fault until nothing is left to do",
            &format!(
                "{} in the median, {} at most",
                duration(simulated.recovery_seconds.median),
                duration(simulated.recovery_seconds.longest)
            ),
        );
        let drained = tried.drained_seconds.as_ref().map_or("not measured".to_owned(), |time| format!("{time} s"));
        line(&mut table, "backlog drained after 60 s without Postgres under load", &drained);
        line(
            &mut table,
            "states of the model, all looked at",
            &thousands(explored.iter().map(|model| model.unique_states).sum()),
        );
        table
    }

    fn lost(&self) -> u64 {
        self.tried.figures.lost + self.simulated.figures.lost
    }

    fn undeclared(&self) -> u64 {
        self.tried.figures.duplicates_undeclared + self.simulated.figures.duplicates_undeclared
    }

    /// Everything that speaks against the proof, one sentence each.
    pub(super) fn list_doubts(&self) -> Vec<String> {
        let Self { tried, simulated, explored, .. } = self;
        let mut doubts = Vec::new();
        doubts.extend(tried.failed.iter().map(|test| format!("{test} failed")));
        doubts.extend(tried.causes.iter().filter(|_| !tried.failed.is_empty()).cloned());
        let missing: Vec<String> = tried.missing_rows().iter().map(u32::to_string).collect();
        if !missing.is_empty() {
            doubts.push(format!("no test ran for the rows {}", missing.join(", ")));
        }
        if tried.figures.accepted == 0 {
            doubts.push("the matrix counted nothing".to_owned());
        }
        if self.lost() > 0 {
            doubts.push(format!("{} notifications were lost", self.lost()));
        }
        if self.undeclared() > 0 {
            doubts.push(format!("{} duplicates were not declared", self.undeclared()));
        }
        if simulated.seeds < LEAST_SEEDS {
            doubts.push(format!("{} seeds are fewer than {LEAST_SEEDS}", simulated.seeds));
        }
        if simulated.broken_seeds > 0 {
            doubts.push(format!("{} seeds broke an invariant", simulated.broken_seeds));
        }
        for broken in &simulated.broken {
            let first = broken.violations.first().map_or("", String::as_str);
            doubts.push(format!("seed {}: {first} (cargo run --package proof -- --seed {0})", broken.seed));
        }
        if explored.is_empty() {
            doubts.push("the model was not explored".to_owned());
        }
        for model in explored {
            doubts.extend(model.broken.iter().map(|property| format!("the model ({}): {property}", model.name)));
        }
        doubts
    }
}

/// Replaces the first table after a heading; `None` where there is no such heading or table.
pub(super) fn replace_table(text: &str, heading: &str, table: &str) -> Option<String> {
    let section = text.find(&format!("{heading}\n"))?;
    let begin = section + text[section..].find("\n|")? + 1;
    let lines = text[begin..].split_inclusive('\n').take_while(|line| line.starts_with('|'));
    let end = begin + lines.map(str::len).sum::<usize>();
    Some(format!("{}{table}{}", &text[..begin], &text[end..]))
}

fn line(table: &mut String, what: &str, figure: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(table, "| {what} | {figure} |");
}

fn none_or(text: &str) -> String {
    if text.is_empty() { "none".to_owned() } else { text.to_owned() }
}

/// `1234567` as `1,234,567`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds, or minutes where there are many.
fn duration(seconds: f64) -> String {
    if seconds < 300.0 { format!("{seconds:.0} s") } else { format!("{:.0} min", seconds / 60.0) }
}

#[cfg(test)]
mod tests {
    use super::super::figures::Figures;
    use super::super::simulation::{BrokenSeed, Recovery};
    use super::*;

    fn proof() -> Proof {
        let figures = Figures { accepted: 1_234_567, unknown: 9, duplicates_declared: 2, ..Figures::default() };
        let mut tried = Tried { figures: Figures { accepted: 10, ..figures }, ..Tried::default() };
        for row in 1..=ROWS {
            tried.waiting.insert(row, "words".to_owned());
        }
        Proof {
            version: Version { date: "2026-11-21".to_owned(), commit: "abc".to_owned(), is_changed: true },
            tried,
            simulated: Simulated {
                base_seed: 7,
                seeds: LEAST_SEEDS,
                seconds: 1.0,
                figures,
                faults: [("worker_crashed".to_owned(), 5), ("message_lost".to_owned(), 6)].into(),
                recovery_seconds: Recovery { median: 12.4, longest: 3600.0 },
                broken_seeds: 0,
                broken: Vec::new(),
            },
            explored: vec![Explored { name: "one".to_owned(), unique_states: 4, broken: Vec::new() }],
        }
    }

    #[test]
    fn a_proof_without_a_doubt_has_every_figure() {
        let proof = proof();
        assert_eq!(proof.list_doubts(), Vec::<String>::new());
        let table = proof.print_figures();
        for figure in ["`abc` and changes on top", "1,234,567 in the simulator", "| 11 |", "12 s in the median, 60 min"]
        {
            assert!(table.contains(figure), "{figure}: {table}");
        }
        assert!(proof.print().contains("| worker crashed | 5 |"));
    }

    #[test]
    fn whatever_speaks_against_the_proof_is_a_doubt() {
        let doubts = |change: fn(&mut Proof)| {
            let mut proof = proof();
            change(&mut proof);
            proof.list_doubts().len()
        };
        assert_eq!(doubts(|proof| proof.simulated.seeds -= 1), 1);
        assert_eq!(doubts(|proof| proof.simulated.figures.lost = 1), 1);
        assert_eq!(doubts(|proof| proof.tried.figures.lost = 1), 1);
        assert_eq!(doubts(|proof| proof.tried.figures.duplicates_undeclared = 1), 1);
        assert_eq!(doubts(|proof| proof.simulated.figures.duplicates_undeclared = 1), 1);
        assert_eq!(doubts(|proof| proof.tried.figures.accepted = 0), 1);
        assert_eq!(doubts(|proof| proof.tried.failed.push("sweep::one".to_owned())), 1);
        assert_eq!(doubts(|proof| drop(proof.tried.waiting.remove(&3))), 1);
        assert_eq!(doubts(|proof| proof.explored.clear()), 1);
        assert_eq!(doubts(|proof| proof.explored[0].broken.push("I3".to_owned())), 1);
        assert_eq!(
            doubts(|proof| {
                proof.simulated.broken_seeds = 1;
                proof.simulated.broken.push(BrokenSeed { seed: 3, violations: vec!["I1".to_owned()] });
            }),
            2
        );
    }

    #[test]
    fn only_the_table_of_the_section_is_replaced() {
        let text = "| a |\n\n## Proof\n\nWords.\n\n| b |\n| c |\n\nMore.\n\n| d |\n";
        let replaced = replace_table(text, "## Proof", "| new |\n");
        assert_eq!(replaced.as_deref(), Some("| a |\n\n## Proof\n\nWords.\n\n| new |\n\nMore.\n\n| d |\n"));
        assert_eq!(replace_table("| b |\n", "## Proof", "x"), None);
    }

    #[test]
    fn large_numbers_can_be_read() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
