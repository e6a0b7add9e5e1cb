//! From an accepted connection to a new session of version 2, and the turns of newcomers of both (SPEC 4.2, 10.6(g), 18.4).

use core::mem;
use core::time::Duration;

use crate::id::ClientId;
use crate::keys::PublicKey;
use crate::opening::{EdgeFault, Request, Violation};
use crate::protocol::Channel;
use crate::time::Time;

use crate::edge::Edge;
use crate::edge::config::Enforce;
use crate::edge::conns::joins::By;
use crate::edge::conns::state::{Elsewhere, Joining, Phase, State};
use crate::edge::conns::wait::Wait;
use crate::edge::contract::CloseKind;
use crate::edge::counters::CloseReason;
use crate::edge::door::sources::interval;
use crate::edge::lifecycle::admission::Arrival;
use crate::edge::lifecycle::notices::Newcomer;
use crate::edge::sessions::Identity;

impl Edge {
    /// Handles bytes of a connection in its handshake, after those that it held.
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
                // What is behind the packet that was answered for the last time is not read.
                State::Handshake(Phase::Last(_)) => break Ok(()),
                #[cfg(feature = "cluster")]
                State::Handshake(Phase::Cold { .. }) => break Ok(()),
                State::Handshake(phase) if !phase.is_paused() => {}
                _ => break Ok(()),
            }
            let max_body = self.conns.live_mut(index).opening().0.max_body();
            match reader.next_frame(&mut input, max_body) {
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
                if conn.is_numbered() {
                    self.lend_read_buffer(index);
                }
                self.forward_rest(now, index, session, input, behind);
            }
            State::Handshake(phase) if phase.is_paused() => conn.reader.hold(input),
            #[cfg(feature = "cluster")]
            State::Handshake(Phase::Cold { .. }) => self.read_cold(now, index, input),
            State::Handshake(Phase::Last(_)) => conn.reader.clear(),
            State::Handshake(_) => {
                let most = self.config.limits.handshake_max_bytes;
                if conn.taken_bytes() >= most.saturating_add(conn.opening().0.further_bytes()) {
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
        let versions = self.conns.live(index).versions();
        let (opening, control) = self.conns.live_mut(index).opening();
        match opening.handle(body, &self.offer, versions, control)? {
            Request::More => {
                self.conns
                    .enter(index, State::Handshake(Phase::KeyOrId), now);
                self.conns.mark_ready(index);
                Ok(())
            }
            Request::Join(key) => self.handle_newcomer(now, index, Some(key)),
            Request::Hello => self.handle_newcomer(now, index, None),
            Request::Begin(record) => self.begin_numbered(now, index, record),
            Request::OpenedClaim(id) => {
                if self.takes_claim(now, index, id)? {
                    self.handle_attempt(now, index, id);
                }
                Ok(())
            }
            Request::Attempt => {
                self.want_entropy(now, index, true);
                Ok(())
            }
            Request::Over => {
                self.end_opening(now, index, CloseReason::Refused);
                Ok(())
            }
            Request::Claim(id) => {
                self.admit_without_claim(index)?;
                if self.takes_claim(now, index, id)? {
                    self.handle_claim(now, index, id);
                }
                Ok(())
            }
            Request::Proof(proof) => self.handle_proof(now, index, proof),
            Request::Open => {
                self.complete_resume(now, index);
                Ok(())
            }
        }
    }

    /// Makes room for the claim of the connection at `index`, or offers it to the shard that has the session. Returns whether it stays here.
    fn takes_claim(&mut self, now: Time, index: u32, id: ClientId) -> Result<bool, CloseReason> {
        if self.is_elsewhere(id) {
            self.offer_handover(now, index, Elsewhere::Claim(id));
            return Ok(false);
        }
        self.make_room(now, Arrival::Claim(index))
            .map_err(|_| CloseReason::MadeRoom)?;
        Ok(true)
    }

    /// Handles that the connection at `index` wants a new session: here, or at a shard of the backend that it is to have.
    fn handle_newcomer(
        &mut self,
        now: Time,
        index: u32,
        key: Option<PublicKey>,
    ) -> Result<(), CloseReason> {
        self.admit_newcomer(now, index)?;
        #[cfg(feature = "backends")]
        if let Some(shard) = self.shard_for_newcomer() {
            self.offer_handover(now, index, Elsewhere::Join(shard, key.map(Box::new)));
            return Ok(());
        }
        self.join(now, index, key)
    }

    /// Begins a session on the connection at `index`, or makes it wait for its turn.
    pub(crate) fn join(
        &mut self,
        now: Time,
        index: u32,
        key: Option<PublicKey>,
    ) -> Result<(), CloseReason> {
        let by = Joining::by(key.as_ref());
        let enforce = self.config.limits.enforce_accepts;
        if enforce == Enforce::Off {
            return self.begin(now, index, key);
        }
        if self.conns.joins().has(by) || !self.admits_join(now, by) {
            self.counters.joins_paced += 1;
            if enforce == Enforce::On {
                self.wait_for_turn(now, index, key);
                return Ok(());
            }
        } else {
            self.count_join(now, by);
        }
        self.begin(now, index, key)
    }

    /// Returns whether a newcomer that joins with this may begin now (SPEC 10.6(g), 27.3(c)). Counts nothing, so that one that must wait
    /// takes nothing from others.
    fn admits_join(&mut self, now: Time, by: By) -> bool {
        let within_pace = match by {
            By::Key => true,
            By::Hello => self
                .hello_pace()
                .is_none_or(|(burst, every)| self.join_pace.has_one(now, burst, every)),
        };
        within_pace && self.storm.admits_join(now)
    }

    /// Counts a newcomer that begins now.
    fn count_join(&mut self, now: Time, by: By) {
        self.storm.count_join();
        if by == By::Hello
            && let Some((burst, every)) = self.hello_pace()
        {
            self.join_pace.take(now, burst, every);
        }
    }

    /// Returns how many Hellos this shard answers at once, and the time in which it regains one, if they have a pace.
    fn hello_pace(&self) -> Option<(u32, Duration)> {
        let limits = &self.config.limits;
        let shards = u32::from(self.config.shards.max(1));
        let burst = limits.join_burst.div_ceil(shards);
        let every = interval(limits.join_rate).saturating_mul(shards);
        (limits.join_rate > 0).then_some((burst, every))
    }

    /// Begins a session for a newcomer with a key, or goes on with the opening of another one.
    fn begin(&mut self, now: Time, index: u32, key: Option<PublicKey>) -> Result<(), CloseReason> {
        match key {
            Some(key) => self.begin_session(now, index, key),
            None => {
                self.want_entropy(now, index, false);
                Ok(())
            }
        }
    }

    /// Makes the newcomer at `index` wait for its turn while many clients come back.
    fn wait_for_turn(&mut self, now: Time, index: u32, key: Option<PublicKey>) {
        let admission = self.conns.live(index).admission;
        let source = self.sources.lock().nesting(admission).widest();
        let joining = self.conns.joining(index, source, key);
        self.conns.enter(index, joining, now);
    }

    fn begin_session(&mut self, now: Time, index: u32, key: PublicKey) -> Result<(), CloseReason> {
        if let Some(reason) = self.refuses_newcomer() {
            return Err(reason);
        }
        let id = self.ids.next().ok_or(CloseReason::TooManySessions)?;
        let session = self
            .sessions
            .insert(now, id, Identity::Key(Box::new(key)), index)
            .ok_or(CloseReason::TooManySessions)?;
        self.count_joined(now, index);
        self.tell_joined(index, session, &Newcomer::OF_V2);
        let (opening, control) = self.conns.live_mut(index).opening();
        let channel = opening.joined(id, control);
        self.establish(now, index, session, channel);
        tracing::debug!(conn = index, %id, "joined");
        Ok(())
    }

    /// Lets as many waiting newcomers begin as may now, in the order of their turns. If the one at `index` still waits, it is checked again
    /// later.
    pub(crate) fn retry_join(&mut self, now: Time, index: u32) {
        while let Some((next, key)) = self.next_join(now) {
            match self.begin(now, next, key) {
                Ok(()) => {
                    self.resume_reading(now, next);
                }
                Err(reason) => self.close_conn(now, next, CloseKind::Graceful, reason),
            }
        }
        if let State::Handshake(Phase::Join(_)) = self.conns.live(index).state() {
            self.conns.arm(Wait::Join, index, now);
        }
    }

    /// Ends the wait of the newcomer whose turn it is, if it may begin now, and counts it.
    fn next_join(&mut self, now: Time) -> Option<(u32, Option<PublicKey>)> {
        if self.config.limits.enforce_accepts != Enforce::On {
            return self.conns.next_join(true);
        }
        let [keys, hellos] = [By::Key, By::Hello].map(|by| self.admits_join(now, by));
        let (next, key) = keys.then(|| self.conns.next_join(hellos)).flatten()?;
        self.count_join(now, Joining::by(key.as_ref()));
        Some((next, key))
    }

    /// Counts a session that has begun on the connection at `index`, which is not established yet.
    pub(crate) fn count_joined(&mut self, now: Time, index: u32) {
        self.counters.joined += 1;
        if let Some(took) = self.opening_time(now, index) {
            self.counters.join_time.record(took);
        }
    }

    /// Counts a session that is resumed on the connection at `index`, which is not established yet.
    pub(crate) fn count_resume(&mut self, now: Time, index: u32, session: u32) {
        self.counters.resumed += 1;
        if self.counts_for_storm(now, session) {
            self.storm.resumed(now);
        }
        if let Some(took) = self.opening_time(now, index) {
            self.counters.resume_time.record(took);
        }
    }

    /// Returns how long the connection at `index` has been opening, if that has a limit.
    fn opening_time(&self, now: Time, index: u32) -> Option<Duration> {
        let since = self.conns.live(index).timers.since(Wait::Handshake)?;
        Some(now.since(since))
    }

    /// Attaches the connection at `index` to the session, with `channel`.
    pub(crate) fn establish(&mut self, now: Time, index: u32, session: u32, channel: Channel) {
        self.conns.live_mut(index).set_channel(channel);
        self.conns.enter(index, State::Established { session }, now);
        let conn = self.conns.live_mut(index);
        if conn.control().is_empty() {
            conn.forget_opening();
        }
        self.start_alarm(now, index, session);
        self.conns.mark_ready(index);
    }
}

impl From<EdgeFault> for CloseReason {
    fn from(fault: EdgeFault) -> Self {
        match fault {
            EdgeFault::Version => CloseReason::BadVersion,
            EdgeFault::Foreign => CloseReason::BadClaim,
            EdgeFault::Violation(Violation::Key(_)) => CloseReason::BadKey,
            EdgeFault::Violation(Violation::Malformed(_) | Violation::Unexpected(_)) => {
                CloseReason::BadHandshake
            }
        }
    }
}
