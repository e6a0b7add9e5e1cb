//! What the applications at both ends of the shipped code see, checked against the promises of SPEC.txt.
//!
//! The drivers cannot be stepped, so nothing is predicted here. Packets identify themselves, and forbidden observations are failures. A
//! packet may be missing only if something broke between the moment it was made and the moment its successor arrived.

use std::collections::{BTreeMap, BTreeSet};

use crate::hash::TraceHash;
use crate::payload::{self, Direction, Label, PayloadError};

/// A rule that was broken in a run over the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which rule of [`crate::model::RULES`].
    pub rule: &'static str,
    /// What was observed.
    pub text: String,
    /// Virtual nanoseconds since the start.
    pub at_nanos: u64,
}

/// Counts of what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Packets that reached the backend.
    pub up: u64,
    /// Packets that reached clients.
    pub down: u64,
    /// Packets of clients of version 2 lost with something that broke.
    pub lost: u64,
    /// Sessions that clients joined.
    pub joined: u64,
    /// Sessions that clients resumed.
    pub resumed: u64,
    /// Those of them that speak version 3.
    pub resumed_in_3: u64,
    /// Sessions that clients were refused.
    pub refused: u64,
    /// Connections, or attempts to make one, that clients lost.
    pub dropped: u64,
    /// Ends of sessions reported to the backend.
    pub ended: u64,
    /// Links that the backend saw.
    pub links: u64,
    /// Restarts of the edge.
    pub restarts: u64,
    /// Actions of strangers.
    pub strangers: u64,
    /// How long after the faults the last client had its packets through again, in nanoseconds.
    pub recovered_nanos: u64,
}

/// What is known about one id.
#[derive(Default)]
struct Session {
    owner: Option<u32>,
    /// The life of its owner that it belongs to.
    life: Option<u32>,
    /// Why it has ended, if it has.
    ended: Option<String>,
    /// How often the backend was told that the session was resumed.
    told: u32,
    /// Whether the backend has a packet of it.
    is_known: bool,
    /// Whether the backend invented it.
    made_up: bool,
    /// When its client left for good, if it did and knows.
    left_at: Option<u64>,
}

/// One sequence of packets.
#[derive(Default)]
struct Sequence {
    /// When each packet was made, and its size.
    made: Vec<(u64, usize)>,
    /// The number expected next.
    next: u32,
}

/// Identifies a sequence: upwards a client and one of its lives, downwards an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Up { owner: u32, life: u32 },
    Down { id: u64 },
}

/// Bounds that follow from a run's configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The minimum and the maximum time from a client's leaving to its session's end, in nanoseconds.
    pub(crate) expiry: (u64, u64),
    /// Bytes that may be lost with one connection.
    pub(crate) lost_bytes: usize,
}

/// What a client wants the backend to do, agreed between them without the edge.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wish {
    /// Kick this session.
    Kick(u64),
    /// Send this many packets to this session of this client.
    Send(u64, u32, u32),
}

/// The record of a run.
pub(crate) struct Ledger {
    sessions: BTreeMap<u64, Session>,
    sequences: BTreeMap<Key, Sequence>,
    /// When connections of each client broke.
    broke: BTreeMap<u32, Vec<u64>>,
    /// Clients of version 3, of whose packets none is lost with a connection.
    v3: BTreeSet<u32>,
    /// When each client's process last died, with the packets it had queued.
    died: BTreeMap<u32, u64>,
    /// When something that may have held packets of all clients last broke.
    all_broke: Option<u64>,
    bounds: Bounds,
    /// What the backend is asked to do once the faults are over.
    wishes: Vec<Wish>,
    /// Clients whose packets are through since the faults were over.
    pub(crate) settled: u32,
    /// The edge was asked to end.
    pub(crate) ending: bool,
    /// The edge has ended.
    pub(crate) edge_ended: bool,
    pub(crate) seen: Seen,
    pub(crate) broken: Option<Broken>,
    pub(crate) hash: TraceHash,
}

