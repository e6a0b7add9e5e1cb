//! Clients → backend: tagging, and the line in which sessions wait for room (SPEC 10.4).
//!
//! A frame goes to the link's queue in the step in which its last byte arrives. When the queue is full, the rest stays with its
//! client, which is read no further and gets in line. Room that comes back is given out by deficit round robin, in bytes: a client
//! that sends as fast as it can gets no more of it than any other that waits.

use core::time::Duration;

use crate::time::Time;
use crate::wire::frame::{FrameReader, FrameTooLong};
use crate::wire::tagged::{Flag, HEADER_BYTES};

use super::Edge;
use super::config::Enforce;
use super::conn::{CloseKind, Conn, State, read, step};
use super::counters::{CloseReason, UNKNOWN_CLIENT};
use super::limits::Pace;
use super::session::Place;
use crate::id::ClientId;
use crate::link::{Link, push_tagged};
use crate::trunk::ANNOUNCED;

/// Bytes that one session may put on the link in its turn when others wait too.
const QUANTUM_BYTES: usize = 64 * 1024;

/// Memory that the link's queue keeps when it has drained: what a turn of many clients with large packets fills.
const KEPT_LINK_BYTES: usize = 1 << 20;

/// Announcements made at a time, so that a link with very many sessions needs no very large buffer.
const ANNOUNCEMENTS_AT_ONCE: usize = 4096;

/// Answers to packets for unknown ids: so many at once, then one in each interval. The rest are counted only.
const UNKNOWN_NOTICE_BURST: u32 = 1000;
/// See [`UNKNOWN_NOTICE_BURST`].
const UNKNOWN_NOTICE_INTERVAL: Duration = Duration::from_millis(1);

/// How far a session came.
enum Served {
    /// Nothing of it waits any more.
    All,
    /// Its turn is over.
    Turn,
    /// The link is full.
    Full,
    /// Its client sent a frame that is too long.
    Violation,
}

/// Puts whole frames of `reader` and `input` on the link, within the turn's `allowance` in bytes if there is one; how far it came,
/// and how many packets it was. Starts no frame that has no room.
#[inline]
fn pass_on(
    reader: &mut FrameReader,
    input: &mut &[u8],
    link: &mut Link,
    id: ClientId,
    max_body: u32,
    mut allowance: Option<&mut usize>,
) -> (Served, u64) {
    let mut packets = 0;
    loop {
        // While even the longest frame has room there is no need to look at a frame's length before it is taken.
        if allowance.is_some() || !link.has_room(max_body as usize) {
            match reader.peek_frame(input, max_body) {
                Ok(Some(length)) if !link.has_room(length) => return (Served::Full, packets),
                Ok(Some(length)) => {
                    if let Some(left) = &mut allowance {
                        match left.checked_sub(length + HEADER_BYTES) {
                            Some(less) => **left = less,
                            None => return (Served::Turn, packets),
                        }
                    }
                }
                Ok(None) => {}
                Err(FrameTooLong { .. }) => return (Served::Violation, packets),
            }
        }
        match reader.next_frame(input, max_body) {
            Ok(Some(body)) => link.push(id, Flag::Data, body),
            Ok(None) => return (Served::All, packets),
            Err(FrameTooLong { .. }) => return (Served::Violation, packets),
        }
        packets += 1;
    }
}

impl Edge {
    /// Bytes from the connection of an established session; `count` of them, or of those that it holds, are new to its pace.
    pub(super) fn forward(
        &mut self,
        now: Time,
        index: u32,
        session: u32,
        bytes: &[u8],
        count: usize,
    ) {
        let (Some(conn), Some(entry)) = (
            self.conns.slab.at_mut(index),
            self.sessions.slab.at_mut(session),
        ) else {
            return;
        };
        // Who comes when others wait gets in line behind them, or a small packet would always find the room that a large one waits for.
        if entry.waiting || !self.waiting.is_empty() {
            conn.reader.hold(bytes);
            self.conns.reads.disarm(&mut self.conns.slab, index);
            return self.wait_for_room(session);
        }
        let mut input = bytes;
        let (served, packets) = pass_on(
            &mut conn.reader,
            &mut input,
            &mut self.link,
            entry.id,
            self.config.clients.max_frame_bytes,
            None,
        );
        self.counters.packets_up += packets;
        entry.exchanged |= packets > 0;
        match served {
            Served::Full | Served::Turn => {
                conn.reader.hold(input);
                self.conns.reads.disarm(&mut self.conns.slab, index);
                self.wait_for_room(session);
            }
            Served::All => {
                self.watch_reads(now, index, packets > 0);
                self.pace(now, index, packets, count);
            }
            Served::Violation => {
                self.close_conn(now, index, CloseKind::Graceful, CloseReason::FrameTooLong)
            }
        }
    }

