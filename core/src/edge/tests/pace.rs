//! Pace and time: clients that send too fast, that are silent, that come in a storm.

use super::*;

fn frames(count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..count {
        encode_frame(b"x", &mut bytes);
    }
    bytes
}

fn closed(world: &World, reason: CloseReason) -> u64 {
    world.edge.counters().closed[reason as usize]
}

fn paced(enforce: Enforce) -> World {
    World::new(|config| {
        config.clients.pace.frames = 100;
        config.clients.pace.frames_burst = 200;
        config.clients.enforce_pace = enforce;
    })
}

#[test]
fn a_client_over_its_pace_is_read_less_and_loses_nothing() {
    let mut world = paced(Enforce::On);
    let one = world.join();
    world
        .edge
        .handle_client_bytes(world.now, one.conn, &frames(200));
    assert_eq!(
        world.edge.read_budget(one.conn),
        4096,
        "at the burst, and little at a time"
    );
    world
        .edge
        .handle_client_bytes(world.now, one.conn, &frames(50));
    assert_eq!(world.edge.read_budget(one.conn), 0, "one beyond");
    assert_eq!(world.backend_hears().len(), 250);
    world.wait(Duration::from_millis(499));
    assert_eq!(world.edge.read_budget(one.conn), 0);
    while world.edge.poll_client().is_some() {}
    world.now = world.now + Duration::from_millis(1);
    world.edge.handle_timeout(world.now);
    assert!(world.edge.read_budget(one.conn) > 0);
    assert_eq!(
        world.edge.poll_client(),
        Some(one.conn),
        "the adapter is told"
    );
}

#[test]
fn a_client_that_stays_over_its_pace_is_closed_and_its_session_kept() {
    let mut world = paced(Enforce::On);
    let mut one = world.join();
    let mut sent = 0;
    while !world.is_closed(one.conn) && sent < 2000 {
        if world.edge.read_budget(one.conn) > 0 {
            world
                .edge
                .handle_client_bytes(world.now, one.conn, &frames(201));
            sent += 201;
        }
        world.wait(Duration::from_millis(100));
        world.backend_hears();
    }
    assert_eq!(closed(&world, CloseReason::TooFast), 1);
    assert!(
        world.now >= Time::from_millis(5000),
        "not before its patience is over"
    );
    assert_eq!(world.come_back(&mut one), [ping()]);
}

#[test]
fn in_report_mode_a_fast_client_is_counted_only() {
    let mut world = paced(Enforce::Report);
    let one = world.join();
    world
        .edge
        .handle_client_bytes(world.now, one.conn, &frames(500));
    assert!(world.edge.read_budget(one.conn) > 0);
    assert_eq!(world.edge.counters().paced, 1);
}

#[test]
fn silence_ends_a_connection_where_that_is_wanted() {
    let mut world = World::new(|config| config.clients.idle_timeout = Duration::from_secs(30));
    let mut one = world.join();
    world.send(one.conn, b"hello");
    world.wait(Duration::from_secs(20));
    world.send(one.conn, b"still here");
    world.wait(Duration::from_secs(30) - Duration::from_nanos(1));
    assert!(!world.is_closed(one.conn));
    world.wait(Duration::from_nanos(1));
    assert_eq!(closed(&world, CloseReason::IdleTimeout), 1);
    assert_eq!(world.come_back(&mut one), [ping()]);
    world.wait(Duration::from_secs(30));
    assert_eq!(
        closed(&world, CloseReason::IdleTimeout),
        2,
        "from the first moment on"
    );
    let two = world.join();
    world.wait(Duration::from_secs(30));
    assert!(
        world.is_closed(two.conn),
        "also one that never said anything"
    );
}

/// All within one window: the clock does not move between the claims and their responses.
fn all_come_back(world: &mut World, members: &mut [Member]) {
    let mut waiting = Vec::new();
    for member in &*members {
        let conn = world.accept();
        world.say(conn, Handshake::ProtocolVersion(2));
        world.say(conn, Handshake::ClientId(member.id));
        waiting.push(conn);
    }
    world.wait(RESUME_REPLY_DELAY);
    for (member, conn) in members.iter_mut().zip(waiting) {
        let heard = world.hear(conn);
        let Ok(Handshake::Challenge(sealed)) = Handshake::decode(&heard[1]) else {
            panic!("{heard:?}")
        };
        let answer = world.answer(&member.keys, sealed);
        world.say(conn, Handshake::ChallengeResponse(&answer));
        world.say(conn, Handshake::Ping);
        member.conn = conn;
    }
}

