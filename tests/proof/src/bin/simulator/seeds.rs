//! Runs many seeds on every core, and adds up what they came to.

use proof::check::Figures;
use proof::simulator::{FaultCounts, run_seed};
use serde::Serialize;
use std::any::Any;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many broken seeds are told of one by one.
const SHOWN: usize = 20;
/// How often a long run says how far it is.
const PROGRESS: Duration = Duration::from_secs(10);

/// Which seeds to run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Campaign {
    /// The first.
    pub(crate) base_seed: u64,
    /// How many at most.
    pub(crate) seeds: u64,
    /// When to stop; `None` when they all have run.
    pub(crate) time: Option<Duration>,
    /// Whether the first broken seed ends it.
    pub(crate) stops_when_broken: bool,
}

/// What many seeds came to.
#[derive(Debug, Serialize)]
pub(crate) struct Tally {
    /// The first seed.
    pub(crate) base_seed: u64,
    /// How many have run.
    pub(crate) seeds: u64,
    /// How long it took.
    pub(crate) seconds: f64,
    /// What is published, of all of them.
    pub(crate) figures: Figures,
    /// How often each fault was injected.
    pub(crate) faults: FaultCounts,
    /// In virtual time, from the end of the faults until nothing was left to do.
    pub(crate) recovery_seconds: Recovery,
    /// Seeds that broke an invariant.
    pub(crate) broken_seeds: u64,
    /// The lowest of them.
    pub(crate) broken: Vec<BrokenSeed>,
}

/// How long recovery took.
#[derive(Debug, Serialize)]
pub(crate) struct Recovery {
    /// In the middle one of all runs.
    pub(crate) median: f64,
    /// In the slowest.
    pub(crate) longest: f64,
}

/// A seed that broke an invariant.
#[derive(Debug, Serialize)]
pub(crate) struct BrokenSeed {
    /// Which.
    pub(crate) seed: u64,
    /// What it broke.
    pub(crate) violations: Vec<String>,
}

/// What is known so far. Nothing in it depends on which thread ran a seed, or when.
#[derive(Default)]
struct Sum {
    seeds: u64,
    figures: Figures,
    faults: FaultCounts,
    recoveries: Vec<Duration>,
    broken: Vec<BrokenSeed>,
}

/// Runs the seeds, and tells on standard error how far it is.
pub(crate) fn run_campaign(campaign: &Campaign) -> Tally {
    let began = Instant::now();
    let (next, stops) = (AtomicU64::new(0), AtomicBool::new(false));
    let sum = Mutex::new((Sum::default(), began));
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let work = || {
        while !stops.load(Ordering::Relaxed) && campaign.time.is_none_or(|time| began.elapsed() < time) {
            let place = next.fetch_add(1, Ordering::Relaxed);
            if place >= campaign.seeds {
                break;
            }
            let is_broken = add_run(&sum, campaign.base_seed.wrapping_add(place));
            if is_broken && campaign.stops_when_broken {
                stops.store(true, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let (mut sum, _) = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    sum.recoveries.sort_unstable();
    sum.broken.sort_by_key(|broken| broken.seed.wrapping_sub(campaign.base_seed));
    let broken_seeds = sum.broken.len() as u64;
    sum.broken.truncate(SHOWN);
    let seconds_of = |recovery: Option<&Duration>| recovery.map_or(0.0, Duration::as_secs_f64);
    Tally {
        base_seed: campaign.base_seed,
        seeds: sum.seeds,
        seconds: began.elapsed().as_secs_f64(),
        figures: sum.figures,
        faults: sum.faults,
        recovery_seconds: Recovery {
            median: seconds_of(sum.recoveries.get(sum.recoveries.len() / 2)),
            longest: seconds_of(sum.recoveries.last()),
        },
        broken_seeds,
        broken: sum.broken,
    }
}

/// Runs one and adds it: whether it broke anything. A run that panics has broken what it did not get to.
fn add_run(sum: &Mutex<(Sum, Instant)>, seed: u64) -> bool {
    let run = catch_unwind(|| run_seed(seed));
    let mut guard = sum.lock().unwrap_or_else(PoisonError::into_inner);
    let (sum, told_at) = &mut *guard;
    sum.seeds += 1;
    let violations: Vec<String> = match run {
        Ok(run) => {
            sum.figures += run.figures;
            sum.faults.add(&run.faults);
            sum.recoveries.extend(run.recovery);
            run.violations.iter().map(ToString::to_string).collect()
        }
        Err(panic) => vec![format!("the run panicked: {}", message_of(panic.as_ref()))],
    };
    let is_broken = !violations.is_empty();
    if is_broken {
        sum.broken.push(BrokenSeed { seed, violations });
    }
    if told_at.elapsed() >= PROGRESS {
        *told_at = Instant::now();
        let (seeds, faults, broken) = (sum.seeds, sum.faults.total(), sum.broken.len());
        eprintln!("{seeds} seeds, {faults} faults, {broken} seeds that broke an invariant");
    }
    is_broken
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".to_owned())
}
