//! Payloads that describe themselves: a packet tells whose it is, which one it is, and whether it is whole.
//!
//! ```text
//! direction u8 | owner u32 | conn u32 | seq u32 | length u32 | fill, each byte a hash of all that and its place
//! ```
//! Integers are little-endian. A payload shorter than the header is the beginning of a header, and only its length can be checked.

/// The length of a whole header.
pub const HEADER_BYTES: usize = 17;

/// The direction of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From a client to the backend.
    Up,
    /// From the backend to a client.
    Down,
}

/// The label in a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// The direction.
    pub direction: Direction,
    /// The client that sent it or is meant to receive it.
    pub owner: u32,
    /// The sender's connection or link generation.
    pub conn: u32,
    /// Its number in the sender's sequence, from 0.
    pub seq: u32,
}

/// Why a payload is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// It is too short to carry a header: only its length can be checked.
    #[error("too short for a label")]
    Short,
    /// The stated length differs from the actual one.
    #[error("states {stated} bytes, has {actual}")]
    Length {
        /// The length stated by the sender.
        stated: u32,
        /// The length received.
        actual: usize,
    },
    /// A byte differs from the one that was sent.
    #[error("byte {0} was altered")]
    Altered(usize),
}

/// Creates the payload of `length` bytes for `label`.
#[must_use]
pub fn encode(label: Label, length: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(length.max(HEADER_BYTES));
    out.push(match label.direction {
        Direction::Up => b'u',
        Direction::Down => b'd',
    });
    for field in [label.owner, label.conn, label.seq, length as u32] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    for place in HEADER_BYTES..length {
        out.push(fill(label, place));
    }
    out.truncate(length);
    out
}

/// Decodes a payload and checks every byte of it.
///
/// # Errors
/// The first check that fails.
pub fn decode(data: &[u8]) -> Result<Label, PayloadError> {
    let header = data.get(..HEADER_BYTES).ok_or(PayloadError::Short)?;
    let field = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let direction = match header[0] {
        b'u' => Direction::Up,
        b'd' => Direction::Down,
        _ => return Err(PayloadError::Altered(0)),
    };
    let label = Label {
        direction,
        owner: field(1),
        conn: field(5),
        seq: field(9),
    };
    if field(13) as usize != data.len() {
        return Err(PayloadError::Length {
            stated: field(13),
            actual: data.len(),
        });
    }
    match (HEADER_BYTES..data.len()).find(|&place| data[place] != fill(label, place)) {
        Some(place) => Err(PayloadError::Altered(place)),
        None => Ok(label),
    }
}

fn fill(label: Label, place: usize) -> u8 {
    let mut h = u64::from(label.owner)
        ^ (u64::from(label.seq) << 32)
        ^ (u64::from(label.conn) << 16)
        ^ place as u64;
    h = h.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (h >> 56) as u8
}