    /// Watches how long an unfinished frame takes, from its first byte, or else silence. `anew` when a frame was finished since.
    #[inline]
    pub(super) fn watch_reads(&mut self, now: Time, index: u32, anew: bool) {
        let Some(conn) = self.conns.slab.at(index) else {
            return;
        };
        let clients = &self.config.clients;
        if conn.reader.is_mid_frame() && !clients.frame_timeout.is_zero() {
            let running = !anew && conn.read_timer.is(read::FRAME);
            if !running {
                self.conns
                    .reads
                    .arm(&mut self.conns.slab, index, read::FRAME, now);
            }
        } else if !clients.idle_timeout.is_zero() {
            self.conns
                .reads
                .arm(&mut self.conns.slab, index, read::IDLE, now);
        } else if conn.read_timer.is_armed() {
            self.conns.reads.disarm(&mut self.conns.slab, index);
        }
    }

    /// What a read brought is held against the client's pace.
    #[inline]
    fn pace(&mut self, now: Time, index: u32, packets: u64, bytes: usize) {
        let clients = &self.config.clients;
        let limits = &clients.pace;
        if (limits.frames == 0 && limits.bytes == 0) || clients.enforce_pace == Enforce::Off {
            return;
        }
        let Some(conn) = self.conns.slab.at_mut(index) else {
            return;
        };
        let pace = conn.pace.get_or_insert_with(|| Box::new(Pace::new(now)));
        if pace.spend(now, packets, bytes as u64, limits) {
            self.counters.paced += 1;
            if clients.enforce_pace == Enforce::On {
                // What is not read is not late.
                self.conns.reads.disarm(&mut self.conns.slab, index);
                self.conns
                    .steps
                    .arm(&mut self.conns.slab, index, step::PACED, now);
            }
        }
    }

    /// A client that was over its pace is looked at again.
    pub(super) fn check_pace(&mut self, now: Time, index: u32) {
        let limits = &self.config.clients.pace;
        let Some(pace) = self
            .conns
            .slab
            .at(index)
            .and_then(|conn| conn.pace.as_deref())
        else {
            return;
        };
        if pace.is_paid(now, limits) {
            self.conns.steps.disarm(&mut self.conns.slab, index);
            self.watch_reads(now, index, true);
            self.mark_ready(index);
        } else if pace.is_too_long(now, limits.patience) {
            self.close_conn(now, index, CloseKind::Graceful, CloseReason::TooFast);
        } else {
            self.conns
                .steps
                .arm(&mut self.conns.slab, index, step::PACED, now);
        }
    }

    /// The session gets in line.
    fn wait_for_room(&mut self, session: u32) {
        if let Some(entry) = self.sessions.slab.at_mut(session)
            && !entry.waiting
        {
            entry.waiting = true;
            entry.rare().deficit = QUANTUM_BYTES;
            self.waiting.push_back(session);
        }
    }

    /// Room came back: the line moves on.
    pub(super) fn serve_line(&mut self, now: Time) {
        while let Some(&session) = self.waiting.front() {
            let served = self.serve(session);
            self.account
                .recount_session(&mut self.sessions.slab, session);
            if let Some(Place::Attached(index)) = self.sessions.slab.at(session).map(|s| s.place) {
                self.account.recount_conn(&mut self.conns.slab, index);
            }
            match served {
                Served::Full => return,
                Served::Turn => {
                    self.waiting.rotate_left(1);
                    if let Some(entry) = self.sessions.slab.at_mut(session) {
                        entry.rare().deficit += QUANTUM_BYTES;
                    }
                }
                served @ (Served::All | Served::Violation) => {
                    self.waiting.pop_front();
                    let Some(entry) = self.sessions.slab.at_mut(session) else {
                        continue;
                    };
                    entry.waiting = false;
                    entry.trim_rare();
                    match (entry.place, served) {
                        (Place::Ended, _) => self.free_session(session),
                        (Place::Away, _) => {}
                        (Place::Attached(index), Served::Violation) => {
                            self.close_conn(
                                now,
                                index,
                                CloseKind::Graceful,
                                CloseReason::FrameTooLong,
                            );
                        }
                        (Place::Attached(index), _) => {
                            // A connection that is still to send its closing Ping is watched as a handshake.
                            if self
                                .conns
                                .slab
                                .at(index)
                                .is_some_and(|c| matches!(c.state, State::Established { .. }))
                            {
                                self.watch_reads(now, index, true);
                                self.mark_ready(index);
                            }
                        }
                    }
                }
            }
        }
        if self.waiting.capacity() > 1024 {
            self.waiting.shrink_to(0);
        }
    }

