//! The interface of the edge to the backend link.

use crate::edge::uplink::link::HasLink;
use crate::time::Time;

use crate::edge::contract::Closed;
use crate::edge::uplink::batch::{Batch, Downward, Upward};
use crate::edge::{Edge, READ_BYTES};

/// A shard and its branch (SPEC 9.9). The rest of [`HasLink`] is the same with a branch, and no bytes go over it.
impl Edge {
    /// Returns whether there is something to hand up to the trunk.
    #[inline]
    #[must_use]
    pub fn branch_has_output(&self) -> bool {
        self.link.has_batch()
    }

    /// Takes what is to be handed up to the trunk next. A batch takes the memory of `spare` in return.
    pub fn take_branch_output(&mut self, now: Time, spare: &mut Batch) -> Option<Upward> {
        let now = self.advance(now);
        let output = self.link.take_batch(spare)?;
        self.link_written(now, 0);
        self.settle();
        Some(output)
    }

    /// Handles what the trunk handed down.
    pub fn handle_branch_input(&mut self, now: Time, input: &Downward) {
        let now = self.advance(now);
        if self.link.is_open() {
            self.handle_from_trunk(now, input);
            self.settle();
        }
    }
}

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
        if !self.link.is_open() || self.link.is_branch() {
            return [&[], &[]];
        }
        let queued = if self.link.announced_to.is_some() {
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
