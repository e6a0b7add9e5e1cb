//! How fast and how soon a client must send: deadlines of frames and of silence, and its pace (SPEC 10.6(h), 10.6(i), 11).

use crate::edge::Edge;
use crate::edge::config::Enforce;
use crate::edge::conns::wait::{Slot, Wait};
use crate::edge::counters::CloseReason;
use crate::edge::door::limits::Pace;
use crate::time::Time;

impl Edge {
    /// Arms the timer of an unfinished frame, from its first byte, or else that of silence. `restart` if a frame was finished since.
    #[inline]
    pub(crate) fn watch_reads(&mut self, now: Time, index: u32, restart: bool) {
        if self.link_queue.version.may_be_version_3() && self.is_paused(index) {
            // A frame that is not read is not late.
            return self.conns.disarm(Slot::Read, index);
        }
        let conn = self.conns.live(index);
        let clients = &self.config.clients;
        if conn.reader.is_mid_frame() && !clients.frame_timeout.is_zero() {
            let running = !restart && conn.waits_for(Wait::Frame);
            if !running {
                self.conns.arm(Wait::Frame, index, now);
            }
        } else if !clients.idle_timeout.is_zero() {
            self.conns.arm(Wait::Idle, index, now);
        } else if conn.timers.is_any_armed(Slot::Read) {
            self.conns.disarm(Slot::Read, index);
        }
    }

    /// Returns whether the backend has paused the session of this connection (SPEC 36.4).
    #[cold]
    #[inline(never)]
    fn is_paused(&self, index: u32) -> bool {
        let session = self.conns.live(index).session();
        session.is_some_and(|session| self.sessions.live(session).is_paused())
    }

    /// Charges a read to the client's pace.
    #[inline(always)]
    pub(crate) fn pace(&mut self, now: Time, index: u32, packets: u64, bytes: usize) {
        let clients = &self.config.clients;
        let limits = &clients.pace;
        if (limits.frames > 0 || limits.bytes > 0) && clients.enforce_pace != Enforce::Off {
            self.charge(now, index, packets, bytes);
        }
    }

    /// Charges a read to the pace of a client whose pace is limited.
    #[inline(never)]
    fn charge(&mut self, now: Time, index: u32, packets: u64, bytes: usize) {
        let clients = &self.config.clients;
        let limits = &clients.pace;
        let conn = self.conns.live_mut(index);
        let pace = conn.pace.get_or_insert_with(|| Box::new(Pace::new(now)));
        if pace.spend(now, packets, bytes as u64, limits) {
            self.counters.paced += 1;
            if clients.enforce_pace == Enforce::On {
                // A frame that is not read is not late.
                self.conns.disarm(Slot::Read, index);
                self.conns.arm(Wait::Pace, index, now);
            }
        }
    }

    /// Checks a client that exceeded its pace again.
    pub(crate) fn check_pace(&mut self, now: Time, index: u32) {
        let limits = &self.config.clients.pace;
        let pace = self.conns.live(index).pace.as_deref();
        let pace = pace.expect("what waits for its pace has one");
        if pace.is_paid(now, limits) {
            self.conns.disarm(Slot::Next, index);
            self.watch_reads(now, index, true);
            self.conns.mark_ready(index);
        } else if pace.is_too_long(now, limits.patience) {
            self.close_conn(now, index, self.kind_of_late(index), CloseReason::TooFast);
        } else {
            self.conns.arm(Wait::Pace, index, now);
        }
    }
}
