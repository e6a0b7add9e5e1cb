//! Backend → clients (SPEC 7, 10.2, 10.3).
//!
//! The link is never held up for one client: a client whose queue is full loses its session, nobody else notices.

use core::mem;

use crate::id::ClientId;
use crate::time::Time;
use crate::wire::frame::LENGTH_BYTES;
use crate::wire::tagged::{Flag, TAG_BYTES, Tagged};

use super::Edge;
use super::conn::{STALLED, State};
use super::counters::EndReason;
use super::session::Place;
use crate::planted::planted;

/// Memory of queues that ran empty, for the next ones that fill: no allocation per packet, none kept by the idle.
#[derive(Debug, Default)]
pub(super) struct Spare {
    buffers: Vec<Vec<u8>>,
    /// The sum of their capacities.
    bytes: usize,
}

/// All spare memory together.
const MAX_SPARE_BYTES: usize = 4 << 20;
/// The largest buffer kept.
const MAX_SPARE_BUFFER_BYTES: usize = 128 * 1024;

impl Spare {
    fn take(&mut self) -> Option<Vec<u8>> {
        let buffer = self.buffers.pop()?;
        self.bytes -= buffer.capacity();
        Some(buffer)
    }

    fn keep(&mut self, buffer: Vec<u8>) {
        let bytes = buffer.capacity();
        if bytes <= MAX_SPARE_BUFFER_BYTES && self.bytes + bytes <= MAX_SPARE_BYTES {
            self.bytes += bytes;
            self.buffers.push(buffer);
        }
    }
}

