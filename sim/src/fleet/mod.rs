//! The engine for several edges at one backend (SPEC 40): edges that die, pause, wake and are replaced, links that end and whose bytes come
//! late, and clients of version 3 at each.
//!
//! All machines are the core's own. A ledger mirrors what each session was promised. What it knows of homes it has from the order in which
//! edges are told to the application, and from the processes that it started itself.

mod nodes;
mod roaming;
mod strangers;
mod users;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use voltlane_core::backend::BackendError;
use voltlane_core::backend::fleet::{Fleet, LinkId};
use voltlane_core::backend::host::{Event, GrantError, GroupId, HostConfig, Mark};
use voltlane_core::edge::ConnKey;
use voltlane_core::{ClientId, Time};

use crate::engine::host::time;
use crate::hash::TraceHash;
use crate::ledgered::{Outcome, kind};
use crate::model::Violation;
use crate::panics::panic_of;
use crate::payload::{self, Direction, Label};
use crate::rng::Rng;

use nodes::{Node, Wire};
use strangers::Strangers;
use users::User;

/// The rules of this engine.
pub const RULES: &[(&str, &str)] = &[
    (
        "F1",
        "a packet up comes to the application once, in order, whatever edge it is at",
    ),
    (
        "F2",
        "a packet down comes to its client once, in order, under its number",
    ),
    (
        "F3",
        "nothing is heard of an edge whose home another one has",
    ),
    (
        "F4",
        "a session is told before all else, and its end once and last",
    ),
    (
        "F5",
        "only what the application came back from is acknowledged to a client",
    ),
    ("F6", "a home goes to a greater term, and to no other"),
    (
        "F7",
        "at rest every client is served, and every displaced edge knows it",
    ),
    (
        "F8",
        "a client with a ticket is told that its session is gone only if it has ended at the backend, and never that it is at another edge",
    ),
    (
        "F9",
        "at rest the edge of a client has its session, as the backend says, and no other edge has a copy",
    ),
    (
        "F10",
        "a session goes on at no edge to which its client has not come, and one that was ended goes on nowhere",
    ),
];

/// Counts packets that reached an application.
pub const DELIVERED: &str = "packet delivered";

/// Rounds of faults, and those within which everything must come to rest.
const ROUNDS: u64 = 1_500;
const REST_ROUNDS: u64 = 20_000;
/// The group that the application makes.
const GROUP: GroupId = GroupId(7);

/// Runs the plan that a seed draws.
#[must_use]
pub fn run(seed: u64) -> Outcome {
    outcome_of(World::new(seed, false, false))
}

/// Like [`run`], and records what happened.
#[must_use]
pub fn run_traced(seed: u64) -> Outcome {
    outcome_of(World::new(seed, false, true))
}

/// Like [`run`], with clients that have tickets, and go from edge to edge (SPEC 44).
#[must_use]
pub fn run_roaming(seed: u64) -> Outcome {
    outcome_of(World::new(seed, true, false))
}

/// Like [`run_roaming`], and records what happened.
#[must_use]
pub fn run_roaming_traced(seed: u64) -> Outcome {
    outcome_of(World::new(seed, true, true))
}

fn outcome_of(mut world: World) -> Outcome {
    if let Some(text) = panic_of(|| world.run()) {
        world.fail("H1", "-", text);
    }
    let mut reach = std::mem::take(&mut world.reach);
    let delivered = world.sessions.values();
    reach.insert(
        DELIVERED,
        delivered.map(|session| session.heard + session.came).sum(),
    );
    Outcome {
        violation: world.violation.take(),
        hash: world.hash.value(),
        nanos: world.now,
        steps: world.steps,
        reach,
        notes: world.notes.unwrap_or_default(),
    }
}

/// What is owed to a session.
#[derive(Debug, Default)]
struct Session {
    /// The edge that has it, once one has told of it.
    node: usize,
    is_told: bool,
    has_ended: bool,
    /// The packets up that the application has, and that it came back from.
    heard: u64,
    taken: u64,
    /// The numbers of the packets down, by what their payloads have.
    down: Vec<u32>,
    /// Those that its client has.
    came: u64,
    is_member: bool,
    /// Whether the application has ended it.
    is_kicked: bool,
}

