//! Whole frames waiting to be written to a byte stream.

#[cfg(test)]
mod tests;

use core::{fmt, mem};

use super::shared::Shared;
use crate::wire::frame::{LENGTH_BYTES, length_of};

/// The capacity above which memory is returned when the queue becomes empty.
const KEPT_CAPACITY_BYTES: usize = 64 * 1024;

/// A queue of frames that is written as bytes and remembers the frame boundaries.
///
/// A stream takes any number of bytes at a time, and may end in the middle of a frame. The queue keeps a frame until its last byte is
/// written. After [`rewind`](Self::rewind) the next stream gets it from its first byte again: a packet that was cut is sent again in full,
/// a packet that was written is gone (SPEC 1.4, 7.6).
///
/// All frames are in one contiguous buffer, so one write takes as many as the stream has room for. Every operation is O(1) amortised over
/// the bytes that pass through. Taking all of [`output`](Self::output) never touches single frames. An empty queue that was never used, or
/// that was [`release`](Self::release)d, owns no heap memory.
///
/// The queue has no bound of its own. Its owner checks [`packets`](Self::packets) and [`held_bytes`](Self::held_bytes) before pushing.
#[derive(Clone, Default)]
pub struct FrameQueue {
    /// Frames one after another. Bytes before `head` are dead.
    buffer: Vec<u8>,
    /// The start of the oldest frame that is not fully written.
    head: usize,
    /// The start of the unwritten bytes: `head`, or within its frame. In an [`Outbox`](super::Outbox), also the start of a later frame.
    written: usize,
    /// The number of frames at or after `head`.
    packets: usize,
}

image!(FrameQueue {
    buffer,
    head,
    written,
    packets
});

impl FrameQueue {
    /// Creates an empty queue without heap memory.
    #[must_use]
    pub const fn new() -> Self {
        FrameQueue {
            buffer: Vec::new(),
            head: 0,
            written: 0,
            packets: 0,
        }
    }

    /// Appends one frame: `header` followed by `body`. The first four bytes are the length of everything after them.
    ///
    /// # Panics
    /// If the length field does not match, since every later boundary would be wrong.
    #[inline]
    pub fn push_frame(&mut self, header: &[u8], body: &[u8]) {
        let mut reservation = self.reserve(header, body.len());
        reservation.append(body);
        reservation.commit();
    }

    /// Appends `body` with its length in front.
    ///
    /// # Panics
    /// If it is longer than a `u32` can express. Every limit on a packet is far below.
    #[inline]
    pub fn push_body(&mut self, body: &[u8]) {
        self.push_frame(&length_of(body.len()).to_le_bytes(), body);
    }

