//! Tests the ledger of several backends of one edge: each bug of moves between them must be found within few seeds, wherever these begin, as a
//! violation of a rule that it breaks.

mod hunt;

use sim::pins::{run, run_deaf};
use voltlane_core::planted::Bug;

/// Returns the rules that a bug may break first.
fn rules(bug: Bug) -> &'static [&'static str] {
    match bug {
        Bug::DoubledAtChange => &["N1"],
        Bug::WaitingStaysBehind => &["N1", "N4"],
        Bug::LeavesBeforeAcknowledged => &["N1", "N2", "N3", "N4"],
        Bug::DeadNeverGivenUp => &["N11"],
        Bug::EndedTwiceAtOldBackend => &["K4", "N4"],
        Bug::PinStaysAtHome | Bug::PinOutlivesSession | Bug::OrderLostWithLink => &["N9"],
        Bug::MoveForgottenAtBoot => &["N2", "N9"],
        Bug::DrainedGetsNewcomers => &["N7", "N9"],
        Bug::PauseGoesAlong => &["N5", "N9"],
        Bug::SlowStopsAll => &["N9", "N10"],
        Bug::ClaimAtOldBackend => &["N6", "N8", "N9", "N11"],
        Bug::MovedNotReached | Bug::GroupsEndTooEarly => &["N2", "N5", "N9"],
        Bug::LeaverIsOwned => &["N1", "N9"],
        Bug::DrainNeverEnds => &["N9"],
        Bug::KeysGoAlong => &["N2"],
        other => unreachable!("{other:?} is no bug of several backends"),
    }
}

#[test]
fn every_bug_of_several_backends_is_found() {
    let (deaf, bugs): (Vec<_>, Vec<_>) = hunt::selected(Bug::OF_PINS)
        .into_iter()
        .partition(|bug| *bug == Bug::KeysGoAlong);
    let may_break = |bug, rule: &str| rules(bug).contains(&rule);
    hunt::expect_found(&bugs, |seed| run(seed).violation, may_break);
    // It takes packets that wait at the edge while their session goes elsewhere.
    hunt::expect_found(&deaf, |seed| run_deaf(seed).violation, may_break);
}
