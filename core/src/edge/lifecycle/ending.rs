//! How connections close, and how sessions go away and end (SPEC 8.3, 9.2, 9.5 to 9.8).

use core::mem;
use core::time::Duration;

use crate::link::v3::Kick;
use crate::protocol::{Channel, Code, Stop};
use crate::queue::Outbox;
use crate::time::Time;

use crate::edge::Edge;
use crate::edge::config::Enforce;
use crate::edge::conns::conn::{Conn, ConnKey};
use crate::edge::conns::state::{Draining, Phase, Stage, State};
use crate::edge::contract::CloseKind;
use crate::edge::counters::{CloseReason, EndReason};
use crate::edge::door::sources::{Admission, Nesting};
use crate::edge::downlink::Room;
use crate::edge::sessions::Place;
use crate::edge::shares::Bound;

/// The target of the line about each session that ends. A log may limit these lines by another rate than others.
const SESSIONS: &str = "voltlane::sessions";

impl Edge {
    /// Ends the connection at `index` on the edge's initiative. A session attached to it is kept.
    pub(crate) fn close_conn(
        &mut self,
        now: Time,
        index: u32,
        kind: CloseKind,
        reason: CloseReason,
    ) {
        let conn = self.conns.live(index);
        if conn.state().stage() == Stage::Closed {
            return;
        }
        if let Some(session) = conn.session() {
            self.go_away(now, index, session);
        }
        self.begin_closing(now, index, kind, reason);
    }

    /// Detaches the connection at `index` from any session, and asks the adapter to close it.
    pub(crate) fn begin_closing(
        &mut self,
        now: Time,
        index: u32,
        kind: CloseKind,
        reason: CloseReason,
    ) {
        let conn = self.conns.live(index);
        if conn.state().stage() == Stage::Closed {
            return;
        }
        let kind = match kind {
            CloseKind::Graceful if is_mistaken_for_refusal(conn, reason) => CloseKind::Abort,
            kind => kind,
        };
        self.clear_alarm(index);
        self.conns.enter(index, State::Closed(kind), now);
        let conn = self.conns.live_mut(index);
        conn.close_reason = Some(reason);
        conn.transport_bytes = 0;
        conn.reader.clear();
        conn.forget_opening();
        conn.set_channel(Channel::default());
        self.conns.recount(index, &mut self.account);
        self.counters.count_closed(reason);
        self.punish(now, index, reason);
        tracing::debug!(conn = index, ?reason, "closing");
        self.conns.mark_ready(index);
    }

    /// Removes the connection at `index`, whose transport is gone. A session attached to it is kept.
    pub(crate) fn remove_conn(&mut self, now: Time, index: u32) {
        if let Some(session) = self.conns.live(index).session() {
            self.go_away(now, index, session);
        }
        self.clear_alarm(index);
        let conn = self.conns.remove(index, &mut self.account);
        if let Some(mut sources) = self.sources.lock_for(conn.admission) {
            sources.release(now, conn.admission);
        }
        self.shares.listeners().leave(conn.account);
        self.spare.keep_at_most(self.conns.len());
        if self.is_deserted() {
            self.link_queue.trim();
        }
    }

    /// Makes the session of the connection at `index` go away, if it may be away. Another one may have to make room for it.
    pub(crate) fn go_away(&mut self, now: Time, index: u32, session: u32) {
        let stop = self.keep_held_frames(index, session);
        let admission = self.conns.live(index).admission;
        let overflow = self.lose_connection(session);
        self.counters.went_away += 1;
        self.sessions.begin_absence(session, now);
        let clients = &self.config.clients;
        if stop == Some(Stop::Closed(Code::GOODBYE)) {
            // Its goodbye waited in line behind its packets.
            return self.end_session(now, session, EndReason::Goodbye);
        }
        if clients.stale_timeout.is_zero() {
            return self.end_session(now, session, EndReason::Expired);
        }
        if let Some(overflow) = overflow {
            return self.end_session(now, session, overflow);
        }
        let full = self.count_absence(session, admission);
        self.tell_away(session);
        #[cfg(feature = "backends")]
        if self.departures.lets_go() {
            // It leaves, and others need not make room for the moment.
            return;
        }
        if self.saves && self.shutdown_at.is_some() {
            // All of them go away at once, and come back (SPEC 39.1(b)).
            return;
        }
        let makes_room = match full {
            Some(full) => self.sessions.absent().first_of(full),
            None if self.sessions.away() > self.shares.most(Bound::Away) => {
                self.sessions.absent().first_of_most()
            }
            None => return,
        };
        if let Some(makes_room) = makes_room {
            self.end_session(now, makes_room, EndReason::TooManyStale);
        }
    }

