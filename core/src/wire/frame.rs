//! Framing, the same on both links: `length: u32` little-endian, then a body of that many bytes. (SPEC 2.1)

use core::{fmt, mem};

/// The length of the length field, which does not count itself.
pub const LENGTH_BYTES: usize = 4;

/// A consumed buffer of at most this many bytes is kept for the next cut frame while input continues.
const KEPT_CAPACITY_BYTES: usize = 4096;

/// Room that a growing buffer may reserve ahead of its bytes, besides one eighth of them.
const GROWTH_BYTES: usize = 64 * 1024;

/// A peer announced a body longer than is allowed (SPEC 2.2). The start of the next frame is lost, so the connection must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("frame body of {length} bytes, {max} allowed")]
#[expect(clippy::exhaustive_structs, reason = "a frame has no other limit")]
pub struct FrameTooLong {
    /// The announced length in bytes.
    pub length: u32,
    /// The maximum length in bytes.
    pub max: u32,
}

image!(FrameTooLong { length, max });

/// Cuts a byte stream into frame bodies, however its bytes arrive. (SPEC 2.3)
///
/// A frame that is whole in the input is borrowed from it without a copy. Only the beginning of a frame that is cut at the end of the input
/// is kept. Memory is bounded by the bytes received, never by the length announced: at most 64 KiB (or one eighth, if that is more) above
/// them, and none once [`next_frame`](Self::next_frame) has returned `None` with nothing left over.
///
/// After [`FrameTooLong`] no next frame can be found, and the reader stays failed: it repeats the error until [`clear`](Self::clear).
pub type FrameReader = Cutter<false>;

/// A [`FrameReader`] that keeps up to 4 KiB for the next cut frame: of a stream of which there is one, and which is never idle for long.
#[cfg(feature = "edge")]
pub(crate) type BusyFrameReader = Cutter<true>;

/// See [`FrameReader`]. `KEEPS` is whether it keeps memory while nothing is left over.
#[derive(Clone, Default)]
pub struct Cutter<const KEEPS: bool> {
    buffer: Vec<u8>,
    /// Bytes at the front of `buffer` that were handed out. All of them, once the last frame held was borrowed.
    consumed: usize,
}

image!(for [const KEEPS: bool] Cutter<KEEPS> { buffer, consumed });

