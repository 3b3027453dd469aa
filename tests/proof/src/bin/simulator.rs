//! Simulator.
use std::time::Instant;
fn main() {
    let arg: Vec<String> = std::env::args().collect();
    if arg[1] == "model" {
        use domain::category::UnknownPolicy::*;
        use proof::model::*;
        let e = |p: &[_], s, m, r| {
            println!(
                "{m} {r} {:?}",
                proof::model::explore("x", p, s, proof::model::Bounds { misfortunes: m, refusals: r })
            )
        };
        e(&[AtLeastOnce, AtMostOnce], Scope::SMALL, 0, 0);
        e(&[AtLeastOnce], Scope::WHOLE, 6, 0);
        e(&[AtMostOnce], Scope::WHOLE, 4, 2);
        e(&[AtLeastOnce], Scope::WHOLE, 1, 1);
        e(&[AtLeastOnce, AtMostOnce], Scope::SMALL, 1, 0);
        return;
    }
    if arg.len() > 2 {
        let run = proof::simulator::replay_seed(arg[2].parse().unwrap_or(0));
        for line in &run.trace {
            println!("{line}");
        }
        println!("{:#?} {:?} {:?}", run.violations, run.figures, run.recovery);
        return;
    }
    let n: u64 = arg[1].parse().unwrap_or(100);
    let began = Instant::now();
    let mut bad = 0;
    let mut figures = proof::check::Figures::default();
    let mut faults = proof::simulator::FaultCounts::default();
    for seed in 0..n {
        let one = Instant::now();
        let run = proof::simulator::run_seed(seed);
        if one.elapsed().as_millis() > 200 {
            println!("slow {seed} {:?} virt {:?}", one.elapsed(), run.virtual_time);
        }
        figures += run.figures;
        faults.add(&run.faults);
        if !run.violations.is_empty() {
            bad += 1;
            if bad < 15 {
                println!("{seed}: {}", run.violations[0]);
            }
        }
    }
    println!("{bad} bad of {n} in {:?}", began.elapsed());
    println!("{figures:#?} {faults:#?}");
}
