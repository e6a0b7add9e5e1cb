//! Several shards: a fixed block of seeds, and a seed of the caller's choice.
//!
//! - `VL_FULL=1 cargo test -p sim --test all shards::` runs the block of `.ci/run`, which must also reach what the gates say.
//! - `VL_SEEDS=20000 cargo test -p sim --test all shards::` runs a larger one.
//! - `VL_SEED=17 cargo test -p sim --test all shards::one_seed -- --nocapture` runs one seed and shows what happened.

use sim::shards::{run, run_traced};

use super::ledgered::{expect_block, expect_same_twice, run_one_seed};

/// Seeds of the block without and with `VL_FULL`, when `VL_SEEDS` says nothing else.
const SEEDS: (u64, u64) = (100, 2_000);

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

#[test]
fn fixed_block_of_seeds() {
    expect_block("shards", SEEDS, GATES, run);
}

#[test]
fn a_seed_runs_the_same_way_twice_and_with_somebody_watching() {
    expect_same_twice(0..60, run, run_traced);
}

#[test]
fn one_seed() {
    run_one_seed(run_traced);
}
