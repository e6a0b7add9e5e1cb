//! The wire format with any bytes in any pieces: the same packets, no panic, no memory beyond the bytes received.

use proptest::collection::vec;
use proptest::prelude::*;
use voltlane_core::ClientId;
use voltlane_core::link::tagged::{Flag, Tagged};
use voltlane_core::v2::packets::Handshake;
use voltlane_core::wire::frame::{FrameReader, FrameTooLong, encode_frame};

const MAX_BODY: u32 = 300;
/// What a reader may own beyond the bytes received. (The documented bound, while inputs are this short.)
const CONSTANT_BYTES: usize = 64 * 1024;

/// The outcome of a stream: the bodies, then why reading ended early or how many bytes of a cut frame are left.
#[derive(Debug, Clone, PartialEq)]
struct Outcome {
    bodies: Vec<Vec<u8>>,
    end: Result<usize, FrameTooLong>,
}

/// The framing rule in its plainest form, on the whole stream at once.
fn reference(mut stream: &[u8]) -> Outcome {
    let mut bodies = Vec::new();
    let end = loop {
        if stream.len() < 4 {
            break Ok(stream.len());
        }
        let length = u32::from_le_bytes(stream[..4].try_into().expect("four bytes"));
        if length > MAX_BODY {
            break Err(FrameTooLong {
                length,
                max: MAX_BODY,
            });
        }
        let end = 4 + length as usize;
        if stream.len() < end {
            break Ok(stream.len());
        }
        bodies.push(stream[4..end].to_vec());
        stream = &stream[end..];
    };
    Outcome { bodies, end }
}

/// Reads the stream in these pieces, and checks at each call what the reader promises.
fn read_in_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut reader = FrameReader::default();
    let mut bodies = Vec::new();
    let (mut received, mut returned) = (0, 0);
    for piece in pieces {
        received += piece.len();
        let mut input = piece;
        loop {
            let peeked = reader.peek_frame(input, MAX_BODY);
            let read = reader
                .next_frame(&mut input, MAX_BODY)
                .map(|body| body.map(<[u8]>::to_vec));
            assert_eq!(
                peeked,
                read.as_ref()
                    .map(|body| body.as_ref().map(Vec::len))
                    .map_err(|error| *error)
            );
            assert!(reader.memory_bytes() <= received + CONSTANT_BYTES);
            match read {
                Ok(Some(body)) => {
                    returned += 4 + body.len();
                    bodies.push(body);
                }
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(
                        reader.next_frame(&mut input, MAX_BODY),
                        Err(error),
                        "it stays failed"
                    );
                    return Outcome {
                        bodies,
                        end: Err(error),
                    };
                }
            }
        }
        assert!(
            input.is_empty(),
            "without a whole frame the input is taken whole"
        );
        assert_eq!(reader.buffered_bytes(), received - returned);
        assert_eq!(reader.is_mid_frame(), reader.buffered_bytes() > 0);
        assert!(
            reader.is_mid_frame() || reader.memory_bytes() == 0,
            "an idle reader owns memory"
        );
    }
    Outcome {
        bodies,
        end: Ok(reader.buffered_bytes()),
    }
}

/// Bytes of which many begin a frame that is not too long.
fn any_stream() -> impl Strategy<Value = Vec<u8>> {
    let good = vec(any::<u8>(), 0..40).prop_map(|body| {
        let mut frame = Vec::new();
        encode_frame(&body, &mut frame);
        frame
    });
    let around_the_limit =
        (MAX_BODY - 2..MAX_BODY + 3).prop_map(|length| length.to_le_bytes().to_vec());
    let small = vec(0..3_u8, 0..12);
    let noise = vec(any::<u8>(), 0..12);
    let part = prop_oneof![6 => good, 1 => around_the_limit, 2 => small, 1 => noise];
    vec(part, 0..12).prop_map(|parts| parts.concat())
}

/// `stream` cut at the given points.
fn cut<'a>(stream: &'a [u8], points: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut points: Vec<usize> = points
        .iter()
        .map(|point| point.index(stream.len() + 1))
        .collect();
    points.extend([0, stream.len()]);
    points.sort_unstable();
    points
        .windows(2)
        .map(|ends| &stream[ends[0]..ends[1]])
        .collect()
}

fn any_handshake_body() -> impl Strategy<Value = Vec<u8>> {
    let integer = prop_oneof![
        any::<u8>().prop_map(|byte| vec![byte]),
        (251..=253_u8, any::<u64>(), 0..64_u32).prop_map(|(marker, value, shift)| {
            [
                &[marker],
                &(value >> shift).to_le_bytes()[..1 << (marker - 250)],
            ]
            .concat()
        }),
    ];
    let tail = vec(any::<u8>(), 0..4);
    let number = (1..6_u8, integer, tail)
        .prop_map(|(variant, integer, tail)| [vec![variant], integer, tail].concat());
    let string = (2..6_u8, vec(any::<u8>(), 0..80), 0..3_u8).prop_map(|(variant, bytes, off)| {
        let length = u8::try_from(bytes.len()).expect("under 80");
        [&[variant, length.saturating_sub(off)], bytes.as_slice()].concat()
    });
    prop_oneof![vec(any::<u8>(), 0..16), number, string]
}

fn any_flag() -> impl Strategy<Value = Flag> {
    prop_oneof![
        Just(Flag::Data),
        Just(Flag::Failure),
        Just(Flag::Kick),
        Just(Flag::Resumed)
    ]
}

