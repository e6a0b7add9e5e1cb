//! Abuse next to ordinary clients, with memory bounds and fairness as invariants.
//!
//! The direct engine (`engine`) has a model that predicts every effect in small worlds. Here the world is crowded, and the invariants are
//! those of an operator, whatever strangers and greedy clients do and however slow the backend is:
//!
//! | rule | |
//! | --- | --- |
//! | B5 | after every call the machine holds less than 95 % of `max_memory_bytes` (SPEC 10.5(d)) |
//! | L5 | an ordinary client's packet waits no longer than one turn of all clients takes at the backend's pace (SPEC 10.4(c)) |
//! | F1 | among clients that send as much as they can, none gets more than twice what another gets, plus a turn (SPEC 10.4(c)) |
//! | L6 | a newcomer is admitted while a flood goes on (SPEC 10.6) |
//! | S9, S15 | ordinary clients lose nothing, and none of them is disconnected |
//!
//! A seed draws the clients and the backend's pace. Time is virtual, in steps of a millisecond.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use voltlane_core::Time;
use voltlane_core::edge::HasLink;
use voltlane_core::edge::testkit::Adapter;
use voltlane_core::edge::{Closed, ConnKey, Edge, EdgeConfig};

use crate::audited::AUDITS;
use crate::codec::{self, Frames, Hello, Tagged};
use crate::engine::identity::{edge_pair, identity};
use crate::model::Violation;
use crate::rng::Rng;

/// The bytes of one turn of a session (SPEC 10.4(c)), and of one read from a client.
const TURN_BYTES: u64 = 64 * 1024;
/// The bound on the link queue here, in bytes.
const LINK_BYTES: u64 = 128 * 1024;
/// How often an ordinary client sends a packet, in milliseconds, and its size.
const SAYS_EVERY: u64 = 10;
const SAYS_BYTES: usize = 40;
/// How often a newcomer arrives, in milliseconds, and how long it may take to be admitted.
const VISITS_EVERY: u64 = 400;
const VISIT_WITHIN: u64 = 1_000;
/// How long a handshake may take, in milliseconds.
const HANDSHAKE_MILLIS: u64 = 1_000;
/// The largest packet of a client, in bytes.
const LARGEST: u64 = 256 * 1024;

/// The clients of a run, and the memory limit.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The seed that this was drawn from.
    pub seed: u64,
    /// The length of the run in milliseconds.
    pub millis: u64,
    /// Bytes per millisecond that the backend takes. 0: it is stalled.
    pub backend_bytes: u64,
    /// `max_memory_bytes`.
    pub memory_bytes: u64,
    /// Clients that send little, and read.
    pub ordinary: usize,
    /// Clients that send as much as they can, by the size of their packets.
    pub hogs: Vec<u64>,
    /// Clients that announce a large packet and send half of it.
    pub halves: usize,
    /// Clients that are sent much and do not read.
    pub slow: usize,
    /// Empty packets per millisecond, from clients that send nothing else.
    pub tiny: u64,
    /// Connections per millisecond that send nothing.
    pub silent: u64,
    /// Whether the silent connections come from one address.
    pub from_one: bool,
    /// Connections per second that announce 4 GiB.
    pub huge: u64,
    /// Clients per second that join and leave.
    pub churn: u64,
}

impl Setup {
    /// Draws the setup of `seed`.
    #[must_use]
    pub fn draw(seed: u64) -> Setup {
        let rng = &mut Rng::fork(seed, "abuse", 0);
        let some = |rng: &mut Rng, most: u64| {
            if rng.chance(50) {
                rng.between(1, most)
            } else {
                0
            }
        };
        let hogs = some(rng, 6);
        // With many addresses the bound is the pace of all connections together (SPEC 10.6(a)). Newcomers share it, so it must not be
        // reached.
        let from_one = rng.chance(50);
        Setup {
            seed,
            millis: rng.between(1_500, 2_500),
            backend_bytes: rng.pick(&[0, 200, 2_000, 20_000, 2_000_000]),
            memory_bytes: rng.between(3, 8) << 20,
            ordinary: rng.between(2, 5) as usize,
            hogs: (0..hogs).map(|_| rng.log_between(64, 100_000)).collect(),
            halves: some(rng, 60) as usize,
            slow: some(rng, 8) as usize,
            tiny: some(rng, 2_000),
            silent: if from_one { some(rng, 8) } else { some(rng, 1) },
            from_one,
            huge: some(rng, 300),
            churn: some(rng, 300),
        }
    }