/// Opens a connection from `source` that sends a key.
pub(super) fn newcomer(world: &mut World, source: &str) -> ConnKey {
    let source = source.parse().unwrap();
    let conn = world.edge.handle_accepted(world.now, source).unwrap();
    let key = KeyPair::generate(&mut world.rng).public();
    world.say(conn, Handshake::ProtocolVersion(2));
    world.say(conn, Handshake::PubKey(key.as_bytes()));
    conn
}

/// Returns whether it has its id.
pub(super) fn has_begun(world: &mut World, conn: ConnKey) -> bool {
    let heard = world.hear(conn);
    heard
        .iter()
        .any(|body| matches!(Handshake::decode(body), Ok(Handshake::ClientId(_))))
}

#[test]
fn in_a_storm_newcomers_wait_for_those_who_come_back() {
    let mut world = World::new(|config| {
        config.limits.enforce_sources = Enforce::Off;
        // 42 of them for newcomers.
        config.limits.max_half_open = 56;
    });
    let mut members: Vec<Member> = (0..40).map(|_| world.join()).collect();
    world.wait(Duration::from_secs(1));
    all_come_back(&mut world, &mut members);
    let newcomers: Vec<ConnKey> = (0..20).map(|_| world.accept()).collect();
    let key = KeyPair::generate(&mut world.rng).public();
    for &conn in &newcomers {
        world.say(conn, Handshake::ProtocolVersion(2));
        world.say(conn, Handshake::PubKey(key.as_bytes()));
    }
    assert_eq!(world.edge.counters().joined - 40, 10, "one for four");
    assert_eq!(world.edge.counters().joins_paced, 10);
    // Newcomers that wait take places of newcomers.
    let strangers: Vec<ConnKey> = (0..32).map(|_| world.accept()).collect();
    assert!(!world.is_closed(strangers[0]));
    world.accept();
    assert!(world.is_closed(strangers[0]) && !world.is_closed(strangers[1]));
    world.wait(Duration::from_millis(400));
    assert_eq!(
        world.edge.counters().joined - 40,
        20,
        "the others soon after"
    );
    assert!(newcomers.iter().all(|&conn| !world.is_closed(conn)));
}

#[test]
fn a_few_that_come_back_again_and_again_are_no_storm() {
    let mut world = World::new(|config| config.limits.enforce_sources = Enforce::Off);
    let mut members: Vec<Member> = (0..15).map(|_| world.join()).collect();
    for _ in 0..3 {
        all_come_back(&mut world, &mut members);
    }
    let conn = newcomer(&mut world, "192.0.2.77");
    assert!(has_begun(&mut world, conn), "fifteen returns count");
    let mut last = vec![world.join()];
    all_come_back(&mut world, &mut last);
    let late: Vec<_> = (0..5).map(|_| newcomer(&mut world, "192.0.2.77")).collect();
    let begun = |world: &mut World| late.iter().filter(|&&conn| has_begun(world, conn)).count();
    assert_eq!(begun(&mut world), 0, "sixteen, and more began than four");
    world.wait(Duration::from_secs(1));
    assert_eq!(begun(&mut world), 5);
    // After a minute each counts again.
    world.wait(Duration::from_secs(60));
    members.append(&mut last);
    all_come_back(&mut world, &mut members);
    let late: Vec<_> = (0..5).map(|_| newcomer(&mut world, "192.0.2.77")).collect();
    let begun = late.iter().filter(|&&conn| has_begun(&mut world, conn));
    assert_eq!(begun.count(), 4);
}

/// Creates a world in which many clients have just come back, and ten sessions may begin per window.
pub(super) fn storm(change: impl FnOnce(&mut EdgeConfig)) -> World {
    let mut world = World::new(|config| {
        let sources = &mut config.limits.sources;
        (sources.rate, sources.connections) = (0, 0);
        (sources.wide_rate, sources.wide_connections) = (0, 0);
        change(config);
    });
    let mut members: Vec<Member> = (0..40).map(|_| world.join()).collect();
    world.wait(Duration::from_secs(1));
    all_come_back(&mut world, &mut members);
    world
}

#[test]
fn newcomers_of_different_networks_take_turns() {
    let mut world = storm(|_| {});
    let crowd: Vec<_> = (0..60)
        .map(|n| newcomer(&mut world, &format!("198.51.100.{n}")))
        .collect();
    let one = newcomer(&mut world, "203.0.113.1");
    let begun = |world: &mut World| crowd.iter().filter(|&&conn| has_begun(world, conn)).count();
    assert_eq!(begun(&mut world), 10);
    assert!(!has_begun(&mut world, one));
    world.wait(Duration::from_millis(100));
    assert!(
        has_begun(&mut world, one),
        "it comes after one of the crowd"
    );
    assert_eq!(begun(&mut world), 9);
    world.wait(Duration::from_secs(1));
    assert_eq!(begun(&mut world), 41);
}

