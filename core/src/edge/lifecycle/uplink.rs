//! Clients → backend: tagging, and the line of sessions that wait for room (SPEC 10.4).
//!
//! A frame goes to the link's queue in the step in which its last byte arrives. When the queue is full, the rest stays with its client,
//! which is not read further and gets in line. New room is distributed by deficit round robin, in bytes: a client that sends as fast as it
//! can gets no more of it than any other one that waits.

use core::time::Duration;

use crate::link::tagged::{Flag, HEADER_BYTES};
use crate::protocol::Channel;
use crate::time::Time;
use crate::wire::frame::{FrameReader, FrameTooLong};

use crate::edge::Edge;
use crate::edge::config::Enforce;
use crate::edge::conns::conn::CloseKind;
use crate::edge::conns::wait::{Slot, Wait};
use crate::edge::counters::{CloseReason, UNKNOWN_CLIENT};
use crate::edge::door::limits::Pace;
use crate::edge::sessions::Place;
use crate::edge::uplink::link::{Link, push_tagged};
use crate::edge::uplink::trunk::ANNOUNCED;
use crate::id::ClientId;

/// The memory that the link's queue keeps when it is empty: what a turn of many clients with large packets fills.
const KEPT_LINK_BYTES: usize = 1 << 20;

/// The number of announcements made at a time, so that a link with many sessions needs no very large buffer.
const ANNOUNCEMENTS_AT_ONCE: usize = 4096;

/// The number of answers to packets for unknown ids at once; then one per interval. The others are only counted.
const UNKNOWN_NOTICE_BURST: u32 = 1000;
/// The interval between two answers beyond [`UNKNOWN_NOTICE_BURST`].
const UNKNOWN_NOTICE_INTERVAL: Duration = Duration::from_millis(1);

/// How far a session was served.
enum Served {
    /// Nothing of it waits any more.
    All,
    /// Its turn is over.
    Turn,
    /// The link is full.
    Full,
    /// Its client sent a frame above the limit.
    Violation,
}

/// Puts whole frames of `reader` and `input` on the link, within the turn's `allowance` in bytes if there is one. It begins no frame that
/// has no room. Returns how far it came, and the number of packets.
#[inline]
fn pass_on(
    channel: Channel,
    reader: &mut FrameReader,
    input: &mut &[u8],
    link: &mut Link,
    id: ClientId,
    max_body: u32,
    mut allowance: Option<&mut usize>,
) -> (Served, u64) {
    let mut packets = 0;
    loop {
        // While even the longest frame has room, the length of a frame need not be checked before it is taken.
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
        match channel.next_packet(reader, input, max_body) {
            Ok(Some(packet)) => link.push(id, Flag::Data, packet),
            Ok(None) => return (Served::All, packets),
            Err(FrameTooLong { .. }) => return (Served::Violation, packets),
        }
        packets += 1;
    }
}

