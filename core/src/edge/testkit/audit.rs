//! Checks counts and lists that are kept in two places against each other.

use crate::edge::Edge;
use crate::edge::conns::state::State;
use crate::edge::sessions::Place;
use crate::v3::progress::Progress;

impl Edge {
    /// Walks over everything, and panics if a count, a sum or a list is inconsistent. For tests and simulators, between two calls.
    pub fn audit(&self) {
        self.conns.audit();
        self.sessions.audit();
        self.ends.audit();
        self.audit_numbered();
        let of_conns: usize = self.conns.iter().map(|(_, conn)| conn.held_bytes()).sum();
        let of_sessions: usize = self.sessions.iter().map(|(_, one)| one.held_bytes()).sum();
        assert_eq!(
            self.account.counted(),
            of_conns + of_sessions,
            "bytes counted, and bytes held"
        );
        for (_, session) in self.sessions.iter() {
            let looks = session.numbers().is_none_or(Progress::has_classes);
            assert!(looks || !session.outbox.is_sharing(), "it looks at places");
        }
        let twice = self.counted_twice.bytes();
        assert!(
            twice <= self.account.counted(),
            "{twice} bytes are counted more than once"
        );
        if self.shares.is_alone() {
            let mut counted = std::collections::BTreeMap::<u16, usize>::new();
            for (_, conn) in self.conns.iter() {
                *counted.entry(conn.account).or_default() += 1;
            }
            for (account, connections) in counted {
                let of_listener = self.shares.listeners().connections(account);
                assert_eq!(of_listener, connections, "connections of account {account}");
            }
        }
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

    /// Returns the backend's groups with their members. For tests and simulators.
    #[cfg(any(test, feature = "testkit"))]
    #[doc(hidden)]
    #[must_use]
    pub fn groups(&self) -> Vec<(u64, Vec<crate::id::ClientId>)> {
        let groups = self.groups.iter();
        groups
            .map(|(group, members)| {
                let ids = members.iter().map(|&member| self.sessions.live(member).id);
                let mut ids: Vec<_> = ids.collect();
                ids.sort_unstable();
                (group.0, ids)
            })
            .collect()
    }

    /// Returns how many sessions are known to be at another shard than that in their id, or on their way to one. For tests and simulators.
    #[cfg(all(feature = "backends", any(test, feature = "testkit")))]
    #[doc(hidden)]
    #[must_use]
    pub fn pinned(&self) -> usize {
        self.shares.change_pins(|pins| pins.living())
    }

    /// Checks the alarms of connections whose packets are numbered, and that such a connection belongs to such a session.
    fn audit_numbered(&self) {
        let mut alarms = 0;
        for (index, conn) in self.conns.iter() {
            let looks_at = self.alarms.at(index);
            alarms += usize::from(looks_at.is_some());
            assert!(
                looks_at.is_none() || conn.is_established(),
                "connection {index} has an alarm"
            );
            if let State::Established { session } = conn.state() {
                let numbered = self.sessions.live(*session).numbered();
                assert_eq!(conn.is_numbered(), numbered.is_some(), "session {session}");
            }
        }
        assert_eq!(self.alarms.len(), alarms, "alarms");
        for (index, session) in self.sessions.iter() {
            if let Some(numbers) = session.numbers() {
                let ledger = numbers.of_sender(&session.outbox);
                // One that has ended has given its packets up, and waits to be told to the backend.
                assert!(
                    session.place == Place::Ended || ledger.is_balanced(),
                    "the ledger of session {index}"
                );
                assert!(
                    numbers.taken() <= numbers.received(),
                    "what session {index} has received"
                );
            }
        }
    }
}
