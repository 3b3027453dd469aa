//! What is printed, for people and for programs.

use crate::seeds::Tally;
use proof::model::Explored;
use proof::simulator::Run;
use serde::Serialize;

/// One document on standard output.
pub(crate) fn print_json(document: &impl Serialize) {
    println!("{}", serde_json::to_string(document).expect("figures and words are always JSON"));
}

/// What happened in one run, and what must not have.
pub(crate) fn print_run(run: &Run) {
    for line in &run.trace {
        println!("{line}");
    }
    println!("seed {}: {} faults in {} virtual seconds", run.seed, run.faults.total(), run.virtual_time.as_secs());
    for violation in &run.violations {
        println!("{violation}");
    }
    if run.violations.is_empty() {
        println!("every invariant holds");
    }
}

/// What many runs came to.
pub(crate) fn print_tally(tally: &Tally) {
    let figures = &tally.figures;
    println!("{} seeds from {} in {:.0} s", tally.seeds, tally.base_seed, tally.seconds);
    println!("{} faults of {} kinds", tally.faults.total(), proof::simulator::Fault::ALL.len());
    println!("{} notifications accepted, {} of them lost", figures.accepted, figures.lost);
    println!("{} provider calls for {} attempts", figures.provider_calls, figures.attempts);
    println!("{} attempts of unknown outcome, {} of them settled", figures.unknown, figures.unknown_settled);
    println!("{} declared duplicates, {} undeclared", figures.duplicates_declared, figures.duplicates_undeclared);
    let recovery = &tally.recovery_seconds;
    println!("recovered within {:.0} s (median), {:.0} s (longest) of virtual time", recovery.median, recovery.longest);
    for broken in &tally.broken {
        println!("seed {} broke an invariant:", broken.seed);
        for violation in &broken.violations {
            println!("    {violation}");
        }
        println!("    again: cargo run --package proof -- --seed {}", broken.seed);
    }
    println!("{} seeds broke an invariant", tally.broken_seeds);
}

/// What looking at every state within one bound came to.
pub(crate) fn print_explored(explored: &Explored) {
    let Explored { name, unique_states, generated_states, depth, seconds, .. } = explored;
    println!("{name}: {unique_states} states of {generated_states} generated, {depth} deep, in {seconds:.0} s");
    for broken in &explored.broken {
        println!("    {broken}");
    }
}
