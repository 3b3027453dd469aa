//! Many workers over the pure step, in a world that fails: single thread, virtual time, and a seed that gives the same run
//! again.
//!
//! The cast: clients, people, and the functions, each a task that is the flow of its name (`workers`); Lambda and its
//! event source mappings (`lambda`); a queue, a provider and a database that misbehave as the real ones do (`queue`,
//! `provider`, `database`); a plan that the seed draws (`plan`); faults, which all end at one moment (`fault`). Then the
//! world runs until nothing is left to do, and the history is held to I1 to I16.
//!
//! What it does not show: that the code does what the step says. Tests that drive both with the same input do that.

mod database;
mod dice;
mod executor;
mod fault;
mod lambda;
mod plan;
mod provider;
mod queue;
mod record;
mod trace;
mod workers;
mod world;

pub use fault::{Fault, FaultCounts};

use crate::check::{Figures, Invariant, Violation, check_history, count_figures};
use dice::Dice;
use executor::SECOND;
use plan::Plan;
use record::record_history;
use std::rc::Rc;
use std::time::Duration;
use trace::Trace;
use world::World;

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Run {
    /// What it was drawn from.
    pub seed: u64,
    /// What is published of it.
    pub figures: Figures,
    /// Faults that were injected.
    pub faults: FaultCounts,
    /// From the end of the last fault, or of the last thing planned, until nothing was left to do.
    pub recovery: Option<Duration>,
    /// The virtual time that it took.
    pub virtual_time: Duration,
    /// What must not have happened.
    pub violations: Vec<Violation>,
    /// What happened to the deliveries concerned, line by line, where it was asked for.
    pub trace: Vec<String>,
}

/// Runs the world of a seed.
pub fn run_seed(seed: u64) -> Run {
    run_plan(seed, Plan::draw(&Dice::of(seed)), Trace::default())
}

/// Runs it again and tells what happened: to the deliveries that broke an invariant, or to all where none did.
pub fn replay_seed(seed: u64) -> Run {
    run_plan(seed, Plan::draw(&Dice::of(seed)), Trace::kept())
}

fn run_plan(seed: u64, plan: Plan, trace: Trace) -> Run {
    let deadline = plan.clear_at.max(plan.last_planned_at()) + 2 * plan.recovery_bound();
    let world = World::new(seed, plan, trace, true);
    run_world(&world, deadline);
    let history = record_history(&world);
    let mut violations = check_history(&history).err().unwrap_or_default();
    let broken = world.database.borrow_mut().broken.drain(..).collect::<Vec<_>>();
    violations.extend(broken.into_iter().map(|(number, what)| {
        let delivery = number.map(|number| {
            let tenant = world.database.borrow().deliveries[number].tenant;
            (database::tenant_id(tenant), database::delivery_id(number))
        });
        Violation { invariant: Invariant::I5, delivery, what }
    }));
    let concerned: Vec<usize> = violations.iter().filter_map(|it| it.delivery).map(|(_, id)| number_of(id)).collect();
    let run = Run {
        seed,
        figures: count_figures(&history),
        faults: world.counts.borrow().clone(),
        recovery: history.quiet_at.map(|_| {
            let from = world.plan.clear_at.max(world.plan.last_planned_at());
            Duration::from_micros(world.now().saturating_sub(from))
        }),
        virtual_time: Duration::from_micros(world.now()),
        violations,
        trace: world.trace.borrow().print(&concerned),
    };
    world.executor.clear();
    run
}

fn number_of(id: domain::id::DeliveryId) -> usize {
    usize::try_from(id.as_uuid().as_u128() - 1).unwrap_or(usize::MAX)
}

/// Goes on until nothing is left to do, or the deadline.
fn run_world(world: &Rc<World>, deadline: executor::Micros) {
    for (number, planned) in world.plan.requests.iter().enumerate() {
        let (busy, asking) = (world.busy(), workers::ask(Rc::clone(world), number, planned.clone()));
        world.executor.spawn(async move {
            asking.await;
            drop(busy);
        });
    }
    for (at, action) in world.plan.actions.clone() {
        let (busy, acting) = (world.busy(), workers::act(Rc::clone(world), at, action));
        world.executor.spawn(async move {
            acting.await;
            drop(busy);
        });
    }
    world.start_services();
    while world.now() < deadline && !world.is_quiet() {
        if !world.executor.turn() {
            break;
        }
    }
}

/// How long a world takes at most to become quiet, in seconds.
fn bound_seconds(plan: &Plan) -> f64 {
    (plan.recovery_bound() / SECOND) as f64
}

#[cfg(test)]
mod scenarios;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_run_again() {
        for seed in 0..20 {
            let (first, second) = (replay_seed(seed), replay_seed(seed));
            assert_eq!(first.trace, second.trace, "seed {seed}");
            assert_eq!((first.figures, first.faults), (second.figures, second.faults));
        }
    }

    #[test]
    fn every_invariant_holds_over_hundreds_of_seeds() {
        let mut faults = FaultCounts::default();
        for seed in 0..500 {
            let run = run_seed(seed);
            assert!(run.violations.is_empty(), "seed {seed}: {:#?}", run.violations);
            faults.add(&run.faults);
        }
        for fault in Fault::ALL {
            assert!(faults.of(*fault) > 0, "{fault:?} never happened");
        }
    }
}
