//! A client's bytes, frame by frame, through the table of SPEC 8.2.

use std::collections::VecDeque;

use super::admission::{Arrival, LAPSED, MADE_ROOM, NO_PLACE};
use super::conn::{Begun, Close, Conn, Manner, Moment, Piece, State};
use super::link::{Item, What};
use super::session::Session;
use super::{
    HANDSHAKE_BODY_BYTES, HANDSHAKE_BYTES, Model, STORM_COUNTS_AGAIN, STORM_MEMORY, STORM_RESUMES,
    TAKEOVER_WAIT,
};
use crate::codec::{Frames, Hello};

/// Ids that the model invents for sessions whose id it has not seen yet. The edge's shard is 0, so it assigns none of them.
pub(super) const PROVISIONAL: u64 = 0xff << 56;

impl Model {
    /// Takes whole frames of `conn` as long as its state reads them.
    pub(super) fn parse(&mut self, conn: u32) {
        let mut frames_taken = 0;
        loop {
            let Some(state) = self.conns.get_mut(&conn).filter(|state| state.reads()) else {
                return;
            };
            if matches!(
                state.state,
                State::Proxy | State::Join | State::Delay | State::Wait
            ) {
                break;
            }
            let max = if state.is_established() {
                self.limits.max_up
            } else {
                HANDSHAKE_BODY_BYTES
            };
            match state.frames.next_body(max) {
                Ok(Some(body)) if state.is_established() => {
                    frames_taken += 1;
                    let sid = state.sid.unwrap_or_default();
                    self.packet_up(sid, body);
                }
                Ok(Some(body)) => self.handshake_frame(conn, &body),
                Ok(None) => break,
                Err(_) if state.is_established() => {
                    self.too_long(conn);
                    return;
                }
                Err(_) => {
                    self.give_up(conn, "a length above the bound in the handshake");
                    return;
                }
            }
        }
        // SPEC 8.2(c), except where frames are held: in WAIT they may be what a correct client sent behind its Ping.
        let holds = |state: &&Conn| matches!(state.state, State::Join | State::Delay | State::Wait);
        let full =
            |state: &&Conn| state.is_half_open() && state.taken >= HANDSHAKE_BYTES && !holds(state);
        if self.conns.get(&conn).filter(full).is_some() {
            self.give_up(
                conn,
                "all bytes of a handshake were taken, and it has not ended",
            );
        }
        self.note_frame_begun(conn, frames_taken > 0);
        self.note_read(conn, frames_taken);
    }

    /// Records when the time of the unfinished frame began (SPEC 11(c)).
    fn note_frame_begun(&mut self, conn: u32, took_a_frame: bool) {
        let Moment { at: now, order } = self.wait();
        let Some(sid) = self
            .conns
            .get(&conn)
            .filter(|state| state.is_established())
            .and_then(|state| state.sid)
        else {
            return;
        };
        // If the link queue is full, an edge may read from no client.
        let unsure = self.is_uncertain(sid) || !self.surely_fits(1);
        let Some(state) = self.conns.get_mut(&conn) else {
            return;
        };
        state.frame = match state.frame {
            _ if state.frames.held() == 0 => None,
            Some(begun) if !took_a_frame => Some(Begun {
                latest: if unsure { u64::MAX } else { begun.latest },
                ..begun
            }),
            _ => Some(Begun {
                earliest: now,
                latest: if unsure { u64::MAX } else { now },
                order,
            }),
        };
    }