    /// Begins one frame with `header`, and makes room for `length` bytes after it, which are appended to the [`Reservation`]. So a body that
    /// must be made, as when a sealed record is opened, is made in its place.
    #[inline(always)]
    pub fn reserve(&mut self, header: &[u8], length: usize) -> Reservation<'_> {
        self.make_room(header.len() + length);
        let start = self.buffer.len();
        self.buffer.extend_from_slice(header);
        Reservation {
            body: self.buffer.len(),
            start,
            queue: self,
        }
    }

    /// Returns the number of frames not fully written.
    #[must_use]
    pub const fn packets(&self) -> usize {
        self.packets
    }

    /// Returns the number of bytes not yet written: the length of [`output`](Self::output).
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.buffer.len() - self.written
    }

    /// Returns the bytes that were written of what is [held](Self::held_bytes).
    #[must_use]
    pub(super) const fn taken_bytes(&self) -> usize {
        self.written - self.head
    }

    /// Returns the bytes of all frames not fully written, including the written part of a half-written one.
    ///
    /// Use this for bounds: [`rewind`](Self::rewind) does not change it.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.buffer.len() - self.head
    }

    /// Returns the heap memory owned, in bytes.
    #[must_use]
    pub const fn capacity_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// Returns whether no frame waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.packets == 0
    }

    /// Returns the unwritten bytes, contiguous.
    #[inline]
    #[must_use]
    pub fn output(&self) -> &[u8] {
        self.buffer
            .get(self.written..)
            .expect("never more was written than is held")
    }

    /// Handles that the stream took the first `n` bytes of [`output`](Self::output).
    ///
    /// # Panics
    /// If `n` is more than [`bytes`](Self::bytes).
    #[inline]
    pub fn advance(&mut self, n: usize) {
        self.advance_keeping(n, KEPT_CAPACITY_BYTES);
    }

    /// Like [`advance`](Self::advance), for a queue that may keep more memory when it becomes empty. A queue that all clients share would
    /// otherwise get the same pages from the system and return them once per turn.
    ///
    /// # Panics
    /// Like [`advance`](Self::advance).
    #[inline]
    pub fn advance_keeping(&mut self, n: usize, kept_capacity_bytes: usize) {
        assert!(
            n <= self.bytes(),
            "no more bytes can be written than were offered"
        );
        self.written += n;
        if self.written == self.buffer.len() {
            // The last byte of the buffer is the last of a frame, so no frame is half-written.
            return self.clear_keeping(kept_capacity_bytes);
        }
        let mut end = self.frame_end(self.head);
        while end <= self.written {
            self.head = end;
            self.packets -= 1;
            end = self.frame_end(end);
        }
        self.compact_half_dead(kept_capacity_bytes);
    }

    /// Returns memory of dropped frames once they are more than half of the buffer.
    #[inline]
    fn compact_half_dead(&mut self, kept_capacity_bytes: usize) {
        // At least as many bytes are dead as are moved, hence O(1) per byte.
        if self.head > self.buffer.len() / 2 {
            self.compact(kept_capacity_bytes);
        }
    }

    /// Handles that the next `n` bytes of [`output`](Self::output), which are whole frames, were taken, and keeps these frames until they are
    /// [dropped](Self::drop_oldest). Returns their number.
    ///
    /// # Panics
    /// If the bytes are not whole frames of the output.
    pub(super) fn pass(&mut self, n: usize) -> usize {
        assert!(
            n <= self.bytes(),
            "no more bytes can be taken than were offered"
        );
        let end = self.written + n;
        let mut frames = 0;
        while self.written < end {
            self.written = self.frame_end(self.written);
            frames += 1;
        }
        assert_eq!(self.written, end, "frames that are kept are taken whole");
        frames
    }

    /// Drops the oldest `frames` of the frames that were taken.
    pub(super) fn drop_oldest(&mut self, frames: usize, kept_capacity_bytes: usize) {
        for _ in 0..frames {
            self.head = self.frame_end(self.head);
        }
        self.packets -= frames;
        assert!(self.head <= self.written, "what is dropped was taken");
        if self.packets == 0 {
            self.clear_keeping(kept_capacity_bytes);
        } else {
            self.compact_half_dead(kept_capacity_bytes);
        }
    }

    /// Handles that the stream took the first `n` bytes of [`output`](Self::output), and keeps all frames.
    ///
    /// # Panics
    /// If `n` is more than [`bytes`](Self::bytes).
    pub(super) fn skip(&mut self, n: usize) {
        assert!(
            n <= self.bytes(),
            "no more bytes can be taken than were offered"
        );
        self.written += n;
    }

    /// Returns the length of the frame that begins `bytes` behind the oldest one, including its length field.
    pub(super) fn frame_bytes_after(&self, bytes: usize) -> Option<usize> {
        let start = self.head + bytes;
        (start < self.buffer.len()).then(|| self.frame_end(start) - start)
    }

    /// Returns the bodies of all frames, those that were written as well.
    pub fn bodies(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = self.head;
        core::iter::from_fn(move || {
            if start >= self.buffer.len() {
                return None;
            }
            let (begin, end) = (start + 4, self.frame_end(start));
            start = end;
            self.buffer.get(begin..end)
        })
    }

    /// Returns the place behind the oldest `frames` frames, or behind so many of those that are not taken.
    pub(super) fn walk(&self, is_untaken: bool, frames: usize) -> Walk<'_> {
        let start = if is_untaken { self.written } else { self.head };
        let mut walk = Walk {
            queue: self,
            at: start - self.head,
            shared: None,
            number: 0,
        };
        for _ in 0..frames {
            walk.next();
        }
        walk
    }

    /// Drops the bodies of `frames` frames from `place` on, and keeps the frames, empty. What is shorter is moved: what is before them, or
    /// what is behind.
    ///
    /// # Panics
    /// If there are fewer frames, or a stream has taken a part of one.
    pub(super) fn empty_bodies(&mut self, place: usize, frames: usize) {
        let start = self.head + place;
        let (mut end, mut taken) = (start, 0);
        for _ in 0..frames {
            end = self.frame_end(end);
            taken += usize::from(end <= self.written);
        }
        let kept = LENGTH_BYTES * frames;
        let gone = (end - start).saturating_sub(kept);
        let is_before = self.written <= start;
        let is_behind = self.written >= end;
        let first = if start - self.head < self.buffer.len() - end {
            self.buffer.copy_within(self.head..start, self.head + gone);
            self.head += gone;
            start + gone
        } else {
            self.buffer.copy_within(end.., start + kept);
            self.buffer.truncate(self.buffer.len() - gone);
            start
        };
        let emptied = self.buffer.get_mut(first..first + kept);
        emptied.expect("it was as long or longer").fill(0);
        self.written = match (is_before, is_behind) {
            (true, _) => self.written + (first - start),
            (_, true) => self.written - (start + gone - first),
            _ => first + LENGTH_BYTES * taken,
        };
    }

    /// Makes the frames after the oldest `frames` the [`output`](Self::output) again.
    pub(super) fn rewind_to(&mut self, frames: usize) {
        self.written = self.head;
        for _ in 0..frames {
            self.written = self.frame_end(self.written);
        }
    }

    /// Handles that the stream is gone: the written part of a half-written frame counts as unwritten again.
    pub fn rewind(&mut self) {
        self.written = self.head;
    }

    /// Returns whether the oldest frame is half-written, so that its rest must be written to this stream first.
    #[must_use]
    pub const fn mid_frame(&self) -> bool {
        self.written > self.head
    }

    /// Returns the bytes of the oldest frame that were written.
    #[cfg(feature = "upgrade")]
    pub(crate) const fn begun_bytes(&self) -> usize {
        self.written - self.head
    }

    /// Returns the body of the frame that was begun, and how many bytes of the frame were written.
    #[cfg(feature = "upgrade")]
    pub(crate) fn begun(&self) -> (&[u8], usize) {
        match self.begun_bytes() {
            0 => (&[], 0),
            begun => (self.bodies().next().unwrap_or_default(), begun),
        }
    }

    /// Goes on with a stream that has taken so many bytes of the oldest frame, of which none was taken here. Returns `None`, and changes
    /// nothing, if the frame is not half-written then.
    #[cfg(feature = "upgrade")]
    pub(crate) fn begin_at(&mut self, bytes: usize) -> Option<()> {
        if bytes > 0 {
            self.next_frame_bytes().filter(|frame| bytes < *frame)?;
            self.written = self.head + bytes;
        }
        Some(())
    }

    /// Drops every frame.
    pub fn clear(&mut self) {
        self.clear_keeping(KEPT_CAPACITY_BYTES);
    }

    pub(super) fn clear_keeping(&mut self, kept_capacity_bytes: usize) {
        self.buffer.clear();
        self.head = 0;
        self.written = 0;
        self.packets = 0;
        if self.buffer.capacity() > kept_capacity_bytes {
            self.buffer = Vec::new();
        }
    }

    /// Returns all heap memory if the queue is empty, for owners that become idle.
    pub fn release(&mut self) {
        if self.is_empty() {
            self.buffer = Vec::new();
        }
    }

    /// Returns the length of the oldest frame, including its length field.
    #[must_use]
    pub fn next_frame_bytes(&self) -> Option<usize> {
        (!self.is_empty()).then(|| self.frame_end(self.head) - self.head)
    }

    /// Returns the oldest frame that no byte was written of, without its length field.
    pub(super) fn next_body(&self) -> Option<&[u8]> {
        let output = self.output();
        let (length, rest) = output.split_first_chunk()?;
        rest.get(..u32::from_le_bytes(*length) as usize)
    }

    /// Returns the frames of the [`output`](Self::output), which begins with a whole one, without their length fields.
    #[cfg(feature = "keys")]
    pub(super) fn unwritten_bodies(&self) -> impl Iterator<Item = &[u8]> {
        let mut output = self.output();
        core::iter::from_fn(move || {
            let (length, rest) = output.split_first_chunk()?;
            let (body, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            output = rest;
            Some(body)
        })
    }

    /// Takes over the memory of `buffer` for future frames, if the queue has none of its own.
    #[cfg(test)]
    pub(crate) fn adopt(&mut self, mut buffer: Vec<u8>) {
        if self.buffer.capacity() == 0 {
            buffer.clear();
            self.buffer = buffer;
        }
    }

    /// Gives away all frames with their memory, and takes over the memory of `spare` for the next ones. Returns the frames one after
    /// another, and their number.
    ///
    /// # Panics
    /// If the queue has ever been written to a stream since it was empty: then its memory holds bytes that are no frame's.
    #[must_use]
    pub fn exchange(&mut self, mut spare: Vec<u8>) -> (Vec<u8>, usize) {
        assert_eq!(
            self.written, 0,
            "a queue is given away whole, or written to a stream"
        );
        spare.clear();
        let frames = core::mem::take(&mut self.packets);
        (core::mem::replace(&mut self.buffer, spare), frames)
    }

    /// Returns the end of the frame that begins at `start`.
    fn frame_end(&self, start: usize) -> usize {
        let length = self
            .buffer
            .get(start..)
            .and_then(<[u8]>::first_chunk)
            .expect("push_frame appends nothing shorter than a length field");
        start + 4 + u32::from_le_bytes(*length) as usize
    }

    /// Makes room for `additional` bytes: by compacting if half of the buffer is dead, otherwise by growing.
    #[inline]
    fn make_room(&mut self, additional: usize) {
        if self.buffer.capacity() - self.buffer.len() < additional {
            self.make_more_room(additional);
        }
    }

    /// A separate function, as few packets find no room.
    #[cold]
    #[inline(never)]
    fn make_more_room(&mut self, additional: usize) {
        if self.head >= self.buffer.len() / 2 {
            self.compact(KEPT_CAPACITY_BYTES);
        }
        self.buffer.reserve(additional);
    }

    /// Moves the live bytes to the front, and returns capacity when little of it is in use.
    fn compact(&mut self, kept_capacity_bytes: usize) {
        self.buffer.copy_within(self.head.., 0);
        self.buffer.truncate(self.buffer.len() - self.head);
        self.written -= self.head;
        self.head = 0;
        if self.buffer.capacity() > kept_capacity_bytes
            && self.buffer.len() < self.buffer.capacity() / 4
        {
            self.buffer.shrink_to(self.buffer.len() * 2);
        }
    }
}

