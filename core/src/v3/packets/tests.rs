use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::ClientId;
use crate::keys::KeyPair;
use crate::v3::MAX_NUMBER;
use crate::v3::schedule::ClaimKey;

fn point(byte: u8) -> [u8; POINT_BYTES] {
    *KeyPair::from_bytes(&[byte; 32])
        .unwrap()
        .public()
        .as_bytes()
}

/// One of each, with and without extensions and bytes of a later version.
fn samples(check: impl Fn(Packet<'_>)) {
    let (one, other) = (point(1), point(2));
    let mut extensions = Vec::new();
    Extensions::push_longest_packet_down(70_000, &mut extensions);
    Extensions::push(200, b"", &mut extensions);
    Extensions::push(200, &[7; 40], &mut extensions);
    for extensions in [Extensions::NONE, Extensions::new(&extensions).unwrap()] {
        check(Packet::Hello(Hello {
            features: 0x0102_0304,
            key_hint: KeyHint([5, 6, 7, 8]),
            point: &one,
            extensions,
        }));
        check(Packet::Claim(Claim {
            head: ClaimHead {
                key_hint: KeyHint([5, 6, 7, 8]),
                handle: Handle([9; 16]),
                nonce: [10; 24],
                extensions,
            },
            sealed: [11; POSITION_BYTES],
            tag: [12; TAG_BYTES],
        }));
    }
    for later in [0, 1, 77] {
        let sealed = vec![13; SETTINGS_BYTES + TAG_BYTES + later];
        check(Packet::Welcome(Welcome {
            point: &one,
            edge_key: &other,
            sealed: &sealed,
        }));
        let sealed = vec![14; VERDICT_BYTES + TAG_BYTES + later];
        check(Packet::Answer(Answer {
            nonce: [15; 24],
            sealed: &sealed,
        }));
    }
    for code in [Code::BUSY, Code::NOT_HERE] {
        check(Packet::Busy(Busy {
            code,
            wait_ms: 0x0102_0304,
        }));
    }
}

#[test]
fn lengths_are_as_specified() {
    assert_eq!(
        [
            MIN_HELLO_BYTES,
            WELCOME_BYTES,
            MIN_CLAIM_BYTES,
            ANSWER_BYTES,
            BUSY_BYTES
        ],
        [42, 179, 109, 169, 7]
    );
    assert_eq!(MAX_CLIENT_PACKET_BYTES as usize, MAX_CLAIM_BYTES);
}

#[test]
fn every_packet_reads_back() {
    samples(|packet| {
        let mut frame = b"before".to_vec();
        packet.encode(&mut frame);
        let body = packet.body();
        let length = u32::try_from(body.len()).unwrap().to_le_bytes();
        assert_eq!(frame, [b"before", &length[..], &body].concat());
        assert_eq!(Packet::decode(&body), Ok(packet));
    });
}

#[test]
fn a_packet_cut_anywhere_is_refused() {
    samples(|packet| {
        let body = packet.body();
        for end in 0..body.len() {
            let cut = Packet::decode(&body[..end]);
            let has_extensions = match packet {
                Packet::Hello(hello) => hello.extensions != Extensions::NONE,
                Packet::Claim(claim) => claim.head.extensions != Extensions::NONE,
                Packet::Welcome(_) => end >= WELCOME_BYTES,
                Packet::Answer(_) => end >= ANSWER_BYTES,
                Packet::Busy(_) => false,
            };
            // Between two extensions, and between bytes of a later version, a cut cannot be seen: the hash of the packet tells.
            assert!(cut.is_err() || has_extensions, "{packet:?} {end}");
            assert_ne!(cut, Ok(packet));
        }
    });
}

#[test]
fn packets_above_their_length_are_refused() {
    for (kind, packet, min, max) in [
        (HELLO, "Hello", 42, 128),
        (WELCOME, "Welcome", 179, 256),
        (CLAIM, "Claim", 109, 404),
        (ANSWER, "Answer", 169, 256),
        (BUSY, "Busy", 7, 7),
    ] {
        for length in [1, min - 1, max + 1, 1000] {
            let body = vec![kind; length];
            assert_eq!(
                Packet::decode(&body),
                Err(PacketError::Length {
                    packet,
                    length,
                    min,
                    max
                })
            );
        }
    }
}

#[test]
fn other_first_bytes_are_refused() {
    assert_eq!(Packet::decode(&[]), Err(PacketError::Empty));
    for kind in (0..HELLO).chain(BUSY + 1..=u8::MAX) {
        let body = vec![kind; 179];
        assert_eq!(
            Packet::decode(&body),
            Err(PacketError::UnknownKind { kind })
        );
    }
}

#[test]
fn points_begin_like_compressed_ones() {
    let error = Err(PacketError::Key(KeyError::NotAPoint));
    for prefix in (0..=u8::MAX).filter(|prefix| !matches!(prefix, 2 | 3)) {
        let mut hello = vec![HELLO; MIN_HELLO_BYTES];
        hello[9] = prefix;
        assert_eq!(Packet::decode(&hello), error);
        for at in [1, 34] {
            let mut welcome = vec![2; WELCOME_BYTES];
            (welcome[0], welcome[at]) = (WELCOME, prefix);
            assert_eq!(Packet::decode(&welcome), error);
        }
    }
}

#[test]
fn a_busy_has_one_of_two_codes() {
    for number in (0..=u16::MAX).filter(|number| !matches!(number, 204 | 206)) {
        let body = [&[BUSY][..], &number.to_le_bytes(), &[0; 4]].concat();
        assert_eq!(
            Packet::decode(&body),
            Err(PacketError::Code {
                code: number,
                packet: "Busy"
            })
        );
    }
}

fn hello_with(extensions: &[u8]) -> Vec<u8> {
    let mut body = vec![HELLO; 9];
    body.extend(point(1));
    body.extend(extensions);
    body
}

#[test]
fn a_known_extension_comes_once_and_has_its_length() {
    let read = |extensions: &[u8]| match Packet::decode(&hello_with(extensions)) {
        Ok(Packet::Hello(hello)) => Ok(hello.longest_packet_down()),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error),
    };
    assert_eq!(read(&[]), Ok(None));
    assert_eq!(read(&[200, 0, 1, 4, 0, 0, 1, 0]), Ok(Some(65_536)));
    assert_eq!(
        read(&[1, 4, 0, 0, 0, 0, 1, 4, 0, 0, 0, 0]),
        Err(PacketError::ExtensionTwice { kind: 1 })
    );
    for length in [0, 3, 5] {
        let extension = [&[1, length][..], &vec![0; length.into()]].concat();
        assert_eq!(
            read(&extension),
            Err(PacketError::ExtensionLength {
                kind: 1,
                length: length.into(),
                needed: 4
            })
        );
    }
    for cut in [&[9][..], &[9, 1], &[9, 3, 0, 0]] {
        assert_eq!(read(cut), Err(PacketError::ExtensionTruncated { kind: 9 }));
    }
}

