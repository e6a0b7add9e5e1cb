//! One direction of a simulated connection: bytes that take time, arrive in pieces, and sometimes never.

use std::collections::VecDeque;

use voltlane_core::edge::CloseKind;

use crate::rng::Rng;

/// How a direction ended, as its reader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Orderly, after the last byte.
    Fin,
    /// Immediate; unread bytes are lost.
    Rst,
}

impl From<CloseKind> for End {
    fn from(kind: CloseKind) -> End {
        match kind {
            CloseKind::Graceful => End::Fin,
            CloseKind::Abort => End::Rst,
        }
    }
}

/// Bytes in flight from one writer to one reader.
///
/// Like in a kernel, written bytes are held up to a capacity until the reader takes them, in order. A piece may be cut in two on the way,
/// and pieces that have arrived are joined.
#[derive(Debug)]
pub struct Pipe {
    capacity: usize,
    delay_max_us: u64,
    rng: Rng,
    under_way: VecDeque<(u64, Vec<u8>)>,
    under_way_bytes: usize,
    arrived: VecDeque<u8>,
    last_arrival: u64,
    end: Option<(u64, End)>,
    /// The reader's host is gone: bytes are accepted up to the capacity and never arrive.
    silent: bool,
    /// The reader has closed: bytes are accepted and discarded.
    discarding: bool,
}

impl Pipe {
    /// A direction that holds `capacity` bytes at most, each for `delay_max_us` microseconds at most.
    #[must_use]
    pub fn new(capacity: u64, delay_max_us: u64, rng: Rng) -> Pipe {
        Pipe {
            capacity: capacity.max(1) as usize,
            delay_max_us,
            rng,
            under_way: VecDeque::new(),
            under_way_bytes: 0,
            arrived: VecDeque::new(),
            last_arrival: 0,
            end: None,
            silent: false,
            discarding: false,
        }
    }

    /// Returns the number of bytes that a writer may hand over now.
    pub fn room(&self) -> usize {
        match () {
            () if self.discarding => usize::MAX,
            () if self.end.is_some() => 0,
            () => self
                .capacity
                .saturating_sub(self.under_way_bytes + self.arrived.len()),
        }
    }

    /// Accepts at most [`room`](Self::room) bytes, and adds their times of arrival to `arrivals`.
    pub fn write(&mut self, now: u64, bytes: &[u8], arrivals: &mut impl Extend<u64>) {
        if self.discarding || bytes.is_empty() {
            return;
        }
        self.under_way_bytes += bytes.len();
        if self.silent {
            self.under_way.push_back((u64::MAX, bytes.to_vec()));
            return;
        }
        let cut = if self.rng.chance(20) {
            self.rng.below(bytes.len() as u64) as usize
        } else {
            0
        };
        for piece in [&bytes[..cut], &bytes[cut..]] {
            if !piece.is_empty() {
                let at = self.arrival(now);
                self.under_way.push_back((at, piece.to_vec()));
                arrivals.extend([at]);
            }
        }
    }

    /// Ends the direction from the writer's side. Returns when the reader learns of it.
    pub fn end(&mut self, now: u64, end: End) -> Option<u64> {
        if self.end.is_some() || self.silent {
            return None;
        }
        if end == End::Rst {
            self.under_way.clear();
            self.under_way_bytes = 0;
        }
        let at = self.arrival(now);
        self.end = Some((at, end));
        Some(at)
    }

    /// Stops everything from arriving, without notice.
    pub fn go_silent(&mut self) {
        self.silent = true;
        for (at, _) in &mut self.under_way {
            *at = u64::MAX;
        }
        if self.end.is_some_and(|(at, _)| at > 0) && self.under_way_bytes > 0 {
            self.end = None;
        }
    }

    /// Discards everything written from now on, as the reader is gone.
    pub fn discard(&mut self) {
        self.discarding = true;
        self.under_way.clear();
        self.under_way_bytes = 0;
        self.arrived.clear();
    }

    /// Delivers what has arrived by `now`.
    pub fn advance(&mut self, now: u64) {
        while self.under_way.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, bytes)) = self.under_way.pop_front() {
                self.under_way_bytes -= bytes.len();
                self.arrived.extend(bytes);
            }
        }
        if self
            .end
            .is_some_and(|(at, end)| at <= now && end == End::Rst)
        {
            self.arrived.clear();
        }
    }

    /// Returns the number of bytes that the reader can take.
    pub fn readable(&self) -> usize {
        self.arrived.len()
    }

    /// Takes at most `most` bytes.
    pub fn read(&mut self, most: usize) -> Vec<u8> {
        take_front(&mut self.arrived, most)
    }

    /// Returns the end, once the reader has taken everything before it.
    pub fn ended(&self, now: u64) -> Option<End> {
        let (at, end) = self.end?;
        (at <= now && self.arrived.is_empty() && self.under_way.is_empty()).then_some(end)
    }

    /// Returns whether the reader sees a reset, which overtakes unread bytes.
    pub fn is_reset(&self, now: u64) -> bool {
        self.end
            .is_some_and(|(at, end)| at <= now && end == End::Rst)
    }

    fn arrival(&mut self, now: u64) -> u64 {
        let delay = self.rng.below(self.delay_max_us * 1_000);
        self.last_arrival = self.last_arrival.max(now + delay);
        self.last_arrival
    }
}

/// Takes at most `most` bytes off the front, in two copies instead of byte by byte.
pub fn take_front(queue: &mut VecDeque<u8>, most: usize) -> Vec<u8> {
    let count = most.min(queue.len());
    let (first, second) = queue.as_slices();
    let cut = count.min(first.len());
    let taken = [&first[..cut], &second[..count - cut]].concat();
    queue.drain(..count);
    taken
}
