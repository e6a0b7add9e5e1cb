//! The tests of the engines with a ledger, which differ in their gates alone: [`shards`](super::shards), [`v3`](super::v3) and
//! [`link3`](super::link3).

use std::ops::Range;
use std::time::Instant;

use sim::block::{self, number};
use sim::ledgered::{Found, Outcome, many};

/// Runs the fixed block of the engine of this name: `few` seeds, or `all` if `VL_FULL` is set. None may break a rule, and each of the
/// `gates` must be reached in at least its percentage of them if there are as many as `all`.
pub(crate) fn expect_block(
    name: &str,
    (few, all): (u64, u64),
    gates: &[(&str, f64)],
    run: fn(u64) -> Outcome,
) -> Found {
    let seeds = block::seeds(few, all);
    let begun = Instant::now();
    let found = many(0..seeds, run);
    println!(
        "{seeds} seeds, {} s simulated in {:.1?}, {} calls",
        found.nanos / 1_000_000_000,
        begun.elapsed(),
        found.steps
    );
    for (seed, violation) in found.failures.iter().take(20) {
        println!("seed {seed}: {violation}");
    }
    if let Some((seed, violation)) = found.failures.first() {
        println!(
            "\nreplay: VL_SEED={seed} cargo test -p sim --test all {name}::one_seed -- --nocapture"
        );
        let failures = found.failures.len();
        panic!("{failures} of {seeds} seeds break a rule; the first: {violation}");
    }
    for (name, least) in gates {
        println!(
            "{:>6.1} % (at least {least} %)  {name}",
            found.percent(name)
        );
    }
    let missed: Vec<_> = gates
        .iter()
        .filter(|(name, least)| seeds >= all && found.percent(name) < *least)
        .collect();
    assert!(
        missed.is_empty(),
        "the block does not reach what it must: {missed:?}"
    );
    found
}

/// Expects that seeds run alike twice, the second time with somebody watching.
pub(crate) fn expect_same_twice(
    seeds: Range<u64>,
    run: fn(u64) -> Outcome,
    traced: fn(u64) -> Outcome,
) {
    for seed in seeds {
        let (first, again) = (run(seed), traced(seed));
        assert_eq!(
            (first.hash, first.nanos, first.steps),
            (again.hash, again.nanos, again.steps),
            "seed {seed}"
        );
        assert!(first.notes.is_empty() && !again.notes.is_empty());
    }
}

/// Runs the seed in `VL_SEED`, if there is one, and shows what happened.
pub(crate) fn run_one_seed(traced: fn(u64) -> Outcome) {
    if let Some(seed) = number("VL_SEED") {
        let outcome = traced(seed);
        for note in &outcome.notes {
            println!("{note}");
        }
        println!("hash {:016x}", outcome.hash);
        assert_eq!(outcome.violation, None, "seed {seed}");
    }
}
