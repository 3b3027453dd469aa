//! The same due work of each scheduled function beside little and beside much history of its kind.
//!
//! Work is the time of an invocation, and the rows and index entries that it read. Pages are shown beside them: they grow
//! with the height of the indexes, whatever is asked of them.

use std::time::{Duration, Instant};

use sqlx::PgPool;

use crate::due::{COLLECTIONS, DELIVERIES, DIGESTS, DueWork, ESCALATIONS, RUNGS, end_what_is_open, make_recipients};
use crate::events::schedule_event;
use crate::median::{median, median_ms};
use crate::stage::{LIMIT, Path, Stage};
use crate::table::Table;
use crate::{Outcome, progress};

const LITTLE: i64 = 10_000;
const MUCH: i64 = 1_000_000;
const KINDS: [DueWork; 5] = [DELIVERIES, COLLECTIONS, DIGESTS, RUNGS, ESCALATIONS];
/// What is due in each run.
const DUE: i64 = 1_000;
const RUNS: i64 = 7;
const ALLOWED: f64 = 1.2;

/// What the due work cost, by medians.
#[derive(Clone, Copy, Debug)]
struct Work {
    time_ms: f64,
    rows_read: f64,
    pages: f64,
}

/// What finished backends have read of the project's tables.
#[derive(Clone, Copy, Debug)]
struct Counts {
    rows_read: f64,
    pages: f64,
}

pub(crate) async fn measure(stage: &Stage, table: &mut Table) -> Outcome<()> {
    let much = match std::env::var("HARKARA_BENCH_HISTORY") {
        Ok(rows) => rows.parse().map_err(|_| "HARKARA_BENCH_HISTORY is no number of rows")?,
        Err(_) => MUCH,
    };
    let admin = &stage.database.admin;
    calm_tables(admin).await?;
    // Everybody has a digest a day at most, so each run has recipients of its own.
    make_recipients(admin, 0, 2 * (RUNS + 1) * DUE).await?;
    let mut little_work = Vec::new();
    for kind in KINDS {
        kind.make_past(admin, 0, LITTLE).await?;
        little_work.push(measure_work(stage, kind, 0).await?);
    }
    let began = Instant::now();
    for kind in KINDS {
        kind.make_past(admin, LITTLE, much).await?;
    }
    sqlx::query("CHECKPOINT").execute(admin).await?;
    table.show(
        format!("history: making {much} rows of each of {} kinds", KINDS.len()),
        format!("{:.0} s", began.elapsed().as_secs_f64()),
    );
    for (kind, little) in KINDS.into_iter().zip(little_work) {
        let much_work = measure_work(stage, kind, RUNS + 1).await?;
        add_ratios(table, kind, much, little, much_work);
    }
    Ok(())
}

fn add_ratios(table: &mut Table, kind: DueWork, much: i64, little: Work, much_work: Work) {
    let DueWork { what, function, .. } = kind;
    let with = format!("for {DUE} due {what}, {much} rows of history to {LITTLE}");
    let judged = [
        ("time", much_work.time_ms, little.time_ms, "ms"),
        ("rows read", much_work.rows_read, little.rows_read, "rows"),
    ];
    for (what, much_cost, little_cost, unit) in judged {
        let ratio = much_cost / little_cost;
        let measured = format!("{ratio:.2} x ({much_cost:.0} to {little_cost:.0} {unit})");
        table.add_at_most(format!("{function}: {what} {with}"), format!("{ALLOWED} x"), measured, ratio, ALLOWED);
    }
    let (much_pages, little_pages) = (much_work.pages, little.pages);
    let measured = format!("{:.2} x ({much_pages:.0} to {little_pages:.0} pages)", much_pages / little_pages);
    table.show(format!("{function}: pages touched {with}"), measured);
}

