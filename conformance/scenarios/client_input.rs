//! Bad input on the client link: each instance costs its own connection and nothing else. (SPEC 3.4, 8.2, 12.1)

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use conformance::handshake::{encoded, expect_id, frame, hello, new_keys, uncompressed};
use conformance::{Client, Frames, Incoming, Rig, Session, bytes_of};
use voltlane_core::ClientId;
use voltlane_core::v2::packets::Handshake;

use super::{HEALING, METRICS, rig};

/// The point in a handshake at which bytes are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    /// As the first packet.
    Version,
    /// After the edge's key.
    KeyOrId,
    /// After the challenge.
    Response,
    /// After a correct response.
    Ping,
}

use Stage::{KeyOrId, Ping, Response, Version};

const STAGES: [Stage; 4] = [Version, KeyOrId, Response, Ping];

/// Returns a connection at a stage. The two later stages are attempts on `session`.
fn at(stage: Stage, edge: SocketAddr, session: &Session) -> Frames {
    match stage {
        Version => Frames::connect(edge),
        KeyOrId => {
            let mut frames = Frames::connect(edge);
            hello(&mut frames);
            frames
        }
        Response => session.claim(edge).frames,
        Ping => {
            let mut challenged = session.claim(edge);
            let response = session.response_to(&challenged.challenge);
            let bytes = encoded(Handshake::ChallengeResponse(&response));
            challenged.frames.write(&bytes);
            challenged.frames
        }
    }
}

/// Whole frames that are wrong at every stage.
fn never_right() -> Vec<(&'static str, Vec<u8>)> {
    let body = |name, body: &[u8]| (name, frame(body));
    vec![
        body("no body", b""),
        body("variant 6", &[6]),
        body("variant 250", &[250]),
        body("variant in a longer form", &[251, 0, 0]),
        body("variant of marker 254", &[254]),
        body("variant of marker 255", &[255, 0, 0, 0, 0, 0, 0, 0, 0]),
        body("Ping with a byte after it", &[0, 0]),
        body("version that ends within its integer", &[1, 251, 2]),
        body("version without a field", &[1]),
        body("version in a longer form", &[1, 251, 2, 0]),
        body("version of 8 bytes", &[1, 253, 2, 0, 0, 0, 1, 0, 0, 0]),
        body("version with a byte after it", &[1, 2, 0]),
        body("id that ends within its integer", &[3, 253, 1, 2, 3]),
        body("id in a longer form", &[3, 251, 7, 0]),
        body("id of marker 254", &[3, 254, 7, 0, 0, 0, 0, 0, 0, 0]),
        body("key shorter than it says", &[2, 33, 2, 3]),
        body(
            "key of more bytes than there can be",
            &[2, 252, 255, 255, 255, 255],
        ),
        body("challenge", &[&[4, 72][..], &[1; 72]].concat()),
        body("challenge without bytes", &[4, 0]),
        body("data", b"hello"),
        body("data of 128 bytes", &bytes_of(1, 128)),
        ("length 129", [&[129, 0, 0, 0][..], &[0; 129]].concat()),
        ("length 2^31", vec![0, 0, 0, 128]),
        ("length 2^32 - 1", vec![255, 255, 255, 255]),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        (
            "TLS",
            [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 500]].concat(),
        ),
        ("SSH", b"SSH-2.0-OpenSSH_9.7\r\n".to_vec()),
        (
            "PROXY 1",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(),
        ),
        (
            "PROXY 2",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\0\x01\0\x02"
                .to_vec(),
        ),
    ]
}

