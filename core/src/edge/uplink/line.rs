//! The line in which sessions wait for room on the link (SPEC 10.4): deficit round robin, in bytes.

use std::collections::VecDeque;

use crate::edge::sessions::Session;

/// The number of bytes that one session may put on the link in its turn while others wait.
const QUANTUM_BYTES: usize = 64 * 1024;

/// The number of places for which memory is kept when nobody waits.
const KEPT_PLACES: usize = 1024;

/// The waiting sessions by index: [`Session::waiting`] is true for exactly these.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Line {
    waiting: VecDeque<u32>,
}

image!(Line { waiting });

impl Line {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Returns the number of waiting sessions.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Returns the waiting sessions in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        self.waiting.iter().copied()
    }

    /// Returns the session whose turn it is.
    pub(crate) fn first(&self) -> Option<u32> {
        self.waiting.front().copied()
    }

    /// Adds the session at `index`, unless it is in line already.
    pub(crate) fn join(&mut self, index: u32, session: &mut Session) {
        if !session.waiting {
            session.waiting = true;
            session.line_entry().deficit = QUANTUM_BYTES;
            self.waiting.push_back(index);
        }
    }

    /// Ends the turn of `first`, which has more to send. The next session has its turn.
    pub(crate) fn next_turn(&mut self, first: &mut Session) {
        self.waiting.rotate_left(1);
        first.line_entry().deficit += QUANTUM_BYTES;
    }

    /// Removes `first`, which has nothing more to send.
    pub(crate) fn leave(&mut self, first: &mut Session) {
        self.waiting.pop_front();
        first.waiting = false;
        first.trim_line_entry();
    }

    /// Returns memory after many sessions have left.
    pub(crate) fn trim(&mut self) {
        if self.waiting.capacity() > KEPT_PLACES {
            self.waiting.shrink_to(0);
        }
    }

    /// Returns the number of places for which there is memory.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.waiting.capacity()
    }
}
