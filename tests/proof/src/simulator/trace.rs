//! What happened in a run, told line by line for people who replay it.

use super::executor::{Micros, SECOND};

/// Lines, where anybody wants them.
#[derive(Debug, Default)]
pub(super) struct Trace {
    lines: Option<Vec<Line>>,
}

#[derive(Debug)]
struct Line {
    at: Micros,
    delivery: Option<usize>,
    text: String,
}

impl Trace {
    pub(super) fn kept() -> Self {
        Self { lines: Some(Vec::new()) }
    }

    pub(super) fn add(&mut self, at: Micros, delivery: Option<usize>, text: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(Line { at, delivery, text: text() });
        }
    }

    /// The lines about these deliveries, and those about none; all lines where none is named.
    pub(super) fn print(&self, deliveries: &[usize]) -> Vec<String> {
        let lines = self.lines.iter().flatten();
        let wanted = lines.filter(|line| {
            deliveries.is_empty() || line.delivery.is_some_and(|delivery| deliveries.contains(&delivery))
        });
        wanted
            .map(|line| {
                let (seconds, rest) = (line.at / SECOND, line.at % SECOND);
                let whose = line.delivery.map_or_else(|| "     ".to_owned(), |number| format!("#{number:<4}"));
                format!("{seconds:>7}.{rest:06} {whose} {}", line.text)
            })
            .collect()
    }
}