/// Frames that are right at one stage and wrong at the others.
fn right_elsewhere() -> Vec<(&'static str, Vec<u8>, &'static [Stage])> {
    let keys = new_keys();
    let public = keys.public();
    let key = public.as_bytes();
    let point = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut point = key.to_vec();
        change(&mut point);
        encoded(Handshake::PubKey(&point))
    };
    let long = uncompressed(&keys);
    let long_point = |change: &dyn Fn(&mut [u8; 65])| {
        let mut point = long;
        change(&mut point);
        encoded(Handshake::PubKey(&point))
    };
    let version = |version| encoded(Handshake::ProtocolVersion(version));
    let all: &[Stage] = &STAGES;
    vec![
        ("version 2 again", version(2), &[KeyOrId, Response, Ping]),
        ("version 0", version(0), all),
        ("version 1", version(1), all),
        ("version 3", version(3), all),
        ("version 2^32 - 1", version(u32::MAX), all),
        ("key", point(&|_| {}), &[Version, Response, Ping]),
        ("key without bytes", encoded(Handshake::PubKey(b"")), all),
        ("key of 1 byte", encoded(Handshake::PubKey(&[0])), all),
        ("key of 32 bytes", point(&|point| point.truncate(32)), all),
        ("key of 34 bytes", point(&|point| point.push(0)), all),
        (
            "key of 64 bytes",
            encoded(Handshake::PubKey(&long[..64])),
            all,
        ),
        (
            "key of 66 bytes",
            encoded(Handshake::PubKey(&[&long[..], &[0]].concat())),
            all,
        ),
        ("key beginning with 0", point(&|point| point[0] = 0), all),
        (
            "key beginning with 4, short",
            point(&|point| point[0] = 4),
            all,
        ),
        (
            "key beginning with 2, long",
            long_point(&|point| point[0] = 2),
            all,
        ),
        (
            "key beginning with 6",
            long_point(&|point| point[0] = 6),
            all,
        ),
        (
            "key off the curve",
            long_point(&|point| point[64] ^= 1),
            all,
        ),
        ("key of zeros", point(&|point| point.fill(0)), all),
        ("key of ones", point(&|point| point.fill(0xff)), all),
        (
            "key at infinity",
            long_point(&|point| point[1..].fill(0)),
            all,
        ),
        (
            "key without a root",
            point(&|point| {
                point.fill(0);
                point[0] = 2;
                point[32] = 5;
            }),
            all,
        ),
        (
            "id",
            encoded(Handshake::ClientId(ClientId::from_u64(7))),
            &[Version, Response, Ping],
        ),
        (
            "response",
            encoded(Handshake::ChallengeResponse(&[1; 72])),
            all,
        ),
        (
            "Ping",
            encoded(Handshake::Ping),
            &[Version, KeyOrId, Response],
        ),
    ]
}

/// Every row, with the stages at which it is wrong.
fn rows() -> Vec<(&'static str, Vec<u8>, &'static [Stage])> {
    let mut rows = right_elsewhere();
    rows.extend(
        never_right()
            .into_iter()
            .map(|(name, bytes)| (name, bytes, &STAGES[..])),
    );
    rows
}

/// Creates a session that is away, with a packet waiting for it.
fn target(rig: &mut Rig) -> Session {
    let session = rig.join().leave();
    rig.link.send(session.id, b"missed");
    session
}

/// Checks that the target is unchanged, and that the backend has received nothing.
fn untouched(mut rig: Rig, target: Session) {
    rig.fence();
    let mut client = rig.resume(target);
    client.expect(b"missed");
    rig.round_trip(&mut client, b"as before");
    client.leave();
    rig.stop();
}

#[test]
fn every_wrong_packet_ends_the_connection_without_a_byte() {
    let mut rig = rig(&format!("listener.versions = [2]\n{HEALING}{METRICS}"));
    let target = target(&mut rig);
    let mut wrong = 0;
    for (name, bytes, stages) in rows() {
        for &stage in stages {
            let mut frames = at(stage, rig.address(), &target);
            frames.write(&bytes);
            let end = frames.incoming();
            let silent = matches!(end, Incoming::Fin { unfinished: 0 } | Incoming::Reset);
            assert!(silent, "{name} at {stage:?}: {end:?}");
            wrong += 1;
        }
    }
    let metrics = rig.edge.metrics();
    let closes = |reason| metrics.value(&format!("voltlane_closes_total{{reason=\"{reason}\"}}"));
    let bad = [
        "frame_too_long",
        "bad_handshake",
        "bad_version",
        "bad_key",
        "bad_proof",
    ];
    // Each is counted once, for one of these reasons.
    assert_eq!(bad.map(closes).iter().sum::<u64>(), wrong);
    assert_eq!(metrics.sum("voltlane_closes_total"), wrong);
    untouched(rig, target);
}