struct World {
    seed: u64,
    now: u64,
    rng: Rng,
    hash: TraceHash,
    steps: u64,
    notes: Option<Vec<String>>,
    reach: BTreeMap<&'static str, u64>,
    violation: Option<Violation>,
    fleet: Fleet,
    nodes: Vec<Node>,
    wires: Vec<Wire>,
    users: Vec<User>,
    /// Whether clients have tickets, and go from edge to edge.
    roams: bool,
    /// Connections that clients gave up, and whose edges do not know it.
    abandoned: Vec<(usize, ConnKey)>,
    strangers: Strangers,
    /// How often the application comes back from a packet, in percent of the rounds.
    comes_back: u64,
    sessions: BTreeMap<u64, Session>,
    /// The term and the edge that the application was told last, of each home.
    owners: BTreeMap<u16, (u32, usize)>,
    /// What the application is to come back from.
    lent: VecDeque<(Mark, Option<(u64, u64)>)>,
    terms: u32,
    sent_down: u32,
    chunk: u64,
    /// Whether faults are over.
    is_calm: bool,
}

impl World {
    fn new(seed: u64, roams: bool, traced: bool) -> World {
        let mut rng = Rng::fork(seed, "world of the fleet", 0);
        let config = HostConfig::default().asking([7; 16]);
        let homes = rng.between(2, 4) as u16;
        let mut world = World {
            seed,
            now: 1_000_000_000,
            hash: TraceHash::default(),
            steps: 0,
            notes: traced.then(Vec::new),
            reach: BTreeMap::new(),
            violation: None,
            fleet: Fleet::new(config.with_edges(4).expect("few")),
            nodes: Vec::new(),
            wires: Vec::new(),
            users: Vec::new(),
            roams,
            abandoned: Vec::new(),
            strangers: Strangers::default(),
            comes_back: match roams {
                true => Rng::fork(seed, "pace of the application", 0).pick(&[50, 50, 10, 3]),
                false => 50,
            },
            sessions: BTreeMap::new(),
            owners: BTreeMap::new(),
            lent: VecDeque::new(),
            terms: 10,
            sent_down: 0,
            chunk: rng.pick(&[40, 400, 70_000]),
            is_calm: false,
            rng,
        };
        for home in 1..=homes {
            world.start(home, 0);
            for _ in 0..world.rng.between(1, 2) {
                let node = world.nodes.len() - 1;
                let user = User::new(seed, world.users.len() as u64, 0, node, world.roams);
                world.users.push(user);
            }
        }
        world
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(notes) = &mut self.notes {
            notes.push(format!("{:>12} us  {}", self.now / 1_000, text()));
        }
    }

    fn reached(&mut self, what: &'static str) {
        *self.reach.entry(what).or_default() += 1;
    }

    fn fail(&mut self, id: &'static str, section: &'static str, text: String) {
        let at_nanos = self.now;
        self.note(|| format!("!! {id}: {text}"));
        self.violation.get_or_insert(Violation {
            id,
            section,
            at_nanos,
            text,
        });
    }

    fn time(&self) -> Time {
        time(self.now)
    }

    // ---- rounds

    fn run(&mut self) {
        for _ in 0..ROUNDS {
            self.operate();
            self.round();
            if self.violation.is_some() {
                return;
            }
        }
        self.calm();
        for round in 0..REST_ROUNDS {
            self.round();
            if self.violation.is_some() {
                return;
            }
            if round % 64 == 0 && self.unrest().is_none() {
                return self.agree();
            }
        }
        if let Some(text) = self.unrest() {
            self.fail("F7", "40.5", text);
        }
    }