impl Ledger {
    pub(crate) fn new(bounds: Bounds) -> Ledger {
        Ledger {
            sessions: BTreeMap::new(),
            sequences: BTreeMap::new(),
            broke: BTreeMap::new(),
            v3: BTreeSet::new(),
            died: BTreeMap::new(),
            all_broke: None,
            bounds,
            wishes: Vec::new(),
            settled: 0,
            ending: false,
            edge_ended: false,
            seen: Seen::default(),
            broken: None,
            hash: TraceHash::default(),
        }
    }

    pub(crate) fn fail(&mut self, at_nanos: u64, rule: &'static str, text: String) {
        self.broken.get_or_insert(Broken {
            rule,
            text,
            at_nanos,
        });
    }

    /// Records that a connection broke that may have held packets of, or for, this client.
    fn breaks(&mut self, at: u64, owner: u32) {
        self.broke.entry(owner).or_default().push(at);
    }

    /// Records that a client's process died, with the packets it had queued.
    pub(crate) fn client_died(&mut self, at: u64, owner: u32) {
        self.died.insert(owner, at);
        self.breaks(at, owner);
    }

    /// Records that this client speaks version 3.
    pub(crate) fn expect_nothing_lost(&mut self, owner: u32) {
        self.v3.insert(owner);
    }

    fn is_v3(&self, owner: Option<u32>) -> bool {
        owner.is_some_and(|owner| self.v3.contains(&owner))
    }

    /// Adds a wish for the backend.
    pub(crate) fn wish(&mut self, wish: Wish) {
        self.wishes.push(wish);
    }

    pub(crate) fn take_wishes(&mut self) -> Vec<Wish> {
        std::mem::take(&mut self.wishes)
    }

    /// Records that something broke that may have held packets of all clients.
    pub(crate) fn breaks_all(&mut self, at: u64) {
        self.all_broke = Some(at);
    }

    /// Makes a new packet of a client. If it is not accepted, call [`Ledger::unmake_up`].
    pub(crate) fn make_up(&mut self, at: u64, owner: u32, life: u32, bytes: usize) -> Vec<u8> {
        let sequence = self.sequences.entry(Key::Up { owner, life }).or_default();
        let label = Label {
            direction: Direction::Up,
            owner,
            conn: life,
            seq: sequence.made.len() as u32,
        };
        let bytes = bytes.max(payload::HEADER_BYTES);
        sequence.made.push((at, bytes));
        payload::encode(label, bytes)
    }

    pub(crate) fn unmake_up(&mut self, owner: u32, life: u32) {
        if let Some(sequence) = self.sequences.get_mut(&Key::Up { owner, life }) {
            sequence.made.pop();
        }
    }

    /// Makes a new packet for a session.
    pub(crate) fn make_down(&mut self, at: u64, id: u64, owner: u32, bytes: usize) -> Vec<u8> {
        let sequence = self.sequences.entry(Key::Down { id }).or_default();
        let label = Label {
            direction: Direction::Down,
            owner,
            conn: id as u32,
            seq: sequence.made.len() as u32,
        };
        let bytes = bytes.max(payload::HEADER_BYTES);
        sequence.made.push((at, bytes));
        payload::encode(label, bytes)
    }

    /// Records a packet that reached the backend. Returns its sender, if it names one.
    pub(crate) fn backend_packet(&mut self, at: u64, id: u64, data: &[u8]) -> Option<u32> {
        self.hash.add(at, 1, id, data);
        self.seen.up += 1;
        let session = self.sessions.entry(id).or_default();
        if session.ended.is_some() {
            self.fail(at, "S12", format!("a packet of {id:016x} after its end"));
            return None;
        }
        let label = self.label(at, Direction::Up, data)?;
        let Label { owner, conn, .. } = label;
        let session = self.sessions.entry(id).or_default();
        session.is_known = true;
        let known = *session.owner.get_or_insert(owner);
        let life = *session.life.get_or_insert(conn);
        if (known, life) != (owner, conn) {
            let text = format!("{id:016x} is client {known} in life {life}, and brought {label:?}");
            self.fail(at, "S1", text);
        }
        let life = conn;
        self.arrival(at, Key::Up { owner, life }, label);
        Some(owner)
    }

