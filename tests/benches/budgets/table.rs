//! The table that the benches print.

use std::fmt;

/// How a measurement stands to its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Within the budget.
    Met,
    /// Beyond it.
    Missed,
    /// The design sets no budget for it.
    Shown,
}

/// One measurement.
#[derive(Debug)]
struct Row {
    what: String,
    budget: String,
    measured: String,
    /// Measured over allowed: at most 1 is met.
    ratio: Option<f64>,
    verdict: Verdict,
}

/// The measurements, in the order in which they were made.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Adds a measurement of which there may be at most so much.
    pub(crate) fn add_at_most(
        &mut self,
        what: impl Into<String>,
        budget: impl Into<String>,
        measured: impl Into<String>,
        value: f64,
        allowed: f64,
    ) {
        self.add(what, budget, measured, value / allowed);
    }

    /// Adds a measurement of which there must be at least so much.
    pub(crate) fn add_at_least(
        &mut self,
        what: impl Into<String>,
        budget: impl Into<String>,
        measured: impl Into<String>,
        value: f64,
        wanted: f64,
    ) {
        self.add(what, budget, measured, wanted / value);
    }

    /// Adds a measurement without a budget.
    pub(crate) fn show(&mut self, what: impl Into<String>, measured: impl Into<String>) {
        self.rows.push(Row {
            what: what.into(),
            budget: String::new(),
            measured: measured.into(),
            ratio: None,
            verdict: Verdict::Shown,
        });
    }

    fn add(&mut self, what: impl Into<String>, budget: impl Into<String>, measured: impl Into<String>, ratio: f64) {
        let verdict = if ratio <= 1.0 { Verdict::Met } else { Verdict::Missed };
        self.rows.push(Row {
            what: what.into(),
            budget: budget.into(),
            measured: measured.into(),
            ratio: Some(ratio),
            verdict,
        });
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["what", "budget", "measured", "of budget", "verdict"].map(str::to_owned);
        let cells: Vec<[String; 5]> = self
            .rows
            .iter()
            .map(|row| {
                let ratio = row.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
                let verdict = match row.verdict {
                    Verdict::Met => "met",
                    Verdict::Missed => "MISSED",
                    Verdict::Shown => "",
                };
                [row.what.clone(), row.budget.clone(), row.measured.clone(), ratio, verdict.to_owned()]
            })
            .collect();
        let widths: Vec<usize> = (0..head.len())
            .map(|column| {
                let lines = std::iter::once(&head).chain(&cells);
                lines.map(|line| line[column].chars().count()).max().unwrap_or_default()
            })
            .collect();
        let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        write_line(f, &head, &widths)?;
        write_line(f, &rule, &widths)?;
        cells.iter().try_for_each(|line| write_line(f, line, &widths))?;
        let missed = self.rows.iter().filter(|row| row.verdict == Verdict::Missed).count();
        let judged = self.rows.iter().filter(|row| row.verdict != Verdict::Shown).count();
        write!(
            f,
            "\n{} of {judged} budgets met; \"of budget\" is measured over allowed, at most 1 is met",
            judged - missed
        )
    }
}

fn write_line(f: &mut fmt::Formatter<'_>, cells: &[String], widths: &[usize]) -> fmt::Result {
    let padded: Vec<String> = cells.iter().zip(widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
    writeln!(f, "{}", padded.join("  ").trim_end())
}
