//! Looks at every state of the model within bounds, and says what it came to.

use super::{Bounds, ProofModel, Scope};
use domain::category::UnknownPolicy;
use serde::Serialize;
use stateright::{Checker, Expectation, Model};
use std::sync::Mutex;
use std::time::Instant;

/// What looking at every state came to.
#[derive(Clone, Debug, Serialize)]
pub struct Explored {
    /// Which bounds.
    pub name: &'static str,
    /// Different states.
    pub unique_states: usize,
    /// States that were generated, the same ones included.
    pub generated_states: usize,
    /// The longest of the shortest ways to a state.
    pub depth: usize,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Properties that do not hold, with the way to a state that shows it.
    pub broken: Vec<String>,
}

impl Explored {
    /// Whether all states were looked at and every property holds.
    pub fn is_exhausted(&self) -> bool {
        self.broken.is_empty()
    }
}

/// Looks at every state within each bound: a few minutes, and less than a gigabyte.
pub fn explore_all() -> Vec<Explored> {
    use UnknownPolicy::{AtLeastOnce as Least, AtMostOnce as Most};
    let (whole, small) = (Scope::WHOLE, Scope::SMALL);
    let bounds = |misfortunes, refusals| Bounds { misfortunes, refusals };
    vec![
        explore("one delivery, at least once, six misfortunes", &[Least], whole, bounds(6, 0)),
        explore("one delivery, at least once, two misfortunes and a refusal", &[Least], whole, bounds(2, 1)),
        explore("one delivery, at most once, four misfortunes and two refusals", &[Most], whole, bounds(4, 2)),
        explore("two deliveries, at least once, one misfortune", &[Least, Least], small, bounds(1, 0)),
        explore("two deliveries, at most once, two misfortunes", &[Most, Most], small, bounds(2, 0)),
        explore("two deliveries, one of each policy, two misfortunes", &[Least, Most], small, bounds(2, 0)),
    ]
}

/// Looks at every state within bounds that take seconds.
pub fn explore_some() -> Vec<Explored> {
    use UnknownPolicy::{AtLeastOnce as Least, AtMostOnce as Most};
    let (whole, small) = (Scope::WHOLE, Scope::SMALL);
    let bounds = |misfortunes, refusals| Bounds { misfortunes, refusals };
    vec![
        explore("one delivery, at least once, a misfortune and a refusal", &[Least], whole, bounds(1, 1)),
        explore("one delivery, at least once, three misfortunes", &[Least], whole, bounds(3, 0)),
        explore("one delivery, at most once, two misfortunes and a refusal", &[Most], whole, bounds(2, 1)),
        explore("two deliveries, one of each policy", &[Least, Most], small, bounds(0, 0)),
    ]
}

/// Looks at every state within one bound.
pub fn explore(name: &'static str, policies: &[UnknownPolicy], scope: Scope, bounds: Bounds) -> Explored {
    let began = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let model = ProofModel { policies: policies.to_vec(), scope, bounds, drained: Mutex::default() };
    let checker = model.checker().threads(threads).spawn_bfs().join();
    let mut discoveries = checker.discoveries();
    let properties = checker.model().properties();
    let broken = properties.iter().filter_map(|property| {
        let found = discoveries.remove(property.name);
        match property.expectation {
            Expectation::Sometimes => found.is_none().then(|| format!("{}: never", property.name)),
            Expectation::Always | Expectation::Eventually => found.map(|path| {
                let steps: Vec<String> = path.into_actions().iter().map(|action| format!("{action:?}")).collect();
                format!("{}: not after {}", property.name, steps.join(", "))
            }),
        }
    });
    Explored {
        name,
        unique_states: checker.unique_state_count(),
        generated_states: checker.state_count(),
        depth: checker.max_depth(),
        seconds: began.elapsed().as_secs_f64(),
        broken: broken.collect(),
    }
}