    /// One turn of the session at the head of the line.
    fn serve(&mut self, session: u32) -> Served {
        let Some(entry) = self.sessions.slab.at_mut(session) else {
            return Served::All;
        };
        let (id, place) = (entry.id, entry.place);
        let rare = entry.rare();
        while let Some(frame_bytes) = rare.backlog.next_frame_bytes() {
            if frame_bytes > rare.deficit {
                return Served::Turn;
            }
            match self.link.take_from(&mut rare.backlog) {
                Some(taken) => rare.deficit -= taken,
                None => return Served::Full,
            }
        }
        let Place::Attached(index) = place else {
            return Served::All;
        };
        let Some(Conn {
            state: State::Established { .. },
            reader,
            ..
        }) = self.conns.slab.at_mut(index)
        else {
            return Served::All;
        };
        let max_body = self.config.clients.max_frame_bytes;
        let (served, packets) = pass_on(
            reader,
            &mut &[][..],
            &mut self.link,
            id,
            max_body,
            Some(&mut rare.deficit),
        );
        self.counters.packets_up += packets;
        entry.exchanged |= packets > 0;
        served
    }

    /// The whole frames that the connection at `index` brought and that found no room stay with its session, before anything that the
    /// session says later. The unfinished frame is dropped with the connection.
    pub(super) fn keep_held_frames(&mut self, index: u32, session: u32) {
        let (Some(conn), Some(entry)) = (
            self.conns.slab.at_mut(index),
            self.sessions.slab.at_mut(session),
        ) else {
            return;
        };
        if entry.waiting {
            let max_body = self.config.clients.max_frame_bytes;
            while let Ok(Some(body)) = conn.reader.next_frame(&mut &[][..], max_body) {
                let id = entry.id;
                push_tagged(&mut entry.rare().backlog, id, Flag::Data, body);
                entry.exchanged = true;
                self.counters.packets_up += 1;
            }
        }
        conn.reader.clear();
        self.account.recount_conn(&mut self.conns.slab, index);
        self.account
            .recount_session(&mut self.sessions.slab, session);
    }

    /// Tells the backend something about the session, after all that it has said so far.
    pub(super) fn tell_backend(&mut self, session: u32, flag: Flag, data: &[u8]) {
        let Some(entry) = self.sessions.slab.at_mut(session) else {
            return;
        };
        if !entry.waiting && self.waiting.is_empty() && self.link.has_room(data.len()) {
            self.link.push(entry.id, flag, data);
        } else {
            let id = entry.id;
            push_tagged(&mut entry.rare().backlog, id, flag, data);
            self.account
                .recount_session(&mut self.sessions.slab, session);
            self.wait_for_room(session);
        }
    }

    /// A packet came for an id that means nothing: the backend hears so, at a bounded rate, and if there is room.
    pub(super) fn tell_unknown(&mut self, now: Time, id: ClientId) {
        self.counters.unknown_client += 1;
        // The bound is the process's, and each shard has its part of it.
        let shards = u32::from(self.config.shards.max(1));
        let due = self.unknown_notices.take(
            now,
            UNKNOWN_NOTICE_BURST.div_ceil(shards),
            UNKNOWN_NOTICE_INTERVAL.saturating_mul(shards),
        );
        // It must not overtake what the session that had this id still has in line: while anybody waits there is no room.
        let room = self.waiting.is_empty() && self.link.has_room(UNKNOWN_CLIENT.len());
        if due && room {
            self.link.push(id, Flag::Failure, UNKNOWN_CLIENT.as_bytes());
        }
    }

    /// The backend's transport took `bytes` bytes.
    pub(super) fn link_written(&mut self, now: Time, bytes: usize) {
        let announced = bytes.min(self.link.announcements.bytes());
        self.link.announcements.advance(announced);
        self.link
            .queue
            .advance_keeping(bytes - announced, KEPT_LINK_BYTES);
        if self.link.announcements.is_empty() {
            self.announce_more();
        }
        self.serve_line(now);
        // A packet is longer on the link than it was in its client's line.
        self.relieve(now);
    }

    /// A backend came: with `announce_all` it hears 0x03 for every session whose client is connected, before anything else.
    pub(super) fn begin_announcing(&mut self) {
        if self.config.master.announce_all {
            self.link.announced_to = Some(0);
            self.announce_more();
        } else {
            self.end_announcing();
        }
    }

    /// All is announced. The trunk learns it by a mark, since it holds back what waits at all shards until then (SPEC 9.9(e)).
    fn end_announcing(&mut self) {
        self.link.announced_to = None;
        if self.is_branch() {
            self.link.announcements.push_frame(&ANNOUNCED, &[]);
        } else {
            self.link.announcements.release();
        }
    }

    /// The next part of the walk over the sessions. One that begins behind it needs no announcement: its data says the same, later.
    fn announce_more(&mut self) {
        let Some(from) = self.link.announced_to else {
            return;
        };
        let end = self.sessions.slab.end();
        let mut index = from;
        while index < end && self.link.announcements.packets() < ANNOUNCEMENTS_AT_ONCE {
            if let Some(session) = self.sessions.slab.at(index)
                && matches!(session.place, Place::Attached(_))
            {
                push_tagged(&mut self.link.announcements, session.id, Flag::Resumed, &[]);
            }
            index += 1;
        }
        if self.link.announcements.is_empty() {
            self.end_announcing();
        } else {
            self.link.announced_to = Some(index);
        }
    }
}