#[test]
fn every_wrong_packet_does_so_byte_by_byte() {
    let mut rig = rig(HEALING);
    let target = target(&mut rig);
    for (name, bytes, stages) in rows() {
        let mut frames = at(stages[0], rig.address(), &target);
        for byte in bytes {
            // The edge may have seen enough before the end.
            if frames.try_write(&[byte]).is_err() {
                break;
            }
        }
        let end = frames.incoming();
        let silent = matches!(end, Incoming::Fin { unfinished: 0 } | Incoming::Reset);
        assert!(silent, "{name} at {:?}: {end:?}", stages[0]);
    }
    untouched(rig, target);
}

#[test]
fn a_length_above_the_limit_is_judged_by_its_four_bytes() {
    let mut rig = rig(HEALING);
    let target = target(&mut rig);
    for stage in STAGES {
        for length in [129_u32, 1 << 20, 1 << 31, u32::MAX] {
            let mut frames = at(stage, rig.address(), &target);
            frames.write(&length.to_le_bytes());
            match stage {
                // The session is attached to this connection by then, so an orderly end would read as a refusal (SPEC 4.5(d)).
                Ping => assert_eq!(frames.incoming(), Incoming::Reset, "length {length}"),
                _ => frames.expect_fin(),
            }
        }
    }
    untouched(rig, target);
}

#[test]
fn a_handshake_may_end_anywhere() {
    let mut rig = rig(HEALING);
    let target = target(&mut rig);
    let keys = new_keys();
    let parts = [
        (Version, encoded(Handshake::ProtocolVersion(2))),
        (
            KeyOrId,
            encoded(Handshake::PubKey(keys.public().as_bytes())),
        ),
        (KeyOrId, encoded(Handshake::ClientId(target.id))),
        (Response, encoded(Handshake::ChallengeResponse(&[1; 72]))),
        (Ping, encoded(Handshake::Ping)),
    ];
    for (stage, bytes) in &parts {
        for length in 0..bytes.len() {
            let mut frames = at(*stage, rig.address(), &target);
            frames.write(&bytes[..length]);
            if length % 2 == 0 {
                frames.finish();
                frames.expect_fin();
            } else {
                frames.reset();
            }
        }
    }
    untouched(rig, target);
}

#[test]
fn silent_and_slow_clients_are_closed_at_the_deadline() {
    // Long enough for the stages to be reached on a machine that stalls for a while.
    let mut rig = rig(&format!("{HEALING}limits.handshake_timeout_secs = 4\n"));
    let begin = Instant::now();
    let target = target(&mut rig);
    let mut slow: Vec<_> = STAGES.map(|stage| at(stage, rig.address(), &target)).into();
    let mut begun = Frames::connect(rig.address());
    begun.write(&[2, 0, 0]);
    slow.push(begun);
    // The deadline counts from the accept: a byte now and then does not put it off.
    let mut stream = Frames::connect(rig.address())
        .stream()
        .try_clone()
        .expect("a socket");
    stream
        .set_read_timeout(Some(Duration::from_millis(100)))
        .expect("a bound");
    // Twelve seconds of them.
    let mut bytes = frame(&[2; 120]).into_iter();
    loop {
        match stream.read(&mut [0; 1]) {
            // Interrupted: this process was stopped.
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                let byte = bytes.next().expect("the end comes before the last byte");
                let _ = stream.write(&[byte]);
            }
            Ok(0) | Err(_) => break,
            Ok(_) => panic!("a byte for nothing"),
        }
    }
    assert!(begin.elapsed() >= Duration::from_secs(4));
    for mut frames in slow {
        frames.expect_closed();
    }
    untouched(rig, target);
}

