//! Fields of a fixed size, little-endian, and the frames around them.

use crate::code::Code;
use crate::id::ClientId;
use crate::ledger::Ledger;
use crate::link::tagged::TAG_BYTES;
use crate::wire::frame::{LENGTH_BYTES, length_of};

use super::error::{Cause, FrameError};
use super::features::Features;
use super::flag;

/// The parts of a body: id, flag, fields.
pub(super) fn split(body: &[u8]) -> Result<(u64, u8, Fields<'_>), FrameError> {
    let Some((id, [flag, data @ ..])) = body.split_first_chunk::<8>() else {
        return Err(FrameError {
            id: 0,
            flag: 0,
            cause: Cause::Truncated,
        });
    };
    Ok((u64::from_le_bytes(*id), *flag, Fields(data)))
}

/// Returns the session and the packet if the body is one of DATA, as most are.
#[inline]
pub(super) fn packet_of(body: &[u8]) -> Option<(ClientId, &[u8])> {
    match body.split_first_chunk::<8>() {
        Some((id, [flag::DATA, packet @ ..])) => {
            Some((ClientId::from_u64(u64::from_le_bytes(*id)), packet))
        }
        _ => None,
    }
}

/// Decodes a body behind ASK and GRANT, whose fields `read` reads from its id and flag on.
///
/// # Errors
/// [`FrameError`]: the body is too short, its flag has no place here, or its fields are wrong.
pub(super) fn decode<'a, F>(
    body: &'a [u8],
    granted: Features,
    read: impl FnOnce(u64, u8, &mut Fields<'a>) -> Result<F, Cause>,
) -> Result<F, FrameError> {
    let (id, flag, mut fields) = split(body)?;
    let decoded = match flag {
        flag::ASK | flag::GRANT | flag::CHALLENGE | flag::PROOF => Err(Cause::NotFirst),
        flag => granted.check(flag).and_then(|()| {
            let frame = read(id, flag, &mut fields)?;
            fields.finish()?;
            Ok(frame)
        }),
    };
    decoded.map_err(|cause| FrameError { id, flag, cause })
}

/// Appends a frame whose data `write` appends.
///
/// # Panics
/// If the data is longer than a `u32` can express. Every bound is far below.
pub(super) fn frame(out: &mut Vec<u8>, id: u64, flag: u8, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    out.extend_from_slice(&id.to_le_bytes());
    out.push(flag);
    write(out);
    let body = out.len().saturating_sub(start).saturating_sub(LENGTH_BYTES);
    debug_assert!(body >= TAG_BYTES, "a body begins with its tag");
    let length = length_of(body).to_le_bytes();
    if let Some(place) = out.get_mut(start..).and_then(<[u8]>::first_chunk_mut) {
        *place = length;
    }
}

/// The fields of a frame that were not read yet.
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Cause> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Cause::Truncated)?;
        self.0 = rest;
        Ok(*array)
    }

    pub(super) fn slice(&mut self, length: usize) -> Result<&'a [u8], Cause> {
        let (slice, rest) = self.0.split_at_checked(length).ok_or(Cause::Truncated)?;
        self.0 = rest;
        Ok(slice)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Cause> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Cause> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Cause> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Cause> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn code(&mut self) -> Result<Code, Cause> {
        let number = self.u16()?;
        Code::from_u16(number).ok_or(Cause::Value {
            field: "code",
            value: number.into(),
        })
    }

    pub(super) fn ledger(&mut self) -> Result<Ledger, Cause> {
        let mut counts = [0; 7];
        for count in &mut counts {
            *count = self.u64()?;
        }
        Ok(Ledger::from_fields(counts))
    }

    /// Reads all that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.0)
    }

    /// Reads all that is left, which has at most `max` bytes.
    pub(super) fn bounded(&mut self, field: &'static str, max: usize) -> Result<&'a [u8], Cause> {
        let length = self.0.len();
        if length > max {
            return Err(Cause::Beyond { field, length, max });
        }
        Ok(self.rest())
    }

    /// Reads all that is left, which is a text.
    pub(super) fn text(&mut self, field: &'static str, max: usize) -> Result<&'a str, Cause> {
        let bytes = self.bounded(field, max)?;
        core::str::from_utf8(bytes).map_err(|_| Cause::NotUtf8 { field })
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks that nothing is left.
    pub(super) fn finish(&self) -> Result<(), Cause> {
        match self.0.len() {
            0 => Ok(()),
            length => Err(Cause::TrailingBytes { length }),
        }
    }
}