    /// Records that the backend sends to an id that it invented.
    pub(crate) fn made_up(&mut self, id: u64) {
        self.sessions.entry(id).or_default().made_up = true;
    }

    /// Records that the backend was told of a resume.
    pub(crate) fn backend_resumed(&mut self, at: u64, id: u64) {
        self.hash.add(at, 2, id, &[]);
        self.sessions.entry(id).or_default().told += 1;
        if self.end_of(id).is_some() {
            self.fail(at, "S12", format!("{id:016x} is back after its end"));
        }
    }

    /// Records that the backend was told of a session's end.
    pub(crate) fn backend_failed(&mut self, at: u64, id: u64, reason: &str) {
        self.hash.add(at, 3, id, reason.as_bytes());
        self.seen.ended += 1;
        // An unknown id may be one that its client was never told.
        let session = self.sessions.entry(id).or_default();
        if session.made_up && reason != "unknown client" {
            let text = format!("{id:016x}, which was given to nobody, has ended: {reason}");
            return self.fail(at, "S13", text);
        }
        let again = session.ended.is_some();
        session.ended.get_or_insert_with(|| reason.to_string());
        if again && reason != "unknown client" {
            self.fail(at, "S12", format!("{id:016x} ended twice, now: {reason}"));
        } else if let Some(left_at) = session.left_at
            && !again
        {
            let after = at.saturating_sub(left_at);
            let text = format!("{id:016x} ended {after} ns after its client left: {reason}");
            match reason {
                "expired" if after < self.bounds.expiry.0 => self.fail(at, "T1", text),
                "expired" | "too many stale clients" => {}
                _ => self.fail(at, "S13", text),
            }
        }
    }

    /// Records that a client joined.
    pub(crate) fn client_joined(&mut self, at: u64, owner: u32, life: u32, id: u64) {
        self.hash.add(at, 4, id, &[]);
        self.seen.joined += 1;
        let session = self.sessions.entry(id).or_default();
        let known = *session.owner.get_or_insert(owner);
        let known_life = *session.life.get_or_insert(life);
        if (known, known_life) != (owner, life) {
            let text = format!("client {owner} was given {id:016x}, the id of client {known}");
            self.fail(at, "S3", text);
        }
    }

    /// Records that a client resumed its session.
    pub(crate) fn client_resumed(&mut self, at: u64, owner: u32) {
        self.hash.add(at, 6, owner.into(), &[]);
        self.seen.resumed += 1;
        self.seen.resumed_in_3 += u64::from(self.v3.contains(&owner));
        self.breaks(at, owner);
    }

    /// Records that a client's session was refused. It may begin another one.
    pub(crate) fn client_refused(&mut self, at: u64, owner: u32) {
        self.hash.add(at, 7, owner.into(), &[]);
        self.seen.refused += 1;
        self.breaks(at, owner);
    }

    /// Records that a client lost its connection.
    pub(crate) fn client_dropped(&mut self, at: u64, owner: u32) {
        self.hash.add(at, 8, owner.into(), &[]);
        self.seen.dropped += 1;
        self.breaks(at, owner);
    }

    /// Records a packet that reached the client with this id.
    pub(crate) fn client_packet(&mut self, at: u64, owner: u32, id: u64, data: &[u8]) {
        self.hash.add(at, 5, owner.into(), data);
        self.seen.down += 1;
        let Some(label) = self.label(at, Direction::Down, data) else {
            return;
        };
        if (label.owner, label.conn) == (owner, id as u32) {
            self.arrival(at, Key::Down { id }, label);
        } else {
            let text = format!("client {owner} received {label:?} as {id:016x}");
            self.fail(at, "S2", text);
        }
    }

    /// Records that a client has its packets through again, this long after the faults.
    pub(crate) fn recovered(&mut self, after_nanos: u64) {
        self.seen.recovered_nanos = self.seen.recovered_nanos.max(after_nanos);
    }