    /// Turns the packets down of the session, which loses its connection, into missed ones. Returns why it ends if there are too many.
    fn lose_connection(&mut self, session: u32) -> Option<EndReason> {
        if let Some(numbered) = self.sessions.live_mut(session).numbered_mut() {
            numbered.progress.lose_transport();
            self.sessions.recount(session, &mut self.account);
        }
        let entry = self.sessions.live_mut(session);
        entry.outbox.lose_transport();
        let room = Room::of(Place::Away, &self.config.clients, |bytes| bytes);
        // What is numbered has room for both kinds of what waits (SPEC 24.2(e)).
        let fits = entry.numbered().is_some() || entry.outbox.is_within(room.bounds);
        (!fits).then_some(room.overflow)
    }

    /// Counts the absence of the session by the admission of its last connection. Returns the source that has more sessions away than it may.
    fn count_absence(&mut self, session: u32, admission: Admission) -> Option<u32> {
        let limits = &self.config.limits;
        let counted = self.sources.lock_for(admission).map(|mut sources| {
            (
                sources.nesting(admission),
                sources.count_away(admission, &limits.sources),
            )
        });
        let (nesting, over) = counted.unwrap_or((Nesting::NONE, None));
        self.sessions.count_absence(session, admission, &nesting);
        over.filter(|_| limits.enforce_sources == Enforce::On)
    }

    /// Ends the absence of a session: it is resumed, or it ends.
    pub(crate) fn end_absence(&mut self, now: Time, session: u32) {
        if let Some(admission) = self.sessions.end_absence(session)
            && let Some(mut sources) = self.sources.lock_for(admission)
        {
            sources.release_away(now, admission);
        }
    }

    /// Replaces the connection of a session by a newer one that has proven itself. Everything that the old one had not taken goes to the
    /// new one.
    pub(crate) fn replace_conn(&mut self, now: Time, old: u32, session: u32) {
        self.keep_held_frames(old, session);
        self.sessions.live_mut(session).outbox.lose_transport();
        self.begin_closing(now, old, CloseKind::Abort, CloseReason::Replaced);
    }

    /// Ends the session for good. Its id is retired, and the backend is told the reason once, after everything that the client sent.
    pub(crate) fn end_session(&mut self, now: Time, session: u32, reason: EndReason) {
        self.end_session_by(now, session, reason, None);
    }

    /// Like [`end_session`](Self::end_session). `kick` says what the backend wants its client to be told.
    pub(crate) fn end_session_by(
        &mut self,
        now: Time,
        session: u32,
        reason: EndReason,
        kick: Option<&Kick<'_>>,
    ) {
        let entry = self.sessions.live(session);
        let (id, place) = (entry.id, entry.place);
        if place == Place::Ended {
            return;
        }
        if let Place::Attached(index) = place {
            self.keep_held_frames(index, session);
        }
        self.log_end(now, session, reason, kick);
        self.tell_of_end(session, place, reason, kick);
        #[cfg(feature = "backends")]
        self.forget_departure(id);
        self.sessions.retire(id);
        self.end_absence(now, session);
        if self.counters.count_ended(reason) == 1 {
            self.warn_of_first(reason);
        }
        let is_numbered = self.sessions.live(session).numbered().is_some();
        let outbox = self.clear_ended(session);
        match place {
            Place::Attached(index) if is_numbered => {
                self.drain(now, index, CloseReason::SessionEnded, Some(id));
            }
            Place::Attached(index) => self.end_last_conn(now, index, reason, outbox),
            Place::Away | Place::Ended => {}
        }
    }

    /// Tells the client and the backend how the session at `place` ends, and remembers it for a client that is not there.
    fn tell_of_end(
        &mut self,
        session: u32,
        place: Place,
        reason: EndReason,
        kick: Option<&Kick<'_>>,
    ) {
        if self.sessions.live(session).numbered().is_some() {
            self.remember_end(session, reason, kick);
            if let Place::Attached(index) = place {
                self.tell_end(index, session, reason, kick);
            }
        }
        self.tell_ended(session, reason, kick);
        if self.link_queue.version.may_be_version_3() {
            self.forget_linked(session);
        }
    }

    /// Forgets what only a backend of version 3 knows of a session that ends.
    #[cold]
    #[inline(never)]
    pub(crate) fn forget_linked(&mut self, session: u32) {
        self.leave_groups(session);
        self.forget_settled(session);
    }

    /// Frees what the session, which has ended, needs no longer: all of it, unless notices about it still wait in line. Returns its outbox.
    pub(crate) fn clear_ended(&mut self, session: u32) -> Outbox {
        let entry = self.sessions.live_mut(session);
        entry.place = Place::Ended;
        entry.claimed = None;
        let nothing = Outbox::new(entry.outbox.retention());
        let outbox = mem::replace(&mut entry.outbox, nothing);
        if let Some(numbered) = entry.numbered_mut() {
            numbered.progress.forget_packets();
        }
        let freed = !entry.waiting;
        self.sessions.recount(session, &mut self.account);
        if freed {
            self.sessions.remove(session, &mut self.account);
        }
        outbox
    }

