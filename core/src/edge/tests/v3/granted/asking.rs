//! Ask, hold and grant, and what a backend is told that asks. (SPEC 33.4, 34, 35)

use super::*;

/// SPEC 34.1(a): a backend that does not ask gets what version 2 has, byte for byte.
#[test]
fn until_a_backend_asks_the_link_is_that_of_version_2_to_the_byte() {
    let run = |protocol| {
        let mut world = world(|config| {
            config.master.protocol = protocol;
            config.clients.max_stale_clients = 1;
        });
        // Some of it happens while the link is held.
        let (mut one, two) = (world.join(), world.join3());
        world.send(one.conn, b"early");
        world.leave(one.conn);
        world.come_back(&mut one);
        world.leave(two.conn);
        world.wait(Duration::from_millis(200));
        let mut bytes = world.edge.link_takes(world.now, usize::MAX);
        let (three, four) = (world.join(), world.join3());
        world.send(three.conn, b"later");
        world.leave(four.conn);
        world.backend_says(one.id, Flag::Kick, b"");
        world.backend_says(two.id(), Flag::Data, b"to one that ended");
        bytes.extend(world.edge.link_takes(world.now, usize::MAX));
        world.edge.audit();
        bytes
    };
    let plain = run(LinkProtocol::V2);
    assert!(!plain.is_empty());
    assert_eq!(run(LinkProtocol::Auto), plain);
}

#[test]
fn the_first_link_is_held_for_a_moment_or_until_the_backend_says_something() {
    let mut world = world(automatic);
    let one = world.join();
    world.send(one.conn, b"waits");
    world.wait(Duration::from_millis(99));
    assert_eq!(world.backend_hears(), []);
    assert!(!world.edge.gauges().link_is_up);
    world.wait(Duration::from_millis(1));
    assert_eq!(world.backend_hears(), [data(one.id, "waits")]);
    // The next link is not held.
    world.edge.handle_link_closed(world.now, Closed::Eof);
    world.wait(Duration::from_secs(5));
    world.backend_comes();
    world.send(one.conn, b"at once");
    assert_eq!(world.backend_hears(), [data(one.id, "at once")]);
}

#[test]
fn a_backend_that_does_not_ask_ends_the_hold_by_its_first_packet() {
    let mut world = world(automatic);
    let one = world.join();
    world.send(one.conn, b"waits");
    world.backend_says(one.id, Flag::Data, b"hello");
    assert_eq!(world.backend_hears(), [data(one.id, "waits")]);
    assert_eq!(world.hear(one.conn), [b"hello"]);
}

#[test]
fn a_backend_that_asks_is_granted_first_and_told_of_everybody() {
    let mut world = world(automatic);
    let mut backend = Backend::new(BOOT);
    let (one, mut two) = (world.join(), world.join3());
    world.send(one.conn, b"waits");
    // The ASK comes in two reads.
    let ask = backend.ask();
    world.edge.handle_link_bytes(world.now, &ask[..20]);
    assert_eq!(world.edge.link_takes(world.now, usize::MAX), b"");
    world.edge.handle_link_bytes(world.now, &ask[20..]);
    world.exchange(&mut backend);
    let grant = backend.grant.expect("it is granted");
    assert_eq!(
        (grant.sessions, grant.received, grant.run),
        (2, 0, world.edge.run())
    );
    assert_eq!(grant.features, all());
    let mut came = heard(&mut backend);
    assert_eq!(came.split_off(2), ["JOINED", "JOINED", "waits"]);
    assert_eq!(came, ["OWN Attached 1 0 0", "OWN Attached 1 0 0"]);
    world.send3(&mut two, b"up");
    world.leave(one.conn);
    world.exchange(&mut backend);
    assert_eq!(heard(&mut backend), ["up", "AWAY 0"]);
}

