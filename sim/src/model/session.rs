//! One session as SPEC sections 8.3 and 9 describe it, and the timers of the whole edge.

use std::collections::{BTreeMap, VecDeque};

use super::admission::{KEPT_WAITING, Network};
use super::conn::{Conn, Manner, Piece, State};
use super::link::What;
use super::memory::Level;
use super::{DRAIN_TIME, Model, REPLY_DELAY, TAKEOVER_WAIT, TAKEOVERS};
use crate::codec::Frames;

/// One session.
#[derive(Clone)]
pub(super) struct Session {
    /// The connection attached to it.
    pub(super) conn: Option<u32>,
    /// Missed packets, framed. Empty while attached, when the connection holds them.
    pub(super) queue: VecDeque<Vec<u8>>,
    /// While away: its position in the order of going away, and its deadline.
    pub(super) departure: u64,
    pub(super) deadline: u64,
    /// Whether an event of its own made it go away, before all that went later.
    pub(super) left_by_event: bool,
    /// While away: the sources that it counts for, the narrowest first.
    pub(super) went_from: Vec<Network>,
    /// Whether it ever carried a packet, in either direction (9.7(b)). What waits while it is away has not been carried yet.
    pub(super) carried: bool,
    pub(super) takeovers: Tokens,
    /// When its resume counts for a storm again (10.6(g)).
    pub(super) counts_from: u64,
}

impl Session {
    pub(super) fn new(conn: u32) -> Session {
        Session {
            conn: Some(conn),
            queue: VecDeque::new(),
            departure: 0,
            deadline: 0,
            left_by_event: false,
            went_from: Vec::new(),
            carried: false,
            takeovers: Tokens::default(),
            counts_from: 0,
        }
    }
}

/// The takeovers that a session has left (9.3(e)).
#[derive(Clone, Default)]
pub(super) struct Tokens {
    pub(super) used: u64,
    pub(super) since: u64,
}

impl Tokens {
    /// Adds one for each whole second since the tokens were last full.
    fn refill(&mut self, now: u64) {
        let back = ((now - self.since) / TAKEOVER_WAIT).min(self.used);
        self.used -= back;
        self.since = if self.used == 0 {
            now
        } else {
            self.since + back * TAKEOVER_WAIT
        };
    }

    pub(super) fn has_token(&mut self, now: u64) -> bool {
        self.refill(now);
        self.used < TAKEOVERS
    }

    pub(super) fn take(&mut self, now: u64) {
        self.refill(now);
        self.used += 1;
    }
}

/// An event that is due at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    Handshake(u32),
    Reply(u32),
    Wait(u32),
    Frame(u32),
    Idle(u32),
    Pace(u32),
    Write(u32),
    Drain(u32),
    /// Expired sessions are collected.
    Reap,
    /// The end of an edge that shuts down. Its effects are compared separately.
    Shutdown,
}

/// The latest instant of an event that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) at: u64,
    pub(super) what: Timer,
}

impl Model {
    /// Returns what must happen first, if nothing else does (SPEC 8.1(d)).
    pub(super) fn next_due(&self) -> Option<Due> {
        let limits = &self.limits;
        let mut first: Option<((u64, u8, u64), Timer)> = None;
        let mut offer = |at: u64, rank: u8, order: u64, what| {
            let place = (at, rank, order);
            if at != u64::MAX && first.is_none_or(|(other, _)| place < other) {
                first = Some((place, what));
            }
        };
        for (&conn, state) in self.conns.iter().filter(|(_, state)| state.close.is_none()) {
            if state.is_half_open() && limits.handshake_timeout > 0 {
                let at = state.accepted_at.saturating_add(limits.handshake_timeout);
                offer(at, 4, state.order, Timer::Handshake(conn));
            }
            let since = state.since_order;
            match state.state {
                State::Delay => offer(state.claimed_at + REPLY_DELAY, 0, since, Timer::Reply(conn)),
                State::Wait => offer(state.wait_until, 2, since, Timer::Wait(conn)),
                State::Draining => offer(state.drain_at, 3, since, Timer::Drain(conn)),
                State::Established => {
                    if let Some(begun) = state.frame.filter(|_| limits.frame_timeout > 0) {
                        let at = begun.latest.saturating_add(limits.frame_timeout);
                        offer(at, 5, begun.order, Timer::Frame(conn));
                    }
                    if let Some(look) = state.pace.look_at {
                        offer(look.at, 1, look.order, Timer::Pace(conn));
                    }
                    if let Some(begun) = state.idle {
                        let at = begun.latest.saturating_add(limits.pace.idle_timeout);
                        offer(at, 6, begun.order, Timer::Idle(conn));
                    }
                    if let Some(begun) = state.write_since.filter(|_| limits.write_timeout > 0) {
                        let at = begun.at.saturating_add(limits.write_timeout);
                        offer(at, 7, begun.order, Timer::Write(conn));
                    }
                }
                _ => {}
            }
        }
        let away = self.sessions.values().filter(|one| one.conn.is_none());
        if let Some(first) = away.map(|session| session.deadline).min() {
            offer(self.reaped_at(first), 8, 0, Timer::Reap);
        }
        if let Some(at) = self.shutdown_at.filter(|at| *at > self.now) {
            offer(at, 9, 0, Timer::Shutdown);
        }
        first.map(|((at, ..), what)| Due { at, what })
    }

