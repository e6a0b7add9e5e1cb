//! The edge machine as its adapter sees it: any order of connections, bytes, writes, time and ends, by peers that follow the
//! protocol, that nearly do, and that do not.
//!
//! What must hold, beside that nothing panics:
//!
//! - packets of a client reach the backend in order, unaltered, nothing twice, nothing of another client; the same downwards (1.4);
//!   and all of them where the session lives on;
//! - no connection is told that it is back without the proof of the session's key (5);
//! - no id is given twice, and each that was given ends with one failure notice, after which nothing comes from it (7.3, 9.1);
//! - bounds on connections, half-open places and absent sessions hold at every moment (10.6);
//! - a timer that was served is not due again, so no adapter spins;
//! - what is held is bounded by what came, and when everyone has left, nothing is held.

mod ledger;
mod options;
mod peer;
mod world;

use voltlane_core::edge::Counters;

use crate::bytes::Bytes;

/// The first bytes choose the configuration, the rest are events.
pub fn edge_machine(input: &[u8]) {
    run(input);
}

/// The same; what happened in the end, so that a corpus can be held to what it must reach.
pub fn run(input: &[u8]) -> Counters {
    let mut world = world::World::new(Bytes::new(input));
    world.play();
    world.finish()
}
