//! Version 3: a fixed block of seeds, and a seed of the caller's choice.
//!
//! - `VL_FULL=1 cargo test -p sim --test all v3::` runs the block of `.ci/run`, which must also reach what the gates say.
//! - `VL_SEEDS=20000 cargo test -p sim --test all v3::` runs a larger one.
//! - `VL_SEED=17 cargo test -p sim --test all v3::one_seed -- --nocapture` runs one seed and shows what happened.

use sim::block;
use sim::ledgered::many;
use sim::v3::{DELIVERED, SEALED, run, run_bulk, run_traced, run_volume};

use super::ledgered::{expect_block, expect_same_twice, run_one_seed};

/// Seeds of the block without and with `VL_FULL`, when `VL_SEEDS` says nothing else.
const SEEDS: (u64, u64) = (60, 1_500);

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
    ("gap", 2.0),
    ("gap in a replay", 0.3),
    ("gap of a claim", 3.0),
    ("goodbye answered", 60.0),
    ("link lost", 25.0),
    ("latest sent", 25.0),
    ("left when asked", 8.0),
    ("parked", 0.3),
    ("repeated", 25.0),
    ("restarted", 20.0),
    ("resumed", 40.0),
    ("ring full", 30.0),
    ("silent", 3.0),
    ("skipped", 2.0),
    ("stolen", 20.0),
    ("superseded", 5.0),
    ("superseded in a replay", 3.0),
    ("vanished", 20.0),
    ("volatile sent", 15.0),
];

#[test]
fn fixed_block_of_seeds() {
    let found = expect_block("v3", SEEDS, GATES, run);
    let (delivered, sealed) = (found.total(DELIVERED), found.total(SEALED));
    println!("{delivered} packets delivered, {sealed} values sealed");
}

/// A connection in whose place another one is still writes what it had made, where another holder was told that there is no packet.
#[test]
fn what_a_replaced_connection_still_writes_is_of_no_account_to_the_next() {
    assert_eq!(run(80_091).violation, None);
}

/// Two runs with many packets: the ordinary block has few in each.
#[test]
fn nothing_is_lost_or_doubled_of_many_packets() {
    let found = many(0..2, run_bulk);
    assert!(found.failures.is_empty(), "{:?}", found.failures);
    let delivered = found.total(DELIVERED);
    assert!(delivered > 100_000, "{delivered}");
}

/// The runner of `sim volume`, whose seeds have millions.
#[test]
fn nothing_is_lost_or_doubled_where_applications_alone_look() {
    for seed in 0..block::seeds(1, 3).min(3) {
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
    expect_same_twice(0..20, run, run_traced);
}

#[test]
fn one_seed() {
    run_one_seed(run_traced);
}
