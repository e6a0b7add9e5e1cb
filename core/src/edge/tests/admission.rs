//! Admission.

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn rejected(world: &World, reason: Rejected) -> u64 {
    world.edge.counters().rejected[reason as usize]
}

#[test]
fn the_stranger_that_was_silent_for_longest_makes_room_and_a_quarter_is_for_those_who_come_back() {
    let mut world = World::new(|config| config.limits.max_half_open = 8);
    let member = world.join();
    let strangers: Vec<ConnKey> = (0..6).map(|_| world.accept()).collect();
    assert!(strangers.iter().all(|&conn| !world.is_closed(conn)));
    let seventh = world.accept();
    assert!(world.is_closed(strangers[0]), "the oldest");
    assert!(strangers[1..].iter().all(|&conn| !world.is_closed(conn)));
    // Two of them claim sessions. Strangers take their places again, up to all eight.
    for conn in [strangers[1], strangers[2]] {
        world.say(conn, Handshake::ProtocolVersion(2));
        world.say(conn, Handshake::ClientId(member.id));
    }
    world.accept();
    world.accept();
    assert_eq!(world.edge.gauges().half_open, 8);
    assert!(!world.is_closed(seventh) && !world.is_closed(strangers[3]));
    world.accept();
    assert!(world.is_closed(strangers[3]));
    assert_eq!(world.edge.gauges().half_open, 8);
}

/// Opens a connection that claims `id` and then stalls.
fn claimant(world: &mut World, id: ClientId) -> ConnKey {
    let conn = world.accept();
    world.say(conn, Handshake::ProtocolVersion(2));
    world.say(conn, Handshake::ClientId(id));
    conn
}

#[test]
fn claimants_hold_three_quarters_of_the_half_open_places_and_newcomers_get_in() {
    let mut world = World::new(|config| config.limits.max_half_open = 8);
    let member = world.join();
    let claimants: Vec<_> = (0..6)
        .map(|_| {
            let conn = claimant(&mut world, member.id);
            world.wait(RESUME_REPLY_DELAY);
            conn
        })
        .collect();
    assert!(claimants.iter().all(|&conn| !world.is_closed(conn)));
    let seventh = claimant(&mut world, member.id);
    assert_eq!(
        world.edge.client_close(claimants[0]),
        Some(CloseKind::Abort)
    );
    assert!(!world.is_closed(seventh) && !world.is_closed(claimants[1]));
    for _ in 0..4 {
        let conn = world.join().conn;
        assert!(!world.is_closed(conn));
    }
    assert!(!world.is_closed(claimants[1]));
}

#[test]
fn of_claimants_of_one_source_the_oldest_makes_room_and_last_of_all_who_waits_for_a_takeover() {
    // Four places, three of them for claimants.
    let mut world = World::new(|config| config.limits.max_half_open = 4);
    let mut one = world.join();
    for _ in 0..10 {
        world.come_back(&mut one);
    }
    // One that has proven itself and waits for its turn; one that has proven itself and does not send its Ping; one that has its challenge.
    let held = one.conn;
    world.come_back(&mut one);
    let waits = one.conn;
    let two = world.join();
    let (proven, sealed) = world.claim(two.id);
    let answer = world.answer(&two.keys, &sealed);
    world.say(proven, Handshake::ChallengeResponse(&answer));
    assert!(world.is_closed(two.conn) && !world.is_closed(held));
    world.leave(two.conn);
    let (challenged, _) = world.claim(two.id);

    let claims = claimant(&mut world, two.id);
    assert_eq!(world.edge.client_close(proven), Some(CloseKind::Abort));
    assert_eq!(world.edge.gauges().away, 1, "its session is away");
    let claims_too = claimant(&mut world, two.id);
    assert_eq!(world.edge.client_close(challenged), Some(CloseKind::Abort));
    claimant(&mut world, two.id);
    assert_eq!(world.edge.client_close(claims), Some(CloseKind::Abort));
    claimant(&mut world, two.id);
    assert_eq!(world.edge.client_close(claims_too), Some(CloseKind::Abort));
    assert!(!world.is_closed(waits) && !world.is_closed(held));
}

