//! Reconnects: claim, challenge, proof, takeover (SPEC 4.3, 5, 9.3).
//!
//! Nothing about a session changes before its proof: a claim only adds its connection to the session's open challenges.

use core::time::Duration;

use rand_core::Rng;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::id::ClientId;
use crate::keys::{CHALLENGE_BYTES, SEALED_CHALLENGE_BYTES, SharedKey};
use crate::slab::Key;
use crate::time::Time;
use crate::wire::handshake::Handshake;
use crate::wire::tagged::Flag;

use super::Edge;
use super::conn::{Claim, CloseKind, State, Step, step};
use super::counters::CloseReason;
use super::session::Place;
use super::sources::network;

/// From a claim to its challenge, whatever the claim is: the time that a first key agreement takes (about 40 µs) must not tell
/// whether an id exists.
pub const RESUME_REPLY_DELAY: Duration = Duration::from_millis(1);

/// Takeovers of a live connection that a session may see at once, and how long one takes to come back.
const TAKEOVER_BURST: u32 = 10;
/// See [`TAKEOVER_BURST`]; also how long a takeover beyond it waits.
pub(super) const TAKEOVER_INTERVAL: Duration = Duration::from_secs(1);

/// After which its session's return counts for a storm again.
const COUNTS_AGAIN_AFTER_SECS: u32 = 60;

impl Edge {
    /// The client says that it had `id`. It gets a challenge in every case.
    pub(super) fn handle_claim(&mut self, now: Time, index: u32, id: ClientId) {
        if self.is_elsewhere(id) {
            return self.offer_handover(index, id);
        }
        let target = self.claimable(now, id);
        let mut plain = Zeroizing::new([0; CHALLENGE_BYTES]);
        self.rng.fill_bytes(plain.as_mut());
        let nonce = self.mint.mint(&mut self.rng);
        let mut sealed = Vec::with_capacity(SEALED_CHALLENGE_BYTES);
        match target {
            Some(session) => {
                self.shared_key(session)
                    .seal_with_nonce(plain.as_ref(), &nonce, &mut sealed)
            }
            None => self
                .decoy
                .seal_with_nonce(plain.as_ref(), &nonce, &mut sealed),
        }
        if let Some(session) = target {
            self.register_claim(index, session);
        }
        let claim = Box::new(Claim {
            id,
            live: target.is_some(),
            plain,
            sealed,
        });
        if let Some(conn) = self.conns.slab.at_mut(index) {
            conn.state = State::Handshake(Step::Reply(claim));
            self.conns
                .steps
                .arm(&mut self.conns.slab, index, step::REPLY, now);
        }
    }

    /// The session with this id, if its client could come back now. At the deadline it could not, whether or not the reaper ran.
    fn claimable(&self, now: Time, id: ClientId) -> Option<u32> {
        let index = self.sessions.lookup(id)?;
        let session = self.sessions.slab.at(index)?;
        let expired = session.place == Place::Away && self.expires_at(session) <= now;
        (!expired).then_some(index)
    }

    /// The key shared with this session's client, agreed on at most once.
    fn shared_key(&mut self, session: u32) -> &SharedKey {
        match self.sessions.slab.at_mut(session) {
            Some(session) => session.shared.get_or_insert_with(|| {
                self.counters.agreements += 1;
                Box::new(self.keys.agree(&session.public_key))
            }),
            None => &self.decoy,
        }
    }

    /// Counts the connection's challenge in at the session. Beyond the bound an older challenge is void: the oldest one of the source
    /// that holds the most, so that a stranger who knows an id takes the place of his own challenges and not of the owner's. Its
    /// connection is not told: it fails like any other wrong proof.
    fn register_claim(&mut self, index: u32, session: u32) {
        let bound = self.config.limits.challenges_per_session.max(1);
        let Some(key) = self.conns.slab.key_at(index) else {
            return;
        };
        let Some(entry) = self.sessions.slab.at_mut(session) else {
            return;
        };
        let claims = &mut entry.rare().claims;
        claims.push(key);
        if claims.len() <= bound {
            return;
        }
        let source = |key: &Key| {
            let conn = self.conns.slab.find(*key)?;
            conn.source().map(network)
        };
        let sources: Vec<_> = claims.iter().map(source).collect();
        let held = |at: &usize| {
            sources
                .iter()
                .filter(|source| sources.get(*at) == Some(source))
                .count()
        };
        // max_by_key gives the last of equals; reversed, that is the oldest.
        let Some(victim) = (0..sources.len()).rev().max_by_key(held) else {
            return;
        };
        let victim = claims.remove(victim);
        if let Some(conn) = self.conns.slab.at_mut(victim.index)
            && let State::Handshake(Step::Reply(claim) | Step::Response(claim)) = &mut conn.state
        {
            claim.live = false;
        }
    }

    /// The connection at `index` holds no open challenge any more.
    pub(super) fn forget_claim(&mut self, index: u32) {
        let Some(key) = self.conns.slab.key_at(index) else {
            return;
        };
        let Some(State::Handshake(Step::Reply(claim) | Step::Response(claim))) =
            self.conns.slab.at(index).map(|c| &c.state)
        else {
            return;
        };
        if let Some(session) = self.sessions.lookup(claim.id)
            && let Some(session) = self.sessions.slab.at_mut(session)
        {
            if let Some(rare) = session.rare_if_any() {
                rare.claims.retain(|&other| other != key);
            }
            session.trim_rare();
        }
    }