    fn round(&mut self) {
        // What an edge that is gone for good has left behind waits for minutes (SPEC 44.7).
        let slow = if self.is_calm { 200_000_000 } else { 4_000_000 };
        self.now += 1 + self.rng.below(slow);
        let now = self.time();
        if self.fleet.poll_timeout().is_some_and(|at| at <= now) {
            self.fleet.handle_timeout(now);
        }
        for node in 0..self.nodes.len() {
            self.node_turn(node);
        }
        for user in 0..self.users.len() {
            self.user_turn(user);
        }
        for wire in 0..self.wires.len() {
            if self.is_calm || {
                let share = self.share(wire);
                self.rng.chance(share)
            } {
                self.host_reads(wire);
            }
            if self.is_calm || self.rng.chance(60) {
                self.host_writes(wire);
            }
        }
        self.hear_pending();
        while let Some((mark, packet)) = self.lent.front().copied()
            && (self.is_calm || self.rng.chance(self.comes_back))
        {
            self.lent.pop_front();
            if let Some((id, number)) = packet {
                self.session(id).taken = number;
            }
            self.fleet.taken_up(now, mark);
        }
    }

    /// Returns how often a stream is read, in percent of the rounds. One that is late is, for the most part, when the next one is there.
    fn share(&self, wire: usize) -> u64 {
        let state = &self.wires[wire];
        let next = self.nodes[state.node].wire;
        match state.is_late {
            false => 60,
            true if state.is_ended && next.is_some() => 15,
            true => 1,
        }
    }

    fn operate(&mut self) {
        self.change_pace();
        if self.roams {
            self.operate_strangers();
        }
        if !self.rng.chance(12) {
            return;
        }
        let node = self.rng.below(self.nodes.len() as u64) as usize;
        let user = self.rng.below(self.users.len() as u64) as usize;
        self.hash
            .add(self.now, kind::OP, node as u64, &[user as u8]);
        match self.rng.weighted(&[30, 30, 8, 5, 10, 6, 5, 3, 3, 2]) {
            0 => self.send_up(user),
            1 => self.send_down(user),
            2 => self.send_to_many(),
            3 => self.change_member(user),
            4 => self.cut(node),
            5 => self.nodes[node].is_paused ^= true,
            6 => self.replace(node),
            7 => self.die(node),
            8 => self.start_late(node),
            _ => self.give_up(node),
        }
    }

    /// Streams become late, and in time again; and those that are late end more often.
    fn change_pace(&mut self) {
        let node = self.rng.below(self.nodes.len() as u64) as usize;
        let Some(wire) = self.nodes[node].wire else {
            return;
        };
        let changes = self.rng.chance(3);
        let state = &mut self.wires[wire];
        state.is_late ^= changes;
        if state.is_late && self.rng.chance(4) {
            self.cut(node);
        }
    }

    // ---- the backend

    fn host_reads(&mut self, wire: usize) {
        let now = self.time();
        let most = self.chunk as usize;
        let state = &mut self.wires[wire];
        if !state.is_at_host {
            return;
        }
        let link = *state
            .link
            .get_or_insert_with(|| self.fleet.handle_connected(now));
        if self.fleet.wants_close(link) {
            // What has come is read once more.
            let bytes: Vec<u8> = state.up.drain(..).collect();
            if self.fleet.is_fenced(link) {
                self.reached("link fenced");
                self.feed(wire, link, &bytes);
            }
            return self.close_at_host(wire);
        }
        let count = state.up.len().min(most);
        if count == 0 {
            if state.is_ended {
                self.close_at_host(wire);
            }
            return;
        }
        let bytes: Vec<u8> = state.up.drain(..count).collect();
        self.steps += 1;
        self.hash.add(self.now, kind::LINK_UP, wire as u64, &bytes);
        self.feed(wire, link, &bytes);
    }

    fn feed(&mut self, wire: usize, link: LinkId, bytes: &[u8]) {
        let (now, node) = (self.time(), self.wires[wire].node);
        let mut input = bytes;
        loop {
            let heard = match self.fleet.handle_bytes(link, now, &mut input) {
                Ok(Some(event)) => Heard::of(&event),
                Ok(None) => return,
                Err(error) => {
                    self.note(|| format!("the link of edge {node} ends: {error}"));
                    match error {
                        BackendError::Refused(GrantError::HomeTaken) => self.reached("told so"),
                        BackendError::Refused(GrantError::HomeOfAnother { .. }) => {
                            self.reached("refused");
                        }
                        other => self.fail("F7", "40.4", other.to_string()),
                    }
                    return self.close_at_host(wire);
                }
            };
            self.hear(Some(node), heard);
            self.hear_pending();
            let mark = self.fleet.mark(link);
            if let Some((last, _)) = self.lent.back_mut().filter(|(last, _)| *last == Mark::NONE) {
                *last = mark;
            } else {
                self.lent.push_back((mark, None));
            }
        }
    }

