//! Handles memory pressure (SPEC 10.5).

use crate::time::Time;

use crate::edge::Edge;
use crate::edge::config::Enforce;
use crate::edge::contract::CloseKind;
use crate::edge::counters::{CloseReason, EndReason};
use crate::edge::memory::account::{Pressure, scaled_by};

/// The memory of a connection or a session with everything that belongs to it, including the adapter's part: measured, and rounded up.
const EACH_BYTES: usize = 1024;

impl Edge {
    /// Returns an estimate of the memory in use, for callers that need to know when it has shrunk a lot. Takes constant time.
    #[must_use]
    pub fn footprint_bytes(&self) -> usize {
        self.held_bytes() + (self.conns.len() + self.sessions.len()) * EACH_BYTES
    }

    /// Returns the bytes that wait anywhere in the machine. Takes constant time.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let twice = self.counted_twice.bytes();
        self.counted_bytes().saturating_sub(twice)
    }

    /// Returns as much or more: a packet for many counts for each of them. Where this is calm, nothing else is looked at.
    #[inline(always)]
    fn counted_bytes(&self) -> usize {
        self.account.counted()
            + self.link_queue.held_bytes()
            + self.uplink.held_bytes()
            + self.ends.held_bytes()
    }

    #[inline(always)]
    pub(crate) fn pressure(&self) -> Pressure {
        if self.account.is_calm(self.counted_bytes()) {
            Pressure::None
        } else {
            self.pressure_beyond_calm()
        }
    }

    #[cold]
    pub(crate) fn pressure_beyond_calm(&self) -> Pressure {
        if self.config.limits.enforce_memory == Enforce::On {
            self.account.level(self.held_bytes(), &self.shares)
        } else {
            Pressure::None
        }
    }

    /// Returns whether nothing that depends on the pressure can happen while at most `bytes` are added.
    #[inline]
    pub(crate) fn is_calm_for(&self, bytes: usize) -> bool {
        self.account
            .is_calm(self.counted_bytes().saturating_add(bytes))
            || self.is_calm_beyond(bytes)
    }

    #[cold]
    fn is_calm_beyond(&self, bytes: usize) -> bool {
        let held_bytes = self.held_bytes().saturating_add(bytes);
        self.account.level(held_bytes, &self.shares) == Pressure::None
    }

    /// Returns the scale of clients' byte bounds now. Evaluated once for all bounds that a packet meets.
    #[inline(always)]
    pub(crate) fn scale_bounds(&self) -> impl Fn(usize) -> usize + use<> {
        scaled_by(self.pressure())
    }

    /// From 95 % ends the largest holders until there is room again. Each step frees at least half of what the largest one holds.
    ///
    /// To be called after whatever may have added bytes. That includes the end of a connection and of a wait: the frames that such a
    /// connection held go to its session's line or to the link, where each is longer by its id and flag.
    #[inline(always)]
    pub(crate) fn shed_load(&mut self, now: Time) {
        if !self.account.is_calm(self.counted_bytes()) {
            self.end_largest(now);
        }
    }

    /// Ends holders until less than 95 % is held, or none is left that holds enough. Each one that ends is a holder no more.
    #[cold]
    pub(crate) fn end_largest(&mut self, now: Time) {
        if self.account.level(self.held_bytes(), &self.shares) < Pressure::Over {
            return;
        }
        if self.config.limits.enforce_memory == Enforce::Report {
            self.counters.memory_over += 1;
            return;
        }
        while self.pressure() == Pressure::Over {
            self.counters.memory_over += 1;
            match (self.conns.largest(), self.sessions.largest()) {
                // The backend can be told about a session's queue, so among equals it goes first.
                (Some((class, index)), other) if other.is_none_or(|(theirs, _)| class > theirs) => {
                    self.close_conn(now, index, CloseKind::Abort, CloseReason::Memory);
                }
                (_, Some((_, index))) => self.end_session(now, index, EndReason::MemoryLimit),
                // The rest is the link's, which has a bound of its own, and crumbs.
                _ => return,
            }
        }
    }
}

#[cfg(test)]
impl Edge {
    /// Returns the numbers of connections, sessions, sources and list places for which there is memory.
    pub(crate) fn table_capacities(&self) -> [usize; 5] {
        [
            self.conns.capacity(),
            self.sessions.capacity(),
            self.sources.lock().capacity(),
            self.conns.ready_capacity(),
            self.line.capacity(),
        ]
    }
}
