//! Batches of whole frames, which change hands between a shard and the trunk (SPEC 9.9).
//!
//! The buffer itself changes hands, and most often an empty one comes back for it. Buffers of more than 256 KiB are freed, and those that
//! nobody has room to keep. The trunk copies small batches, and larger ones when many wait. It looks at the frames of a batch only where a
//! write ends within it.

use core::fmt;
use core::mem;
use std::collections::VecDeque;

use crate::link::v3::Grant;
use crate::queue::FrameQueue;
use crate::wire::frame::{LENGTH_BYTES, encode_frame};

/// The number of bytes at which a batch is full. What one call adds at a time may bring it above that.
pub const BATCH_BYTES: usize = 64 * 1024;

/// A batch of up to this size is copied into the one before it, if there is room. That costs less than to write one more buffer.
const COPIED_BYTES: usize = 4 * 1024;

/// The number of batches in a queue from which larger ones are copied as well. So half-empty buffers are few.
const BATCHES_APART: usize = 8;

/// The number of spare buffers that their owner keeps.
const MOST_SPARES: usize = 4;

/// The largest buffer in bytes that is kept as a spare.
const KEPT_BYTES: usize = 4 * BATCH_BYTES;

/// Whole frames, one after another. Without frames it is a spare buffer.
#[derive(Clone, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    frames: usize,
}

image!(Batch { bytes, frames });

impl Batch {
    /// Creates a spare buffer without memory.
    #[must_use]
    pub const fn new() -> Self {
        Batch {
            bytes: Vec::new(),
            frames: 0,
        }
    }

    /// Returns the frames, one after another.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the number of frames.
    #[must_use]
    pub const fn frames(&self) -> usize {
        self.frames
    }

    /// Appends a frame with this body.
    pub fn push(&mut self, body: &[u8]) {
        encode_frame(body, &mut self.bytes);
        self.frames += 1;
    }

    /// Appends whole frames of `frames`, `most` at most, until there are `bytes` bytes or more. Returns how many bytes were taken.
    pub(crate) fn copy_frames(&mut self, frames: &[u8], most: usize, bytes: usize) -> usize {
        let mut end = 0;
        for _ in 0..most {
            let Some(next) = frames.get(end..).and_then(frame_bytes) else {
                break;
            };
            if end + next > frames.len() || end >= bytes {
                break;
            }
            end += next;
            self.frames += 1;
        }
        self.bytes
            .extend_from_slice(frames.get(..end).unwrap_or_default());
        end
    }

    /// Returns whether it owns memory, as a spare buffer to be used again.
    #[must_use]
    pub const fn has_memory(&self) -> bool {
        self.bytes.capacity() > 0
    }

    /// Makes a spare buffer of it. A buffer of more than 256 KiB is freed: one long frame would keep its memory for good.
    pub fn clear(&mut self) {
        if self.bytes.capacity() > KEPT_BYTES {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
        self.frames = 0;
    }

    /// Returns the bodies, each with the number of bytes behind it.
    pub(crate) fn bodies(&self) -> impl Iterator<Item = (&[u8], usize)> {
        let mut rest = &self.bytes[..];
        core::iter::from_fn(move || {
            let (length, behind) = rest.split_first_chunk::<LENGTH_BYTES>()?;
            let (body, behind) = behind.split_at(u32::from_le_bytes(*length) as usize);
            rest = behind;
            Some((body, behind.len()))
        })
    }

    fn append(&mut self, other: &Batch) {
        self.bytes.extend_from_slice(&other.bytes);
        self.frames += other.frames;
    }
}

impl fmt::Debug for Batch {
    /// Shows only numbers: the bytes are a user's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("frames", &self.frames)
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// Returns the length of the frame at the front of `bytes`, or `None` if these are empty.
///
/// # Panics
/// If the frame is cut: batches have whole ones.
fn frame_bytes(bytes: &[u8]) -> Option<usize> {
    if bytes.is_empty() {
        return None;
    }
    let length = bytes.first_chunk().expect("a batch has whole frames");
    Some(LENGTH_BYTES + u32::from_le_bytes(*length) as usize)
}

/// Returns the body of the frame at the front of `bytes`.
#[cfg(feature = "upgrade")]
fn body_of(bytes: &[u8]) -> &[u8] {
    let frame = frame_bytes(bytes).unwrap_or_default();
    bytes.get(LENGTH_BYTES..frame).unwrap_or_default()
}

/// What a shard hands to the trunk.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "both ends are of one process")]
pub enum Upward {
    /// Announcements, before anything else of this link (SPEC 7.7).
    Announcements(Batch),
    /// It has taken up what a backend of version 3 asks for (SPEC 36.2(i)). Its OWN follow as announcements.
    Granted(Grant),
    /// All its sessions are announced.
    Announced,
    /// Packets of clients, and notices about them.
    Packets(Batch),
}

impl Upward {
    /// Returns the frames, if it has any.
    #[must_use]
    pub const fn batch(&self) -> Option<&Batch> {
        match self {
            Upward::Announcements(batch) | Upward::Packets(batch) => Some(batch),
            Upward::Announced | Upward::Granted(_) => None,
        }
    }
}

/// What the trunk hands to a shard.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "both ends are of one process")]
pub enum Downward {
    /// There is room for what waits at the shard (SPEC 9.9(e)).
    Released,
    /// The link has version 2. Comes first, where it may have version 3.
    Version2,
    /// Packets that the shard handed up to a link of version 2, and that no backend got. Comes before an ASK.
    Returned(Batch),
    /// Packets of the backend. Those of version 3 begin with an ASK.
    Packets(Batch),
}

impl Downward {
    /// Returns the frames, if it has any.
    #[must_use]
    pub const fn batch(&self) -> Option<&Batch> {
        match self {
            Downward::Packets(batch) | Downward::Returned(batch) => Some(batch),
            Downward::Released | Downward::Version2 => None,
        }
    }

