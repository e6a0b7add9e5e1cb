//! One state of a scope: the machine itself, its model and its clients, with nothing in between.
//!
//! Transports are places, not pipes: a side's output waits with it until a step hands it over, in whole or in part. So every order in which
//! reads, writes, ends and deadlines can occur is a path of steps.

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use siphasher::sip::SipHasher13;
use voltlane_core::edge::HasLink;
use voltlane_core::edge::testkit::Adapter;
use voltlane_core::edge::{Closed, EdgeConfig, Enforce};

use super::{Bounds, Step, Who};
use crate::codec::{self, Tagged, frame};
use crate::engine::host::{Host, config, time};
use crate::engine::identity::{STRANGER, edge_pair, identity};
use crate::engine::peer::{Outcome, Peer, Role, Stage};
use crate::model::{Ended, Model, View, Violation};
use crate::payload::{self, Direction, Label};
use crate::plan::{Join, Options};
use crate::rng::Rng;

/// Data bytes of a packet: a whole label and a little more.
const BYTES: usize = 20;
/// The seed of the edge under test.
const SEED: u64 = 7;

/// A connection's two ends.
#[derive(Clone)]
struct Conn {
    peer: Peer,
    /// Whether both ends have it.
    open: bool,
    /// Whether the adapter knows that there is something to write or to close.
    told: bool,
    /// The lengths of its output after the last call of the edge.
    shown: [usize; 2],
    /// Whether the edge wants it closed, and how: `Some(true)` abruptly.
    closes: Option<bool>,
}

/// A client across its connections.
#[derive(Clone, Default)]
struct Client {
    identity: usize,
    sid: Option<u64>,
    conn: Option<u32>,
    sent: u32,
    sent_down: u32,
}

/// The machine, the model, the clients, and the remaining bounds.
#[derive(Clone)]
pub(super) struct Scene {
    now: u64,
    host: Host,
    model: Model,
    conns: Vec<Conn>,
    clients: Vec<Client>,
    next_identity: usize,
    left: Bounds,
}

impl Scene {
    pub(super) fn new(bounds: Bounds) -> Scene {
        let options = Options {
            handshake_timeout_ms: 1_500,
            stale_timeout_ms: 2_000,
            reap_interval_ms: 1_000,
            write_timeout_ms: 1_000,
            missed_packets: 2,
            client_queue_packets: bounds.client_queue_packets,
            link_queue_packets: bounds.link_queue_packets,
            max_stale_clients: bounds.max_stale_clients,
            ..Options::default()
        };
        let mut edge: EdgeConfig = config(&options);
        edge.master.reconnect_min = Duration::ZERO;
        edge.master.reconnect_max = Duration::ZERO;
        // Clones of a machine share the table of sources, so its counts would mix states.
        edge.limits.enforce_sources = Enforce::Off;
        edge.limits.enforce_accepts = Enforce::Off;
        let mut scene = Scene {
            now: 1_000_000_000,
            host: Host::with(edge, SEED),
            model: Model::new(&options, edge_pair().public().as_bytes()),
            conns: Vec::new(),
            clients: vec![Client::default(); bounds.clients],
            next_identity: 0,
            left: bounds,
        };
        scene.link_up();
        scene
    }

    pub(super) fn violation(&self) -> Option<&Violation> {
        self.model.violation()
    }

    pub(super) fn model(&self) -> &Model {
        &self.model
    }

    /// Lists every step that is possible from here.
    pub(super) fn steps(&self, steps: &mut Vec<Step>) {
        if self.violation().is_some() {
            return;
        }
        if self.left.connections > 0 {
            for client in 0..self.clients.len() {
                let state = &self.clients[client];
                match state.sid {
                    // A client opens one connection at a time until it knows its id.
                    None if state.conn.is_none() => {
                        steps.push(Step::Connect(client, Who::Newcomer))
                    }
                    None => {}
                    Some(_) => {
                        let roles = self.left.roles.iter();
                        steps.extend(roles.map(|who| Step::Connect(client, *who)));
                    }
                }
            }
        }
        for (conn, state) in (0..).zip(&self.conns).filter(|(_, state)| state.open) {
            self.steps_of_conn(conn, state, steps);
        }
        for (client, state) in self.clients.iter().enumerate() {
            self.steps_of_client(client, state, steps);
        }
        let waiting = self.link_waiting();
        if !self.link_is_up() {
            steps.push(Step::LinkUp);
        } else if self.host.link_wants_close() {
            steps.push(Step::LinkLost);
        } else {
            steps.extend((waiting > 0).then_some(Step::LinkTakes));
            steps.extend((waiting > 1 && self.left.parts > 0).then_some(Step::LinkTakesPart));
            steps.extend((self.left.link_losses > 0).then_some(Step::LinkLost));
        }
        steps.extend((self.left.ticks > 0 && self.next_tick().is_some()).then_some(Step::Tick));
    }

