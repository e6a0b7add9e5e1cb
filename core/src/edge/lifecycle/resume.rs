//! Attempts to resume a session of version 2: claim, challenge, proof, takeover (SPEC 4.3, 5, 9.2, 9.3).
//!
//! Nothing about a session changes before its proof. A challenge belongs to its connection and counts once, so claims of one session are
//! independent of each other.

use core::time::Duration;

use crate::id::ClientId;
use crate::time::Time;

use crate::edge::Edge;
use crate::edge::conns::state::{Claim, Phase, State};
use crate::edge::contract::CloseKind;
use crate::edge::counters::CloseReason;
use crate::edge::sessions::{Claimed, Identity, Place};

/// The time from a claim to its challenge, whatever the claim is. The time of a first key agreement (about 40 µs) must not reveal whether
/// an id exists.
pub const RESUME_REPLY_DELAY: Duration = Duration::from_millis(1);

/// The number of takeovers of a live connection that a session permits at once. One is regained per [`TAKEOVER_INTERVAL`].
pub(crate) const TAKEOVER_BURST: u32 = 10;
/// The time in which one takeover is regained, and for which a takeover beyond the burst waits.
pub(crate) const TAKEOVER_INTERVAL: Duration = Duration::from_secs(1);

/// The time after which a resume of the same session counts towards a storm again.
const COUNTS_AGAIN_AFTER_SECS: u32 = 60;

impl Edge {
    /// Handles a claim of `id`. The client gets a challenge in every case.
    pub(crate) fn handle_claim(&mut self, now: Time, index: u32, id: ClientId) {
        #[cfg(feature = "backends")]
        if self.has_left(id) {
            return self.close_conn(now, index, CloseKind::Abort, CloseReason::Moved);
        }
        let target = self.claimable(now, id);
        if let Some(session) = target {
            self.agree(now, session);
        }
        let key = target.and_then(|session| self.sessions.live(session).key());
        let (opening, _) = self.conns.live_mut(index).opening();
        opening.challenge(key.unwrap_or(&self.decoy), &self.mint, &mut self.rng);
        let source = self.limited_source(index);
        self.conns.claiming(index, id, source, target.is_some());
        self.conns.enter(index, State::Handshake(Phase::Delay), now);
    }

    /// Returns the session with this id, if it could be resumed now with a challenge. At its deadline it cannot, whether or not the reaper has run.
    fn claimable(&self, now: Time, id: ClientId) -> Option<u32> {
        let index = self.sessions.lookup(id)?;
        let session = self.sessions.live(index);
        let expired = session.place == Place::Away && self.expires_at(session) <= now;
        let has_key = matches!(session.identity, Identity::Key(_));
        (!expired && has_key).then_some(index)
    }

    /// Makes sure that the session has its budget of takeovers, and its shared key, which is agreed on at most once, if it has a key.
    pub(crate) fn agree(&mut self, now: Time, session: u32) {
        let session = self.sessions.live_mut(session);
        let claimed = session
            .claimed
            .get_or_insert_with(|| Box::new(Claimed::new(now)));
        if claimed.key.is_none()
            && let Identity::Key(public_key) = &session.identity
        {
            self.counters.agreements += 1;
            claimed.key = Some(self.keys.agree(public_key));
        }
    }

    /// Sends the challenge at the end of the reply delay.
    pub(crate) fn send_challenge(&mut self, now: Time, index: u32) {
        let (opening, control) = self.conns.live_mut(index).opening();
        opening.send_challenge(control);
        let response = State::Handshake(Phase::Response);
        self.conns.enter(index, response, now);
        self.counters.challenges += 1;
        self.conns.mark_ready(index);
        self.resume_reading(now, index);
    }

