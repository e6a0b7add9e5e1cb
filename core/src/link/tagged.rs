//! The packets of the backend link: `client id: u64` little-endian, `flag: u8`, data. (SPEC section 7.1)

use crate::ClientId;
use crate::wire::frame::{LENGTH_BYTES, length_of};

/// Bytes of a tagged body before its data: the client id and the flag.
pub const TAG_BYTES: usize = 9;
/// Bytes of a tagged packet's frame before its data: what a packet costs on the link.
pub const HEADER_BYTES: usize = LENGTH_BYTES + TAG_BYTES;

const ID_BYTES: usize = 8;

/// What a tagged packet says about its client. (SPEC section 7.2)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Flag {
    /// Both ways: a packet of the client or for it, unchanged.
    Data = 0,
    /// Edge to backend: the client is gone for good. The data is the reason in UTF-8.
    Failure = 1,
    /// Backend to edge: end this client now. No data.
    Kick = 2,
    /// Edge to backend: the client is back after a reconnect. No data.
    Resumed = 3,
}

/// One tagged packet, borrowing its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tagged<'a> {
    /// The client it is about.
    pub id: ClientId,
    /// What it says.
    pub flag: Flag,
    /// The bytes after the flag. Whether the flag allows any is for the reader to judge.
    pub data: &'a [u8],
}

/// A body on the backend link that is no tagged packet. The frames after it are still good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TaggedError {
    /// Shorter than [`TAG_BYTES`].
    #[error("tagged packet of {length} bytes, at least {TAG_BYTES} needed")]
    TooShort {
        /// Bytes of the body.
        length: usize,
    },
    /// A flag that version 2 does not have.
    #[error("unknown flag {flag:#04x} for client {id}")]
    UnknownFlag {
        /// The client named.
        id: ClientId,
        /// The flag found.
        flag: u8,
    },
}

impl<'a> Tagged<'a> {
    /// Reads the body of a frame.
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

    /// Appends the whole frame, length included, to `out`.
    ///
    /// # Panics
    /// If the data is longer than a `u32` can say; every limit on what is sent is far below.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(self.encoded_len());
        out.extend_from_slice(&self.header());
        out.extend_from_slice(self.data);
    }

    /// All of the frame but its data: length, id, flag. For those who copy the data to its place themselves.
    ///
    /// # Panics
    /// Like [`encode`](Self::encode).
    #[inline]
    #[must_use]
    pub fn header(&self) -> [u8; HEADER_BYTES] {
        let length = length_of(self.data.len().saturating_add(TAG_BYTES));
        let [l0, l1, l2, l3] = length.to_le_bytes();
        let [i0, i1, i2, i3, i4, i5, i6, i7] = self.id.as_u64().to_le_bytes();
        [
            l0,
            l1,
            l2,
            l3,
            i0,
            i1,
            i2,
            i3,
            i4,
            i5,
            i6,
            i7,
            self.flag as u8,
        ]
    }

    /// Bytes that [`encode`](Self::encode) appends.
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