fn settings() -> Settings {
    Settings {
        id: ClientId::from_u64(0x0102_0304_0506_0708),
        claim_key: ClaimKey::from_bytes([1; 32]),
        handle: Handle([2; 16]),
        run: [3; 8],
        features: 4,
        longest_packet_up: 5,
        ring_packets: 6,
        ring_bytes: 7,
        window_secs: 8,
        ack_delay_ms: 9,
        keep_alive_secs: 10,
    }
}

const POSITION: Position = Position {
    counter: 1,
    run: [2; 8],
    first_up: 3,
    received_down: 4,
};

#[test]
fn settings_read_back_and_a_ring_has_room_for_a_packet() {
    let mut plain = [0; SETTINGS_BYTES];
    settings().write(&mut plain);
    let read = Settings::read(&plain).unwrap();
    let mut again = [0; SETTINGS_BYTES];
    read.write(&mut again);
    assert_eq!(plain, again);
    let secret = [1; 32].map(|byte: u8| format!("{byte}")).join(", ");
    assert!(!format!("{read:?}").contains(&secret));
    // What is reserved is ignored.
    plain[64..72].fill(9);
    assert!(Settings::read(&plain).is_ok());
    plain[80..84].fill(0);
    assert!(matches!(
        Settings::read(&plain).unwrap_err(),
        PacketError::OutOfRange {
            field: "ring packets",
            value: 0,
            ..
        }
    ));
}

