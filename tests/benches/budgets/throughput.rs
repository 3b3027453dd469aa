//! How many mails `processor` sends in a second when SES takes a fixed time, against concurrency over latency.
//!
//! The latency is the one that a bare client sees at the same concurrency in the same run: it holds what the stand-in and
//! the machine add to the fixed time, which is not `processor`'s doing.

use std::time::{Duration, Instant};

use local::ses::{SesConfig, SesHandle, SesServer};

use crate::bare_client::measure_latency;
use crate::stage::{Path, Stage};
use crate::table::Table;
use crate::{Outcome, progress};

/// Near what SES takes from within its region.
const LATENCY: Duration = Duration::from_millis(100);
/// Sizes of the events; the event source mapping of the template hands over ten at a time.
const BATCHES: [usize; 2] = [10, 100];
/// Mails of each measurement.
const MAILS: usize = 400;
const WANTED: f64 = 0.95;

pub(crate) async fn measure(stage: &Stage, table: &mut Table) -> Outcome<()> {
    for batch in BATCHES {
        measure_batches(stage, table, batch).await?;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts are small")]
async fn measure_batches(stage: &Stage, table: &mut Table, batch: usize) -> Outcome<()> {
    progress(&format!("throughput of processor in batches of {batch} at {LATENCY:?} of SES"));
    let ses = SesServer::start(SesConfig { latency: LATENCY, ..SesConfig::default() }).await?;
    let elapsed = process_batches(stage, &ses, batch).await?;
    let concurrency = ses.max_in_flight();
    let latency = measure_latency(&ses.url(), concurrency).await?;
    ses.stop().await;
    let rate = MAILS as f64 / elapsed.as_secs_f64();
    let ideal = concurrency as f64 / latency.as_secs_f64();
    table.add_at_least(
        format!("processor: mails per second, batches of {batch}, SES {} ms", LATENCY.as_millis()),
        format!("{:.0} % of concurrency / latency", WANTED * 100.0),
        format!(
            "{:.1} % ({rate:.1} of {concurrency} / {:.1} ms = {ideal:.1})",
            rate / ideal * 100.0,
            latency.as_secs_f64() * 1000.0
        ),
        rate / ideal,
        WANTED,
    );
    Ok(())
}

/// The time in which `processor` sends [`MAILS`], one event after the other.
async fn process_batches(stage: &Stage, ses: &SesHandle, batch: usize) -> Outcome<Duration> {
    let enqueue = stage.start_function("enqueue", Path::Direct).await?;
    let processor = stage.start_function_with_ses("processor", Path::Direct, &ses.url()).await?;
    let warm_up = stage.enqueue(&enqueue, batch, 10_000).await?;
    let mut batches = Vec::new();
    for round in 0..MAILS / batch {
        batches.push(stage.enqueue(&enqueue, batch, 10_001 + round).await?);
    }
    stage.process(&processor, &warm_up).await?;
    let began = Instant::now();
    for messages in &batches {
        stage.process(&processor, messages).await?;
    }
    Ok(began.elapsed())
}
