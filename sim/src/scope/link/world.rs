//! One state of a scope: both machines, the clients, the application, and what is under way between them.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use foldhash::quality::FixedState;
use voltlane_core::ClientId;
use voltlane_core::backend::host::{Event, GroupId, Host, HostConfig, Mark};
use voltlane_core::edge::testkit::Adapter as _;
use voltlane_core::edge::{
    Closed, ConnKey, Edge, EdgeConfig, Enforce, HasLink as _, LinkProtocol, Snapshot,
};
use voltlane_core::protocol::OfferedVersions;

use super::{Bounds, Lapse, REACHED, Step};
use crate::codec::frame;
use crate::engine::host::time;
use crate::engine::identity::edge_pair;
use crate::engine::peer::{Outcome, Peer, Role};
use crate::plan::Join;
use crate::rng::Rng;

/// The group that all sessions are members of.
const GROUP: GroupId = GroupId(5);
/// Time after which each acknowledgement is due that waits for others.
const TICK: u64 = 20_000_000;
/// Rounds of a probe: more than any chain of answers has.
const ROUNDS: u32 = 6;

/// What is under way between the two ends.
#[derive(Clone, Default, Hash)]
struct Link {
    up: Vec<u8>,
    down: Vec<u8>,
    /// Whether the bytes end within a frame.
    is_cut: bool,
}

#[derive(Clone)]
struct Client {
    peer: Option<Peer>,
    conn: Option<ConnKey>,
    id: Option<u64>,
    sent: u8,
    got: u8,
}

/// What the application knows of a session, all lives together but for what says otherwise.
#[derive(Clone, Debug, Default, Hash)]
struct Known {
    client: usize,
    /// Packets up that it was given in this life, with those that it had saved, and those that it has saved.
    heard: u64,
    saved: u64,
    /// Packets down: it has saved all of them.
    rows: u8,
    /// Whether it was told of it in this life, and whether of its end. Whether it has saved that it has ended.
    is_told: bool,
    is_ended: bool,
    is_over: bool,
}

/// What it saves when it comes back: of which session, the number of a packet, or that it has ended.
type Saves = (u64, Option<u64>);

struct Machine(Edge);

impl Clone for Machine {
    fn clone(&self) -> Machine {
        Machine(self.0.fork())
    }
}

#[derive(Clone)]
pub(super) struct World {
    now: u64,
    edge: Machine,
    host: Host,
    link: Option<Link>,
    clients: Vec<Client>,
    known: BTreeMap<u64, Known>,
    /// What the application was given and has not come back from, by the frames that it came with.
    given: Vec<(Mark, Option<Saves>)>,
    lives: u8,
    processes: u32,
    left: Bounds,
    lapse: Option<Lapse>,
    pub(super) wrong: Option<String>,
    pub(super) reached: [bool; REACHED.len()],
}

fn config() -> EdgeConfig {
    let mut config = EdgeConfig::default();
    config.listener.versions = OfferedVersions::new(&[2]).expect("it is known");
    config.limits.accept_rate = 0;
    // Copies of a machine share the table of sources, so its counts would mix states.
    config.limits.enforce_sources = Enforce::Off;
    config.limits.enforce_accepts = Enforce::Off;
    config.clients.pace.frames = 0;
    config.clients.stale_timeout = Duration::from_secs(3_600);
    config.clients.write_timeout = Duration::from_secs(3_600);
    config.master.protocol = LinkProtocol::V3;
    config
}

fn edge(process: u32) -> Edge {
    let mut seed = [0; 32];
    Rng::fork(7, "edge of a scope", process.into()).fill(&mut seed);
    let mut edge = Edge::new(config(), edge_pair().clone(), seed);
    edge.set_term(process);
    edge
}

fn host(life: u8) -> Host {
    Host::new(HostConfig::default().asking([life; 16]))
}

/// A packet that says where it belongs.
fn packet(is_up: bool, client: usize, number: u64) -> [u8; 3] {
    [u8::from(is_up), client as u8, number as u8]
}

