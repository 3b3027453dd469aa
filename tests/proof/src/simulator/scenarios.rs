//! Rows of the crash matrix that want more deliveries than real functions send in a test: one tenant has very many, and
//! the others must not notice.

use super::executor::{MILLI, Micros, SECOND};
use super::plan::{Address, Fate, HOUR, Incident, IncidentKind, MINUTE, Plan, PlannedNotification, PlannedRequest};
use super::queue::IN_FLIGHT_LIMIT;
use super::trace::Trace;
use super::world::World;
use super::{run_seed, run_world};
use crate::history::QueueName;
use domain::category::{DeliveryRules, UnknownPolicy};
use jiff::SignedDuration;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// The tenant that has very many.
const LOUD: usize = 0;
/// Those that have few.
const OTHERS: std::ops::Range<usize> = 1..6;
/// What waits for longer waits in the database.
const LONGEST_HIDE: SignedDuration = SignedDuration::from_mins(5);
/// What the others ask for, each this often.
const OTHERS_PERIOD: Micros = 10 * SECOND;

const RULES: DeliveryRules =
    DeliveryRules { max_attempts: 12, unknown_policy: UnknownPolicy::AtLeastOnce, reconcile_window_seconds: 600 };

/// A world in which nothing fails by chance, the loud tenant asks for `loud` mails at once, and the others go on as ever.
fn plan(loud: usize, sends_per_second: Option<f64>, incidents: Vec<Incident>, time: Micros) -> Plan {
    let notification =
        || PlannedNotification { address: 0, rules: RULES, send_after: 0, expires_after: None, is_sandbox: false };
    let request = |at, tenant, count: usize| PlannedRequest {
        at,
        tenant,
        has_key: true,
        reuses_key: false,
        notifications: (0..count).map(|_| notification()).collect(),
    };
    // A request holds a hundred, as the API has it.
    let mut requests: Vec<PlannedRequest> =
        (0..loud / 100).map(|number| request(number as u64 * MILLI, LOUD, 100)).collect();
    for tenant in OTHERS {
        let first = tenant as u64 * SECOND;
        let times = (0..(time - MINUTE) / OTHERS_PERIOD).map(|number| first + number * OTHERS_PERIOD);
        requests.extend(times.map(|at| request(at, tenant, 1)));
    }
    Plan {
        requests,
        addresses: vec![Address { name: "a@example.org".to_owned(), fate: Fate::Silent }],
        actions: Vec::new(),
        faults: BTreeMap::new(),
        incidents,
        clear_at: time,
        processor_concurrency: 5,
        max_receive_count: 25,
        sends_per_second,
        provider_rate: None,
        has_provider_list: false,
        provider_latency: 100 * MILLI,
    }
}

/// What a world has come to after this time.
struct Seen {
    /// From the request to the first attempt, of the others' deliveries, in order.
    waits: Vec<Duration>,
    in_flight_peak: usize,
    loud_attempts: usize,
    /// Messages that are in the queue at the end.
    messages: usize,
    /// Deliveries that wait for no more than five minutes at the end, and those that wait for longer.
    short_waits: usize,
    long_waits: usize,
}

fn watch(plan: Plan, time: Micros) -> Seen {
    let world: Rc<World> = World::new(1, plan, Trace::default(), false);
    run_world(&world, time);
    let database = world.database.borrow();
    let mut waits: Vec<Duration> = database
        .deliveries
        .iter()
        .filter(|delivery| delivery.tenant != LOUD)
        .map(|delivery| {
            let begun_at = delivery.row.attempts.first().map_or(world.clock(), |attempt| attempt.started_at);
            begun_at.duration_since(delivery.created_at).unsigned_abs()
        })
        .collect();
    waits.sort_unstable();
    let loud = database.deliveries.iter().filter(|delivery| delivery.tenant == LOUD);
    let loud_attempts = loud.map(|delivery| delivery.row.attempts.len()).sum();
    let soon = world.clock() + LONGEST_HIDE;
    let waiting = database.deliveries.iter().filter(|delivery| delivery.row.state.is_open());
    let (short, long): (Vec<_>, Vec<_>) = waiting.partition(|delivery| delivery.row.not_before <= soon);
    let (short_waits, long_waits) = (short.len(), long.len());
    drop(database);
    let (in_flight_peak, messages) =
        world.with_queue(QueueName::Deliveries, |queue| (queue.in_flight_peak, queue.len()));
    world.executor.clear();
    Seen { waits, in_flight_peak, loud_attempts, messages, short_waits, long_waits }
}