    fn steps_of_conn(&self, conn: u32, state: &Conn, steps: &mut Vec<Step>) {
        if state.closes.is_some() {
            steps.push(Step::Close(conn));
        }
        let waiting: usize = state.shown.iter().sum();
        steps.extend((waiting > 0).then_some(Step::Takes(conn)));
        steps.extend((waiting > 1 && self.left.parts > 0).then_some(Step::TakesPart(conn)));
        let says = !state.peer.outbox.is_empty() && self.host.budget(conn) > 0;
        steps.extend(says.then_some(Step::Says(conn)));
        steps.extend((self.left.drops > 0).then_some(Step::Drops(conn)));
    }

    fn steps_of_client(&self, client: usize, state: &Client, steps: &mut Vec<Step>) {
        let established = state.conn.is_some_and(|conn| {
            let conn = &self.conns[conn as usize];
            conn.open && conn.peer.stage == Stage::Established && conn.peer.outbox.is_empty()
        });
        steps.extend((self.left.up > 0 && established).then_some(Step::Up(client)));
        if state.sid.is_some() && self.link_is_up() && self.host.link_budget() > 0 {
            steps.extend((self.left.down > 0).then_some(Step::Down(client)));
            steps.extend((self.left.kicks > 0).then_some(Step::Kick(client)));
        }
    }

    /// Performs one step.
    pub(super) fn take(&mut self, step: Step) {
        match step {
            Step::Connect(client, who) => self.connect(client, who),
            Step::Says(conn) => self.says(conn),
            Step::Takes(conn) => self.takes(conn, usize::MAX),
            Step::TakesPart(conn) => {
                self.left.parts -= 1;
                self.takes(conn, 1);
            }
            Step::Drops(conn) => {
                self.left.drops -= 1;
                self.ended(conn, Closed::Eof);
            }
            Step::Close(conn) => self.ended(conn, Closed::Asked),
            Step::Up(client) => self.up(client),
            Step::Down(client) => {
                self.left.down -= 1;
                let state = &mut self.clients[client];
                let label = label(Direction::Down, client, 0, state.sent_down);
                state.sent_down += 1;
                let sid = state.sid;
                self.backend_says(sid, codec::DATA, &payload::encode(label, BYTES));
            }
            Step::Kick(client) => {
                self.left.kicks -= 1;
                self.backend_says(self.clients[client].sid, codec::KICK, &[]);
            }
            Step::LinkUp => self.link_up(),
            Step::LinkTakes => self.link_takes(usize::MAX),
            Step::LinkTakesPart => {
                self.left.parts -= 1;
                self.link_takes(self.link_waiting() / 2);
            }
            Step::LinkLost => self.link_lost(),
            Step::Tick => self.tick(),
        }
    }

