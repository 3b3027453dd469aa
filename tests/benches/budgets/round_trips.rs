//! Round trips to the database and calls of SQS, for requests and batches of several sizes.
//!
//! Counted after a warm-up, because a statement is prepared once on a connection; the first invocation of a fresh
//! function is shown beside it as the cold number.

use local::runtime_api::Function;

use crate::aws::Message;
use crate::stage::{Path, Stage};
use crate::table::Table;
use crate::wire::Counts;
use crate::{Outcome, progress};

const SIZES: [usize; 3] = [1, 10, 100];
const WARM_UPS: usize = 3;
const ENQUEUE_ALLOWED: f64 = 4.0;
const PROCESSOR_ALLOWED: f64 = 6.0;
/// The batch for which the design counts statements in a delivery's whole life.
const LIFE_BATCH: usize = 10;
const STATEMENTS_ALLOWED: f64 = 1.0;
/// Entries that one call of SQS takes.
const SQS_BATCH: usize = 10;
/// Long enough that calls made side by side are seen to overlap.
const SEND_TIME_MS: u64 = 20;

/// What one invocation of each function sent for one size.
#[derive(Debug)]
struct Measured {
    size: usize,
    enqueue: Counts,
    processor: Counts,
    sqs_calls: usize,
    sqs_calls_at_once: usize,
}

pub(crate) async fn measure(stage: &Stage, table: &mut Table) -> Outcome<()> {
    progress("counting round trips, statements and SQS calls for 1, 10 and 100");
    let enqueue = stage.start_function("enqueue", Path::Counted).await?;
    let processor = stage.start_function("processor", Path::Counted).await?;
    stage.aws.set_send_time_ms(SEND_TIME_MS);
    let mut round = 1_000;
    let cold = run_once(stage, &enqueue, &processor, 1, round).await?;
    for _ in 0..WARM_UPS {
        round += 1;
        run_once(stage, &enqueue, &processor, 1, round).await?;
    }
    let mut measured = Vec::new();
    for size in SIZES {
        round += 1;
        measured.push(run_once(stage, &enqueue, &processor, size, round).await?);
    }
    stage.aws.set_send_time_ms(0);
    add_round_trips(table, "enqueue", "4 (goal 2)", ENQUEUE_ALLOWED, &measured, cold.enqueue, |m| m.enqueue);
    add_round_trips(table, "processor", "6 (goal 3)", PROCESSOR_ALLOWED, &measured, cold.processor, |m| m.processor);
    add_statements(table, &measured);
    add_sqs_calls(table, &measured);
    Ok(())
}

async fn run_once(
    stage: &Stage,
    enqueue: &Function,
    processor: &Function,
    size: usize,
    round: usize,
) -> Outcome<Measured> {
    let start = stage.proxy.counts();
    stage.aws.take_calls();
    let messages: Vec<Message> = stage.enqueue(enqueue, size, round).await?;
    let sqs_calls_at_once = stage.aws.sends_at_once();
    let sqs_calls = stage.aws.take_calls().iter().filter(|call| call.starts_with("AmazonSQS.")).count();
    let between = stage.proxy.counts();
    stage.process(processor, &messages).await?;
    Ok(Measured {
        size,
        enqueue: between - start,
        processor: stage.proxy.counts() - between,
        sqs_calls,
        sqs_calls_at_once,
    })
}

#[expect(clippy::cast_precision_loss, reason = "counts are small")]
fn add_round_trips(
    table: &mut Table,
    name: &str,
    budget: &str,
    allowed: f64,
    measured: &[Measured],
    cold: Counts,
    of: impl Fn(&Measured) -> Counts,
) {
    let most = measured.iter().map(|m| of(m).round_trips).max().unwrap_or_default();
    let each: Vec<String> = measured.iter().map(|m| of(m).round_trips.to_string()).collect();
    let statements = measured.iter().map(|m| of(m).statements).max().unwrap_or_default();
    table.add_at_most(
        format!("{name}: database round trips for {}", sizes()),
        budget,
        format!("{} ({statements} with a statement; cold {})", each.join(" / "), cold.round_trips),
        most as f64,
        allowed,
    );
}

#[expect(clippy::cast_precision_loss, reason = "counts are small")]
fn add_statements(table: &mut Table, measured: &[Measured]) {
    for m in measured.iter().filter(|m| m.size == LIFE_BATCH) {
        let total = m.enqueue.statements + m.processor.statements;
        let each = total as f64 / m.size as f64;
        table.add_at_most(
            format!("statements per delivery, batch of {LIFE_BATCH}, enqueue and processor"),
            format!("{STATEMENTS_ALLOWED}"),
            format!("{each:.2} ({} + {})", m.enqueue.statements, m.processor.statements),
            each,
            STATEMENTS_ALLOWED,
        );
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are small")]
fn add_sqs_calls(table: &mut Table, measured: &[Measured]) {
    let allowed: Vec<usize> = measured.iter().map(|m| m.size.div_ceil(SQS_BATCH)).collect();
    let made: Vec<usize> = measured.iter().map(|m| m.sqs_calls).collect();
    let worst = made.iter().zip(&allowed).map(|(made, allowed)| *made as f64 / *allowed as f64).fold(0.0, f64::max);
    table.add_at_most(format!("enqueue: SQS calls for {}", sizes()), join(&allowed), join(&made), worst, 1.0);
    let most = measured.iter().max_by_key(|m| m.size);
    let (at_once, calls) = most.map_or((0, 0), |m| (m.sqs_calls_at_once, m.sqs_calls));
    table.add_at_least(
        format!("enqueue: SQS calls at once for {}", SIZES[SIZES.len() - 1]),
        "all",
        format!("{at_once} of {calls}"),
        at_once as f64,
        calls as f64,
    );
}

fn sizes() -> String {
    join(&SIZES)
}

fn join(numbers: &[usize]) -> String {
    let texts: Vec<String> = numbers.iter().map(usize::to_string).collect();
    texts.join(" / ")
}
