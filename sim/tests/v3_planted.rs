//! Tests the ledger of version 3: each bug of version 3 must be found within few seeds, wherever these begin, as a violation of any rule.

mod hunt;

use std::panic::catch_unwind;

use sim::v3::{run, run_volume};
use voltlane_core::planted::{Bug, plant};

/// The runner of `sim volume` looks at little, and must see what it is there for.
#[test]
fn lost_and_doubled_packets_are_seen_where_applications_alone_look() {
    for bug in [
        Bug::RingTrimmedWhenSent,
        Bug::EarlyPacketsAgain,
        Bug::UntilOneTooFew,
        Bug::ReceivedUpOneTooFew,
    ] {
        plant(Some(bug));
        let found = (0..5).any(|seed| {
            let run = catch_unwind(|| run_volume(seed, 100_000));
            run.is_err() || run.is_ok_and(|run| run.violation.is_some())
        });
        plant(None);
        assert!(found, "{bug:?} is not seen");
    }
}

#[test]
fn every_bug_of_version_3_is_found() {
    let bugs = hunt::selected(Bug::OF_VERSION_3);
    hunt::expect_found(&bugs, |seed| run(seed).violation, |_, _| true);
}
