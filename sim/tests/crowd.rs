//! Crowds of clients of both versions at small bounds, and floods of forged openings.
//!
//! - `VL_FULL=1 cargo test -p sim --test all crowd::` runs the block of `.ci/run`, which must also reach what the gates say.
//! - `VL_SEEDS=20000 cargo test -p sim --test all crowd::` runs a larger one.
//! - `cargo run -p sim -- crowd 17` runs one seed and shows what happened, shrunk if it breaks a rule.

use sim::v3::{run_crowd, run_crowd_traced};

use super::ledgered::{expect_block, expect_same_twice, run_one_seed};

/// Seeds of the block without and with `VL_FULL`, when `VL_SEEDS` says nothing else.
const SEEDS: (u64, u64) = (60, 500);

/// In what share of a block's seeds each thing must happen, in percent.
const GATES: &[(&str, f64)] = &[];

#[test]
fn fixed_block_of_seeds() {
    expect_block("crowd", SEEDS, GATES, run_crowd);
}

#[test]
fn a_seed_runs_the_same_way_twice_and_with_somebody_watching() {
    expect_same_twice(0..10, run_crowd, run_crowd_traced);
}

#[test]
fn one_seed() {
    run_one_seed(run_crowd_traced);
}