    fn connect(&mut self, client: usize, who: Who) {
        self.left.connections -= 1;
        let conn = self.conns.len() as u32;
        let sid = self.clients[client].sid.unwrap_or_default();
        let own = self.clients[client].identity;
        let (role, number) = match who {
            Who::Newcomer => {
                self.next_identity += 1;
                (Role::Join(Join::Normal), self.next_identity)
            }
            Who::Itself => (Role::Resume, own),
            Who::Stranger(how) if how.has_the_key() => (Role::Attempt(how), own),
            Who::Stranger(how) => (Role::Attempt(how), STRANGER),
        };
        let rng = Rng::fork(SEED, "peer", conn.into());
        let mut peer = Peer::new(role, client, number, sid, rng);
        peer.start();
        if who == Who::Newcomer {
            self.model.note_key(&identity(number).public());
            self.clients[client].identity = number;
        }
        if !matches!(who, Who::Stranger(_)) {
            self.clients[client].conn = Some(conn);
        }
        self.conns.push(Conn {
            peer,
            open: true,
            told: false,
            shown: [0; 2],
            closes: None,
        });
        let address = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + conn));
        let must = self.model.accepted(self.now, conn, address);
        match self.host.edge.handle_accepted(time(self.now), address) {
            Ok(key) if must.is_ok() => self.host.insert(conn, key),
            other => {
                let text = format!("conn {conn}: {other:?}, and must be {must:?}");
                self.model.fail("S15", "4.5(d)", text);
            }
        }
        self.finish(None);
    }

    fn says(&mut self, conn: u32) {
        let Some(key) = self.host.key(conn) else {
            return;
        };
        let budget = self.host.budget(conn);
        let outbox = &mut self.conns[conn as usize].peer.outbox;
        let bytes: Vec<u8> = outbox.drain(..outbox.len().min(budget)).collect();
        self.model.client_bytes(self.now, conn, &bytes);
        self.host
            .edge
            .handle_client_bytes(time(self.now), key, &bytes);
        self.finish(None);
    }

    fn takes(&mut self, conn: u32, most: usize) {
        let Some(key) = self.host.key(conn) else {
            return;
        };
        let mut bytes = self.host.output(conn).concat();
        bytes.truncate(most);
        self.model.client_written(self.now, conn, &bytes);
        self.host
            .edge
            .handle_client_written(time(self.now), key, bytes.len());
        self.finish(Some(conn));
        let state = &mut self.conns[conn as usize];
        let (client, claim) = (state.peer.client, state.peer.claim);
        for outcome in state.peer.take(&bytes) {
            match outcome {
                Outcome::Joined(sid) => self.clients[client].sid = Some(sid),
                Outcome::GoodResponse(response) => self.model.note_response(conn, claim, &response),
                Outcome::Decoy => self.model.note_decoy(self.now, conn),
                Outcome::Packet(data) => self.client_received(client, &data),
                Outcome::Nonsense(text) => {
                    let text = format!("client of conn {conn}: {text}");
                    self.model.fail("S15", "8.2", text);
                }
                Outcome::Resumed | Outcome::Leave => {}
            }
        }
    }

    fn client_received(&mut self, client: usize, data: &[u8]) {
        let meant = payload::decode(data)
            .is_ok_and(|label| (label.direction, label.owner) == (Direction::Down, client as u32));
        if !meant {
            let text = format!("client {client} received {data:?}");
            self.model.fail("S2", "1.4(b)", text);
        }
    }

    fn ended(&mut self, conn: u32, cause: Closed) {
        let Some(key) = self.host.key(conn) else {
            return;
        };
        self.conns[conn as usize].open = false;
        let by = if cause == Closed::Asked {
            Ended::ByEdge
        } else {
            Ended::ByPeer
        };
        self.model.client_closed(self.now, conn, by);
        self.host
            .edge
            .handle_client_closed(time(self.now), key, cause);
        self.host.remove(conn);
        self.finish(None);
        for client in &mut self.clients {
            if client.conn == Some(conn) {
                client.conn = None;
            }
        }
    }

    fn up(&mut self, client: usize) {
        self.left.up -= 1;
        let state = &mut self.clients[client];
        let Some(conn) = state.conn else { return };
        let label = label(Direction::Up, client, conn, state.sent);
        state.sent += 1;
        let packet = frame(&payload::encode(label, BYTES));
        self.conns[conn as usize].peer.send(&packet);
    }

    fn backend_says(&mut self, sid: Option<u64>, flag: u8, data: &[u8]) {
        let id = sid.unwrap_or_default();
        let bytes = Tagged { id, flag, data }.to_frame();
        self.model.link_bytes(self.now, &bytes);
        self.host.edge.handle_link_bytes(time(self.now), &bytes);
        self.finish(None);
    }

    fn link_is_up(&self) -> bool {
        self.host.edge.gauges().link_is_up
    }

    fn link_waiting(&self) -> usize {
        self.host.link_output().iter().map(|part| part.len()).sum()
    }

    fn link_up(&mut self) {
        self.host.edge.handle_link_connecting(time(self.now));
        self.finish(None);
        self.model.link_connected(self.now);
        self.host.edge.handle_link_connected(time(self.now));
        self.finish(None);
    }

    fn link_takes(&mut self, most: usize) {
        let bytes = self.host.edge.link_takes(time(self.now), most);
        self.model.link_written(self.now, &bytes);
        self.finish(None);
    }

    fn link_lost(&mut self) {
        let wanted = self.host.link_wants_close();
        self.left.link_losses -= u32::from(!wanted);
        let cause = if wanted { Closed::Asked } else { Closed::Error };
        self.model.link_closed(self.now);
        self.host.edge.handle_link_closed(time(self.now), cause);
        self.finish(None);
    }

    /// Returns the next instant at which something is due.
    fn next_tick(&self) -> Option<u64> {
        let asked = self.host.deadline().filter(|at| *at > self.now);
        asked.or_else(|| self.model.next_due_at())
    }

    fn tick(&mut self) {
        self.left.ticks -= 1;
        let Some(at) = self.next_tick() else { return };
        self.now = at;
        self.model.time(at);
        self.host.edge.handle_timeout(time(at));
        self.finish(None);
    }

    /// Completes a call of the edge. `writing` is the connection that the adapter returns to by itself.
    fn finish(&mut self, writing: Option<u32>) {
        if cfg!(debug_assertions) {
            self.host.edge.audit();
        }
        // Each connection is listed once. More means an endless list.
        let touched = self.host.listed(self.conns.len()).unwrap_or_else(|| {
            let text = "poll_client does not come to an end".to_string();
            self.model.fail("A2", "-", text);
            Vec::new()
        });
        for (conn, state) in (0..).zip(&mut self.conns) {
            state.shown = self.host.output(conn).map(<[u8]>::len);
            state.closes = self.host.close(conn);
            let output = state.shown != [0; 2];
            let due = state.open && (output || state.closes.is_some());
            state.told = due && (state.told || touched.contains(&conn) || writing == Some(conn));
            if due && !state.told {
                let text = format!("conn {conn} has something to do, and poll_client is silent");
                self.model.fail("A1", "-", text);
            }
        }
        self.model.check(&mut self.host, &touched);
        self.model.check_deadline(&self.host);
        let (gauges, open) = (
            self.host.edge.gauges(),
            self.conns.iter().filter(|conn| conn.open).count(),
        );
        if gauges.connections != open {
            let text = format!(
                "{open} connections are open, the edge counts {}",
                gauges.connections
            );
            self.model.fail("S4", "8.2", text);
        }
    }

    /// Returns the fingerprint of everything that matters for the future.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = SipHasher13::new();
        self.left.hash(&mut hasher);
        for client in &self.clients {
            (client.sid, client.conn, client.sent, client.sent_down).hash(&mut hasher);
        }
        for (conn, state) in (0..).zip(&self.conns).filter(|(_, state)| state.open) {
            (conn, state.told, state.peer.role, state.peer.stage).hash(&mut hasher);
            (state.peer.outbox.len(), state.peer.later.len()).hash(&mut hasher);
            (state.shown, state.closes, self.host.budget(conn)).hash(&mut hasher);
        }
        let gauges = self.host.edge.gauges();
        (
            gauges.half_open,
            gauges.sessions,
            gauges.away,
            gauges.waiting,
        )
            .hash(&mut hasher);
        (gauges.link_packets, gauges.link_bytes, gauges.held_bytes).hash(&mut hasher);
        self.host.link_output().concat().hash(&mut hasher);
        let due = self.host.deadline();
        due.map(|at| at.saturating_sub(self.now)).hash(&mut hasher);
        self.model.fingerprint(&mut hasher);
        hasher.finish()
    }
}

fn label(direction: Direction, client: usize, conn: u32, seq: u32) -> Label {
    Label {
        direction,
        owner: client as u32,
        conn,
        seq,
    }
}
