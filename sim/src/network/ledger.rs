//! What the applications at both ends of the shipped code see, held against what SPEC.txt promises them.
//!
//! The drivers cannot be stepped, so nothing is predicted here: packets say themselves whose they are and which, and
//! what must never be seen is never seen. A packet may be missing only where something broke between the moment it was
//! made and the moment its successor arrived.

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
    /// Packets that were lost with something that broke.
    pub lost: u64,
    /// Sessions that began, for clients.
    pub joined: u64,
    /// Sessions that were resumed, for clients.
    pub resumed: u64,
    /// Sessions that were refused, for clients.
    pub refused: u64,
    /// Clients that lost their connection, or the attempt to make one.
    pub dropped: u64,
    /// Ends that the backend heard of.
    pub ended: u64,
    /// Links that the backend saw.
    pub links: u64,
    /// Restarts of the edge.
    pub restarts: u64,
    /// What strangers did.
    pub strangers: u64,
    /// Nanoseconds after the faults at which the last client had its packets through again.
    pub recovered_nanos: u64,
}

/// What is known of one id.
#[derive(Default)]
struct Session {
    owner: Option<u32>,
    /// Which of its owner's lives it belongs to.
    life: Option<u32>,
    /// Why it has ended, if it has.
    ended: Option<String>,
    /// How often the backend was told that its client is back.
    told: u32,
    /// The backend made it up.
    made_up: bool,
    /// Its client has left for good, and can say when.
    left_at: Option<u64>,
}

/// One sequence of packets.
#[derive(Default)]
struct Sequence {
    /// When each packet was made, and its bytes.
    made: Vec<(u64, usize)>,
    /// The number that is to arrive next.
    next: u32,
}

/// Names a sequence: up, a client and one of its lives; down, an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Up { owner: u32, life: u32 },
    Down { id: u64 },
}

/// What follows from a run's configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// How soon a session ends after its client has left: nanoseconds, at least and at most.
    pub(crate) expiry: (u64, u64),
    /// Bytes that may be lost with one connection.
    pub(crate) lost_bytes: usize,
}

/// What a client would have the backend do; they agree on it behind the back of the edge.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wish {
    /// Kick this session.
    Kick(u64),
    /// Send so many packets to this session, of this client.
    Send(u64, u32, u32),
}

/// The account of a run.
pub(crate) struct Ledger {
    sessions: BTreeMap<u64, Session>,
    sequences: BTreeMap<Key, Sequence>,
    /// When connections of each client broke.
    broke: BTreeMap<u32, Vec<u64>>,
    /// When each client's process died last, with what it had queued.
    died: BTreeMap<u32, u64>,
    /// When something broke last that may have held packets of everybody.
    all_broke: Option<u64>,
    bounds: Bounds,
    /// What the backend is asked to do, once all is calm.
    wishes: Vec<Wish>,
    /// Clients that got their packets through once the faults were over.
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

    /// A connection broke that may have held packets of, or for, this client.
    fn breaks(&mut self, at: u64, owner: u32) {
        self.broke.entry(owner).or_default().push(at);
    }

    /// A client's process died, with what it had queued.
    pub(crate) fn client_died(&mut self, at: u64, owner: u32) {
        self.died.insert(owner, at);
        self.breaks(at, owner);
    }

    /// Something for the backend to do.
    pub(crate) fn wish(&mut self, wish: Wish) {
        self.wishes.push(wish);
    }

    pub(crate) fn take_wishes(&mut self) -> Vec<Wish> {
        std::mem::take(&mut self.wishes)
    }

    /// Something broke that may have held packets of everybody.
    pub(crate) fn breaks_all(&mut self, at: u64) {
        self.all_broke = Some(at);
    }

    /// A new packet of a client. Where it is not taken, [`Ledger::unmake_up`].
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

    /// A new packet for a session.
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

    /// A packet reached the backend. Who sent it, if it says so.
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

    /// The backend says something to an id that it has made up.
    pub(crate) fn made_up(&mut self, id: u64) {
        self.sessions.entry(id).or_default().made_up = true;
    }

    /// The backend was told that a client is back.
    pub(crate) fn backend_resumed(&mut self, at: u64, id: u64) {
        self.hash.add(at, 2, id, &[]);
        self.sessions.entry(id).or_default().told += 1;
        if self.end_of(id).is_some() {
            self.fail(at, "S12", format!("{id:016x} is back after its end"));
        }
    }

    /// The backend was told that a session has ended.
    pub(crate) fn backend_failed(&mut self, at: u64, id: u64, reason: &str) {
        self.hash.add(at, 3, id, reason.as_bytes());
        self.seen.ended += 1;
        // An id of which nobody has heard may be one that its client was never told.
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

    /// A client was given an id.
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

    /// A client is back as who it was.
    pub(crate) fn client_resumed(&mut self, at: u64, owner: u32) {
        self.hash.add(at, 6, owner.into(), &[]);
        self.seen.resumed += 1;
        self.breaks(at, owner);
    }

    /// A client's session was refused; it may begin another one.
    pub(crate) fn client_refused(&mut self, at: u64, owner: u32) {
        self.hash.add(at, 7, owner.into(), &[]);
        self.seen.refused += 1;
        self.breaks(at, owner);
    }

    /// A client has lost its connection.
    pub(crate) fn client_dropped(&mut self, at: u64, owner: u32) {
        self.hash.add(at, 8, owner.into(), &[]);
        self.seen.dropped += 1;
        self.breaks(at, owner);
    }

    /// A packet reached the client that has this id.
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

    /// A client has its packets through again, so long after the faults.
    pub(crate) fn recovered(&mut self, after_nanos: u64) {
        self.seen.recovered_nanos = self.seen.recovered_nanos.max(after_nanos);
    }

    /// A client that has a session leaves for good, without a word.
    pub(crate) fn client_left(&mut self, at: u64, id: u64) {
        self.sessions.entry(id).or_default().left_at = Some(at);
    }

    /// Ids that are alive for all that is known, with their clients.
    pub(crate) fn alive(&self) -> Vec<(u64, u32)> {
        let alive = self
            .sessions
            .iter()
            .filter(|(_, session)| session.ended.is_none());
        alive
            .filter_map(|(id, session)| Some((*id, session.owner?)))
            .collect()
    }

    /// Why a session has ended, if the backend has heard of it.
    pub(crate) fn end_of(&self, id: u64) -> Option<&str> {
        self.sessions.get(&id)?.ended.as_deref()
    }

    /// How often the backend was told that the client of this session is back.
    pub(crate) fn told_of(&self, id: u64) -> u32 {
        self.sessions.get(&id).map_or(0, |session| session.told)
    }

    /// Whether every session whose client has left has ended. One whose time is over by now and that has not breaks a rule.
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

    /// What a packet says of itself; what is too short for a label says nothing.
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

    /// Checks a packet against those that were made and have arrived before it.
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
        self.seen.lost += lost.len() as u64;
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
            // A link, or a process, takes more with it than is known here.
            return;
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
