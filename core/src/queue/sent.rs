//! What stays of a [`FrameQueue`] until the other end of a link has acknowledged it.

use super::FrameQueue;

/// The memory that the queue keeps when it is empty.
const KEPT_CAPACITY_BYTES: usize = 1 << 20;

/// The place of a link in the frames of a [`FrameQueue`], which are counted from 1 (SPEC 37.1).
///
/// ```text
///     1 ... acknowledged | acknowledged + 1 ... sent | sent + 1 ...
///      gone              | kept                      | to be sent
/// ```
///
/// The queue belongs to the caller, who gives the same one to each call, and only pushes to it besides. A stream takes any part of what is to
/// be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    acknowledged: u64,
    /// The frames that were sent whole on this stream and are kept.
    kept: usize,
    /// Their bytes.
    kept_bytes: usize,
    /// The bytes that the stream took of the frame after them.
    begun: usize,
    /// The highest count that was sent on any stream.
    highest: u64,
}

image!(Sent {
    acknowledged,
    kept,
    kept_bytes,
    begun,
    highest
});

/// The other end names a frame that it cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame {count} named, only {acknowledged} to {sent} can be")]
#[expect(clippy::exhaustive_structs, reason = "the marks are all there is")]
pub struct UnknownCount {
    /// The count that it named.
    pub count: u64,
    /// The last frame that it has acknowledged.
    pub acknowledged: u64,
    /// The last frame that was sent to it.
    pub sent: u64,
}

impl Sent {
    /// Goes on where another process was: all up to `acknowledged` is, and `highest` was sent on some stream.
    #[cfg(feature = "edge")]
    pub(crate) const fn after(acknowledged: u64, highest: u64) -> Self {
        Sent {
            acknowledged,
            kept: 0,
            kept_bytes: 0,
            begun: 0,
            highest,
        }
    }

    /// Returns the count of the last frame that is acknowledged.
    #[must_use]
    pub const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Returns the count of the last frame that was sent whole on this stream, or that the other end had before.
    #[must_use]
    pub const fn sent(&self) -> u64 {
        self.acknowledged.saturating_add(self.kept as u64)
    }

    /// Returns the count of the last frame that was sent whole on any stream.
    #[must_use]
    pub const fn highest(&self) -> u64 {
        self.highest
    }

    /// Returns the count of the last frame in `queue`.
    #[must_use]
    pub const fn end(&self, queue: &FrameQueue) -> u64 {
        self.acknowledged.saturating_add(queue.packets() as u64)
    }

    /// Returns whether the stream has taken a part of a frame, whose rest comes next.
    #[must_use]
    pub const fn is_mid_frame(&self) -> bool {
        self.begun > 0
    }