/// A place in a [`FrameQueue`], which goes from frame to frame.
#[derive(Debug)]
pub struct Walk<'a> {
    queue: &'a FrameQueue,
    at: usize,
    /// What is in the places of empty frames, and the number of the frame before.
    pub(super) shared: Option<&'a Shared>,
    pub(super) number: u64,
}

impl Walk<'_> {
    /// Returns the bytes before it, behind the oldest frame's start.
    #[must_use]
    pub fn place(&self) -> usize {
        self.at
    }

    /// Passes over so many empty frames, as they are known to be.
    pub fn skip_empty(&mut self, frames: usize) {
        self.at += LENGTH_BYTES * frames;
        self.number = self.number.saturating_add(frames as u64);
    }
}

impl Iterator for Walk<'_> {
    /// The length of a body.
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let bytes = self.queue.frame_bytes_after(self.at)?;
        self.at += bytes;
        self.number = self.number.saturating_add(1);
        let packet = self.shared.and_then(|shared| shared.at(self.number));
        Some(packet.map_or(bytes - LENGTH_BYTES, |packet| packet.packet().len()))
    }
}

/// A frame that is being made at the end of a [`FrameQueue`]. Dropped without [`commit`](Self::commit), it leaves nothing in the queue.
#[must_use = "nothing is queued until it is committed"]
pub struct Reservation<'a> {
    queue: &'a mut FrameQueue,
    /// The start of the frame.
    start: usize,
    /// The end of its header.
    body: usize,
}

