//! The drivers that ship, on a network with faults.

use std::time::Instant;

use sim::network::{Outcome, Scenario, run};

const SEEDS: u64 = 24;

fn runs(seeds: std::ops::Range<u64>) -> Vec<Outcome> {
    seeds
        .map(|seed| {
            run(Scenario {
                seed,
                clients: 1 + (seed % 10) as u32,
            })
        })
        .collect()
}

#[test]
fn the_shipped_drivers_keep_their_promises() {
    let begun = Instant::now();
    let (outcomes, others) = std::thread::scope(|scope| {
        let others = scope.spawn(|| runs(SEEDS / 2..SEEDS));
        (runs(0..SEEDS / 2), others.join().expect("no panic"))
    });
    let outcomes = [outcomes, others].concat();
    let simulated: u64 = outcomes
        .iter()
        .map(|outcome| outcome.simulated.as_secs())
        .sum();
    println!(
        "{simulated} s simulated in {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    for (seed, outcome) in outcomes.iter().enumerate() {
        println!("seed {seed}: {:?} {:?}", outcome.seen, outcome.broken);
    }
    for (seed, outcome) in outcomes.iter().enumerate() {
        assert_eq!(outcome.broken, None, "seed {seed}");
    }
    let resumed = outcomes
        .iter()
        .filter(|outcome| outcome.seen.resumed > 0)
        .count();
    let linked_again = outcomes
        .iter()
        .filter(|outcome| outcome.seen.links > 1)
        .count();
    assert!(
        resumed > 12 && linked_again > 8,
        "{resumed} runs with a resume, {linked_again} with a second link"
    );
}

#[test]
fn a_scenario_runs_the_same_way_twice() {
    for seed in 100..104 {
        let scenario = Scenario { seed, clients: 4 };
        assert_eq!(run(scenario), run(scenario));
    }
}