impl<const KEEPS: bool> Cutter<KEEPS> {
    /// Returns the next whole body from the bytes held followed by `input`, and advances `input` past what was consumed.
    ///
    /// Returns `None` when no frame is whole: `input` is then empty and its bytes are held. A body of zero bytes is a frame.
    ///
    /// # Errors
    /// [`FrameTooLong`] as soon as the four bytes of a length above `max_body` have arrived.
    #[inline]
    pub fn next_frame<'a, 'input: 'a>(
        &'a mut self,
        input: &mut &'input [u8],
        max_body: u32,
    ) -> Result<Option<&'a [u8]>, FrameTooLong> {
        if self.buffer.is_empty() {
            if let Some((length, rest)) = input.split_first_chunk::<LENGTH_BYTES>()
                && let length = u32::from_le_bytes(*length)
                && length <= max_body
                && let Some((body, rest)) = rest.split_at_checked(length as usize)
            {
                *input = rest;
                return Ok(Some(body));
            }
            if input.is_empty() && (KEEPS || self.buffer.capacity() == 0) {
                return Ok(None);
            }
        }
        self.next_cut_frame(input, max_body)
    }

    /// Keeps the rest of `input` unparsed after the bytes already held, for when there is no room for the next body. A later
    /// [`next_frame`](Self::next_frame) continues with it.
    pub fn hold(&mut self, input: &[u8]) {
        if !input.is_empty() {
            self.drop_consumed();
            self.buffer.reserve_exact(input.len());
            self.buffer.extend_from_slice(input);
        }
    }

    /// Returns the body length of the frame that [`next_frame`](Self::next_frame) would return, or `None` if none is whole yet.
    ///
    /// # Errors
    /// [`FrameTooLong`], like `next_frame`.
    #[inline]
    pub fn peek_frame(&self, input: &[u8], max_body: u32) -> Result<Option<usize>, FrameTooLong> {
        let Some(length) = self.peek_length(input, max_body)? else {
            return Ok(None);
        };
        let available = self.held().len().saturating_add(input.len());
        Ok((available.saturating_sub(LENGTH_BYTES) >= length).then_some(length))
    }

    /// Copies the first bytes of the body that [`next_frame`](Self::next_frame) would return. Returns how many there were: 0 if no frame is
    /// whole.
    #[cfg(feature = "backend")]
    pub(crate) fn peek_body(&self, input: &[u8], max_body: u32, out: &mut [u8]) -> usize {
        let Ok(Some(length)) = self.peek_frame(input, max_body) else {
            return 0;
        };
        let bytes = self
            .held()
            .iter()
            .chain(input)
            .skip(LENGTH_BYTES)
            .take(length);
        let mut count = 0_usize;
        for (to, from) in out.iter_mut().zip(bytes) {
            *to = *from;
            count = count.saturating_add(1);
        }
        count
    }

    /// Returns the number of bytes held that no frame was returned for yet.
    #[inline]
    pub fn buffered_bytes(&self) -> usize {
        self.held().len()
    }

    /// Returns whether the bytes held begin a frame that the peer has yet to finish.
    ///
    /// False while a whole frame is held: then this side is late, not the peer.
    pub fn is_mid_frame(&self) -> bool {
        !self.held().is_empty() && self.peek_frame(&[], u32::MAX) == Ok(None)
    }

    /// Returns the bytes of memory owned, for accounting.
    #[inline]
    pub fn memory_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// Drops the bytes held and their memory.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Returns the bytes held that no frame was returned for yet.
    #[inline]
    pub(crate) fn held(&self) -> &[u8] {
        self.buffer.get(self.consumed..).unwrap_or_default()
    }

    /// The part of `next_frame` for held bytes, or for input that ends within a frame.
    #[inline(never)]
    fn next_cut_frame<'a, 'input: 'a>(
        &'a mut self,
        input: &mut &'input [u8],
        max_body: u32,
    ) -> Result<Option<&'a [u8]>, FrameTooLong> {
        if self.held().is_empty() && !self.buffer.is_empty() {
            self.drop_consumed();
            // Recurses at most once, as the buffer is empty now.
            return self.next_frame(input, max_body);
        }
        let length = match self.peek_length(input, max_body) {
            Ok(Some(length)) => length,
            Ok(None) => {
                self.take(input, LENGTH_BYTES);
                if self.buffer.is_empty() && !KEEPS {
                    self.buffer = Vec::new();
                }
                return Ok(None);
            }
            Err(too_long) => {
                // The length is kept, so that the next call fails as well.
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

    /// Returns the length of the next frame's body, if its four bytes have arrived.
    #[inline]
    fn peek_length(&self, input: &[u8], max: u32) -> Result<Option<usize>, FrameTooLong> {
        let held = self.held();
        let first = if held.is_empty() { input } else { held };
        let Some(bytes) = first.first_chunk().copied().or_else(|| join(held, input)) else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(bytes);
        if length > max {
            Err(FrameTooLong { length, max })
        } else {
            Ok(Some(length as usize))
        }
    }

    /// Moves bytes of `input` into the buffer until it holds `wanted` bytes or the input is empty.
    fn take(&mut self, input: &mut &[u8], wanted: usize) {
        let missing = wanted.saturating_sub(self.held().len());
        let (taken, rest) = input.split_at_checked(missing).unwrap_or((input, &[]));
        if !taken.is_empty() {
            self.drop_consumed();
            let needed = self.buffer.len().saturating_add(taken.len());
            if needed > self.buffer.capacity() {
                // Doubling would be simpler, but then a peer that stalls would cost twice what it sent.
                let ahead = needed.min(GROWTH_BYTES.max(needed / 8));
                let capacity = needed.saturating_add(ahead).min(wanted);
                self.buffer
                    .reserve_exact(capacity.saturating_sub(self.buffer.len()));
            }
            self.buffer.extend_from_slice(taken);
        }
        *input = rest;
    }

    /// Removes the bytes that were handed out.
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

/// Joins a length that is partly held and partly in the input.
#[cold]
fn join(held: &[u8], input: &[u8]) -> Option<[u8; LENGTH_BYTES]> {
    let mut bytes = [0; LENGTH_BYTES];
    let mut source = held.iter().chain(input);
    for byte in &mut bytes {
        *byte = *source.next()?;
    }
    Some(bytes)
}

/// Appends `body` to `out` as a frame.
///
/// # Panics
/// If `body` is longer than a `u32` can express. Every limit on sent data is far below.
#[inline]
pub fn encode_frame(body: &[u8], out: &mut Vec<u8>) {
    out.reserve(body.len().saturating_add(LENGTH_BYTES));
    out.extend_from_slice(&length_of(body.len()).to_le_bytes());
    out.extend_from_slice(body);
}

/// Encodes a body length for the wire.
#[inline]
pub(crate) fn length_of(body_bytes: usize) -> u32 {
    u32::try_from(body_bytes).expect("bodies are bounded far below 4 GiB before they are encoded")
}

impl<const KEEPS: bool> fmt::Debug for Cutter<KEEPS> {
    /// Shows only numbers: the bytes are a user's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameReader")
            .field("buffered_bytes", &self.buffered_bytes())
            .finish_non_exhaustive()
    }
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

    /// The result of one call for `input`, and how much of it is left.
    fn read(
        reader: &mut FrameReader,
        mut input: &[u8],
    ) -> (Result<Option<Vec<u8>>, FrameTooLong>, usize) {
        let body = reader
            .next_frame(&mut input, MAX)
            .map(|body| body.map(<[u8]>::to_vec));
        (body, input.len())
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

    #[test]
    fn a_cut_frame_is_kept_and_finished() {
        let bytes = frames(&[b"first", b"second"]);
        let mut reader = FrameReader::default();
        assert_eq!(read(&mut reader, &bytes[..6]), (Ok(None), 0));
        assert_eq!((reader.buffered_bytes(), reader.is_mid_frame()), (6, true));
        // Only what the first frame lacks is consumed.
        assert_eq!(
            read(&mut reader, &bytes[6..]),
            (Ok(Some(b"first".to_vec())), 10)
        );
        assert_eq!((reader.buffered_bytes(), reader.is_mid_frame()), (0, false));
        assert_eq!(
            read(&mut reader, &bytes[9..]),
            (Ok(Some(b"second".to_vec())), 0)
        );
    }

    #[test]
    fn lengths_up_to_the_limit_are_taken_without_a_copy() {
        for length in [0, 1, MAX - 1, MAX] {
            let body = vec![7; length as usize];
            let mut reader = FrameReader::default();
            assert_eq!(read(&mut reader, &frames(&[&body])), (Ok(Some(body)), 0));
            assert_eq!(reader.memory_bytes(), 0);
        }
    }

    #[test]
    fn lengths_above_the_limit_fail_before_the_body_and_for_good() {
        for length in [MAX + 1, 1 << 31, u32::MAX] {
            let failed = Err(FrameTooLong { length, max: MAX });
            for cut in 0..LENGTH_BYTES {
                let mut reader = FrameReader::default();
                let announced = length.to_le_bytes();
                let (before, after) = announced.split_at(cut);
                assert_eq!(read(&mut reader, before).0, Ok(None));
                assert_eq!(
                    reader.peek_frame(after, MAX),
                    Err(FrameTooLong { length, max: MAX })
                );
                assert_eq!(read(&mut reader, after).0, failed, "cut at {cut}");
                assert_eq!(
                    read(&mut reader, &frames(&[b"good"])).0,
                    failed,
                    "it stays failed"
                );
                assert_eq!(
                    reader.peek_frame(b"", MAX),
                    Err(FrameTooLong { length, max: MAX })
                );
                assert!(reader.memory_bytes() <= 8);
                reader.clear();
                assert_eq!(
                    read(&mut reader, &frames(&[b"good"])).0,
                    Ok(Some(b"good".to_vec()))
                );
            }
        }
        let longest = FrameReader::default().peek_frame(&u32::MAX.to_le_bytes(), u32::MAX);
        assert_eq!(
            longest,
            Ok(None),
            "the largest length is no error where it is allowed"
        );
    }

    #[test]
    fn held_bytes_come_before_later_input() {
        let bytes = frames(&[b"one", b"two", b"three"]);
        let mut reader = FrameReader::default();
        assert_eq!(read(&mut reader, &bytes[..3]), (Ok(None), 0));
        reader.hold(&bytes[3..9]);
        assert!(!reader.is_mid_frame(), "a whole frame waits for us");
        reader.hold(b"");
        reader.hold(&bytes[9..17]);
        assert_eq!(reader.buffered_bytes(), 17);
        assert_eq!(read(&mut reader, b""), (Ok(Some(b"one".to_vec())), 0));
        assert_eq!(reader.buffered_bytes(), 10);
        reader.hold(&bytes[17..20]);
        assert_eq!(
            read(&mut reader, &bytes[20..]),
            (Ok(Some(b"two".to_vec())), 3)
        );
        assert!(reader.is_mid_frame());
        assert_eq!(
            read(&mut reader, &bytes[20..]),
            (Ok(Some(b"three".to_vec())), 0)
        );
        assert_eq!(read(&mut reader, b""), (Ok(None), 0));
        assert_eq!(reader.memory_bytes(), 0);
    }

    #[test]
    fn peeking_tells_the_next_whole_frame_and_takes_nothing() {
        let bytes = frames(&[b"four", b""]);
        for held in 0..=bytes.len() {
            for given in held..=bytes.len() {
                let mut reader = FrameReader::default();
                reader.hold(&bytes[..held]);
                let whole = (given >= 8).then_some(4);
                assert_eq!(
                    reader.peek_frame(&bytes[held..given], MAX),
                    Ok(whole),
                    "{held} {given}"
                );
                assert_eq!(reader.buffered_bytes(), held);
            }
        }
        assert_eq!(
            FrameReader::default().peek_frame(&bytes[8..], MAX),
            Ok(Some(0))
        );
    }

    #[test]
    fn memory_follows_the_bytes_received_and_not_the_length_announced() {
        let length: u32 = 1 << 20;
        let mut reader = FrameReader::default();
        let mut input = length.to_le_bytes().to_vec();
        input.resize(LENGTH_BYTES + length as usize - 1, 1);
        let (mut growths, mut memory) = (0, 0);
        for received in 1..=input.len() {
            let mut byte = &input[received - 1..received];
            assert_eq!(reader.next_frame(&mut byte, length), Ok(None));
            assert!(
                reader.memory_bytes() <= received + received.min(GROWTH_BYTES.max(received / 8))
            );
            growths += usize::from(reader.memory_bytes() != memory);
            memory = reader.memory_bytes();
        }
        assert!(growths < 50, "a byte at a time, it grew {growths} times");
        assert!(memory <= LENGTH_BYTES + length as usize);
        assert_eq!(
            reader
                .next_frame(&mut &[1][..], length)
                .unwrap()
                .map(<[u8]>::len),
            Some(length as usize)
        );
        assert_eq!(reader.next_frame(&mut &[][..], length), Ok(None));
        assert_eq!(reader.memory_bytes(), 0);
    }

    #[test]
    fn a_small_buffer_serves_one_cut_frame_after_another_and_a_large_one_is_given_back() {
        let small = frames(&[&[1; 64], &[2; 64], &[3; 64]]);
        let mut reader = FrameReader::default();
        assert_eq!(read(&mut reader, &small[..67]), (Ok(None), 0));
        let memory = reader.memory_bytes();
        assert!(memory > 0);
        assert_eq!(
            read(&mut reader, &small[67..135]),
            (Ok(Some(vec![1; 64])), 67)
        );
        assert_eq!(read(&mut reader, &small[68..75]), (Ok(None), 0));
        assert_eq!(reader.memory_bytes(), memory, "no second allocation");

        let large = frames(&[&[1; KEPT_CAPACITY_BYTES], b"next"]);
        let mut reader = FrameReader::default();
        let mut input = large.as_slice();
        reader.hold(&input[..KEPT_CAPACITY_BYTES]);
        input = &input[KEPT_CAPACITY_BYTES..];
        assert!(reader.next_frame(&mut input, u32::MAX).unwrap().is_some());
        assert_eq!(
            reader.next_frame(&mut input, u32::MAX),
            Ok(Some(b"next".as_slice()))
        );
        assert_eq!(reader.memory_bytes(), 0);
    }

    #[test]
    fn bytes_handed_out_make_room_for_those_that_come() {
        let bytes = frames(&[b"taken", b"left"]);
        let cut = LENGTH_BYTES + b"taken".len() + 1;
        let mut reader = FrameReader::default();
        reader.hold(&bytes[..cut]);
        for _ in 0..1_000 {
            // The reader never runs empty: a byte of the second frame is held when the first is returned.
            assert_eq!(read(&mut reader, b""), (Ok(Some(b"taken".to_vec())), 0));
            reader.hold(&bytes[cut..]);
            reader.hold(&bytes[..cut]);
            assert_eq!(read(&mut reader, b""), (Ok(Some(b"left".to_vec())), 0));
        }
        assert!(
            reader.memory_bytes() <= 2 * bytes.len(),
            "{}",
            reader.memory_bytes()
        );

        assert_eq!(read(&mut reader, b""), (Ok(Some(b"taken".to_vec())), 0));
        let memory = reader.memory_bytes();
        assert_eq!(
            read(&mut reader, &bytes[cut..bytes.len() - 1]),
            (Ok(None), 0)
        );
        assert_eq!(reader.memory_bytes(), memory);
    }

    #[test]
    fn encoding_appends() {
        let mut out = b"before".to_vec();
        encode_frame(b"body", &mut out);
        assert_eq!(out, b"before\x04\0\0\0body");
    }
}
