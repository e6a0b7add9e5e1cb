//! Joining (SPEC 22), and what ends an opening.

use super::*;
use crate::edge::tests::pace::{has_begun, newcomer, storm};
use crate::v3::packets::{BUSY_BYTES, Busy};

#[test]
fn a_client_joins_and_the_backend_hears_its_packets() {
    let mut world = world(|_| {});
    let mut one = world.welcomed();
    assert_eq!(one.settings.ring_packets, 8_192);
    assert_eq!(one.settings.keep_alive_secs, 20);
    assert_eq!(
        world.edge.gauges().sessions,
        0,
        "no session begins before the Join record"
    );
    one.outbox.push(b"in the Join record");
    world.flush(&mut one);
    let conn = world.edge.conns.find(one.conn).unwrap();
    assert_eq!(conn.taken_bytes(), 0, "its opening is dropped");
    world.send3(&mut one, b"behind it");
    let id = one.id();
    assert_eq!(
        world.backend_hears(),
        [data(id, "in the Join record"), data(id, "behind it")]
    );
    world.down(&one, b"hello");
    let came = world.hear3(&mut one);
    assert_eq!(packets(&came), [(1, &b"hello"[..])]);
    assert_eq!(one.outbox.acked(), 2, "the record had an ACK");
    assert_eq!(world.edge.counters().joined, 1);
}

#[test]
fn a_session_has_the_ring_that_its_welcome_named() {
    let mut world = world(|config| config.clients.ring_packets = 100);
    let mut one = world.welcomed();
    world.reconfigure(|config| config.clients.ring_packets = 50);
    world.flush(&mut one);
    let session = world.edge.sessions.lookup(one.id()).unwrap();
    let numbers = world.edge.sessions.live(session).numbers().unwrap();
    assert_eq!(numbers.ring(), one.progress.ring());
    assert_eq!(numbers.ring().packets, 100);
}

#[test]
fn version_3_is_refused_by_an_edge_that_does_not_offer_it_and_2_as_well() {
    let mut two = World::new(|config| {
        config.listener.versions = OfferedVersions::new(&[2]).unwrap();
    });
    let conn = two.accept();
    two.say(conn, Handshake::ProtocolVersion(3));
    assert_eq!(two.edge.client_close(conn), Some(CloseKind::Graceful));
    assert_eq!(two.hear_bytes(conn), b"");
    let mut three = World::new(|config| {
        config.listener.versions = OfferedVersions::new(&[3]).unwrap();
    });
    let conn = three.accept();
    three.say(conn, Handshake::ProtocolVersion(2));
    assert_eq!(three.edge.client_close(conn), Some(CloseKind::Graceful));
    three.join3();
    let mut both = world(|_| {});
    both.join();
    both.join3();
}

#[test]
fn versions_are_2_and_3_and_at_least_one() {
    use crate::protocol::VersionsError;
    let new = |numbers: &[u32]| OfferedVersions::new(numbers).map(OfferedVersions::numbers);
    assert_eq!(new(&[3, 2, 3]), Ok(vec![2, 3]));
    assert_eq!(new(&[]), Err(VersionsError::None));
    for number in [0, 1, 4, u32::MAX] {
        assert_eq!(new(&[2, number]), Err(VersionsError::Unknown { number }));
    }
    assert_eq!(OfferedVersions::default().numbers(), [2, 3]);
}

#[test]
fn what_is_no_hello_ends_the_opening_without_a_word() {
    let mut hello = Vec::new();
    let mut world = world(|_| {});
    let joining = Joining::begin([3; 32], &[], LONGEST, &mut hello);
    drop(joining);
    let hello = &hello[LENGTH_BYTES..];
    let mut other_point = hello.to_vec();
    other_point[9] = 4;
    let mut no_point = hello.to_vec();
    no_point[10..42].fill(0xff);
    let cases: [&[u8]; 6] = [
        b"",
        &hello[..41],
        &[0x15; 60],
        &[0x11; 179],
        &other_point,
        &no_point,
    ];
    for body in cases {
        let conn = world.begin3(body, b"");
        assert_eq!(
            world.edge.client_close(conn),
            Some(CloseKind::Graceful),
            "{body:02x?}"
        );
        assert_eq!(world.hear_bytes(conn), b"");
    }
    let conn = world.begin3(&[0x12; 405], b"");
    assert!(world.is_closed(conn), "above the limit of a frame");
}

#[test]
fn a_join_record_that_does_not_open_begins_nothing() {
    let mut world = world(|_| {});
    let mut one = world.welcomed();
    let mut record = one
        .channel
        .fill(&mut one.outbox, &mut one.progress)
        .to_vec();
    *record.last_mut().unwrap() ^= 1;
    world.write(one.conn, &record);
    assert_eq!(world.edge.client_close(one.conn), Some(CloseKind::Graceful));
    assert_eq!(world.hear_bytes(one.conn), b"");
    assert_eq!(world.edge.gauges().sessions, 0);
}

