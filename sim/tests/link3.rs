//! Version 3 of the backend link: a fixed block of seeds, cuts at every byte, and a seed of the caller's choice.
//!
//! - `VL_FULL=1 cargo test -p sim --test all link3::` runs the block of `.ci/run`, which must also reach what the gates say.
//! - `VL_SEEDS=20000 cargo test -p sim --test all link3::` runs a larger one.
//! - `VL_SEED=17 cargo test -p sim --test all link3::one_seed -- --nocapture` runs one seed and shows what happened.

use sim::link3::{Besides, DELIVERED, run, run_cut, run_traced};

use super::ledgered::{expect_block, expect_same_twice, run_one_seed};

/// Seeds of the block without and with `VL_FULL`, when `VL_SEEDS` says nothing else.
const SEEDS: (u64, u64) = (150, 1_500);

/// In what share of a block's seeds each thing must happen, in percent.
const GATES: &[(&str, f64)] = &[
    ("all asked to leave", 10.0),
    ("asked to leave", 10.0),
    ("away told", 50.0),
    ("backend restarted", 25.0),
    ("edge restarted", 25.0),
    ("end told", 40.0),
    ("gone before its Ping", 4.0),
    ("handed over", 22.0),
    ("kick told", 8.0),
    ("left when the backend asked", 8.0),
    ("link closed by the backend", 40.0),
    ("link closed by the edge", 1.5),
    ("link cut", 60.0),
    ("paused", 30.0),
    ("quiet", 65.0),
    ("rest", 90.0),
    ("restored", 5.0),
    ("resume told", 45.0),
    ("saved", 30.0),
    ("sent away for the backend", 5.0),
    ("sent early", 12.0),
    ("sent to many", 45.0),
    ("version 2 of the link", 2.0),
    ("was sent away", 6.0),
];

#[test]
fn fixed_block_of_seeds() {
    let found = expect_block("link3", SEEDS, GATES, run);
    println!("{} packets delivered", found.total(DELIVERED));
}

/// A backend that begins again gives its keys to other values, while older ones wait.
#[test]
fn a_key_of_an_earlier_boot_is_another_key() {
    assert_eq!(run(70_167).violation, None);
}

/// SETTLED finds room on the link before a JOINED that waits for some.
#[test]
fn what_is_settled_is_told_behind_joined() {
    assert_eq!(run(4_968).violation, None);
}

/// The shards of an edge whose link is cut.
const SHARDS: [u8; 2] = [1, 3];
/// One of so many bytes without `VL_FULL`.
const EVERY: usize = 7;

/// SPEC 37.3, 37.4, 39.4: a frame that was cut is sent again whole, and nothing else is, wherever the link ends, and whoever ends with it.
#[test]
fn the_link_may_end_behind_every_byte() {
    let is_full = std::env::var_os("VL_FULL").is_some();
    let every = if is_full { 1 } else { EVERY };
    for (shards, besides) in SHARDS
        .iter()
        .flat_map(|shards| Besides::ALL.map(|one| (*shards, one)))
    {
        // Each pair begins at another byte.
        let first = besides as u64 + u64::from(shards);
        let mut cuts = 0;
        for bytes in (first % every as u64..100_000).step_by(every) {
            let outcome = run_cut(7, shards, besides, bytes);
            let of = (shards, besides, bytes);
            assert_eq!(outcome.violation, None, "{of:?}");
            // Beyond its last byte it is not cut.
            if !outcome.reach.contains_key("link cut") {
                break;
            }
            cuts += 1;
        }
        println!("{cuts} cuts with {shards} shards and {besides:?}");
        assert!(cuts > 500 / every, "{cuts}");
    }
}

#[test]
fn a_seed_runs_the_same_way_twice_and_with_somebody_watching() {
    expect_same_twice(0..10, run, run_traced);
}

#[test]
fn one_seed() {
    run_one_seed(run_traced);
}