    /// Returns whether the clients' data may come close to the memory limit.
    fn presses_on_memory(&self) -> bool {
        let held = (self.halves as u64) * LARGEST / 2 + (self.slow as u64) * (2 << 20);
        held > self.memory_bytes / 2
    }

    fn config(&self) -> EdgeConfig {
        let mut config = EdgeConfig::default();
        config.limits.max_memory_bytes = self.memory_bytes as usize;
        config.limits.handshake_timeout = Duration::from_millis(HANDSHAKE_MILLIS);
        config.clients.stale_timeout = Duration::ZERO;
        config.clients.channel_bytes = 2 << 20;
        config.clients.max_frame_bytes = LARGEST as u32;
        config.master.channel_bytes = LINK_BYTES as usize;
        config
    }

    /// Returns the longest time that an ordinary client's packet may wait: the current queue plus a turn of all others, twice.
    fn patience_millis(&self) -> u64 {
        let largest = self.hogs.iter().copied().max().unwrap_or(0);
        let senders = (self.hogs.len() + self.ordinary) as u64 + u64::from(self.tiny > 0) + 1;
        let ahead = LINK_BYTES + largest + 2 * senders * (TURN_BYTES + largest);
        100 + ahead / self.backend_bytes.max(1)
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// The outcome of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The first rule broken, if one was.
    pub violation: Option<Violation>,
    /// How much happened, by name.
    pub reach: BTreeMap<&'static str, u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Ordinary,
    Hog { bytes: u64 },
    Half,
    Slow,
    Tiny,
    Visitor { since: u64 },
    Churn,
}

struct Member {
    role: Role,
    conn: ConnKey,
    id: Option<u64>,
    heard: Frames,
    /// Bytes that the machine has not read yet, as in the kernel's buffer.
    unread: Vec<u8>,
    /// The send times of the packets that the backend has not received yet.
    said: std::collections::VecDeque<u64>,
    /// Data packets that the backend received, and their bytes.
    got: u64,
    got_bytes: u64,
    /// Echoes that the client received.
    echoes: u64,
    closed: bool,
}

/// Runs the setup that `seed` draws.
#[must_use]
pub fn run(seed: u64) -> Outcome {
    let setup = Setup::draw(seed);
    let mut world = World::new(setup);
    let violation = world.run().err();
    let counters = world.edge.counters();
    world.reach.insert("memory over", counters.memory_over);
    world
        .reach
        .insert("rejected", counters.rejected.iter().sum());
    Outcome {
        violation,
        reach: world.reach,
    }
}

type Held<T> = Result<T, Violation>;

struct World {
    setup: Setup,
    edge: Edge,
    millis: u64,
    members: Vec<Member>,
    by_conn: BTreeMap<ConnKey, usize>,
    by_id: BTreeMap<u64, usize>,
    /// Connections that never send anything or are about to be closed.
    strangers: BTreeMap<ConnKey, ()>,
    backend: Frames,
    joined: usize,
    connections: u32,
    reach: BTreeMap<&'static str, u64>,
}

impl World {
    fn new(setup: Setup) -> World {
        let mut key = [7; 32];
        Rng::fork(setup.seed, "edge", 0).fill(&mut key);
        let mut edge = Edge::new(setup.config(), edge_pair().clone(), key);
        edge.link_up(Time::ZERO);
        World {
            setup,
            edge,
            millis: 0,
            members: Vec::new(),
            by_conn: BTreeMap::new(),
            by_id: BTreeMap::new(),
            strangers: BTreeMap::new(),
            backend: Frames::default(),
            joined: 0,
            connections: 0,
            reach: BTreeMap::new(),
        }
    }

    fn now(&self) -> Time {
        Time::from_millis(self.millis)
    }

