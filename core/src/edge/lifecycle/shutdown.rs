//! The end of an edge in order. (SPEC 9.8)

use core::time::Duration;

use crate::edge::Edge;
use crate::edge::conns::wait::Wait;
use crate::edge::sessions::Place;
use crate::time::Time;

impl Edge {
    /// Shuts down in order: no new clients are accepted, clients are no longer read, and queued data is handed over. It takes at most
    /// `within` (SPEC 9.8).
    pub fn handle_shutdown(&mut self, now: Time, within: Duration) {
        noted!(self, now, Shutdown { within });
        self.step(now, |edge, now| edge.begin_shutdown(now, within));
    }

    fn begin_shutdown(&mut self, now: Time, within: Duration) {
        if self.shutdown_at.is_none() {
            self.shutdown_at = Some(now + within);
            self.close_half_open(now);
            self.send_all_away(now);
        }
    }

    /// Returns whether a shutdown was requested and everything is handed over, or its time is up.
    ///
    /// The adapter then closes everything. A session that ends because of this, for lack of a place, has a final notice for the backend,
    /// which makes this false again. The adapter must not wait for it.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.shutdown_at
            .is_some_and(|at| at <= self.now || self.is_handed_over())
    }

    /// Returns whether nothing queued waits for the link or for a client.
    fn is_handed_over(&self) -> bool {
        let waits_for_client = || {
            let mut sessions = self.sessions.iter();
            sessions
                .any(|(_, one)| matches!(one.place, Place::Attached(_)) && one.outbox.has_unsent())
        };
        self.link_queue.is_empty()
            && self.line.is_empty()
            && self.conns.waiting_for(Wait::Write) == 0
            && self.conns.waiting_for(Wait::Drain) == 0
            // Without a write deadline no list has the clients with output to take.
            && (!self.config.clients.write_timeout.is_zero() || !waits_for_client())
    }
}
