//! Behind a proxy: a header names the address to which the limits apply (SPEC 10.7).

use super::*;

const HANDSHAKE_BYTES: usize = 512;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn connect(world: &mut World, header: &[u8]) -> ConnKey {
    let conn = world.edge.handle_accepted(world.now, SOURCE).unwrap();
    world.edge.handle_client_bytes(world.now, conn, header);
    conn
}

fn connect_from(world: &mut World, source: &str) -> ConnKey {
    connect(
        world,
        format!("PROXY TCP4 {source} 203.0.113.1 40000 1\r\n").as_bytes(),
    )
}

fn rejected(world: &World, reason: Rejected) -> u64 {
    world.edge.counters().rejected[reason as usize]
}

fn closed(world: &World, reason: CloseReason) -> u64 {
    world.edge.counters().closed[reason as usize]
}

#[test]
fn a_client_joins_and_comes_back_behind_a_proxy_however_the_header_is_cut() {
    let mut world = World::new(behind_proxy);
    world.header = b"PROXY TCP6 2001:db8::1 2001:db8::2 40000 1\r\n";
    let mut member = world.join();
    world.leave(member.conn);
    assert_eq!(world.come_back(&mut member), [ping()]);
    let mut first_words = world.header.to_vec();
    Handshake::ProtocolVersion(2).encode(&mut first_words);
    for cut in 0..first_words.len() {
        let (head, tail) = first_words.split_at(cut);
        let conn = connect(&mut world, head);
        assert!(world.hear(conn).is_empty(), "cut at {cut}");
        world.edge.handle_client_bytes(world.now, conn, tail);
        assert_eq!(world.hear(conn).len(), 1, "the edge's key; cut at {cut}");
        world.leave(conn);
    }
}

#[test]
fn only_trusted_proxies_are_let_in() {
    let mut world = World::new(|config| {
        config.listener.proxy_required = true;
        config.listener.trusted_proxies = vec![
            "198.51.100.0/24".parse().unwrap(),
            "2001:db8::/32".parse().unwrap(),
        ];
    });
    for trusted in ["198.51.100.7", "::ffff:198.51.100.7", "2001:db8:1::1"] {
        assert!(world.edge.handle_accepted(world.now, ip(trusted)).is_ok());
    }
    for (count, other) in ["198.51.101.7", "127.0.0.1", "2001:db9::1"]
        .into_iter()
        .enumerate()
    {
        assert_eq!(
            world.edge.handle_accepted(world.now, ip(other)),
            Err(Rejected::UntrustedProxy)
        );
        assert_eq!(rejected(&world, Rejected::UntrustedProxy), count as u64 + 1);
    }
}

/// Each listener has its own rule, and one without an entry has none.
#[test]
fn a_header_is_required_at_the_listeners_that_say_so() {
    let mut world = World::new(|config| {
        let proxies = vec!["198.51.100.0/24".parse().unwrap()];
        config.more_listeners = vec![
            ListenerConfig::default(),
            ListenerConfig::default().with_proxies(proxies),
        ];
    });
    for (listener, stranger_joins) in [(0, true), (1, true), (2, false), (3, true)] {
        let now = world.now;
        let mut arrive = |from| world.edge.handle_accepted_at(now, listener, ip(from), None);
        let admitted = arrive("203.0.113.7");
        let refused = Err(Rejected::UntrustedProxy);
        match stranger_joins {
            true => assert!(admitted.is_ok(), "{listener}"),
            false => assert_eq!(admitted, refused, "{listener}"),
        }
        let conn = arrive("198.51.100.7").expect("trusted, or not asked");
        let mut words = Vec::new();
        Handshake::ProtocolVersion(2).encode(&mut words);
        world.edge.handle_client_bytes(now, conn, &words);
        assert_eq!(world.is_closed(conn), !stranger_joins, "{listener}");
    }
}