#[test]
fn a_position_is_in_range_and_sets_nothing_reserved() {
    let mut plain = [0; POSITION_BYTES];
    POSITION.write(&mut plain);
    assert_eq!(Position::read(&plain), Ok(POSITION));
    let with = |at: usize, value: u64| {
        let mut plain = plain;
        plain[at..at + 8].copy_from_slice(&value.to_le_bytes());
        Position::read(&plain)
    };
    for (at, field, min) in [
        (0, "counter", 1),
        (24, "first packet up", 1),
        (32, "packets down received", 0),
    ] {
        assert!(with(at, MAX_NUMBER).is_ok() && with(at, min).is_ok());
        for value in [MAX_NUMBER + 1, u64::MAX, min.wrapping_sub(1)] {
            let error = PacketError::OutOfRange {
                field,
                value,
                min,
                max: MAX_NUMBER,
            };
            assert_eq!(with(at, value), Err(error));
        }
    }
    for bit in 0..64 {
        let reserved = |field| Err(PacketError::Reserved { field });
        assert_eq!(with(8, 1 << bit), reserved("life"));
        let last = if bit < 32 { "features" } else { "flags" };
        assert_eq!(with(40, 1 << bit), reserved(last));
    }
}

#[test]
fn a_verdict_reads_back_and_has_a_code() {
    let verdict = Verdict {
        code: Code::STALE,
        highest: 1,
        wait_ms: 2,
        jitter_ms: 3,
        run: [4; 8],
        handle: Handle([5; 16]),
        acknowledged_up: 6,
        acknowledged_down: 7,
    };
    let mut plain = [0; VERDICT_BYTES];
    verdict.write(&mut plain);
    assert_eq!(Verdict::read(&plain), Ok(verdict));
    for number in [2_u16, 99, 700, u16::MAX] {
        let mut plain = plain;
        plain[..2].copy_from_slice(&number.to_le_bytes());
        let error = PacketError::Code {
            code: number,
            packet: "Answer",
        };
        assert_eq!(Verdict::read(&plain), Err(error));
    }
    for at in [4, 44, 52] {
        let mut plain = plain;
        plain[at + 7] = 0x80;
        assert!(matches!(
            Verdict::read(&plain),
            Err(PacketError::OutOfRange { .. })
        ));
    }
    // What is reserved is ignored.
    plain[60..].fill(9);
    assert_eq!(Verdict::read(&plain), Ok(verdict));
}

proptest! {
    #[test]
    fn a_body_is_refused_or_the_one_encoding_of_its_packet(
        kind in prop_oneof![9 => HELLO..=BUSY, 1 => any::<u8>()],
        at in 0..4_usize,
        length in prop_oneof![0..20_usize, Just(7), 42..60_usize, 105..130_usize, 165..185_usize, 250..260_usize, 400..410_usize],
        mut bytes in vec(prop_oneof![4 => 0..5_u8, 1 => any::<u8>()], 410),
    ) {
        bytes.truncate(length);
        let places = [0, 9, 1, 34];
        if let Some(first) = bytes.get_mut(places[at]) {
            *first = 2;
        }
        if let Some(first) = bytes.first_mut() {
            *first = kind;
        }
        if let Ok(packet) = Packet::decode(&bytes) {
            prop_assert_eq!(packet.body(), bytes);
        }
    }
}
