//! The SQL door: what `harkara.enqueue` costs a domain's transaction, and how soon after its commit the mail is on its way.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::due::{end_what_is_open, make_recipients};
use crate::events::{KNOWN_CATEGORY, schedule_event};
use crate::median::{median, median_ms};
use crate::stage::{LIMIT, Path, Stage};
use crate::table::Table;
use crate::{Outcome, progress};

/// Calls of one transaction.
const CALLS: i64 = 1_000;
/// Rounds in turns, so that whatever the machine does besides falls on both alike.
const ROUNDS: usize = 5;
/// Seconds from one run of the dispatcher to the next, as the template has it.
const TICK_SECONDS: f64 = 60.0;

const ENQUEUE: &str = "SELECT harkara.enqueue($1)";
const INSERT: &str = "INSERT INTO public.plain_requests (request) VALUES ($1)";

pub(crate) async fn measure(stage: &Stage, table: &mut Table) -> Outcome<()> {
    progress("the SQL door");
    let admin = &stage.database.admin;
    make_recipients(admin, 0, CALLS).await?;
    for statement in [
        "CREATE TABLE public.plain_requests (request_id uuid PRIMARY KEY DEFAULT uuidv7(), request jsonb NOT NULL)",
        "GRANT INSERT ON public.plain_requests TO bench_domain",
        "CALL harkara.open_door('bench_domain', '01936f00-0000-7000-8000-00000000beac')",
    ] {
        sqlx::query(statement).execute(admin).await?;
    }
    let domain = PgPool::connect(stage.database.domain_url()?.as_str()).await?;
    add_cost(&domain, table).await?;
    add_latency(stage, &domain, table).await?;
    domain.close().await;
    Ok(())
}

/// The cost of a call beside a plain insert of the same request, each a statement of its own in one transaction.
async fn add_cost(domain: &PgPool, table: &mut Table) -> Outcome<()> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(time_calls(domain, ENQUEUE, CALLS).await?);
        theirs.push(time_calls(domain, INSERT, CALLS).await?);
    }
    let ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
    table.show(
        format!("harkara.enqueue: {CALLS} calls in a transaction, against plain inserts"),
        format!("{:.2} x ({:.0} against {:.0} us each)", median(&ratios), median(&ours), median(&theirs)),
    );
    Ok(())
}

/// Microseconds for each call, the commit shared by all.
async fn time_calls(domain: &PgPool, statement: &'static str, calls: i64) -> Outcome<f64> {
    let mut transaction = domain.begin().await?;
    let began = Instant::now();
    for n in 0..calls {
        sqlx::query(statement).bind(request(n)).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    Ok(began.elapsed().as_secs_f64() * 1e6 / calls as f64)
}

/// A request waits for the dispatcher's tick, which comes at any moment of its minute, and then for the dispatcher's work
/// and the processor's. Only the work is measured: the rest is the schedule's.
async fn add_latency(stage: &Stage, domain: &PgPool, table: &mut Table) -> Outcome<()> {
    let dispatcher = stage.start_function("dispatcher", Path::Direct).await?;
    let processor = stage.start_function("processor", Path::Direct).await?;
    let processor = &processor;
    // What the costs have asked for leaves first.
    dispatcher.invoke(&schedule_event(), LIMIT).await?;
    for calls in [1, CALLS] {
        let (mut to_queue, mut to_mail) = (Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            end_what_is_open(&stage.database.admin).await?;
            time_calls(domain, ENQUEUE, calls).await?;
            stage.aws.take_messages();
            let began = Instant::now();
            dispatcher.invoke(&schedule_event(), LIMIT).await?;
            let queued = began.elapsed();
            let messages = stage.aws.take_messages();
            if i64::try_from(messages.len()) != Ok(calls) {
                return Err(format!("{calls} requests became {} messages", messages.len()).into());
            }
            for batch in messages.chunks(10) {
                stage.process(processor, batch).await?;
            }
            // The first round warms both.
            if round > 0 {
                to_queue.push(queued);
                to_mail.push(began.elapsed());
            }
        }
        table.show(
            format!("SQL door: from the commit to the last of {calls} messages, and to its mail"),
            format!("{}; {}", spread(&to_queue), spread(&to_mail)),
        );
    }
    Ok(())
}

/// The half and the longest of what a request waits, with a tick that is as likely at any moment: half of the minute and
/// the median of the work, and the whole minute and the longest work of a round.
fn spread(work: &[Duration]) -> String {
    let median = median_ms(work) / 1000.0;
    let longest = work.iter().max().map_or(0.0, Duration::as_secs_f64);
    format!(
        "half within {:.2} s, all within {:.2} s ({median:.3} s of work, {longest:.3} s at most)",
        TICK_SECONDS / 2.0 + median,
        TICK_SECONDS + longest
    )
}

fn request(n: i64) -> Value {
    json!({"category": KNOWN_CATEGORY, "recipient": {"id": format!("r{n}")}, "data": {"number": n}})
}