#[test]
fn limits_hold_for_the_source_that_the_header_names_and_not_for_the_proxy() {
    let mut world = World::new(|config| {
        offer_2(config);
        behind_proxy(config);
        config.limits.sources.connections = 2;
        config.limits.sources.rate = 0;
    });
    let first = connect_from(&mut world, "198.51.100.1");
    connect_from(&mut world, "198.51.100.1");
    let third = connect_from(&mut world, "198.51.100.1");
    assert_eq!(world.edge.client_close(third), Some(CloseKind::Graceful));
    assert_eq!(rejected(&world, Rejected::SourceTooMany), 1);
    assert_eq!(closed(&world, CloseReason::Rejected), 1);
    for n in 2..9 {
        let other = connect_from(&mut world, &format!("198.51.100.{n}"));
        assert!(!world.is_closed(other));
    }
    world.leave(first);
    world.leave(third);
    let fourth = connect_from(&mut world, "198.51.100.1");
    assert!(!world.is_closed(fourth), "one of the two places is free");
}

#[test]
fn a_connection_of_the_proxys_own_counts_for_the_proxy() {
    let mut world = World::new(|config| {
        offer_2(config);
        behind_proxy(config);
        config.limits.sources.connections = 1;
        config.limits.sources.rate = 0;
    });
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    let first = connect(&mut world, local);
    assert!(!world.is_closed(first));
    let second = connect(&mut world, local);
    assert!(world.is_closed(second));
    assert_eq!(rejected(&world, Rejected::SourceTooMany), 1);
}

#[test]
fn penalties_go_to_the_source_that_the_header_names() {
    let mut world = World::new(behind_proxy);
    for _ in 0..2 {
        let conn = connect_from(&mut world, "198.51.100.1");
        world
            .edge
            .handle_client_bytes(world.now, conn, b"GET / HTTP/1.1");
        assert!(world.is_closed(conn));
    }
    let mut joins = |source: &str| {
        let conn = connect_from(&mut world, source);
        world.say(conn, Handshake::ProtocolVersion(2));
        let key = KeyPair::generate(&mut world.rng).public();
        world.say(conn, Handshake::PubKey(key.as_bytes()));
        !world.is_closed(conn)
    };
    assert!(joins("198.51.100.1"));
    assert!(!joins("198.51.100.1"), "one in a second");
    assert!(joins("198.51.100.2") && joins("198.51.100.2"));
    assert_eq!(rejected(&world, Rejected::SourcePenalty), 1);
}

#[test]
fn a_bad_header_closes_its_connection_and_is_held_against_nobody() {
    let mut world = World::new(behind_proxy);
    for count in 1..=20 {
        let conn = connect(&mut world, b"GET / HTTP/1.1\r\n");
        assert_eq!(world.edge.client_close(conn), Some(CloseKind::Graceful));
        assert_eq!(closed(&world, CloseReason::BadProxyHeader), count);
    }
    let local = connect(&mut world, b"PROXY UNKNOWN\r\n");
    assert!(!world.is_closed(local));
    assert_eq!(
        rejected(&world, Rejected::SourcePenalty),
        0,
        "the proxy's own address is not punished"
    );
}

#[test]
fn the_deadline_counts_from_the_accept_whether_or_not_the_header_came() {
    let mut world = World::new(behind_proxy);
    let silent = connect(&mut world, b"");
    let partly = connect(&mut world, b"PROXY TC");
    let wholly = connect(&mut world, b"");
    world.wait(Duration::from_millis(4999));
    world
        .edge
        .handle_client_bytes(world.now, wholly, b"PROXY UNKNOWN\r\n");
    assert!(!world.is_closed(silent) && !world.is_closed(partly) && !world.is_closed(wholly));
    world.wait(Duration::from_millis(1));
    assert!(world.is_closed(silent) && world.is_closed(partly) && world.is_closed(wholly));
    assert_eq!(closed(&world, CloseReason::HandshakeTimeout), 3);
}

#[test]
fn the_longest_header_leaves_the_client_all_the_bytes_of_its_handshake() {
    let mut world = World::new(behind_proxy);
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x20\0\x02\0".to_vec();
    header.resize(16 + 512, 0);
    let conn = world.edge.handle_accepted(world.now, SOURCE).unwrap();
    for byte in &header {
        assert_eq!(world.edge.read_budget(conn), HANDSHAKE_BYTES);
        world.edge.handle_client_bytes(world.now, conn, &[*byte]);
    }
    assert_eq!(world.edge.read_budget(conn), HANDSHAKE_BYTES);
    world.say(conn, Handshake::ProtocolVersion(2));
    assert_eq!(world.edge.read_budget(conn), HANDSHAKE_BYTES - 6);
    assert_eq!(world.hear(conn).len(), 1);
}