#[test]
fn frames_of_a_client_up_to_the_limit_are_taken_and_no_longer_ones() {
    let mut rig = rig("clients.max_frame_bytes = 1_000\n");
    let mut client = rig.join();
    let data = bytes_of(1, 1_000);
    rig.round_trip(&mut client, &data);
    for length in [1_001_u32, 1 << 20, 1 << 31, u32::MAX] {
        client.send(b"before");
        client.frames.write(&length.to_le_bytes());
        rig.link.expect_data(client.id(), b"before");
        client.frames.expect_fin();
        // It went away; it did not end.
        client = rig.resume(client.session);
        rig.round_trip(&mut client, b"back");
    }
}

#[test]
fn the_default_limit_is_a_mebibyte() {
    let mut rig = rig("");
    let mut client = rig.join();
    client.frames.write(&(1_048_577_u32).to_le_bytes());
    client.frames.expect_fin();
    rig.resume(client.session);
}

#[test]
fn a_thousand_empty_packets_are_a_thousand_packets() {
    let mut rig = rig("");
    let mut client = rig.join();
    client.frames.write(&[0; 4_000]);
    client.send(b"end");
    for _ in 0..1_000 {
        rig.link.expect_data(client.id(), b"");
    }
    rig.link.expect_data(client.id(), b"end");
}

#[test]
fn handshake_packets_after_the_handshake_are_data() {
    let mut rig = rig("");
    let mut client = rig.join();
    let key = new_keys();
    for packet in [
        Handshake::ProtocolVersion(2),
        Handshake::PubKey(key.public().as_bytes()),
        Handshake::ClientId(client.id()),
        Handshake::ChallengeResponse(&[1; 72]),
        Handshake::Ping,
    ] {
        let bytes = encoded(packet);
        client.frames.write(&bytes);
        rig.link.expect_data(client.id(), &bytes[4..]);
    }
    rig.round_trip(&mut client, b"and on");
}

#[test]
fn a_client_that_ends_its_own_direction_ends_the_connection() {
    let mut rig = rig("");
    let mut client = rig.join();
    client.send(b"last words");
    client.frames.finish();
    client.frames.expect_fin();
    rig.link.expect_data(client.id(), b"last words");
    rig.resume(client.session);
}

/// Many connections that do wrong at the same time as others do right.
#[test]
fn nobody_is_disturbed_while_others_send_nonsense() {
    let mut rig = rig("");
    let mut client = rig.join();
    let address = rig.address();
    std::thread::scope(|scope| {
        let noise = scope.spawn(move || {
            for n in 0..300 {
                let mut frames = Frames::connect(address);
                // A length above the limit, then arbitrary bytes.
                frames.write(&[bytes_of(n, 3), vec![1], bytes_of(n, 100)].concat());
                let (bodies, _) = frames.rest();
                assert!(bodies.is_empty());
            }
        });
        let mut n = 0;
        while !noise.is_finished() || n < 100 {
            rig.round_trip(&mut client, &bytes_of(n, 64));
            n += 1;
        }
        noise.join().expect("no panic");
    });
    rig.stop();
}

#[test]
fn a_new_session_after_a_wrong_handshake_is_as_good_as_any() {
    let mut rig = rig("");
    for _ in 0..5 {
        let mut wrong = Frames::connect(rig.address());
        wrong.write(&[0xff; 64]);
        wrong.expect_closed();
        let mut frames = Frames::connect(rig.address());
        hello(&mut frames);
        let keys = new_keys();
        frames.write(&encoded(Handshake::PubKey(keys.public().as_bytes())));
        let id = expect_id(&mut frames);
        frames.write_frame(b"here");
        rig.link.expect_data(id, b"here");
    }
    Client::join(rig.address()).leave();
}