impl Edge {
    /// Bytes from the backend.
    pub(super) fn handle_backend_bytes(&mut self, now: Time, bytes: &[u8]) {
        // A frame is an id and a flag longer than the largest packet. `u32::MAX` stands for "no bound but the format's".
        let tag_bytes = u32::try_from(TAG_BYTES).unwrap_or(0);
        let max_body = self.config.master.max_frame_bytes.saturating_add(tag_bytes);
        // The reader is taken out so that a body may be borrowed from it while the machine acts on it.
        let mut reader = mem::take(&mut self.link.reader);
        let mut input = bytes;
        loop {
            match reader.next_frame(&mut input, max_body) {
                Ok(Some(body)) => self.handle_backend_packet(now, body),
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "the backend's framing is lost; the link is opened anew");
                    self.counters.link_violations += 1;
                    self.link.wants_close = true;
                    break;
                }
            }
        }
        if planted!(LinkLengthIgnored) {
            self.link.wants_close = false;
        }
        self.link.reader = reader;
    }

    fn handle_backend_packet(&mut self, now: Time, body: &[u8]) {
        if planted!(ShortFramePanics) {
            assert!(body.len() >= TAG_BYTES, "a packet has an id and a flag");
        }
        match Tagged::decode(body) {
            Ok(Tagged {
                id,
                flag: Flag::Data,
                data,
            }) => self.deliver(now, id, data),
            Ok(Tagged {
                id,
                flag: Flag::Kick,
                data: [],
            }) => match self.sessions.lookup(id) {
                Some(_) if planted!(KickIgnored) => {}
                Some(session)
                    if planted!(KickOfAwayIgnored)
                        && self
                            .sessions
                            .slab
                            .at(session)
                            .is_some_and(|s| s.place == Place::Away) => {}
                Some(session) => self.end_session(now, session, EndReason::Kicked),
                None => self.tell_unknown(now, id),
            },
            Ok(Tagged {
                flag: Flag::Kick | Flag::Failure | Flag::Resumed,
                ..
            })
            | Err(_) => {
                self.counters.malformed_down += 1;
            }
        }
    }

    /// A packet for one client goes into its session's queue, or ends the session.
    #[inline]
    fn deliver(&mut self, now: Time, id: ClientId, data: &[u8]) {
        let Some(index) = self.sessions.lookup(id) else {
            return self.tell_unknown(now, id);
        };
        let clients = &self.config.clients;
        let squeezed = self.squeeze();
        let Some(session) = self.sessions.slab.at_mut(index) else {
            return;
        };
        let (max_packets, max_bytes, overflow) = match session.place {
            Place::Attached(_) => (
                clients.channel_capacity,
                squeezed(clients.channel_bytes),
                EndReason::SendQueueFull,
            ),
            _ if clients.missed_packets_buffer_size == 0 => (0, 0, EndReason::ClientAway),
            _ => (
                clients.missed_packets_buffer_size,
                squeezed(clients.missed_packets_buffer_bytes),
                EndReason::MissedPacketsFull,
            ),
        };
        let queue = &mut session.queue;
        let frame_bytes = LENGTH_BYTES + data.len();
        let attached = matches!(session.place, Place::Attached(_));
        let max_packets = max_packets
            + usize::from(attached && planted!(ClientQueueOffByOne))
            + usize::from(!attached && max_packets > 0 && planted!(MissedQueueOffByOne));
        let max_bytes = if planted!(ClientQueueBytesUnbounded) {
            usize::MAX
        } else {
            max_bytes
        };
        let fits = queue.packets() < max_packets
            && (queue.is_empty() || queue.held_bytes().saturating_add(frame_bytes) <= max_bytes);
        if planted!(EmptyPacketDropped) && data.is_empty() {
            return;
        }
        if !fits && planted!(OverflowDropsPacket) {
            return;
        }
        if !fits {
            return self.end_session(now, index, overflow);
        }
        if queue.capacity_bytes() == 0
            && let Some(buffer) = self.spare.take()
        {
            queue.adopt(buffer);
        }
        // The link's bound on a body is a u32, and this is a part of one.
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        queue.push_frame(&length.to_le_bytes(), data);
        session.exchanged = true;
        self.counters.packets_down += 1;
        if let Place::Attached(conn) = session.place {
            self.watch_writes(now, conn);
        }
        self.account.recount_session(&mut self.sessions.slab, index);
        self.relieve(now);
    }

    /// Something waits for the client at `index`: it is to be written, and must take something in time.
    #[inline]
    pub(super) fn watch_writes(&mut self, now: Time, index: u32) {
        let Some(conn) = self.conns.slab.at(index) else {
            return;
        };
        if !matches!(conn.state, State::Established { .. }) {
            return;
        }
        if !conn.write_timer.is_armed() && !self.config.clients.write_timeout.is_zero() {
            self.conns
                .writes
                .arm(&mut self.conns.slab, index, STALLED, now);
        }
        self.mark_ready(index);
    }

    /// The client at `index` took `bytes` bytes.
    #[inline]
    pub(super) fn written(&mut self, now: Time, index: u32, bytes: usize) {
        self.take_written(now, index, bytes);
        self.account.recount_conn(&mut self.conns.slab, index);
        if let Some(session) = self.conns.slab.at(index).and_then(|conn| conn.session()) {
            self.account
                .recount_session(&mut self.sessions.slab, session);
        }
    }

    #[inline]
    fn take_written(&mut self, now: Time, index: u32, bytes: usize) {
        let Some(conn) = self.conns.slab.at_mut(index) else {
            return;
        };
        let control = bytes.min(conn.control().len());
        conn.control_written(control);
        let queue = match &mut conn.state {
            State::Established { session } => match self.sessions.slab.at_mut(*session) {
                Some(session) => &mut session.queue,
                None => return,
            },
            State::Draining(queue) => queue,
            State::Handshake(_) | State::Closing(_) => return,
        };
        // An adapter that says more than was offered has a bug; what was offered is all that can be gone.
        let of_queue = (bytes - control).min(queue.bytes());
        queue.advance_keeping(of_queue, MAX_SPARE_BUFFER_BYTES);
        if queue.is_empty() {
            if let Some(buffer) = queue.surrender() {
                self.spare.keep(buffer);
            }
            if matches!(conn.state, State::Draining(_)) && conn.control().is_empty() {
                return self.finish_draining(now, index);
            }
            self.conns.writes.disarm(&mut self.conns.slab, index);
        } else if bytes > 0 && conn.write_timer.is_armed() && !planted!(WriteDeadlineNotRenewed) {
            self.conns
                .writes
                .arm(&mut self.conns.slab, index, STALLED, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spare_memory_is_bounded() {
        let mut spare = Spare::default();
        spare.keep(Vec::with_capacity(MAX_SPARE_BUFFER_BYTES + 1));
        assert_eq!(spare.bytes, 0);
        for _ in 0..100 {
            spare.keep(Vec::with_capacity(MAX_SPARE_BUFFER_BYTES));
        }
        assert_eq!(spare.bytes, MAX_SPARE_BYTES);
        while spare.take().is_some() {}
        assert_eq!(spare.bytes, 0);
    }
}
