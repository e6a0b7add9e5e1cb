//! Events for those who follow them at the admin interface: ends of sessions, and changes by an operator.
//!
//! It is kept only while somebody follows. One that does not keep up is told how much it has missed.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::Event;

use super::{AUDIT, SESSIONS, json};

/// The maximum number of happenings that wait for followers, who take them each second.
const MAX_HAPPENINGS: usize = 1_024;
/// The maximum number of their bytes.
const MAX_BYTES: usize = 512 * 1024;

static FOLLOWERS: AtomicUsize = AtomicUsize::new(0);
static HAPPENINGS: Mutex<Happenings> = Mutex::new(Happenings::new());

/// The last happenings, oldest first.
struct Happenings {
    /// The number of the first one.
    first: u64,
    kept: VecDeque<(&'static str, String)>,
    bytes: usize,
}

impl Happenings {
    const fn new() -> Self {
        Happenings {
            first: 0,
            kept: VecDeque::new(),
            bytes: 0,
        }
    }

    fn push(&mut self, name: &'static str, line: String) {
        self.bytes += line.len();
        self.kept.push_back((name, line));
        while self.kept.len() > MAX_HAPPENINGS || self.bytes > MAX_BYTES {
            let Some((_, line)) = self.kept.pop_front() else {
                return;
            };
            self.bytes -= line.len();
            self.first += 1;
        }
    }

    /// Returns the number of the next one.
    fn end(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    /// Returns those from this number on, and how many before them are gone.
    fn from(&self, number: u64) -> (u64, impl Iterator<Item = &(&'static str, String)>) {
        let missed = self.first.saturating_sub(number);
        let skip = number.saturating_sub(self.first);
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        (missed, self.kept.iter().skip(skip))
    }

    fn clear(&mut self) {
        self.first = self.end();
        self.kept = VecDeque::new();
        self.bytes = 0;
    }
}

fn happenings() -> MutexGuard<'static, Happenings> {
    // Whole after a panic elsewhere: it changes at one place.
    HAPPENINGS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps an event of the log, if it is a happening and somebody follows.
pub(super) fn note(event: &Event<'_>) {
    let name = match event.metadata().target() {
        SESSIONS => "session_end",
        AUDIT => "audit",
        _ => return,
    };
    if FOLLOWERS.load(Ordering::Acquire) > 0 {
        let line = json::Line::of(event).end(0);
        happenings().push(name, line);
    }
}

/// Somebody who follows what happens from now on.
pub(crate) struct Follower {
    /// The number of the next happening.
    next: u64,
}

impl Follower {
    pub(crate) fn new() -> Self {
        FOLLOWERS.fetch_add(1, Ordering::AcqRel);
        let next = happenings().end();
        Follower { next }
    }

    /// Returns what has happened since the last call, as Server-Sent Events.
    pub(crate) fn take(&mut self) -> String {
        let happenings = happenings();
        let (missed, rest) = happenings.from(self.next);
        let mut out = String::new();
        if missed > 0 {
            out.push_str(&format!("event: missed\ndata: {{\"missed\":{missed}}}\n\n"));
        }
        for (name, line) in rest {
            // The line has an end of its own.
            out.push_str(&format!("event: {name}\ndata: {line}\n"));
        }
        self.next = happenings.end();
        out
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if FOLLOWERS.fetch_sub(1, Ordering::AcqRel) == 1 {
            happenings().clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_and_who_is_slow_knows_how_many() {
        let mut happenings = Happenings::new();
        for number in 0..=MAX_HAPPENINGS {
            happenings.push("audit", number.to_string());
        }
        let (missed, mut rest) = happenings.from(0);
        assert_eq!((missed, rest.next()), (1, Some(&("audit", "1".to_owned()))));
        assert_eq!(rest.count(), MAX_HAPPENINGS - 1);
        let end = happenings.end();
        assert_eq!(end, MAX_HAPPENINGS as u64 + 1);
        let (missed, rest) = happenings.from(end);
        assert_eq!((missed, rest.count()), (0, 0));
        happenings.push("audit", "x".repeat(MAX_BYTES - 1));
        happenings.push("audit", "y".into());
        assert_eq!(happenings.bytes, MAX_BYTES);
        happenings.push("audit", "z".into());
        assert_eq!((happenings.kept.len(), happenings.bytes), (2, 2));
        happenings.clear();
        assert_eq!((happenings.end(), happenings.bytes), (end + 3, 0));
    }
}
