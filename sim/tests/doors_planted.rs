//! Tests that the engine over turmoil finds bugs of TLS and WebSocket: each must be found within few seeds, wherever these begin, as a
//! violation of any rule.

mod hunt;

use sim::model::Violation;
use sim::network::{Carriage, World, run};
use voltlane_core::planted::Bug;

/// Runs a seed, if its clients come through a door.
fn through_a_door(seed: u64) -> Option<Violation> {
    let world = World::draw(seed);
    if world.carriage == Carriage::Tcp {
        return None;
    }
    let broken = run(&world).broken?;
    Some(Violation {
        id: broken.rule,
        section: "-",
        at_nanos: broken.at_nanos,
        text: broken.text,
    })
}

#[test]
fn every_bug_of_doors_is_found() {
    let bugs = hunt::selected(Bug::OF_DOORS);
    hunt::expect_found(&bugs, through_a_door, |_, _| true);
}