/// 200 sources claim as fast as all of them may, and the owner takes a tenth of a second to answer.
#[test]
fn a_flood_of_claims_from_two_hundred_sources_displaces_itself() {
    let mut world = World::new(|_| {});
    let member = world.join();
    let (conn, sealed) = world.claim(member.id);
    for n in 0..2_000_u32 {
        let [.., low] = (n % 200).to_be_bytes();
        let source = IpAddr::from([10, 0, low, 1]);
        let Ok(stranger) = world.edge.handle_accepted(world.now, source) else {
            panic!("{n}: no limit is reached")
        };
        world.say(stranger, Handshake::ProtocolVersion(2));
        world.say(stranger, Handshake::ClientId(member.id));
    }
    assert_eq!(world.edge.gauges().half_open, 768);
    world.wait(Duration::from_millis(100));
    let answer = world.answer(&member.keys, &sealed);
    world.say(conn, Handshake::ChallengeResponse(&answer));
    world.say(conn, Handshake::Ping);
    assert_eq!(world.hear(conn), [ping()]);
}

#[test]
fn claimants_of_exempt_networks_count_for_themselves() {
    let mut world = World::new(|config| config.limits.max_half_open = 4);
    let member = world.join();
    let claim = |world: &mut World, source: &str| {
        let conn = world.edge.handle_accepted(world.now, ip(source)).unwrap();
        world.say(conn, Handshake::ProtocolVersion(2));
        world.say(conn, Handshake::ClientId(member.id));
        conn
    };
    let [first, _] = [
        claim(&mut world, "127.0.0.1"),
        claim(&mut world, "127.0.0.1"),
    ];
    let stranger = claim(&mut world, "198.51.100.1");
    claim(&mut world, "198.51.100.1");
    assert!(world.is_closed(stranger) && !world.is_closed(first));
    claim(&mut world, "127.0.0.1");
    assert!(world.is_closed(first), "of equals the oldest");
}

#[test]
fn when_claimants_hold_all_half_open_places_one_of_them_makes_room() {
    let mut world = World::new(|config| config.limits.max_half_open = 2);
    let member = world.join();
    let first = claimant(&mut world, member.id);
    let second = claimant(&mut world, member.id);
    let third = world.accept();
    assert!(world.is_closed(first) && !world.is_closed(second) && !world.is_closed(third));
    assert_eq!(world.edge.gauges().half_open, 2);
}

#[test]
fn connections_are_bounded_exactly() {
    let mut world = World::new(|config| config.limits.max_connections = 2);
    let first = world.join();
    let silent = world.accept();
    assert!(!world.is_closed(silent));
    let second = world.join();
    assert_eq!(world.edge.client_close(silent), Some(CloseKind::Abort));
    world.leave(silent);
    assert_eq!(
        world.edge.handle_accepted(world.now, SOURCE),
        Err(Rejected::TooManyConnections)
    );
    world.leave(first.conn);
    world.accept();
    assert_eq!(world.edge.gauges().connections, 2);
    assert!(!world.is_closed(second.conn));
}

/// Two of 16 connections are reserved: one for a client that comes back, one for handshakes.
fn full_house() -> (World, Vec<Member>) {
    let mut world = World::new(|config| config.limits.max_connections = 16);
    let members = (0..14).map(|_| world.join()).collect();
    (world, members)
}

fn closed(world: &World, reason: CloseReason) -> u64 {
    world.edge.counters().closed[reason as usize]
}

#[test]
fn newcomers_find_a_place_up_to_the_reserve_and_not_beyond_it() {
    let (mut world, members) = full_house();
    assert!(refused_newcomer(&mut world));
    assert_eq!(closed(&world, CloseReason::TooManyConnections), 1);
    world.leave(members[0].conn);
    world.join();
    assert!(refused_newcomer(&mut world));
}

