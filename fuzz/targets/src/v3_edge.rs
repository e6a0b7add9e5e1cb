//! Fuzzes the edge machine with clients of version 3, which follow the protocol, nearly follow it, or do not, and with a backend.

mod peer;
mod world;

use voltlane_core::edge::Counters;

use crate::bytes::Bytes;

/// - A client's packets reach the backend in order, each number once, as it sealed them. The same holds downwards.
/// - Everything that the edge says to a client opens, is well formed and adds up, whatever the client does.
/// - No resume is somebody else's, and each session ends once.
/// - A timer that was served is not due again, bounds hold, and nothing is held once everyone has left but how sessions ended.
pub fn v3_edge(input: &[u8]) {
    run(input);
}

/// Like [`v3_edge`], but returns the final counters, so that a test can check what a corpus reaches.
pub fn run(input: &[u8]) -> Counters {
    let mut world = world::World::new(Bytes::new(input));
    world.play();
    world.finish()
}
