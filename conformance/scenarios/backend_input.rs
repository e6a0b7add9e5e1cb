//! Bad input on the backend link. (SPEC 7.4, 7.5, 12.2)

use std::time::Instant;

use conformance::{Client, Rig, bytes_of, handshake};
use voltlane_core::ClientId;
use voltlane_core::link::tagged::Flag;

use super::{HEALING, METRICS, rig};

/// Returns a body with this flag.
fn body(id: ClientId, flag: u8, data: &[u8]) -> Vec<u8> {
    [&id.as_u64().to_le_bytes()[..], &[flag], data].concat()
}

/// Checks that the link is not affected: the next packet arrives in both directions, with nothing before it.
#[track_caller]
fn unimpressed(rig: &mut Rig, client: &mut Client) {
    rig.link.send(client.id(), b"next");
    client.expect(b"next");
    rig.fence();
}

#[test]
fn malformed_packets_are_dropped_and_the_link_stays() {
    let mut rig = rig(&format!("{HEALING}{METRICS}"));
    let mut client = rig.join();
    let away = rig.join().leave();
    let mut malformed = 0;
    for id in [client.id(), away.id, ClientId::from_u64(9)] {
        let mut bodies: Vec<_> = (0..=8)
            .map(|length| body(id, 0, b"")[..length].to_vec())
            .collect();
        for flag in [1, 3, 4, 5, 127, 128, 255] {
            bodies.push(body(id, flag, b""));
            bodies.push(body(id, flag, b"data"));
        }
        bodies.push(body(id, 2, b"a kick with data"));
        for body in &bodies {
            rig.link.frames.write_frame(body);
        }
        unimpressed(&mut rig, &mut client);
        // And byte by byte.
        for body in &bodies {
            for byte in handshake::frame(body) {
                rig.link.frames.write(&[byte]);
            }
        }
        unimpressed(&mut rig, &mut client);
        malformed += 2 * bodies.len() as u64;
    }
    let dropped = "voltlane_packets_dropped_total{reason=\"malformed\"}";
    assert_eq!(rig.edge.metrics().value(dropped), malformed);
    let mut away = rig.resume(away);
    rig.round_trip(&mut away, b"as before");
    rig.stop();
}

#[test]
fn nine_bytes_are_an_empty_packet() {
    let mut rig = rig("");
    let mut client = rig.join();
    rig.link.frames.write_frame(&body(client.id(), 0, b""));
    client.expect(b"");
    unimpressed(&mut rig, &mut client);
}

#[test]
fn many_packets_in_one_segment_and_one_packet_in_many() {
    let mut rig = rig("");
    let mut client = rig.join();
    let mut bytes = Vec::new();
    for n in 0..1_000 {
        bytes.extend(handshake::frame(&body(client.id(), 0, &bytes_of(n, 30))));
    }
    rig.link.frames.write(&bytes);
    for n in 0..1_000 {
        client.expect(&bytes_of(n, 30));
    }
    for byte in handshake::frame(&body(client.id(), 0, &bytes_of(1, 500))) {
        rig.link.frames.write(&[byte]);
    }
    client.expect(&bytes_of(1, 500));
}

#[test]
fn a_length_above_the_limit_costs_the_link_and_nothing_else() {
    let mut rig = rig("");
    let mut client = rig.join();
    for length in [(8_u32 << 20) + 10, 1 << 31, u32::MAX] {
        rig.link.send(client.id(), b"before");
        rig.link.frames.write(&length.to_le_bytes());
        assert_eq!(rig.link.try_recv(), None, "the link ends");
        client.expect(b"before");
        rig.link = rig.backend.accept();
        rig.round_trip(&mut client, b"after");
    }
    // A frame of exactly the limit is accepted.
    let largest = bytes_of(3, 8 << 20);
    rig.link.send(client.id(), &largest);
    client.expect(&largest);
    unimpressed(&mut rig, &mut client);
}

#[test]
fn answers_to_packets_for_nobody_are_bounded_in_rate() {
    const PACKETS: u64 = 20_000;
    let mut rig = rig("");
    let mut client = rig.join();
    let begin = Instant::now();
    let mut bytes = Vec::new();
    for n in 0..PACKETS {
        let id = ClientId::from_u64(client.id().as_u64() ^ (n + 1));
        bytes.extend(handshake::frame(&body(id, (n % 2 * 2) as u8, b"")));
    }
    rig.link.frames.write(&bytes);
    rig.link.send(client.id(), b"still there");
    client.expect(b"still there");
    let answers = rig.packets_so_far();
    let secs = begin.elapsed().as_secs() + 1;
    let count = answers.len() as u64;
    // All of them are at one shard, which has a part of the rate.
    let burst = 1_000 / rig.edge.shards() as u64;
    assert!(count >= burst, "the first ones are answered, not {count}");
    assert!(count <= 1_000 + 1_000 * secs, "{count} in {secs} s");
    for answer in &answers {
        assert_eq!(
            (answer.flag, &answer.data[..]),
            (Flag::Failure, &b"unknown client"[..])
        );
    }
    rig.round_trip(&mut client, b"as before");
}

#[test]
fn each_id_is_answered_once_for_each_packet() {
    let mut rig = rig("");
    let ended = rig.join();
    rig.link.kick(ended.id());
    rig.link.expect_failure(ended.id(), "kicked");
    for _ in 0..3 {
        rig.link.send(ended.id(), b"late");
        rig.link.expect_failure(ended.id(), "unknown client");
    }
    rig.fence();
}