#[test]
fn an_earlier_client_comes_back_to_a_full_house_and_the_next_one_waits_for_a_place() {
    let (mut world, mut members) = full_house();
    let [mut first, mut second] = [(); 2].map(|()| members.pop().expect("fourteen are there"));
    for member in [&first, &second] {
        world.leave(member.conn);
    }
    // Strangers still have their places.
    let strangers = [world.join(), world.join()];
    assert!(refused_newcomer(&mut world));
    assert_eq!(world.come_back(&mut first), [ping()], "one place is kept");
    // A silent connection does not keep it.
    let silent = world.accept();
    assert_eq!(world.come_back(&mut second), [] as [&[u8]; 0]);
    assert!(world.is_closed(silent) && !world.is_closed(second.conn));
    assert_eq!(world.edge.gauges().away, 1, "nothing has changed yet");
    world.wait(Duration::from_millis(999));
    world.leave(strangers[0].conn);
    assert_eq!(world.hear(second.conn), [] as [&[u8]; 0]);
    world.wait(Duration::from_millis(1));
    assert_eq!(world.hear(second.conn), [ping()]);
    world.edge.audit();
}

#[test]
fn kicked_clients_hold_their_places_until_they_are_gone() {
    let (mut world, members) = full_house();
    for member in &members[..4] {
        world.backend_says(member.id, Flag::Data, b"unread");
        world.backend_says(member.id, Flag::Kick, b"");
    }
    world.join();
    world.join();
    assert_eq!(
        world.edge.handle_accepted(world.now, SOURCE),
        Err(Rejected::TooManyConnections)
    );
    assert_eq!(world.edge.gauges().connections, 16);
    world.leave(members[0].conn);
    world.join();
}

#[test]
fn a_takeover_needs_no_place() {
    let (mut world, mut members) = full_house();
    let mut away = members.pop().expect("fourteen are there");
    world.leave(away.conn);
    world.join();
    assert_eq!(world.come_back(&mut away), [ping()]);
    let mut member = members.pop().expect("thirteen are there");
    assert_eq!(world.come_back(&mut member), [ping()]);
}

#[test]
fn a_client_without_a_place_until_its_handshake_ends_has_lost_nothing() {
    let (mut world, mut members) = full_house();
    let [mut first, mut second] = [(); 2].map(|()| members.pop().expect("fourteen are there"));
    for member in [&first, &second] {
        world.leave(member.conn);
    }
    let stranger = world.join();
    world.join();
    world.come_back(&mut first);
    world.come_back(&mut second);
    world.wait(Duration::from_secs(5));
    assert_eq!(
        world.edge.client_close(second.conn),
        Some(CloseKind::Abort),
        "an orderly end would read as a refusal"
    );
    assert_eq!(closed(&world, CloseReason::KeptWaiting), 1);
    world.leave(second.conn);
    world.leave(stranger.conn);
    assert_eq!(world.come_back(&mut second), [ping()]);
}

/// Newcomers that make room still exist until the adapter has closed them.
#[test]
fn a_crowd_that_makes_room_for_itself_passes_the_bound_by_sixteen_at_most() {
    let (mut world, _members) = full_house();
    let accept = |world: &mut World| world.edge.handle_accepted(world.now, SOURCE).is_ok();
    assert_eq!((0..100).filter(|_| accept(&mut world)).count(), 18);
    assert_eq!(world.edge.gauges().connections, 32);
    assert_eq!(rejected(&world, Rejected::TooManyConnections), 82);
    while let Some(conn) = world.edge.poll_client() {
        if world.edge.client_close(conn).is_some() {
            world.leave(conn);
        }
    }
    assert_eq!(world.edge.gauges().connections, 16);
    world.edge.audit();
}

#[test]
fn limits_on_accepts_that_do_not_hold_leave_the_bound_on_connections() {
    for enforce in [Enforce::Report, Enforce::Off] {
        let mut world = World::new(|config| {
            (config.limits.max_connections, config.limits.max_half_open) = (16, 4);
            config.limits.enforce_accepts = enforce;
        });
        let first = world.accept();
        for _ in 0..15 {
            world.accept();
        }
        assert!(!world.is_closed(first));
        world.accept();
        assert!(world.is_closed(first), "{enforce:?}");
        assert_eq!(closed(&world, CloseReason::TooManyConnections), 1);
    }
}

