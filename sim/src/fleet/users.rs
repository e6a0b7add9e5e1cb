//! Clients of version 3, each at one edge until another one has its home.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use voltlane_core::client::{self as machine, Client, ClientConfig, DropCause, Event, Versions};
use voltlane_core::edge::testkit::Adapter as _;
use voltlane_core::edge::{Closed, ConnKey, Duty};

use super::World;
use crate::payload::{self, Direction, Label};
use crate::rng::Rng;

/// A client, and its connection, which delivers at once.
pub(super) struct User {
    pub(super) machine: Client,
    seed: u64,
    number: u64,
    life: u64,
    roams: bool,
    /// Its edge.
    pub(super) node: usize,
    pub(super) conn: Option<ConnKey>,
    pub(super) id: Option<u64>,
    /// The packets that it has sent, and how many before its edge was granted.
    pub(super) sent: u32,
    pub(super) early: u32,
    /// How many of them its edge has acknowledged.
    pub(super) acknowledged: u64,
    /// The edges to which it has come.
    pub(super) came_to: BTreeSet<usize>,
    /// Whether it is connected to an edge that sleeps.
    pub(super) is_queued: bool,
    /// Whether its session is of another cluster.
    pub(super) is_foreign: bool,
    /// Whether nothing has come on its connection.
    pub(super) is_new: bool,
}

impl User {
    pub(super) fn new(seed: u64, number: u64, life: u64, node: usize, roams: bool) -> User {
        let config = ClientConfig::default()
            .with_versions(Versions::V3)
            .with_tickets(roams)
            .with_backoff(Duration::from_millis(20), Duration::from_millis(500))
            .expect("in order");
        let mut bytes = [0; 32];
        Rng::fork(seed, "client of the fleet", number << 32 | life).fill(&mut bytes);
        User {
            machine: Client::new(config, bytes),
            seed,
            number,
            life,
            roams,
            node,
            conn: None,
            id: None,
            sent: 0,
            early: 0,
            acknowledged: 0,
            came_to: BTreeSet::new(),
            is_queued: false,
            is_foreign: false,
            is_new: false,
        }
    }
}

impl User {
    /// Returns whether it has a ticket, which comes before it hears that a packet is acknowledged.
    pub(super) fn has_ticket(&self) -> bool {
        self.acknowledged > u64::from(self.early)
    }

    /// Returns whether it is at an edge.
    pub(super) fn is_there(&self) -> bool {
        self.conn.is_some() && self.machine.state() == machine::State::Established
    }

    /// Returns the same client with no session, at this edge.
    pub(super) fn again(&self, node: usize) -> User {
        User::new(self.seed, self.number, self.life + 1, node, self.roams)
    }
}

impl World {
    pub(super) fn send_up(&mut self, user: usize) {
        let state = &mut self.users[user];
        let label = Label {
            direction: Direction::Up,
            owner: user as u32,
            conn: state.life as u32,
            seq: state.sent,
        };
        let data = payload::encode(label, payload::HEADER_BYTES + 10);
        if state.machine.send(&data).is_ok() {
            state.sent += 1;
            if !self.nodes[state.node].was_granted {
                state.early = state.sent;
            }
        }
    }

    /// A client whose edge is dead, or was displaced, begins again at the one that has the home.
    pub(super) fn follow(&mut self, user: usize) {
        if self.roams {
            return;
        }
        let node = self.users[user].node;
        let home = self.nodes[node].home;
        let Some(newest) = self.newest(home) else {
            return;
        };
        if newest == node {
            return;
        }
        if let Some(conn) = self.users[user].conn.take()
            && !self.nodes[node].is_dead
        {
            let now = self.time();
            self.nodes[node]
                .edge
                .handle_client_closed(now, conn, Closed::Eof);
        }
        self.users[user] = self.users[user].again(newest);
    }

    pub(super) fn user_turn(&mut self, user: usize) {
        if !self.is_calm && self.rng.chance(2) {
            self.follow(user);
        }
        if self.roams {
            self.roam(user);
        }
        let now = self.time();
        let waits = self.roams && self.users[user].conn.is_none();
        if self.is_silent(self.users[user].node) && !waits {
            return;
        }
        let state = &mut self.users[user];
        if state.machine.poll_timeout().is_some_and(|at| at <= now) {
            state.machine.handle_timeout(now);
        }
        if state.conn.is_none() && state.machine.wants_connect(now) {
            if self.roams {
                self.choose_edge(user);
            }
            self.connect(user);
        }
        if self.is_silent(self.users[user].node) {
            return;
        }
        for _ in 0..8 {
            if !self.exchange(user) {
                break;
            }
        }
        if !self.is_calm && self.rng.chance(1) {
            self.reset(user);
        }
        self.hear_ends(user);
    }

    fn hear_ends(&mut self, user: usize) {
        while let Some(event) = self.users[user].machine.poll_event() {
            let code = match event {
                Event::Ended(end) => end.code.to_u16(),
                Event::Refused(_) => 0,
                Event::Dropped {
                    cause: DropCause::Told(code),
                    ..
                } => {
                    self.note(|| format!("client {user} is told {code}"));
                    self.hear_told(user, code.to_u16());
                    continue;
                }
                other => {
                    let text = format!("client {user}: {other:?}");
                    self.note(|| text);
                    continue;
                }
            };
            self.note(|| format!("client {user} ends: {code}"));
            if self.roams {
                return self.hear_end(user, code);
            }
        }
    }

