//! Fuzzes the wire format.

use voltlane_core::link::tagged::{TAG_BYTES, Tagged, TaggedError};
use voltlane_core::v2::packets::Handshake;
use voltlane_core::wire::frame::{FrameReader, encode_frame};

use crate::bytes::{Bytes, in_pieces};

/// The first two bytes choose the limit and the cuts, the rest is the stream.
///
/// For every way to cut it, the frames equal those of the plainest possible reader, a frame above the limit is an error, and memory is
/// bounded by what arrived.
pub fn frame_reader(input: &[u8]) {
    let mut input = Bytes::new(input);
    let max_body = input.one_of(&[0, 1, 5, 16, 127, 128, 129, 4096, u32::MAX]);
    let cuts = input.byte();
    let stream = input.rest();
    let (expected, ends_well, unfinished) = plainly(stream, max_body);

    let (mut reader, mut frames, mut failed) = (FrameReader::default(), Vec::new(), false);
    in_pieces(stream, cuts, |mut piece| {
        let came = piece.len() + reader.buffered_bytes();
        while !failed {
            let peeked = reader.peek_frame(piece, max_body);
            match reader.next_frame(&mut piece, max_body) {
                Ok(Some(body)) => {
                    assert_eq!(peeked, Ok(Some(body.len())));
                    frames.push(body.to_vec());
                }
                Ok(None) => {
                    assert_eq!(peeked, Ok(None));
                    assert!(piece.is_empty(), "it asks for more with bytes left");
                    break;
                }
                Err(error) => {
                    assert_eq!(peeked, Err(error));
                    assert!(error.length > max_body);
                    failed = true;
                }
            }
        }
        assert!(reader.buffered_bytes() <= came);
        assert!(
            reader.memory_bytes() <= 2 * came + 64 * 1024,
            "memory is bounded by what arrived"
        );
    });
    assert_eq!(frames, expected);
    assert_eq!(failed, !ends_well);
    if !failed {
        assert_eq!(reader.buffered_bytes(), unfinished);
        assert_eq!(reader.is_mid_frame(), unfinished > 0);
    }
}

/// Returns the frames of a stream, whether all of them are within the limit, and the length of an unfinished frame at the end.
fn plainly(mut stream: &[u8], max_body: u32) -> (Vec<Vec<u8>>, bool, usize) {
    let mut frames = Vec::new();
    while let Some((length, rest)) = stream.split_first_chunk() {
        let length = u32::from_le_bytes(*length);
        if length > max_body {
            return (frames, false, 0);
        }
        let Some((body, rest)) = rest.split_at_checked(length as usize) else {
            break;
        };
        frames.push(body.to_vec());
        stream = rest;
    }
    (frames, true, stream.len())
}

/// A body that decodes is the only encoding of its packet.
pub fn handshake_packet(body: &[u8]) {
    if let Ok(packet) = Handshake::decode(body) {
        let (mut encoded, mut expected) = (Vec::new(), Vec::new());
        packet.encode(&mut encoded);
        encode_frame(body, &mut expected);
        assert_eq!(encoded, expected, "{}", packet.name());
    }
}

/// A tagged body that decodes is the only encoding of its packet, and one that does not gives the right reason.
pub fn tagged_packet(body: &[u8]) {
    match Tagged::decode(body) {
        Ok(packet) => {
            let (mut encoded, mut expected) = (Vec::new(), Vec::new());
            packet.encode(&mut encoded);
            encode_frame(body, &mut expected);
            assert_eq!(encoded, expected);
            assert_eq!(encoded.len(), packet.encoded_len());
            assert_eq!(
                encoded.strip_suffix(packet.data),
                Some(&packet.header()[..])
            );
        }
        Err(TaggedError::TooShort { length }) => {
            assert!(length == body.len() && length < TAG_BYTES)
        }
        Err(TaggedError::UnknownFlag { id, flag }) => {
            assert!(flag > 3 && body[8] == flag);
            assert_eq!(body[..8], id.as_u64().to_le_bytes());
        }
        Err(other) => panic!("the target knows no {other:?}"),
    }
}