    fn host_writes(&mut self, wire: usize) {
        let state = &mut self.wires[wire];
        let (Some(link), true) = (state.link, state.is_at_host) else {
            return;
        };
        let output = self.fleet.output(link);
        let count = output.len().min(self.chunk as usize);
        if count > 0 {
            state.down.extend(&output[..count]);
            self.fleet.handle_written(link, count);
        }
    }

    fn close_at_host(&mut self, wire: usize) {
        let state = &mut self.wires[wire];
        state.is_at_host = false;
        state.up.clear();
        if let Some(link) = state.link {
            self.fleet.handle_closed(link);
        }
        self.hear_pending();
    }

    fn hear_pending(&mut self) {
        while let Some((_, event)) = self.fleet.poll_event() {
            let heard = Heard::of(&event);
            self.hear(None, heard);
        }
    }

    fn hear(&mut self, node: Option<usize>, heard: Heard) {
        if !matches!(heard, Heard::Nothing) {
            self.note(|| format!("edge {node:?}: {heard:?}"));
        }
        let id = match heard {
            Heard::Connected { home, term, run } => return self.connected(home, term, run),
            Heard::Wrong(text) => return self.fail("F7", "40", text),
            Heard::Nothing => return,
            Heard::Joined(id) | Heard::Ended(id) | Heard::Packet(id, ..) | Heard::Other(id) => id,
            Heard::Resumed(id, run) => {
                if self.roams && self.session(id).is_told {
                    self.resumed(id, run);
                }
                id
            }
        };
        let owner = self.owners.get(&ClientId::from_u64(id).home()).copied();
        let owner = owner.map(|(_, node)| node);
        let is_known = |node: usize| match self.roams {
            true => self.has_home(node),
            false => owner == Some(node),
        };
        if let Some(node) = node
            && !is_known(node)
        {
            let text = format!("{id:016x}: heard of edge {node}, and {owner:?} has the home");
            return self.fail("F3", "40.4(e)", text);
        }
        if self.roams
            && let Some(node) = node
        {
            self.follow_own(id, node);
        }
        let session = self.session(id);
        if session.has_ended || (session.is_told == matches!(heard, Heard::Joined(_))) {
            let text = format!("{id:016x}: {heard:?} of {session:?}");
            return self.fail("F4", "40.5(a)", text);
        }
        if let Some(node) = node.filter(|node| session.is_told && session.node != *node) {
            let text = format!(
                "{id:016x}: heard of edge {node}, and {} has it",
                session.node
            );
            return self.fail("F3", "40.4(c)", text);
        }
        match heard {
            Heard::Joined(_) => {
                session.is_told = true;
                session.node = node.or(owner).unwrap_or_default();
            }
            Heard::Ended(_) => session.has_ended = true,
            Heard::Packet(_, number, label) => {
                let expected = session.heard + 1;
                session.heard = number;
                if number != expected || label.map(u64::from) != Some(expected - 1) {
                    let text =
                        format!("{id:016x}: packet {number} is {label:?}, {expected} is due");
                    return self.fail("F1", "40.5(a)", text);
                }
                self.lent.push_back((Mark::NONE, Some((id, number))));
            }
            _ => {}
        }
    }

    fn connected(&mut self, home: u16, term: u32, run: [u8; 8]) {
        let of_run = |node: &Node| node.edge.run() == run;
        let Some(node) = self.nodes.iter().position(of_run) else {
            return self.fail("F6", "40.4", format!("nobody has the run {run:x?}"));
        };
        let is_right = match self.owners.get(&home) {
            Some((before, owner)) => term > *before || (*owner == node && term == *before),
            None => true,
        };
        if !is_right || self.nodes[node].home != home {
            let before = self.owners.get(&home).copied();
            let text = format!("edge {node} of term {term} gets the home {home} of {before:?}");
            return self.fail("F6", "40.4(b)", text);
        }
        if self
            .owners
            .get(&home)
            .is_some_and(|(_, owner)| *owner != node)
        {
            self.reached("home taken");
        }
        self.owners.insert(home, (term, node));
        for user in &mut self.users {
            let is_of_home = |id| ClientId::from_u64(id).home() == home;
            let is_there = user.node == node || user.id.is_some_and(is_of_home);
            if is_there && !self.nodes[node].was_granted {
                user.early = user.sent;
            }
        }
        self.nodes[node].was_granted = true;
    }

