//! Events that come at an even pace.

use std::time::Duration;

use voltlane_core::Time;

/// The times of ticks.
pub(crate) struct Ticks {
    every: Duration,
    pub(crate) next: Time,
    /// Whether the application heard of a tick last.
    was_last: bool,
}

impl Ticks {
    /// The first tick comes after the first interval.
    pub(crate) fn new(every: Duration, now: Time) -> Self {
        let next = now + every;
        Ticks {
            every,
            next,
            was_last: false,
        }
    }

    /// Notes that the application hears of something else.
    pub(crate) fn others_come(&mut self) {
        self.was_last = false;
    }

    /// Returns whether a tick that is due comes before all that waits. Behind another tick it comes last, or whoever is slower than the ticks
    /// would hear of nothing else.
    pub(crate) fn come_first(&self) -> bool {
        !self.was_last
    }

    /// Returns how late the tick is that is due, if one is. Missed ticks are left out.
    pub(crate) fn take(&mut self, now: Time) -> Option<Duration> {
        if now < self.next {
            return None;
        }
        let late = now.since(self.next);
        let into_next = late.as_nanos() % self.every.as_nanos();
        let into_next = u64::try_from(into_next).map_or(Duration::MAX, Duration::from_nanos);
        self.next = now + self.every.saturating_sub(into_next);
        self.was_last = true;
        Some(late)
    }
}
