//! Packets that describe themselves.

use crate::bytes_of;

/// The length of the header: client, mark and number.
const HEADER_BYTES: usize = 16;

/// The description in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    /// The client that it is from or for.
    pub(super) client: u32,
    /// Up: the connection that it was sent on, counted from 0. Down: the number of the packet that it answers, or [`UNASKED`]. Either:
    /// [`LAST`].
    pub(super) mark: u32,
    /// Its number in its direction, counted from 0.
    pub(super) number: u64,
}

/// The mark of a packet down that is not an answer.
pub(super) const UNASKED: u32 = u32::MAX - 1;
/// The mark of the last packet in its direction.
pub(super) const LAST: u32 = u32::MAX;

impl Packet {
    /// Encodes the packet, followed by `more` bytes.
    pub(super) fn encode(&self, more: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + more);
        bytes.extend(self.client.to_le_bytes());
        bytes.extend(self.mark.to_le_bytes());
        bytes.extend(self.number.to_le_bytes());
        bytes.extend(bytes_of(self.seed(), more));
        bytes
    }

    /// Decodes a packet, unless it was altered.
    pub(super) fn decode(bytes: &[u8]) -> Option<Packet> {
        let (client, rest) = bytes.split_first_chunk()?;
        let (mark, rest) = rest.split_first_chunk()?;
        let (number, more) = rest.split_first_chunk()?;
        let packet = Packet {
            client: u32::from_le_bytes(*client),
            mark: u32::from_le_bytes(*mark),
            number: u64::from_le_bytes(*number),
        };
        (more == bytes_of(packet.seed(), more.len())).then_some(packet)
    }

    fn seed(&self) -> u64 {
        u64::from(self.client) << 40 ^ u64::from(self.mark) << 20 ^ self.number
    }
}
