//! The interface of the edge to the backend link.

use crate::edge::uplink::link::{HasLink, Link};
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
        self.uplink.has_batch(&self.link_queue)
    }

    /// Takes what is to be handed up to the trunk next. A batch takes the memory of `spare` in return.
    pub fn take_branch_output(&mut self, now: Time, spare: &mut Batch) -> Option<Upward> {
        let now = self.advance(now);
        let output = self.uplink.take_batch(&mut self.link_queue, spare)?;
        self.link_written(now);
        self.settle();
        Some(output)
    }

    /// Handles what the trunk handed down.
    pub fn handle_branch_input(&mut self, now: Time, input: &Downward) {
        let now = self.advance(now);
        if let Some(batch) = self.uplink.take_in(input) {
            self.handle_batch(now, batch);
            self.settle();
        }
    }
}

impl HasLink for Edge {
    fn link_wants_connect(&self, now: Time) -> bool {
        self.uplink.wants_connect(now.max(self.now))
    }

    fn handle_link_connecting(&mut self, now: Time) {
        let now = self.advance(now);
        self.uplink.connecting(now);
    }

    fn handle_link_connected(&mut self, now: Time) {
        let now = self.advance(now);
        if self.uplink.connected(now, &mut self.counters) {
            self.link_queue
                .begin_announcing(self.config.master.announce_all, &self.sessions);
        }
    }

    fn handle_link_closed(&mut self, now: Time, cause: Closed) {
        let now = self.advance(now);
        self.uplink.closed(
            now,
            cause,
            &mut self.rng,
            &mut self.link_queue,
            &mut self.counters,
        );
    }

    fn link_wants_close(&self) -> bool {
        self.uplink.wants_close()
    }

    /// The backend is never delayed for the sake of one client.
    fn link_read_budget(&self) -> usize {
        if self.uplink.is_open() { READ_BYTES } else { 0 }
    }

    fn handle_link_bytes(&mut self, now: Time, bytes: &[u8]) {
        let now = self.advance(now);
        if self.uplink.link().is_some_and(Link::is_open) {
            self.counters.link_bytes_in += bytes.len() as u64;
            self.handle_backend_bytes(now, bytes);
            self.settle();
        }
    }

    #[inline]
    fn link_output(&self) -> [&[u8]; 2] {
        self.uplink.output(&self.link_queue)
    }

    fn handle_link_written(&mut self, now: Time, bytes: usize) {
        let now = self.advance(now);
        if self
            .uplink
            .written(bytes, &mut self.link_queue, &mut self.counters)
        {
            self.link_written(now);
            self.settle();
        }
    }
}
