//! Tests the ledger of several shards: each bug that needs several shards, and some that one edge can have, must be found within few seeds,
//! wherever these begin, as a violation of any rule.

mod hunt;

use sim::shards::run;
use voltlane_core::planted::Bug;

/// Bugs of one edge that the ledger must find, too.
const OF_ONE_EDGE: [Bug; 7] = [
    Bug::CutPacketNotResent,
    Bug::EndNotTold,
    Bug::EndToldTwice,
    Bug::HalfOpenLeaks,
    Bug::ResumedNotTold,
    Bug::TakeoverKeepsOld,
    Bug::WrongTagAfterResume,
];

#[test]
fn every_bug_that_takes_several_shards_is_found() {
    let bugs = [Bug::OF_SHARDS, &OF_ONE_EDGE].concat();
    let bugs = hunt::selected(&bugs);
    hunt::expect_found(&bugs, |seed| run(seed).violation, |_, _| true);
}