impl Edge {
    /// Forwards bytes from the connection of an established session. `count` of its packets, new or held, are new to its pace.
    pub(crate) fn forward(
        &mut self,
        now: Time,
        index: u32,
        session: u32,
        bytes: &[u8],
        count: usize,
    ) {
        let conn = self.conns.live_mut(index);
        let entry = self.sessions.live_mut(session);
        // If others wait, this session gets in line behind them. Otherwise a small packet would always find the room that a large one waits
        // for.
        if entry.waiting || !self.line.is_empty() {
            conn.reader.hold(bytes);
            self.conns.disarm(Slot::Read, index);
            return self.line.join(session, entry);
        }
        let mut input = bytes;
        let (served, packets) = pass_on(
            conn.channel(),
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
                self.conns.disarm(Slot::Read, index);
                self.line.join(session, entry);
            }
            Served::All => {
                // Most often there is no unfinished frame, no running timer, and no limit on silence.
                if conn.reader.buffered_bytes() > 0
                    || conn.timers.is_any_armed(Slot::Read)
                    || !self.config.clients.idle_timeout.is_zero()
                {
                    self.watch_reads(now, index, packets > 0);
                }
                self.pace(now, index, packets, count);
            }
            Served::Violation => {
                self.close_conn(now, index, CloseKind::Graceful, CloseReason::FrameTooLong)
            }
        }
    }

    /// Arms the timer of an unfinished frame, from its first byte, or else that of silence. `anew` if a frame was finished since.
    #[inline]
    pub(crate) fn watch_reads(&mut self, now: Time, index: u32, anew: bool) {
        let conn = self.conns.live(index);
        let clients = &self.config.clients;
        if conn.reader.is_mid_frame() && !clients.frame_timeout.is_zero() {
            let running = !anew && conn.waits_for(Wait::Frame);
            if !running {
                self.conns.arm(Wait::Frame, index, now);
            }
        } else if !clients.idle_timeout.is_zero() {
            self.conns.arm(Wait::Idle, index, now);
        } else if conn.timers.is_any_armed(Slot::Read) {
            self.conns.disarm(Slot::Read, index);
        }
    }

    /// Charges a read to the client's pace.
    #[inline]
    fn pace(&mut self, now: Time, index: u32, packets: u64, bytes: usize) {
        let clients = &self.config.clients;
        let limits = &clients.pace;
        if (limits.frames == 0 && limits.bytes == 0) || clients.enforce_pace == Enforce::Off {
            return;
        }
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
            self.conns.disarm(Slot::Step, index);
            self.watch_reads(now, index, true);
            self.conns.mark_ready(index);
        } else if pace.is_too_long(now, limits.patience) {
            self.close_conn(now, index, CloseKind::Graceful, CloseReason::TooFast);
        } else {
            self.conns.arm(Wait::Pace, index, now);
        }
    }

    /// Serves the line, as there may be room on the link.
    pub(crate) fn serve_line(&mut self, now: Time) {
        while let Some(session) = self.line.first() {
            let served = self.serve(session);
            self.sessions.recount(session, &mut self.account);
            let entry = self.sessions.live_mut(session);
            if let Place::Attached(index) = entry.place {
                self.conns.recount(index, &mut self.account);
            }
            match served {
                Served::Full => return,
                Served::Turn => self.line.next_turn(entry),
                served @ (Served::All | Served::Violation) => {
                    self.line.leave(entry);
                    match (entry.place, served) {
                        (Place::Ended, _) => self.sessions.remove(session, &mut self.account),
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
        let (id, place) = (entry.id, entry.place);
        let waiting = entry.line_entry();
        while let Some(frame_bytes) = waiting.backlog.next_frame_bytes() {
            if frame_bytes > waiting.deficit {
                return Served::Turn;
            }
            match self.link.take_from(&mut waiting.backlog) {
                Some(taken) => waiting.deficit -= taken,
                None => return Served::Full,
            }
        }
        let Place::Attached(index) = place else {
            return Served::All;
        };
        let conn = self.conns.live_mut(index);
        if !conn.is_established() {
            return Served::All;
        }
        let max_body = self.config.clients.max_frame_bytes;
        let (served, packets) = pass_on(
            conn.channel(),
            &mut conn.reader,
            &mut &[][..],
            &mut self.link,
            id,
            max_body,
            Some(&mut waiting.deficit),
        );
        self.counters.packets_up += packets;
        entry.exchanged |= packets > 0;
        served
    }

    /// Moves the whole frames of the connection at `index` that found no room to its session's line, before anything that the session sends
    /// later. The unfinished frame is dropped with the connection.
    pub(crate) fn keep_held_frames(&mut self, index: u32, session: u32) {
        let conn = self.conns.live_mut(index);
        let entry = self.sessions.live_mut(session);
        if entry.waiting {
            let max_body = self.config.clients.max_frame_bytes;
            while let Ok(Some(body)) = conn.reader.next_frame(&mut &[][..], max_body) {
                let id = entry.id;
                push_tagged(&mut entry.line_entry().backlog, id, Flag::Data, body);
                entry.exchanged = true;
                self.counters.packets_up += 1;
            }
        }
        conn.reader.clear();
        self.conns.recount(index, &mut self.account);
        self.sessions.recount(session, &mut self.account);
    }

    /// Queues a notice about the session for the backend, after everything that it has sent so far.
    pub(crate) fn tell_backend(&mut self, session: u32, flag: Flag, data: &[u8]) {
        let entry = self.sessions.live_mut(session);
        if !entry.waiting && self.line.is_empty() && self.link.has_room(data.len()) {
            self.link.push(entry.id, flag, data);
        } else {
            let id = entry.id;
            push_tagged(&mut entry.line_entry().backlog, id, flag, data);
            self.line.join(session, entry);
            self.sessions.recount(session, &mut self.account);
        }
    }

    /// Answers a packet for an unknown id, at a bounded rate and if there is room.
    pub(crate) fn tell_unknown(&mut self, now: Time, id: ClientId) {
        self.counters.unknown_client += 1;
        // The bound is the process's, and each shard has its part of it.
        let shards = u32::from(self.config.shards.max(1));
        let due = self.unknown_notices.take(
            now,
            UNKNOWN_NOTICE_BURST.div_ceil(shards),
            UNKNOWN_NOTICE_INTERVAL.saturating_mul(shards),
        );
        // The answer must not overtake packets that the earlier session of this id still has in line. While anybody waits there is no room.
        let room = self.line.is_empty() && self.link.has_room(UNKNOWN_CLIENT.len());
        if due && room {
            self.link.push(id, Flag::Failure, UNKNOWN_CLIENT.as_bytes());
        }
    }

    /// Handles that the backend's transport took `bytes` bytes.
    pub(crate) fn link_written(&mut self, now: Time, bytes: usize) {
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
        self.shed_load(now);
    }

    /// Begins the announcements to a new backend: with `announce_all` it is told 0x03 for every attached session, before anything else.
    pub(crate) fn begin_announcing(&mut self) {
        if self.config.master.announce_all {
            self.link.announced_to = Some(0);
            self.announce_more();
        } else {
            self.end_announcing();
        }
    }

    /// Ends the announcements. The trunk is told by a mark, as it holds back what waits at all shards until then (SPEC 9.9(e)).
    fn end_announcing(&mut self) {
        self.link.announced_to = None;
        if self.is_branch() {
            self.link.announcements.push_frame(&ANNOUNCED, &[]);
        } else {
            self.link.announcements.release();
        }
    }

    /// Announces the next part of the walk over the sessions. A session that begins behind it needs no announcement: its data has the same
    /// effect later.
    fn announce_more(&mut self) {
        let Some(mut from) = self.link.announced_to else {
            return;
        };
        while self.link.announcements.packets() < ANNOUNCEMENTS_AT_ONCE
            && let Some((index, session)) = self.sessions.next_from(from)
        {
            if matches!(session.place, Place::Attached(_)) {
                push_tagged(&mut self.link.announcements, session.id, Flag::Resumed, &[]);
            }
            from = index + 1;
        }
        if self.link.announcements.is_empty() {
            self.end_announcing();
        } else {
            self.link.announced_to = Some(from);
        }
    }
}
