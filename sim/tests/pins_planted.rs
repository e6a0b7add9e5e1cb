//! Tests the ledger of several backends of one edge: each bug of moves between them must be found within few seeds, wherever these begin, as a
//! violation of a rule that it breaks.

mod hunt;

use sim::pins::run;
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
        other => unreachable!("{other:?} is no bug of several backends"),
    }
}

#[test]
fn every_bug_of_several_backends_is_found() {
    let bugs = hunt::selected(Bug::OF_PINS);
    let run = |seed| run(seed).violation;
    hunt::expect_found(&bugs, run, |bug, rule| rules(bug).contains(&rule));
}