/// SPEC 35.3: its session was away all the time.
#[test]
fn nothing_is_told_of_a_client_that_is_gone_before_its_ping() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let mut one = world.join();
    world.leave(one.conn);
    world.exchange(&mut backend);
    assert_eq!(heard(&mut backend), ["JOINED", "AWAY 0"]);
    let proves = |world: &mut World| {
        let (conn, sealed) = world.claim(one.id);
        let answer = world.answer(&one.keys, &sealed);
        world.say(conn, Handshake::ChallengeResponse(&answer));
        conn
    };
    let first = proves(&mut world);
    // It is taken over, which changes nothing.
    let second = proves(&mut world);
    world.leave(first);
    world.leave(second);
    world.exchange(&mut backend);
    assert_eq!(heard(&mut backend), [""; 0]);
    // Another boot is told the same.
    let third = proves(&mut world);
    world.backend_acknowledges(&mut backend);
    let mut other = Backend::new([2; 16]);
    world.lose_link(&mut backend);
    world.granted(&mut other);
    assert_eq!(heard(&mut other), ["OWN Away 1 0 0"]);
    world.leave(third);
    world.come_back(&mut one);
    world.leave(one.conn);
    world.exchange(&mut other);
    assert_eq!(heard(&mut other), ["RESUMED 1 0", "AWAY 0"]);
}

#[test]
fn an_end_in_the_form_of_version_2_is_told_with_its_code() {
    let mut world = world(automatic);
    let mut backend = Backend::new(BOOT);
    let one = world.join();
    world.send(one.conn, b"waits");
    // Before the first frame of the backend it is not known which version the link has.
    let session = world.edge.sessions.lookup(one.id).unwrap();
    world
        .edge
        .end_session(world.now, session, EndReason::TooManyStale);
    let ask = backend.ask();
    world.edge.handle_link_bytes(world.now, &ask);
    world.exchange(&mut backend);
    let came = heard(&mut backend);
    assert_eq!(
        came.last().map(String::as_str),
        Some("ENDED 307 too many stale clients"),
        "{came:?}"
    );
}

#[test]
fn joined_says_where_a_client_comes_from_and_by_what_it_is_known() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let (one, two) = (world.join(), world.join3());
    world.exchange(&mut backend);
    let decoded: Vec<_> = backend
        .heard
        .iter()
        .map(|body| ToBackend::decode(body, all()).unwrap())
        .collect();
    let peer = Peer {
        carriage: Carriage::Tcp,
        address: Some(SocketAddr::new(SOURCE, 0)),
    };
    let of_v2 = Joined {
        version: 2,
        peer,
        exporter: [0; 32],
        token: b"",
    };
    assert_eq!(
        decoded[0],
        ToBackend::Joined {
            id: one.id,
            joined: of_v2
        }
    );
    let ToBackend::Joined { id, joined } = decoded[1] else {
        panic!("{decoded:?}")
    };
    assert_eq!(
        (id, joined.version, joined.token),
        (two.id(), 3, &b"token"[..])
    );
    assert_eq!(joined.peer, peer);
    assert_ne!(joined.exporter, [0; 32]);
}

#[test]
fn a_late_ask_closes_the_link_and_the_next_one_waits_for_it() {
    let mut world = world(automatic);
    let mut backend = Backend::new(BOOT);
    let one = world.join();
    world.send(one.conn, b"sent");
    world.wait(Duration::from_millis(100));
    assert_eq!(world.backend_hears(), [data(one.id, "sent")]);
    world.edge.handle_link_bytes(world.now, &backend.ask());
    assert!(world.edge.link_wants_close());
    world.edge.handle_link_closed(world.now, Closed::Asked);
    world.leave(one.conn);
    world.wait(Duration::from_secs(5));
    world.backend_comes();
    world.wait(Duration::from_millis(4_999));
    assert_eq!(
        world.edge.link_takes(world.now, usize::MAX),
        b"",
        "it is held"
    );
    world.granted(&mut backend);
    assert_eq!(heard(&mut backend), ["OWN Away 2 0 0"]);
}

