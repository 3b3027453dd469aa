//! Measures the budgets of the design and prints them as one table: `cargo local bench`.
//!
//! Cast: the functions' release binaries, each started through the local Runtime API; Postgres behind a proxy that counts
//! round trips on the wire; stand-ins for SQS, EventBridge and SES on loopback.
//!
//! Every figure is a count, or a ratio of two measurements of the same run, so that a slow machine changes no verdict.
//! Progress goes to standard error, the table to standard output. A missed budget is shown, not a failure: the exit code
//! says only whether everything could be measured.
//!
//! Environment:
//! - `DATABASE_URL`: a superuser's URL of a Postgres 18 server; the database `harkara_bench` is made there and dropped.
//! - `HARKARA_POSTGRES_PROGRAMS`: the folder of `pgbench`; without it, the inserts are compared with plain ones.
//! - `HARKARA_BENCH_HISTORY`: rows of history of each kind of due work, default 1,000,000 (10,000,000 take 15 minutes to
//!   make, and 20 GB).
//! - `HARKARA_BENCH_ONLY`: a comma-separated choice of sections: render, start, size, round_trips, throughput, insert,
//!   digests, reminders, door, history.

mod aws;
mod bare_client;
mod bench_database;
mod bulk;
mod door;
mod due;
mod events;
mod functions;
mod history;
mod insert;
mod median;
mod render;
mod round_trips;
mod size;
mod stage;
mod start;
mod table;
mod throughput;
mod wire;

use std::process::ExitCode;
use std::time::Instant;

use stage::Stage;
use table::Table;

/// A bench stops at the first thing that it cannot do; the words of the error are for the person who started it.
type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const SECTIONS: [&str; 10] =
    ["render", "start", "size", "round_trips", "throughput", "insert", "digests", "reminders", "door", "history"];

#[tokio::main]
async fn main() -> ExitCode {
    let began = Instant::now();
    match measure().await {
        Ok(table) => {
            println!("{table}");
            progress(&format!("measured in {:.0} s", began.elapsed().as_secs_f64()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("the benches stopped: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn measure() -> Outcome<Table> {
    let chosen = choose_sections()?;
    let is_chosen = |section: &str| chosen.iter().any(|name| name == section);
    let mut table = Table::default();
    if is_chosen("render") {
        render::measure(&mut table)?;
        if chosen.len() == 1 {
            return Ok(table);
        }
    }
    functions::build_functions()?;
    if is_chosen("size") {
        size::measure(&mut table)?;
    }
    let stage = Stage::set_up().await?;
    let measured = async {
        if is_chosen("start") {
            start::measure(&stage, &mut table).await?;
        }
        if is_chosen("round_trips") {
            round_trips::measure(&stage, &mut table).await?;
        }
        if is_chosen("throughput") {
            throughput::measure(&stage, &mut table).await?;
        }
        if is_chosen("insert") {
            insert::measure(&stage, &mut table).await?;
        }
        if is_chosen("digests") {
            bulk::measure_digests(&stage, &mut table).await?;
        }
        if is_chosen("reminders") {
            bulk::measure_reminders(&stage, &mut table).await?;
        }
        if is_chosen("door") {
            door::measure(&stage, &mut table).await?;
        }
        if is_chosen("history") {
            history::measure(&stage, &mut table).await?;
        }
        Ok(())
    };
    let measured: Outcome<()> = measured.await;
    stage.tear_down().await?;
    measured.map(|()| table)
}

fn choose_sections() -> Outcome<Vec<String>> {
    let Ok(choice) = std::env::var("HARKARA_BENCH_ONLY") else {
        return Ok(SECTIONS.map(str::to_owned).to_vec());
    };
    let chosen: Vec<String> = choice.split(',').map(str::to_owned).collect();
    match chosen.iter().find(|name| !SECTIONS.contains(&name.as_str())) {
        Some(unknown) => Err(format!("HARKARA_BENCH_ONLY: there is no section {unknown:?}, only {SECTIONS:?}").into()),
        None => Ok(chosen),
    }
}

/// Tells what is being done.
fn progress(what: &str) {
    eprintln!("bench: {what}");
}
