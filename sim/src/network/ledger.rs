//! What the applications at both ends of the shipped code see, held against what SPEC.txt promises them.
//!
//! The drivers cannot be stepped, so nothing is predicted here: packets say themselves whose they are and which, and
//! what must never be seen is never seen.

use std::collections::BTreeMap;

use crate::hash::TraceHash;
use crate::payload::{self, Direction, Label, PayloadError};

/// A rule that was broken in a run over the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which rule of [`crate::model::RULES`].
    pub rule: &'static str,
    /// What was seen.
    pub text: String,
    /// Virtual nanoseconds since the start.
    pub at_nanos: u64,
}

/// How often things happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Packets that reached the backend.
    pub up: u64,
    /// Packets that reached clients.
    pub down: u64,
    /// Sessions that began, for clients.
    pub joined: u64,
    /// Sessions that were resumed, for clients.
    pub resumed: u64,
    /// Sessions that were refused, for clients.
    pub refused: u64,
    /// Ends that the backend heard of.
    pub ended: u64,
    /// Links that the backend saw.
    pub links: u64,
}

/// What is known of one id.
#[derive(Default)]
struct Session {
    owner: Option<u32>,
    ended: bool,
}

/// The account of a run.
#[derive(Default)]
pub(crate) struct Ledger {
    sessions: BTreeMap<u64, Session>,
    /// The next number that each client uses, and that is used for each client.
    next: BTreeMap<(bool, u32), u32>,
    /// The highest number that arrived, by direction and client.
    arrived: BTreeMap<(bool, u32), u32>,
    pub(crate) seen: Seen,
    pub(crate) broken: Option<Broken>,
    pub(crate) hash: TraceHash,
}

impl Ledger {
    pub(crate) fn fail(&mut self, at_nanos: u64, rule: &'static str, text: String) {
        self.broken.get_or_insert(Broken {
            rule,
            text,
            at_nanos,
        });
    }

    /// A new packet of, or for, a client.
    pub(crate) fn make(&mut self, direction: Direction, owner: u32, bytes: usize) -> Vec<u8> {
        let seq = self
            .next
            .entry((direction == Direction::Up, owner))
            .or_default();
        let label = Label {
            direction,
            owner,
            conn: 0,
            seq: *seq,
        };
        *seq += 1;
        payload::encode(label, bytes)
    }

    /// A packet reached the backend.
    pub(crate) fn backend_packet(&mut self, at: u64, id: u64, data: &[u8]) -> Option<u32> {
        self.hash.add(at, 1, id, data);
        self.seen.up += 1;
        let owner = self.arrival(at, Direction::Up, data)?;
        let session = self.sessions.entry(id).or_default();
        let known = *session.owner.get_or_insert(owner);
        if session.ended {
            self.fail(at, "S12", format!("a packet of {id:016x} after its end"));
        } else if known != owner {
            self.fail(
                at,
                "S1",
                format!("{id:016x} is client {known}, a packet of client {owner} came under it"),
            );
        }
        Some(owner)
    }

    /// The backend was told that a client is back.
    pub(crate) fn backend_resumed(&mut self, at: u64, id: u64) {
        self.hash.add(at, 2, id, &[]);
        if self.sessions.get(&id).is_some_and(|session| session.ended) {
            self.fail(at, "S12", format!("{id:016x} is back after its end"));
        }
    }

    /// The backend was told that a session has ended.
    pub(crate) fn backend_failed(&mut self, at: u64, id: u64, reason: &str) {
        self.hash.add(at, 3, id, reason.as_bytes());
        self.seen.ended += 1;
        let session = self.sessions.entry(id).or_default();
        let again = std::mem::replace(&mut session.ended, true);
        if again && reason != "unknown client" {
            self.fail(at, "S12", format!("{id:016x} ended twice, now: {reason}"));
        }
    }

    /// A client was given an id.
    pub(crate) fn client_joined(&mut self, at: u64, owner: u32, id: u64) {
        self.hash.add(at, 4, id, &[]);
        self.seen.joined += 1;
        let session = self.sessions.entry(id).or_default();
        let known = *session.owner.get_or_insert(owner);
        if known != owner {
            self.fail(
                at,
                "S3",
                format!("client {owner} was given the id {id:016x} of client {known}"),
            );
        }
    }

    /// A packet reached a client.
    pub(crate) fn client_packet(&mut self, at: u64, owner: u32, data: &[u8]) {
        self.hash.add(at, 5, owner.into(), data);
        self.seen.down += 1;
        if let Some(meant) = self.arrival(at, Direction::Down, data)
            && meant != owner
        {
            self.fail(
                at,
                "S2",
                format!("client {owner} received a packet for client {meant}"),
            );
        }
    }

    /// Ids that are alive for all that is known, with their clients.
    pub(crate) fn alive(&self) -> Vec<(u64, u32)> {
        let alive = self.sessions.iter().filter(|(_, session)| !session.ended);
        alive
            .filter_map(|(id, session)| Some((*id, session.owner?)))
            .collect()
    }

    /// Checks one packet by itself and against those before it; whose it is.
    fn arrival(&mut self, at: u64, direction: Direction, data: &[u8]) -> Option<u32> {
        let (rule, way) = match direction {
            Direction::Up => ("S9", true),
            Direction::Down => ("S10", false),
        };
        let label = match payload::decode(data) {
            Ok(label) if label.direction == direction => label,
            // What is too short for a label says nothing.
            Err(PayloadError::Short) => return None,
            other => {
                self.fail(
                    at,
                    rule,
                    format!("a packet of {} bytes is {other:?}", data.len()),
                );
                return None;
            }
        };
        let highest = self.arrived.insert((way, label.owner), label.seq);
        if let Some(highest) = highest.filter(|highest| *highest >= label.seq) {
            self.fail(at, rule, format!("{label:?} came after number {highest}"));
        }
        Some(label.owner)
    }
}
