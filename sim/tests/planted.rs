//! Tests the oracle: each planted bug must be found within few seeds, wherever these begin, as a violation of a rule that it breaks. The
//! plan that shows it must shrink to a few operations.
//!
//! If a bug is not found any more, the change of the oracle or the generator that caused this is at fault.

mod hunt;

use std::time::Duration;

use sim::engine;
use sim::model::RULES;
use sim::plan::generate;
use sim::shrink::{Budget, shrink};
use voltlane_core::planted::{Bug, plant};

use hunt::BASES;

/// The maximum number of operations in the smallest plan that shows a bug, and in the median one.
const MOST_OPS: usize = 8;
/// Ten takeovers are free, so it takes a session, eleven more connections that take it over, and their proofs.
const MOST_OPS_OF_TAKEOVERS: usize = 12;
/// A place for handshakes is reached when many have joined, some have dropped, strangers have their places, and they come back.
const MOST_OPS_OF_A_FULL_HOUSE: usize = 12;
const MEDIAN_OPS: usize = 3;

/// Returns the rules that a bug may break first.
fn rules(bug: Bug) -> &'static [&'static str] {
    match bug {
        Bug::EchoAccepted
        | Bug::AnyProofAccepted
        | Bug::ConstantChallenge
        | Bug::ExpiredMayResume => &["S6"],
        Bug::WrongTagAfterResume => &["S1"],
        Bug::ShortFramePanics | Bug::ShortResponsePanics => &["H1"],
        Bug::HandshakeNeverTimesOut => &["T2"],
        Bug::FrameNeverTimesOut | Bug::DeadlineLate => &["T3"],
        Bug::PaceIgnored => &["S15"],
        Bug::NeverSqueezed => &["S16", "S4", "B6"],
        Bug::FailedProofRenewsDeadline | Bug::FailedProofTakesToken => &["S7"],
        Bug::StrangeProxyTaken | Bug::ListenerOffByOne => &["S16"],
        // Some are refused at once, and the others cannot come back.
        Bug::ListenerPlaceKept => &["S15"],
        // The proxy's count refuses a connection that its source's would not, or the reverse.
        Bug::HeaderIgnored => &["S15", "S16"],
        Bug::HeaderDelaysDeadline => &["T3", "T2"],
        Bug::PacedForEver => &["L5", "T3", "T2"],
        Bug::PaceHasNoEnd | Bug::SilenceNeverEnds => &["T2"],
        Bug::LinkLossEndsSessions | Bug::DetachEnds => &["T1"],
        Bug::LinkReadStops | Bug::ReadStopsWithoutLink => &["L5"],
        Bug::LinkQueueOffByOne => &["B4"],
        // The count of established connections falls below none, which is a panic, or connections are left at the end.
        Bug::HalfOpenLeaks => &["H1", "H2"],
        Bug::WakeupLost => &["A1"],
        Bug::TakeoverForgetsRewind | Bug::DetachForgetsRewind | Bug::PingAfterMissed => &["S10"],
        Bug::ClaimDetaches
        | Bug::TakeoversUnbounded
        | Bug::KickDropsOutput
        | Bug::WriteDeadlineNotRenewed
        | Bug::ReplyAtOnce
        | Bug::CapEndsNewest => &["S15"],
        // A claim gets a decoy, or a response is refused.
        Bug::ExpiresEarly => &["S16", "S15"],
        Bug::AccountLeaks | Bug::AccountOnlyGrows => &["B6"],
        Bug::TakeoverNotCounted => &["H3"],
        // A missing notice is seen at once, or by what comes in its place.
        Bug::EndToldTwice => &["S15", "S13"],
        Bug::EmptyPacketDropped => &["S16", "S10"],
        Bug::EndNotTold => &["S16", "S13"],
        // If nothing waits, nothing is due either.
        Bug::TakeoverLosesQueue => &["S16", "S10", "T3"],
        Bug::FailedProofDropsQueue => &["S7", "S16", "S10", "S15", "T3"],
        Bug::ResumedNotTold => &["S16", "S12"],
        Bug::PartialFrameSurvivesLink => &["S16", "S15"],
        Bug::CutPacketNotResent => &["S15", "S11", "S9"],
        Bug::LineForgotten | Bug::HeldBytesLost => &["S11", "S9"],
        Bug::HeldFramesLostAtDetach => &["S11", "S12", "S9"],
        Bug::ByteLostAtSplit => &["S11", "S15", "S16", "S9"],
        Bug::KickIgnored
        | Bug::ClientQueueBytesUnbounded
        | Bug::TakeoverKeepsOld
        | Bug::KickOfAwayIgnored
        | Bug::UnknownUnanswered
        | Bug::LinkLengthIgnored
        | Bug::ClientQueueOffByOne
        | Bug::MissedQueueOffByOne
        | Bug::OverflowDropsPacket
        | Bug::FrameBoundOffByOne
        | Bug::HandshakeBodyUnbounded
        | Bug::OldVersionTaken
        | Bug::ShutdownLeavesHalfOpen
        | Bug::EndLooksLikeRefusal
        | Bug::AnnouncesFirstOnly => &["S16"],
        Bug::ShutdownNeverEnds | Bug::ShutdownForgetsKicked => &["L7"],
        Bug::SourceOffByOne
        | Bug::WideSourceUnbounded
        | Bug::WidePaceUnbounded
        | Bug::SourcePaceUnbounded
        | Bug::SessionsOffByOne
        | Bug::ReserveForNewcomers => &["S16"],
        // The session is attached although the model has it wait.
        Bug::ReturnsTakeAllPlaces => &["S4", "S15"],
        // The end of a session is missing. Where several may end, only the number of those away shows it.
        Bug::StaleOfSourceUnbounded | Bug::StaleOfWideUnbounded => &["S16", "S4"],
        Bug::PenaltyKeepsOwnersOut => &["S15", "S16"],
        Bug::RefusedEatPace | Bug::PenaltyActsEarly | Bug::SourceLeaks | Bug::ReportRefuses => {
            &["S15"]
        }
        Bug::RoomNotMade | Bug::ClaimantsUnbounded => &["S15", "S16"],
        Bug::ShutdownReadsOn | Bug::ShutdownTellsBackend => &["S15"],
        // It may look like the end of the announcement.
        Bug::AnnouncesAway => &["S6", "S12", "S16"],
        other => unreachable!("{other:?} takes several shards: shards_planted.rs"),
    }
}

