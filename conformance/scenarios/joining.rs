//! Joining, and packets both ways. (SPEC 4.2, 4.4, 9.1)

use std::collections::HashSet;
use std::thread;

use conformance::{Client, Frames, Incoming, bytes_of, handshake};
use voltlane_core::v2::packets::Handshake;

use super::rig;

/// Sizes around every boundary on the way: of integers, frames, buffers, segments.
const SIZES: &[usize] = &[
    1, 0, 2, 3, 4, 5, 8, 9, 13, 100, 127, 128, 129, 250, 251, 255, 256, 511, 512, 513, 1_000,
    1_448, 4_095, 4_096, 4_097, 16_384, 65_522, 65_523, 65_524, 65_535, 65_536, 65_537, 100_000,
    262_144, 524_288, 1_048_575, 1_048_576,
];

#[test]
fn packets_of_every_size_pass_both_ways() {
    let mut rig = rig("");
    let mut client = Client::join(rig.address());
    for (seed, &size) in (0..).zip(SIZES) {
        let up = bytes_of(seed, size);
        client.send(&up);
        rig.link.expect_data(client.id(), &up);
        let down = bytes_of(!seed, size);
        rig.link.send(client.id(), &down);
        client.expect(&down);
    }
    // The limit downwards is higher, and an empty queue takes one packet of any size.
    let largest = bytes_of(99, 8 << 20);
    rig.link.send(client.id(), &largest);
    client.expect(&largest);
    client.leave();
    rig.stop();
}

#[test]
fn many_small_packets_in_few_segments_keep_their_order() {
    let mut rig = rig("");
    let mut client = Client::join(rig.address());
    let packets: Vec<_> = (0..20_000).map(|n| bytes_of(n, n as usize % 40)).collect();
    let mut bytes = Vec::new();
    for packet in &packets {
        bytes.extend(handshake::frame(packet));
    }
    client.frames.write(&bytes);
    for packet in &packets {
        rig.link.expect_data(client.id(), packet);
    }
    for packet in &packets[..8_000] {
        rig.link.send(client.id(), packet);
    }
    for packet in &packets[..8_000] {
        client.expect(packet);
    }
}

#[test]
fn a_handshake_may_be_cut_at_every_byte() {
    let mut rig = rig("");
    let mut frames = Frames::connect(rig.address());
    let keys = handshake::new_keys();
    let hello = handshake::encoded(Handshake::ProtocolVersion(2));
    let key = handshake::encoded(Handshake::PubKey(keys.public().as_bytes()));
    for byte in hello {
        frames.write(&[byte]);
    }
    frames.body();
    for byte in key.into_iter().chain(handshake::frame(b"data")) {
        frames.write(&[byte]);
    }
    let id = handshake::expect_id(&mut frames);
    rig.link.expect_data(id, b"data");
}

#[test]
fn everything_of_a_new_client_may_come_in_one_segment() {
    let mut rig = rig("");
    let mut frames = Frames::connect(rig.address());
    let keys = handshake::new_keys();
    let mut bytes = handshake::encoded(Handshake::ProtocolVersion(2));
    bytes.extend(handshake::encoded(Handshake::PubKey(
        keys.public().as_bytes(),
    )));
    bytes.extend(handshake::frame(b"first"));
    bytes.extend(handshake::frame(b"second"));
    frames.write(&bytes);
    frames.body();
    let id = handshake::expect_id(&mut frames);
    rig.link.expect_data(id, b"first");
    rig.link.expect_data(id, b"second");
}

#[test]
fn both_forms_of_a_key_are_taken_and_the_edges_own_as_well() {
    let mut rig = rig("");
    let uncompressed = handshake::uncompressed(&handshake::new_keys());
    let mut own = Frames::connect(rig.address());
    let edge_key = handshake::hello(&mut own);
    own.write(&handshake::encoded(Handshake::PubKey(edge_key.as_bytes())));
    let mut other = Frames::connect(rig.address());
    handshake::hello(&mut other);
    other.write(&handshake::encoded(Handshake::PubKey(&uncompressed)));
    for mut frames in [own, other] {
        let id = handshake::expect_id(&mut frames);
        frames.write_frame(b"here");
        rig.link.expect_data(id, b"here");
    }
}

#[test]
fn the_backend_hears_of_a_client_by_its_first_packet_and_of_its_leaving_not_at_all() {
    let mut rig = rig("");
    let silent = Client::join(rig.address());
    rig.fence();
    silent.leave();
    let gone = rig.join();
    gone.leave();
    rig.fence();
}

#[test]
fn a_client_is_known_before_its_first_packet() {
    let mut rig = rig("");
    let mut client = Client::join(rig.address());
    rig.link.send(client.id(), b"welcome");
    client.expect(b"welcome");
}

#[test]
fn ids_are_unique_and_say_nothing_about_each_other() {
    let rig = rig("");
    let clients: Vec<_> = (0..300).map(|_| Client::join(rig.address())).collect();
    let ids: Vec<_> = clients.iter().map(|client| client.id().as_u64()).collect();
    let unique: HashSet<_> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len());
    let steps: HashSet<_> = ids
        .windows(2)
        .map(|pair| pair[1].wrapping_sub(pair[0]))
        .collect();
    assert!(steps.len() > 290, "{} different steps", steps.len());
}

#[test]
fn every_client_gets_its_own_packets_and_no_others() {
    const CLIENTS: u64 = 8;
    let rig = rig("");
    let address = rig.address();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                scope.spawn(move || {
                    let mut peer = Client::join(address);
                    for (round, &size) in (0..).zip(SIZES) {
                        let data = bytes_of(client << 32 | round, size);
                        peer.send(&data);
                        peer.expect(&data);
                    }
                    peer
                })
            })
            .collect();
        let echo = scope.spawn(move || rig.link.echo());
        for client in clients {
            let mut peer = client.join().expect("its own bytes");
            // Nothing beyond the answer.
            peer.frames.finish();
            assert_eq!(peer.frames.incoming(), Incoming::Fin { unfinished: 0 });
        }
        rig.edge.stop();
        let packets = echo.join().expect("no panic");
        assert_eq!(packets, CLIENTS * SIZES.len() as u64);
    });
}
