//! Version 3: a fixed block of seeds, and a seed of the caller's choice.
//!
//! - `VL_FULL=1 cargo test -p sim --test all v3::` runs the block of `.ci/run`, which must also reach what the gates say.
//! - `VL_SEEDS=20000 cargo test -p sim --test all v3::` runs a larger one.
//! - `VL_SEED=17 cargo test -p sim --test all v3::one_seed -- --nocapture` runs one seed and shows what happened.

use std::time::Instant;

use sim::block::{self, number};
use sim::v3::{many, run, run_bulk, run_traced, run_volume};

/// Seeds of the block when neither `VL_FULL` nor `VL_SEEDS` says otherwise.
const FEW: u64 = 200;

/// Seeds of the full block.
const FULL: u64 = 1_500;

/// A block of this size must reach what the gates say.
const GATED: u64 = 1_000;

/// In what share of a block's seeds each thing must happen, in percent.
const GATES: &[(&str, f64)] = &[
    ("a repeated flight is accepted", 0.5),
    ("answered: gone", 5.0),
    ("asked to leave", 8.0),
    ("answered: kicked", 4.0),
    ("answered: stale", 15.0),
    ("closed: kicked", 8.0),
    ("closed: ring full", 5.0),
    ("closed: taken over", 20.0),
    ("conflict", 6.0),
    ("ended: expired", 40.0),
    ("gap of a claim", 3.0),
    ("goodbye answered", 60.0),
    ("link lost", 25.0),
    ("left when asked", 8.0),
    ("parked", 0.3),
    ("repeated", 25.0),
    ("resumed", 40.0),
    ("ring full", 30.0),
    ("silent", 3.0),
    ("stolen", 20.0),
    ("vanished", 20.0),
];

#[test]
fn fixed_block_of_seeds() {
    let seeds = block::seeds(FEW, FULL);
    let begun = Instant::now();
    let found = many(0..seeds, run);
    println!(
        "{seeds} seeds in {:.1?}: {} s simulated, {} packets delivered, {} values sealed",
        begun.elapsed(),
        found.nanos / 1_000_000_000,
        found.delivered,
        found.sealed
    );
    for (seed, violation) in found.failures.iter().take(20) {
        println!("seed {seed}: {violation}");
    }
    if let Some((seed, violation)) = found.failures.first() {
        println!(
            "\nreplay: VL_SEED={seed} cargo test -p sim --test all v3::one_seed -- --nocapture"
        );
        let failures = found.failures.len();
        panic!("{failures} of {seeds} seeds break a rule; the first: {violation}");
    }
    for name in found.reach.keys() {
        println!("{:>6.1} %  {name}", found.percent(name));
    }
    let missed: Vec<_> = GATES
        .iter()
        .filter(|(name, least)| seeds >= GATED && found.percent(name) < *least)
        .collect();
    assert!(missed.is_empty(), "the block does not reach {missed:?}");
}

/// Two runs with many packets: the ordinary block has few in each.
#[test]
fn nothing_is_lost_or_doubled_of_many_packets() {
    let found = many(0..2, run_bulk);
    assert!(found.failures.is_empty(), "{:?}", found.failures);
    assert!(found.delivered > 100_000, "{}", found.delivered);
}

/// The runner of `sim volume`, whose seeds have millions.
#[test]
fn nothing_is_lost_or_doubled_where_applications_alone_look() {
    for seed in 0..3 {
        let run = run_volume(seed, 60_000);
        assert_eq!(run.violation, None, "seed {seed}");
        assert!(
            run.delivered >= 60_000 && run.drops > 20 && run.resumes > 20,
            "{run:?}"
        );
    }
}

#[test]
fn a_seed_runs_the_same_way_twice_and_with_somebody_watching() {
    for seed in 0..20 {
        let (first, again) = (run(seed), run_traced(seed));
        assert_eq!(
            (first.hash, first.nanos, first.steps),
            (again.hash, again.nanos, again.steps),
            "seed {seed}"
        );
        assert!(first.notes.is_empty() && !again.notes.is_empty());
    }
}

#[test]
fn one_seed() {
    if let Some(seed) = number("VL_SEED") {
        let outcome = run_traced(seed);
        for note in &outcome.notes {
            println!("{note}");
        }
        println!("hash {:016x}", outcome.hash);
        assert_eq!(outcome.violation, None, "seed {seed}");
    }
}