/// Returns whether the bug makes something wait that must not, or the reverse. The account of memory may show it first (B6).
fn shows_in_the_account(bug: Bug) -> bool {
    matches!(
        bug,
        Bug::FailedProofDropsQueue
            | Bug::TakeoverLosesQueue
            | Bug::PartialFrameSurvivesLink
            | Bug::CutPacketNotResent
            | Bug::TakeoverForgetsRewind
            | Bug::DetachForgetsRewind
            | Bug::DetachEnds
            | Bug::LinkLossEndsSessions
            | Bug::ClientQueueOffByOne
            | Bug::MissedQueueOffByOne
            | Bug::LinkQueueOffByOne
            | Bug::ClientQueueBytesUnbounded
            | Bug::OverflowDropsPacket
            | Bug::HeldBytesLost
            | Bug::HeldFramesLostAtDetach
            | Bug::LineForgotten
            | Bug::EndNotTold
            | Bug::EndToldTwice
            | Bug::ResumedNotTold
            | Bug::UnknownUnanswered
            | Bug::KickIgnored
            | Bug::KickOfAwayIgnored
            | Bug::KickDropsOutput
            | Bug::CapEndsNewest
            | Bug::EmptyPacketDropped
            | Bug::ByteLostAtSplit
            | Bug::StaleOfSourceUnbounded
            | Bug::StaleOfWideUnbounded
            | Bug::HeaderIgnored
            | Bug::ShutdownTellsBackend
            | Bug::AnnouncesAway
    )
}