    fn session(&mut self, id: u64) -> &mut Session {
        self.sessions.entry(id).or_default()
    }

    // ---- what the application sends

    fn data(&mut self) -> (u32, Vec<u8>) {
        let seq = self.sent_down;
        self.sent_down += 1;
        let label = Label {
            direction: Direction::Down,
            owner: 0,
            conn: 0,
            seq,
        };
        let length = self.rng.between(payload::HEADER_BYTES as u64, 90) as usize;
        (seq, payload::encode(label, length))
    }

    /// Returns the session of a client that the application has.
    fn told(&self, user: usize) -> Option<u64> {
        let id = self.users[user].id?;
        let session = self.sessions.get(&id)?;
        (session.is_told && !session.has_ended).then_some(id)
    }

    fn send_down(&mut self, user: usize) {
        let Some(id) = self.told(user) else { return };
        let (seq, data) = self.data();
        let number = self.fleet.send(ClientId::from_u64(id), &data);
        let session = self.session(id);
        session.down.push(seq);
        let expected = session.down.len() as u64;
        if number != Ok(expected) {
            let text = format!("{id:016x}: packet {expected} has the number {number:?}");
            self.fail("F2", "40.5(c)", text);
        }
    }

    fn send_to_many(&mut self) {
        let to = self.rng.chance(50).then_some(GROUP);
        let (seq, data) = self.data();
        let here = self.sessions.iter().filter(|(_, session)| {
            session.is_told && !session.has_ended && (to.is_none() || session.is_member)
        });
        let here: Vec<u64> = here.map(|(id, _)| *id).collect();
        let known = self.fleet.receivers(to);
        let known: Vec<u64> = known.iter().map(|id| id.as_u64()).collect();
        if known != here {
            let text = format!("{to:?} is {known:x?}, and {here:x?} are there");
            return self.fail("F4", "40.5(d)", text);
        }
        if self.fleet.send_to_many(to, &[], None, &data).is_ok() {
            self.reached("sent to many");
            for id in here {
                self.session(id).down.push(seq);
            }
        }
    }

    fn change_member(&mut self, user: usize) {
        let Some(id) = self.told(user) else { return };
        let session = self.session(id);
        session.is_member ^= true;
        let joins = session.is_member;
        let id = ClientId::from_u64(id);
        match joins {
            true => self.fleet.add(GROUP, id).expect("few groups"),
            false => self.fleet.remove(GROUP, id),
        }
    }

    fn give_up(&mut self, node: usize) {
        let home = self.nodes[node].home;
        if self.fleet.give_up(home) {
            self.reached("given up");
            if let Some((term, owner)) = self.owners.get(&home).copied() {
                if let Some(node) = self.nodes.get_mut(owner) {
                    node.is_given_up = true;
                }
                // Only a later one is taken.
                self.owners.insert(home, (term, usize::MAX));
            }
        }
        self.hear_pending();
    }

    // ---- rest

    /// Ends all faults. Each home has one edge that may serve it.
    fn calm(&mut self) {
        self.is_calm = true;
        if self.roams {
            // A client may come back more often than what it lacks goes over a slow link.
            self.chunk = 70_000;
        }
        for node in 0..self.nodes.len() {
            self.nodes[node].is_paused = false;
        }
        let homes: BTreeSet<u16> = self.nodes.iter().map(|node| node.home).collect();
        for home in homes {
            let newest = self.newest(home);
            if newest.is_none_or(|node| self.nodes[node].is_given_up) {
                self.start(home, 0);
            }
        }
        for user in 0..self.users.len() {
            self.follow(user);
        }
    }