#[test]
fn refusals_of_one_source_cost_the_others_nothing() {
    let mut world = World::new(|config| {
        offer_2(config);
        config.limits.accept_rate = 10;
        config.limits.accept_burst = 10;
        config.limits.sources.connections = 2;
    });
    let flood = |world: &mut World| {
        let accept = |_: &i32| world.edge.handle_accepted(world.now, SOURCE).is_ok();
        (0..1_000).filter(accept).count()
    };
    assert_eq!(flood(&mut world), 2);
    assert_eq!(rejected(&world, Rejected::SourceTooMany), 998);
    for other in 0..8 {
        let source = ip(&format!("198.51.100.{other}"));
        assert!(world.edge.handle_accepted(world.now, source).is_ok());
    }
    assert_eq!(
        world.edge.handle_accepted(world.now, ip("203.0.113.1")),
        Err(Rejected::TooFast)
    );
}

#[test]
fn claims_from_many_addresses_of_one_network_displace_each_other() {
    let mut world = World::new(|config| config.limits.max_half_open = 4);
    let owner = world.join();
    let claim = |world: &mut World, source: &str| {
        let conn = world
            .edge
            .handle_accepted(world.now, ip(source))
            .expect("no limit is reached");
        world.say(conn, Handshake::ProtocolVersion(2));
        world.say(conn, Handshake::ClientId(owner.id));
        world.wait(RESUME_REPLY_DELAY);
        let heard = world.hear(conn);
        let Ok(Handshake::Challenge(sealed)) = Handshake::decode(&heard[1]) else {
            panic!("no challenge in {heard:?}")
        };
        (conn, sealed.to_vec())
    };
    let (conn, sealed) = claim(&mut world, "192.0.2.9");
    for host in 1..9 {
        claim(&mut world, &format!("2001:db8::{host}"));
    }
    let answer = world.answer(&owner.keys, &sealed);
    world.say(conn, Handshake::ChallengeResponse(&answer));
    world.say(conn, Handshake::Ping);
    assert_eq!(world.hear(conn), [ping()]);
}

#[test]
fn all_together_are_paced() {
    let mut world = World::new(|config| {
        config.limits.accept_rate = 10;
        config.limits.accept_burst = 20;
        config.limits.max_half_open = 0;
        config.limits.enforce_sources = Enforce::Off;
    });
    let taken = |world: &mut World| {
        (0..50)
            .filter(|_| world.edge.handle_accepted(world.now, SOURCE).is_ok())
            .count()
    };
    assert_eq!(taken(&mut world), 20);
    world.wait(Duration::from_secs(1));
    assert_eq!(taken(&mut world), 10);
    assert_eq!(rejected(&world, Rejected::TooFast), 30 + 40);
}

#[test]
fn one_source_is_bounded_and_exempt_networks_are_not() {
    let mut world = World::new(|config| {
        offer_2(config);
        config.limits.sources.connections = 3;
        config.limits.sources.rate = 0;
    });
    let first = world.join();
    world.join();
    world.join();
    assert_eq!(
        world.edge.handle_accepted(world.now, SOURCE),
        Err(Rejected::SourceTooMany)
    );
    world.leave(first.conn);
    world.join();
    for loopback in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
        for _ in 0..10 {
            assert!(
                world.edge.handle_accepted(world.now, ip(loopback)).is_ok(),
                "{loopback}"
            );
        }
    }
    assert!(
        world
            .edge
            .handle_accepted(world.now, ip("192.0.2.2"))
            .is_ok()
    );
}

/// Returns whether a newcomer from [`SOURCE`] is accepted, and then closed when it sends its key.
fn refused_newcomer(world: &mut World) -> bool {
    let conn = world.accept();
    world.say(conn, Handshake::ProtocolVersion(2));
    let key = KeyPair::generate(&mut world.rng).public();
    world.say(conn, Handshake::PubKey(key.as_bytes()));
    world.edge.client_close(conn) == Some(CloseKind::Graceful)
}

#[test]
fn from_a_source_of_nonsense_few_begin_and_all_come_back() {
    let mut world = World::new(|_| {});
    let mut member = world.join();
    for _ in 0..2 {
        let conn = world.accept();
        world
            .edge
            .handle_client_bytes(world.now, conn, b"GET / HTTP/1.1");
        assert!(world.is_closed(conn));
    }
    world.join();
    assert!(refused_newcomer(&mut world), "one a second may begin");
    assert_eq!(rejected(&world, Rejected::SourcePenalty), 1);
    world.leave(member.conn);
    assert_eq!(world.come_back(&mut member), [ping()], "who was there is");
    world.wait(Duration::from_millis(998));
    assert!(refused_newcomer(&mut world));
    world.wait(Duration::from_millis(1));
    world.join();
    assert!(
        world
            .edge
            .handle_accepted(world.now, ip("192.0.2.200"))
            .is_ok(),
        "its neighbour is not"
    );
    world.wait(Duration::from_secs(6));
    world.join();
}

