//! Handles deadlines that a driver learns of late, because the process was suspended or starved.
//!
//! Its peers kept going meanwhile. A client may have read everything that was to be written to it, and a packet may have arrived in time:
//! the system knows that, and the driver does not yet. So deadlines are postponed for a moment in which the sockets are served.

use std::time::Duration;

use voltlane_core::Time;

use crate::late::is_late;

/// How long the sockets are then served before deadlines apply: what the network held back arrives within a round trip.
const CATCH_UP: Duration = Duration::from_millis(500);
/// The maximum time, if there is always more to serve.
const CATCH_UP_MAX: Duration = Duration::from_secs(2);

/// Tracks whether deadlines apply.
#[derive(Debug, Default)]
pub(crate) struct CatchUp {
    since: Option<Time>,
}

impl CatchUp {
    /// Begins a turn. `deadline` is the machine's next deadline.
    pub(crate) fn notice(&mut self, now: Time, deadline: Option<Time>) {
        if self.since.is_none() && is_late(now, deadline) {
            self.since = Some(now);
        }
    }

    /// Returns whether the machine may be told the time. `busy` tells whether streams wait to be served.
    pub(crate) fn is_over(&mut self, now: Time, busy: bool) -> bool {
        let Some(since) = self.since else {
            return true;
        };
        let lasts = if busy { CATCH_UP_MAX } else { CATCH_UP };
        if now.since(since) < lasts {
            return false;
        }
        self.since = None;
        true
    }

    /// Returns when the machine must be told the time, given its next deadline.
    pub(crate) fn put_off(&self, deadline: Option<Time>) -> Option<Time> {
        let until = self.since.map(|since| since + CATCH_UP);
        deadline.map(|at| until.map_or(at, |until| at.max(until)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    #[test]
    fn a_deadline_on_time_counts_at_once() {
        let mut catch_up = CatchUp::default();
        for deadline in [None, Some(at(1_000)), Some(at(500)), Some(at(2_000))] {
            catch_up.notice(at(1_000), deadline);
            assert!(catch_up.is_over(at(1_000), true));
            assert_eq!(catch_up.put_off(deadline), deadline);
        }
    }

    #[test]
    fn a_late_one_waits_until_the_sockets_were_served_and_not_for_ever() {
        for (busy, lasts) in [(false, 500), (true, 2_000)] {
            let mut catch_up = CatchUp::default();
            catch_up.notice(at(11_000), Some(at(10_499)));
            // A new deadline of the machine meanwhile does not restart it.
            catch_up.notice(at(11_400), Some(at(10_499)));
            assert!(!catch_up.is_over(at(11_000 + lasts - 1), busy));
            assert_eq!(catch_up.put_off(Some(at(10_499))), Some(at(11_500)));
            assert_eq!(catch_up.put_off(Some(at(20_000))), Some(at(20_000)));
            assert_eq!(catch_up.put_off(None), None);
            assert!(catch_up.is_over(at(11_000 + lasts), busy));
            assert!(catch_up.is_over(at(11_000 + lasts), busy), "and is over");
        }
    }
}