    /// The reply delay is over: the challenge goes out.
    pub(super) fn send_challenge(&mut self, now: Time, index: u32) {
        let Some(conn) = self.conns.slab.at_mut(index) else {
            return;
        };
        match core::mem::replace(&mut conn.state, State::Handshake(Step::Key)) {
            State::Handshake(Step::Reply(mut claim)) => {
                conn.push_control(Handshake::Challenge(&claim.sealed));
                claim.sealed = Vec::new();
                conn.state = State::Handshake(Step::Response(claim));
                self.conns
                    .steps
                    .arm(&mut self.conns.slab, index, step::AWAITED, now);
                self.counters.challenges += 1;
                self.mark_ready(index);
                self.handle_handshake_bytes(now, index, &[]);
                self.account.recount_conn(&mut self.conns.slab, index);
            }
            other => conn.state = other,
        }
    }

    /// The answer to a challenge. Whatever is wrong with it, the outcome and the way there are the same.
    pub(super) fn handle_response(
        &mut self,
        now: Time,
        index: u32,
        sealed: &[u8],
    ) -> Result<(), CloseReason> {
        self.forget_claim(index);
        let Some(State::Handshake(Step::Response(claim))) =
            self.conns.slab.at(index).map(|conn| &conn.state)
        else {
            return Ok(());
        };
        let session = if claim.live {
            self.claimable(now, claim.id)
        } else {
            None
        };
        let key = session
            .and_then(|session| self.sessions.slab.at(session))
            .and_then(|session| session.shared.as_deref())
            .unwrap_or(&self.decoy);
        let opened = key.open(sealed).ok();
        // A challenge sent back unchanged opens and matches; its nonce is what gives it away.
        let reflected = SharedKey::nonce_of(sealed).is_none_or(|nonce| self.mint.is_own(nonce));
        let matches =
            opened.is_some_and(|plain| bool::from(plain.as_slice().ct_eq(claim.plain.as_ref())));
        match session {
            Some(session) if matches && !reflected => {
                self.resume(now, index, session);
                Ok(())
            }
            _ => Err(CloseReason::BadProof),
        }
    }

    /// The client at `index` has proven to be the session's. It takes the session over now, or in a while if it was taken over too
    /// often, or if what earlier connections brought still fills the line to the backend.
    pub(super) fn resume(&mut self, now: Time, index: u32, session: u32) {
        let Some(entry) = self.sessions.slab.at_mut(session) else {
            return;
        };
        let backlogged = entry.backlog_bytes() > self.config.clients.channel_bytes;
        let live = matches!(entry.place, Place::Attached(_));
        let mut may_take = || entry.takeovers.take(now, TAKEOVER_BURST, TAKEOVER_INTERVAL);
        if backlogged || (live && !may_take()) {
            let id = entry.id;
            if let Some(conn) = self.conns.slab.at_mut(index) {
                conn.state = State::Handshake(Step::Takeover(id));
                self.conns
                    .steps
                    .arm(&mut self.conns.slab, index, step::TAKEOVER, now);
            }
            return;
        }
        if let Place::Attached(old) = entry.place {
            self.counters.takeovers += 1;
            self.replace_conn(now, old, session);
        }
        self.end_absence(now, session);
        if let Some(entry) = self.sessions.slab.at_mut(session) {
            entry.place = Place::Attached(index);
        }
        if let Some(conn) = self.conns.slab.at_mut(index) {
            conn.state = State::Handshake(Step::Ping { session });
            if !conn.step_timer.is(step::AWAITED) {
                self.conns
                    .steps
                    .arm(&mut self.conns.slab, index, step::AWAITED, now);
            }
        }
    }

    /// A takeover that had to wait is tried again.
    pub(super) fn retry_takeover(&mut self, now: Time, index: u32) {
        let Some(State::Handshake(Step::Takeover(id))) =
            self.conns.slab.at(index).map(|conn| &conn.state)
        else {
            return;
        };
        match self.claimable(now, *id) {
            Some(session) => {
                self.conns.steps.disarm(&mut self.conns.slab, index);
                self.resume(now, index, session);
                self.mark_ready(index);
                self.handle_handshake_bytes(now, index, &[]);
                self.account.recount_conn(&mut self.conns.slab, index);
            }
            None => self.close_conn(now, index, CloseKind::Graceful, CloseReason::BadProof),
        }
    }

    /// Whether the session's return says that many come back: once in a minute, since a few that come back again and again do not.
    fn counts_for_storm(&mut self, now: Time, session: u32) -> bool {
        let seconds = u32::try_from(now.as_nanos() / 1_000_000_000).unwrap_or(u32::MAX);
        let Some(entry) = self.sessions.slab.at_mut(session) else {
            return false;
        };
        let counts = seconds >= entry.counts_from;
        if counts {
            entry.counts_from = seconds.saturating_add(COUNTS_AGAIN_AFTER_SECS + 1);
        }
        counts
    }

    /// The client's Ping: the backend hears 0x03 before anything of the new connection, the client its Ping before what it missed.
    pub(super) fn complete_resume(&mut self, now: Time, index: u32, session: u32) {
        let Some(id) = self.sessions.slab.at(session).map(|session| session.id) else {
            return;
        };
        self.counters.resumed += 1;
        if self.counts_for_storm(now, session) {
            self.storm.resumed(now);
        }
        self.tell_backend(session, Flag::Resumed, &[]);
        self.establish(index, session, Handshake::Ping);
        if self
            .sessions
            .slab
            .at(session)
            .is_some_and(|session| !session.queue.is_empty())
        {
            self.watch_writes(now, index);
        }
        tracing::debug!(conn = index, %id, "resumed");
    }
}
