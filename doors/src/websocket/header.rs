//! The header of a frame (RFC 6455 section 5.2).

use super::decoder::Violation;

/// The maximum payload of a control frame (RFC 6455 section 5.5).
pub const MAX_CONTROL_BYTES: usize = 125;

/// The longest header: two bytes, a length of eight, and a mask.
pub(super) const MAX_BYTES: usize = 14;

pub(super) const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
pub(super) const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;
/// The length is in the next two bytes.
pub(super) const LENGTH_16: u8 = 126;
/// The length is in the next eight bytes.
pub(super) const LENGTH_64: u8 = 127;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Opcode {
    Continuation = 0,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    pub(super) fn is_control(self) -> bool {
        self as u8 >= Opcode::Close as u8
    }
}

/// A whole header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) is_final: bool,
    pub(super) length: u64,
    pub(super) mask: Option<[u8; 4]>,
}

/// Returns the length of the header whose second byte is `second`.
pub(super) fn length_of(second: u8) -> usize {
    let length = match second & LENGTH {
        LENGTH_16 => 2,
        LENGTH_64 => 8,
        _ => 0,
    };
    let mask = if second & MASKED == 0 { 0 } else { 4 };
    2 + length + mask
}

/// Checks the first byte, before any other has come.
pub(super) fn check_first(first: u8) -> Result<Opcode, Violation> {
    if first & RESERVED != 0 {
        return Err(Violation::ReservedBit);
    }
    let opcode = match first & OPCODE {
        0 => Opcode::Continuation,
        1 => return Err(Violation::Text),
        2 => Opcode::Binary,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        10 => Opcode::Pong,
        other => return Err(Violation::UnknownOpcode(other)),
    };
    if opcode.is_control() && first & FIN == 0 {
        return Err(Violation::FragmentedControl);
    }
    Ok(opcode)
}

/// Checks the second byte behind one that was valid.
pub(super) fn check_second(opcode: Opcode, second: u8) -> Result<(), Violation> {
    if opcode.is_control() && usize::from(second & LENGTH) > MAX_CONTROL_BYTES {
        return Err(Violation::LongControl);
    }
    Ok(())
}

/// Reads a header, which is as long as [`length_of`] says and whose first two bytes were checked.
pub(super) fn read(bytes: &[u8]) -> Result<Header, Violation> {
    let (length, at) = match bytes[1] & LENGTH {
        LENGTH_16 => {
            let length = u16::from_be_bytes([bytes[2], bytes[3]]).into();
            if length < u64::from(LENGTH_16) {
                return Err(Violation::LongLength);
            }
            (length, 4)
        }
        LENGTH_64 => {
            let mut length = [0; 8];
            length.copy_from_slice(&bytes[2..10]);
            let length = u64::from_be_bytes(length);
            if length <= u16::MAX.into() {
                return Err(Violation::LongLength);
            }
            if length > i64::MAX as u64 {
                return Err(Violation::HugeLength);
            }
            (length, 10)
        }
        short => (short.into(), 2),
    };
    let mask = bytes.get(at..at + 4);
    let mask = mask.map(|mask| [mask[0], mask[1], mask[2], mask[3]]);
    Ok(Header {
        is_final: bytes[0] & FIN != 0,
        length,
        mask,
    })
}

/// Masks or unmasks `bytes`. `mask` begins with the byte for the first of them.
pub(super) fn apply(mask: [u8; 4], bytes: &mut [u8]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (chunks, rest) = bytes.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// Returns the mask for what follows after `passed` bytes.
pub(super) fn turned(mut mask: [u8; 4], passed: usize) -> [u8; 4] {
    mask.rotate_left(passed % 4);
    mask
}
