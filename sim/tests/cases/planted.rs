//! What the table is worth by itself: bugs planted in the core, one at a time, and whether some case fails for it.
//! `cargo run -p sim -- plant test -p sim --features planted --test all cases::planted`

use std::panic::{AssertUnwindSafe, catch_unwind};

use sim::cases::{Case, all};
use voltlane_core::planted::{Bug, plant};

use super::play;
use super::stage::Cut;

/// Bugs that no case can show. Every connection is asked here whether it must be served, and a configuration file cannot lead to the
/// maximum number of sessions. Seeds find them (`tests/planted.rs`).
const NOT_SHOWN: [Bug; 2] = [Bug::SessionsOffByOne, Bug::WakeupLost];

/// Returns the first case that fails with the planted bug.
fn finder(cases: &[Case]) -> Option<&str> {
    let fails = |case: &&Case| {
        let cuts: &[Cut] = if case.uncut {
            &[Cut::Whole]
        } else {
            &[Cut::Whole, Cut::Bytes]
        };
        cuts.iter().any(|&cut| {
            let played = catch_unwind(AssertUnwindSafe(|| play(case, cut).is_ok()));
            !played.unwrap_or(false)
        })
    };
    cases.iter().find(fails).map(|case| case.id.as_str())
}

#[test]
fn planted_bugs_fail_a_case() {
    let cases: Vec<Case> = all()
        .iter()
        .flat_map(|case| case.expanded().into_iter().take(4))
        .collect();
    // A caught panic is printed once for each bug, and no more.
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        plant(Some(*bug));
        match finder(&cases) {
            Some(id) => println!("{bug:?}: {id}"),
            None => missed.push(*bug),
        }
    }
    plant(None);
    let _ = std::panic::take_hook();
    assert_eq!(missed, NOT_SHOWN);
}