impl Reservation<'_> {
    /// Appends bytes to the body.
    #[inline]
    pub fn append(&mut self, bytes: &[u8]) {
        self.queue.buffer.extend_from_slice(bytes);
    }

    /// Returns what was appended so far, to be changed in place.
    #[must_use]
    pub fn buffer(&mut self) -> &mut [u8] {
        let body = self.queue.buffer.get_mut(self.body..);
        body.expect("the body is at the end of the buffer")
    }

    /// Queues the frame.
    ///
    /// # Panics
    /// If its length field does not match, since every later boundary would be wrong.
    #[inline]
    pub fn commit(self) {
        let queue = &mut *self.queue;
        let end = queue.buffer.len();
        assert!(end - self.start >= 4, "a frame has a length field");
        assert_eq!(
            queue.frame_end(self.start),
            end,
            "a frame's length field covers it exactly"
        );
        queue.packets += 1;
        mem::forget(self);
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.queue.buffer.truncate(self.start);
    }
}

impl fmt::Debug for Reservation<'_> {
    /// Shows only numbers: the bytes are a user's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("bytes", &(self.queue.buffer.len() - self.start))
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for FrameQueue {
    /// Shows only numbers: the bytes are a user's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameQueue")
            .field("packets", &self.packets)
            .field("bytes", &self.bytes())
            .field("mid_frame", &self.mid_frame())
            .finish_non_exhaustive()
    }
}