    fn connect(&mut self, user: usize) {
        let now = self.time();
        let mut random = [0; 32];
        self.rng.fill(&mut random);
        if self.roams && self.queue_at(user, random) {
            return;
        }
        let is_silent = self.is_silent(self.users[user].node);
        let state = &mut self.users[user];
        if is_silent {
            return state.machine.handle_connect_failed(now);
        }
        let peer = IpAddr::from([203, 0, 113, user as u8]);
        let at = state.node;
        state.came_to.insert(at);
        self.note(|| format!("client {user} comes to edge {at}"));
        let state = &mut self.users[user];
        match self.nodes[state.node].edge.handle_accepted(now, peer) {
            Ok(conn) => {
                (state.conn, state.is_new) = (Some(conn), true);
                state.machine.handle_connected(now, random);
            }
            Err(_) => state.machine.handle_connect_failed(now),
        }
    }

    fn reset(&mut self, user: usize) {
        let now = self.time();
        let state = &mut self.users[user];
        if let Some(conn) = state.conn.take() {
            let edge = &mut self.nodes[state.node].edge;
            edge.handle_client_closed(now, conn, Closed::Error);
            state.machine.handle_closed(now, machine::Closed::Error);
            self.reached("client dropped");
        }
    }

    /// Moves what both ends have. Returns whether anything moved.
    fn exchange(&mut self, user: usize) -> bool {
        let now = self.time();
        let state = &mut self.users[user];
        let Some(conn) = state.conn else { return false };
        let edge = &mut self.nodes[state.node].edge;
        match edge.client_duty(conn) {
            Duty::Entropy => {
                let mut random = [0; 32];
                self.rng.fill(&mut random);
                edge.handle_entropy(now, conn, random);
                return true;
            }
            Duty::Close(_) => {
                edge.handle_client_closed(now, conn, Closed::Asked);
                state.conn = None;
                state.machine.handle_closed(now, machine::Closed::Eof);
                return true;
            }
            _ => {}
        }
        let count = state.machine.output().len().min(edge.read_budget(conn));
        if count > 0 {
            let bytes = state.machine.output()[..count].to_vec();
            state.machine.handle_written(now, count);
            edge.handle_client_bytes(now, conn, &bytes);
            self.record(user, bytes);
        }
        let edge = &mut self.nodes[self.users[user].node].edge;
        let bytes = edge.client_takes(now, conn, 70_000);
        self.client_reads(user, &bytes);
        let state = &mut self.users[user];
        if state.machine.wants_close() {
            if let Some(conn) = state.conn.take() {
                let edge = &mut self.nodes[state.node].edge;
                edge.handle_client_closed(now, conn, Closed::Eof);
            }
            state.machine.handle_closed(now, machine::Closed::Eof);
        }
        count > 0 || !bytes.is_empty()
    }

    fn client_reads(&mut self, user: usize, bytes: &[u8]) {
        let now = self.time();
        self.users[user].is_new &= bytes.is_empty();
        let mut input = bytes;
        loop {
            let state = &mut self.users[user];
            let Some(event) = state.machine.handle_bytes(now, &mut input) else {
                break;
            };
            match event {
                Event::Connected { id } => {
                    state.id = Some(id.as_u64());
                    self.note(|| format!("client {user} is {id}"));
                }
                Event::Resumed { .. } => self.note(|| format!("client {user} resumes")),
                Event::Packet { data, number } => {
                    let label = payload::decode(data).ok().map(|label| label.seq);
                    if number > 0 {
                        state.machine.taken(now, number);
                    }
                    self.came(user, number, label);
                }
                _ => {}
            }
        }
        self.look_at_acknowledged(user);
    }

    fn look_at_acknowledged(&mut self, user: usize) {
        let state = &mut self.users[user];
        // One that has ended gives all for acknowledged.
        let Some(id) = state.id.filter(|_| state.machine.end().is_none()) else {
            return;
        };
        if state.is_foreign {
            return;
        }
        let acknowledged = state.machine.acknowledged();
        state.acknowledged = acknowledged;
        if self.roams && !self.nodes[state.node].was_granted {
            state.early = state.early.max(acknowledged as u32);
        }
        let early = u64::from(state.early);
        let taken = self.session(id).taken;
        if acknowledged > taken.max(early) {
            let text = format!("{id:016x}: {acknowledged} acknowledged, {taken} taken");
            self.fail("F5", "37.5(a)", text);
        }
    }

    fn came(&mut self, user: usize, number: u64, label: Option<u32>) {
        let Some(id) = self.users[user].id else {
            return;
        };
        let session = self.session(id);
        let expected = session.came + 1;
        session.came = number;
        let due = session.down.get(expected as usize - 1).copied();
        if number != expected || label != due {
            let text =
                format!("{id:016x}: packet {number} down is {label:?}, {expected} is {due:?}");
            self.fail("F2", "40.5", text);
        }
    }
}
