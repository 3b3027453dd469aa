//! Digests and reminders for very many: what a thousand of them cost, and what memory they need.

use std::time::{Duration, Instant};

use sqlx::PgPool;

use crate::due::{CHOSEN, DIGESTS, DueWork, ROUNDS, RUNGS, end_what_is_open, make_recipients};
use crate::events::schedule_event;
use crate::stage::{Path, Stage};
use crate::table::Table;
use crate::wire::Counts;
use crate::{Outcome, progress};

const FEW: i64 = 10_000;
const MANY: i64 = 100_000;
/// Longer than any run of a function.
const LIMIT: Duration = Duration::from_secs(900);
/// Statements for a thousand of them: a dozen for each of two batches, and those of the run itself.
const STATEMENTS_ALLOWED: f64 = 30.0;
/// Memory for many to memory for few.
const MEMORY_ALLOWED: f64 = 1.2;

/// What it took to do so much.
#[derive(Clone, Copy, Debug)]
struct Cost {
    count: i64,
    time: Duration,
    sent: Counts,
    peak_mb: f64,
}

impl Cost {
    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    fn statements_per_thousand(self) -> f64 {
        self.sent.statements as f64 * 1000.0 / self.count as f64
    }

    fn per_second(self) -> f64 {
        per_second(self.count, self.time)
    }
}

/// One digest for each of many recipients: of what was collected for them, and of a category's own rhythm.
pub(crate) async fn measure_digests(stage: &Stage, table: &mut Table) -> Outcome<()> {
    make_recipients(&stage.database.admin, 0, FEW + 2 * MANY).await?;
    for kind in [DIGESTS, ROUNDS] {
        let few = do_due(stage, kind, 0, FEW).await?;
        let many = do_due(stage, kind, FEW, FEW + MANY).await?;
        add_costs(table, kind, few, many);
    }
    // Each time is a transaction of its own, so this depends on how many there are.
    let chosen = do_due(stage, CHOSEN, FEW + MANY, FEW + 2 * MANY).await?;
    let (statements, rate) = (chosen.statements_per_thousand(), chosen.per_second());
    table.show(
        format!("digest: statements for 1000 {} of {MANY}", CHOSEN.what),
        format!("{statements:.1} ({rate:.0} in a second, {:.1} MB)", chosen.peak_mb),
    );
    Ok(())
}

/// One reminder for each of many recipients, next to what the machine can insert.
pub(crate) async fn measure_reminders(stage: &Stage, table: &mut Table) -> Outcome<()> {
    make_recipients(&stage.database.admin, 0, FEW + MANY).await?;
    let few = do_due(stage, RUNGS, 0, FEW).await?;
    let many = do_due(stage, RUNGS, FEW, FEW + MANY).await?;
    add_costs(table, RUNGS, few, many);
    let audited = insert_plainly(&stage.database.admin, "SET session_replication_role = origin").await?;
    let bare = insert_plainly(&stage.database.admin, "SET session_replication_role = replica").await?;
    let ours = many.per_second();
    table.show(
        format!("reminder: {MANY} rungs to rows and messages, against plain inserts of the same rows"),
        format!(
            "{:.0} % ({ours:.0} against {audited:.0} in a second; {bare:.0} without audit and foreign keys)",
            ours / audited * 100.0
        ),
    );
    Ok(())
}

async fn do_due(stage: &Stage, kind: DueWork, first: i64, end: i64) -> Outcome<Cost> {
    let count = end - first;
    progress(&format!("{}: {count} due {}", kind.function, kind.what));
    let admin = &stage.database.admin;
    end_what_is_open(admin).await?;
    kind.make_due(admin, first, end).await?;
    let function = stage.start_function(kind.function, Path::Counted).await?;
    stage.aws.take_messages();
    let (before, began) = (stage.proxy.counts(), Instant::now());
    let mut published = 0;
    // A run ends with its function's time; the next one goes on.
    while published < count {
        let answer = function.invoke(&schedule_event(), LIMIT).await?;
        let messages = i64::try_from(stage.aws.take_messages().len())?;
        if messages == 0 {
            return Err(format!("{} published {published} of {count}: {answer}", kind.function).into());
        }
        published += messages;
    }
    let time = began.elapsed();
    stage.aws.take_calls();
    Ok(Cost { count, time, sent: stage.proxy.counts() - before, peak_mb: peak_mb(function.peak_memory_bytes()?) })
}

fn add_costs(table: &mut Table, kind: DueWork, few: Cost, many: Cost) {
    let DueWork { what, function, .. } = kind;
    for cost in [few, many] {
        let statements = cost.statements_per_thousand();
        table.add_at_most(
            format!("{function}: statements for 1000 {what} of {}", cost.count),
            format!("{STATEMENTS_ALLOWED}"),
            format!("{statements:.1} ({:.0} {what} in a second)", cost.per_second()),
            statements,
            STATEMENTS_ALLOWED,
        );
    }
    let ratio = many.peak_mb / few.peak_mb;
    table.add_at_most(
        format!("{function}: peak memory for {} {what} to {}", many.count, few.count),
        format!("{MEMORY_ALLOWED} x"),
        format!("{ratio:.2} x ({:.1} to {:.1} MB)", many.peak_mb, few.peak_mb),
        ratio,
        MEMORY_ALLOWED,
    );
}

/// How many rungs of as many a second one connection turns into rows, in transactions of as many as the reminder has.
async fn insert_plainly(admin: &PgPool, triggers: &'static str) -> Outcome<f64> {
    progress("inserting the same rows plainly");
    end_what_is_open(admin).await?;
    RUNGS.make_due(admin, 0, MANY).await?;
    let mut connection = admin.acquire().await?;
    sqlx::query(triggers).execute(&mut *connection).await?;
    let began = Instant::now();
    while sqlx::query(include_str!("due/plain_reminders.sql")).execute(&mut *connection).await?.rows_affected() > 0 {}
    let time = began.elapsed();
    sqlx::query("SET session_replication_role = origin").execute(&mut *connection).await?;
    Ok(per_second(MANY, time))
}

#[expect(clippy::cast_precision_loss, reason = "counts are small")]
fn per_second(count: i64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "a function's memory is far below 2^52 bytes")]
fn peak_mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
