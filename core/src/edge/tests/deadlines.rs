//! An edge that is told the time late handles deadlines in the order in which they fell due (SPEC 8.1(d)).

use super::*;

/// Returns the reason for the end of `id` that the backend is told if one jump in time passes both of its deadlines.
fn ends_with(frame_timeout_secs: u64, write_timeout_secs: u64) -> String {
    let mut world = World::new(|config| {
        config.clients.frame_timeout = Duration::from_secs(frame_timeout_secs);
        config.clients.write_timeout = Duration::from_secs(write_timeout_secs);
        config.clients.missed_packets_buffer_size = 0;
    });
    let one = world.join();
    world
        .edge
        .handle_client_bytes(world.now, one.conn, &[5, 0, 0, 0, 1]);
    world.backend_says(one.id, Flag::Data, b"not taken");
    world.now = world.now + Duration::from_secs(60);
    world.edge.handle_timeout(world.now);
    assert!(world.is_closed(one.conn));
    let heard = world.backend_hears();
    assert_eq!(heard.len(), 1, "{heard:?}");
    heard[0].2.clone()
}

#[test]
fn of_two_deadlines_that_are_over_the_earlier_one_counts() {
    assert_eq!(ends_with(8, 7), "write timed out");
    assert_eq!(ends_with(7, 8), "client is away");
    // At the same instant the frame's deadline comes first.
    assert_eq!(ends_with(7, 7), "client is away");
}

/// A takeover that must wait for a second, and its handshake deadline. Both are over when the edge is told the time.
fn takeover_against_handshake(handshake_millis: u64) -> (World, ConnKey, ConnKey) {
    let mut world = World::new(|config| {
        config.limits.handshake_timeout = Duration::from_millis(handshake_millis);
    });
    let mut one = world.join();
    for _ in 0..10 {
        assert_eq!(world.come_back(&mut one), [ping()]);
    }
    let held = one.conn;
    // The claim takes a millisecond of its handshake, and then it waits.
    assert!(world.come_back(&mut one).is_empty());
    world.now = world.now + Duration::from_secs(60);
    world.edge.handle_timeout(world.now);
    (world, held, one.conn)
}

#[test]
fn a_takeover_whose_wait_was_over_in_time_succeeds_however_late_the_edge_is_told() {
    let (mut world, held, newer) = takeover_against_handshake(1_002);
    assert!(world.is_closed(held));
    assert_eq!(world.hear(newer), [ping()]);
}

#[test]
fn a_takeover_whose_handshake_ended_before_its_wait_fails_however_late_the_edge_is_told() {
    let (mut world, held, newer) = takeover_against_handshake(1_000);
    assert!(!world.is_closed(held));
    assert_eq!(world.edge.client_close(newer), Some(CloseKind::Abort));
}
