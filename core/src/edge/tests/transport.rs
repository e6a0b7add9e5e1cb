//! What a transport with layers tells the machine: its own bytes, what it holds, its handshakes, a peer that breaks its rules.

use super::*;

#[test]
fn bytes_of_the_transport_count_towards_the_pace_and_are_no_traffic() {
    let mut world = World::new(|config| {
        config.clients.pace.bytes = 1_000;
        config.clients.pace.bytes_burst = 2_000;
    });
    let one = world.join();
    let before = world.edge.counters().client_bytes_in;
    world
        .edge
        .handle_client_overhead(world.now, one.conn, 2_000);
    assert!(world.edge.read_budget(one.conn) > 0, "at the burst");
    world.edge.handle_client_overhead(world.now, one.conn, 1);
    assert_eq!(world.edge.read_budget(one.conn), 0, "one beyond");
    assert_eq!(world.edge.counters().paced, 1);
    assert_eq!(world.edge.counters().client_bytes_in, before);
    world.wait(Duration::from_secs(2));
    assert!(world.edge.read_budget(one.conn) > 0);
    let stranger = world.accept();
    world
        .edge
        .handle_client_overhead(world.now, stranger, 1 << 20);
    assert!(
        world.edge.read_budget(stranger) > 0,
        "its deadline bounds it"
    );
}

#[test]
fn what_a_transport_holds_is_memory_until_its_connection_ends() {
    let mut world = World::new(|config| config.limits.max_memory_bytes = 1_000_000);
    let (one, two) = (world.join(), world.join());
    let empty = world.edge.gauges().held_bytes;
    let held = |world: &World| world.edge.gauges().held_bytes - empty;
    world.edge.handle_client_held(world.now, one.conn, 70_000);
    world.edge.handle_client_held(world.now, two.conn, 30_000);
    assert_eq!(held(&world), 100_000);
    world.edge.handle_client_held(world.now, two.conn, 0);
    assert_eq!(held(&world), 70_000);
    world.leave(one.conn);
    assert_eq!(held(&world), 0);
    world.edge.handle_client_held(world.now, one.conn, 70_000);
    assert_eq!(held(&world), 0, "it is gone");
    world.edge.handle_client_held(world.now, two.conn, 949_999);
    assert!(!world.is_closed(two.conn));
    world.edge.handle_client_held(world.now, two.conn, 950_000);
    assert!(world.is_closed(two.conn), "the largest holder fails first");
    assert_eq!(held(&world), 0);
    assert_eq!(world.edge.close_reason(two.conn), Some(CloseReason::Memory));
    world.edge.handle_client_held(world.now, two.conn, 1_000);
    assert_eq!(held(&world), 0, "it is about to go");
}

#[test]
fn handshakes_have_a_pace_of_their_own() {
    let limited = |enforce| {
        World::new(|config| {
            (config.limits.handshake_rate, config.limits.handshake_burst) = (10, 3);
            config.limits.enforce_accepts = enforce;
        })
    };
    let mut world = limited(Enforce::On);
    for _ in 0..3 {
        assert_eq!(world.edge.admit_handshake(world.now), Ok(()));
    }
    let again = world.now + Duration::from_millis(100);
    assert_eq!(world.edge.admit_handshake(world.now), Err(again));
    assert_eq!(world.edge.counters().handshakes_paced, 1);
    assert_eq!(world.edge.admit_handshake(again), Ok(()));
    assert!(world.edge.admit_handshake(again).is_err());
    for (enforce, paced) in [(Enforce::Report, 7), (Enforce::Off, 0)] {
        let mut world = limited(enforce);
        for _ in 0..10 {
            assert_eq!(world.edge.admit_handshake(world.now), Ok(()));
        }
        assert_eq!(world.edge.counters().handshakes_paced, paced);
    }
}

#[test]
fn a_peer_that_breaks_its_transport_is_punished_as_for_a_bad_frame() {
    let mut world = World::new(|_| {});
    let broken = |world: &World| world.edge.counters().closed[CloseReason::BadTransport as usize];
    for times in 1..=2 {
        let conn = world.accept();
        world
            .edge
            .handle_client_closed(world.now, conn, Closed::Violation);
        assert_eq!(broken(&world), times);
    }
    // One session may begin a second, the next one is refused.
    world.join();
    let refused = world.accept();
    world.say(refused, Handshake::ProtocolVersion(2));
    let keys = KeyPair::generate(&mut world.rng);
    world.say(refused, Handshake::PubKey(keys.public().as_bytes()));
    assert!(world.is_closed(refused));
    assert_eq!(
        world.edge.close_reason(refused),
        Some(CloseReason::Rejected)
    );
}

#[test]
fn a_transport_that_fails_is_no_offence() {
    let mut world = World::new(|_| {});
    for cause in [Closed::Error, Closed::Eof, Closed::Asked] {
        for _ in 0..5 {
            let conn = world.accept();
            world.edge.handle_client_closed(world.now, conn, cause);
        }
    }
    world.join();
    world.join();
    assert_eq!(world.edge.counters().joined, 2);
}
