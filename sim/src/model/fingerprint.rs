//! The part of the model's state that matters for the future, as one number.
//!
//! Two states count as equal if everything that SPEC.txt mentions is the same in both: the sessions, the order in which they went away and
//! whether they carried a packet, everything that waits, the progress of each handshake, and the time left to each deadline. Random bytes
//! of the edge, counters, and the age of events that no longer matter are left out.

use std::hash::{Hash, Hasher};

use super::conn::{Conn, Piece};
use super::link::Item;
use super::session::Session;
use super::{HANDSHAKE_BYTES, Model, STORM_MEMORY};

impl Model {
    /// Adds the whole state to `hasher`.
    pub(crate) fn fingerprint(&self, hasher: &mut impl Hasher) {
        let now = self.now;
        for (number, conn) in &self.conns {
            number.hash(hasher);
            conn.fingerprint(now, hasher);
            let good = self.good_responses.get(number);
            good.map(|(sid, _)| sid).hash(hasher);
        }
        for (sid, session) in &self.sessions {
            sid.hash(hasher);
            session.fingerprint(now, hasher);
            if session.conn.is_none() {
                self.reaped_at(session.deadline)
                    .saturating_sub(now)
                    .hash(hasher);
            }
            let is_away = |other: &&Session| other.conn.is_none();
            let away = self.sessions.values().filter(is_away);
            let before = away.filter(|other| other.departure < session.departure);
            before.count().hash(hasher);
        }
        for (sid, items) in self.outbox.iter().filter(|(_, items)| !items.is_empty()) {
            sid.hash(hasher);
            items.iter().for_each(
                |Item {
                     what,
                     sure,
                     optional,
                 }| (what, sure, optional).hash(hasher),
            );
        }
        self.issued.len().hash(hasher);
        self.link.up.hash(hasher);
        self.link.must_close.hash(hasher);
        self.link.incoming.rest().hash(hasher);
        self.link.outgoing.rest().hash(hasher);
        self.link.cut.hash(hasher);
        self.link.announcing.hash(hasher);
        self.shutdown_at
            .map(|at| at.saturating_sub(now))
            .hash(hasher);
        for at in self
            .resumed_at
            .iter()
            .filter(|at| **at + STORM_MEMORY > now)
        {
            (now - at).hash(hasher);
        }
        for at in self
            .unknown_at
            .iter()
            .filter(|at| **at + 1_000_000_000 > now)
        {
            (now - at).hash(hasher);
        }
        self.next_due()
            .map(|due| due.at.saturating_sub(now))
            .hash(hasher);
    }
}

impl Conn {
    fn fingerprint(&self, now: u64, hasher: &mut impl Hasher) {
        self.state.hash(hasher);
        if self.is_half_open() {
            (now - self.accepted_at).hash(hasher);
            (now - self.claimed_at).hash(hasher);
            self.wait_until.saturating_sub(now).hash(hasher);
            self.taken.min(HANDSHAKE_BYTES).hash(hasher);
        }
        self.frames.rest().hash(hasher);
        (self.claim, self.was_there, self.sid, self.offset).hash(hasher);
        for piece in &self.pieces {
            match piece {
                // The edge drew these bytes: an id is identified by its session, and all challenges are alike.
                Piece::Hello(bytes) => bytes.len().hash(hasher),
                Piece::Data(bytes) => bytes.hash(hasher),
                Piece::AnyId | Piece::AnyChallenge => 0.hash(hasher),
            }
        }
        self.close
            .map(|close| (close.manner, close.why))
            .hash(hasher);
        self.hidden_violation.hash(hasher);
        let frame = self.frame.map(|begun| {
            let latest = (begun.latest != u64::MAX).then(|| now - begun.latest);
            (now - begun.earliest, latest)
        });
        frame.hash(hasher);
        self.write_since.map(|since| now - since.at).hash(hasher);
        self.drain_at.saturating_sub(now).hash(hasher);
    }
}

impl Session {
    fn fingerprint(&self, now: u64, hasher: &mut impl Hasher) {
        self.conn.hash(hasher);
        self.queue.hash(hasher);
        if self.conn.is_none() {
            self.deadline.checked_sub(now).hash(hasher);
        }
        self.carried.hash(hasher);
        self.takeovers.used.hash(hasher);
        if self.takeovers.used > 0 {
            (now - self.takeovers.since).hash(hasher);
        }
    }
}