    fn handshake_frame(&mut self, conn: u32, body: &[u8]) {
        let Some(state) = self.conns.get_mut(&conn) else {
            return;
        };
        let Some(hello) = Hello::read(body) else {
            return self.give_up(conn, "not a handshake packet");
        };
        match (state.state, hello) {
            (State::Version, Hello::Version(2)) => {
                let key = Hello::PublicKey(self.edge_key.clone()).to_frame();
                state.push(Piece::Hello(key));
                state.state = State::KeyOrId;
            }
            (State::KeyOrId, Hello::PublicKey(key)) if self.valid_keys.contains(&key) => {
                if let Err(why) = self.admit_newcomer(conn) {
                    return self.close(conn, why, Manner::Orderly);
                }
                let no_place = !self.has_place(false);
                if no_place && !self.newcomers_may_wait() {
                    self.reach.house_full += 1;
                    return self.close(conn, NO_PLACE, Manner::Orderly);
                }
                let all_there = self.sessions.len() >= self.limits.max_sessions;
                let memory_full = self.no_session_may_begin();
                if (all_there || memory_full) && !self.newcomers_may_wait() {
                    self.reach.sessions_full += u64::from(all_there);
                    self.reach.memory_full += u64::from(memory_full && !all_there);
                    return self.close(conn, "no session may begin", Manner::Orderly);
                }
                let may_refuse = no_place || memory_full || self.sessions_may_be_full();
                let Some(state) = self.conns.get_mut(&conn) else {
                    return;
                };
                // Whether it waits or is refused is observed afterwards.
                state.state = State::Join;
                if !self.newcomers_may_wait() && !may_refuse {
                    self.begin_session(conn);
                }
            }
            (State::KeyOrId, Hello::Id(id)) => {
                if self.make_room(Arrival::Claim(conn)).is_err() {
                    return self.close(conn, MADE_ROOM, Manner::Orderly);
                }
                let Some(state) = self.conns.get_mut(&conn) else {
                    return;
                };
                (state.claim, state.claimed_at, state.state) = (Some(id), self.now, State::Delay);
                let (genuine, since) = (self.is_resumable(id), self.wait());
                if let Some(state) = self.conns.get_mut(&conn) {
                    (state.genuine, state.was_there) = (genuine, genuine);
                    (state.since_order, state.turn) = (since.order, since.order);
                }
            }
            (State::Response, Hello::Response(response)) => self.response(conn, &response),
            (State::Ping, Hello::Ping) => self.closing_ping(conn),
            _ => self.give_up(conn, "a packet out of turn"),
        }
    }

    /// Returns whether the maximum of sessions may be reached: an ended session whose line still waits may count (SPEC 10.6(f)).
    pub(super) fn sessions_may_be_full(&self) -> bool {
        let ended = |(id, items): &(&u64, &VecDeque<Item>)| {
            !self.sessions.contains_key(id) && !items.is_empty()
        };
        let lines = self.outbox.iter().filter(ended).count();
        self.sessions.len() + lines >= self.limits.max_sessions
    }

    /// Returns whether newcomers may wait (SPEC 10.6(g)). Until when they wait after the last resume depends on the number of resumes.
    fn newcomers_may_wait(&mut self) -> bool {
        let now = self.now;
        self.resumed_at.retain(|at| at + STORM_MEMORY > now);
        self.resumed_at.len() >= STORM_RESUMES
    }

    pub(super) fn begin_session(&mut self, conn: u32) {
        let sid = PROVISIONAL | u64::from(conn);
        let Some(state) = self.conns.get_mut(&conn) else {
            return;
        };
        state.push(Piece::AnyId);
        state.state = State::Established;
        state.sid = Some(sid);
        state.pace.unspent = state.frames.held();
        self.attachments += 1;
        self.sessions.insert(sid, Session::new(conn));
        self.link.may_announce(sid);
    }

    /// Handles that the reply delay of `conn` is over.
    pub(super) fn challenge(&mut self, conn: u32) {
        self.dirty.insert(conn);
        let since = self.wait();
        let Some(state) = self.conns.get_mut(&conn) else {
            return;
        };
        (state.since_order, state.challenge_order) = (since.order, since.order);
        let claim = state.claim.unwrap_or_default();
        state.genuine &= self
            .sessions
            .get(&claim)
            .is_some_and(|session| session.conn.is_some() || self.now < session.deadline);
        state.push(Piece::AnyChallenge);
        state.state = State::Response;
        self.parse(conn);
    }

