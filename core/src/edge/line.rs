//! The line in which sessions wait for room on the link (SPEC 10.4): deficit round robin, in bytes.

use std::collections::VecDeque;

use super::session::Session;

/// Bytes that one session may put on the link in its turn when others wait too.
const QUANTUM_BYTES: usize = 64 * 1024;

/// Places for which memory is kept when nobody waits.
const KEPT_PLACES: usize = 1024;

/// The sessions that wait, by index: [`Session::waiting`] of exactly these is true.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Line {
    waiting: VecDeque<u32>,
}

impl Line {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// All that wait, in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        self.waiting.iter().copied()
    }

    /// Whose turn it is.
    pub(super) fn first(&self) -> Option<u32> {
        self.waiting.front().copied()
    }

    /// The session at `index` gets in line, unless it is there already.
    pub(super) fn join(&mut self, index: u32, session: &mut Session) {
        if !session.waiting {
            session.waiting = true;
            session.rare().deficit = QUANTUM_BYTES;
            self.waiting.push_back(index);
        }
    }

    /// The turn of `first` is over, and it has more to say: the next one has its turn.
    pub(super) fn next_turn(&mut self, first: &mut Session) {
        self.waiting.rotate_left(1);
        first.rare().deficit += QUANTUM_BYTES;
    }

    /// Nothing of `first` waits any more.
    pub(super) fn leave(&mut self, first: &mut Session) {
        self.waiting.pop_front();
        first.waiting = false;
        first.trim_rare();
    }

    /// Gives memory back when a crowd has left.
    pub(super) fn trim(&mut self) {
        if self.waiting.capacity() > KEPT_PLACES {
            self.waiting.shrink_to(0);
        }
    }

    /// Places for which there is memory.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.waiting.capacity()
    }
}