#[test]
fn a_header_that_is_not_whole_is_in_the_account() {
    let mut world = World::new(behind_proxy);
    let conn = connect(&mut world, b"PROXY TCP4 ");
    assert_eq!(world.edge.gauges().held_bytes, 11);
    world.edge.audit();
    world.leave(conn);
    assert_eq!(world.edge.gauges().held_bytes, 0);
    world.edge.audit();
}

#[test]
fn where_no_header_is_asked_for_one_is_a_frame_that_is_too_long() {
    let mut world = World::new(|_| {});
    for header in [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n"] {
        let conn = connect(&mut world, header);
        assert!(world.is_closed(conn));
    }
    assert_eq!(closed(&world, CloseReason::FrameTooLong), 2);
}

#[test]
fn claims_of_one_source_do_not_displace_those_of_another_behind_the_same_proxy() {
    let mut world = World::new(behind_proxy);
    world.header = b"PROXY TCP4 192.0.2.77 203.0.113.1 40000 1\r\n";
    let mut owner = world.join();
    let (conn, sealed) = world.claim(owner.id);
    world.header = b"PROXY TCP4 198.51.100.1 203.0.113.1 40000 1\r\n";
    for _ in 0..8 {
        world.claim(owner.id);
    }
    let answer = world.answer(&owner.keys, &sealed);
    world.say(conn, Handshake::ChallengeResponse(&answer));
    world.say(conn, Handshake::Ping);
    owner.conn = conn;
    assert_eq!(world.hear(owner.conn), [ping()]);
}

/// The transport has read from where the client comes, and says so itself (SPEC 16.2(f)).
#[test]
fn a_connection_that_the_adapter_introduces_needs_no_proxy() {
    let mut world = World::new(|config| {
        offer_2(config);
        config.limits.sources.connections = 1;
    });
    let introduce = |world: &mut World, source: &str| {
        let conn = world
            .edge
            .handle_accepted_at(world.now, 0, SOURCE, Some(true))
            .unwrap();
        let header = format!("PROXY TCP4 {source} 203.0.113.1 40000 1\r\n");
        world
            .edge
            .handle_client_bytes(world.now, conn, header.as_bytes());
        world.say(conn, Handshake::ProtocolVersion(2));
        !world.is_closed(conn)
    };
    assert!(introduce(&mut world, "198.51.100.1"));
    assert!(
        !introduce(&mut world, "198.51.100.1"),
        "one from each source"
    );
    assert!(introduce(&mut world, "198.51.100.2"));
    assert_eq!(closed(&world, CloseReason::Rejected), 1);
    // Others say nothing, and are not asked to.
    let conn = world.edge.handle_accepted(world.now, SOURCE).unwrap();
    world.say(conn, Handshake::ProtocolVersion(2));
    assert!(!world.is_closed(conn));
}

/// An adapter with layers takes the header off, or knows that there is none. What it says goes before the configuration, which may be another
/// one for a moment: otherwise a client could name its own address.
#[test]
fn what_the_adapter_knows_of_a_header_goes_before_the_configuration() {
    let header = b"PROXY TCP4 198.51.100.1 203.0.113.1 40000 1\r\n";
    let mut version = Vec::new();
    Handshake::ProtocolVersion(2).encode(&mut version);
    for (is_required, introduced, takes_one) in [
        (true, None, true),
        (false, None, false),
        (true, Some(true), true),
        (false, Some(true), true),
        (true, Some(false), false),
        (false, Some(false), false),
    ] {
        let mut world = World::new(|config| match is_required {
            true => behind_proxy(config),
            false => offer_2(config),
        });
        let now = world.now;
        let mut is_served = |before: &[u8]| {
            let edge = &mut world.edge;
            let conn = edge.handle_accepted_at(now, 0, SOURCE, introduced);
            let conn = conn.expect("the proxy is trusted");
            edge.handle_client_bytes(now, conn, &[before, &version].concat());
            !world.is_closed(conn)
        };
        assert_eq!(is_served(header), takes_one, "{is_required} {introduced:?}");
        assert_eq!(is_served(b""), !takes_one, "{is_required} {introduced:?}");
    }
}