    /// Records that the holder of the session's keys cannot open the challenge of `conn`.
    pub fn note_decoy(&mut self, now: u64, conn: u32) {
        self.now = now;
        let genuine = |state: &&Conn| state.genuine;
        if self.conns.get(&conn).filter(genuine).is_some() {
            let text = format!("conn {conn} was given a decoy, and its session can be resumed");
            self.fail("S16", "5.1(a)", text);
        }
    }

    /// Handles a response (SPEC 5.3), and what an acceptable one leads to.
    fn response(&mut self, conn: u32, response: &[u8]) {
        let Some(state) = self.conns.get_mut(&conn) else {
            return;
        };
        let claim = state.claim.unwrap_or_default();
        let good = self
            .good_responses
            .remove(&conn)
            .is_some_and(|(sid, bytes)| sid == claim && bytes == response);
        let (was_there, is_there) = (state.was_there, self.is_resumable(claim));
        if good && is_there {
            self.take_over(conn, claim);
        } else {
            self.reach.refused += 1;
            self.refused_now = true;
            let lapsed = was_there && !is_there;
            let why = "a response that is not acceptable";
            self.refuse(conn, if lapsed { LAPSED } else { why });
        }
    }

    pub(super) fn is_resumable(&self, sid: u64) -> bool {
        self.sessions
            .get(&sid)
            .is_some_and(|session| session.conn.is_some() || self.now < session.deadline)
    }

    /// Handles that the wait of a takeover is over (entry m).
    pub(super) fn waited(&mut self, conn: u32) {
        self.dirty.insert(conn);
        let Some(state) = self.conns.get_mut(&conn) else {
            return;
        };
        state.has_waited = true;
        let claim = state.claim.unwrap_or_default();
        if self.is_resumable(claim) {
            self.take_over(conn, claim);
            self.parse(conn);
        } else {
            self.refuse(conn, LAPSED);
        }
    }

    /// Resumes, or waits (entry d, 9.3(e)).
    fn take_over(&mut self, conn: u32, sid: u64) {
        let (now, most) = (self.now, self.limits.queue_bytes);
        // The edge may make it wait for the session's line. Whether it does is observed afterwards.
        let line = self.line_bytes(sid) > most;
        let has_place = self.has_place(true);
        let Some(session) = self.sessions.get_mut(&sid) else {
            return;
        };
        let no_token = session.conn.is_some() && !session.takeovers.has_token(now);
        let no_place = session.conn.is_none() && !has_place;
        if line || no_token || no_place {
            self.reach.takeover_waited += u64::from(no_token);
            self.reach.place_awaited += u64::from(no_place);
            let order = self.wait().order;
            if let Some(state) = self.conns.get_mut(&conn) {
                if state.state != State::Wait {
                    state.wait_turn = order;
                }
                (state.state, state.since_order) = (State::Wait, order);
                state.wait_until = now + TAKEOVER_WAIT;
            }
            self.undecided
                .extend((!no_token && !no_place).then_some(conn));
        } else {
            self.resume(conn, sid);
        }
    }

    /// Resumes a session: SPEC 4.3(f), 9.2 and 9.3 in one step.
    pub(super) fn resume(&mut self, conn: u32, sid: u64) {
        let now = self.now;
        let Some(session) = self.sessions.get_mut(&sid) else {
            return;
        };
        let old = session.conn.replace(conn);
        let mut packets = std::mem::take(&mut session.queue);
        session.carried |= !packets.is_empty();
        if let Some(old) = old {
            session.takeovers.take(now);
            self.reach.takeover += 1;
            if let Some(state) = self.conns.get_mut(&old) {
                let cut;
                (packets, cut) = state.take_packets();
                self.reach.down_cut += u64::from(cut);
                state.sid = None;
            }
            self.close(old, "its session was resumed elsewhere", Manner::Abrupt);
        }
        self.link.may_announce(sid);
        self.attachments += 1;
        let since = self.wait();
        if let Some(state) = self.conns.get_mut(&conn) {
            state.since_order = if state.has_waited {
                since.order
            } else {
                state.challenge_order
            };
            if state.has_waited {
                state.turn = since.order;
            }
            (state.state, state.sid) = (State::Ping, Some(sid));
            for packet in packets {
                state.push(Piece::Data(packet));
            }
        }
        self.dirty.insert(conn);
    }

