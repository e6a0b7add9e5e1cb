//! The simulator's own codec, written from SPEC.txt without sharing code with the core.
//!
//! It favours being obviously right over being fast: whole frames are copied out of a plain buffer.

/// Bytes of the length in front of a body.
pub const LENGTH_BYTES: usize = 4;
/// Bytes of a tag: client id and flag.
pub const TAG_BYTES: usize = 9;

/// A frame announces a body above the limit. Nothing after it can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {length} bytes, the bound is {max}")]
pub struct TooLong {
    /// What the frame announces.
    pub length: u32,
    /// The limit that it exceeds.
    pub max: u32,
}

/// Cuts a byte stream into frames.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    buffer: Vec<u8>,
    start: usize,
}

impl Frames {
    /// Appends bytes that arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the body of the next whole frame.
    ///
    /// # Errors
    /// [`TooLong`] as soon as a length above `max` has arrived, before its body.
    pub fn next_body(&mut self, max: u32) -> Result<Option<Vec<u8>>, TooLong> {
        let rest = &self.buffer[self.start..];
        let Some(length) = rest
            .first_chunk::<LENGTH_BYTES>()
            .map(|bytes| u32::from_le_bytes(*bytes))
        else {
            return Ok(None);
        };
        if length > max {
            return Err(TooLong { length, max });
        }
        let end = LENGTH_BYTES + length as usize;
        if rest.len() < end {
            return Ok(None);
        }
        let body = rest[LENGTH_BYTES..end].to_vec();
        self.start += end;
        if self.start > 4096 && self.start * 2 > self.buffer.len() {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        Ok(Some(body))
    }

    /// Skips the first `count` bytes held, which belong to no frame.
    pub fn skip(&mut self, count: usize) {
        self.start += count.min(self.held());
    }

    /// Returns the bytes that belong to no whole frame yet.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Returns the number of bytes that belong to no whole frame yet.
    #[must_use]
    pub fn held(&self) -> usize {
        self.buffer.len() - self.start
    }
}

/// Returns a frame around `body`.
#[must_use]
pub fn frame(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(LENGTH_BYTES + body.len());
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(body);
    out
}

/// A packet of the client link's handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// Variant 0.
    Ping,
    /// Variant 1.
    Version(u32),
    /// Variant 2.
    PublicKey(Vec<u8>),
    /// Variant 3.
    Id(u64),
    /// Variant 4.
    Challenge(Vec<u8>),
    /// Variant 5.
    Response(Vec<u8>),
}

impl Hello {
    /// Encodes the packet as a whole frame.
    #[must_use]
    pub fn to_frame(&self) -> Vec<u8> {
        let mut body = Vec::new();
        let (variant, integer, bytes) = match self {
            Hello::Ping => (0, None, None),
            Hello::Version(version) => (1, Some(u64::from(*version)), None),
            Hello::PublicKey(bytes) => (2, None, Some(bytes)),
            Hello::Id(id) => (3, Some(*id), None),
            Hello::Challenge(bytes) => (4, None, Some(bytes)),
            Hello::Response(bytes) => (5, None, Some(bytes)),
        };
        body.push(variant);
        if let Some(integer) = integer {
            put_varint(integer, &mut body);
        }
        if let Some(bytes) = bytes {
            put_varint(bytes.len() as u64, &mut body);
            body.extend_from_slice(bytes);
        }
        frame(&body)
    }

    /// Decodes a handshake body. Only the exact, shortest form is accepted.
    #[must_use]
    pub fn read(body: &[u8]) -> Option<Hello> {
        let mut rest = body;
        let variant = take_varint(&mut rest)?;
        let hello = match variant {
            0 => Hello::Ping,
            1 => Hello::Version(u32::try_from(take_varint(&mut rest)?).ok()?),
            2 => Hello::PublicKey(take_bytes(&mut rest)?),
            3 => Hello::Id(take_varint(&mut rest)?),
            4 => Hello::Challenge(take_bytes(&mut rest)?),
            5 => Hello::Response(take_bytes(&mut rest)?),
            _ => return None,
        };
        rest.is_empty().then_some(hello)
    }
}

/// A packet of the backend link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tagged<'a> {
    /// The client it is about.
    pub id: u64,
    /// Its flag.
    pub flag: u8,
    /// Its data.
    pub data: &'a [u8],
}

/// Application data.
pub const DATA: u8 = 0;
/// The session has ended.
pub const FAILURE: u8 = 1;
/// Kick this client.
pub const KICK: u8 = 2;
/// The session was resumed.
pub const RESUMED: u8 = 3;

impl<'a> Tagged<'a> {
    /// Decodes a body, or returns `None` if it is too short.
    #[must_use]
    pub fn read(body: &'a [u8]) -> Option<Tagged<'a>> {
        let id = u64::from_le_bytes(*body.first_chunk()?);
        Some(Tagged {
            id,
            flag: *body.get(8)?,
            data: &body[TAG_BYTES..],
        })
    }

    /// Encodes the packet as a whole frame.
    #[must_use]
    pub fn to_frame(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(TAG_BYTES + self.data.len());
        body.extend_from_slice(&self.id.to_le_bytes());
        body.push(self.flag);
        body.extend_from_slice(self.data);
        frame(&body)
    }
}

fn put_varint(value: u64, out: &mut Vec<u8>) {
    let bytes = value.to_le_bytes();
    match value {
        0..=250 => out.push(bytes[0]),
        251..=0xffff => {
            out.push(251);
            out.extend_from_slice(&bytes[..2]);
        }
        0x1_0000..=0xffff_ffff => {
            out.push(252);
            out.extend_from_slice(&bytes[..4]);
        }
        _ => {
            out.push(253);
            out.extend_from_slice(&bytes);
        }
    }
}

pub(crate) fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let (&marker, after) = rest.split_first()?;
    let (width, least) = match marker {
        0..=250 => {
            *rest = after;
            return Some(u64::from(marker));
        }
        251 => (2, 251),
        252 => (4, 0x1_0000),
        253 => (8, 0x1_0000_0000),
        _ => return None,
    };
    let mut bytes = [0; 8];
    bytes[..width].copy_from_slice(after.get(..width)?);
    *rest = &after[width..];
    let value = u64::from_le_bytes(bytes);
    (value >= least).then_some(value)
}

fn take_bytes(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let length = usize::try_from(take_varint(rest)?).ok()?;
    let bytes = rest.get(..length)?.to_vec();
    *rest = &rest[length..];
    Some(bytes)
}
