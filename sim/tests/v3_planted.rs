//! Tests the ledger of version 3: each bug of version 3 must be found within few seeds, wherever these begin, as a violation of any rule.

mod hunt;

use sim::v3::run;
use voltlane_core::planted::Bug;

#[test]
fn every_bug_of_version_3_is_found() {
    let bugs = hunt::selected(Bug::OF_VERSION_3);
    hunt::expect_found(&bugs, |seed| run(seed).violation, |_, _| true);
}