/// Keeps autovacuum out of the figures.
async fn calm_tables(admin: &PgPool) -> Outcome<()> {
    for statement in [
        "ALTER TABLE harkara.deliveries SET (autovacuum_enabled = false)",
        "ALTER TABLE harkara.notifications SET (autovacuum_enabled = false)",
        "ALTER TABLE harkara.attempts_default SET (autovacuum_enabled = false)",
        "ALTER TABLE harkara.events SET (autovacuum_enabled = false)",
        "ALTER TABLE harkara.collections SET (autovacuum_enabled = false)",
        "ALTER TABLE harkara.collection_members SET (autovacuum_enabled = false)",
        "ALTER TABLE harkara.digests SET (autovacuum_enabled = false)",
        "ALTER TABLE harkara.digest_entries SET (autovacuum_enabled = false)",
        "ALTER TABLE harkara.deadlines SET (autovacuum_enabled = false)",
        "ALTER TABLE harkara.rungs SET (autovacuum_enabled = false)",
        "ALTER TABLE harkara.escalations SET (autovacuum_enabled = false)",
        "ALTER TABLE harkara.escalation_steps SET (autovacuum_enabled = false)",
        "ALTER TABLE harkara.escalation_notifications SET (autovacuum_enabled = false)",
    ] {
        sqlx::query(statement).execute(admin).await?;
    }
    end_what_is_open(admin).await
}

async fn measure_work(stage: &Stage, kind: DueWork, first_run: i64) -> Outcome<Work> {
    progress(&format!("{}: {DUE} due {}, {RUNS} runs", kind.function, kind.what));
    let (mut times, mut rows_read, mut pages) = (Vec::new(), Vec::new(), Vec::new());
    // The first run warms caches on both sides.
    for run in 0..=RUNS {
        let (time, counts) = run_once(stage, kind, first_run + run).await?;
        if run > 0 {
            times.push(time);
            rows_read.push(counts.rows_read);
            pages.push(counts.pages);
        }
    }
    Ok(Work { time_ms: median_ms(&times), rows_read: median(&rows_read), pages: median(&pages) })
}

/// One run in a process of its own, because a backend reports what it read when it ends.
async fn run_once(stage: &Stage, kind: DueWork, run: i64) -> Outcome<(Duration, Counts)> {
    let admin = &stage.database.admin;
    let function = stage.start_function(kind.function, Path::Direct).await?;
    // Connects, and prepares what it can without work.
    function.invoke(&schedule_event(), LIMIT).await?;
    end_what_is_open(admin).await?;
    kind.make_due(admin, run * DUE, (run + 1) * DUE).await?;
    report_own_reads(admin).await?;
    let before = count_work(admin).await?;
    stage.aws.take_messages();
    let began = Instant::now();
    let answer = function.invoke(&schedule_event(), LIMIT).await?;
    let time = began.elapsed();
    let published = stage.aws.take_messages().len();
    if i64::try_from(published) != Ok(DUE) {
        let words = format!("{} published {published} for {DUE} {}", kind.function, kind.what);
        return Err(format!("{words}: {answer} {:?}", function.output()).into());
    }
    function.kill();
    function.wait_for_exit().await;
    wait_for_workers_to_leave(admin).await?;
    let after = count_work(admin).await?;
    let counts = Counts { rows_read: after.rows_read - before.rows_read, pages: after.pages - before.pages };
    Ok((time, counts))
}

/// What the benches' own connections have read is reported at once, so that it is not counted as the function's.
async fn report_own_reads(admin: &PgPool) -> Outcome<()> {
    // Which connection of the pool did it is not known, and each reports only its own.
    let mut connections = Vec::new();
    while let Some(connection) = admin.try_acquire() {
        connections.push(connection);
    }
    for connection in &mut connections {
        for statement in ["SELECT pg_stat_force_next_flush()", "SELECT pg_stat_clear_snapshot()"] {
            sqlx::query(statement).execute(&mut **connection).await?;
        }
    }
    Ok(())
}

async fn count_work(admin: &PgPool) -> Outcome<Counts> {
    let (rows_read, pages) = sqlx::query_as(include_str!("count_work.sql")).fetch_one(admin).await?;
    Ok(Counts { rows_read, pages })
}

async fn wait_for_workers_to_leave(admin: &PgPool) -> Outcome<()> {
    let began = Instant::now();
    loop {
        let connected: i64 =
            sqlx::query_scalar("SELECT count(*) FROM pg_stat_activity WHERE usename = 'harkara_bench_worker'")
                .fetch_one(admin)
                .await?;
        match connected {
            0 => return Ok(()),
            _ if began.elapsed() > LIMIT => return Err("a killed dispatcher's connections stay open".into()),
            _ => tokio::task::yield_now().await,
        }
    }
}