    /// Takes the frames, if it has any.
    #[must_use]
    pub fn into_batch(self) -> Option<Batch> {
        match self {
            Downward::Packets(batch) | Downward::Returned(batch) => Some(batch),
            Downward::Released | Downward::Version2 => None,
        }
    }
}

/// Buffers for batches to come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spares(Vec<Batch>);

image!(Spares { 0 });

impl Spares {
    pub(crate) fn take(&mut self) -> Option<Batch> {
        self.0.pop()
    }

    /// Keeps the memory of `batch`, if there is room for it.
    pub(crate) fn keep(&mut self, mut batch: Batch) {
        let bytes = batch.bytes.capacity();
        if bytes > 0 && bytes <= KEPT_BYTES && self.0.len() < MOST_SPARES {
            batch.clear();
            self.0.push(batch);
        }
    }
}

/// The full batches that a queue has filled, in order. The last frames are in the queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sealed {
    batches: VecDeque<Batch>,
    frames: usize,
    bytes: usize,
    spares: Spares,
}

image!(Sealed {
    batches,
    frames,
    bytes,
    spares
});

impl Sealed {
    pub(crate) const fn frames(&self) -> usize {
        self.frames
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the batches.
    pub(crate) fn into_batches(self) -> VecDeque<Batch> {
        self.batches
    }

    /// Frees the spare buffers.
    pub(crate) fn trim(&mut self) {
        self.spares = Spares::default();
    }

    /// Seals what `queue` has if that is a full batch.
    pub(crate) fn seal_full(&mut self, queue: &mut FrameQueue) {
        if queue.held_bytes() < BATCH_BYTES {
            return;
        }
        let mut spare = self.spares.take().unwrap_or_default();
        let batch = exchange(queue, &mut spare);
        self.frames += batch.frames;
        self.bytes += batch.bytes.len();
        self.batches.push_back(batch);
    }

    /// Takes the oldest frames, which are a batch of their own or all that `queue` has. `spare` is then the queue's, or kept.
    pub(crate) fn take(&mut self, queue: &mut FrameQueue, spare: &mut Batch) -> Option<Batch> {
        if let Some(batch) = self.batches.pop_front() {
            self.frames -= batch.frames;
            self.bytes -= batch.bytes.len();
            self.spares.keep(mem::take(spare));
            return Some(batch);
        }
        (!queue.is_empty()).then(|| exchange(queue, spare))
    }
}

/// Takes all frames of `queue`, which takes over the memory of `spare`.
pub(crate) fn exchange(queue: &mut FrameQueue, spare: &mut Batch) -> Batch {
    let (bytes, frames) = queue.exchange(mem::take(spare).bytes);
    Batch { bytes, frames }
}

/// A queue of batches that is written as bytes, and remembers the frame boundaries like a [`FrameQueue`].
#[derive(Clone, Debug, Default)]
pub(crate) struct BatchQueue {
    batches: VecDeque<Batch>,
    /// The start of the oldest frame that is not fully written, in the first batch.
    head: usize,
    /// The start of the unwritten bytes, in the first batch: `head`, or within its frame.
    written: usize,
    /// The number of frames not fully written.
    packets: usize,
    /// The bytes of all batches.
    bytes: usize,
}

impl BatchQueue {
    /// Appends a batch. A small one is copied into the last one, and its buffer is a spare.
    pub(crate) fn push(&mut self, batch: Batch, spares: &mut Spares) {
        self.packets += batch.frames;
        self.bytes += batch.bytes.len();
        let apart = self.batches.len() < BATCHES_APART && batch.bytes.len() > COPIED_BYTES;
        match self.batches.back_mut() {
            Some(last) if !apart && last.bytes.len() + batch.bytes.len() <= BATCH_BYTES => {
                last.append(&batch);
                spares.keep(batch);
            }
            _ => self.batches.push_back(batch),
        }
    }