proptest! {
    #[test]
    fn a_stream_means_the_same_in_any_pieces(
        stream in any_stream(),
        points in vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let expected = reference(&stream);
        prop_assert_eq!(&read_in_pieces([stream.as_slice()]), &expected, "whole");
        prop_assert_eq!(&read_in_pieces(stream.chunks(1)), &expected, "one byte for each read");
        prop_assert_eq!(&read_in_pieces(cut(&stream, &points)), &expected, "cut at {:?}", points);
        for at in 0..=stream.len() {
            let (before, after) = stream.split_at(at);
            prop_assert_eq!(&read_in_pieces([before, after]), &expected, "cut at {}", at);
        }
    }

    #[test]
    fn holding_input_back_changes_nothing(
        stream in any_stream(),
        points in vec(any::<prop::sample::Index>(), 0..20),
        rooms in vec(0..4_usize, 1..20),
    ) {
        // After each piece as many frames are read as there is room for. The rest waits in the reader.
        let mut reader = FrameReader::default();
        let mut bodies: Vec<Vec<u8>> = Vec::new();
        let mut rooms = rooms.into_iter().cycle();
        let mut failed = None;
        for piece in cut(&stream, &points) {
            let mut input = piece;
            for _ in 0..rooms.next().expect("endless") {
                match reader.next_frame(&mut input, MAX_BODY) {
                    Ok(Some(body)) => bodies.push(body.to_vec()),
                    Ok(None) => break,
                    Err(error) => failed = Some(error),
                }
            }
            reader.hold(input);
            prop_assert!(reader.memory_bytes() <= stream.len() + CONSTANT_BYTES);
        }
        while failed.is_none() {
            match reader.next_frame(&mut &[][..], MAX_BODY) {
                Ok(Some(body)) => bodies.push(body.to_vec()),
                Ok(None) => break,
                Err(error) => failed = Some(error),
            }
        }
        let end = failed.map_or(Ok(reader.buffered_bytes()), Err);
        prop_assert_eq!(Outcome { bodies, end }, reference(&stream));
    }

    #[test]
    fn frames_read_back_as_written(bodies in vec(vec(any::<u8>(), 0..=MAX_BODY as usize), 0..10)) {
        let mut stream = Vec::new();
        for body in &bodies {
            encode_frame(body, &mut stream);
        }
        prop_assert_eq!(read_in_pieces(stream.chunks(97)), Outcome { bodies, end: Ok(0) });
    }

    #[test]
    fn a_handshake_body_is_refused_or_the_one_encoding_of_its_packet(body in any_handshake_body()) {
        if let Ok(packet) = Handshake::decode(&body) {
            let (mut encoded, mut frame) = (Vec::new(), Vec::new());
            packet.encode(&mut encoded);
            encode_frame(&body, &mut frame);
            prop_assert_eq!(encoded, frame, "{:?}", packet);
        }
    }

    #[test]
    fn handshake_packets_read_back(version: u32, id: u64, shift in 0..64_u32, bytes in vec(any::<u8>(), 0..300)) {
        let packets = [
            Handshake::Ping,
            Handshake::ProtocolVersion(version >> (shift / 2)),
            Handshake::PubKey(&bytes),
            Handshake::ClientId(ClientId::from_u64(id >> shift)),
            Handshake::Challenge(&bytes),
            Handshake::ChallengeResponse(&bytes),
        ];
        for packet in packets {
            let mut frame = Vec::new();
            packet.encode(&mut frame);
            prop_assert_eq!(Handshake::decode(&frame[4..]), Ok(packet));
        }
    }

    #[test]
    fn tagged_packets_read_back(id: u64, flag in any_flag(), data in vec(any::<u8>(), 0..300)) {
        let packet = Tagged { id: ClientId::from_u64(id), flag, data: &data };
        let mut frame = Vec::new();
        packet.encode(&mut frame);
        prop_assert_eq!(frame.len(), packet.encoded_len());
        prop_assert_eq!(frame.capacity(), packet.encoded_len(), "one allocation");
        prop_assert_eq!(&frame[..4], (data.len() as u32 + 9).to_le_bytes());
        prop_assert_eq!(Tagged::decode(&frame[4..]), Ok(packet));
    }

    #[test]
    fn a_tagged_body_is_refused_or_the_one_encoding_of_its_packet(
        id in any::<[u8; 8]>(),
        flag in prop_oneof![0..6_u8, any::<u8>()],
        data in vec(any::<u8>(), 0..20),
        end in any::<prop::sample::Index>(),
    ) {
        let body = [id.as_slice(), &[flag], &data].concat();
        let body = &body[..end.index(body.len() + 1)];
        match Tagged::decode(body) {
            Ok(packet) => {
                let (mut encoded, mut frame) = (Vec::new(), Vec::new());
                packet.encode(&mut encoded);
                encode_frame(body, &mut frame);
                prop_assert_eq!(encoded, frame);
            }
            Err(_) => prop_assert!(body.len() < 9 || flag > 3),
        }
    }
}

/// Exhaustive, not sampled: no packet of up to three bytes has a second form.
#[test]
fn all_short_handshake_bodies_are_refused_or_canonical() {
    let mut accepted = 0;
    for length in 0..=3 {
        for number in 0..1_u32 << (8 * length) {
            let body = &number.to_le_bytes()[..length];
            if let Ok(packet) = Handshake::decode(body) {
                let mut frame = Vec::new();
                packet.encode(&mut frame);
                assert_eq!(&frame[4..], body, "{packet:?}");
                accepted += 1;
            }
        }
    }
    // Ping; 251 one-byte versions and ids; strings of no byte and of one byte, in three packets.
    assert_eq!(accepted, 1 + 2 * 251 + 3 * (1 + 256));
}
