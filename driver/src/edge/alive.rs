//! Peers whose transport asks them for a sign of life.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use voltlane_core::Time;
use voltlane_core::edge::ConnKey;

/// Entries that are kept whatever the number of clients.
const KEPT: usize = 1_024;
/// Clients that are accepted together are asked at different times: up to one in this many parts of the time earlier, in as many steps.
const SPREAD: u32 = 5;
const STEPS: u32 = 16;

/// When clients are next asked, the earliest first.
#[derive(Default)]
pub(super) struct Alive {
    due: BinaryHeap<Reverse<(Time, ConnKey)>>,
}

impl Alive {
    /// Enters a client that is to be asked in this time, or a little earlier. `clients` is how many there are: the entries of those that
    /// have left are dropped from time to time.
    pub(super) fn enter(
        &mut self,
        key: ConnKey,
        at: Time,
        clients: usize,
        is_there: impl Fn(ConnKey) -> bool,
    ) {
        if self.due.len() > KEPT + 2 * clients {
            self.due.retain(|Reverse((_, key))| is_there(*key));
        }
        self.due.push(Reverse((at, key)));
    }

    /// Returns when somebody is next asked.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    /// Returns the next client whose time has come. It is no longer entered.
    pub(super) fn next(&mut self, now: Time) -> Option<ConnKey> {
        if self.next_deadline()? > now {
            return None;
        }
        self.due.pop().map(|Reverse((_, key))| key)
    }
}

/// Returns `after`, or up to a fifth less.
pub(super) fn spread(key: ConnKey, after: Duration) -> Duration {
    let step = (key.index() % STEPS as usize) as u32;
    after - after / (SPREAD * STEPS) * step
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use voltlane_core::edge::{Edge, EdgeConfig};
    use voltlane_core::keys::KeyPair;

    use super::*;

    /// Keys of this many connections.
    fn keys(count: usize) -> Vec<ConnKey> {
        let key = KeyPair::from_bytes(&[3; 32]).expect("a key");
        let mut edge = Edge::new(EdgeConfig::default(), key, [9; 32]);
        let mut accept = || edge.handle_accepted(Time::ZERO, IpAddr::from([127, 0, 0, 1]));
        (0..count).map(|_| accept().expect("a place")).collect()
    }

    #[test]
    fn the_earliest_is_asked_first_and_nobody_before_the_time() {
        let (keys, mut alive) = (keys(3), Alive::default());
        let at = Time::from_millis;
        for (&key, millis) in keys.iter().zip([30, 10, 20]) {
            alive.enter(key, at(millis), 3, |_| true);
        }
        assert_eq!(alive.next(at(9)), None);
        assert_eq!(alive.next_deadline(), Some(at(10)));
        assert_eq!(alive.next(at(25)), Some(keys[1]));
        assert_eq!(alive.next(at(25)), Some(keys[2]));
        assert_eq!(
            (alive.next(at(25)), alive.next(at(30))),
            (None, Some(keys[0]))
        );
        assert_eq!((alive.next(at(99)), alive.next_deadline()), (None, None));
    }

    #[test]
    fn the_entries_of_those_that_left_are_bounded() {
        let (keys, mut alive) = (keys(2), Alive::default());
        let (stays, left) = (keys[0], keys[1]);
        alive.enter(stays, Time::ZERO, 1, |key| key == stays);
        for _ in 0..10 * KEPT {
            alive.enter(left, Time::from_millis(1), 1, |key| key == stays);
            assert!(alive.due.len() <= KEPT + 4);
        }
        assert_eq!(alive.next(Time::ZERO), Some(stays));
    }

    #[test]
    fn those_that_came_together_are_asked_at_different_times() {
        let after = Duration::from_secs(10);
        let times: std::collections::BTreeSet<_> =
            keys(100).iter().map(|key| spread(*key, after)).collect();
        assert_eq!(times.len(), STEPS as usize);
        assert!(
            times
                .iter()
                .all(|time| (after - after / SPREAD..=after).contains(time))
        );
    }
}
