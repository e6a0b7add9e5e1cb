//! Are the invariants of a crowd worth anything? Each bug that takes a crowd must be found in few seeds, as a break of its rule.

mod hunt;

use sim::abuse::run;
use voltlane_core::planted::Bug;

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
    let bugs = [Bug::OF_CROWDS, &[Bug::RefusedEatPace]].concat();
    let bugs = hunt::selected(&bugs);
    let may_break = |bug, rule: &str| rules(bug).contains(&rule);
    hunt::expect_found(&bugs, |seed| run(seed).violation, may_break);
}
