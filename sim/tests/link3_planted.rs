//! Tests the ledger and the tap of version 3 of the backend link: each bug of it must be found within few seeds, wherever these begin, as a
//! violation of a rule that it breaks.

mod hunt;

use sim::link3::run;
use voltlane_core::planted::Bug;

/// Returns the rules that a bug may break first.
fn rules(bug: Bug) -> &'static [&'static str] {
    match bug {
        Bug::NextUpIsReceived => &["K1", "K2"],
        Bug::CutFrameGoesOn => &["K1", "K4", "K7", "K12"],
        Bug::PausedIsRead => &["K10"],
        Bug::PauseNeverEnds => &["K10", "K12"],
        Bug::EndedLedgerUnbalanced
        | Bug::CreditNotReturned
        | Bug::SettledLostWithoutRoom
        | Bug::EdgeAcknowledgesNothing
        | Bug::UpNeverAcknowledged => &["K12"],
        Bug::AcknowledgedBeforeTaken | Bug::AcknowledgedWhenReceived => &["K2"],
        // A session that a picture lacked ends, and joins again when it is told of (SPEC 45.6(i)).
        Bug::PictureCountsTooFew => &["K2", "K4", "K5", "K12"],
        Bug::MemberDoubled
        | Bug::MemberByJoined
        | Bug::KeysAreShared
        | Bug::KeysOfGroupsAreOfClients => &["K3"],
        Bug::EarlyPacketsNotSent
        | Bug::EarlyPacketsNotNumbered
        | Bug::LeftOutGetsIt
        | Bug::MemberSkipped
        | Bug::MembersNotCounted => &["K3", "K12"],
        Bug::EndedNotOwned => &["K3", "K4"],
        Bug::NewcomerNotAdded => &["K3", "K8"],
        Bug::JoinedNotTold
        | Bug::OwnHidesJoined
        | Bug::OldNoticesAtBoot
        | Bug::AwayNotTold
        | Bug::LinkResumedToldTwice
        | Bug::LinkEndToldTwice
        | Bug::EndedWithWrongLedger => &["K4"],
        Bug::JoinedLostAtBoot | Bug::LinkResumedNotTold => &["K4", "K12"],
        Bug::LinkReplayFromAcknowledged => &["K4", "K7", "K12"],
        Bug::LinkEndNotTold | Bug::PictureHasNoEnd => &["K5"],
        Bug::PictureCountsTooMany => &["K5", "K12"],
        Bug::SettledBeforeTaken => &["K6"],
        Bug::AcknowledgedBeyond | Bug::LinkAckOvertakes => &["K7"],
        Bug::GroupsKeptAtBoot | Bug::RemovalIgnored => &["K8"],
        // A place of the table may be empty by then.
        Bug::GroupKeepsEnded => &["K8", "H1"],
        Bug::KickTextLost | Bug::KickTextNotTold => &["K9"],
        Bug::AwayToldTwice | Bug::AwayToldAgain => &["K4"],
        // Its sessions come back with the next process, or are taken for away.
        Bug::EndedShardsAreGone => &["K4", "K12"],
        // An end that overtakes what came before it is of a session that is there.
        Bug::NoticeOvertakesLine => &["K4", "K9"],
        Bug::PauseForgottenAtResume => &["K10"],
        Bug::AwayMemberSkipped => &["K3", "K12"],
        Bug::MemberNotAdded => &["K8", "K3", "K12"],
        Bug::AskedNotHandedOn
        | Bug::OneAskedIsAll
        | Bug::NotAllAsked
        | Bug::DrainNotHandedOn
        | Bug::PlainNotSentAway
        | Bug::OlderGoAwayStays
        | Bug::AskedForAll => &["K13"],
        Bug::RestoredGoneNotTold => &["K5"],
        Bug::SplitWrongly => &["K8", "K3", "K12"],
        Bug::AckOfAnotherShard => &["K2", "K7", "K11", "K12", "H1"],
        Bug::LateFramesLost | Bug::CountsNotRestored => &["K2", "K3", "K8", "K10", "K12"],
        Bug::RestoredGroupsLost => &["K8", "K3", "K12"],
        Bug::PauseNotSaved => &["K10"],
        other => unreachable!("{other:?} is no bug of the link"),
    }
}

#[test]
fn every_bug_of_version_3_of_the_link_is_found() {
    let bugs = hunt::selected(Bug::OF_LINK_3);
    hunt::expect_found(
        &bugs,
        |seed| run(seed).violation,
        |bug, rule| rules(bug).contains(&rule),
    );
}
