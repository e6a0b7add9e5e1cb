//! Framing, the same on both links: `length: u32` little-endian, then that many bytes of body.

use core::mem;

/// Bytes of the length that precedes every body; it does not count itself.
pub const LENGTH_BYTES: usize = 4;

/// A consumed buffer up to this many bytes is kept for the next cut frame while input goes on.
const KEPT_CAPACITY_BYTES: usize = 4096;

/// Room that a growing buffer may take in advance of the bytes that fill it, beside one eighth of these.
const GROWTH_BYTES: usize = 64 * 1024;

/// A peer announced a body longer than is allowed. Where the next frame begins is lost: the connection is to close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("frame body of {length} bytes, {max} allowed")]
pub struct FrameTooLong {
    /// Bytes announced.
    pub length: u32,
    /// Bytes allowed.
    pub max: u32,
}

/// Cuts a byte stream into frame bodies, whatever pieces it arrives in.
///
/// A frame that is whole in the input is lent from there without a copy; only what a frame cut at the end of the
/// input has so far is kept. Memory is bounded by the bytes received, never by the length announced: at most 64 KiB
/// (or one eighth, if that is more) above them, and none at all once [`next_frame`](Self::next_frame) has returned
/// `None` with nothing left over.
///
/// After [`FrameTooLong`] the reader stays failed: it says so again until [`clear`](Self::clear).
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: Vec<u8>,
    /// Bytes at the front of `buffer` that were handed out. All of them once the last frame held was lent.
    consumed: usize,
}

