//! Clients → backend (SPEC 7.1, 10.4).
//!
//! A frame goes to the link's queue in the step in which its last byte arrives. When the queue is full, the rest stays with its client,
//! which is not read further and gets in line. `line.rs` distributes new room.

use crate::edge::Edge;
use crate::edge::conns::wait::Slot;
use crate::edge::sessions::LineEntry;
use crate::edge::uplink::pass::{Sender, Served, pass_on};
use crate::edge::uplink::queue::reserve_tagged;
use crate::link::v3::ToBackend;
use crate::protocol::{Open, Stop};
use crate::time::Time;

impl Edge {
    /// Forwards bytes from the connection of an established session. `count` of its packets, new or held, are new to its pace.
    // Inlined where packets come in; `forward_rest` is for the other caller.
    #[inline(always)]
    pub(crate) fn forward(
        &mut self,
        now: Time,
        index: u32,
        session: u32,
        bytes: &[u8],
        count: usize,
    ) {
        if let Some(rest) = self.forward_packets(now, index, session, bytes, count) {
            self.forward_tokens(now, index, session, rest);
        }
    }

    /// Forwards what is behind the packets before a token: the token, and so on.
    #[cold]
    #[inline(never)]
    fn forward_tokens(&mut self, now: Time, index: u32, session: u32, mut rest: &[u8]) {
        loop {
            self.take_token(index, session);
            self.pace(now, index, 1, 0);
            match self.forward_packets(now, index, session, rest, 0) {
                Some(behind) => rest = behind,
                None => return,
            }
        }
    }

    /// Tells the backend what the client shows, behind the packets before it.
    pub(crate) fn take_token(&mut self, index: u32, session: u32) {
        let mut frame = Vec::new();
        let longest = self.longest_token();
        let entry = self.sessions.live_mut(session);
        let id = entry.id;
        let (channel, _) = self.conns.live_mut(index).input();
        channel.opener(entry.lend()).take_token(|token| {
            if longest.is_some_and(|longest| token.len() <= longest) {
                ToBackend::Token { id, token }.encode(&mut frame);
            }
        });
        if !frame.is_empty() {
            self.tell_token(session, &frame);
        }
    }

    /// Forwards packets. Returns what is behind them if a token is next.
    #[inline(always)]
    fn forward_packets<'bytes>(
        &mut self,
        now: Time,
        index: u32,
        session: u32,
        bytes: &'bytes [u8],
        count: usize,
    ) -> Option<&'bytes [u8]> {
        let conn = self.conns.live_mut(index);
        let entry = self.sessions.live_mut(session);
        // If others wait, this session gets in line behind them. Otherwise a small packet would always find the room that a large one waits
        // for.
        if entry.waiting || !self.line.is_empty() {
            self.wait_in_line(index, session, bytes);
            return None;
        }
        let mut input = bytes;
        let sender = Sender::of(entry, &self.link_queue, self.config.clients.max_frame_bytes);
        let (channel, reader) = conn.input();
        let opener = channel.opener(entry.lend());
        let (served, packets) = pass_on(
            opener,
            reader,
            &mut input,
            &mut self.link_queue,
            sender,
            None,
        );
        self.uplink.seal_full(&mut self.link_queue);
        self.counters.packets_up += packets;
        entry.count_passed(packets, self.link_queue.version.may_be_version_3());
        let is_numbered = channel.numbered().is_some();
        let records = if is_numbered {
            channel.take_records()
        } else {
            0
        };
        match served {
            Served::Full | Served::Turn => self.wait_in_line(index, session, input),
            Served::All => {
                if conn.may_be_late(self.config.clients.idle_timeout) {
                    self.watch_reads(now, index, packets + records > 0);
                }
                self.pace(now, index, packets + records, count);
            }
            Served::Over(stop) => {
                if is_numbered {
                    self.heard(now, index, session);
                }
                if stop == Stop::Token {
                    // Its frame is whole. What follows has a time of its own.
                    self.watch_reads(now, index, true);
                    self.pace(now, index, packets + records, count);
                    return Some(input);
                }
                self.stop(now, index, stop);
                return None;
            }
        }
        if is_numbered {
            self.heard(now, index, session);
        }
        None
    }

    /// Keeps the `rest` of what the connection at `index` has sent, and lets its session wait for room on the link.
    #[inline(never)]
    fn wait_in_line(&mut self, index: u32, session: u32, rest: &[u8]) {
        self.conns.live_mut(index).reader.hold(rest);
        self.conns.disarm(Slot::Read, index);
        self.line.join(session, self.sessions.live_mut(session));
    }

    /// Like [`forward`](Self::forward), for the bytes behind an opening.
    #[inline(never)]
    pub(crate) fn forward_rest(
        &mut self,
        now: Time,
        index: u32,
        session: u32,
        bytes: &[u8],
        count: usize,
    ) {
        self.forward(now, index, session, bytes, count);
    }

    /// Moves the whole packets of the connection at `index` that found no room to its session's line, before anything that the session sends
    /// later. An unfinished one is dropped with the connection.
    ///
    /// Returns why nothing follows them, if there is a reason.
    pub(crate) fn keep_held_frames(&mut self, index: u32, session: u32) -> Option<Stop> {
        let stop = self.open_held_frames(index, session);
        self.conns.live_mut(index).reader.clear();
        self.conns.recount(index, &mut self.account);
        stop
    }

    /// Like [`keep_held_frames`](Self::keep_held_frames), but leaves an unfinished packet where it is.
    pub(crate) fn open_held_frames(&mut self, index: u32, session: u32) -> Option<Stop> {
        let mut stop = None;
        let longest = self.longest_token();
        let conn = self.conns.live_mut(index);
        let entry = self.sessions.live_mut(session);
        if entry.waiting && conn.is_established() {
            let (channel, reader) = conn.input();
            let sender = Sender::of(entry, &self.link_queue, self.config.clients.max_frame_bytes);
            let Sender { id, max_body } = sender;
            let (LineEntry { backlog, .. }, lent) = entry.lend_with_line_entry();
            let mut opener = channel.opener(lent);
            let mut packets = 0;
            loop {
                let opened = opener.open(reader, &mut &[][..], max_body, |length| {
                    reserve_tagged(backlog, id, length)
                });
                match opened {
                    Ok(true) => packets += 1,
                    Ok(false) => break,
                    Err(Stop::Token) => opener.take_token(|token| {
                        if longest.is_some_and(|longest| token.len() <= longest) {
                            let mut frame = Vec::new();
                            ToBackend::Token { id, token }.encode(&mut frame);
                            backlog.push_frame(&frame, &[]);
                        }
                    }),
                    Err(reason) => {
                        stop = Some(reason);
                        break;
                    }
                }
            }
            entry.count_passed(packets, self.link_queue.version.may_be_version_3());
            self.counters.packets_up += packets;
            self.sessions.recount(session, &mut self.account);
        }
        stop
    }

    /// Handles that some of what waited for the backend is gone.
    #[inline(always)]
    pub(crate) fn link_written(&mut self, now: Time) {
        if self.link_queue.announcements.is_empty() {
            self.link_queue.announce_more(&self.sessions);
        }
        if self.is_deserted() {
            self.link_queue.trim();
        }
        self.serve_line(now);
        // A packet is longer on the link than it was in its client's line.
        self.shed_load(now);
    }
}
