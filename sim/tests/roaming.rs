//! Clients with tickets at several edges: a fixed block of seeds, and a seed of the caller's choice.
//!
//! - `VL_FULL=1 cargo test -p sim --test all roaming::` runs the block of `.ci/run`, which must also reach what the gates say.
//! - `VL_SEED=17 cargo test -p sim --test all roaming::one_seed -- --nocapture` runs one seed and shows what happened.

use sim::fleet::{DELIVERED, run_roaming, run_roaming_traced};

use super::ledgered::{expect_block, expect_same_twice, run_one_seed};

/// Seeds of the block without and with `VL_FULL`, when `VL_SEEDS` says nothing else.
const SEEDS: (u64, u64) = (100, 1_000);

/// In what share of a block's seeds each thing must happen, in percent.
const GATES: &[(&str, f64)] = &[
    ("claim came late", 80.0),
    ("client left its edge", 95.0),
    ("edge died", 60.0),
    ("edge replaced", 80.0),
    ("flight replayed", 90.0),
    ("frame fenced", 5.0),
    ("given up", 5.0),
    ("kicked", 60.0),
    ("link cut", 95.0),
    ("moved", 65.0),
    ("moved from a silent edge", 40.0),
    ("rest", 99.0),
    ("session ended", 40.0),
    ("session gone", 40.0),
    ("ticket of another cluster", 50.0),
];

#[test]
fn fixed_block_of_seeds() {
    let found = expect_block("roaming", SEEDS, GATES, run_roaming);
    println!("{} packets delivered", found.total(DELIVERED));
}

#[test]
fn a_seed_runs_the_same_way_twice_and_with_somebody_watching() {
    expect_same_twice(0..5, run_roaming, run_roaming_traced);
}

#[test]
fn one_seed() {
    run_one_seed(run_roaming_traced);
}
