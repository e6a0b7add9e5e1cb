//! Encodes frames.

use super::close::CloseCode;
use super::header::{self, FIN, LENGTH_16, LENGTH_64, MASKED, MAX_CONTROL_BYTES, Opcode};

/// The longest header that is written.
pub const MAX_HEADER_BYTES: usize = header::MAX_BYTES;

/// Appends a binary message of one frame, whose payload is `parts` one after the other. A client gives a `mask`
/// that nobody can predict, and a new one each time (RFC 6455 section 5.3).
pub fn encode_message(parts: &[&[u8]], mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    encode(Opcode::Binary, parts, mask, out);
}

/// Appends a PING.
///
/// # Panics
/// If the payload is longer than [`MAX_CONTROL_BYTES`].
pub fn encode_ping(payload: &[u8], mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    encode(Opcode::Ping, &[payload], mask, out);
}

/// Appends a PONG.
///
/// # Panics
/// If the payload is longer than [`MAX_CONTROL_BYTES`].
pub fn encode_pong(payload: &[u8], mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    encode(Opcode::Pong, &[payload], mask, out);
}

/// Appends a CLOSE without a reason.
pub fn encode_close(code: CloseCode, mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let code = (code as u16).to_be_bytes();
    encode(Opcode::Close, &[&code], mask, out);
}

fn encode(opcode: Opcode, parts: &[&[u8]], mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    assert!(
        !opcode.is_control() || length <= MAX_CONTROL_BYTES,
        "a control frame of {length} bytes"
    );
    out.push(FIN | opcode as u8);
    let masked = if mask.is_some() { MASKED } else { 0 };
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < LENGTH_16 => out.push(masked | short),
        (_, Ok(medium)) => {
            out.push(masked | LENGTH_16);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out.push(masked | LENGTH_64);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    if let Some(mask) = mask {
        out.extend_from_slice(&mask);
    }
    let begin = out.len();
    for part in parts {
        out.extend_from_slice(part);
    }
    if let Some(mask) = mask {
        header::apply(mask, &mut out[begin..]);
    }
}