    /// Returns the number of frames not fully written.
    pub(crate) const fn packets(&self) -> usize {
        self.packets
    }

    /// Returns the bytes of all frames not fully written, including the written part of a half-written one.
    pub(crate) const fn held_bytes(&self) -> usize {
        self.bytes - self.head
    }

    /// Returns the number of bytes not yet written.
    pub(crate) const fn unwritten_bytes(&self) -> usize {
        self.bytes - self.written
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Returns the unwritten bytes of the first two batches.
    pub(crate) fn output(&self) -> [&[u8]; 2] {
        let from = |at: usize, start: usize| {
            let bytes = self.batches.get(at).map_or(&[][..], Batch::bytes);
            bytes
                .get(start..)
                .expect("never more was written than is held")
        };
        [from(0, self.written), from(1, 0)]
    }

    /// Handles that the stream took the first `n` unwritten bytes. The buffers of batches that are written are spares.
    ///
    /// # Panics
    /// If `n` is more than [`unwritten_bytes`](Self::unwritten_bytes).
    pub(crate) fn advance(&mut self, n: usize, spares: &mut Spares) {
        assert!(
            n <= self.unwritten_bytes(),
            "no more bytes can be written than were offered"
        );
        self.written += n;
        while let Some(first) = self.batches.front_mut() {
            let length = first.bytes.len();
            if self.written < length {
                while let Some(bytes) = first.bytes.get(self.head..)
                    && let Some(end) = frame_bytes(bytes)
                    && self.head + end <= self.written
                {
                    self.head += end;
                    self.packets -= 1;
                    first.frames -= 1;
                }
                return;
            }
            self.written -= length;
            self.head = 0;
            self.bytes -= length;
            self.packets -= first.frames;
            if let Some(first) = self.batches.pop_front() {
                spares.keep(first);
            }
        }
    }

    /// Returns the rest of a frame that the stream has taken a part of.
    pub(crate) fn rest_of_frame(&self) -> &[u8] {
        if self.written == self.head {
            return &[];
        }
        let bytes = self.batches.front().map_or(&[][..], Batch::bytes);
        let frame = bytes.get(self.head..).and_then(frame_bytes).unwrap_or(0);
        bytes
            .get(self.written..self.head + frame)
            .unwrap_or_default()
    }

    /// Takes all frames that are not fully written.
    pub(crate) fn take_all(&mut self) -> Vec<Batch> {
        let head = self.head;
        let mut all = mem::take(self).batches;
        if let Some(first) = all.front_mut() {
            first.bytes.drain(..head);
        }
        all.into()
    }

    /// Returns the body of the frame that was begun, and how many bytes of the frame were written.
    #[cfg(feature = "upgrade")]
    pub(crate) fn begun(&self) -> (&[u8], usize) {
        let first = self.batches.front().map_or(&[][..], Batch::bytes);
        let frame = first.get(self.head..).unwrap_or_default();
        match self.written - self.head {
            0 => (&[], 0),
            begun => (body_of(frame), begun),
        }
    }

    /// Goes on with a stream that has taken so many bytes of the oldest frame, of which none was taken here. A frame that is not half-written
    /// then is left as it is.
    #[cfg(feature = "upgrade")]
    pub(crate) fn begin_at(&mut self, bytes: usize) {
        let first = self.batches.front().map_or(&[][..], Batch::bytes);
        let frame = first.get(self.head..).and_then(frame_bytes);
        if frame.is_some_and(|frame| bytes < frame) {
            self.written = self.head + bytes;
        }
    }

    /// Handles that the stream is gone: the written part of a half-written frame counts as unwritten again.
    pub(crate) fn rewind(&mut self) {
        self.written = self.head;
    }

    pub(crate) fn clear(&mut self) {
        *self = BatchQueue::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spare_buffer_has_at_most_256_kib() {
        for (capacity, is_kept) in [(KEPT_BYTES, true), (KEPT_BYTES + 1, false)] {
            let mut batch = Batch {
                bytes: Vec::with_capacity(capacity),
                frames: 0,
            };
            batch.push(b"a packet");
            batch.clear();
            assert_eq!((batch.bytes(), batch.frames()), (&[][..], 0));
            assert_eq!(batch.has_memory(), is_kept, "{capacity} bytes");
        }
    }
}
