//! The handshake packets of the client link. (SPEC section 3)
//!
//! A body is a variant number and its fields. Integers are varints: a byte under 251 is the value, 251, 252 and 253
//! announce a little-endian `u16`, `u32`, `u64`. A byte string is a varint length and the bytes. Decoding is strict:
//! one byte sequence for each packet, so that nothing can hide in a second form of it.

use crate::ClientId;
use crate::wire::frame::{LENGTH_BYTES, length_of};

/// The version that this crate speaks, the only one.
pub const PROTOCOL_VERSION: u32 = 2;

const U16_FOLLOWS: u8 = 251;
const U32_FOLLOWS: u8 = 252;
const U64_FOLLOWS: u8 = 253;
/// What a packet is, besides a byte string: its length, its variant, the longest integer.
const FIXED_MAX_BYTES: usize = LENGTH_BYTES + 1 + 1 + size_of::<u64>();

/// One packet of the handshake, borrowing its byte strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake<'a> {
    /// Both ways, closing a reconnect: data follows.
    Ping,
    /// The first packet of a client: the version it speaks.
    ProtocolVersion(u32),
    /// Both ways: a SEC1 point on secp256k1, not looked at here. See [`PublicKey`](crate::keys::PublicKey).
    PubKey(&'a [u8]),
    /// Edge: your id. Client: the id I had.
    ClientId(ClientId),
    /// Edge: prove that the id is yours by sealing what this holds anew.
    Challenge(&'a [u8]),
    /// Client: the answer.
    ChallengeResponse(&'a [u8]),
}

/// A handshake body that is not the encoding of any packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// It ends within a field, or before the variant number.
    #[error("handshake packet cut short")]
    Truncated,
    /// Bytes follow the last field.
    #[error("{length} bytes after the end of a handshake packet")]
    TrailingBytes {
        /// How many.
        length: usize,
    },
    /// A variant number that version 2 does not have.
    #[error("unknown handshake packet {variant}")]
    UnknownVariant {
        /// The number found.
        variant: u32,
    },
    /// An integer in a longer form than its value needs.
    #[error("integer {value} not in its shortest form")]
    NotShortest {
        /// The value.
        value: u64,
    },
    /// An integer above what its field can hold.
    #[error("integer {value} above {max}")]
    IntegerTooLarge {
        /// The value.
        value: u64,
        /// The most that fits.
        max: u64,
    },
    /// A first byte of an integer that has no meaning: 254 or 255.
    #[error("integer begins with the unused marker {marker}")]
    UnknownMarker {
        /// The byte.
        marker: u8,
    },
}

impl<'a> Handshake<'a> {
    /// Reads the body of a frame.
    ///
    /// # Errors
    /// [`HandshakeError`] for whatever [`encode`](Self::encode) would not have written.
    pub fn decode(body: &'a [u8]) -> Result<Self, HandshakeError> {
        let mut fields = Fields(body);
        let packet = match fields.read_u32()? {
            0 => Self::Ping,
            1 => Self::ProtocolVersion(fields.read_u32()?),
            2 => Self::PubKey(fields.read_bytes()?),
            3 => Self::ClientId(ClientId::from_u64(fields.read_u64()?)),
            4 => Self::Challenge(fields.read_bytes()?),
            5 => Self::ChallengeResponse(fields.read_bytes()?),
            variant => return Err(HandshakeError::UnknownVariant { variant }),
        };
        match fields.0.len() {
            0 => Ok(packet),
            length => Err(HandshakeError::TrailingBytes { length }),
        }
    }

    /// Appends the whole frame, length included, to `out`.
    ///
    /// # Panics
    /// If a byte string is longer than a `u32` can say.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        // Once for all parts: each of them would otherwise grow a vector that begins empty.
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

    /// The packet's name as SPEC has it, for logs.
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

    /// Its byte string, if it has one.
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

/// What is left of a body to read.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn read_u32(&mut self) -> Result<u32, HandshakeError> {
        let value = self.read_u64()?;
        u32::try_from(value).map_err(|_| HandshakeError::IntegerTooLarge {
            value,
            max: u32::MAX.into(),
        })
    }

    fn read_u64(&mut self) -> Result<u64, HandshakeError> {
        let [marker] = self.read_array()?;
        let (value, shortest_from) = match marker {
            U16_FOLLOWS => (
                u16::from_le_bytes(self.read_array()?).into(),
                U16_FOLLOWS.into(),
            ),
            U32_FOLLOWS => (u32::from_le_bytes(self.read_array()?).into(), 1 << 16),
            U64_FOLLOWS => (u64::from_le_bytes(self.read_array()?), 1 << 32),
            marker @ 254.. => return Err(HandshakeError::UnknownMarker { marker }),
            value => (value.into(), 0),
        };
        if value < shortest_from {
            return Err(HandshakeError::NotShortest { value });
        }
        Ok(value)
    }

    fn read_bytes(&mut self) -> Result<&'a [u8], HandshakeError> {
        let length = self.read_u64()?;
        let (bytes, rest) = usize::try_from(length)
            .ok()
            .and_then(|length| self.0.split_at_checked(length))
            .ok_or(HandshakeError::Truncated)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn read_array<const N: usize>(&mut self) -> Result<[u8; N], HandshakeError> {
        let (array, rest) = self
            .0
            .split_first_chunk()
            .ok_or(HandshakeError::Truncated)?;
        self.0 = rest;
        Ok(*array)
    }
}

/// Writes the shortest form of `value`.
fn write_integer(value: u64, out: &mut Vec<u8>) {
    if let Ok(value) = u8::try_from(value)
        && value < U16_FOLLOWS
    {
        out.push(value);
    } else if let Ok(value) = u16::try_from(value) {
        out.push(U16_FOLLOWS);
        out.extend_from_slice(&value.to_le_bytes());
    } else if let Ok(value) = u32::try_from(value) {
        out.push(U32_FOLLOWS);
        out.extend_from_slice(&value.to_le_bytes());
    } else {
        out.push(U64_FOLLOWS);
        out.extend_from_slice(&value.to_le_bytes());
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
