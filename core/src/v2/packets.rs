//! The handshake packets of the client link. (SPEC 3.3)
//!
//! A body is a variant number and its fields. Integers are varints: a byte under 251 is the value; 251, 252 and 253 announce a
//! little-endian `u16`, `u32`, `u64`. A byte string is a varint length and the bytes. Decoding is strict: each packet has exactly one
//! encoding, so nothing can be hidden in a second one.

use crate::ClientId;
use crate::wire::frame::{LENGTH_BYTES, length_of};
use crate::wire::varint::{Fields, write_integer};

pub use crate::wire::varint::HandshakeError;

/// The maximum body length of a packet in an opening. The longest meaningful ones are a PubKey of 65 bytes and a response of 72, each after
/// two bytes.
pub const MAX_BODY_BYTES: u32 = 128;

/// The length of a packet without its byte string: length, variant, and the longest integer.
pub(super) const FIXED_MAX_BYTES: usize = LENGTH_BYTES + 1 + 1 + size_of::<u64>();

/// A handshake packet that borrows its byte strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the wire format has no others")]
pub enum Handshake<'a> {
    /// In both directions: completes a reconnect; data follows.
    Ping,
    /// The first packet of a client: the version that it speaks.
    ProtocolVersion(u32),
    /// In both directions: a SEC1 point on secp256k1, not checked here. See [`PublicKey`](crate::keys::PublicKey).
    PubKey(&'a [u8]),
    /// From the edge: the client's new id. From the client: the id that it claims.
    ClientId(ClientId),
    /// From the edge: a sealed value that the client must open and seal again to prove its id.
    Challenge(&'a [u8]),
    /// From the client: the response.
    ChallengeResponse(&'a [u8]),
}

impl<'a> Handshake<'a> {
    /// Decodes the body of a frame.
    ///
    /// # Errors
    /// [`HandshakeError`] for anything that [`encode`](Self::encode) would not have written.
    pub fn decode(body: &'a [u8]) -> Result<Self, HandshakeError> {
        let mut fields = Fields::new(body);
        let packet = match fields.read_u32()? {
            0 => Self::Ping,
            1 => Self::ProtocolVersion(fields.read_u32()?),
            2 => Self::PubKey(fields.read_bytes()?),
            3 => Self::ClientId(ClientId::from_u64(fields.read_u64()?)),
            4 => Self::Challenge(fields.read_bytes()?),
            5 => Self::ChallengeResponse(fields.read_bytes()?),
            variant => return Err(HandshakeError::UnknownVariant { variant }),
        };
        fields.finish()?;
        Ok(packet)
    }

    /// Appends the whole frame, including its length, to `out`.
    ///
    /// # Panics
    /// If a byte string is longer than a `u32` can express.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        // Reserves once for all parts: each of them would otherwise grow a vector that begins empty.
        out.reserve(self.bytes().len().saturating_add(FIXED_MAX_BYTES));
        out.extend_from_slice(&[0; LENGTH_BYTES]);
        out.push(self.variant());
        match *self {
            Self::Ping => {}
            Self::ProtocolVersion(version) => write_integer(version.into(), out),
            Self::ClientId(id) => write_integer(id.as_u64(), out),
            Self::PubKey(bytes) | Self::Challenge(bytes) | Self::ChallengeResponse(bytes) => {
                write_integer(bytes.len() as u64, out);
                out.extend_from_slice(bytes);
            }
        }
        let (length, body) = out
            .get_mut(start..)
            .and_then(<[u8]>::split_first_chunk_mut::<LENGTH_BYTES>)
            .expect("the four bytes were appended above");
        *length = length_of(body.len()).to_le_bytes();
    }

    /// Returns the packet's name in SPEC.txt, for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ping => "Ping",
            Self::ProtocolVersion(_) => "ProtocolVersion",
            Self::PubKey(_) => "PubKey",
            Self::ClientId(_) => "ClientId",
            Self::Challenge(_) => "Challenge",
            Self::ChallengeResponse(_) => "ChallengeResponse",
        }
    }

    /// Returns its byte string, if it has one.
    fn bytes(&self) -> &'a [u8] {
        match *self {
            Self::PubKey(bytes) | Self::Challenge(bytes) | Self::ChallengeResponse(bytes) => bytes,
            Self::Ping | Self::ProtocolVersion(_) | Self::ClientId(_) => &[],
        }
    }

    fn variant(&self) -> u8 {
        match self {
            Self::Ping => 0,
            Self::ProtocolVersion(_) => 1,
            Self::PubKey(_) => 2,
            Self::ClientId(_) => 3,
            Self::Challenge(_) => 4,
            Self::ChallengeResponse(_) => 5,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body_of(packet: &Handshake<'_>) -> Vec<u8> {
        let mut frame = b"before".to_vec();
        packet.encode(&mut frame);
        let body = frame.split_off(b"before".len() + LENGTH_BYTES);
        let length = u32::try_from(body.len()).unwrap().to_le_bytes();
        assert_eq!(frame, [b"before".as_slice(), &length].concat());
        body
    }

    /// One of each, with the integers at the edges of their forms and byte strings of a one and a three byte length.
    fn samples(bytes: &[u8]) -> Vec<Handshake<'_>> {
        let mut samples = vec![Handshake::Ping];
        for length in [0, 1, 33, 250, 251, 300] {
            let bytes = &bytes[..length];
            samples.extend([
                Handshake::PubKey(bytes),
                Handshake::Challenge(bytes),
                Handshake::ChallengeResponse(bytes),
            ]);
        }
        for number in [
            0,
            1,
            250,
            251,
            255,
            0xffff,
            0x1_0000,
            0xffff_ffff,
            0x1_0000_0000,
            u64::MAX,
        ] {
            samples.push(Handshake::ClientId(ClientId::from_u64(number)));
            samples.extend(u32::try_from(number).map(Handshake::ProtocolVersion));
        }
        samples
    }

    #[test]
    fn every_packet_reads_back() {
        for packet in samples(&[9; 300]) {
            assert_eq!(Handshake::decode(&body_of(&packet)), Ok(packet));
        }
    }

    #[test]
    fn a_packet_cut_anywhere_is_truncated() {
        for packet in samples(&[9; 300]) {
            let body = body_of(&packet);
            for end in 0..body.len() {
                assert_eq!(
                    Handshake::decode(&body[..end]),
                    Err(HandshakeError::Truncated),
                    "{packet:?} {end}"
                );
            }
        }
    }

    #[test]
    fn bytes_after_the_last_field_are_refused() {
        for packet in samples(&[9; 300]) {
            for length in [1, 2, 100] {
                let body = [body_of(&packet), vec![0; length]].concat();
                assert_eq!(
                    Handshake::decode(&body),
                    Err(HandshakeError::TrailingBytes { length }),
                    "{packet:?}"
                );
            }
        }
    }

    #[test]
    fn integers_in_a_longer_form_are_refused() {
        let not_shortest = |value| Err(HandshakeError::NotShortest { value });
        for (value, marker) in [
            (0_u64, 251),
            (250, 251),
            (0, 252),
            (0xffff, 252),
            (0, 253),
            (0xffff_ffff, 253),
        ] {
            let width = 1 << (marker - 250);
            let integer = [&[marker], &value.to_le_bytes()[..width]].concat();
            for variant in [1, 2, 3, 4, 5] {
                let body = [&[variant], integer.as_slice()].concat();
                assert_eq!(Handshake::decode(&body), not_shortest(value), "{body:?}");
            }
            assert_eq!(
                Handshake::decode(&integer),
                not_shortest(value),
                "as the variant number"
            );
        }
    }

    #[test]
    fn integers_above_their_field_are_refused() {
        let beyond = 1_u64 << 32;
        let error = Err(HandshakeError::IntegerTooLarge {
            value: beyond,
            max: u32::MAX.into(),
        });
        let integer = [&[253], beyond.to_le_bytes().as_slice()].concat();
        assert_eq!(
            Handshake::decode(&[&[1], integer.as_slice()].concat()),
            error
        );
        assert_eq!(Handshake::decode(&integer), error, "as the variant number");
    }

    #[test]
    fn a_byte_string_longer_than_its_body_is_truncated() {
        for integer in [
            [&[253], u64::MAX.to_le_bytes().as_slice()].concat(),
            vec![251, 0, 2],
            vec![4],
        ] {
            for variant in [2, 4, 5] {
                let body = [&[variant], integer.as_slice(), &[1, 2, 3]].concat();
                assert_eq!(
                    Handshake::decode(&body),
                    Err(HandshakeError::Truncated),
                    "{body:?}"
                );
            }
        }
    }

    #[test]
    fn unused_markers_are_refused() {
        for marker in [254, 255] {
            let error = Err(HandshakeError::UnknownMarker { marker });
            assert_eq!(Handshake::decode(&[marker]), error);
            for variant in 1..=5 {
                assert_eq!(
                    Handshake::decode(&[&[variant, marker], [0; 16].as_slice()].concat()),
                    error
                );
            }
        }
    }

    #[test]
    fn unknown_variants_are_refused() {
        for variant in 6..=250 {
            let error = Err(HandshakeError::UnknownVariant {
                variant: variant.into(),
            });
            assert_eq!(Handshake::decode(&[variant]), error);
        }
        assert_eq!(
            Handshake::decode(&[251, 251, 0]),
            Err(HandshakeError::UnknownVariant { variant: 251 })
        );
        let largest = [&[252], u32::MAX.to_le_bytes().as_slice()].concat();
        assert_eq!(
            Handshake::decode(&largest),
            Err(HandshakeError::UnknownVariant { variant: u32::MAX })
        );
    }
}
