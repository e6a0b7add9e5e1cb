//! Backend → clients (SPEC 7, 10.2, 10.3).
//!
//! The link never waits for one client: a client whose queue is full loses its session, and nobody else is affected.

use core::mem;

use crate::id::ClientId;
use crate::link::tagged::{Flag, TAG_BYTES, Tagged};
use crate::time::Time;
use crate::wire::frame::LENGTH_BYTES;

use crate::edge::Edge;
use crate::edge::conns::state::State;
use crate::edge::conns::wait::{Slot, Wait};
use crate::edge::counters::EndReason;
use crate::edge::memory::account::{Pressure, scaled_by};
use crate::edge::sessions::Place;
use crate::edge::table::slab::room_to_keep;
use crate::edge::uplink::trunk::RELEASED;

/// The result of a packet from the backend.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It was queued for its session, and nothing else happened.
    Queued,
    /// Anything else.
    Other,
}

/// Buffers of queues that became empty, for queues that fill next: no allocation per packet, and no memory kept by idle clients.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spare {
    buffers: Vec<Vec<u8>>,
    /// The sum of their capacities.
    bytes: usize,
}

/// The maximum of all spare memory.
const MAX_SPARE_BYTES: usize = 4 << 20;
/// The largest buffer that is kept.
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

    /// Keeps at most as many buffers as there are connections, which are what fills queues.
    pub(crate) fn keep_at_most(&mut self, buffers: usize) {
        while self.buffers.len() > buffers {
            self.take();
        }
        if let Some(keep) = room_to_keep(self.buffers.len(), self.buffers.capacity()) {
            self.buffers.shrink_to(keep);
        }
    }
}

