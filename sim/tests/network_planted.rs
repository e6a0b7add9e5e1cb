//! Tests that the engine over turmoil finds bugs: planted bugs of the core that applications can observe.
//!
//! Most planted bugs are for the direct engine, which looks into the machine. This one sees only what applications see.

use sim::network::{World, run};
use voltlane_core::planted::{Bug, plant};

/// Seeds within which each bug must be found.
const SEEDS: std::ops::Range<u64> = 5_000..5_010;

/// Bugs, and the rules that each may break first.
const BUGS: [(Bug, &[&str]); 8] = [
    (Bug::EchoAccepted, &["S6", "S15"]),
    // The packet is another's, and its own client's next one comes too soon.
    (Bug::WrongTagAfterResume, &["S1", "S9", "S12"]),
    (Bug::ShortResponsePanics, &["H1"]),
    (Bug::ClaimDetaches, &["S15"]),
    (Bug::KickIgnored, &["S16"]),
    (Bug::EndNotTold, &["S13", "L4"]),
    (Bug::HeldBytesLost, &["S9"]),
    // What follows is read as a longer frame, which may never be whole.
    (Bug::ByteLostAtSplit, &["S9", "L5"]),
];

#[test]
fn bugs_of_the_core_are_seen_at_its_ends_too() {
    for (bug, rules) in BUGS {
        let found = SEEDS.into_iter().find_map(|seed| {
            let world = World::draw(seed);
            plant(Some(bug));
            let broken = run(&world).broken;
            plant(None);
            broken.map(|broken| (seed, broken))
        });
        let Some((seed, broken)) = found else {
            panic!("{bug:?} is not found in {SEEDS:?}");
        };
        println!("{bug:?}: seed {seed}, {} {}", broken.rule, broken.text);
        assert!(rules.contains(&broken.rule), "{bug:?}: {broken:?}");
    }
}
