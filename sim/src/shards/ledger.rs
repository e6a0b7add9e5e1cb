//! Who is owed what: the rules of SPEC.txt that hold whatever the machines do between their interfaces.
//!
//! The ledger sees bytes where they cross an interface: what a connection brings to an edge and what its transport takes, what a shard
//! writes to its branch and reads from it, what the backend's transport takes and what the trunk reads. It asks a machine only what the
//! machine tells its adapter.

use std::collections::{BTreeMap, VecDeque};

use voltlane_core::edge::Rejected;

use super::setup::Setup;
use crate::codec::{Frames, Hello};
use crate::model::Violation;
use crate::payload::Label;

/// Something that a session has sent, and that the backend must receive in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Data(Label),
    Resumed,
}

/// One session.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// Its id, once an edge has assigned it.
    pub(super) id: Option<u64>,
    /// What the backend's transport has yet to take.
    pub(super) owed_up: VecDeque<Said>,
    /// Packets for it that no client's transport has taken, and the maximum number that there were.
    pub(super) owed_down: VecDeque<(Label, usize)>,
    pub(super) owed_bytes: usize,
    pub(super) most_owed: (usize, usize),
    /// Its established connection.
    pub(super) current: Option<u32>,
    /// When its last established connection ended, if there was one.
    pub(super) left_at: Option<u64>,
    /// Whether a kick has reached its edge.
    pub(super) kicked: bool,
    /// Whether the backend was told of its end.
    pub(super) told: bool,
    /// When its owner was answered as if it did not exist.
    pub(super) denied_at: Option<u64>,
    pub(super) sent: u32,
    pub(super) sent_down: u32,
    /// Packets that the backend's transport took, packets that the client received, and the lowest number that the client may receive next.
    pub(super) heard: u64,
    pub(super) received: u64,
    pub(super) next_received: u32,
}

/// The purpose of a connection, as far as it concerns the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Join,
    Resume,
    /// It must not be let in.
    Attempt,
}

/// What the ledger knows about a connection, at whatever shard.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) session: usize,
    pub(super) purpose: Purpose,
    pub(super) established: bool,
    /// Whether its bytes no longer count: closed, closing, or its session was kicked.
    pub(super) over: bool,
    /// Whether its edge is about to close it.
    pub(super) closing: bool,
    /// The frames that it brought, and how many of them still belong to the handshake.
    brought: Frames,
    handshake_up: u32,
    /// Packets that it brought before it was established.
    early: Vec<Label>,
    /// The frames that its transport took.
    pub(super) took: Frames,
    pub(super) handshake_down: u32,
}

impl Watch {
    pub(super) fn new(session: usize, purpose: Purpose) -> Watch {
        let (handshake_up, handshake_down) = match purpose {
            Purpose::Join => (2, 2),
            Purpose::Resume | Purpose::Attempt => (4, 3),
        };
        Watch {
            session,
            purpose,
            established: false,
            over: false,
            closing: false,
            brought: Frames::default(),
            handshake_up,
            early: Vec::new(),
            took: Frames::default(),
            handshake_down,
        }
    }
}

/// The announcements of one generation of the link.
#[derive(Debug, Default)]
pub(super) struct Announced {
    /// Announced by a shard, and not taken by the backend's transport.
    pub(super) pending: Vec<u64>,
    /// The number of shards that have announced everything.
    pub(super) marks: usize,
}

pub(super) struct Ledger {
    pub(super) setup: Setup,
    pub(super) now: u64,
    pub(super) violation: Option<Violation>,
    pub(super) reach: BTreeMap<&'static str, u64>,
    pub(super) sessions: Vec<Session>,
    pub(super) watches: Vec<Watch>,
    pub(super) by_id: BTreeMap<u64, usize>,
    /// Ids that the backend knows.
    pub(super) known: Vec<u64>,
    /// Packets for ids that were never assigned, and answers to them.
    pub(super) strange: BTreeMap<u64, (u64, u64)>,
    /// The link: its generation, what its transport took, and what the trunk read.
    pub(super) generation: u32,
    pub(super) taken: Frames,
    pub(super) arrived: Frames,
    pub(super) framing_lost: bool,
    pub(super) announced: Announced,
    /// Whole frames that the trunk has read and its shards have not, in order.
    pub(super) for_shards: Vec<VecDeque<Vec<u8>>>,
    /// The number of shards that have not ended.
    pub(super) living: usize,
    /// The number of counted connections by source.
    pub(super) sources: BTreeMap<u64, usize>,
}

