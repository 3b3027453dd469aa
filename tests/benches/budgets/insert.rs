//! `enqueue` of 100 notifications against `pgbench` inserting the same rows in one transaction, and how long whoever asks for
//! one waits for the answer.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use local::runtime_api::Function;

use crate::median::{median, median_ms};
use crate::stage::{Path, Stage};
use crate::table::Table;
use crate::{Outcome, progress};

const COUNT: usize = 100;
/// Rounds in turns, so that whatever the machine does besides falls on both alike.
const ROUNDS: usize = 5;
const REPEATS: usize = 20;
/// Requests of one notification.
const SINGLES: usize = 100;

/// The rows that `enqueue` leaves for [`COUNT`] notifications; the audit triggers add theirs, as they do for `enqueue`.
const INSERT: &str = include_str!("insert_notifications.sql");

pub(crate) async fn measure(stage: &Stage, table: &mut Table) -> Outcome<()> {
    let pgbench = find_pgbench();
    let with = if pgbench.is_some() { "pgbench" } else { "plain inserts" };
    progress(&format!("enqueue of {COUNT} against {with} of the same rows"));
    let enqueue = stage.start_function("enqueue", Path::Direct).await?;
    stage.enqueue(&enqueue, COUNT, 20_000).await?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let mut times = Vec::new();
        for repeat in 0..REPEATS {
            let began = Instant::now();
            stage.enqueue(&enqueue, COUNT, 20_001 + round * REPEATS + repeat).await?;
            times.push(began.elapsed());
        }
        ours.push(mean_ms(&times));
        theirs.push(match &pgbench {
            Some(program) => run_pgbench(stage, program)?,
            None => insert_plainly(stage).await?,
        });
    }
    let ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
    table.show(
        format!("enqueue of {COUNT} against {with} inserting the same rows"),
        format!("{:.2} x ({:.1} ms against {:.1} ms)", median(&ratios), median(&ours), median(&theirs)),
    );
    answer_singles(stage, &enqueue, table).await
}

/// From the invocation of a warm function until it has answered, one request after the other: its rows are committed and its
/// message is on the queue then. What API Gateway and the way to it take is not in it.
async fn answer_singles(stage: &Stage, enqueue: &Function, table: &mut Table) -> Outcome<()> {
    let mut times = Vec::new();
    for request in 0..SINGLES {
        let began = Instant::now();
        stage.enqueue(enqueue, 1, 30_000 + request).await?;
        times.push(began.elapsed());
    }
    let longest = times.iter().max().map_or(0.0, |time| time.as_secs_f64() * 1000.0);
    table.show(
        format!("enqueue of one: the answer, of {SINGLES} requests"),
        format!("{:.1} ms in the median, {longest:.1} ms at most", median_ms(&times)),
    );
    Ok(())
}

fn mean_ms(times: &[Duration]) -> f64 {
    let total: Duration = times.iter().sum();
    total.as_secs_f64() * 1000.0 / f64::from(u32::try_from(times.len().max(1)).unwrap_or(u32::MAX))
}

fn find_pgbench() -> Option<PathBuf> {
    let folders = std::env::var_os("HARKARA_POSTGRES_PROGRAMS").or_else(|| std::env::var_os("PATH"))?;
    std::env::split_paths(&folders).map(|folder| folder.join("pgbench")).find(|program| program.is_file())
}

/// Runs the transaction by pgbench on one connection and returns its mean latency in milliseconds.
fn run_pgbench(stage: &Stage, program: &PathBuf) -> Outcome<f64> {
    let mut child = Command::new(program)
        .args(["--no-vacuum", "--client=1", "--protocol=prepared", "--file=-"])
        .arg(format!("--transactions={REPEATS}"))
        .envs(stage.database.client_env())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(INSERT.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let latency = text
        .lines()
        .find_map(|line| line.strip_prefix("latency average = ")?.strip_suffix(" ms")?.parse::<f64>().ok())
        .filter(|_| output.status.success() && !text.contains("number of failed transactions: 1"));
    latency.ok_or_else(|| format!("pgbench failed: {}{text}", String::from_utf8_lossy(&output.stderr)).into())
}

async fn insert_plainly(stage: &Stage) -> Outcome<f64> {
    let mut times = Vec::new();
    for _ in 0..REPEATS {
        let began = Instant::now();
        sqlx::query(INSERT).execute(&stage.database.admin).await?;
        times.push(began.elapsed());
    }
    Ok(median_ms(&times))
}