    fn broken(&self, id: &'static str, section: &'static str, text: String) -> Violation {
        Violation {
            id,
            section,
            at_nanos: self.now().as_nanos(),
            text: format!("{text}; {}", self.setup),
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.reach.entry(what).or_default() += 1;
    }

    /// Checks B5 after every call.
    #[track_caller]
    fn check_memory(&self) -> Held<()> {
        let held = self.edge.gauges().held_bytes as u64;
        if held * 100 >= self.setup.memory_bytes * 95 {
            let line = std::panic::Location::caller().line();
            let text = format!(
                "{held} of {} bytes are held after the call of line {line}",
                self.setup.memory_bytes
            );
            return Err(self.broken("B5", "10.5(d)", text));
        }
        Ok(())
    }

    fn run(&mut self) -> Held<()> {
        for _ in 0..self.setup.ordinary {
            self.join(Role::Ordinary)?;
        }
        for bytes in self.setup.hogs.clone() {
            self.join(Role::Hog { bytes })?;
        }
        let crowd = [
            (Role::Half, self.setup.halves),
            (Role::Slow, self.setup.slow),
            (Role::Tiny, usize::from(self.setup.tiny > 0)),
        ];
        for (role, count) in crowd {
            for _ in 0..count {
                self.join(role)?;
            }
        }
        while self.millis < self.setup.millis {
            self.millis += 1;
            self.strangers_come()?;
            for index in 0..self.members.len() {
                self.act(index)?;
            }
            self.backend_writes()?;
            self.edge.handle_timeout(self.now());
            // It walks over everything: not after each step of a crowd.
            if AUDITS && self.millis.is_multiple_of(100) {
                self.edge.audit();
            }
            self.check_memory()?;
            self.serve_clients()?;
            self.backend_reads()?;
            self.check_patience()?;
            self.members
                .retain(|member| !(member.closed && member.role == Role::Churn));
            self.index();
        }
        self.check_shares()
    }

    /// Rebuilds the index of the members after some have left.
    fn index(&mut self) {
        self.by_conn = (0..)
            .zip(&self.members)
            .map(|(index, member)| (member.conn, index))
            .collect();
        self.by_id = (0..)
            .zip(&self.members)
            .filter_map(|(index, member)| Some((member.id?, index)))
            .collect();
    }

    /// Returns an address that was not used before, or the one of the flood.
    fn address(&mut self, of_flood: bool) -> IpAddr {
        self.connections += 1;
        let [_, a, b, c] = self.connections.to_be_bytes();
        match of_flood {
            true if self.setup.from_one => Ipv4Addr::new(203, 0, 113, 1).into(),
            true => Ipv4Addr::new(10, a, b, c).into(),
            false => Ipv4Addr::new(100, a, b, c).into(),
        }
    }

    /// Connects a client and completes its handshake. Returns true if it was admitted.
    fn join(&mut self, role: Role) -> Held<bool> {
        let address = self.address(role == Role::Churn);
        let accepted = self.edge.handle_accepted(self.now(), address);
        self.check_memory()?;
        let Ok(conn) = accepted else {
            return Ok(false);
        };
        let key = identity(self.joined % 64).public();
        self.joined += 1;
        let mut unread = Hello::Version(2).to_frame();
        unread.extend(Hello::PublicKey(key).to_frame());
        self.by_conn.insert(conn, self.members.len());
        self.members.push(Member {
            role,
            conn,
            id: None,
            heard: Frames::default(),
            unread,
            said: Default::default(),
            got: 0,
            got_bytes: 0,
            echoes: 0,
            closed: false,
        });
        self.hand_over(self.members.len() - 1)?;
        self.serve_clients()?;
        Ok(true)
    }

    /// Hands the machine as many of a member's bytes as it wants, once.
    fn hand_over(&mut self, index: usize) -> Held<()> {
        let now = self.now();
        let member = &mut self.members[index];
        let budget = self.edge.read_budget(member.conn).min(member.unread.len());
        if budget > 0 {
            let bytes: Vec<u8> = member.unread.drain(..budget).collect();
            self.edge.handle_client_bytes(now, member.conn, &bytes);
            self.check_memory()?;
        }
        Ok(())
    }

    fn act(&mut self, index: usize) -> Held<()> {
        let (millis, now) = (self.millis, self.now());
        let member = &mut self.members[index];
        if member.closed {
            return Ok(());
        }
        let says = |bytes: u64| codec::frame(&vec![0x5a; bytes as usize]);
        match member.role {
            _ if member.id.is_none() => {}
            Role::Ordinary if (millis + index as u64).is_multiple_of(SAYS_EVERY) => {
                member.said.push_back(millis);
                member.unread.extend(says(SAYS_BYTES as u64));
            }
            Role::Hog { bytes } => {
                while (member.unread.len() as u64) < TURN_BYTES {
                    member.unread.extend(says(bytes));
                }
            }
            Role::Tiny if (member.unread.len() as u64) < TURN_BYTES => {
                let frames = self.setup.tiny as usize;
                member
                    .unread
                    .extend(std::iter::repeat_n([0; codec::LENGTH_BYTES], frames).flatten());
            }
            Role::Half if member.got_bytes == 0 => {
                // Sent only once.
                member.got_bytes = 1;
                let mut half = says(LARGEST);
                half.truncate(half.len() / 2);
                member.unread.extend(half);
            }
            Role::Churn => {
                member.closed = true;
                let conn = member.conn;
                self.edge.handle_client_closed(now, conn, Closed::Eof);
                return self.check_memory();
            }
            _ => {}
        }
        self.hand_over(index)
    }

    fn strangers_come(&mut self) -> Held<()> {
        let (millis, now) = (self.millis, self.now());
        for _ in 0..self.setup.silent {
            let address = self.address(true);
            if let Ok(conn) = self.edge.handle_accepted(now, address) {
                self.strangers.insert(conn, ());
            }
            self.check_memory()?;
        }
        let due = |per_second: u64| millis * per_second / 1_000 > (millis - 1) * per_second / 1_000;
        if due(self.setup.huge) {
            let address = self.address(true);
            if let Ok(conn) = self.edge.handle_accepted(now, address) {
                self.strangers.insert(conn, ());
                self.edge.handle_client_bytes(now, conn, &[0xff; 32]);
            }
            self.check_memory()?;
        }
        if due(self.setup.churn) {
            self.join(Role::Churn)?;
        }
        if millis.is_multiple_of(VISITS_EVERY) && !self.setup.presses_on_memory() {
            // Tries again after a while, like a refused client.
            self.join(Role::Visitor { since: millis })?;
        }
        Ok(())
    }

    /// Takes all output of the machine for clients that read.
    fn serve_clients(&mut self) -> Held<()> {
        let now = self.now();
        while let Some(conn) = self.edge.poll_client() {
            if self.edge.close_if_asked(now, conn).is_some() {
                self.strangers.remove(&conn);
                if let Some(&index) = self.by_conn.get(&conn) {
                    self.members[index].closed = true;
                    self.closed(index)?;
                }
                continue;
            }
            let Some(&index) = self.by_conn.get(&conn) else {
                continue;
            };
            let reads = self.members[index].role != Role::Slow || self.members[index].id.is_none();
            if !reads {
                continue;
            }
            let output = self.edge.client_takes(now, conn, usize::MAX);
            if output.is_empty() {
                continue;
            }
            self.check_memory()?;
            self.hear(index, &output);
        }
        Ok(())
    }

    fn closed(&mut self, index: usize) -> Held<()> {
        match self.members[index].role {
            Role::Ordinary => {
                let text = format!("ordinary client {index} is cut off");
                Err(self.broken("S15", "10.5(d)", text))
            }
            Role::Half | Role::Slow => {
                self.count("greedy ended");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn hear(&mut self, index: usize, bytes: &[u8]) {
        let member = &mut self.members[index];
        member.heard.push(bytes);
        while let Ok(Some(body)) = member.heard.next_body(u32::MAX) {
            match Hello::read(&body) {
                Some(Hello::Id(id)) if member.id.is_none() => {
                    member.id = Some(id);
                    self.by_id.insert(id, index);
                }
                _ if member.id.is_some() => member.echoes += 1,
                _ => {}
            }
        }
    }

    /// Sends echoes as packets arrive, and keeps sending to clients that do not read.
    fn backend_writes(&mut self) -> Held<()> {
        let flood = vec![0; 16 * 1024];
        let mut bytes = Vec::new();
        for member in &self.members {
            if let (Role::Slow, Some(id), false) = (member.role, member.id, member.closed) {
                let packet = Tagged {
                    id,
                    flag: codec::DATA,
                    data: &flood,
                };
                bytes.extend(packet.to_frame());
            }
        }
        self.tell_edge(&bytes)
    }

    fn tell_edge(&mut self, bytes: &[u8]) -> Held<()> {
        for part in bytes.chunks(TURN_BYTES as usize) {
            self.edge.handle_link_bytes(self.now(), part);
            self.check_memory()?;
        }
        Ok(())
    }

    fn backend_reads(&mut self) -> Held<()> {
        let mut room = self.setup.backend_bytes;
        let mut echoes = Vec::new();
        while room > 0 {
            let output = self.edge.link_takes(self.now(), room as usize);
            if output.is_empty() {
                break;
            }
            room -= output.len() as u64;
            self.check_memory()?;
            self.backend.push(&output);
            while let Ok(Some(body)) = self.backend.next_body(u32::MAX) {
                let Some(packet) = Tagged::read(&body) else {
                    return Err(self.broken("S9", "7.1", "a body that is no packet".into()));
                };
                let Some(&index) = self.by_id.get(&packet.id) else {
                    continue;
                };
                let member = &mut self.members[index];
                if packet.flag != codec::DATA {
                    continue;
                }
                if member.role == Role::Ordinary {
                    let waited = member.said.pop_front();
                    if waited.is_none() || packet.data.len() != SAYS_BYTES {
                        let text = format!("client {index} did not say that");
                        return Err(self.broken("S9", "10.4(b)", text));
                    }
                    echoes.extend(packet.to_frame());
                }
                member.got += 1;
                member.got_bytes += (body.len() + codec::LENGTH_BYTES) as u64;
            }
        }
        self.tell_edge(&echoes)?;
        self.serve_clients()
    }

    /// Checks L5 and L6.
    fn check_patience(&mut self) -> Held<()> {
        let patience = self.setup.patience_millis();
        for (index, member) in self.members.iter().enumerate() {
            let oldest = member.said.front().copied().unwrap_or(self.millis);
            let waited = self.millis - oldest;
            if self.setup.backend_bytes > 0 && waited > patience {
                let text = format!(
                    "a packet of client {index} waits for {waited} ms, {patience} ms are the most"
                );
                return Err(self.broken("L5", "10.4(c)", text));
            }
            if let Role::Visitor { since } = member.role
                && member.id.is_none()
                && self.millis - since > VISIT_WITHIN
            {
                let text = format!("a newcomer is not let in, {VISIT_WITHIN} ms after it came");
                return Err(self.broken("L6", "10.6", text));
            }
        }
        let visits = self.millis / VISITS_EVERY;
        let visitors = self
            .members
            .iter()
            .filter(|member| matches!(member.role, Role::Visitor { .. }))
            .count() as u64;
        if !self.setup.presses_on_memory() && visitors < visits {
            let text = format!(
                "{} of {visits} newcomers were turned away",
                visits - visitors
            );
            return Err(self.broken("L6", "10.6", text));
        }
        Ok(())
    }

    /// Checks F1, and that ordinary clients received their echoes.
    fn check_shares(&mut self) -> Held<()> {
        let hogs = self.members.iter().filter_map(|member| match member.role {
            Role::Hog { bytes } if !member.closed => Some((member.got_bytes, bytes)),
            _ => None,
        });
        let hogs: Vec<_> = hogs.collect();
        let most = hogs.iter().map(|(got, _)| *got).max().unwrap_or(0);
        let least = hogs.iter().map(|(got, _)| *got).min().unwrap_or(0);
        let largest = hogs.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0);
        // A turn is 64 KiB of frames on the link. One read from a client may be a little more, and then takes two turns.
        let allowed = 2 * least + 4 * TURN_BYTES + 2 * largest;
        // If the backend takes everything, there is no pace to share.
        if self.setup.backend_bytes <= 20_000 && hogs.len() > 1 {
            self.count("shares compared");
            if most > allowed {
                let text = format!("one got {most} bytes through, another {least}");
                return Err(self.broken("F1", "10.4(c)", text));
            }
        }
        for (index, member) in self.members.iter().enumerate() {
            if member.role == Role::Ordinary && member.echoes != member.got {
                let text = format!(
                    "client {index} got {} of {} echoes",
                    member.echoes, member.got
                );
                return Err(self.broken("S10", "10.2", text));
            }
        }
        Ok(())
    }
}
