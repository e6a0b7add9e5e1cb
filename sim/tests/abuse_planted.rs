//! Are the invariants of a crowd worth anything? Each bug that takes a crowd must be found in few seeds, as a break of its rule.

use sim::abuse::run;
use voltlane_core::planted::{Bug, plant};

/// The first seeds of the ranges, far from each other and from the fixed block.
const BASES: [u64; 5] = [50_000, 60_000, 70_000, 80_000, 90_000];
/// The number of seeds per range within which a bug must be found.
const SEEDS: u64 = 200;

/// Returns the rules that a bug breaks.
fn rules(bug: Bug) -> &'static [&'static str] {
    match bug {
        Bug::LineIsAStack => &["F1", "L5"],
        Bug::RefusedEatPace => &["L6"],
        _ => &["B5"],
    }
}

#[test]
fn every_bug_that_takes_a_crowd_is_found() {
    // A bug that a single edge can also show without a crowd must be found here, too.
    for bug in [Bug::OF_CROWDS, &[Bug::RefusedEatPace]].concat() {
        for base in BASES {
            plant(Some(bug));
            let found =
                (base..base + SEEDS).find_map(|seed| run(seed).violation.map(|v| (seed, v)));
            plant(None);
            let (seed, violation) = found
                .unwrap_or_else(|| panic!("{bug:?} is not found in {SEEDS} seeds from {base}"));
            assert!(
                rules(bug).contains(&violation.id),
                "{bug:?}, seed {seed}: {violation}"
            );
            println!(
                "{bug:?} from {base}: {} after {} seeds",
                violation.id,
                seed - base + 1
            );
        }
    }
}
