//! The limits of one listener (SPEC 10.6(k)).

use super::*;

fn at(world: &mut World, listener: usize) -> Result<ConnKey, Rejected> {
    world
        .edge
        .handle_accepted_at(world.now, listener, SOURCE, None)
}

/// Creates an edge whose listener 1 has limits of its own.
fn limited(change: impl FnOnce(&mut ListenerConfig)) -> World {
    let mut own = ListenerConfig::default();
    change(&mut own);
    World::new(|config| config.more_listeners = vec![own])
}

#[test]
fn the_connections_of_a_listener_are_bounded_exactly() {
    let mut world = limited(|own| own.max_connections = 2);
    let first = at(&mut world, 1).expect("a place");
    at(&mut world, 1).expect("a place");
    for _ in 0..2 {
        assert_eq!(at(&mut world, 1), Err(Rejected::ListenerTooMany));
    }
    let counted = world.edge.counters().rejected[Rejected::ListenerTooMany as usize];
    assert_eq!(counted, 2);
    for _ in 0..4 {
        at(&mut world, 0).expect("the other listener has no limit");
    }
    world.leave(first);
    at(&mut world, 1).expect("one place is free again");
    assert_eq!(at(&mut world, 1), Err(Rejected::ListenerTooMany));
    world.edge.audit();
}

#[test]
fn a_listener_has_a_pace_of_its_own() {
    for (burst, most) in [(3, 3), (0, 2)] {
        let mut world = limited(|own| (own.accept_rate, own.accept_burst) = (2, burst));
        for _ in 0..most {
            at(&mut world, 1).expect("the burst");
        }
        assert_eq!(at(&mut world, 1), Err(Rejected::ListenerTooFast));
        at(&mut world, 0).expect("the other listener has no limit");
        world.wait(Duration::from_millis(499));
        assert_eq!(at(&mut world, 1), Err(Rejected::ListenerTooFast));
        world.wait(Duration::from_millis(1));
        at(&mut world, 1).expect("one in half a second");
        assert_eq!(at(&mut world, 1), Err(Rejected::ListenerTooFast));
    }
}

/// A connection that a later check refuses takes neither a place nor a part of the pace, and neither does it take from the pace of all.
#[test]
fn what_is_refused_is_not_counted() {
    let mut world = World::new(|config| {
        config.limits.sources.connections = 1;
        config.limits.accept_rate = 1;
        config.limits.accept_burst = 3;
        let own = ListenerConfig::default().with_accepts(1, 2);
        config.listener = own.with_max_connections(2);
    });
    at(&mut world, 0).expect("a place");
    for _ in 0..3 {
        assert_eq!(at(&mut world, 0), Err(Rejected::SourceTooMany));
    }
    let other = |n: u8| IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, n));
    let now = world.now;
    let mut from = |n| world.edge.handle_accepted_at(now, 0, other(n), None);
    from(2).expect("a place, and a part of the pace");
    assert_eq!(from(3), Err(Rejected::ListenerTooFast));
    world.wait(Duration::from_secs(1));
    let now = world.now;
    let mut from = |n| world.edge.handle_accepted_at(now, 0, other(n), None);
    assert_eq!(from(3), Err(Rejected::ListenerTooMany));
    world.edge.audit();
}

#[test]
fn a_pace_is_reported_alone_or_not_looked_at_and_places_are_bounded_always() {
    for (enforce, told) in [(Enforce::Report, 2), (Enforce::Off, 0)] {
        let own = ListenerConfig::default().with_accepts(1, 1);
        let mut world = World::new(|config| {
            config.listener = own.with_max_connections(3);
            config.limits.enforce_accepts = enforce;
        });
        for _ in 0..3 {
            at(&mut world, 0).expect("accepted all the same");
        }
        let rejected = |world: &World, why| world.edge.counters().rejected[why as usize];
        assert_eq!(rejected(&world, Rejected::ListenerTooFast), told);
        assert_eq!(at(&mut world, 0), Err(Rejected::ListenerTooMany));
    }
}

/// A listener that moves has another number. Its clients still count, and those of one that took its number do not.
#[test]
fn a_listener_keeps_its_count_under_another_number() {
    let own = |account| {
        let own = ListenerConfig::default().with_account(account);
        own.with_max_connections(1)
    };
    let mut world = World::new(|config| config.listener = own(7));
    let first = at(&mut world, 0).expect("a place");
    let mut config = EdgeConfig::default().with_listener(own(8));
    config.more_listeners = vec![own(7)];
    world.edge.handle_config(world.now, config);
    assert_eq!(at(&mut world, 1), Err(Rejected::ListenerTooMany));
    let second = at(&mut world, 0).expect("the new one has a count of its own");
    assert_eq!(world.edge.shares.listeners().len(), 2);
    // Both are gone, one with its client.
    world.leave(first);
    let config = EdgeConfig::default().with_listener(own(9));
    world.edge.handle_config(world.now, config);
    assert_eq!(world.edge.shares.listeners().connections(8), 1);
    world.leave(second);
    let config = EdgeConfig::default().with_listener(own(9));
    world.edge.handle_config(world.now, config);
    assert_eq!(world.edge.shares.listeners().len(), 0);
}

/// Shards share the count, and a connection that goes from one to another stays counted once.
#[test]
fn shards_count_together() {
    let own = ListenerConfig::default().with_max_connections(2);
    let [mut first, mut second] = handover::two(|config| config.listener = own.clone());
    let member = second.join();
    let conn = handover::claims(&mut first, member.id, b"");
    assert_eq!(at(&mut first, 0), Err(Rejected::ListenerTooMany));
    let taken = handover::hand_over(&mut first, &mut second, conn).expect("there is a place");
    assert_eq!(at(&mut first, 0), Err(Rejected::ListenerTooMany));
    second.leave(taken);
    let conn = handover::claims(&mut first, member.id, b"");
    let lost = first.edge.take_handover(first.now, conn).expect("a claim");
    assert_eq!(at(&mut second, 0), Err(Rejected::ListenerTooMany));
    first.edge.discard_handover(first.now, lost);
    at(&mut second, 0).expect("it is not on its way any more");
    assert_eq!(at(&mut first, 0), Err(Rejected::ListenerTooMany));
}
