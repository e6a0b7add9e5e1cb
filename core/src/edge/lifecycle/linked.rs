//! The interface of the edge to the backend link.

use crate::edge::uplink::link::HasLink;
use crate::time::Time;

use crate::edge::contract::Closed;
use crate::edge::{Edge, READ_BYTES};

impl HasLink for Edge {
    fn link_wants_connect(&self, now: Time) -> bool {
        self.link.wants_connect(now.max(self.now))
    }

    fn handle_link_connecting(&mut self, now: Time) {
        let now = self.advance(now);
        self.link.connecting(now);
    }

    fn handle_link_connected(&mut self, now: Time) {
        let now = self.advance(now);
        if self.link.connected(now) {
            // The trunk logs what concerns the link, once for all its branches.
            if !self.link.is_branch() {
                self.counters.link_up += 1;
            }
            self.link
                .begin_announcing(self.config.master.announce_all, &self.sessions);
        }
    }

    fn handle_link_closed(&mut self, now: Time, cause: Closed) {
        let now = self.advance(now);
        if self.link.closed(now, cause, &mut self.rng).is_some() && !self.link.is_branch() {
            self.counters.link_down += 1;
        }
    }

    fn link_wants_close(&self) -> bool {
        self.link.wants_close
    }

    /// The backend is never delayed for the sake of one client.
    fn link_read_budget(&self) -> usize {
        if self.link.is_open() { READ_BYTES } else { 0 }
    }

    fn handle_link_bytes(&mut self, now: Time, bytes: &[u8]) {
        let now = self.advance(now);
        if self.link.is_open() {
            if !self.link.is_branch() {
                self.counters.link_bytes_in += bytes.len() as u64;
            }
            self.handle_backend_bytes(now, bytes);
            self.settle();
        }
    }

    #[inline]
    fn link_output(&self) -> [&[u8]; 2] {
        if !self.link.is_open() {
            return [&[], &[]];
        }
        let queued = if self.link.announced_to.is_some() || !self.link.released {
            &[]
        } else {
            self.link.queue.output()
        };
        [self.link.announcements.output(), queued]
    }

    fn handle_link_written(&mut self, now: Time, bytes: usize) {
        let now = self.advance(now);
        if self.link.is_up() {
            if !self.link.is_branch() {
                self.counters.link_bytes_out += bytes as u64;
            }
            self.link_written(now, bytes);
            self.settle();
        }
    }
}
