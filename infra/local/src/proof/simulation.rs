//! Runs the simulator and the model, and reads what they print.

use std::collections::BTreeMap;
use std::process::Stdio;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::figures::Figures;
use crate::failure::{Failure, Outcome, While};
use crate::functions::cargo;
use crate::progress::Progress;
use crate::project::Project;

/// What the simulator came to.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Simulated {
    pub(super) base_seed: u64,
    pub(super) seeds: u64,
    pub(super) seconds: f64,
    pub(super) figures: Figures,
    /// How often each fault was injected, by its name.
    pub(super) faults: BTreeMap<String, u64>,
    pub(super) recovery_seconds: Recovery,
    /// Seeds that broke an invariant.
    pub(super) broken_seeds: u64,
    /// Some of them.
    pub(super) broken: Vec<BrokenSeed>,
}

/// How long it took, in virtual time, from the end of the faults until nothing was left to do.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Recovery {
    pub(super) median: f64,
    pub(super) longest: f64,
}

/// A seed that broke an invariant.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct BrokenSeed {
    pub(super) seed: u64,
    pub(super) violations: Vec<String>,
}

/// What the model came to within one bound.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Explored {
    pub(super) name: String,
    pub(super) unique_states: u64,
    /// Properties that do not hold.
    pub(super) broken: Vec<String>,
}

#[derive(Deserialize)]
struct Models {
    models: Vec<Explored>,
}

/// Runs so many seeds.
pub(super) fn run_seeds(
    project: &Project,
    progress: &Progress,
    seeds: u64,
    base_seed: Option<u64>,
) -> Outcome<Simulated> {
    progress.say(&format!("simulator: {seeds} seeds …"));
    let mut arguments = vec!["--seeds".to_owned(), seeds.to_string()];
    arguments.extend(base_seed.iter().flat_map(|seed| ["--base-seed".to_owned(), seed.to_string()]));
    let simulated: Simulated = ask(project, "simulator", &arguments)?;
    progress.say(&format!(
        "simulator: {} seeds from {} in {:.0} s, {} of them broke an invariant",
        simulated.seeds, simulated.base_seed, simulated.seconds, simulated.broken_seeds
    ));
    Ok(simulated)
}

/// Looks at every state of the model.
pub(super) fn explore_model(project: &Project, progress: &Progress) -> Outcome<Vec<Explored>> {
    progress.say("model: every order of every step …");
    let Models { models } = ask(project, "model", &["--model".to_owned()])?;
    for model in &models {
        progress.say(&format!("model: {}: {} states", model.name, model.unique_states));
    }
    Ok(models)
}

/// Runs new seeds until the time is up; the simulator itself says how far it is.
pub(super) fn soak(project: &Project, minutes: u32) -> Outcome<()> {
    let status = cargo(project)
        .args(["run", "--quiet", "--package", "proof", "--bin", "simulator", "--", "--minutes", &minutes.to_string()])
        .status()
        .while_doing("starting the simulator")?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new("a seed broke an invariant")
        .with_advice("`cargo run --package proof -- --seed SEED` runs it again and tells what happened."))
}

/// Runs the simulator's program and reads the one document that it prints, whatever it thinks of its content.
fn ask<T: DeserializeOwned>(project: &Project, what: &str, arguments: &[String]) -> Outcome<T> {
    let log = project.log(&format!("proof-{what}"));
    let err = std::fs::File::create(&log).while_doing(format_args!("opening {}", log.display()))?;
    let output = cargo(project)
        .args(["run", "--package", "proof", "--bin", "simulator", "--", "--json"])
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(err)
        .output()
        .while_doing(format_args!("starting the {what}"))?;
    serde_json::from_slice(&output.stdout)
        .map_err(|error| Failure::new(format!("the {what} did not say what it came to ({error})")).with_log(&log))
}