impl Ledger {
    pub(super) fn new(setup: &Setup) -> Ledger {
        let shards = usize::from(setup.shards);
        Ledger {
            setup: setup.clone(),
            now: 0,
            violation: None,
            reach: BTreeMap::new(),
            sessions: Vec::new(),
            watches: Vec::new(),
            by_id: BTreeMap::new(),
            known: Vec::new(),
            strange: BTreeMap::new(),
            generation: 0,
            taken: Frames::default(),
            arrived: Frames::default(),
            framing_lost: false,
            announced: Announced::default(),
            for_shards: vec![VecDeque::new(); shards],
            living: shards,
            sources: BTreeMap::new(),
        }
    }

    /// Records a violation. Only the first one counts.
    pub(super) fn fail(&mut self, id: &'static str, section: &'static str, text: String) {
        self.violation.get_or_insert(Violation {
            id,
            section,
            at_nanos: self.now,
            text,
        });
    }

    pub(super) fn reached(&mut self, name: &'static str) {
        *self.reach.entry(name).or_default() += 1;
    }

    /// Begins a session.
    pub(super) fn begin_session(&mut self) -> usize {
        self.sessions.push(Session::default());
        self.sessions.len() - 1
    }

    pub(super) fn watch(&mut self, session: usize, purpose: Purpose) {
        self.watches.push(Watch::new(session, purpose));
    }

    // ---- a connection at its edge

    /// Handles that an edge took `bytes` of a connection.
    pub(super) fn brought(&mut self, conn: u32, bytes: &[u8]) {
        let watch = &mut self.watches[conn as usize];
        if watch.over || watch.purpose == Purpose::Attempt {
            return;
        }
        watch.brought.push(bytes);
        while let Ok(Some(body)) = watch.brought.next_body(u32::MAX) {
            if watch.handshake_up > 0 {
                watch.handshake_up -= 1;
            } else if let Ok(label) = crate::payload::decode(&body) {
                if watch.established {
                    let session = &mut self.sessions[watch.session];
                    session.owed_up.push_back(Said::Data(label));
                } else {
                    watch.early.push(label);
                }
            }
        }
    }

    /// Handles that an edge is about to close a connection, or was told of its end.
    pub(super) fn connection_over(&mut self, conn: u32) {
        let watch = &mut self.watches[conn as usize];
        watch.closing = true;
        watch.over = true;
        let session = &mut self.sessions[watch.session];
        if session.current == Some(conn) {
            session.current = None;
            session.left_at = Some(self.now);
        }
    }

    /// Checks whether an edge's output for a connection establishes it.
    pub(super) fn look_whether_established(&mut self, shard: usize, conn: u32, control: &[u8]) {
        let watch = &self.watches[conn as usize];
        if watch.established || watch.over {
            return;
        }
        let pings = control.ends_with(&Hello::Ping.to_frame());
        match watch.purpose {
            Purpose::Join => {
                if let Some(id) = issued_id(control) {
                    self.joined(shard, conn, id);
                }
            }
            Purpose::Resume if pings => self.came_back(shard, conn),
            Purpose::Attempt if pings => {
                let text = format!("connection {conn} is let in without a proof");
                self.fail("S6", "5.3", text);
            }
            Purpose::Resume | Purpose::Attempt => {}
        }
    }

    fn joined(&mut self, shard: usize, conn: u32, id: u64) {
        let session = self.watches[conn as usize].session;
        if (id >> 56) as usize != shard {
            let text = format!("shard {shard} gave out {id:016x}");
            return self.fail("S3", "9.9(b)", text);
        }
        if self.by_id.insert(id, session).is_some() {
            return self.fail("S3", "9.1(b)", format!("{id:016x} is issued twice"));
        }
        self.sessions[session].id = Some(id);
        self.let_in(conn, session);
        self.reached("joined");
    }

