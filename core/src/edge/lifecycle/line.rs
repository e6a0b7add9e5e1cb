//! How the line moves in which sessions wait for room on the link (SPEC 10.4).
//!
//! New room is distributed by deficit round robin, in bytes: a client that sends as fast as it can gets no more of it than any other one
//! that waits.

use crate::edge::Edge;
use crate::edge::sessions::{Linked, Place};
use crate::edge::uplink::pass::{Sender, Served, pass_on};
use crate::protocol::Stop;
use crate::time::Time;

impl Edge {
    /// Serves the line, as there may be room on the link.
    pub(crate) fn serve_line(&mut self, now: Time) {
        while let Some(session) = self.line.first() {
            let served = self.serve(session);
            self.uplink.seal_full(&mut self.link_queue);
            self.sessions.recount(session, &mut self.account);
            let entry = self.sessions.live_mut(session);
            if let Place::Attached(index) = entry.place {
                self.conns.recount(index, &mut self.account);
                self.heard(now, index, session);
            }
            let entry = self.sessions.live_mut(session);
            match served {
                Served::Full => return,
                Served::Over(Stop::Token) => {
                    if let Place::Attached(index) = entry.place {
                        self.take_token(index, session);
                    }
                }
                Served::Turn => self.line.next_turn(entry),
                served @ (Served::All | Served::Over(_)) => {
                    self.line.leave(entry);
                    match (entry.place, served) {
                        (Place::Ended, _) => self.sessions.remove(session, &mut self.account),
                        (Place::Away, _) => {}
                        (Place::Attached(index), Served::Over(stop)) => {
                            self.stop(now, index, stop);
                        }
                        (Place::Attached(index), _) => {
                            // A connection that has yet to send its final Ping is watched as a handshake.
                            if self.conns.live(index).is_established() {
                                self.watch_reads(now, index, true);
                                self.conns.mark_ready(index);
                            }
                        }
                    }
                }
            }
        }
        self.line.trim();
    }

    /// Serves one turn of the session at the head of the line.
    fn serve(&mut self, session: u32) -> Served {
        let entry = self.sessions.live_mut(session);
        let place = entry.place;
        let sender = Sender::of(entry, &self.link_queue, self.config.clients.max_frame_bytes);
        while let Some(frame_bytes) = entry.line_entry().backlog.next_frame_bytes() {
            let waiting = entry.line_entry();
            if frame_bytes > waiting.deficit {
                return Served::Turn;
            }
            match self.link_queue.take_from(&mut waiting.backlog) {
                Some(taken) => waiting.deficit -= taken,
                None => return Served::Full,
            }
            // The first frame of a session that was not told is what tells of it.
            if entry.told_at() == Linked::UNTOLD {
                let queue = &self.link_queue;
                entry.linked().told_at = queue.version.end(&queue.frames);
            }
        }
        let (waiting, lent) = entry.lend_with_line_entry();
        let Place::Attached(index) = place else {
            return Served::All;
        };
        let conn = self.conns.live_mut(index);
        if !conn.is_established() {
            return Served::All;
        }
        let (channel, reader) = conn.input();
        let (served, packets) = pass_on(
            channel.opener(lent),
            reader,
            &mut &[][..],
            &mut self.link_queue,
            sender,
            Some(&mut waiting.deficit),
        );
        self.counters.packets_up += packets;
        entry.count_passed(packets, self.link_queue.version.may_be_version_3());
        served
    }
}