#[test]
fn a_join_record_is_bounded() {
    let mut world = world(|_| {});
    let one = world.welcomed();
    assert_eq!(
        world.edge.read_budget(one.conn),
        (512 - (6 + 4 + hello_bytes())) + 8_192 + 4
    );
    world.write(one.conn, &8_193_u32.to_le_bytes());
    assert!(world.is_closed(one.conn));
    let one = world.welcomed();
    world.write(one.conn, &8_192_u32.to_le_bytes());
    assert!(!world.is_closed(one.conn));
}

fn hello_bytes() -> usize {
    let mut hello = Vec::new();
    let _joining = Joining::begin([3; 32], &[], LONGEST, &mut hello);
    hello.len() - LENGTH_BYTES
}

#[test]
fn a_join_record_without_a_token_is_answered_403_and_begins_nothing() {
    let mut world = world(|_| {});
    for items in [
        &[][..],
        &[Item::Pad { length: 3 }],
        &[Item::Packet(b"first")],
        &[Item::Token(b"t"), Item::Resumed(RESUMED, &[[0; 8]])],
    ] {
        let mut one = world.welcomed();
        one.channel.outbound().forget_first();
        world.send_items(&mut one, items);
        assert_eq!(closed(&world.hear3(&mut one)), (Code::PROTOCOL, 0));
        assert_eq!(world.edge.gauges().sessions, 0);
        assert_eq!(world.edge.gauges().half_open, 1, "in LAST");
        world.leave(one.conn);
    }
    assert_eq!(world.backend_hears(), []);
}

const RESUMED: Resumed = Resumed {
    until: 0,
    received_up: 0,
    away_ms: 0,
    cause: Code::GOODBYE,
};

#[test]
fn without_room_a_hello_gets_busy_and_a_join_record_204() {
    let mut world = world(|config| config.limits.max_sessions = 1);
    let mut late = world.welcomed();
    world.join3();
    let (conn, _, heard) = world.hello();
    assert_eq!(heard[0].len(), BUSY_BYTES);
    let busy = Busy {
        code: Code::BUSY,
        wait_ms: 1_000,
    };
    assert_eq!(Packet::decode(&heard[0]), Ok(Packet::Busy(busy)));
    world.wait(KICK_DRAIN_TIMEOUT);
    assert_eq!(world.edge.client_close(conn), Some(CloseKind::Graceful));
    world.flush(&mut late);
    assert_eq!(closed(&world.hear3(&mut late)), (Code::BUSY, 0));
}

#[test]
fn joins_have_a_pace_and_wait_for_it() {
    let mut world = world(|config| {
        config.limits.join_rate = 10;
        config.limits.join_burst = 2;
    });
    world.join3();
    world.join3();
    let (conn, joining, heard) = world.hello();
    assert!(heard.is_empty(), "it waits");
    assert_eq!(world.edge.counters().joins_paced, 1);
    world.wait(Duration::from_millis(100));
    world.give_entropy(conn);
    let heard = bodies(&world.hear_bytes(conn));
    joining.welcome(&heard[0]).unwrap();
    // Version 2 has no such pace.
    world.join();
}

#[test]
fn hellos_that_wait_for_their_pace_hold_up_no_newcomer_of_version_2() {
    // Ten may begin in a window.
    let mut world = storm(|config| {
        config.listener.versions = OfferedVersions::new(&[2, 3]).unwrap();
        config.limits.join_rate = 20;
        config.limits.join_burst = 1;
    });
    let hellos: Vec<_> = (0..6).map(|_| world.hello().0).collect();
    let welcomed = |world: &mut World| {
        let heard = hellos.iter().filter(|&&conn| {
            world.give_entropy(conn);
            !world
                .edge
                .client_takes(world.now, conn, usize::MAX)
                .is_empty()
        });
        heard.count()
    };
    assert_eq!(world.edge.counters().joins_paced, 5);
    let joins: Vec<_> = (0..20).map(|_| newcomer(&mut world, "192.0.2.7")).collect();
    let begun = |world: &mut World| joins.iter().filter(|&&conn| has_begun(world, conn)).count();
    assert_eq!(
        begun(&mut world),
        9,
        "those that wait took nothing of the window"
    );
    world.wait(Duration::from_millis(100));
    // One is regained in 50 ms, and one is kept.
    assert_eq!((welcomed(&mut world), begun(&mut world)), (1, 9));
    world.wait(Duration::from_secs(1));
    assert_eq!((welcomed(&mut world), begun(&mut world)), (4, 2));
}

#[test]
fn nobody_else_reads_an_early_claim_of_version_2_for_a_session_of_3() {
    let mut world = world(|_| {});
    let one = world.join3();
    let keys = KeyPair::generate(&mut world.rng);
    let (conn, sealed) = world.claim(one.id());
    let shared = keys.agree(&world.edge_keys.public());
    assert!(shared.open(&sealed).is_err(), "a decoy");
    world.say(conn, Handshake::ChallengeResponse(&sealed));
    assert!(world.is_closed(conn));
    assert_eq!(world.edge.counters().agreements, 0);
}
