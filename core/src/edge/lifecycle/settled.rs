//! What clients have settled (SPEC 36.3).

use core::time::Duration;

use crate::link::tagged::TAG_BYTES;
use crate::link::v3::{Feature, SETTLEMENT_BYTES, Settlements, ToBackend, flag};
use crate::time::Time;

use crate::edge::Edge;
use crate::edge::sessions::Session;
use crate::edge::uplink::rewrite::flag_of;

/// The longest time until the backend is told.
const DELAY: Duration = Duration::from_millis(20);
/// The most sessions in one SETTLED.
const MOST: usize = 4_096;

/// The sessions that have settled something since the backend was told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settling {
    /// Each knows its place here.
    sessions: Vec<u32>,
    at: Option<Time>,
    /// Whether there was no room when it was last told. Then it waits for its time.
    is_put_off: bool,
}

image!(Settling {
    sessions,
    at,
    is_put_off
});

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
}

impl Edge {
    /// Forgets what a session that ends has settled: ENDED says it.
    pub(crate) fn forget_settled(&mut self, session: u32) {
        let Some(place) = self.sessions.live_mut(session).take_settling() else {
            return;
        };
        let all = &mut self.settling.sessions;
        assert!(
            all.get(place as usize) == Some(&session),
            "who has a place among those that have settled is there"
        );
        all.swap_remove(place as usize);
        if let Some(&moved) = all.get(place as usize) {
            self.sessions.live_mut(moved).linked().settling = Some(place);
        }
    }

    /// Forgets what all sessions have settled: OWN tells it to a new boot.
    pub(crate) fn forget_all_settled(&mut self) {
        for session in core::mem::take(&mut self.settling).sessions {
            self.sessions.live_mut(session).take_settling();
        }
    }

    /// Notes that the session has settled something which the backend was not told of.
    pub(crate) fn begin_settling(&mut self, session: u32) {
        let linked = self.sessions.live_mut(session).linked();
        if linked.settling.is_none() {
            // There are fewer sessions than the table has indexes.
            linked.settling = u32::try_from(self.settling.sessions.len()).ok();
            self.settling.sessions.push(session);
        }
    }

    /// Handles that the client of the session has settled something.
    #[cold]
    #[inline(never)]
    pub(crate) fn note_settled(&mut self, now: Time, session: u32) {
        let features = self.link_queue.version.features();
        if !features.is_some_and(|features| features.has(Feature::Settled)) {
            return;
        }
        #[cfg(feature = "backends")]
        if self.departures.has(self.sessions.live(session).id) {
            return;
        }
        self.begin_settling(session);
        let entry = self.sessions.live_mut(session);
        let settled = entry.settled_down();
        let linked = entry.linked();
        let quarter = u64::from(self.config.clients.ring_packets).div_ceil(4);
        let is_much = settled.saturating_sub(linked.told_settled) >= quarter;
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
        if !self.link_queue.version.is_granted() {
            // OWN tells a new boot, and the next change the present one.
            return;
        }
        let mut sessions = core::mem::take(&mut self.settling.sessions);
        // In the order of the table: one lies behind the other in memory.
        sessions.sort_unstable();
        // It does not overtake what tells of a session: a backend that has not heard of it drops that (SPEC 35.1(a)).
        let untold = sessions.extract_if(.., |&mut session| is_untold(self.sessions.live(session)));
        let untold: Vec<u32> = untold.collect();
        if !untold.is_empty() {
            self.settling.at = Some(now + DELAY);
        }
        let most = most_in(self.link_queue.version.longest_body());
        let mut told = 0;
        for some in sessions.chunks(most) {
            if !self
                .link_queue
                .has_room(TAG_BYTES + SETTLEMENT_BYTES * some.len())
            {
                (self.settling.at, self.settling.is_put_off) = (Some(now + DELAY), true);
                break;
            }
            let settled = some.iter().map(|&session| {
                let entry = self.sessions.live_mut(session);
                let (id, settled) = (entry.id, entry.settled_down());
                let linked = entry.linked();
                (linked.told_settled, linked.settling) = (settled, None);
                (id, settled)
            });
            let settled: Vec<_> = settled.collect();
            let mut frame = Vec::new();
            ToBackend::Settled(Settlements::from(&settled[..])).encode(&mut frame);
            self.link_queue.frames.push_frame(&frame, &[]);
            told += some.len();
        }
        sessions.drain(..told);
        sessions.extend(untold);
        for (place, &session) in (0..).zip(&sessions) {
            self.sessions.live_mut(session).linked().settling = Some(place);
        }
        self.settling.sessions = sessions;
    }
}

/// Returns whether what tells the backend of the session, JOINED or OWN, has found no room on the link yet.
fn is_untold(entry: &Session) -> bool {
    let backlog = entry.line_frames().filter(|_| entry.waiting);
    let first = backlog.and_then(|backlog| backlog.bodies().next());
    matches!(first.map(flag_of), Some(flag::JOINED | flag::OWN))
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