#[test]
fn in_report_mode_the_counters_move_and_nobody_is_refused() {
    let limits = |enforce| {
        move |config: &mut EdgeConfig| {
            config.limits.enforce_accepts = enforce;
            config.limits.enforce_sources = enforce;
            config.limits.accept_burst = 5;
            config.limits.sources.connections = 3;
            config.limits.max_half_open = 4;
        }
    };
    for (enforce, counted) in [(Enforce::Report, true), (Enforce::Off, false)] {
        let mut world = World::new(limits(enforce));
        let conns: Vec<ConnKey> = (0..10).map(|_| world.accept()).collect();
        assert!(
            conns.iter().all(|&conn| !world.is_closed(conn)),
            "{enforce:?}"
        );
        for reason in [
            Rejected::TooFast,
            Rejected::SourceTooMany,
            Rejected::TooManyHalfOpen,
        ] {
            assert_eq!(
                rejected(&world, reason) > 0,
                counted,
                "{enforce:?} {reason:?}"
            );
        }
    }
}

#[test]
fn the_memory_of_sources_goes_with_them() {
    let mut world = World::new(|_| {});
    for n in 0..200u8 {
        let conn = world
            .edge
            .handle_accepted(world.now, ip(&format!("198.51.100.{n}")))
            .unwrap();
        world.leave(conn);
    }
    assert_eq!(world.edge.gauges().sources, 201, "with their /24");
    world.wait(Duration::from_secs(600));
    for _ in 0..60 {
        let conn = world.accept();
        world.leave(conn);
    }
    assert_eq!(world.edge.gauges().sources, 2);
}

#[test]
fn without_a_rate_any_number_comes_at_once() {
    let mut world = World::new(|config| {
        config.limits.accept_rate = 0;
        config.limits.accept_burst = 1;
    });
    let conns: Vec<ConnKey> = (0..10).map(|_| world.accept()).collect();
    assert_eq!(world.edge.gauges().connections, conns.len());
    let mut indexes: Vec<usize> = conns.iter().map(|conn| conn.index()).collect();
    indexes.sort_unstable();
    assert_eq!(indexes, (0..10).collect::<Vec<_>>(), "dense and unique");
}

#[test]
fn connections_before_there_was_a_rate_do_not_count_against_it() {
    let mut config = EdgeConfig::default();
    config.limits.enforce_accepts = Enforce::Off;
    config.limits.accept_rate = 1;
    config.limits.accept_burst = 3;
    let mut world = World::new(|whole| *whole = config.clone());
    for _ in 0..5 {
        world.accept();
    }
    config.limits.enforce_accepts = Enforce::On;
    world.edge.handle_config(world.now, config);
    for _ in 0..3 {
        world.accept();
    }
    assert_eq!(
        world.edge.handle_accepted(world.now, SOURCE),
        Err(Rejected::TooFast)
    );
}

#[test]
fn a_key_whose_connection_is_gone_means_nothing() {
    let mut world = World::new(|_| {});
    let gone = world.accept();
    assert_eq!(world.edge.gauges().half_open, 1);
    world.leave(gone);
    assert_eq!(world.edge.gauges().half_open, 0);
    let one = world.join();
    assert_eq!(one.conn.index(), gone.index(), "its place is used again");
    world.backend_says(one.id, Flag::Data, b"for one");
    let counters = world.edge.counters().clone();
    world.send(gone, b"a ghost");
    world.edge.handle_client_written(world.now, gone, 5);
    world.leave(gone);
    assert_eq!(world.edge.read_budget(gone), 0);
    assert_eq!(world.edge.client_output(gone).concat(), b"");
    assert_eq!(world.edge.counters(), &counters);
    assert_eq!(world.hear(one.conn), [b"for one"]);
    assert_eq!(world.backend_hears(), []);
}