/// Rules without a planted bug, and the reasons.
const WITHOUT_A_BUG: &[(&str, &str)] = &[
    (
        "S2",
        "the client's own check; the model sees other bytes wait before they are sent (S10)",
    ),
    (
        "S3",
        "the ids are a permutation, tested by itself (core/src/edge/sessions/ids.rs)",
    ),
    (
        "S5",
        "a call for a connection that is gone names no entry; what it changed would be another rule's",
    ),
    ("S8", "such a byte has no cause: S15"),
    ("S14", "a second answer has no cause: S15"),
    ("B1", "the engine offers no more than the edge asks for"),
    ("B2", "seen as the missing end, S16 (MissedQueueOffByOne)"),
    ("B3", "seen as the missing end, S16 (ClientQueueOffByOne)"),
    (
        "B5",
        "core/src/edge/tests/memory.rs: the engine does not set a bound for all bytes",
    ),
    (
        "B7",
        "it takes several shards: shards_planted.rs (BoundsNotShared)",
    ),
    (
        "T5",
        "no such bug is planted; a timer that stays due would break it at once",
    ),
    ("L1", "no bug that keeps the link away is planted"),
    ("L2", "what keeps a client out is seen at once: S15, S16"),
    (
        "L3",
        "what keeps a packet back is seen at once: S11, S16, L5",
    ),
    (
        "L6",
        "what keeps a visitor out is seen at once: S15 (RefusedEatPace)",
    ),
    ("L8", "what keeps the herd out is seen at once: S15"),
    ("A2", "a loop of the adapter's; no such bug is planted"),
];

#[test]
fn each_rule_has_a_bug_or_a_reason() {
    for (rule, _) in RULES {
        let bugs = Bug::ALL.iter().filter(|bug| rules(**bug).contains(rule));
        let reasons = WITHOUT_A_BUG.iter().filter(|(other, _)| other == rule);
        assert!(
            (bugs.count() > 0) != (reasons.count() > 0),
            "{rule} must have one of both"
        );
    }
    let known = |rule: &&str| RULES.iter().any(|(other, _)| other == rule);
    for bug in Bug::ALL {
        assert!(rules(*bug).iter().all(known), "{bug:?}");
    }
    assert!(WITHOUT_A_BUG.iter().all(|(rule, _)| known(rule)));
}

/// How a bug was found.
struct Found {
    /// The number of seeds needed in each range.
    seeds: Vec<u64>,
    /// The number of operations in a shrunk plan that shows it.
    ops: usize,
}

fn find(bug: Bug) -> Result<Found, String> {
    let run = |seed| engine::run(&generate(seed)).violation;
    let may_break =
        |rule: &str| rules(bug).contains(&rule) || (rule == "B6" && shows_in_the_account(bug));
    let mut seeds = Vec::new();
    let mut ops = usize::MAX;
    for base in BASES {
        let (seed, rule) = hunt::find_from(bug, base, run, may_break)?;
        // Only the first seed is shrunk, unless that leaves many operations.
        if ops > MOST_OPS {
            // Bounded only in runs, so that the result does not depend on how busy the machine is.
            let budget = Budget {
                time: Duration::from_secs(3_600),
                ..Budget::default()
            };
            plant(Some(bug));
            let plan = shrink(&generate(base + seed - 1), rule, budget);
            plant(None);
            // `VL_PLANS=sim/regressions` keeps the plan that shows it.
            if let Ok(folder) = std::env::var("VL_PLANS")
                && plan.ops.len() < ops
            {
                let path = format!("{folder}/{bug:?}.plan");
                std::fs::write(&path, plan.to_string()).map_err(|error| error.to_string())?;
            }
            ops = ops.min(plan.ops.len());
        }
        seeds.push(seed);
    }
    Ok(Found { seeds, ops })
}

#[test]
fn every_planted_bug_is_found() {
    let wanted = hunt::selected(Bug::ALL);
    let all = hunt::each(&wanted, find);
    let mut missed = Vec::new();
    let mut ops = Vec::new();
    for (bug, found) in &all {
        match found {
            Ok(found) => {
                println!(
                    "{bug:?}: seeds {:?}, shrunk to {} operations",
                    found.seeds, found.ops
                );
                let most = match bug {
                    Bug::TakeoversUnbounded => MOST_OPS_OF_TAKEOVERS,
                    Bug::ReturnsTakeAllPlaces => MOST_OPS_OF_A_FULL_HOUSE,
                    _ => MOST_OPS,
                };
                if found.ops > most {
                    missed.push(format!("{bug:?}: {} operations are left", found.ops));
                }
                ops.push(found.ops);
            }
            Err(why) => missed.push(format!("{bug:?}: {why}")),
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
    ops.sort_unstable();
    let (median, most) = (ops[ops.len() / 2], ops[ops.len() - 1]);
    println!(
        "{} bugs, median {median} and at most {most} operations",
        all.len()
    );
    assert!(
        median <= MEDIAN_OPS || wanted.len() < Bug::ALL.len(),
        "median {median}"
    );
}
