//! An application that takes time for what it gets.

use std::collections::VecDeque;

/// What an application is busy with, and until when, in order. It comes back for more after each.
#[derive(Debug)]
pub(crate) struct Takes<T>(VecDeque<(u64, T)>);

impl<T> Default for Takes<T> {
    fn default() -> Self {
        Takes(VecDeque::new())
    }
}

impl<T> Takes<T> {
    /// The application gets one more, with which it is busy until `until`, or until it is done with the one before.
    pub(crate) fn push(&mut self, until: u64, what: T) {
        let before = self.0.back().map_or(0, |(at, _)| *at);
        self.0.push_back((until.max(before), what));
    }

    /// Returns what it is done with by `now`.
    pub(crate) fn pop_done(&mut self, now: u64) -> Option<T> {
        let done = self.0.pop_front_if(|(at, _)| *at <= now);
        done.map(|(_, what)| what)
    }

    /// Returns when it is done with the next one.
    pub(crate) fn next_at(&self) -> Option<u64> {
        self.0.front().map(|(at, _)| *at)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