    /// Records that a client with a session leaves for good, without notice.
    pub(crate) fn client_left(&mut self, at: u64, id: u64) {
        self.sessions.entry(id).or_default().left_at = Some(at);
    }

    /// Returns the ids not known to have ended, with their clients.
    pub(crate) fn alive(&self) -> Vec<(u64, u32)> {
        let alive = self
            .sessions
            .iter()
            .filter(|(_, session)| session.ended.is_none())
            // One of version 3 begins with its Join record, after its client has its id.
            .filter(|(_, session)| session.is_known || !self.is_v3(session.owner));
        alive
            .filter_map(|(id, session)| Some((*id, session.owner?)))
            .collect()
    }

    /// Returns why a session has ended, if the backend was told.
    pub(crate) fn end_of(&self, id: u64) -> Option<&str> {
        self.sessions.get(&id)?.ended.as_deref()
    }

    /// Returns how often the backend was told that this session was resumed.
    pub(crate) fn told_of(&self, id: u64) -> u32 {
        self.sessions.get(&id).map_or(0, |session| session.told)
    }

    /// Returns whether every session whose client has left has ended. A session that has outlived its deadline breaks a rule.
    pub(crate) fn all_expired(&mut self, at: u64) -> bool {
        let latest = self.bounds.expiry.1;
        let left = self
            .sessions
            .iter()
            .filter(|(_, session)| session.ended.is_none());
        let left = left.filter_map(|(id, session)| Some((*id, session.left_at?)));
        let Some((id, left_at)) = left.min_by_key(|(_, left_at)| *left_at) else {
            return true;
        };
        if at.saturating_sub(left_at) > latest {
            let text = format!("{id:016x} is not ended {latest} ns after its client left");
            self.fail(at, "L4", text);
        }
        false
    }

    /// Reads a packet's label. A packet too short for a label has none.
    fn label(&mut self, at: u64, direction: Direction, data: &[u8]) -> Option<Label> {
        match payload::decode(data) {
            Ok(label) if label.direction == direction => Some(label),
            Err(PayloadError::Short) => None,
            other => {
                let rule = match direction {
                    Direction::Up => "S9",
                    Direction::Down => "S10",
                };
                let text = format!("a packet of {} bytes is {other:?}", data.len());
                self.fail(at, rule, text);
                None
            }
        }
    }

    /// Checks a packet against those that were made and those that arrived before it.
    fn arrival(&mut self, at: u64, key: Key, label: Label) {
        let (rule, owner) = match key {
            Key::Up { owner, .. } => ("S9", owner),
            Key::Down { .. } => ("S10", label.owner),
        };
        let sequence = self.sequences.entry(key).or_default();
        let expected = sequence.next;
        if label.seq < expected || label.seq as usize >= sequence.made.len() {
            let text = format!("{label:?} came where number {expected} was awaited");
            return self.fail(at, rule, text);
        }
        sequence.next = label.seq + 1;
        if label.seq == expected {
            return;
        }
        let lost = &sequence.made[expected as usize..label.seq as usize];
        let is_v3 = self.v3.contains(&owner);
        if !is_v3 {
            self.seen.lost += lost.len() as u64;
        }
        let (made, bytes) = (
            lost[0].0,
            lost.iter().map(|(_, bytes)| bytes).sum::<usize>(),
        );
        let died = self
            .died
            .get(&owner)
            .filter(|_| matches!(key, Key::Up { .. }));
        if self
            .all_broke
            .max(died.copied())
            .is_some_and(|broke| broke >= made)
        {
            // A link, or a process, loses more than is known here.
            return;
        }
        if is_v3 {
            let text = format!("{label:?} came where number {expected} was awaited, in version 3");
            return self.fail(at, rule, text);
        }
        let broke = self.broke.get(&owner).map_or(&[][..], Vec::as_slice);
        let broke = broke.iter().rev().take_while(|at| **at >= made).count();
        if bytes > broke * self.bounds.lost_bytes {
            let text = format!(
                "{label:?} came where number {expected} was awaited, made at {made} ns: {bytes} bytes are lost, and {broke} connections since"
            );
            self.fail(at, rule, text);
        }
    }
}
