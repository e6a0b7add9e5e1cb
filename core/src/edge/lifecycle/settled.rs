//! What clients have settled (SPEC 36.3).

use core::time::Duration;
use std::collections::BTreeSet;

use crate::link::tagged::TAG_BYTES;
use crate::link::v3::{Feature, SETTLEMENT_BYTES, Settlements, ToBackend};
use crate::time::Time;

use crate::edge::Edge;
use crate::edge::lifecycle::notices::push_if_room;

/// The longest time until the backend is told.
const DELAY: Duration = Duration::from_millis(20);
/// The most sessions in one SETTLED.
const MOST: usize = 4_096;

/// The sessions that have settled something since the backend was told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settling {
    sessions: BTreeSet<u32>,
    at: Option<Time>,
    /// Whether there was no room when it was last told. Then it waits for its time.
    is_put_off: bool,
}

impl Settling {
    /// Returns when the backend is told.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.at
    }

    /// Tells the backend at once what was settled while it was not there.
    pub(crate) fn hurry(&mut self, now: Time) {
        if !self.sessions.is_empty() {
            self.at = Some(now);
        }
    }

    /// Notes a session that has settled something which the backend was not told of.
    pub(crate) fn note(&mut self, session: u32) {
        self.sessions.insert(session);
    }

    /// Forgets a session that has ended: ENDED says what it settled.
    pub(crate) fn forget(&mut self, session: u32) {
        self.sessions.remove(&session);
    }
}

impl Edge {
    /// Handles that the client of the session has settled something.
    #[cold]
    #[inline(never)]
    pub(crate) fn note_settled(&mut self, now: Time, session: u32) {
        let features = self.link_queue.speech.features();
        if !features.is_some_and(|features| features.has(Feature::Settled)) {
            return;
        }
        self.settling.sessions.insert(session);
        let entry = self.sessions.live(session);
        let told = entry.told_settled();
        let quarter = u64::from(self.config.clients.ring_packets).div_ceil(4);
        let is_much = entry.settled_down().saturating_sub(told) >= quarter;
        if is_much && !self.settling.is_put_off {
            self.settling.at = Some(now);
            self.tell_settled(now);
        } else {
            self.settling.at.get_or_insert(now + DELAY);
        }
    }

    /// Tells the backend what was settled, if it is time. Without room it is told later.
    pub(crate) fn tell_settled(&mut self, now: Time) {
        if self.settling.at.is_none_or(|at| at > now) {
            return;
        }
        (self.settling.at, self.settling.is_put_off) = (None, false);
        let mut sessions = core::mem::take(&mut self.settling.sessions);
        if !self.link_queue.speech.is_granted() {
            // OWN tells a new boot, and the next change the present one.
            self.settling.sessions = sessions;
            return;
        }
        let most = most_in(self.link_queue.speech.longest_body());
        while !sessions.is_empty() {
            let some: Vec<u32> = sessions.iter().copied().take(most).collect();
            let settled: Vec<_> = some
                .iter()
                .map(|&session| {
                    let entry = self.sessions.live(session);
                    (entry.id, entry.settled_down())
                })
                .collect();
            let mut frame = Vec::new();
            ToBackend::Settled(Settlements::from(&settled[..])).encode(&mut frame);
            if !push_if_room(&mut self.link_queue, &frame) {
                self.settling.sessions.append(&mut sessions);
                (self.settling.at, self.settling.is_put_off) = (Some(now + DELAY), true);
                return;
            }
            for session in some {
                sessions.remove(&session);
                let entry = self.sessions.live_mut(session);
                let settled = entry.settled_down();
                entry.linked().told_settled = settled;
            }
        }
    }
}

/// Returns the most sessions in one SETTLED to a backend that takes bodies of this many bytes.
fn most_in(longest_body: u32) -> usize {
    let longest = usize::try_from(longest_body).unwrap_or(usize::MAX);
    let most = longest.saturating_sub(TAG_BYTES) / SETTLEMENT_BYTES;
    MOST.min(most).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_settled_has_as_many_sessions_as_the_backend_takes() {
        let bodies = [0, 9 + 16, 9 + 32 - 1, 9 + 32, 9 + 16 * 4_096 - 1, u32::MAX];
        let most = [1, 1, 1, 2, 4_095, 4_096];
        assert_eq!(bodies.map(most_in), most);
    }
}
