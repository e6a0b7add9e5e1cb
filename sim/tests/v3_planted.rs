//! Tests the ledger of version 3: each bug of version 3 must be found within few seeds, wherever these begin, as a violation of a rule that it breaks.

mod hunt;

use std::panic::catch_unwind;

use sim::v3::{run, run_crowd, run_volume};
use voltlane_core::planted::{Bug, plant};

/// Returns the rules that a bug may break first.
fn rules(bug: Bug) -> &'static [&'static str] {
    match bug {
        Bug::EqualCounterAccepted => &["V2", "V3"],
        Bug::ClaimDropsOldConnection => &["V2"],
        Bug::HighestNotTold
        | Bug::NoCounterAhead
        | Bug::HighestSetAtClaim
        | Bug::EndNotRemembered
        | Bug::NumberedTakeoverRefused
        | Bug::TakeoversNeverRegained => &["V3"],
        Bug::ResumeLosesOldConnection | Bug::ReceiverRingTooSmall | Bug::GoAwayClosesAtOnce => {
            &["V9"]
        }
        Bug::NumberedResumeNotTold => &["S12"],
        Bug::UntilOneTooFew | Bug::CaughtUpEarly => &["V5"],
        Bug::ReceivedUpOneTooFew => &["V5", "S12"],
        Bug::ReplayFromAcknowledged | Bug::EarlyPacketsAgain => &["V1"],
        // Behind a gap that it was not told the client gives each packet the number of another one.
        Bug::GapNotTold => &["V1", "V17"],
        Bug::GapOneTooFew => &["V8", "V1"],
        Bug::MarksForgottenAtResume | Bug::ThiefIgnored | Bug::OwnMarksForgotten => &["V4"],
        Bug::LowerCounterOfClient => &["V11"],
        Bug::TakenOverComesBack => &["V4"],
        Bug::StaleClaimEndsSession => &["S13", "V3", "V9"],
        Bug::RingTrimmedByClaim => &["V10", "V8", "V7"],
        Bug::PiecesUncounted => &["V21"],
        Bug::EarlyTakenTwice => &["S9", "V6", "V9"],
        Bug::RingTrimmedWhenSent => &["V7", "V10"],
        Bug::RingOneTooMany | Bug::RingBytesIgnored => &["V7"],
        Bug::AckTellsTotal | Bug::AckOfReceived | Bug::AckOfLine => &["V6"],
        // An ACK that says too much ends the connection, and one that says too little leaves the ring full.
        Bug::AcksGoOn => &["V12", "V9"],
        Bug::EdgeNeverAcknowledges | Bug::ClientNeverAcknowledges | Bug::AckLost => &["V12"],
        // What does not come in its place is refused.
        Bug::FirstUpOneTooMany => &["V1", "S13", "V9", "V3"],
        Bug::AfterEarlyOneTooMany => &["L2", "V14"],
        Bug::PadTakesNumber => &["V9", "V14", "L2"],
        Bug::ParkLosesPackets => &["V8"],
        Bug::ParkEndsSession => &["S13"],
        Bug::PongNotSent | Bug::ClientNeverAsks => &["V14"],
        Bug::GoodbyeNotAnswered | Bug::GoodbyeOvertakes => &["V13"],
        Bug::LedgerForgetsUnsent => &["V10", "H1"],
        Bug::LedgerCountsUntaken => &["V10"],
        // It loses its connection without a word.
        Bug::KickNotTold => &["V9", "V12", "V14"],
        Bug::LongDownRefused => &["S13", "V9"],
        Bug::PiecesNotJoined => &["S9", "S10"],
        Bug::AwayRoomWithoutRing => &["V16"],
        Bug::GoAwayIgnored | Bug::GoAwayLate => &["V15"],
        Bug::RestartForgetsPackets => &["V1", "S10"],
        // Its clients take their sessions for gone.
        Bug::RestartForgetsRun => &["V3"],
        Bug::SupersedesOtherKey => &["V17", "V1"],
        Bug::LastValueLostAway | Bug::SupersededStays | Bug::GapToldAsSuperseded => &["V17"],
        // It goes beyond what there is, which the outbox does not take.
        Bug::TakenToldAgain => &["V17", "H1"],
        Bug::UnderWayIsSuperseded => &["V7", "V10"],
        Bug::KeyKeptWhenAcknowledged => &["V12"],
        Bug::LedgerForgetsSuperseded => &["V10", "H1"],
        // What it takes in may be no LATEST, and has another length.
        Bug::SupersedesOneTooMany => &["V17", "H1"],
        Bug::GapPolicyIgnored => &["V18"],
        Bug::GivesUpUnasked => &["V8"],
        Bug::VolatileTwice | Bug::VolatileOutlivesConnection => &["V19"],
        // No key or nonce is that of SPEC 20.
        _ => &["V0"],
    }
}

/// The runner of `sim volume` looks at little, and must see what it is there for.
#[test]
fn lost_and_doubled_packets_are_seen_where_applications_alone_look() {
    for bug in [
        Bug::RingTrimmedWhenSent,
        Bug::ReplayFromAcknowledged,
        Bug::EarlyPacketsAgain,
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
    hunt::expect_found(
        &bugs,
        |seed| run(seed).violation,
        |bug, rule| rules(bug).contains(&rule),
    );
}

#[test]
fn every_bug_that_takes_a_crowd_of_both_versions_is_found() {
    let bugs = hunt::selected(Bug::OF_CROWDS_OF_BOTH);
    hunt::expect_found(
        &bugs,
        |seed| run_crowd(seed).violation,
        |_, rule| rule == "V20",
    );
}
