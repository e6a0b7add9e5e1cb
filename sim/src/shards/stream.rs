//! One direction of a transport, or of a branch inside of the process: bytes in order, up to a capacity.

use std::collections::VecDeque;

/// How a direction ended, as its reader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// After the last byte.
    Fin,
    /// At once; what was not read is lost.
    Rst,
}

/// Bytes between one writer and one reader.
#[derive(Debug)]
pub(super) struct Stream {
    bytes: VecDeque<u8>,
    capacity: usize,
    end: Option<End>,
    /// The reader is gone: what is written is taken and vanishes.
    deaf: bool,
}

impl Stream {
    pub(super) fn new(capacity: usize) -> Stream {
        Stream {
            bytes: VecDeque::new(),
            capacity,
            end: None,
            deaf: false,
        }
    }

    /// How much a writer may hand over now.
    pub(super) fn room(&self) -> usize {
        match (self.deaf, self.end) {
            (true, _) => usize::MAX,
            (_, Some(_)) => 0,
            (_, None) => self.capacity - self.bytes.len(),
        }
    }

    /// Takes bytes, at most [`room`](Stream::room) of them.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        if !self.deaf {
            assert!(bytes.len() <= self.room(), "more than there is room for");
            self.bytes.extend(bytes);
        }
    }

    /// Bytes that wait for the reader.
    pub(super) fn readable(&self) -> usize {
        self.bytes.len()
    }

    /// Takes at most `most` bytes.
    pub(super) fn read(&mut self, most: usize) -> Vec<u8> {
        take(&mut self.bytes, most)
    }

    /// The writer ends it; the first end counts, but for a reset that comes later.
    pub(super) fn end(&mut self, end: End) {
        if end == End::Rst {
            self.bytes.clear();
        }
        if self.end != Some(End::Rst) && (self.end.is_none() || end == End::Rst) {
            self.end = Some(end);
        }
    }

    /// The reader reads no more.
    pub(super) fn discard(&mut self) {
        self.deaf = true;
        self.bytes.clear();
    }

    /// The end, once the reader has taken everything before it.
    pub(super) fn ended(&self) -> Option<End> {
        self.end.filter(|_| self.bytes.is_empty())
    }

    /// Whether it was reset, which a reader learns of at once.
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
