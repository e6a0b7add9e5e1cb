//! From an accepted connection to a new session (SPEC 4.2).

use core::mem;

use crate::keys::PublicKey;
use crate::protocol::{MAX_OPENING_BODY_BYTES, Version};
use crate::time::Time;
use crate::v2::packets::{Handshake, HandshakeError};

use super::Edge;
use super::account::Pressure;
use super::admission::Arrival;
use super::config::Enforce;
use super::conn::CloseKind;
use super::counters::CloseReason;
use super::shares::Bound;
use super::state::{State, Step};
use super::wait::Wait;

impl Edge {
    /// Bytes from a connection that is not established, or what it sent while it was not to be heard.
    pub(super) fn handle_handshake_bytes(&mut self, now: Time, index: u32, bytes: &[u8]) {
        let mut input = bytes;
        if let Err(reason) = self.handle_proxy_header(now, index, &mut input) {
            return self.close_conn(now, index, CloseKind::Graceful, reason);
        }
        let conn = self.conns.live_mut(index);
        conn.count_taken(input.len());
        // The reader is taken out so that a body may be borrowed from it while the machine acts on it.
        let mut reader = mem::take(&mut conn.reader);
        let outcome = loop {
            match self.conns.live(index).state() {
                State::Handshake(step) if !step.is_paused() => {}
                _ => break Ok(()),
            }
            match reader.next_frame(&mut input, MAX_OPENING_BODY_BYTES) {
                Ok(Some(body)) => {
                    match self.handle_handshake_packet(now, index, Handshake::decode(body)) {
                        Ok(()) => {}
                        Err(reason) => break Err(reason),
                    }
                }
                Ok(None) => break Ok(()),
                Err(_) => break Err(CloseReason::FrameTooLong),
            }
        };
        if let Err(reason) = outcome {
            return self.close_conn(now, index, CloseKind::Graceful, reason);
        }
        let conn = self.conns.live_mut(index);
        conn.reader = reader;
        match conn.state() {
            State::Established { session } => {
                let session = *session;
                let behind = conn.reader.buffered_bytes() + input.len();
                self.forward(now, index, session, input, behind);
            }
            State::Handshake(step) if step.is_paused() => conn.reader.hold(input),
            State::Handshake(_) => {
                if conn.taken_bytes() >= self.config.limits.handshake_max_bytes {
                    self.close_conn(now, index, CloseKind::Graceful, CloseReason::BadHandshake);
                }
            }
            State::Draining(_) | State::Closed(_) => {}
        }
    }

    /// The transition table of a handshake: what each packet does at each step.
    fn handle_handshake_packet(
        &mut self,
        now: Time,
        index: u32,
        packet: Result<Handshake<'_>, HandshakeError>,
    ) -> Result<(), CloseReason> {
        let packet = packet.map_err(|_| CloseReason::BadHandshake)?;
        let conn = self.conns.live_mut(index);
        let State::Handshake(step) = conn.state() else {
            return Ok(());
        };
        match (step, packet) {
            (Step::Version, Handshake::ProtocolVersion(version))
                if Version::from_number(version).is_some() =>
            {
                conn.push_control(Handshake::PubKey(self.public_key.as_bytes()));
                let key_or_id = State::Handshake(Step::KeyOrId);
                self.conns.enter(index, key_or_id, now);
                self.conns.mark_ready(index);
                Ok(())
            }
            (Step::Version, Handshake::ProtocolVersion(_)) => Err(CloseReason::BadVersion),
            (Step::KeyOrId, Handshake::PubKey(point)) => {
                let key = PublicKey::from_sec1(point).map_err(|_| CloseReason::BadKey)?;
                self.admit_newcomer(now, index)?;
                self.join(now, index, key)
            }
            (Step::KeyOrId, Handshake::ClientId(id)) => {
                if self.is_elsewhere(id) {
                    self.offer_handover(now, index, id);
                    return Ok(());
                }
                self.make_room(now, Arrival::Claim(index))
                    .map_err(|_| CloseReason::MadeRoom)?;
                self.handle_claim(now, index, id);
                Ok(())
            }
            (Step::Response(_), Handshake::ChallengeResponse(sealed)) => {
                self.handle_response(now, index, sealed)
            }
            (Step::Ping { session }, Handshake::Ping) => {
                let session = *session;
                self.complete_resume(now, index, session);
                Ok(())
            }
            _ => Err(CloseReason::BadHandshake),
        }
    }

    /// A new session for the connection at `index`.
    fn join(&mut self, now: Time, index: u32, key: PublicKey) -> Result<(), CloseReason> {
        let waits = self.conns.joins().len() > 0 || !self.storm.admits_join(now);
        if waits {
            self.counters.joins_paced += 1;
            if self.config.limits.enforce_accepts == Enforce::On {
                self.wait_for_turn(now, index, key);
                return Ok(());
            }
        }
        self.begin_session(now, index, key)
    }

    /// The newcomer at `index` waits until those who come back leave it a turn.
    fn wait_for_turn(&mut self, now: Time, index: u32, key: PublicKey) {
        let admission = self.conns.live(index).admission;
        let source = self.sources.lock().chain(admission).widest();
        let joining = self.conns.joining(index, source, key);
        self.conns.enter(index, joining, now);
    }

    fn begin_session(&mut self, now: Time, index: u32, key: PublicKey) -> Result<(), CloseReason> {
        if self.sessions.len() >= self.shares.most(Bound::Sessions) {
            return Err(CloseReason::TooManySessions);
        }
        if !self.has_place_for_newcomer() {
            return Err(CloseReason::TooManyConnections);
        }
        if self.pressure() >= Pressure::Full {
            return Err(CloseReason::Memory);
        }
        let id = self.ids.next().ok_or(CloseReason::TooManySessions)?;
        let session = self
            .sessions
            .insert(id, key, index, now)
            .ok_or(CloseReason::TooManySessions)?;
        self.counters.joined += 1;
        self.establish(now, index, session, Handshake::ClientId(id));
        tracing::debug!(conn = index, %id, "joined");
        Ok(())
    }

    /// As many of those that wait begin as may now, in their turns; then the one at `index` is looked at again later, if it still waits.
    pub(super) fn retry_join(&mut self, now: Time, index: u32) {
        let paced = self.config.limits.enforce_accepts == Enforce::On;
        while self.conns.joins().len() > 0
            && (!paced || self.storm.admits_join(now))
            && let Some((next, key)) = self.conns.next_join()
        {
            match self.begin_session(now, next, key) {
                Ok(()) => {
                    self.handle_handshake_bytes(now, next, &[]);
                    self.conns.recount(next, &mut self.account);
                }
                Err(reason) => self.close_conn(now, next, CloseKind::Graceful, reason),
            }
        }
        if let State::Handshake(Step::Join(_)) = self.conns.live(index).state() {
            self.conns.arm(Wait::Join, index, now);
        }
    }

    /// The connection at `index` speaks for the session from now on; `last` closes the handshake.
    pub(super) fn establish(&mut self, now: Time, index: u32, session: u32, last: Handshake<'_>) {
        self.conns.live_mut(index).push_control(last);
        self.conns.enter(index, State::Established { session }, now);
        self.conns.mark_ready(index);
    }
}
