//! What a person sees while the stack is set up: one line per step, with its time, and a moving line on a terminal.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Prints steps as they begin and end. Steps may run at the same time; each line is whole.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    terminal: bool,
    moving: Mutex<String>,
}

impl Default for Progress {
    fn default() -> Self {
        Self { started: Instant::now(), terminal: std::io::stderr().is_terminal(), moving: Mutex::new(String::new()) }
    }
}

impl Progress {
    /// Starts the clock.
    pub fn new() -> Self {
        Self::default()
    }

    /// Prints a line with the time since the start.
    pub fn say(&self, text: &str) {
        let mut moving = self.lock();
        self.clear(&moving);
        moving.clear();
        eprintln!("[{}] {text}", seconds(self.started.elapsed()));
    }

    /// Shows how far a long step is: in place on a terminal, else a line of its own.
    pub fn show(&self, text: &str) {
        let mut moving = self.lock();
        if self.terminal {
            self.clear(&moving);
            *moving = format!("[{}] {text}", seconds(self.started.elapsed()));
            eprint!("{moving}");
            // Nobody to show it to is no reason to stop.
            let _ = std::io::stderr().flush();
        } else if *moving != text {
            text.clone_into(&mut moving);
            eprintln!("[{}] {text}", seconds(self.started.elapsed()));
        }
    }

    /// How long ago the start was.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn clear(&self, moving: &str) {
        if self.terminal && !moving.is_empty() {
            eprint!("\r\x1b[2K");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, String> {
        self.moving.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Seconds with one decimal, right-aligned: `  12.3 s`.
fn seconds(time: Duration) -> String {
    format!("{:6.1} s", time.as_secs_f64())
}
