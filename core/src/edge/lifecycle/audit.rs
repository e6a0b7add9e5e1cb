//! Checks counts and lists that are kept in two places against each other.

use crate::edge::Edge;
use crate::edge::sessions::Place;

impl Edge {
    /// Walks over everything, and panics if a count, a sum or a list is inconsistent. For tests and simulators, between two calls.
    #[doc(hidden)]
    pub fn audit(&self) {
        self.conns.audit();
        self.sessions.audit();
        let of_conns: usize = self.conns.iter().map(|(_, conn)| conn.held_bytes()).sum();
        let of_sessions: usize = self.sessions.iter().map(|(_, one)| one.held_bytes()).sum();
        assert_eq!(
            self.account.counted(),
            of_conns + of_sessions,
            "bytes counted, and bytes held"
        );
        for (index, conn) in self.conns.iter() {
            if let Some(session) = conn.session() {
                let place = self.sessions.live(session).place;
                assert_eq!(
                    place,
                    Place::Attached(index),
                    "the connection of session {session}"
                );
            }
        }
        for (index, session) in self.sessions.iter() {
            if let Place::Attached(conn) = session.place {
                let attached = self.conns.live(conn).session();
                assert_eq!(attached, Some(index), "the session of connection {conn}");
            }
        }
        for index in self.line.iter() {
            assert!(
                self.sessions.live(index).waiting,
                "session {index} is in line"
            );
        }
        let waiting = self.sessions.iter().filter(|(_, one)| one.waiting);
        assert_eq!(self.line.len(), waiting.count(), "sessions in line");
    }
}