    fn came_back(&mut self, shard: usize, conn: u32) {
        let session = self.watches[conn as usize].session;
        let entry = &self.sessions[session];
        let home = entry.id.map_or(usize::MAX, |id| (id >> 56) as usize);
        let (kicked, told, denied) = (entry.kicked, entry.told, entry.denied_at);
        if home != shard {
            let text = format!("a session of shard {home} goes on at shard {shard}");
            return self.fail("S4", "9.9(b)", text);
        }
        if kicked || told {
            let text = format!("session {session} comes back after its end");
            return self.fail("S15", "8.3(b)", text);
        }
        if denied.is_some() {
            let text = format!("session {session} was there, and its owner was denied it");
            return self.fail("S16", "5.1(a)", text);
        }
        self.sessions[session].owed_up.push_back(Said::Resumed);
        self.let_in(conn, session);
        self.reached("resumed");
    }

    fn let_in(&mut self, conn: u32, session: usize) {
        let watch = &mut self.watches[conn as usize];
        watch.established = true;
        let early = std::mem::take(&mut watch.early);
        let entry = &mut self.sessions[session];
        entry.owed_up.extend(early.into_iter().map(Said::Data));
        if let Some(old) = entry.current.replace(conn) {
            let text = format!("session {session} has the connections {old} and {conn}");
            self.fail("S4", "9.3(b)", text);
        }
    }

    /// Handles that an owner got a challenge that its key does not open.
    pub(super) fn denied(&mut self, session: usize) {
        let now = self.now;
        self.sessions[session].denied_at.get_or_insert(now);
        self.reached("denied");
    }
}

impl Ledger {
    /// Checks that all shards together accept a source's connections up to its limit, and not beyond it.
    pub(super) fn check_source(
        &mut self,
        counted: usize,
        most: usize,
        outcome: Result<(), Rejected>,
    ) {
        let full = most > 0 && counted >= most;
        let fine = match outcome {
            Ok(()) => !full,
            Err(Rejected::SourceTooMany) => full,
            Err(Rejected::TooManyHalfOpen) => self.setup.config.limits.max_half_open > 0,
            // This is checked before the source.
            Err(Rejected::Shutdown) => true,
            Err(_) => false,
        };
        if full {
            self.reached("source at its limit");
        }
        if !fine {
            let text = format!("of its source there are {counted} of {most}: {outcome:?}");
            self.fail("B1", "9.9(g)", text);
        }
    }

    /// Checks at the end that nothing is missing that was taken.
    pub(super) fn check_handed_over(&mut self) {
        let left = self
            .sessions
            .iter()
            .position(|session| !session.owed_up.is_empty());
        if let Some(session) = left {
            let text = format!("session {session}: {:?}", self.sessions[session].owed_up);
            self.fail("S11", "1.4(c)", text);
        }
    }

    /// Checks that every session has ended, and that the backend was told.
    pub(super) fn check_all_ended(&mut self) {
        let silent = |session: &Session| session.id.is_some() && !session.told;
        if let Some(session) = self.sessions.iter().position(silent) {
            let text = format!("the backend did not hear of the end of session {session}");
            self.fail("S16", "7.3(a)", text);
        }
    }

    /// Checks that nobody is connected any more.
    pub(super) fn check_sources(&mut self) {
        if self.sources.values().any(|&count| count > 0) {
            let text = format!("the simulator lost count: {:?}", self.sources);
            self.fail("H2", "-", text);
        }
    }
}

/// Returns the id in the ClientId packet at the end of handshake output, if there is one.
fn issued_id(control: &[u8]) -> Option<u64> {
    // An id below 2^32 has a shorter form. It is drawn once in 2^24 sessions of shard 0.
    let last = control.len().checked_sub(14)?;
    let frame = &control[last..];
    match Hello::read(&frame[4..]) {
        Some(Hello::Id(id)) if frame[..4] == [10, 0, 0, 0] => Some(id),
        _ => None,
    }
}
