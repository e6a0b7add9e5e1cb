//! Fuzzes the edge machine as its adapter sees it: connections, bytes, writes, time and ends in any order, with peers that follow the
//! protocol, nearly follow it, or do not.
//!
//! Nothing panics, and these rules hold:
//!
//! - A client's packets reach the backend in order, unaltered, none twice, and none of another client. The same holds downwards (1.4). All
//!   of them arrive if the session lives on.
//! - No client is told that it has resumed without a proof of the session's key (5).
//! - No id is assigned twice. Each assigned id ends with one failure notice, after which nothing comes from it (7.3, 9.1).
//! - The bounds on connections, half-open connections and sessions that are away hold at every moment (10.6).
//! - A timer that was served is not due again, so an adapter cannot spin.
//! - Memory is bounded by what arrived, and nothing is held once everyone has left.

mod ledger;
mod options;
mod peer;
mod world;

use voltlane_core::edge::Counters;

use crate::bytes::Bytes;

/// Runs the machine: the first bytes choose the configuration, the rest are events.
pub fn edge_machine(input: &[u8]) {
    run(input);
}

/// Like [`edge_machine`], but returns the final counters, so that a test can check what a corpus reaches.
pub fn run(input: &[u8]) -> Counters {
    let mut world = world::World::new(Bytes::new(input));
    world.play();
    world.finish()
}
