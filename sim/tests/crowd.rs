//! Crowds of clients of both versions at small bounds, and floods of forged openings.
//!
//! - `VL_FULL=1 cargo test -p sim --test all crowd::` runs the block of `.ci/run`, which must also reach what the gates say.
//! - `VL_SEEDS=20000 cargo test -p sim --test all crowd::` runs a larger one.
//! - `cargo run -p sim -- crowd 17` runs one seed and shows what happened, shrunk if it breaks a rule.

use sim::v3::{run_crowd, run_crowd_traced};

use super::ledgered::{expect_block, expect_same_twice, run_one_seed};

/// Seeds of the block without and with `VL_FULL`, when `VL_SEEDS` says nothing else.
const SEEDS: (u64, u64) = (60, 1_500);

/// In what share of a block's seeds each thing must happen, in percent.
const GATES: &[(&str, f64)] = &[
    ("answered: taken up", 48.0),
    ("busy", 4.5),
    ("client came again", 38.0),
    ("client refused", 6.0),
    ("client turned away", 38.0),
    ("closed: taken over", 30.0),
    ("conflict", 10.0),
    ("ended: for want of room", 11.0),
    ("flood refused", 38.0),
    ("flood turned away", 65.0),
    ("flooded in the end", 65.0),
    ("forged", 65.0),
    ("join refused", 2.0),
    ("left when asked", 10.0),
    ("memory over", 4.5),
    ("restarted", 18.0),
    ("resumed", 48.0),
    ("ring full", 40.0),
    ("stolen", 23.0),
    ("superseded", 9.5),
];

/// A client that joins anew, from an address that strangers have flooded, is refused as any other newcomer from there (SPEC 27.3(a)).
#[test]
fn a_flood_from_its_own_address_may_cost_a_newcomer_an_attempt() {
    assert_eq!(run_crowd(575).violation, None);
}

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
