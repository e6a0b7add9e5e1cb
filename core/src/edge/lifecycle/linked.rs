//! The interface of the edge to the backend link, which comes and goes (SPEC 8.4).

use crate::edge::uplink::link::{HasLink, Link};
use crate::time::Time;

use crate::Closed;
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
        self.step(now, |edge, now| {
            let output = edge.uplink.take_batch(&mut edge.link_queue, spare)?;
            edge.link_written(now);
            Some(output)
        })
    }

    /// Handles what the trunk handed down.
    pub fn handle_branch_input(&mut self, now: Time, input: &Downward) {
        self.step(now, |edge, now| {
            let Some(branch) = edge.uplink.open_branch() else {
                return;
            };
            match input {
                Downward::Released => branch.release(),
                Downward::Version2 => edge.handle_not_asked(),
                Downward::Returned(batch) => edge.link_queue.take_back(batch),
                Downward::Packets(batch) => edge.handle_batch(now, batch),
            }
        });
    }
}

impl HasLink for Edge {
    fn link_wants_connect(&self, now: Time) -> bool {
        self.uplink.wants_connect(now.max(self.now))
    }

    fn handle_link_connecting(&mut self, now: Time) {
        noted!(self, now, LinkConnecting);
        self.step(now, |edge, now| edge.uplink.connecting(now));
    }

    fn handle_link_connected(&mut self, now: Time) {
        noted!(self, now, LinkConnected);
        self.step(now, |edge, now| {
            #[cfg(feature = "backends")]
            edge.backend_came();
            if edge.uplink.connected(now, &mut edge.counters) {
                #[cfg(feature = "upgrade")]
                if edge.take_link() {
                    return;
                }
                edge.link_queue
                    .version
                    .connected(now, edge.counters.link_bytes_out);
                let announces =
                    edge.config.master.announce_all && edge.link_queue.version.is_version_2();
                edge.link_queue.begin_announcing(announces, &edge.sessions);
            }
        });
    }

    fn handle_link_closed(&mut self, now: Time, cause: Closed) {
        noted!(self, now, LinkClosed(cause));
        self.step(now, |edge, now| {
            #[cfg(feature = "backends")]
            {
                edge.departures.divide(false);
                if edge.uplink.is_open() {
                    edge.backend_went(now);
                }
            }
            edge.uplink.closed(
                now,
                cause,
                &mut edge.rng,
                &mut edge.link_queue,
                &mut edge.counters,
            );
        });
    }

    fn link_wants_close(&self) -> bool {
        self.uplink.wants_close()
    }

    /// The backend is never delayed for the sake of one client.
    fn link_read_budget(&self) -> usize {
        if self.uplink.is_open() { READ_BYTES } else { 0 }
    }

    fn handle_link_bytes(&mut self, now: Time, bytes: &[u8]) {
        noted!(self, now, LinkBytes(bytes));
        self.step(now, |edge, now| {
            if edge.uplink.link().is_some_and(Link::is_open) {
                edge.counters.link_bytes_in += bytes.len() as u64;
                edge.handle_backend_bytes(now, bytes);
            }
        });
    }

    #[inline]
    fn link_output(&self) -> [&[u8]; 2] {
        self.uplink.output(&self.link_queue)
    }

    fn handle_link_written(&mut self, now: Time, bytes: usize) {
        noted!(self, now, LinkWritten { bytes });
        self.step(now, |edge, now| {
            let (queue, counters) = (&mut edge.link_queue, &mut edge.counters);
            if edge.uplink.written(bytes, queue, counters) {
                edge.link_written(now);
            }
        });
    }
}
