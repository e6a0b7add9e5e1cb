//! Everything about a session that others can observe, for checks that it has not changed (SPEC 5.4).

use core::hash::{Hash, Hasher};

use crate::time::Time;

use crate::edge::Edge;
use crate::edge::conns::conn::Conn;
use crate::edge::lifecycle::resume::TAKEOVER_INTERVAL;
use crate::edge::sessions::{Place, Session};

impl Edge {
    /// Adds everything observable of every session to `hasher`: its index, its queue in order, how much of that its transport took, its
    /// deadlines, its place in line and its turn, and its remaining takeovers. It omits the cached key agreement and the open challenges,
    /// which are not observable. Two hashes are comparable only with the same `now`.
    pub fn hash_sessions(&self, now: Time, hasher: &mut impl Hasher) {
        self.line.hash(hasher);
        for (_, session) in self.sessions.iter() {
            hash_session(now, session, hasher);
            if let Place::Attached(conn) = session.place {
                hash_conn(self.conns.live(conn), hasher);
            }
        }
        self.sessions.absent().first_of_most().hash(hasher);
    }
}

fn hash_session(now: Time, session: &Session, hasher: &mut impl Hasher) {
    session.id.as_u64().hash(hasher);
    let place = match session.place {
        Place::Attached(conn) => (0, conn),
        Place::Away => (1, 0),
        Place::Ended => (2, 0),
    };
    place.hash(hasher);
    session.outbox.unsent().hash(hasher);
    session.outbox.held_bytes().hash(hasher);
    (session.waiting, session.has_exchanged()).hash(hasher);
    session.away_since().hash(hasher);
    session.backlog_bytes().hash(hasher);
    let takeovers = session.claimed.as_deref().map(|claimed| &claimed.takeovers);
    let left = takeovers.map(|takeovers| takeovers.left(now, TAKEOVER_INTERVAL));
    left.unwrap_or_default().hash(hasher);
}

/// Hashes how an attached connection is served.
fn hash_conn(conn: &Conn, hasher: &mut impl Hasher) {
    conn.is_established().hash(hasher);
    conn.reader.buffered_bytes().hash(hasher);
    conn.control().hash(hasher);
    conn.timers.running().hash(hasher);
}
