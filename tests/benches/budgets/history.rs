//! The same due work of `dispatcher` beside little and beside much history.
//!
//! Work is the time of an invocation, and the rows and index entries that it read. Pages are shown beside them: they grow
//! with the height of the indexes, whatever is asked of them.

use std::time::{Duration, Instant};

use sqlx::PgPool;

use crate::events::schedule_event;
use crate::median::{median, median_ms};
use crate::stage::{LIMIT, Path, Stage};
use crate::table::Table;
use crate::{Outcome, progress};

const LITTLE: i64 = 10_000;
const MUCH: i64 = 1_000_000;
/// History counts rows of notifications, deliveries and attempts together.
const ROWS_EACH: i64 = 3;
/// Rows of each table in one statement, small enough to tell progress.
const CHUNK: i64 = 100_000;
/// Deliveries that are due in each run.
const DUE: usize = 200;
const RUNS: usize = 7;
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
    make_due_work(stage).await?;
    make_history(admin, 0, LITTLE / ROWS_EACH).await?;
    let little_work = measure_work(stage).await?;
    make_history(admin, LITTLE / ROWS_EACH, much / ROWS_EACH).await?;
    let much_work = measure_work(stage).await?;
    let with = format!("for {DUE} due, {much} rows of history to {LITTLE}");
    let judged = [
        ("time", much_work.time_ms, little_work.time_ms, "ms"),
        ("rows read", much_work.rows_read, little_work.rows_read, "rows"),
    ];
    for (what, much_cost, little_cost, unit) in judged {
        let ratio = much_cost / little_cost;
        let measured = format!("{ratio:.2} x ({much_cost:.0} to {little_cost:.0} {unit})");
        table.add_at_most(format!("dispatcher: {what} {with}"), format!("{ALLOWED} x"), measured, ratio, ALLOWED);
    }
    let (much_pages, little_pages) = (much_work.pages, little_work.pages);
    let measured = format!("{:.2} x ({much_pages:.0} to {little_pages:.0} pages)", much_pages / little_pages);
    table.show(format!("dispatcher: pages touched {with}"), measured);
    Ok(())
}

/// Keeps autovacuum out of the figures and ends what earlier sections left open.
async fn calm_tables(admin: &PgPool) -> Outcome<()> {
    for statement in [
        "ALTER TABLE harkara.deliveries SET (autovacuum_enabled = false)",
        "ALTER TABLE harkara.notifications SET (autovacuum_enabled = false)",
        "ALTER TABLE harkara.attempts_default SET (autovacuum_enabled = false)",
        "ALTER TABLE harkara.events SET (autovacuum_enabled = false)",
        "DELETE FROM harkara.events",
        "UPDATE harkara.deliveries SET state = 'canceled', reason = 'canceled', due_at = NULL, finished_at = now()
         WHERE state IN ('scheduled', 'queued', 'held')",
    ] {
        sqlx::query(statement).execute(admin).await?;
    }
    Ok(())
}

/// Stores the deliveries that every run publishes again; their first messages are dropped.
async fn make_due_work(stage: &Stage) -> Outcome<()> {
    let enqueue = stage.start_function("enqueue", Path::Direct).await?;
    let mut stored = 0;
    while stored < DUE {
        let count = (DUE - stored).min(100);
        stage.enqueue(&enqueue, count, 30_000 + stored).await?;
        stored += count;
    }
    Ok(())
}

/// Inserts finished notifications with their deliveries and attempts, numbered from `first` to below `end`.
async fn make_history(admin: &PgPool, first: i64, end: i64) -> Outcome<()> {
    let mut connection = admin.acquire().await?;
    // Without triggers and foreign keys: history is not under test, and the audit of it would be as large again.
    sqlx::query("SET session_replication_role = replica").execute(&mut *connection).await?;
    let mut from = first;
    while from < end {
        let to = (from + CHUNK).min(end);
        progress(&format!("making history: {} of {} rows", from * ROWS_EACH, end * ROWS_EACH));
        for insert in [
            include_str!("history_notifications.sql"),
            include_str!("history_deliveries.sql"),
            include_str!("history_attempts.sql"),
        ] {
            sqlx::query(insert).bind(from).bind(to).execute(&mut *connection).await?;
        }
        from = to;
    }
    sqlx::query("SET session_replication_role = origin").execute(&mut *connection).await?;
    progress("analyzing");
    for statement in [
        "VACUUM (ANALYZE) harkara.notifications",
        "VACUUM (ANALYZE) harkara.deliveries",
        "VACUUM (ANALYZE) harkara.attempts",
        "CHECKPOINT",
    ] {
        sqlx::query(statement).execute(&mut *connection).await?;
    }
    Ok(())
}

async fn measure_work(stage: &Stage) -> Outcome<Work> {
    progress(&format!("dispatcher: {DUE} due deliveries, {RUNS} runs"));
    let (mut times, mut rows_read, mut pages) = (Vec::new(), Vec::new(), Vec::new());
    // The first run warms caches on both sides and publishes what else is due.
    for run in 0..=RUNS {
        let (time, counts) = run_dispatcher(stage).await?;
        if run > 0 {
            times.push(time);
            rows_read.push(counts.rows_read);
            pages.push(counts.pages);
        }
    }
    Ok(Work { time_ms: median_ms(&times), rows_read: median(&rows_read), pages: median(&pages) })
}

/// One run in a process of its own, because a backend reports what it read when it ends.
async fn run_dispatcher(stage: &Stage) -> Outcome<(Duration, Counts)> {
    let admin = &stage.database.admin;
    let dispatcher = stage.start_function("dispatcher", Path::Direct).await?;
    // Connects, and prepares what it can without work.
    dispatcher.invoke(&schedule_event(), LIMIT).await?;
    make_due_again(admin).await?;
    let before = count_work(admin).await?;
    stage.aws.take_messages();
    let began = Instant::now();
    dispatcher.invoke(&schedule_event(), LIMIT).await?;
    let time = began.elapsed();
    let published = stage.aws.take_messages().len();
    if published != DUE {
        return Err(format!("dispatcher published {published} of {DUE}; {:?}", dispatcher.output()).into());
    }
    dispatcher.kill();
    dispatcher.wait_for_exit().await;
    wait_for_workers_to_leave(admin).await?;
    let after = count_work(admin).await?;
    let counts = Counts { rows_read: after.rows_read - before.rows_read, pages: after.pages - before.pages };
    Ok((time, counts))
}

/// What the update itself reads is reported at once, so that it is not counted as the dispatcher's.
async fn make_due_again(admin: &PgPool) -> Outcome<()> {
    let mut connection = admin.acquire().await?;
    for statement in [
        "UPDATE harkara.deliveries SET due_at = now(), publish_count = 0 WHERE state = 'queued'",
        "SELECT pg_stat_force_next_flush()",
        "SELECT pg_stat_clear_snapshot()",
    ] {
        sqlx::query(statement).execute(&mut *connection).await?;
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