    /// Returns the rest of a frame that the stream has taken a part of.
    #[must_use]
    pub fn rest_of_frame<'a>(&self, queue: &'a FrameQueue) -> &'a [u8] {
        if self.begun == 0 {
            return &[];
        }
        let whole = queue
            .frame_bytes_after(self.kept_bytes)
            .unwrap_or(self.begun);
        let rest = whole.saturating_sub(self.begun);
        queue.output().get(..rest).unwrap_or_default()
    }

    /// Handles that the stream took the first `n` bytes of the queue's [output](FrameQueue::output).
    ///
    /// # Panics
    /// If there are fewer.
    pub fn advance(&mut self, n: usize, queue: &mut FrameQueue) {
        queue.skip(n);
        self.begun = self.begun.saturating_add(n);
        while let Some(bytes) = queue.frame_bytes_after(self.kept_bytes)
            && let Some(begun) = self.begun.checked_sub(bytes)
        {
            self.begun = begun;
            self.kept_bytes = self.kept_bytes.saturating_add(bytes);
            self.kept = self.kept.saturating_add(1);
        }
        self.highest = self.highest.max(self.sent());
    }

    /// Handles that the other end acknowledges all frames up to `count`, which are dropped. Returns how many these are.
    ///
    /// # Errors
    /// [`UnknownCount`] if it was not sent on this stream. Nothing changes then.
    pub fn acknowledge(
        &mut self,
        count: u64,
        queue: &mut FrameQueue,
    ) -> Result<usize, UnknownCount> {
        let dropped = count.saturating_sub(self.acknowledged);
        let dropped = usize::try_from(dropped)
            .ok()
            .filter(|dropped| *dropped <= self.kept)
            .ok_or(self.unknown(count))?;
        let before = queue.held_bytes();
        queue.drop_oldest(dropped, KEPT_CAPACITY_BYTES);
        let bytes = before.saturating_sub(queue.held_bytes());
        self.kept = self.kept.saturating_sub(dropped);
        self.kept_bytes = self.kept_bytes.saturating_sub(bytes);
        self.acknowledged = self.acknowledged.max(count);
        Ok(dropped)
    }

    /// Handles that the stream is gone.
    pub fn lose_stream(&mut self, queue: &mut FrameQueue) {
        queue.rewind();
        (self.kept, self.kept_bytes, self.begun) = (0, 0, 0);
    }

    /// Handles that the other end has received all frames up to `count`: the next stream goes on behind them. This acknowledges nothing.
    ///
    /// # Errors
    /// [`UnknownCount`] if it was never sent, or a later one was acknowledged. Nothing changes then.
    pub fn resume(&mut self, count: u64, queue: &mut FrameQueue) -> Result<(), UnknownCount> {
        let kept = count
            .checked_sub(self.acknowledged)
            .filter(|_| count <= self.highest)
            .and_then(|kept| usize::try_from(kept).ok())
            .ok_or(self.unknown(count))?;
        self.lose_stream(queue);
        for _ in 0..kept {
            let bytes = queue.frame_bytes_after(self.kept_bytes).unwrap_or(0);
            self.kept_bytes = self.kept_bytes.saturating_add(bytes);
        }
        self.kept = kept;
        queue.skip(self.kept_bytes);
        Ok(())
    }

    fn unknown(&self, count: u64) -> UnknownCount {
        UnknownCount {
            count,
            acknowledged: self.acknowledged,
            sent: self.highest.max(self.sent()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(bodies: &[&[u8]]) -> FrameQueue {
        let mut queue = FrameQueue::new();
        bodies.iter().for_each(|body| queue.push_body(body));
        queue
    }

    #[test]
    fn frames_stay_until_they_are_acknowledged_whatever_part_the_stream_takes() {
        for part in 1..=19 {
            let mut queue = queue(&[b"one", b"", b"three"]);
            let (mut sent, all) = (Sent::default(), queue.output().to_vec());
            let mut written = Vec::new();
            while !queue.output().is_empty() {
                let n = part.min(queue.output().len());
                written.extend_from_slice(&queue.output()[..n]);
                sent.advance(n, &mut queue);
                let whole = [7, 11, 20].iter().filter(|end| **end <= written.len());
                assert_eq!(sent.sent(), whole.count() as u64);
                assert_eq!(sent.is_mid_frame(), ![7, 11, 20].contains(&written.len()));
            }
            assert_eq!(written, all);
            assert_eq!((queue.packets(), sent.end(&queue)), (3, 3));
            assert_eq!(sent.acknowledge(2, &mut queue), Ok(2));
            assert_eq!(sent.acknowledge(1, &mut queue), Ok(0), "an old one");
            assert_eq!((queue.packets(), sent.acknowledged()), (1, 2));
            queue.push_body(b"4");
            assert_eq!(queue.output(), b"\x01\0\0\x004");
            assert_eq!(sent.rest_of_frame(&queue), b"");
            sent.advance(2, &mut queue);
            assert_eq!(sent.rest_of_frame(&queue), b"\0\x004");
        }
    }

    #[test]
    fn the_next_stream_goes_on_behind_what_the_other_end_has() {
        let mut queue = queue(&[b"1", b"2", b"3", b"4"]);
        let mut sent = Sent::default();
        sent.advance(5 * 3 + 2, &mut queue);
        assert_eq!(sent.acknowledge(1, &mut queue), Ok(1));
        sent.lose_stream(&mut queue);
        assert_eq!(sent.sent(), 1);
        for beyond in [0, 4] {
            assert!(sent.resume(beyond, &mut queue).is_err(), "{beyond}");
        }
        for received in 1..=3 {
            assert_eq!(sent.resume(received, &mut queue), Ok(()));
            assert_eq!(sent.sent(), received);
            assert_eq!(queue.output()[4], b'1' + received as u8);
        }
        // The last frame was begun, and comes whole.
        sent.advance(5, &mut queue);
        assert_eq!((sent.sent(), queue.output()), (4, &b""[..]));
        assert!(sent.acknowledge(5, &mut queue).is_err());
        assert_eq!(sent.acknowledge(4, &mut queue), Ok(3));
        assert!(queue.is_empty());
    }
}
