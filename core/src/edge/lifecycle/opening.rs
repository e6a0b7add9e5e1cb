//! From an accepted connection to a new session (SPEC 4.2).

use core::mem;

use crate::keys::PublicKey;
use crate::opening::{EdgeFault, Request, Violation};
use crate::protocol::{Channel, MAX_OPENING_BODY_BYTES};
use crate::time::Time;

use crate::edge::Edge;
use crate::edge::config::Enforce;
use crate::edge::conns::state::{State, Step};
use crate::edge::conns::wait::Wait;
use crate::edge::contract::CloseKind;
use crate::edge::counters::CloseReason;
use crate::edge::lifecycle::admission::Arrival;
use crate::edge::memory::account::Pressure;
use crate::edge::sessions::Identity;
use crate::edge::shares::Bound;

impl Edge {
    /// Handles bytes of a connection that is not established, after those that it held.
    pub(crate) fn handle_handshake_bytes(&mut self, now: Time, index: u32, bytes: &[u8]) {
        let mut input = bytes;
        if let Err(reason) = self.handle_proxy_header(now, index, &mut input) {
            return self.close_conn(now, index, CloseKind::Graceful, reason);
        }
        let conn = self.conns.live_mut(index);
        conn.count_taken(input.len());
        // The reader is taken out so that a body can be borrowed from it while the machine handles it.
        let mut reader = mem::take(&mut conn.reader);
        let outcome = loop {
            match self.conns.live(index).state() {
                State::Handshake(step) if !step.is_paused() => {}
                _ => break Ok(()),
            }
            match reader.next_frame(&mut input, MAX_OPENING_BODY_BYTES) {
                Ok(Some(body)) => {
                    if let Err(reason) = self.handle_handshake_packet(now, index, body) {
                        break Err(reason);
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

    /// Handles the bytes that arrived behind the last packet, now that the connection at `index` is read again.
    pub(crate) fn resume_reading(&mut self, now: Time, index: u32) {
        self.handle_handshake_bytes(now, index, &[]);
        self.conns.recount(index, &mut self.account);
    }

    /// Passes a packet to the opening, and answers its request.
    fn handle_handshake_packet(
        &mut self,
        now: Time,
        index: u32,
        body: &[u8],
    ) -> Result<(), CloseReason> {
        let (opening, control) = self.conns.live_mut(index).opening();
        match opening.handle(body, &self.public_key, control)? {
            Request::More => {
                self.conns
                    .enter(index, State::Handshake(Step::KeyOrId), now);
                self.conns.mark_ready(index);
                Ok(())
            }
            Request::Join(key) => {
                self.admit_newcomer(now, index)?;
                self.join(now, index, key)
            }
            Request::Claim(id) => {
                if self.is_elsewhere(id) {
                    self.offer_handover(now, index, id);
                    return Ok(());
                }
                self.make_room(now, Arrival::Claim(index))
                    .map_err(|_| CloseReason::MadeRoom)?;
                self.handle_claim(now, index, id);
                Ok(())
            }
            Request::Proof(proof) => self.handle_proof(now, index, proof),
            Request::Open => {
                self.complete_resume(now, index);
                Ok(())
            }
        }
    }

    /// Begins a session on the connection at `index`.
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

    /// Makes the newcomer at `index` wait for its turn while many clients come back.
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
        let (opening, _) = self.conns.live_mut(index).opening();
        let retention = opening.version().retention();
        let session = self
            .sessions
            .insert(id, Identity::Key(key), index, retention)
            .ok_or(CloseReason::TooManySessions)?;
        self.counters.joined += 1;
        let (opening, control) = self.conns.live_mut(index).opening();
        let channel = opening.joined(id, control);
        self.establish(now, index, session, channel);
        tracing::debug!(conn = index, %id, "joined");
        Ok(())
    }

    /// Lets as many waiting newcomers begin as may now, in the order of their turns. If the one at `index` still waits, it is checked again
    /// later.
    pub(crate) fn retry_join(&mut self, now: Time, index: u32) {
        let paced = self.config.limits.enforce_accepts == Enforce::On;
        while self.conns.joins().len() > 0
            && (!paced || self.storm.admits_join(now))
            && let Some((next, key)) = self.conns.next_join()
        {
            match self.begin_session(now, next, key) {
                Ok(()) => {
                    self.resume_reading(now, next);
                }
                Err(reason) => self.close_conn(now, next, CloseKind::Graceful, reason),
            }
        }
        if let State::Handshake(Step::Join(_)) = self.conns.live(index).state() {
            self.conns.arm(Wait::Join, index, now);
        }
    }

    /// Attaches the connection at `index` to the session, with `channel`.
    pub(crate) fn establish(&mut self, now: Time, index: u32, session: u32, channel: Channel) {
        self.conns.live_mut(index).set_channel(channel);
        self.conns.enter(index, State::Established { session }, now);
        self.conns.mark_ready(index);
    }
}

impl From<EdgeFault> for CloseReason {
    fn from(fault: EdgeFault) -> Self {
        match fault {
            EdgeFault::Version => CloseReason::BadVersion,
            EdgeFault::Violation(Violation::Key(_)) => CloseReason::BadKey,
            EdgeFault::Violation(Violation::Malformed(_) | Violation::Unexpected(_)) => {
                CloseReason::BadHandshake
            }
        }
    }
}
