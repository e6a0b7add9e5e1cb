//! What clients take: outboxes that become shorter, and write deadlines (SPEC 10.2).

use crate::edge::Edge;
use crate::edge::conns::state::{Phase, State};
use crate::edge::conns::wait::{Slot, Wait};
use crate::time::Time;

impl Edge {
    /// Lists the client at `index` for writing, with a write deadline.
    #[inline(always)]
    pub(crate) fn watch_writes(&mut self, now: Time, index: u32) {
        let timed = !self.config.clients.write_timeout.is_zero();
        self.conns.offer(index, timed, now);
    }

    /// Returns whether the client at `index` is listed for writing.
    #[inline]
    pub(crate) fn is_watched(&self, index: u32) -> bool {
        let timed = !self.config.clients.write_timeout.is_zero();
        self.conns.live(index).is_offered(timed)
    }

    /// Handles that the client at `index` took `bytes` bytes.
    #[inline(always)]
    pub(crate) fn written(&mut self, now: Time, index: u32, bytes: usize) {
        if self.link_queue.version.may_be_version_3() {
            self.written_and_told(now, index, bytes);
        } else {
            self.written_by::<false>(now, index, bytes);
        }
    }

    /// [`written`](Self::written) where the backend may be told what its client has settled.
    #[cold]
    #[inline(never)]
    fn written_and_told(&mut self, now: Time, index: u32, bytes: usize) {
        self.written_by::<true>(now, index, bytes);
    }

    #[inline(always)]
    fn written_by<const SETTLES: bool>(&mut self, now: Time, index: u32, bytes: usize) {
        let mut conn = self.conns.live_mut(index);
        let control = bytes.min(conn.control().len());
        if control > 0 {
            conn.control_written(control);
            self.conns.recount(index, &mut self.account);
            conn = self.conns.live_mut(index);
        }
        let bytes = bytes - control;
        let session = match conn.state() {
            State::Established { session } => *session,
            _ => return self.unattached_written(now, index, bytes),
        };
        let entry = self.sessions.live_mut(session);
        let is_numbered = conn.is_numbered();
        let (channel, outbox) = (conn.channel(), &mut entry.outbox);
        // An adapter that reports more than was offered has a bug. No more than what was offered can be gone.
        let (gone, drained) = if is_numbered {
            // Its packets stay until they are acknowledged.
            channel.written(outbox, bytes);
            (0, !conn.has_output(&entry.outbox, entry.numbers()))
        } else if SETTLES {
            let before = outbox.counted_bytes();
            channel.written(outbox, bytes);
            let gone = before - outbox.counted_bytes();
            (gone, !conn.has_output(&entry.outbox, None))
        } else {
            // Without a backend that sends to groups each packet is its session's own.
            let before = outbox.own_bytes();
            outbox.own_advance(bytes);
            (before - outbox.own_bytes(), !outbox.has_unsent())
        };
        let outbox = &mut entry.outbox;
        if let Some(buffer) = outbox.surrender() {
            self.spare.keep(buffer);
        }
        let resized = entry.shrink(gone);
        self.account.subtract(gone);
        self.sessions.resized(session, resized);
        if is_numbered {
            self.take_wire_back(index);
        }
        if SETTLES && gone > 0 {
            self.note_settled(now, session);
        }
        if drained {
            self.conns.disarm(Slot::Write, index);
        } else if bytes > 0 || control > 0 {
            self.renew_write_deadline(now, index);
        }
    }

    /// Handles that the client at `index`, which has no session, took `bytes` bytes besides those of its opening.
    #[inline(never)]
    fn unattached_written(&mut self, now: Time, index: u32, bytes: usize) {
        let conn = self.conns.live_mut(index);
        match conn.state() {
            State::Draining(_) => {
                let finished = conn.drain(bytes) && conn.control().is_empty();
                self.take_wire_back(index);
                self.conns.recount(index, &mut self.account);
                if finished && self.conns.live_mut(index).last_words().is_some() {
                    self.check_last_words(now, index);
                } else if finished {
                    self.finish_draining(now, index);
                }
            }
            State::Handshake(Phase::Last(_)) => self.check_last_words(now, index),
            State::Handshake(_) | State::Established { .. } | State::Closed(_) => {}
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