    /// Performs an event that is due.
    pub(super) fn fire(&mut self, what: Timer) {
        match what {
            Timer::Handshake(conn) => {
                self.reach.handshake_timeout += 1;
                if let Some(sid) = self.conns.get(&conn).and_then(|state| state.sid) {
                    self.go_away(sid);
                }
                let held =
                    |state: &Conn| matches!(state.state, State::Join | State::Delay | State::Wait);
                let why = match self.conns.get(&conn) {
                    Some(state) if held(state) => KEPT_WAITING,
                    _ => "the handshake deadline",
                };
                self.close(conn, why, self.manner(conn));
            }
            Timer::Reply(conn) => self.challenge(conn),
            Timer::Wait(conn) => self.waited(conn),
            Timer::Frame(conn) => {
                self.reach.frame_timeout += 1;
                self.close_and_detach(conn, "the frame deadline");
            }
            Timer::Idle(conn) => {
                self.reach.idle += 1;
                self.close_and_detach(conn, "the idle deadline");
            }
            Timer::Pace(conn) => self.look_at_pace(conn),
            Timer::Write(conn) => {
                if let Some(sid) = self.conns.get(&conn).and_then(|state| state.sid) {
                    self.end_session(sid, "write timed out");
                }
            }
            Timer::Drain(conn) => self.close(conn, "the drain deadline", Manner::Either),
            Timer::Reap => self.reap(),
            Timer::Shutdown => {}
        }
    }

    /// Returns when a session with this deadline ends (SPEC 9.6(c)).
    pub(super) fn reaped_at(&self, deadline: u64) -> u64 {
        let interval = self.limits.reap_interval.max(1);
        deadline.div_ceil(interval).saturating_mul(interval)
    }

    fn reap(&mut self) {
        let now = self.now;
        let over = |session: &Session| session.conn.is_none() && session.deadline <= now;
        let expired: Vec<_> = self
            .sessions
            .iter()
            .filter(|(_, session)| over(session))
            .map(|(sid, _)| *sid)
            .collect();
        for sid in expired {
            self.expire(sid);
        }
    }

    fn expire(&mut self, sid: u64) {
        self.expired += 1;
        self.end_session(sid, "expired");
    }

    /// Detaches `sid`, whose connection has ended for a reason other than the session's own end (column ATTACHED of 8.3).
    pub(super) fn go_away(&mut self, sid: u64) {
        let Some(session) = self.sessions.get_mut(&sid) else {
            return;
        };
        let mut address = None;
        if let Some(state) = session
            .conn
            .take()
            .and_then(|conn| self.conns.get_mut(&conn))
        {
            address = Some(state.address);
            let cut;
            (session.queue, cut) = state.take_packets();
            self.reach.down_cut += u64::from(cut);
            state.sid = None;
        }
        self.link.not_to_announce(sid);
        self.departures += 1;
        session.departure = self.departures;
        session.left_by_event = self.ended_by_peer;
        session.deadline = self.now.saturating_add(self.limits.stale_timeout);
        if self.limits.stale_timeout == 0 {
            return self.expire(sid);
        }
        let Some(session) = self.sessions.get(&sid) else {
            return;
        };
        let (packets, bytes) = (
            session.queue.len(),
            session.queue.iter().map(Vec::len).sum::<usize>(),
        );
        if self.limits.missed_packets == 0 {
            if packets > 0 {
                return self.end_session(sid, "client is away");
            }
        } else if packets > self.limits.missed_packets
            || (bytes > self.limits.missed_bytes && packets > 1)
        {
            return self.end_session(sid, "missed packet buffer full");
        }
        let went_from = address.map_or_else(Vec::new, |address| self.counts_for(address));
        if let Some(session) = self.sessions.get_mut(&sid) {
            session.went_from.clone_from(&went_from);
        }
        match self.full_source(&went_from) {
            Some(full) => self.end_one_away(|one| one.went_from.contains(&full)),
            None => self.cap_away(),
        }
    }