#[test]
fn those_that_wait_for_their_turn_hold_half_of_the_newcomers_places() {
    // 42 for newcomers.
    let mut world = storm(|config| config.limits.max_half_open = 56);
    let one = {
        let crowd: Vec<_> = (0..52)
            .map(|n| newcomer(&mut world, &format!("198.51.100.{n}")))
            .collect();
        assert!(crowd.iter().all(|&conn| !world.is_closed(conn)));
        let one = newcomer(&mut world, "203.0.113.1");
        assert!(world.is_closed(crowd[51]), "its turn comes last");
        let strangers: Vec<_> = (0..21).map(|_| world.accept()).collect();
        assert!(!world.is_closed(strangers[0]) && world.is_closed(crowd[35]));
        world.accept();
        assert!(world.is_closed(strangers[0]), "half are strangers");
        one
    };
    assert!(!world.is_closed(one));
}

#[test]
fn a_wait_for_a_turn_ends_at_the_handshake_deadline_and_is_no_offence() {
    let mut world = storm(|config| {
        config.limits.handshake_timeout = Duration::from_millis(90);
    });
    let waiting: Vec<_> = (0..30)
        .map(|_| newcomer(&mut world, "198.51.100.1"))
        .collect();
    world.wait(Duration::from_millis(90));
    let late = waiting.iter().filter(|&&conn| world.is_closed(conn));
    assert_eq!(late.count(), 20);
    assert_eq!(closed(&world, CloseReason::KeptWaiting), 20);
    world.wait(Duration::from_secs(1));
    for _ in 0..2 {
        let conn = newcomer(&mut world, "198.51.100.1");
        assert!(has_begun(&mut world, conn), "no penalty acts");
    }
}

#[test]
fn a_frame_is_not_late_while_its_client_waits_for_its_pace() {
    let mut world = World::new(|config| {
        config.clients.pace.bytes = 10;
        config.clients.pace.bytes_burst = 10;
        config.clients.pace.patience = Duration::ZERO;
    });
    let one = world.join();
    let mut bytes = 300u32.to_le_bytes().to_vec();
    bytes.extend([0; 196]);
    world.edge.handle_client_bytes(world.now, one.conn, &bytes);
    world.wait(Duration::from_secs(15));
    assert_eq!(world.edge.read_budget(one.conn), 0, "it owes 19 s");
    world.wait(Duration::from_secs(13));
    assert!(world.edge.read_budget(one.conn) > 0 && !world.is_closed(one.conn));
    world.wait(Duration::from_secs(10));
    assert_eq!(closed(&world, CloseReason::FrameTimeout), 1);
}

#[test]
fn large_bursts_with_rests_between_them_cost_time_and_no_connection() {
    let mut world = paced(Enforce::On);
    let one = world.join();
    for _ in 0..4 {
        world
            .edge
            .handle_client_bytes(world.now, one.conn, &frames(260));
        assert_eq!(world.edge.read_budget(one.conn), 0, "beyond the burst");
        world.wait(Duration::from_millis(700));
        assert!(world.edge.read_budget(one.conn) > 0);
        world.wait(Duration::from_secs(4));
        world.backend_hears();
    }
    assert_eq!(closed(&world, CloseReason::TooFast), 0);
}

#[test]
fn bytes_behind_the_handshake_count() {
    let mut world = World::new(|config| {
        config.clients.pace.bytes = 1000;
        config.clients.pace.bytes_burst = 99;
    });
    let one = world.join();
    let (conn, sealed) = world.claim(one.id);
    let answer = world.answer(&one.keys, &sealed);
    world.say(conn, Handshake::ChallengeResponse(&answer));
    let mut bytes = Vec::new();
    Handshake::Ping.encode(&mut bytes);
    bytes.extend(frames(20));
    world.edge.handle_client_bytes(world.now, conn, &bytes);
    assert_eq!(
        world.edge.read_budget(conn),
        0,
        "20 frames of 5 bytes are one byte too many"
    );
}

#[test]
fn bytes_of_a_frame_without_a_deadline_are_no_silence() {
    let mut world = World::new(|config| {
        config.clients.idle_timeout = Duration::from_secs(30);
        config.clients.frame_timeout = Duration::ZERO;
    });
    let one = world.join();
    for byte in frames(1).into_iter().take(4) {
        world.wait(Duration::from_secs(20));
        world.edge.handle_client_bytes(world.now, one.conn, &[byte]);
    }
    assert!(!world.is_closed(one.conn));
    world.wait(Duration::from_secs(30));
    assert!(world.is_closed(one.conn));
}