impl Seen {
    fn p99(&self) -> Duration {
        self.waits[self.waits.len() * 99 / 100]
    }

    fn longest(&self) -> Duration {
        self.waits[self.waits.len() - 1]
    }
}

/// Row 36. What waits for longer than five minutes waits in the database, and is not in flight at the queue.
#[test]
fn row_36_a_backoff_of_more_than_five_minutes_is_no_message() {
    const LOUD_COUNT: usize = 3_000;
    const TIME: Micros = 45 * MINUTE;
    let failing = Incident { from: 0, to: TIME, kind: IncidentKind::FailingFor { tenant: LOUD } };
    let seen = watch(plan(LOUD_COUNT, None, vec![failing], TIME), TIME);
    let Seen { messages, short_waits, long_waits, .. } = seen;
    println!("{long_waits} wait for more than five minutes, {short_waits} for less, and {messages} are messages");
    assert!(long_waits > LOUD_COUNT / 2, "the backoffs have become long");
    assert!(messages <= short_waits + LOUD_COUNT / 20, "{messages} messages for {short_waits} that wait for less");
}

/// Row 36. So many as a queue may have in flight are in backoff, and neither the queue nor another tenant is full of them.
#[test]
fn row_36_a_tenant_in_backoff_fills_neither_the_queue_nor_the_others_time() {
    const LOUD_COUNT: usize = 120_000;
    const TIME: Micros = HOUR;
    let failing = Incident { from: 0, to: TIME, kind: IncidentKind::FailingFor { tenant: LOUD } };
    let alone = watch(plan(0, None, Vec::new(), TIME), TIME);
    let beside = watch(plan(LOUD_COUNT, None, vec![failing], TIME), TIME);
    println!(
        "{LOUD_COUNT} in backoff with {} attempts: {} in flight at most; the others wait {:?} (p99), {:?} at most, \
         and {:?} without",
        beside.loud_attempts,
        beside.in_flight_peak,
        beside.p99(),
        beside.longest(),
        alone.p99()
    );
    assert!(beside.loud_attempts > LOUD_COUNT, "they were tried again and again");
    assert!(beside.in_flight_peak < IN_FLIGHT_LIMIT / 2, "{} in flight", beside.in_flight_peak);
    assert_eq!(beside.waits.len(), alone.waits.len());
    assert!(beside.p99() <= alone.p99() + Duration::from_secs(2), "{:?} and {:?}", beside.p99(), alone.p99());
}

/// How long a tenant below its share of the account's rate may wait: the two seconds that a claim sends ahead of the even
/// spacing, rounded up to whole ones where its message is hidden, and a batch that is in work already.
const LIGHT_BOUND: Duration = Duration::from_secs(5);

/// The account's rate, in mails a second.
const RATE: f64 = 50.0;

fn watch_beside(loud: usize, time: Micros) -> Seen {
    let seen = watch(plan(loud, Some(RATE), Vec::new(), time), time);
    println!(
        "{loud} of one tenant, {} of them sent within {} s at {RATE} a second: the others wait {:?} (p99), {:?} at most",
        seen.loud_attempts,
        time / SECOND,
        seen.p99(),
        seen.longest()
    );
    seen
}

/// Row 37. So long as they come in, and are put into the line.
#[test]
fn row_37_a_million_of_one_tenant_let_the_others_through() {
    let seen = watch_beside(1_000_000, 20 * MINUTE);
    assert!(seen.loud_attempts > 0, "nothing of them is sent");
    assert!(seen.longest() <= LIGHT_BOUND, "{:?}", seen.longest());
}

/// Row 37. From the first to the last, where there are fewer.
#[test]
fn row_37_the_others_are_let_through_until_the_last_of_them_is_sent() {
    const LOUD_COUNT: usize = 50_000;
    let seen = watch_beside(LOUD_COUNT, HOUR);
    assert!(seen.loud_attempts >= LOUD_COUNT, "all are sent");
    assert!(seen.longest() <= LIGHT_BOUND, "{:?}", seen.longest());
}

/// Row 51. Seeds that nobody has seen, for a few seconds of each run of the tests; `cargo local soak` goes on for longer.
#[test]
fn row_51_fresh_seeds_break_nothing() {
    let base_seed = u64::from(rand::random::<u32>()) << 16;
    println!("the base seed is {base_seed}");
    for seed in base_seed..base_seed + 300 {
        let run = run_seed(seed);
        assert!(run.violations.is_empty(), "cargo run --package proof -- --seed {seed}: {:#?}", run.violations);
    }
}
