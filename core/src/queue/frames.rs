//! Whole frames waiting to be written to a byte stream.

use core::fmt;

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
    /// The start of the unwritten bytes: `head`, or within its frame.
    written: usize,
    /// The number of frames at or after `head`.
    packets: usize,
}

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
    pub fn push_frame(&mut self, header: &[u8], body: &[u8]) {
        let frame_bytes = header.len() + body.len();
        self.make_room(frame_bytes);
        let start = self.buffer.len();
        self.buffer.extend_from_slice(header);
        self.buffer.extend_from_slice(body);
        assert!(frame_bytes >= 4, "a frame has a length field");
        assert_eq!(
            self.frame_end(start),
            self.buffer.len(),
            "a frame's length field covers it exactly"
        );
        self.packets += 1;
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
        // At least as many bytes are dead as are moved, hence O(1) per byte.
        if self.head > self.buffer.len() / 2 {
            self.compact(kept_capacity_bytes);
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

    /// Drops every frame.
    pub fn clear(&mut self) {
        self.clear_keeping(KEPT_CAPACITY_BYTES);
    }

    fn clear_keeping(&mut self, kept_capacity_bytes: usize) {
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

    /// Takes over the memory of `buffer` for future frames, if the queue has none of its own.
    pub fn adopt(&mut self, mut buffer: Vec<u8>) {
        if self.buffer.capacity() == 0 {
            buffer.clear();
            self.buffer = buffer;
        }
    }

    /// Gives away the memory of an empty queue, for another one to [`adopt`](Self::adopt).
    #[must_use]
    pub fn surrender(&mut self) -> Option<Vec<u8>> {
        (self.is_empty() && self.buffer.capacity() > 0).then(|| std::mem::take(&mut self.buffer))
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
    fn make_room(&mut self, additional: usize) {
        if self.buffer.capacity() - self.buffer.len() < additional
            && self.head >= self.buffer.len() / 2
        {
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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn push(queue: &mut FrameQueue, body: &[u8]) {
        queue.push_frame(&(body.len() as u32).to_le_bytes(), body);
    }

    fn frame(body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32).to_le_bytes()[..], body].concat()
    }

    #[test]
    fn a_new_queue_owns_nothing_and_offers_nothing() {
        let queue = FrameQueue::new();
        assert_eq!(
            (
                queue.packets(),
                queue.bytes(),
                queue.held_bytes(),
                queue.capacity_bytes()
            ),
            (0, 0, 0, 0)
        );
        assert!(queue.is_empty() && !queue.mid_frame() && queue.output().is_empty());
    }

    #[test]
    fn the_header_may_be_longer_than_the_length_field_or_part_of_the_body() {
        let mut queue = FrameQueue::new();
        queue.push_frame(&[5, 0, 0, 0, b'i', b'd'], b"abc");
        queue.push_frame(&[], &frame(b"whole"));
        queue.push_frame(&[0; 4], &[]);
        assert_eq!(
            queue.output(),
            [&frame(b"idabc")[..], &frame(b"whole"), &frame(b"")].concat()
        );
        assert_eq!(queue.packets(), 3);
    }

    #[test]
    fn a_half_written_frame_comes_again_whole_and_a_written_one_does_not() {
        let mut queue = FrameQueue::new();
        push(&mut queue, b"one");
        push(&mut queue, b"two");
        queue.advance(7 + 5);
        assert_eq!(
            (
                queue.packets(),
                queue.bytes(),
                queue.held_bytes(),
                queue.mid_frame()
            ),
            (1, 2, 7, true)
        );
        queue.rewind();
        assert_eq!(
            (
                queue.packets(),
                queue.bytes(),
                queue.held_bytes(),
                queue.mid_frame()
            ),
            (1, 7, 7, false)
        );
        assert_eq!(queue.output(), frame(b"two"));
        queue.rewind();
        assert_eq!(
            queue.output(),
            frame(b"two"),
            "a second rewind changes nothing"
        );
    }

    #[test]
    fn a_write_that_ends_at_a_boundary_is_not_mid_frame() {
        let mut queue = FrameQueue::new();
        push(&mut queue, b"one");
        push(&mut queue, b"");
        push(&mut queue, b"two");
        queue.advance(7);
        assert_eq!((queue.packets(), queue.mid_frame()), (2, false));
        queue.advance(4);
        assert_eq!((queue.packets(), queue.mid_frame()), (1, false));
        queue.advance(0);
        assert_eq!(queue.output(), frame(b"two"));
    }

    #[test]
    fn a_drained_queue_keeps_a_little_memory_and_gives_back_more() {
        let mut queue = FrameQueue::new();
        push(&mut queue, &[7; 1_000]);
        queue.advance(queue.bytes());
        assert!(
            (1_004..=KEPT_CAPACITY_BYTES).contains(&queue.capacity_bytes()),
            "steady state allocates nothing"
        );
        queue.release();
        assert_eq!(queue.capacity_bytes(), 0);

        push(&mut queue, &[7; 1 << 20]);
        queue.release();
        assert_eq!(
            queue.bytes(),
            4 + (1 << 20),
            "release takes nothing from a queue in use"
        );
        queue.advance(queue.bytes());
        assert_eq!(queue.capacity_bytes(), 0);
    }

    #[test]
    fn memory_is_adopted_without_what_was_in_it_and_only_where_there_is_none() {
        let mut queue = FrameQueue::new();
        queue.adopt(vec![9; 100]);
        assert_eq!(
            (queue.packets(), queue.bytes(), queue.capacity_bytes()),
            (0, 0, 100)
        );
        push(&mut queue, b"kept");
        assert_eq!(queue.surrender(), None);
        queue.adopt(Vec::with_capacity(1_000));
        assert_eq!(
            (queue.output(), queue.capacity_bytes()),
            (&frame(b"kept")[..], 100)
        );
    }

    #[test]
    fn a_queue_that_never_runs_empty_gives_memory_back_too() {
        let mut queue = FrameQueue::new();
        for _ in 0..1_024 {
            push(&mut queue, &[7; 1_020]);
        }
        assert!(queue.capacity_bytes() >= 1 << 20);
        while queue.packets() > 2 {
            queue.advance(1_000);
        }
        assert!(
            queue.capacity_bytes() <= KEPT_CAPACITY_BYTES,
            "{} bytes kept",
            queue.capacity_bytes()
        );
    }

    #[test]
    fn a_queue_that_may_keep_more_keeps_it_while_it_is_written_in_parts() {
        const KEPT: usize = 1 << 20;
        let mut queue = FrameQueue::new();
        queue.adopt(Vec::with_capacity(KEPT));
        for _ in 0..100 {
            for _ in 0..500 {
                push(&mut queue, &[7; 1_020]);
            }
            while queue.packets() > 2 {
                queue.advance_keeping(1_024, KEPT);
                assert_eq!(queue.capacity_bytes(), KEPT);
            }
        }
    }

    /// Does something to the queue of which `gone` bytes go; how many bytes lie elsewhere afterwards.
    fn moved(queue: &mut FrameQueue, gone: usize, act: impl FnOnce(&mut FrameQueue)) -> usize {
        let (before, held) = (queue.output().as_ptr() as usize, queue.bytes() - gone);
        act(queue);
        let stays = queue.output().as_ptr() as usize == before + gone;
        if stays { 0 } else { held }
    }

    #[test]
    fn no_more_bytes_are_moved_than_go_through() {
        let mut queue = FrameQueue::new();
        for _ in 0..1_000 {
            push(&mut queue, &[7; 1_020]);
        }
        let draining: usize = (1..1_000)
            .map(|_| moved(&mut queue, 1_024, |queue| queue.advance(1_024)))
            .sum();
        assert!(draining <= 999 * 1_024, "{draining} bytes moved");

        let mut queue = FrameQueue::new();
        for _ in 0..1_000 {
            push(&mut queue, &[7; 1_020]);
        }
        let at_a_fill: usize = (0..4_000)
            .map(|_| {
                moved(&mut queue, 1_024, |queue| queue.advance(1_024))
                    + moved(&mut queue, 0, |queue| push(queue, &[7; 1_020]))
            })
            .sum();
        assert!(at_a_fill <= 5_000 * 1_024, "{at_a_fill} bytes moved");
    }

    #[test]
    fn half_of_the_memory_is_used_again_rather_than_more_taken() {
        let mut queue = FrameQueue::new();
        queue.adopt(Vec::with_capacity(200));
        push(&mut queue, &[1; 96]);
        for n in 2..100 {
            push(&mut queue, &[n; 96]);
            queue.advance(100);
            assert_eq!(queue.output()[4..], [n; 96]);
            assert_eq!(queue.capacity_bytes(), 200);
        }
    }

    #[test]
    fn a_quarter_in_use_keeps_twice_what_waits_and_a_little_is_never_given_back() {
        let mut queue = FrameQueue::new();
        queue.adopt(Vec::with_capacity(1_024_000));
        for _ in 0..1_000 {
            push(&mut queue, &[7; 1_020]);
        }
        let mut steps = vec![(1_000, 1_024_000)];
        while queue.packets() > 200 {
            queue.advance(1_024);
            let capacity = queue.capacity_bytes();
            if steps.last().is_some_and(|&(_, before)| before != capacity) {
                steps.push((queue.packets(), capacity));
            }
        }
        // Bytes are moved at 499 left, which are more than a quarter, and at 249.
        assert_eq!(steps, [(1_000, 1_024_000), (249, 2 * 249 * 1_024)]);

        let mut queue = FrameQueue::new();
        queue.adopt(Vec::with_capacity(KEPT_CAPACITY_BYTES));
        for _ in 0..64 {
            push(&mut queue, &[7; 1_020]);
        }
        while !queue.is_empty() {
            queue.advance(1_024);
            assert_eq!(queue.capacity_bytes(), KEPT_CAPACITY_BYTES);
        }
    }

    #[test]
    fn a_queue_without_memory_has_none_to_give_away() {
        assert_eq!(FrameQueue::new().surrender(), None);
    }

    #[test]
    fn a_long_run_at_a_constant_fill_does_not_grow() {
        let mut queue = FrameQueue::new();
        for _ in 0..8 {
            push(&mut queue, &[7; 96]);
        }
        for _ in 0..10_000 {
            push(&mut queue, &[7; 96]);
            queue.advance(100);
        }
        assert_eq!(queue.packets(), 8);
        assert!(
            queue.capacity_bytes() <= 4_096,
            "{} bytes for 800",
            queue.capacity_bytes()
        );
    }

    #[test]
    #[should_panic(expected = "no more bytes can be written")]
    fn writing_more_than_was_offered_is_a_fault_of_the_caller() {
        let mut queue = FrameQueue::new();
        push(&mut queue, b"x");
        queue.advance(6);
    }

    #[test]
    #[should_panic(expected = "covers it exactly")]
    fn a_wrong_length_field_is_a_fault_of_the_caller() {
        FrameQueue::new().push_frame(&[4, 0, 0, 0], b"abc");
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(Vec<u8>),
        /// Write this fraction of what is offered, in 1/255.
        Advance(u8),
        Rewind,
        Clear,
        Release,
        /// To another queue and back, or nothing where frames wait.
        HandMemoryOn,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => proptest::collection::vec(any::<u8>(), 0..200).prop_map(Step::Push),
            6 => any::<u8>().prop_map(Step::Advance),
            2 => Just(Step::Rewind),
            1 => Just(Step::Clear),
            1 => Just(Step::Release),
            1 => Just(Step::HandMemoryOn),
        ]
    }

    proptest! {
        #[test]
        fn it_behaves_as_a_list_of_frames(steps in proptest::collection::vec(step(), 0..200)) {
            let mut queue = FrameQueue::new();
            let mut frames: VecDeque<Vec<u8>> = VecDeque::new();
            let mut written_of_head = 0;
            for step in steps {
                match step {
                    Step::Push(body) => {
                        push(&mut queue, &body);
                        frames.push_back(frame(&body));
                    }
                    Step::Advance(fraction) => {
                        let n = queue.bytes() * usize::from(fraction) / 255;
                        queue.advance(n);
                        written_of_head += n;
                        while frames.front().is_some_and(|frame| frame.len() <= written_of_head) {
                            written_of_head -= frames.pop_front().map_or(0, |frame| frame.len());
                        }
                    }
                    Step::Rewind => {
                        queue.rewind();
                        written_of_head = 0;
                    }
                    Step::Clear => {
                        queue.clear();
                        frames.clear();
                        written_of_head = 0;
                    }
                    Step::Release => queue.release(),
                    Step::HandMemoryOn => {
                        let capacity = queue.capacity_bytes();
                        if let Some(buffer) = queue.surrender() {
                            prop_assert_eq!((buffer.capacity(), queue.capacity_bytes()), (capacity, 0));
                            queue.adopt(buffer);
                            prop_assert_eq!(queue.capacity_bytes(), capacity);
                        } else {
                            prop_assert!(capacity == 0 || !frames.is_empty());
                        }
                    }
                }
                let held: Vec<u8> = frames.iter().flatten().copied().collect();
                prop_assert_eq!(queue.output(), &held[written_of_head..]);
                prop_assert_eq!(queue.packets(), frames.len());
                prop_assert_eq!(queue.is_empty(), frames.is_empty());
                prop_assert_eq!(queue.bytes(), held.len() - written_of_head);
                prop_assert_eq!(queue.held_bytes(), held.len());
                prop_assert_eq!(queue.mid_frame(), written_of_head > 0);
                prop_assert_eq!(queue.next_frame_bytes(), frames.front().map(Vec::len));
            }
        }
    }
}
