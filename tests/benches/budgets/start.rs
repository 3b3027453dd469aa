//! How long a function takes until it asks for its first event, against a hello-world, and how much memory it holds.

use std::time::Duration;

use local::runtime_api::Function;

use crate::functions::HELLO;
use crate::median::{median, median_ms};
use crate::stage::{Path, Stage};
use crate::table::Table;
use crate::{Outcome, progress};

/// Starts of each function; taken in turns, so that whatever the machine does besides falls on all alike.
const RUNS: usize = 21;
/// Functions that a caller or a message may wait for.
const STARTED: [&str; 5] = ["enqueue", "processor", "api", "dispatcher", "dead_letter"];
const START_ALLOWED: f64 = 3.0;
/// Megabytes of 1,000,000 bytes.
const MEMORY_ALLOWED_MB: f64 = 12.0;
/// Invocations after which the memory is looked at again, of ten notifications each.
const INVOCATIONS: usize = 20;
const BATCH: usize = 10;

/// What the starts of one function took.
#[derive(Debug, Default)]
struct Starts {
    times: Vec<Duration>,
    resident_mb: Vec<f64>,
}

pub(crate) async fn measure(stage: &Stage, table: &mut Table) -> Outcome<()> {
    progress(&format!("starting hello and {} functions {RUNS} times each", STARTED.len()));
    let mut hello = Starts::default();
    let mut others: Vec<Starts> = STARTED.iter().map(|_| Starts::default()).collect();
    for _ in 0..RUNS {
        hello.add_run(stage, HELLO).await?;
        for (name, starts) in STARTED.iter().zip(&mut others) {
            starts.add_run(stage, name).await?;
        }
    }
    let base = median_ms(&hello.times);
    table.show("hello-world: start, resident", format!("{base:.1} ms, {:.1} MB", median(&hello.resident_mb)));
    for (name, starts) in STARTED.iter().zip(&others) {
        let time = median_ms(&starts.times);
        table.add_at_most(
            format!("{name}: start until the first /next"),
            format!("{START_ALLOWED} x hello-world"),
            format!("{:.2} x ({time:.1} ms)", time / base),
            time / base,
            START_ALLOWED,
        );
    }
    for (name, starts) in STARTED.iter().zip(&others) {
        add_memory(table, &format!("{name}: resident after start"), median(&starts.resident_mb));
    }
    measure_after_work(stage, table).await
}

impl Starts {
    async fn add_run(&mut self, stage: &Stage, name: &str) -> Outcome<()> {
        let function = stage.start_function(name, Path::Direct).await?;
        self.times.push(function.time_to_first_next());
        self.resident_mb.push(resident_mb(&function)?);
        // The next start should not share the machine with this one's end.
        function.kill();
        function.wait_for_exit().await;
        Ok(())
    }
}

async fn measure_after_work(stage: &Stage, table: &mut Table) -> Outcome<()> {
    progress(&format!("memory after {INVOCATIONS} invocations"));
    let enqueue = stage.start_function("enqueue", Path::Direct).await?;
    let processor = stage.start_function("processor", Path::Direct).await?;
    for round in 0..INVOCATIONS {
        let messages = stage.enqueue(&enqueue, BATCH, round).await?;
        stage.process(&processor, &messages).await?;
    }
    for (name, function) in [("enqueue", &enqueue), ("processor", &processor)] {
        let what = format!("{name}: resident after {INVOCATIONS} invocations of {BATCH}");
        add_memory(table, &what, resident_mb(function)?);
    }
    Ok(())
}

fn add_memory(table: &mut Table, what: &str, resident_mb: f64) {
    table.add_at_most(
        what,
        format!("{MEMORY_ALLOWED_MB} MB"),
        format!("{resident_mb:.1} MB"),
        resident_mb,
        MEMORY_ALLOWED_MB,
    );
}

#[expect(clippy::cast_precision_loss, reason = "a function's memory is far below 2^52 bytes")]
fn resident_mb(function: &Function) -> Outcome<f64> {
    Ok(function.resident_memory_bytes()? as f64 / 1e6)
}
