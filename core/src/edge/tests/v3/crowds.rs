//! Sources beyond their limits: only a Claim that opens goes on (SPEC 27.3).

use super::*;

/// A world whose one source may have `burst` more connections for now.
fn crowded(burst: u32, change: impl FnOnce(&mut EdgeConfig)) -> World {
    world(|config| {
        let sources = &mut config.limits.sources;
        (sources.rate, sources.burst) = (1, burst);
        (sources.wide_rate, sources.wide_connections) = (0, 0);
        change(config);
    })
}

fn refused(world: &World) -> u64 {
    world.edge.counters().rejected[Rejected::SourceTooFast as usize]
}

/// Returns how many connections ended for this reason.
fn ended(world: &World, reason: CloseReason) -> u64 {
    world.edge.counters().closed[reason as usize]
}

#[test]
fn beyond_the_pace_of_its_source_only_a_claim_that_opens_goes_on() {
    let mut world = crowded(2, |_| {});
    let mut one = world.join3();
    world.leave(one.conn);
    let two = world.join();
    let (hello, ..) = world.hello();
    assert!(world.is_closed(hello));
    for first in [
        Handshake::PubKey(two.keys.public().as_bytes()),
        Handshake::ClientId(two.id),
    ] {
        let conn = world.accept();
        world.say(conn, Handshake::ProtocolVersion(2));
        world.say(conn, first);
        assert!(world.is_closed(conn), "{first:?}");
    }
    assert_eq!(
        (refused(&world), ended(&world, CloseReason::Rejected)),
        (3, 3)
    );
    // None of these is an offence.
    let came = world.come_back3(&mut one).unwrap();
    assert!(matches!(came.first(), Some(Came::Resumed(..))));
    assert_eq!(world.edge.counters().resumed, 1);
    let random = world.random();
    let mut spoiled = one.session.attempt(random, 1, 0).claim().to_vec();
    spoiled[50] ^= 1;
    let conn = world.begin3(&spoiled, b"");
    assert!(world.is_closed(conn));
    assert_eq!(ended(&world, CloseReason::BadClaim), 1, "it does not open");
}

#[test]
fn beyond_the_connections_of_its_source_too_and_behind_a_proxy() {
    for proxied in [false, true] {
        let mut world = world(|config| {
            config.limits.sources.connections = 1;
            if proxied {
                behind_proxy(config);
            }
        });
        if proxied {
            world.header = b"PROXY TCP4 192.0.2.77 203.0.113.1 40000 1\r\n";
        }
        let mut one = world.join3();
        let (hello, ..) = world.hello();
        assert!(world.is_closed(hello));
        let rejected = world.edge.counters().rejected;
        assert_eq!(rejected[Rejected::SourceTooMany as usize], 1);
        // Its first connection is dead, and the edge does not know it yet.
        world.come_back3(&mut one).unwrap();
        assert_eq!(world.edge.counters().takeovers, 1);
    }
}

#[test]
fn a_listener_of_version_2_alone_refuses_them_at_once() {
    let mut world = crowded(1, |config| {
        config.listener.versions = OfferedVersions::new(&[2]).unwrap();
    });
    world.accept();
    let again = world.edge.handle_accepted(world.now, SOURCE);
    assert_eq!(again, Err(Rejected::SourceTooFast));
}

#[test]
fn they_displace_each_other_and_nobody_else() {
    // Eight places, six of them for claimants.
    let mut world = crowded(4, |config| config.limits.max_half_open = 8);
    let member = world.join();
    let strangers: Vec<_> = (0..2).map(|_| world.accept()).collect();
    let (claims, _) = world.claim(member.id);
    let hopeful: Vec<_> = (0..5).map(|_| world.accept()).collect();
    assert_eq!(world.edge.gauges().half_open, 8);
    world.accept();
    assert_eq!(world.edge.client_close(hopeful[0]), Some(CloseKind::Abort));
    // A newcomer and a claimant of other sources displace them.
    let elsewhere = IpAddr::from([198, 51, 100, 1]);
    let newcomer = world.edge.handle_accepted(world.now, elsewhere).unwrap();
    assert!(world.is_closed(hopeful[1]) && !world.is_closed(newcomer));
    world.leave(strangers[0]);
    world.accept();
    world.say(newcomer, Handshake::ProtocolVersion(2));
    world.say(newcomer, Handshake::ClientId(member.id));
    assert!(world.is_closed(hopeful[2]) && !world.is_closed(hopeful[3]));
    for conn in [strangers[1], claims, newcomer] {
        assert!(!world.is_closed(conn));
    }
}

#[test]
fn where_nobody_like_them_makes_room_they_are_refused() {
    // Four places: three newcomers, and one that claims.
    let mut world = crowded(5, |config| config.limits.max_half_open = 4);
    let member = world.join();
    world.claim(member.id);
    for _ in 0..3 {
        world.accept();
    }
    let again = world.edge.handle_accepted(world.now, SOURCE);
    assert_eq!(again, Err(Rejected::SourceTooFast));
    assert_eq!(world.edge.gauges().half_open, 4);
}

#[test]
fn half_of_the_burst_of_all_accepts_is_not_for_them() {
    let mut world = crowded(1, |config| {
        (config.limits.accept_rate, config.limits.accept_burst) = (1, 8);
    });
    for _ in 0..4 {
        world.accept();
    }
    let again = world.edge.handle_accepted(world.now, SOURCE);
    assert_eq!(again, Err(Rejected::SourceTooFast));
    for low in 0..4 {
        let elsewhere = IpAddr::from([198, 51, 100, low]);
        world.edge.handle_accepted(world.now, elsewhere).unwrap();
    }
}

/// Behind a proxy the source is known after the accept. Those that are refused then have used up nothing.
#[test]
fn half_of_the_burst_is_for_others_behind_a_proxy_too() {
    let mut world = crowded(1, |config| {
        behind_proxy(config);
        (config.limits.accept_rate, config.limits.accept_burst) = (1, 8);
    });
    let from = |world: &mut World, source: &str| {
        let conn = world.edge.handle_accepted(world.now, SOURCE).unwrap();
        let header = format!("PROXY TCP4 {source} 203.0.113.1 40000 1\r\n");
        let now = world.now;
        world.edge.handle_client_bytes(now, conn, header.as_bytes());
        !world.is_closed(conn)
    };
    for _ in 0..4 {
        assert!(from(&mut world, "198.51.100.77"));
    }
    for _ in 0..20 {
        assert!(!from(&mut world, "198.51.100.77"));
    }
    assert_eq!(refused(&world), 20);
    for low in 0..4 {
        assert!(from(&mut world, &format!("198.51.100.{low}")));
    }
    let full = world.edge.handle_accepted(world.now, SOURCE);
    assert_eq!(full, Err(Rejected::TooFast));
}

#[test]
fn a_limit_that_is_only_reported_restricts_nobody() {
    let mut world = crowded(1, |config| config.limits.enforce_sources = Enforce::Report);
    world.join3();
    world.join3();
    world.join();
    assert_eq!(refused(&world), 2);
}
