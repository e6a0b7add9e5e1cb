//! One direction of a transport: bytes in order, up to a capacity.

use std::collections::VecDeque;

/// How a direction ended, as its reader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// After the last byte.
    Fin,
    /// Immediate; unread bytes are lost.
    Rst,
}

/// Bytes in flight from one writer to one reader.
#[derive(Debug)]
pub(super) struct Stream {
    bytes: VecDeque<u8>,
    capacity: usize,
    end: Option<End>,
    /// The reader is gone: bytes are accepted and discarded.
    reader_is_gone: bool,
}

impl Stream {
    pub(super) fn new(capacity: usize) -> Stream {
        Stream {
            bytes: VecDeque::new(),
            capacity,
            end: None,
            reader_is_gone: false,
        }
    }

    /// Returns how much a writer may hand over now.
    pub(super) fn room(&self) -> usize {
        match (self.reader_is_gone, self.end) {
            (true, _) => usize::MAX,
            (_, Some(_)) => 0,
            (_, None) => self.capacity - self.bytes.len(),
        }
    }

    /// Accepts at most [`room`](Stream::room) bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        if !self.reader_is_gone {
            assert!(bytes.len() <= self.room(), "more than there is room for");
            self.bytes.extend(bytes);
        }
    }

    /// Returns the number of bytes that wait for the reader.
    pub(super) fn readable(&self) -> usize {
        self.bytes.len()
    }

    /// Takes at most `most` bytes.
    pub(super) fn read(&mut self, most: usize) -> Vec<u8> {
        take(&mut self.bytes, most)
    }

    /// Ends the direction from the writer's side. The first end counts, except that a later reset overrides it.
    pub(super) fn end(&mut self, end: End) {
        if end == End::Rst {
            self.bytes.clear();
        }
        if self.end != Some(End::Rst) && (self.end.is_none() || end == End::Rst) {
            self.end = Some(end);
        }
    }

    /// Discards everything from now on, as the reader is gone.
    pub(super) fn discard(&mut self) {
        self.reader_is_gone = true;
        self.bytes.clear();
    }

    /// Returns the end, once the reader has taken everything before it.
    pub(super) fn ended(&self) -> Option<End> {
        self.end.filter(|_| self.bytes.is_empty())
    }

    /// Returns whether it was reset, which a reader sees at once.
    pub(super) fn is_reset(&self) -> bool {
        self.end == Some(End::Rst)
    }
}

/// Takes at most `most` bytes off the front.
pub(super) fn take(bytes: &mut VecDeque<u8>, most: usize) -> Vec<u8> {
    let count = most.min(bytes.len());
    let (front, back) = bytes.as_slices();
    let of_front = count.min(front.len());
    let taken = [&front[..of_front], &back[..count - of_front]].concat();
    bytes.drain(..count);
    taken
}