    /// Handles the response to a challenge. Whatever is wrong with it, the outcome and the path to it are the same.
    pub(crate) fn handle_proof(
        &mut self,
        now: Time,
        index: u32,
        proof: &[u8],
    ) -> Result<(), CloseReason> {
        let Claim { id, genuine, .. } = self.conns.live(index).claim();
        #[cfg(feature = "backends")]
        if self.has_left(id) {
            self.close_conn(now, index, CloseKind::Abort, CloseReason::Moved);
            return Ok(());
        }
        let session = genuine.then(|| self.claimable(now, id)).flatten();
        let key = session.and_then(|session| self.sessions.live(session).key());
        let (opening, _) = self.conns.live_mut(index).opening();
        let is_right = opening.judge(proof, key.unwrap_or(&self.decoy), &self.mint);
        match session {
            Some(session) if is_right => {
                self.resume(now, index, session);
                Ok(())
            }
            // The session has ended or expired since the challenge was created, so the proof may have been right.
            None if genuine => Err(CloseReason::ClaimLapsed),
            _ => Err(CloseReason::BadProof),
        }
    }

    /// Resumes the session for the client at `index`, which has proven itself. It must wait if the session was taken over too often, if
    /// there is no place for another session, or if packets from earlier connections still fill the line to the backend.
    pub(crate) fn resume(&mut self, now: Time, index: u32, session: u32) {
        let has_place = self.has_place_for_return();
        let entry = self.sessions.live_mut(session);
        let backlogged = entry.backlog_bytes() > self.config.clients.channel_bytes;
        let live = matches!(entry.place, Place::Attached(_));
        let mut may_come = || {
            if live {
                entry
                    .claimed()
                    .takeovers
                    .take(now, TAKEOVER_BURST, TAKEOVER_INTERVAL)
            } else {
                has_place
            }
        };
        if backlogged || !may_come() {
            let wait = State::Handshake(Phase::Wait(entry.id));
            return self.conns.enter(index, wait, now);
        }
        if let Place::Attached(old) = entry.place {
            self.counters.takeovers += 1;
            self.replace_conn(now, old, session);
        }
        let away = self.sessions.live(session).away_since();
        let away = away.map_or(Duration::ZERO, |at| now.since(at));
        self.end_absence(now, session);
        let entry = self.sessions.live_mut(session);
        entry.claimed().away = away;
        entry.place = Place::Attached(index);
        let ping = State::Handshake(Phase::Ping { session });
        self.conns.enter(index, ping, now);
    }

    /// Retries a takeover that had to wait.
    pub(crate) fn retry_takeover(&mut self, now: Time, index: u32) {
        let State::Handshake(Phase::Wait(id)) = self.conns.live(index).state() else {
            unreachable!("only who is in WAIT has this timer")
        };
        let id = *id;
        #[cfg(feature = "backends")]
        if self.has_left(id) {
            return self.close_conn(now, index, CloseKind::Abort, CloseReason::Moved);
        }
        match self.claimable(now, id) {
            Some(session) => {
                self.resume(now, index, session);
                self.conns.mark_ready(index);
                self.resume_reading(now, index);
            }
            None => self.close_conn(now, index, CloseKind::Graceful, CloseReason::ClaimLapsed),
        }
    }

    /// Returns whether the session's resume is evidence of a storm. It counts once a minute, since a few sessions that keep coming back are
    /// no storm.
    pub(crate) fn counts_for_storm(&mut self, now: Time, session: u32) -> bool {
        let seconds = u32::try_from(now.as_nanos() / 1_000_000_000).unwrap_or(u32::MAX);
        let entry = self.sessions.live_mut(session).claimed();
        let counts = seconds >= entry.counts_from;
        if counts {
            entry.counts_from = seconds.saturating_add(COUNTS_AGAIN_AFTER_SECS + 1);
        }
        counts
    }

    /// Completes a resume with the client's Ping. The backend is told 0x03 before anything of the new connection, and the client gets its
    /// Ping before its missed packets.
    pub(crate) fn complete_resume(&mut self, now: Time, index: u32) {
        let State::Handshake(Phase::Ping { session }) = *self.conns.live(index).state() else {
            unreachable!("data is asked for in PING only")
        };
        let id = self.sessions.live(session).id;
        self.count_resume(now, index, session);
        let (away, missed) = self.sessions.live_mut(session).come_back();
        self.tell_resumed(index, session, away, missed);
        let (opening, control) = self.conns.live_mut(index).opening();
        let channel = opening.resumed(control);
        self.establish(now, index, session, channel);
        if self.sessions.live(session).outbox.has_unsent() {
            self.watch_writes(now, index);
        }
        tracing::debug!(conn = index, %id, "resumed");
    }
}