    /// Returns what is not at rest.
    fn unrest(&mut self) -> Option<String> {
        for user in 0..self.users.len() {
            self.follow(user);
            let state = &self.users[user];
            let Some(session) = state.id.and_then(|id| self.sessions.get(&id)) else {
                return Some(format!("client {user} has no session"));
            };
            if self.roams && !state.is_there() {
                return Some(format!("client {user} is nowhere"));
            }
            let (heard, taken, came) = (session.heard, session.taken, session.came);
            let (sent, down) = (u64::from(state.sent), session.down.len() as u64);
            if !session.is_told || session.has_ended || (heard, taken, came) != (sent, sent, down) {
                return Some(format!(
                    "client {user}: {heard} of {sent} up, {taken} taken, {came} of {down} down, {session:?}"
                ));
            }
        }
        for (id, session) in &self.sessions {
            let owner = self.owners.get(&ClientId::from_u64(*id).home());
            let is_left = match self.roams {
                true => !self.has_home(session.node),
                false => owner.is_none_or(|(_, owner)| *owner != session.node),
            };
            if session.is_told && !session.has_ended && session.is_kicked {
                return Some(format!("{id:016x} was kicked and lives"));
            }
            if session.is_told && !session.has_ended && is_left {
                return Some(format!("{id:016x} was left behind and lives"));
            }
        }
        if self.roams && self.wires.iter().any(|wire| self.is_under_way(wire)) {
            return Some("something is under way".to_owned());
        }
        for (number, node) in self.nodes.iter().enumerate() {
            let owner = self.owners.get(&node.home).map(|(_, owner)| *owner);
            let gauges = node.edge.gauges();
            if !node.is_dead && owner != Some(number) && !gauges.link_is_displaced {
                return Some(format!("edge {number} does not know that it was displaced"));
            }
            if owner == Some(number) && !gauges.link_is_up {
                return Some(format!("edge {number} has no link"));
            }
        }
        None
    }

    /// All that is at rest must agree.
    fn agree(&mut self) {
        self.reached("rest");
        if self.fleet.fenced_frames() > 0 {
            self.reached("frame fenced");
        }
        let here = self
            .sessions
            .iter()
            .filter(|(_, one)| one.is_told && !one.has_ended);
        let here: Vec<u64> = here.map(|(id, _)| *id).collect();
        let known: Vec<u64> = self.fleet.sessions().iter().map(|id| id.as_u64()).collect();
        let mut served: Vec<u64> = self.users.iter().filter_map(|user| user.id).collect();
        served.sort_unstable();
        if known != here || served.iter().any(|id| !here.contains(id)) {
            let text = format!("known {known:x?}, told {here:x?}, served {served:x?}");
            return self.fail("F7", "40.5", text);
        }
        if self.roams {
            self.look_at_copies();
        }
    }
}

/// What an event says, without what it borrows.
#[derive(Debug)]
enum Heard {
    Connected {
        home: u16,
        term: u32,
        run: [u8; 8],
    },
    Joined(u64),
    /// With its number, and what its payload says.
    Packet(u64, u64, Option<u32>),
    Ended(u64),
    /// With the run of its edge.
    Resumed(u64, Option<[u8; 8]>),
    Other(u64),
    Nothing,
    Wrong(String),
}

impl Heard {
    fn of(event: &Event<'_>) -> Heard {
        match event {
            Event::Connected {
                edge: Some(edge), ..
            } => Heard::Connected {
                home: edge.home,
                term: edge.term,
                run: edge.run,
            },
            Event::Joined(joined) => Heard::Joined(joined.id.as_u64()),
            Event::Packet {
                id, data, number, ..
            } => {
                let label = payload::decode(data).ok();
                Heard::Packet(id.as_u64(), *number, label.map(|label| label.seq))
            }
            Event::Ended { id, .. } => Heard::Ended(id.as_u64()),
            Event::Resumed { id, edge, .. } => {
                Heard::Resumed(id.as_u64(), edge.map(|edge| edge.run))
            }
            Event::Away { id, .. } | Event::Gap { id, .. } => Heard::Other(id.as_u64()),
            Event::CaughtUp | Event::Link | Event::Stale { .. } | Event::Settled(_) => {
                Heard::Nothing
            }
            other => Heard::Wrong(format!("{other:?}")),
        }
    }
}
