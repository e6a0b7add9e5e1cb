//! Several backends of one edge: a fixed block of seeds, cuts at every byte, and a seed of the caller's choice.
//!
//! - `VL_FULL=1 cargo test -p sim --test all pins::` runs the block of `.ci/run`, which must also reach what the gates say.
//! - `VL_SEEDS=20000 cargo test -p sim --test all pins::` runs a larger one.
//! - `VL_SEED=17 cargo test -p sim --test all pins::one_seed -- --nocapture` runs one seed and shows what happened.

use sim::pins::{DELIVERED, run, run_cut, run_deaf, run_traced};

use super::ledgered::{expect_block, expect_same_twice, run_one_seed};

/// Seeds of the block without and with `VL_FULL`, when `VL_SEEDS` says nothing else.
const SEEDS: (u64, u64) = (100, 1_000);

/// In what share of a block's seeds each thing must happen, in percent.
const GATES: &[(&str, f64)] = &[
    ("backend restarted", 10.0),
    ("dead backend", 5.0),
    ("gone meanwhile", 3.0),
    ("handed over", 60.0),
    ("link cut", 40.0),
    ("moved", 30.0),
    ("moved from a dead one", 5.0),
    ("order undone", 40.0),
    ("ordered", 40.0),
    ("paused", 20.0),
    ("rest", 95.0),
    ("sent to many", 20.0),
    ("slow backend", 5.0),
];

/// An ASK must not overtake packets that were queued before the application came back, and a group knows who has left when its backend does.
#[test]
fn what_was_on_its_way_when_a_session_left_goes_along() {
    for seed in [64, 422, 721, 1_236] {
        assert_eq!(run(seed).violation, None, "seed {seed}");
    }
}

/// SETTLED is short, and finds room on the link where OWN does not: a backend that has not heard of the session drops it.
#[test]
fn what_a_moved_session_has_settled_is_told_behind_it() {
    assert_eq!(run(50_524).violation, None);
}

/// A client says goodbye as its backend dies: nobody is told of its end.
#[test]
fn a_session_that_ends_as_its_backend_dies_stays_nowhere() {
    assert_eq!(run(1_976).violation, None);
}

#[test]
fn fixed_block_of_seeds() {
    let found = expect_block("pins", SEEDS, GATES, run);
    println!("{} packets delivered", found.total(DELIVERED));
}

/// SPEC 45.6: what waits for a client goes along, and a key of its next backend is another one.
#[test]
fn clients_that_read_nothing_while_they_move_get_what_waited() {
    let gates = &[("moved", 50.0), ("rest", 99.0)];
    expect_block("pins, deaf", (50, 500), gates, run_deaf);
}

/// SPEC 45.6: whatever the link had of a session that leaves, it goes on exactly where it was.
#[test]
fn a_link_may_end_behind_every_byte_of_a_move() {
    let mut cuts = 0;
    for bytes in 0..100_000 {
        let outcome = run_cut(7, bytes);
        assert_eq!(outcome.violation, None, "behind {bytes} bytes");
        // Beyond its last byte it is not cut.
        if !outcome.reach.contains_key("link cut") {
            break;
        }
        cuts += 1;
    }
    println!("{cuts} cuts");
    assert!(cuts > 500, "{cuts}");
}

#[test]
fn a_seed_runs_the_same_way_twice_and_with_somebody_watching() {
    expect_same_twice(0..10, run, run_traced);
}

#[test]
fn one_seed() {
    run_one_seed(run_traced);
}
