//! Notices programs that begin a new session in place of one that would have come back by itself.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many sessions in so short a time are a loop.
const MANY: usize = 5;
const WITHIN: Duration = Duration::from_secs(10);

/// What is known of the clients of this process.
#[derive(Debug)]
pub(super) struct Rejoins {
    /// Sessions that were given up, without another one in their place so far.
    given_up: usize,
    /// When the latest sessions began in the place of those.
    begun: VecDeque<Instant>,
    has_warned: bool,
}

static OF_PROCESS: Mutex<Rejoins> = Mutex::new(Rejoins::new());

impl Rejoins {
    pub(super) const fn new() -> Self {
        Rejoins {
            given_up: 0,
            begun: VecDeque::new(),
            has_warned: false,
        }
    }

    /// Handles that a client was dropped whose session was not over.
    pub(super) fn gave_up(&mut self) {
        self.given_up = (self.given_up + 1).min(MANY);
    }

    /// Handles that the first session of a client has begun. Returns whether to warn, which is once.
    pub(super) fn began(&mut self, now: Instant) -> bool {
        if self.given_up == 0 {
            return false;
        }
        self.given_up -= 1;
        self.begun.push_back(now);
        if self.begun.len() < MANY {
            return false;
        }
        let first = self.begun.pop_front();
        let is_loop = first.is_some_and(|first| now.duration_since(first) < WITHIN);
        is_loop && !std::mem::replace(&mut self.has_warned, true)
    }
}

/// A client was dropped whose session was not over.
pub(super) fn gave_up() {
    let mut known = OF_PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    known.gave_up();
}

/// The first session of a client has begun.
pub(super) fn began() {
    let mut known = OF_PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    if known.began(Instant::now()) {
        tracing::warn!(
            "this program has dropped {MANY} clients whose sessions were not over, and joined again each time, within {WITHIN:?}: \
             a client comes back by itself after a drop, and start_over begins another session after an end"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_sessions_given_up_for_another_within_ten_seconds_are_a_loop() {
        let begin = Instant::now();
        let mut rejoins = Rejoins::new();
        for n in 0..4 {
            rejoins.gave_up();
            assert!(!rejoins.began(begin + Duration::from_secs(n)));
        }
        rejoins.gave_up();
        assert!(rejoins.began(begin + WITHIN - Duration::from_nanos(1)));
        rejoins.gave_up();
        assert!(!rejoins.began(begin + WITHIN), "it is told once");
    }

    #[test]
    fn slow_ones_and_many_clients_beside_each_other_are_none() {
        let begin = Instant::now();
        let mut rejoins = Rejoins::new();
        for _ in 0..100 {
            assert!(!rejoins.began(begin));
        }
        for n in 0..100_u32 {
            rejoins.gave_up();
            assert!(!rejoins.began(begin + n * WITHIN / 4));
        }
    }
}
