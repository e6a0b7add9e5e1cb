//! Several shards: a fixed block of seeds, and a seed of the caller's choice.
//!
//! - `VL_FULL=1 cargo test -p sim --test all shards::` runs the block of `.ci/run`, which must also reach what the gates say.
//! - `VL_SEEDS=20000 cargo test -p sim --test all shards::` runs a larger one.
//! - `VL_SEED=17 cargo test -p sim --test all shards::one_seed -- --nocapture` runs one seed and shows what happened.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use sim::block::{self, number, threads};
use sim::shards::{Outcome, run, run_traced};

/// Seeds of the block when neither `VL_FULL` nor `VL_SEEDS` says otherwise.
const FEW: u64 = 300;

/// Seeds of the full block.
const FULL: u64 = 2_000;

/// A block of this size must reach what the gates say.
const GATED: u64 = 1_000;

/// In what share of a block's seeds each thing must happen, in percent.
const GATES: &[(&str, f64)] = &[
    ("a branch full downwards", 0.3),
    ("a branch full upwards", 0.3),
    ("a thread stopped", 20.0),
    ("a wake on the way between threads", 2.0),
    ("announced", 30.0),
    ("came back with the old connection open", 50.0),
    ("denied", 15.0),
    ("ended: client is away", 1.0),
    ("ended: expired", 40.0),
    ("ended: kicked", 10.0),
    ("ended: missed packet buffer full", 2.0),
    ("ended: send queue full", 3.0),
    ("ended: too many stale clients", 10.0),
    ("hand-over refused", 1.0),
    ("handed over", 60.0),
    ("link lost", 60.0),
    ("link lost within a packet", 5.0),
    ("packets kept over a loss of the link", 15.0),
    ("resumed", 60.0),
    ("shards spread", 20.0),
    ("shutdown", 20.0),
    ("source at its limit", 3.0),
    ("threads joined", 20.0),
    ("shard holds the backend", 0.3),
    ("trunk full", 0.3),
    ("unknown answered", 10.0),
];

/// Runs `seeds` on all cores, each once.
fn run_all(seeds: u64) -> BTreeMap<u64, Outcome> {
    let (next, all) = (AtomicU64::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    let outcome = run(seed);
                    all.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(seed, outcome);
                }
            });
        }
    });
    all.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn fixed_block_of_seeds() {
    let seeds = block::seeds(FEW, FULL);
    let begun = std::time::Instant::now();
    let outcomes = run_all(seeds);
    let steps: u64 = outcomes.values().map(|outcome| outcome.steps).sum();
    let nanos: u64 = outcomes.values().map(|outcome| outcome.nanos).sum();
    println!(
        "{seeds} seeds, {} s simulated in {:.1?}, {steps} calls",
        nanos / 1_000_000_000,
        begun.elapsed()
    );
    let failures: Vec<_> = outcomes
        .iter()
        .filter_map(|(seed, outcome)| Some((seed, outcome.violation.as_ref()?)))
        .collect();
    for (seed, violation) in failures.iter().take(20) {
        println!("seed {seed}: {violation}");
    }
    if let Some((seed, violation)) = failures.first() {
        println!(
            "\nreplay: VL_SEED={seed} cargo test -p sim --test all shards::one_seed -- --nocapture"
        );
        panic!(
            "{} of {seeds} seeds break a rule; the first: {violation}",
            failures.len()
        );
    }
    let share = |name: &str| {
        let reached = outcomes.values().filter(|o| o.reach.contains_key(name));
        100.0 * reached.count() as f64 / seeds as f64
    };
    for (name, least) in GATES {
        println!("{:>6.1} % (at least {least} %)  {name}", share(name));
    }
    let missed: Vec<_> = GATES
        .iter()
        .filter(|(name, least)| seeds >= GATED && share(name) < *least)
        .collect();
    assert!(
        missed.is_empty(),
        "the block does not reach what it must: {missed:?}"
    );
}

#[test]
fn a_seed_runs_the_same_way_twice_and_with_somebody_watching() {
    for seed in 0..60 {
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