#[test]
fn what_waits_of_version_2_is_told_in_the_form_of_version_3() {
    let mut world = world(automatic);
    world.wait(Duration::from_millis(100));
    let one = world.join();
    world.send(one.conn, b"last");
    world.backend_says(one.id, Flag::Kick, b"");
    world.backend_says(ClientId::from_u64(9), Flag::Data, b"to nobody");
    // Nothing of it was written when the link was lost.
    world.edge.handle_link_closed(world.now, Closed::Eof);
    world.wait(Duration::from_secs(6));
    world.backend_comes();
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let expected = ["OWN Ended 1 0 0", "last", "ENDED 401 kicked"];
    assert_eq!(heard(&mut backend), expected);
}

#[test]
fn an_ask_behind_nothing_is_in_time_however_late_it_comes() {
    let mut world = world(automatic);
    world.wait(Duration::from_secs(60));
    world.granted(&mut Backend::new(BOOT));
}

#[test]
fn with_version_3_demanded_nothing_flows_to_or_from_a_backend_that_does_not_ask() {
    let mut world = world(demanding);
    let one = world.join();
    world.send(one.conn, b"kept");
    world.wait(Duration::from_millis(4_999));
    assert_eq!(world.backend_hears(), []);
    assert!(!world.edge.link_wants_close());
    world.wait(Duration::from_millis(1));
    assert!(world.edge.link_wants_close());
    world.edge.handle_link_closed(world.now, Closed::Asked);
    let gauges = world.edge.gauges();
    assert!(gauges.link_is_doubted && gauges.link_is_unasked);
    world.wait(Duration::from_secs(5));
    world.backend_comes();
    world.backend_says(one.id, Flag::Data, b"not from one that does not ask");
    world.backend_says(one.id, Flag::Kick, b"");
    assert!(world.edge.link_wants_close());
    assert!(world.hear(one.conn).is_empty() && !world.is_closed(one.conn));
    world.edge.handle_link_closed(world.now, Closed::Asked);
    world.wait(Duration::from_secs(5));
    world.backend_comes();
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let gauges = world.edge.gauges();
    assert!(!gauges.link_is_doubted && !gauges.link_is_unasked);
    assert_eq!(
        heard(&mut backend),
        ["OWN Attached 1 0 0", "JOINED", "kept"]
    );
}

#[test]
fn an_edge_that_has_granted_does_not_go_back() {
    let mut world = world(automatic);
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let one = world.join();
    world.lose_link(&mut backend);
    world.wait(Duration::from_millis(4_999));
    world.backend_says(one.id, Flag::Data, b"of version 2");
    assert!(world.edge.link_wants_close());
    assert!(world.hear(one.conn).is_empty());
}

#[test]
fn announcements_begin_when_a_link_turns_out_to_have_version_2() {
    let mut world = world(|config| {
        automatic(config);
        config.master.announce_all = true;
    });
    let one = world.join();
    world.send(one.conn, b"waits");
    assert_eq!(world.backend_hears(), []);
    world.wait(Duration::from_millis(100));
    let resumed = (one.id, Flag::Resumed, String::new());
    assert_eq!(world.backend_hears(), [resumed, data(one.id, "waits")]);
}

// ---- nothing is lost on the link

/// SPEC 34.2(d).
#[test]
fn the_longest_frame_of_a_client_is_known() {
    let longest = |max_frame_bytes| {
        let world = world(|config| config.clients.max_frame_bytes = max_frame_bytes);
        world.edge.longest_frame()
    };
    assert_eq!(longest(1 << 20), (1 << 20) + 9);
    let joined = Joined {
        version: 3,
        peer: Peer {
            carriage: Carriage::Tcp,
            address: None,
        },
        exporter: [0; 32],
        token: &[0; MAX_TOKEN_BYTES],
    };
    let (id, mut frame) = (ClientId::from_u64(1), Vec::new());
    ToBackend::Joined { id, joined }.encode(&mut frame);
    assert_eq!(longest(100), frame.len() as u64 - 4);
}