    /// Counts a resume (SPEC 10.6(g)). A session counts once a minute; SPEC leaves a second open as to when it counts again.
    fn count_resume(&mut self, sid: Option<u64>) {
        let now = self.now;
        let Some(session) = sid.and_then(|sid| self.sessions.get_mut(&sid)) else {
            return;
        };
        if session.counts_from <= now {
            session.counts_from = now + STORM_COUNTS_AGAIN;
            self.resumed_at.push_back(now);
        }
    }

    /// Handles the client's Ping after a resume (SPEC 4.3(g)).
    fn closing_ping(&mut self, conn: u32) {
        let since = self.wait();
        let Some(state) = self.conns.get_mut(&conn) else {
            return;
        };
        state.state = State::Established;
        state.pace.unspent = state.frames.held();
        let sid = state.sid;
        self.count_resume(sid);
        let Some(state) = self.conns.get_mut(&conn) else {
            return;
        };
        self.reach.resumed += 1;
        self.reach.replayed += u64::from(state.queued_packets > 0);
        let (packets, _) = state.take_packets();
        state.push(Piece::Hello(Hello::Ping.to_frame()));
        state.write_since = (!packets.is_empty()).then_some(since);
        for packet in packets {
            state.push(Piece::Data(packet));
        }
        if let Some(sid) = state.sid {
            self.queue_up(sid, What::Resumed);
        }
    }

    /// Handles a frame above the limit on an established connection (row "length above limit", entry g).
    fn too_long(&mut self, conn: u32) {
        self.reach.data_violation += 1;
        // While anybody waits for the link, this client may be in line as well, and is checked when its turn comes.
        if self.uncertain > 0 {
            if let Some(state) = self.conns.get_mut(&conn) {
                state.hidden_violation = true;
                // Its timers do not run while it waits.
                state.idle = None;
            }
            return;
        }
        self.close_and_detach(conn, "a frame above the bound");
    }

    /// Closes the connection, and the session goes away (entry g).
    pub(super) fn close_and_detach(&mut self, conn: u32, why: &'static str) {
        let sid = self.conns.get(&conn).and_then(|state| state.sid);
        self.close(conn, why, self.manner(conn));
        if let Some(sid) = sid {
            self.go_away(sid);
        }
    }

    /// Returns how a connection ends that is not refused (SPEC 4.5(d)).
    pub(super) fn manner(&self, conn: u32) -> Manner {
        match self.conns.get(&conn) {
            Some(state) if state.owes_ping() => Manner::Abrupt,
            _ => Manner::Either,
        }
    }

    /// Gives up a connection: entry X, or g if a session is already attached.
    pub(super) fn give_up(&mut self, conn: u32, why: &'static str) {
        if self
            .conns
            .get(&conn)
            .is_some_and(|state| state.sid.is_some())
        {
            self.close_and_detach(conn, why);
        } else {
            self.refuse(conn, why);
        }
    }

    /// Closes a connection without output, and touches no session (entry X).
    pub(super) fn refuse(&mut self, conn: u32, why: &'static str) {
        self.reach.handshake_violation += 1;
        self.close(conn, why, Manner::Orderly);
    }

    /// Requires the connection to be closed in this step.
    pub(super) fn close(&mut self, conn: u32, why: &'static str, manner: Manner) {
        self.dirty.insert(conn);
        if self
            .conns
            .get(&conn)
            .is_some_and(|state| state.close.is_none())
        {
            self.punish(conn, why);
        }
        if let Some(state) = self.conns.get_mut(&conn) {
            state.close.get_or_insert(Close { why, manner });
            state.frames = Frames::default();
        }
    }
}
