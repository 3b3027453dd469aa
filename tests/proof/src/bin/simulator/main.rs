//! `simulator`: runs seeds, runs one again, goes on for a while, or looks at every state of the model.

mod print;
mod seeds;

use clap::Parser;
use proof::model::explore_all;
use proof::simulator::replay_seed;
use seeds::{Campaign, run_campaign};
use std::process::ExitCode;
use std::time::Duration;

/// Simulated worlds in which everything fails, held to the invariants I1 to I16.
///
/// The same seed gives the same run again, on every machine and with any number of cores.
#[derive(Debug, Parser)]
#[command(name = "simulator")]
struct Arguments {
    /// Run so many seeds.
    #[arg(long, default_value_t = 1000, conflicts_with_all = ["seed", "minutes", "model"])]
    seeds: u64,
    /// The first of them; drawn, when absent.
    #[arg(long, conflicts_with_all = ["seed", "model"])]
    base_seed: Option<u64>,
    /// Run this seed again, and tell what happened.
    #[arg(long, conflicts_with_all = ["minutes", "model", "json"])]
    seed: Option<u64>,
    /// Run new seeds for so long, or until one breaks an invariant.
    #[arg(long, conflicts_with_all = ["model", "json"])]
    minutes: Option<u32>,
    /// Look at every state of the model.
    #[arg(long)]
    model: bool,
    /// Print one JSON document, and nothing for people.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let is_proven = if arguments.model {
        look_at_model(arguments.json)
    } else if let Some(seed) = arguments.seed {
        let run = replay_seed(seed);
        print::print_run(&run);
        run.violations.is_empty()
    } else {
        run_seeds(&arguments)
    };
    if is_proven { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn look_at_model(json: bool) -> bool {
    let models = explore_all();
    if json {
        print::print_json(&serde_json::json!({ "models": models }));
    } else {
        models.iter().for_each(print::print_explored);
    }
    models.iter().all(|explored| explored.is_exhausted())
}

fn run_seeds(arguments: &Arguments) -> bool {
    // Short enough to be typed again.
    let base_seed = arguments.base_seed.unwrap_or_else(|| u64::from(rand::random::<u32>()) << 16);
    eprintln!("the base seed is {base_seed}");
    let time = arguments.minutes.map(|minutes| Duration::from_secs(u64::from(minutes) * 60));
    let tally = run_campaign(&Campaign {
        base_seed,
        seeds: if time.is_some() { u64::MAX } else { arguments.seeds },
        time,
        stops_when_broken: time.is_some(),
    });
    if arguments.json {
        print::print_json(&tally);
    } else {
        print::print_tally(&tally);
    }
    tally.broken_seeds == 0
}