    /// Returns whether the order in which these sessions went away at one instant is observable: only if each did so by an event of its
    /// own.
    fn order_is_seen<'a>(mut alike: impl Iterator<Item = &'a Session>) -> bool {
        let (Some(first), Some(second)) = (alike.next(), alike.next()) else {
            return true;
        };
        first.left_by_event && second.left_by_event && alike.all(|one| one.left_by_event)
    }

    /// Applies the cap on sessions that are away (SPEC 9.7(b)).
    fn cap_away(&mut self) {
        let mut away: BTreeMap<Option<Network>, usize> = BTreeMap::new();
        for session in self.sessions.values().filter(|one| one.conn.is_none()) {
            *away.entry(session.went_from.last().copied()).or_default() += 1;
        }
        if away.values().sum::<usize>() > self.limits.max_stale {
            let most = away.values().copied().max();
            self.end_one_away(|one| away.get(&one.went_from.last().copied()).copied() == most);
        }
    }

    /// Ends one of these sessions to make room (9.7(c)).
    fn end_one_away(&mut self, of: impl Fn(&Session) -> bool) {
        let candidates = || {
            let away = self.sessions.iter().filter(|(_, one)| one.conn.is_none());
            away.filter(|(_, one)| of(one))
        };
        let Some((&sid, first)) = candidates().min_by_key(|(_, one)| (one.carried, one.departure))
        else {
            return;
        };
        let alike = candidates()
            .map(|(_, one)| one)
            .filter(|one| (one.carried, one.deadline) == (first.carried, first.deadline));
        if Self::order_is_seen(alike) {
            self.end_session(sid, "too many stale clients");
        } else {
            self.lose_sight();
        }
    }

    /// Handles a packet down for a session that exists.
    pub(super) fn packet_down(&mut self, sid: u64, data: &[u8]) {
        let packet = crate::codec::frame(data);
        let since = self.wait();
        let squeezed = self.memory_level(true) >= Level::Tight;
        let shift = if squeezed { 2 } else { 0 };
        let limits = &self.limits;
        let Some(session) = self.sessions.get_mut(&sid) else {
            return;
        };
        let fits = |packets: usize, bytes: usize, most_packets: usize, most_bytes: usize| {
            packets == 0 || (packets < most_packets && bytes + packet.len() <= most_bytes)
        };
        if let Some(conn) = session.conn {
            self.dirty.insert(conn);
            let Some(state) = self.conns.get_mut(&conn) else {
                return;
            };
            if fits(
                state.queued_packets,
                state.queued_bytes,
                limits.queue_packets,
                limits.queue_bytes >> shift,
            ) {
                session.carried = true;
                state.push(Piece::Data(packet));
                if state.is_established() && state.write_since.is_none() {
                    state.write_since = Some(since);
                }
                self.shed_load(true);
            } else {
                let room = state.queued_bytes + packet.len() <= limits.queue_bytes;
                self.reach.squeezed += u64::from(squeezed && room);
                self.end_session(sid, "send queue full");
            }
            return;
        }
        if limits.missed_packets == 0 {
            return self.end_session(sid, "client is away");
        }
        let bytes = session.queue.iter().map(Vec::len).sum();
        if fits(
            session.queue.len(),
            bytes,
            limits.missed_packets,
            limits.missed_bytes >> shift,
        ) {
            session.queue.push_back(packet);
            self.shed_load(true);
        } else {
            self.reach.squeezed +=
                u64::from(squeezed && bytes + packet.len() <= limits.missed_bytes);
            self.end_session(sid, "missed packet buffer full");
        }
    }

    /// Ends a session (SPEC 8.3(b)).
    pub(super) fn end_session(&mut self, sid: u64, reason: &'static str) {
        let Some(session) = self.sessions.remove(&sid) else {
            return;
        };
        self.link.not_to_announce(sid);
        *self.reach.ended.entry(reason).or_default() += 1;
        let since = self.wait();
        if let Some(conn) = session.conn
            && let Some(state) = self.conns.get_mut(&conn)
        {
            self.dirty.insert(conn);
            state.sid = None;
            match (reason, state.state) {
                ("kicked", State::Ping) => self.close(conn, reason, Manner::Either),
                ("kicked", _) => {
                    state.state = State::Draining;
                    // Its unfinished frame is discarded, like what it sends meanwhile.
                    state.frames = Frames::default();
                    state.since_order = since.order;
                    state.drain_at = since.at + DRAIN_TIME;
                    self.drained(conn);
                }
                _ => self.close(conn, reason, Manner::Abrupt),
            }
        }
        self.queue_up(sid, What::Failure(reason));
        self.note_holders();
    }

    /// Closes a connection that drains and has nothing left.
    pub(super) fn drained(&mut self, conn: u32) {
        if self
            .conns
            .get(&conn)
            .is_some_and(|state| state.state == State::Draining && state.pieces.is_empty())
        {
            self.close(conn, "kicked, and all is written", Manner::Orderly);
        }
    }
}