impl World {
    pub(super) fn new(bounds: Bounds, lapse: Option<Lapse>) -> World {
        let client = Client {
            peer: None,
            conn: None,
            id: None,
            sent: 0,
            got: 0,
        };
        let mut world = World {
            now: 1_000_000_000,
            edge: Machine(edge(1)),
            host: host(1),
            link: None,
            clients: vec![client; bounds.clients],
            known: BTreeMap::new(),
            given: Vec::new(),
            lives: 1,
            processes: 1,
            left: bounds,
            lapse,
            wrong: None,
            reached: [false; REACHED.len()],
        };
        if bounds.is_begun {
            (0..bounds.clients).for_each(|client| world.join(client));
            world.come_to_rest();
        }
        world
    }

    fn fail(&mut self, text: impl FnOnce() -> String) {
        self.wrong.get_or_insert_with(text);
    }

    fn is_live(&self, client: usize) -> bool {
        let id = self.clients[client].id.map(ClientId::from_u64);
        id.is_some_and(|id| self.edge.0.inspect(id).is_some())
    }

    /// Returns the session of a client that the application may send to.
    fn open_session(&self, client: usize) -> Option<u64> {
        let id = self.clients[client].id?;
        let known = self.known.get(&id)?;
        (known.is_told && !known.is_ended).then_some(id)
    }

    pub(super) fn steps(&self, steps: &mut Vec<Step>) {
        if self.wrong.is_some() {
            return;
        }
        let left = &self.left;
        for (number, client) in self.clients.iter().enumerate() {
            if client.id.is_none() {
                // One after the other: they are alike.
                steps.extend(
                    (number == 0 || self.clients[number - 1].id.is_some())
                        .then_some(Step::Join(number)),
                );
                continue;
            }
            if self.open_session(number).is_some() {
                steps.extend((left.down > 0).then_some(Step::Down(number)));
                steps.extend((left.kicks > 0).then_some(Step::Kick(number)));
            }
            if !self.is_live(number) {
                continue;
            }
            if client.conn.is_some() {
                steps.extend((left.up > 0).then_some(Step::Up(number)));
                steps.extend((left.drops > 0).then_some(Step::Drop(number)));
            } else {
                steps.push(Step::Resume(number));
            }
        }
        let has_members = !self.host.receivers(Some(GROUP)).is_empty();
        steps.extend((left.many > 0 && has_members).then_some(Step::Many));
        steps.extend((!self.given.is_empty()).then_some(Step::Taken));
        steps.extend((left.boots > 0).then_some(Step::Boot));
        steps.extend((left.restarts > 0).then_some(Step::Restart));
        steps.extend((left.deaths > 0).then_some(Step::Death));
        let Some(link) = &self.link else {
            return steps.push(Step::Dial);
        };
        let waits: usize = self
            .edge
            .0
            .link_output()
            .iter()
            .map(|part| part.len())
            .sum();
        steps.extend((waits > 0).then_some(Step::EdgeWrites));
        steps.extend((waits > 1 && left.parts > 0).then_some(Step::EdgeWritesPart));
        steps.extend((!link.down.is_empty()).then_some(Step::EdgeReads));
        steps.extend((!self.host.output().is_empty()).then_some(Step::HostWrites));
        steps.extend((!link.up.is_empty()).then_some(Step::HostReads));
        steps.extend((left.cuts > 0).then_some(Step::Cut));
        steps.extend((left.ticks > 0 && self.is_tick_due()).then_some(Step::Tick));
    }

    /// Returns whether something is due within a tick.
    fn is_tick_due(&self) -> bool {
        let by = time(self.now + TICK);
        let edge = self.edge.0.poll_timeout().map(|due| due.at);
        let host = self.host.poll_timeout();
        edge.into_iter().chain(host).any(|at| at <= by)
    }

