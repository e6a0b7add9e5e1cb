//! The packets of the backend link: `client id: u64` little-endian, `flag: u8`, data. (SPEC section 7.1)

use crate::ClientId;
use crate::wire::frame::{LENGTH_BYTES, length_of};

/// The length of the tag in a body: client id and flag.
pub const TAG_BYTES: usize = 9;
/// The length of a tagged frame in front of its data, which is what a packet costs on the link.
pub const HEADER_BYTES: usize = LENGTH_BYTES + TAG_BYTES;

const ID_BYTES: usize = 8;

/// The meaning of a tagged packet for its client. (SPEC section 7.2)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(clippy::exhaustive_enums, reason = "the wire format has no others")]
pub enum Flag {
    /// In both directions: a packet from or for the client, unchanged.
    Data = 0,
    /// Edge to backend: the session has ended. The data is the reason in UTF-8.
    Failure = 1,
    /// Backend to edge: kick this client. No data.
    Kick = 2,
    /// Edge to backend: the session was resumed. No data.
    Resumed = 3,
}

/// A tagged packet that borrows its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire format has no others")]
pub struct Tagged<'a> {
    /// The client.
    pub id: ClientId,
    /// The meaning.
    pub flag: Flag,
    /// The bytes after the flag. The reader must check whether the flag allows any.
    pub data: &'a [u8],
}

/// Why a body on the backend link is not a tagged packet. The frames after it are not affected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaggedError {
    /// The body is shorter than [`TAG_BYTES`].
    #[error("tagged packet of {length} bytes, at least {TAG_BYTES} needed")]
    TooShort {
        /// The length of the body in bytes.
        length: usize,
    },
    /// The flag does not exist in version 2.
    #[error("unknown flag {flag:#04x} for client {id}")]
    UnknownFlag {
        /// The client named.
        id: ClientId,
        /// The flag found.
        flag: u8,
    },
}

impl<'a> Tagged<'a> {
    /// Decodes the body of a frame.
    ///
    /// # Errors
    /// [`TaggedError::TooShort`] under nine bytes, [`TaggedError::UnknownFlag`] above flag 3.
    #[inline]
    pub fn decode(body: &'a [u8]) -> Result<Self, TaggedError> {
        let Some((id, [flag, data @ ..])) = body.split_first_chunk::<ID_BYTES>() else {
            return Err(TaggedError::TooShort { length: body.len() });
        };
        let id = ClientId::from_u64(u64::from_le_bytes(*id));
        let flag = match *flag {
            0 => Flag::Data,
            1 => Flag::Failure,
            2 => Flag::Kick,
            3 => Flag::Resumed,
            flag => return Err(TaggedError::UnknownFlag { id, flag }),
        };
        Ok(Self { id, flag, data })
    }

    /// Appends the whole frame, including its length, to `out`.
    ///
    /// # Panics
    /// If the data is longer than a `u32` can express. Every limit on sent data is far below.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(self.encoded_len());
        out.extend_from_slice(&self.header());
        out.extend_from_slice(self.data);
    }

    /// Returns everything of the frame but its data (length, id, flag), for callers that copy the data themselves.
    ///
    /// # Panics
    /// Like [`encode`](Self::encode).
    #[inline]
    #[must_use]
    pub fn header(&self) -> [u8; HEADER_BYTES] {
        Self::header_for(self.id, self.flag, self.data.len())
    }

    /// Like [`header`](Self::header), for data that has yet to be made.
    ///
    /// # Panics
    /// Like [`encode`](Self::encode).
    #[inline]
    pub(crate) fn header_for(id: ClientId, flag: Flag, data_bytes: usize) -> [u8; HEADER_BYTES] {
        let length = length_of(data_bytes.saturating_add(TAG_BYTES));
        let [l0, l1, l2, l3] = length.to_le_bytes();
        let [i0, i1, i2, i3, i4, i5, i6, i7] = id.as_u64().to_le_bytes();
        [l0, l1, l2, l3, i0, i1, i2, i3, i4, i5, i6, i7, flag as u8]
    }

    /// Returns the number of bytes that [`encode`](Self::encode) appends.
    #[inline]
    pub fn encoded_len(&self) -> usize {
        self.data.len().saturating_add(HEADER_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: ClientId = ClientId::from_u64(0x0807_0605_0403_0201);
    const BODY: [u8; 9] = [1, 2, 3, 4, 5, 6, 7, 8, 0];

    #[test]
    fn bodies_under_nine_bytes_are_too_short_and_nine_make_an_empty_packet() {
        for length in 0..TAG_BYTES {
            assert_eq!(
                Tagged::decode(&BODY[..length]),
                Err(TaggedError::TooShort { length })
            );
        }
        assert_eq!(
            Tagged::decode(&BODY),
            Ok(Tagged {
                id: ID,
                flag: Flag::Data,
                data: b""
            })
        );
    }

    #[test]
    fn four_flags_are_known() {
        let known = [Flag::Data, Flag::Failure, Flag::Kick, Flag::Resumed];
        for flag in 0..=u8::MAX {
            let mut body = BODY;
            body[8] = flag;
            let expected = match known.get(usize::from(flag)) {
                Some(&flag) => Ok(Tagged {
                    id: ID,
                    flag,
                    data: b"",
                }),
                None => Err(TaggedError::UnknownFlag { id: ID, flag }),
            };
            assert_eq!(Tagged::decode(&body), expected);
        }
    }

    #[test]
    fn encoding_appends_a_whole_frame() {
        let packet = Tagged {
            id: ID,
            flag: Flag::Failure,
            data: b"gone",
        };
        let mut out = b"before".to_vec();
        packet.encode(&mut out);
        assert_eq!(
            out,
            b"before\x0d\0\0\0\x01\x02\x03\x04\x05\x06\x07\x08\x01gone"
        );
        assert_eq!(packet.encoded_len(), out.len() - b"before".len());
    }
}