impl Edge {
    /// Handles bytes from the backend.
    pub(crate) fn handle_backend_bytes(&mut self, now: Time, bytes: &[u8]) {
        // A frame is an id and a flag plus the largest packet. `u32::MAX` means no limit but the format's.
        let tag_bytes = u32::try_from(TAG_BYTES).unwrap_or(0);
        let max_body = self.config.master.max_frame_bytes.saturating_add(tag_bytes);
        // The reader is taken out so that a body can be borrowed from it while the machine handles it.
        let mut reader = mem::take(&mut self.link.reader);
        self.link.handle_bytes(bytes);
        let mut input = bytes;
        // Queued packets add no more than what was read. Anything else may add more, and is followed by another check.
        let mut calm = self.is_calm_for(reader.buffered_bytes() + input.len());
        loop {
            match reader.next_frame(&mut input, max_body) {
                Ok(Some(body)) => {
                    if self.handle_backend_packet(now, body, calm) == Outcome::Other {
                        calm = self.is_calm_for(input.len());
                    }
                    if self.link.judges() && !self.link.judge(body) {
                        self.counters.link_violations += 1;
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    self.counters.link_violations += 1;
                    self.link.lose_framing(error);
                    break;
                }
            }
        }
        self.link.reader = reader;
        // Its unfinished frame counts, too.
        self.shed_load(now);
    }

    /// Handles a frame. `calm` means that no memory bound is near even with this packet in a queue (SPEC 10.5).
    #[inline]
    fn handle_backend_packet(&mut self, now: Time, body: &[u8], calm: bool) -> Outcome {
        match Tagged::decode(body) {
            Ok(Tagged {
                id,
                flag: Flag::Data,
                data,
            }) => return self.deliver(now, id, data, calm),
            Ok(Tagged {
                id,
                flag: Flag::Kick,
                data: [],
            }) => match self.sessions.lookup(id) {
                Some(session) => self.end_session(now, session, EndReason::Kicked),
                None => self.tell_unknown(now, id),
            },
            Ok(Tagged {
                flag: Flag::Kick | Flag::Failure | Flag::Resumed,
                ..
            })
            | Err(_)
                if !(body == RELEASED && self.is_branch()) =>
            {
                self.counters.malformed_down += 1;
            }
            // The trunk passes on no such frame from the backend.
            _ => self.link.released = true,
        }
        Outcome::Other
    }

    /// Queues a packet for one client, or ends its session.
    #[inline]
    fn deliver(&mut self, now: Time, id: ClientId, data: &[u8], calm: bool) -> Outcome {
        let Some(index) = self.sessions.lookup(id) else {
            self.tell_unknown(now, id);
            return Outcome::Other;
        };
        let scaled = scaled_by(if calm {
            Pressure::None
        } else {
            self.pressure()
        });
        let clients = &self.config.clients;
        let session = self.sessions.live_mut(index);
        let (max_packets, max_bytes, overflow) = match session.place {
            Place::Attached(_) => (
                clients.channel_capacity,
                scaled(clients.channel_bytes),
                EndReason::SendQueueFull,
            ),
            _ if clients.missed_packets_buffer_size == 0 => (0, 0, EndReason::ClientAway),
            _ => (
                clients.missed_packets_buffer_size,
                scaled(clients.missed_packets_buffer_bytes),
                EndReason::MissedPacketsFull,
            ),
        };
        let queue = &mut session.queue;
        let frame_bytes = LENGTH_BYTES + data.len();
        let fits = queue.packets() < max_packets
            && (queue.is_empty() || queue.held_bytes().saturating_add(frame_bytes) <= max_bytes);
        if !fits {
            self.end_session(now, index, overflow);
            return Outcome::Other;
        }
        if queue.capacity_bytes() == 0
            && let Some(buffer) = self.spare.take()
        {
            queue.adopt(buffer);
        }
        // The link's limit on a body is a u32, and this is a part of one.
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        queue.push_frame(&length.to_le_bytes(), data);
        session.exchanged = true;
        let resized = session.grow(frame_bytes);
        let place = session.place;
        self.account.add(frame_bytes);
        self.sessions.resized(index, resized);
        self.counters.packets_down += 1;
        if let Place::Attached(conn) = place {
            self.watch_writes(now, conn);
        }
        if !calm {
            self.shed_load(now);
        }
        Outcome::Queued
    }

    /// Lists the client at `index` for writing, with a write deadline.
    #[inline]
    pub(crate) fn watch_writes(&mut self, now: Time, index: u32) {
        let timed = !self.config.clients.write_timeout.is_zero();
        self.conns.offer(index, timed, now);
    }

    /// Handles that the client at `index` took `bytes` bytes.
    #[inline]
    pub(crate) fn written(&mut self, now: Time, index: u32, bytes: usize) {
        let mut conn = self.conns.live_mut(index);
        let control = bytes.min(conn.control().len());
        if control > 0 {
            conn.control_written(control);
            self.conns.recount(index, &mut self.account);
            conn = self.conns.live_mut(index);
        }
        let bytes = bytes - control;
        match conn.state() {
            State::Established { session } => {
                let session = *session;
                self.session_written(index, session, bytes);
                if bytes > 0 || control > 0 {
                    self.renew_write_deadline(now, index);
                }
            }
            State::Draining(_) => {
                let finished = conn.drain(bytes) && conn.control().is_empty();
                self.conns.recount(index, &mut self.account);
                if finished {
                    self.finish_draining(now, index);
                }
            }
            State::Handshake(_) | State::Closed(_) => {}
        }
    }

    /// Handles that the client of the session at `session`, whose connection is at `index`, took `bytes` bytes of its queue.
    #[inline]
    fn session_written(&mut self, index: u32, session: u32, bytes: usize) {
        let entry = self.sessions.live_mut(session);
        let queue = &mut entry.queue;
        let before = queue.held_bytes();
        // An adapter that reports more than was offered has a bug. No more than what was offered can be gone.
        queue.advance_keeping(bytes.min(queue.bytes()), MAX_SPARE_BUFFER_BYTES);
        let gone = before - queue.held_bytes();
        let drained = queue.is_empty();
        if let Some(buffer) = queue.surrender() {
            self.spare.keep(buffer);
        }
        let resized = entry.shrink(gone);
        self.account.subtract(gone);
        self.sessions.resized(session, resized);
        if drained {
            self.conns.disarm(Slot::Write, index);
        }
    }

    /// Restarts the write deadline of the client at `index`, which took something and has more to take.
    #[inline]
    fn renew_write_deadline(&mut self, now: Time, index: u32) {
        if self.conns.live(index).waits_for(Wait::Write) {
            self.conns.arm(Wait::Write, index, now);
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
        spare.keep_at_most(3);
        assert_eq!(
            (spare.buffers.len(), spare.bytes),
            (3, 3 * MAX_SPARE_BUFFER_BYTES)
        );
        while spare.take().is_some() {}
        assert_eq!(spare.bytes, 0);
    }
}
