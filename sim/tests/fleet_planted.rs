//! Tests the ledger of several edges at one backend: each bug of it must be found within few seeds, wherever these begin, as a violation of a
//! rule that it breaks.

mod hunt;

use sim::fleet::{run, run_roaming};
use voltlane_core::planted::Bug;

/// Returns the rules that a bug may break first.
fn rules(bug: Bug) -> &'static [&'static str] {
    match bug {
        Bug::DisplacedIsHeard => &["F3", "F5", "F6", "F7"],
        Bug::LowerTermTaken => &["F3", "F6"],
        Bug::RepeatsAreTold => &["F1", "F4", "F7"],
        Bug::CountsOfAnotherEdge => &["F1", "F2", "F4", "F5", "F7"],
        Bug::LeftBehindForEver => &["F7"],
        Bug::GroupsOfOneEdge => &["F2", "F7"],
        Bug::DisplacedGrants => &["F7"],
        Bug::OldOwnerNotTold => &["F2", "F5", "F7", "F9"],
        Bug::AnswerOfOlderAttempt | Bug::InjectsFromSettled => &["F2"],
        Bug::OldCopyGoesOn => &["F8"],
        Bug::MovedPacketComesAgain => &["F1", "F7"],
        Bug::RecordedClaimMoves => &["F10"],
        Bug::MovesBeforeTaken => &["F5"],
        other => unreachable!("{other:?} is no bug of several edges"),
    }
}

#[test]
fn every_bug_of_several_edges_is_found() {
    let bugs = hunt::selected(Bug::OF_FLEET);
    hunt::expect_found(
        &bugs,
        |seed| run(seed).violation,
        |bug, rule| rules(bug).contains(&rule),
    );
}

#[test]
fn every_bug_of_tickets_is_found() {
    let bugs = hunt::selected(Bug::OF_ROAMING);
    hunt::expect_found(
        &bugs,
        |seed| run_roaming(seed).violation,
        |bug, rule| rules(bug).contains(&rule),
    );
}