    pub(super) fn take(&mut self, step: Step) {
        match step {
            Step::Join(client) => self.join(client),
            Step::Up(client) => {
                self.left.up -= 1;
                self.up(client);
            }
            Step::Down(client) => {
                self.left.down -= 1;
                if let Some(id) = self.open_session(client) {
                    self.down(id);
                }
            }
            Step::Many => {
                self.left.many -= 1;
                self.many();
            }
            Step::Drop(client) => {
                self.left.drops -= 1;
                self.drop_conn(client, Closed::Eof);
            }
            Step::Resume(client) => self.resume(client),
            Step::Kick(client) => {
                self.left.kicks -= 1;
                if let Some(id) = self.open_session(client) {
                    let kicked = self.host.kick(ClientId::from_u64(id), 600, "out");
                    kicked.expect("the code is allowed");
                }
            }
            Step::EdgeWrites => self.edge_writes(usize::MAX),
            Step::EdgeWritesPart => {
                self.left.parts -= 1;
                let waits: usize = self
                    .edge
                    .0
                    .link_output()
                    .iter()
                    .map(|part| part.len())
                    .sum();
                self.edge_writes(waits / 2);
            }
            Step::EdgeReads => self.edge_reads(),
            Step::HostWrites => self.host_writes(),
            Step::HostReads => self.host_reads(),
            Step::Taken => self.taken(),
            Step::Tick => {
                self.left.ticks -= 1;
                self.tick();
            }
            Step::Cut => {
                self.left.cuts -= 1;
                self.cut();
            }
            Step::Dial => self.dial(),
            Step::Boot => {
                self.left.boots -= 1;
                self.boot();
            }
            Step::Restart => {
                self.left.restarts -= 1;
                self.restart();
            }
            Step::Death => {
                self.left.deaths -= 1;
                self.die();
            }
        }
    }

    // ---- clients, whose transports take and bring everything at once

    fn join(&mut self, client: usize) {
        let number = client + 1;
        self.connect(client, Role::Join(Join::Normal), number, 0);
    }

    fn resume(&mut self, client: usize) {
        let id = self.clients[client].id.unwrap_or_default();
        self.connect(client, Role::Resume, client + 1, id);
    }