impl FrameReader {
    /// The next whole body out of the bytes held, then `input`, which advances past what was taken.
    ///
    /// `None` when no frame is whole: `input` is then empty and its bytes are held. A body of zero bytes is a frame.
    ///
    /// # Errors
    /// [`FrameTooLong`] as soon as the four bytes of a length above `max_body` are there.
    #[inline]
    pub fn next_frame<'a, 'input: 'a>(
        &'a mut self,
        input: &mut &'input [u8],
        max_body: u32,
    ) -> Result<Option<&'a [u8]>, FrameTooLong> {
        if self.buffer.is_empty()
            && let Some((length, rest)) = input.split_first_chunk::<LENGTH_BYTES>()
            && let length = u32::from_le_bytes(*length)
            && length <= max_body
            && let Some((body, rest)) = rest.split_at_checked(length as usize)
        {
            *input = rest;
            return Ok(Some(body));
        }
        self.next_cut_frame(input, max_body)
    }

    /// Keeps what is left of `input` unparsed, behind the bytes already held: for when there is no room for the next
    /// body. A later [`next_frame`](Self::next_frame) goes on with it.
    pub fn hold(&mut self, input: &[u8]) {
        if !input.is_empty() {
            self.drop_consumed();
            self.buffer.reserve_exact(input.len());
            self.buffer.extend_from_slice(input);
        }
    }

    /// The body length of the frame that [`next_frame`](Self::next_frame) would return, `None` if none is whole yet.
    ///
    /// # Errors
    /// [`FrameTooLong`] like `next_frame`.
    pub fn peek_frame(&self, input: &[u8], max_body: u32) -> Result<Option<usize>, FrameTooLong> {
        let Some(length) = self.peek_length(input, max_body)? else {
            return Ok(None);
        };
        let available = self.held().len().saturating_add(input.len());
        Ok((available.saturating_sub(LENGTH_BYTES) >= length).then_some(length))
    }

    /// Bytes held that no frame was made of yet.
    #[inline]
    pub fn buffered_bytes(&self) -> usize {
        self.held().len()
    }

    /// Whether the bytes held begin a frame that the peer has still to finish.
    ///
    /// False while a whole frame is held: then it is us who are late, not the peer.
    pub fn is_mid_frame(&self) -> bool {
        !self.held().is_empty() && self.peek_frame(&[], u32::MAX) == Ok(None)
    }

    /// Bytes of memory owned, for accounting.
    #[inline]
    pub fn memory_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// Drops the bytes held, and their memory.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    #[inline]
    fn held(&self) -> &[u8] {
        self.buffer.get(self.consumed..).unwrap_or_default()
    }

    /// `next_frame` where bytes are held, or the input ends within a frame.
    #[inline(never)]
    fn next_cut_frame<'a, 'input: 'a>(
        &'a mut self,
        input: &mut &'input [u8],
        max_body: u32,
    ) -> Result<Option<&'a [u8]>, FrameTooLong> {
        if self.held().is_empty() && !self.buffer.is_empty() {
            self.drop_consumed();
            // At most once: the buffer is empty now.
            return self.next_frame(input, max_body);
        }
        let length = match self.peek_length(input, max_body) {
            Ok(Some(length)) => length,
            Ok(None) => {
                self.take(input, LENGTH_BYTES);
                if self.buffer.is_empty() {
                    self.buffer = Vec::new();
                }
                return Ok(None);
            }
            Err(too_long) => {
                // The length stays, so that the next call fails likewise.
                self.take(input, LENGTH_BYTES);
                return Err(too_long);
            }
        };
        let frame = length.saturating_add(LENGTH_BYTES);
        self.take(input, frame);
        if self.held().len() < frame {
            return Ok(None);
        }
        let start = self.consumed.saturating_add(LENGTH_BYTES);
        self.consumed = self.consumed.saturating_add(frame);
        Ok(self.buffer.get(start..self.consumed))
    }

    /// The length of the next frame's body, if its four bytes are there.
    fn peek_length(&self, input: &[u8], max: u32) -> Result<Option<usize>, FrameTooLong> {
        let mut bytes = [0; LENGTH_BYTES];
        let mut source = self.held().iter().chain(input);
        for byte in &mut bytes {
            let Some(next) = source.next() else {
                return Ok(None);
            };
            *byte = *next;
        }
        let length = u32::from_le_bytes(bytes);
        if length > max {
            Err(FrameTooLong { length, max })
        } else {
            Ok(Some(length as usize))
        }
    }

    /// Moves bytes of `input` into the buffer until it holds `wanted`, or there are no more.
    fn take(&mut self, input: &mut &[u8], wanted: usize) {
        let missing = wanted.saturating_sub(self.held().len());
        let (taken, rest) = input.split_at_checked(missing).unwrap_or((input, &[]));
        if !taken.is_empty() {
            self.drop_consumed();
            let needed = self.buffer.len().saturating_add(taken.len());
            if needed > self.buffer.capacity() {
                // Doubling would be simpler, but then a peer that stalls costs twice what it sent.
                let ahead = needed.min(GROWTH_BYTES.max(needed / 8));
                let capacity = needed.saturating_add(ahead).min(wanted);
                self.buffer
                    .reserve_exact(capacity.saturating_sub(self.buffer.len()));
            }
            self.buffer.extend_from_slice(taken);
        }
        *input = rest;
    }

    /// Gives the bytes handed out back.
    fn drop_consumed(&mut self) {
        let consumed = mem::take(&mut self.consumed);
        if consumed < self.buffer.len() {
            self.buffer.drain(..consumed);
        } else if self.buffer.capacity() > KEPT_CAPACITY_BYTES {
            self.buffer = Vec::new();
        } else {
            self.buffer.clear();
        }
    }
}

/// Appends `body` to `out` as a frame.
///
/// # Panics
/// If `body` is longer than a `u32` can say; every limit on what is sent is far below.
#[inline]
pub fn encode_frame(body: &[u8], out: &mut Vec<u8>) {
    out.reserve(body.len().saturating_add(LENGTH_BYTES));
    out.extend_from_slice(&length_of(body.len()).to_le_bytes());
    out.extend_from_slice(body);
}

/// A body length as the wire has it.
#[inline]
pub(super) fn length_of(body_bytes: usize) -> u32 {
    u32::try_from(body_bytes).expect("bodies are bounded far below 4 GiB before they are encoded")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u32 = 1024;

    fn frames(bodies: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for body in bodies {
            encode_frame(body, &mut out);
        }
        out
    }

    #[test]
    fn frames_whole_in_the_input_are_lent_without_a_copy() {
        let bytes = frames(&[b"one", b"", b"three"]);
        let mut reader = FrameReader::default();
        let mut input = bytes.as_slice();
        let mut lent = Vec::new();
        while let Some(body) = reader.next_frame(&mut input, MAX).unwrap() {
            assert!(body.is_empty() || bytes.as_ptr_range().contains(&body.as_ptr()));
            lent.push(body.to_vec());
        }
        assert_eq!(lent, [b"one".as_slice(), b"", b"three"]);
        assert_eq!((reader.buffered_bytes(), reader.memory_bytes()), (0, 0));
    }
}
