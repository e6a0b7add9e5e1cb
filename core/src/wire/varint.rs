//! The fields of packets: integers in their shortest form, and byte strings. (SPEC 3.1, 3.2)
//!
//! Integers are varints: a byte under 251 is the value; 251, 252 and 253 announce a little-endian `u16`, `u32`, `u64`. A byte string is a
//! varint length and the bytes.

const U16_FOLLOWS: u8 = 251;
const U32_FOLLOWS: u8 = 252;
const U64_FOLLOWS: u8 = 253;

/// Why a handshake body is not the encoding of any packet. (SPEC 3.4)
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The body ends within a field, or before the variant number.
    #[error("handshake packet cut short")]
    Truncated,
    /// Bytes follow the last field.
    #[error("{length} bytes after the end of a handshake packet")]
    TrailingBytes {
        /// The number of extra bytes.
        length: usize,
    },
    /// The variant number is that of no packet of the version.
    #[error("unknown handshake packet {variant}")]
    UnknownVariant {
        /// The variant number.
        variant: u32,
    },
    /// An integer has a longer form than its value needs.
    #[error("integer {value} not in its shortest form")]
    NotShortest {
        /// The value.
        value: u64,
    },
    /// An integer exceeds its field.
    #[error("integer {value} above {max}")]
    IntegerTooLarge {
        /// The value.
        value: u64,
        /// The maximum of the field.
        max: u64,
    },
    /// The first byte of an integer has no meaning: 254 or 255.
    #[error("integer begins with the unused marker {marker}")]
    UnknownMarker {
        /// The byte.
        marker: u8,
    },
}

/// The fields of a body that were not read yet.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Creates a reader for the fields of `body`.
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Fields(body)
    }

    /// Checks that nothing follows the last field.
    pub(crate) fn finish(self) -> Result<(), HandshakeError> {
        match self.0.len() {
            0 => Ok(()),
            length => Err(HandshakeError::TrailingBytes { length }),
        }
    }

    /// Returns the bytes that were not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Reads all that is left.
    pub(crate) fn take_rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.0)
    }

    pub(crate) fn read_u32(&mut self) -> Result<u32, HandshakeError> {
        let value = self.read_u64()?;
        u32::try_from(value).map_err(|_| HandshakeError::IntegerTooLarge {
            value,
            max: u32::MAX.into(),
        })
    }

    pub(crate) fn read_u64(&mut self) -> Result<u64, HandshakeError> {
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

    pub(crate) fn read_bytes(&mut self) -> Result<&'a [u8], HandshakeError> {
        let length = self.read_u64()?;
        self.read_slice(length)
    }

    /// Reads `length` bytes.
    pub(crate) fn read_slice(&mut self, length: u64) -> Result<&'a [u8], HandshakeError> {
        let (bytes, rest) = usize::try_from(length)
            .ok()
            .and_then(|length| self.0.split_at_checked(length))
            .ok_or(HandshakeError::Truncated)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(crate) fn read_array<const N: usize>(&mut self) -> Result<[u8; N], HandshakeError> {
        let (array, rest) = self
            .0
            .split_first_chunk()
            .ok_or(HandshakeError::Truncated)?;
        self.0 = rest;
        Ok(*array)
    }
}

/// Writes the shortest form of `value`.
pub(crate) fn write_integer(value: u64, out: &mut Vec<u8>) {
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