    /// Closes the connection of a session of version 2 that has ended. A kicked client may still read everything that was sent (SPEC 9.5);
    /// one that takes nothing is not waited for.
    fn end_last_conn(&mut self, now: Time, index: u32, reason: EndReason, outbox: Outbox) {
        let conn = self.conns.live(index);
        let established = conn.is_established();
        let pending = !conn.control().is_empty() || conn.has_output(&outbox, None);
        if reason == EndReason::Kicked && established && pending {
            // It may have been about to leave (SPEC 36.5(b)).
            self.clear_alarm(index);
            let draining = Draining {
                outbox,
                reason: CloseReason::SessionEnded,
                last_words: None,
            };
            let draining = State::Draining(Box::new(draining));
            self.conns.enter(index, draining, now);
            self.conns.recount(index, &mut self.account);
            self.conns.mark_ready(index);
        } else {
            let kind = match reason {
                EndReason::Kicked => CloseKind::Graceful,
                _ => CloseKind::Abort,
            };
            self.begin_closing(now, index, kind, CloseReason::SessionEnded);
        }
    }

    /// Logs that a session ends, with what it was: numbers alone.
    #[cold]
    #[inline(never)]
    fn log_end(&self, now: Time, session: u32, reason: EndReason, kick: Option<&Kick<'_>>) {
        if !tracing::enabled!(target: SESSIONS, tracing::Level::INFO) {
            return;
        }
        let entry = self.sessions.live(session);
        let Some(info) = self.info(entry) else { return };
        let code = kick.map_or(reason.code(), |kick| kick.code);
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let source = info.source;
        let (up, down) = (info.up, info.down);
        tracing::info!(
            target: SESSIONS,
            event = "session_end",
            id = %info.id,
            conn = info.conn,
            version = info.version,
            reason = reason.name(),
            code = code.to_u16(),
            source = source.map(tracing::field::display),
            dur_ms = millis(entry.age(now)),
            away_ms = info.away.map(millis),
            packets_up = entry.sent(),
            packets_down = down.numbered,
            resumes = info.resumes,
            gaps = up.gapped + down.gapped,
            unsettled = down.open_sent + down.open_unsent,
            "session ended"
        );
    }

    /// Warns of the first client that lost its session over a short drop, which this edge is meant to prevent. The warning names the key that
    /// allows it; the counters have the rest.
    fn warn_of_first(&self, reason: EndReason) {
        let clients = &self.config.clients;
        match reason {
            EndReason::ClientAway => tracing::warn!(
                "a session ended because packets came while its client was away and \
                 clients.missed_packets_buffer_size is 0; further ones are only counted"
            ),
            EndReason::MissedPacketsFull => tracing::warn!(
                packets = clients.missed_packets_buffer_size,
                bytes = clients.missed_packets_buffer_bytes,
                "a session ended because its client was away and missed more than \
                 clients.missed_packets_buffer_size or clients.missed_packets_buffer_bytes; further ones are only counted"
            ),
            _ => {}
        }
    }

    /// Handles that a kicked client took everything that was queued for it.
    pub(crate) fn finish_draining(&mut self, now: Time, index: u32) {
        self.begin_closing(now, index, CloseKind::Graceful, CloseReason::SessionEnded);
    }

    /// Returns how the adapter must close a connection that still exists when the edge has ended.
    #[must_use]
    pub fn client_end(&self, conn: ConnKey) -> CloseKind {
        match self.conns.find(conn) {
            Some(conn) if is_mistaken_for_refusal(conn, CloseReason::Shutdown) => CloseKind::Abort,
            _ => CloseKind::Graceful,
        }
    }

    /// Closes half-open connections: a shutdown has nothing to hand over to them.
    pub(crate) fn close_half_open(&mut self, now: Time) {
        let mut from = 0;
        while let Some(index) = self.conns.next_from(from) {
            if self.conns.live(index).is_half_open() {
                self.close_conn(now, index, CloseKind::Graceful, CloseReason::Shutdown);
            }
            from = index + 1;
        }
    }
}

/// Returns whether the client would mistake an orderly end of `conn` for a refusal (SPEC 4.5(d)): it may have sent its response, and the
/// edge's Ping is not written yet.
fn is_mistaken_for_refusal(conn: &Conn, reason: CloseReason) -> bool {
    match conn.state() {
        State::Handshake(Phase::Response | Phase::Wait(_)) => reason == CloseReason::Shutdown,
        // A session that has ended is gone, and its client may learn that.
        State::Handshake(Phase::Ping { .. }) => reason != CloseReason::SessionEnded,
        State::Established { .. } => !conn.control().is_empty(),
        State::Handshake(_) | State::Draining(_) | State::Closed(_) => false,
    }
}