    fn connect(&mut self, client: usize, role: Role, number: usize, id: u64) {
        let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, client as u8));
        let key = self.edge.0.handle_accepted(time(self.now), address);
        let rng = Rng::fork(7, "peer of a scope", client as u64);
        let mut peer = Peer::new(role, client, number, id, rng);
        peer.start();
        self.clients[client].peer = Some(peer);
        self.clients[client].conn = Some(key.expect("there is room"));
        self.settle();
    }

    fn drop_conn(&mut self, client: usize, cause: Closed) {
        let state = &mut self.clients[client];
        state.peer = None;
        if let Some(key) = state.conn.take() {
            self.edge.0.handle_client_closed(time(self.now), key, cause);
        }
        self.settle();
    }

    fn up(&mut self, client: usize) {
        let state = &mut self.clients[client];
        state.sent += 1;
        let bytes = frame(&packet(true, client, state.sent.into()));
        if let Some(peer) = &mut state.peer {
            peer.send(&bytes);
        }
        self.settle();
    }

    /// Moves everything between the edge and its clients.
    fn settle(&mut self) {
        let now = time(self.now);
        let mut moved = true;
        while moved && self.wrong.is_none() {
            moved = false;
            self.edge.0.skip_listed();
            for client in 0..self.clients.len() {
                let Client {
                    peer: Some(peer),
                    conn: Some(key),
                    ..
                } = &mut self.clients[client]
                else {
                    continue;
                };
                let key = *key;
                let said: Vec<u8> = peer.outbox.drain(..).collect();
                if !said.is_empty() {
                    self.edge.0.handle_client_bytes(now, key, &said);
                    moved = true;
                }
                let bytes = self.edge.0.client_takes(now, key, usize::MAX);
                moved |= !bytes.is_empty();
                for outcome in peer.take(&bytes) {
                    match outcome {
                        Outcome::Joined(id) => self.clients[client].id = Some(id),
                        Outcome::Packet(data) => self.got(client, &data),
                        Outcome::Nonsense(text) => self.fail(|| text),
                        _ => {}
                    }
                }
                if self.edge.0.close_if_asked(now, key).is_some() {
                    self.clients[client].conn = None;
                    self.clients[client].peer = None;
                    moved = true;
                }
            }
        }
    }

    fn got(&mut self, client: usize, data: &[u8]) {
        let state = &mut self.clients[client];
        state.got += 1;
        let expected = packet(false, client, u64::from(state.got));
        if data != expected {
            self.fail(|| format!("client {client} got {data:?}, and {expected:?} was next"));
        }
    }

    // ---- the application

    fn down(&mut self, id: u64) {
        if let Some(known) = self.known.get_mut(&id) {
            known.rows += 1;
            let (client, row) = (known.client, known.rows);
            self.send_row(id, client, row);
        }
    }

    fn send_row(&mut self, id: u64, client: usize, row: u8) {
        let data = packet(false, client, row.into());
        let sent = self.host.send(ClientId::from_u64(id), &data);
        // 0: it has ended, which the application has not heard yet.
        if !matches!(sent, Ok(number) if number == u64::from(row) || number == 0) {
            self.fail(|| format!("row {row} of {id:x} has the number {sent:?}"));
        }
    }

    fn many(&mut self) {
        // Numbers of members differ, so the packet is each member's next only where there is one member.
        let ids = self.host.receivers(Some(GROUP));
        let [id] = ids[..] else { return };
        if let Some(known) = self.known.get_mut(&id.as_u64()) {
            known.rows += 1;
            let data = packet(false, known.client, known.rows.into());
            let sent = self.host.send_to_many(Some(GROUP), &[], None, &data);
            sent.expect("there is room");
            self.reached[5] = true;
        }
    }

    fn hear(&mut self, heard: Heard) {
        let given = match heard {
            Heard::Joined(id, numbered_down) => {
                self.hear_joined(id, numbered_down);
                None
            }
            Heard::Packet(id, number, data) => {
                let known = self.known.entry(id).or_default();
                let is_next = number == known.heard + 1;
                let is_right = data == packet(true, known.client, number);
                // One of which it has saved the end may come again.
                let is_due = known.is_told && !known.is_ended && is_next && is_right;
                if !(known.is_over || is_due) {
                    let text = format!("packet {number} of {id:x}: {data:?}, and {known:?}");
                    return self.fail(|| text);
                }
                known.heard = number.max(known.heard);
                Some((id, Some(number)))
            }
            Heard::Ended(id) => {
                let known = self.known.entry(id).or_default();
                if std::mem::replace(&mut known.is_ended, true) {
                    return self.fail(|| format!("{id:x} ends twice"));
                }
                self.reached[4] = true;
                Some((id, None))
            }
            Heard::Wrong(text) => return self.fail(|| text),
            Heard::Other => None,
        };
        let mark = self.host.mark();
        if self.lapse == Some(Lapse::AcknowledgesUnsaved) {
            self.host.taken_up(time(self.now), mark);
        }
        self.given.push((mark, given));
    }

    /// Tells the application of a session: it sends what the edge lacks, and makes it a member.
    fn hear_joined(&mut self, id: u64, numbered_down: u64) {
        let number = self.clients.iter().position(|one| one.id == Some(id));
        let Some(client) = number else {
            return self.fail(|| format!("{id:x} is nobody"));
        };
        let known = self.known.entry(id).or_default();
        known.client = client;
        if known.is_ended || known.is_told {
            return self.fail(|| format!("{id:x} is told again"));
        }
        known.is_told = true;
        let rows = known.rows;
        self.reached[3] |= self.lives > 1;
        if numbered_down > u64::from(rows) {
            return self.fail(|| format!("{id:x} has {numbered_down} of {rows} rows"));
        }
        for row in 1..=rows {
            if u64::from(row) > numbered_down {
                self.send_row(id, client, row);
            }
        }
        if self.lapse != Some(Lapse::ForgetsMembers) || self.lives == 1 {
            let added = self.host.add(GROUP, ClientId::from_u64(id));
            added.expect("there is one group");
        }
    }

    fn taken(&mut self) {
        for (mark, what) in std::mem::take(&mut self.given) {
            if let Some((id, packet)) = what
                && let Some(known) = self.known.get_mut(&id)
            {
                match packet {
                    Some(number) => known.saved = known.saved.max(number),
                    None => known.is_over = true,
                }
            }
            self.host.taken_up(time(self.now), mark);
        }
    }

    // ---- the link

    fn dial(&mut self) {
        self.edge.0.link_up(time(self.now));
        self.host.handle_connected(time(self.now));
        self.link = Some(Link::default());
        self.settle();
    }

    fn edge_writes(&mut self, most: usize) {
        let bytes = self.edge.0.link_takes(time(self.now), most);
        if let Some(link) = &mut self.link {
            link.up.extend(bytes);
            link.is_cut |= most != usize::MAX;
        }
        self.settle();
    }

    fn edge_reads(&mut self) {
        if let Some(link) = &mut self.link {
            let bytes = std::mem::take(&mut link.down);
            self.edge.0.handle_link_bytes(time(self.now), &bytes);
        }
        self.settle();
        if self.edge.0.link_wants_close() {
            self.cut();
        }
    }

    fn host_writes(&mut self) {
        let bytes = self.host.output().to_vec();
        self.host.handle_written(bytes.len());
        if let Some(link) = &mut self.link {
            link.down.extend(bytes);
        }
    }

    fn host_reads(&mut self) {
        let Some(link) = &mut self.link else { return };
        let bytes = std::mem::take(&mut link.up);
        let mut input = &bytes[..];
        loop {
            let event = match self.host.handle_bytes(time(self.now), &mut input) {
                Ok(Some(event)) => Heard::of(&event),
                Ok(None) => break,
                Err(error) => {
                    self.fail(|| format!("the backend ends the link: {error}"));
                    return self.cut();
                }
            };
            if self.host.pending_precedes() {
                self.hear_pending();
            }
            self.hear(event);
            self.hear_pending();
        }
        self.hear_pending();
    }

    fn hear_pending(&mut self) {
        while let Some(event) = self.host.poll_event() {
            self.hear(Heard::of(&event));
        }
    }

    fn tick(&mut self) {
        self.now += TICK;
        self.edge.0.handle_timeout(time(self.now));
        self.host.handle_timeout(time(self.now));
        self.settle();
        if self.edge.0.link_wants_close() || self.host.wants_close() {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let Some(link) = self.link.take() else { return };
        self.reached[0] |= !link.up.is_empty();
        self.reached[1] |= !link.down.is_empty();
        self.reached[2] |= link.is_cut;
        self.edge
            .0
            .handle_link_closed(time(self.now), Closed::Error);
        self.host.handle_closed();
        self.hear_pending();
        self.settle();
    }

    fn boot(&mut self) {
        self.cut();
        self.lives += 1;
        self.host = host(self.lives);
        self.given.clear();
        for (id, known) in &mut self.known {
            known.heard = known.saved;
            (known.is_told, known.is_ended) = (false, false);
            if !known.is_over && self.lapse != Some(Lapse::RestoresNothing) {
                self.host.restore(ClientId::from_u64(*id), known.saved);
            }
        }
    }

    fn restart(&mut self) {
        let now = time(self.now);
        self.edge.0.keep_sessions();
        for client in 0..self.clients.len() {
            self.drop_conn(client, Closed::Error);
        }
        self.cut();
        self.processes += 1;
        let (run, part) = (self.edge.0.run(), self.edge.0.save(now));
        let name = [self.processes as u8; 32];
        let sealed = Snapshot::seal((run, &[part]), edge_pair(), 0, name).expect("it is short");
        let snapshot = Snapshot::open(sealed, edge_pair()).expect("it was just made");
        self.edge = Machine(edge(self.processes));
        self.edge.0.restore(now, &snapshot);
        self.settle();
    }

    fn die(&mut self) {
        for state in &mut self.clients {
            (state.peer, state.conn) = (None, None);
        }
        self.cut();
        self.processes += 1;
        self.edge = Machine(edge(self.processes));
    }

    // ---- the probe

    /// Lets everything come to rest without a further fault, and checks that nothing lacks then.
    pub(super) fn rest(mut self) -> Result<(), String> {
        if self.wrong.is_some() {
            return Ok(());
        }
        self.come_to_rest();
        match self.wrong.take() {
            Some(wrong) => Err(wrong),
            None => self.is_complete(),
        }
    }

    fn come_to_rest(&mut self) {
        for _ in 0..ROUNDS {
            if self.link.is_none() {
                self.dial();
            }
            for client in 0..self.clients.len() {
                if self.clients[client].conn.is_none() && self.is_live(client) {
                    self.resume(client);
                }
            }
            while self.wrong.is_none() && self.link.is_some() && self.moves() {}
            self.taken();
            self.tick();
        }
    }

    /// Moves everything over the link once. Returns whether there was something.
    fn moves(&mut self) -> bool {
        let edge: usize = self
            .edge
            .0
            .link_output()
            .iter()
            .map(|part| part.len())
            .sum();
        let has_output = edge > 0 || !self.host.output().is_empty();
        self.edge_writes(usize::MAX);
        self.host_writes();
        let Some(link) = &self.link else { return false };
        let has_some = has_output || !link.up.is_empty() || !link.down.is_empty();
        self.host_reads();
        self.edge_reads();
        has_some
    }

    fn is_complete(&self) -> Result<(), String> {
        let mut live = Vec::new();
        for (number, client) in self.clients.iter().enumerate() {
            let Some(id) = client.id else { continue };
            let known = self.known.get(&id).cloned().unwrap_or_default();
            let place = self.host.note(ClientId::from_u64(id));
            if !self.is_live(number) {
                let is_told = !known.is_told || known.is_ended || known.is_over;
                if !is_told || place.is_some() {
                    return Err(format!("the end of client {number} is not told: {known:?}"));
                }
                continue;
            }
            live.push(ClientId::from_u64(id));
            let is_here = client.conn.is_some();
            if place.map(|(_, is_here)| is_here) != Some(is_here) || !known.is_told {
                return Err(format!(
                    "client {number} is {is_here}, and {place:?}: {known:?}"
                ));
            }
            if known.saved != u64::from(client.sent) || known.rows != client.got {
                let (sent, got) = (client.sent, client.got);
                return Err(format!(
                    "client {number} has sent {sent} and got {got}: {known:?}"
                ));
            }
        }
        live.sort_unstable();
        let members = self.host.receivers(Some(GROUP));
        let groups = self.edge.0.groups();
        let of_edge = groups.iter().find(|(group, _)| *group == GROUP.0);
        let of_edge = of_edge.map_or(&[][..], |(_, ids)| ids);
        if self.host.sessions() != live || members != live || of_edge != live {
            return Err(format!(
                "{live:?} are there, {members:?} members, {groups:?}"
            ));
        }
        let waits = (self.edge.0.gauges().link_packets, self.host.output().len());
        match waits {
            (0, 0) => Ok(()),
            _ => Err(format!("{waits:?} frames and bytes wait at rest")),
        }
    }

    /// Returns the fingerprint of everything that matters for the future. What the backend keeps follows from what it was told to send.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = FixedState::with_seed(7).build_hasher();
        self.edge.0.likeness().hash(&mut hasher);
        format!("{:?}", self.host).hash(&mut hasher);
        self.host.output().hash(&mut hasher);
        self.link.hash(&mut hasher);
        for client in &self.clients {
            let stage = client.peer.as_ref().map(|peer| peer.stage);
            (client.id, client.sent, client.got, stage).hash(&mut hasher);
            client.conn.is_some().hash(&mut hasher);
        }
        self.known.hash(&mut hasher);
        format!("{:?}", self.given).hash(&mut hasher);
        (self.now, self.left, self.wrong.is_some()).hash(&mut hasher);
        hasher.finish()
    }
}

/// An event, without what it borrows.
enum Heard {
    /// A session, and the packets to it that its edge has numbered.
    Joined(u64, u64),
    /// A packet up and its number.
    Packet(u64, u64, Vec<u8>),
    Ended(u64),
    Wrong(String),
    Other,
}

impl Heard {
    fn of(event: &Event<'_>) -> Heard {
        match event {
            Event::Joined(joined) => Heard::Joined(joined.id.as_u64(), joined.numbered_down),
            Event::Packet {
                id, number, data, ..
            } => Heard::Packet(id.as_u64(), *number, data.to_vec()),
            Event::Ended { id, .. } => Heard::Ended(id.as_u64()),
            Event::Malformed(_) | Event::Fault(_) | Event::Refused { .. } | Event::Gap { .. } => {
                Heard::Wrong(format!("{event:?}"))
            }
            _ => Heard::Other,
        }
    }
}
