//! Many packets of version 3 over drops: one edge, one backend and a few clients, which are the shipped machines.
//!
//! The engine beside this one reads every record, which costs more than the packets themselves. Here only the applications look: each
//! packet must come once, in order, byte by byte, with its number, and in the end all of them must have come. A drop cuts what is under
//! way anywhere, in both directions. Sometimes the edge learns of it late or not at all, and sometimes a reply is lost.

use std::time::Duration;

use voltlane_core::backend::{self, Backend, BackendConfig};
use voltlane_core::client::{Client, ClientConfig, Event, State, Versions};
use voltlane_core::edge::testkit::Adapter as _;
use voltlane_core::edge::{Closed, ConnKey, Duty, Edge, EdgeConfig, HasLink as _};
use voltlane_core::{ClientId, Time};

use crate::engine::identity::edge_pair;
use crate::model::Violation;
use crate::rng::Rng;
use crate::setups::unlimited;

/// The clients of a run.
const CLIENTS: usize = 4;
/// The least and the most bytes of a packet. Its first 8 say which one it is.
const BYTES: (usize, usize) = (8, 40);
/// The packets that the backend has under way to one client at most. A ring and a queue hold more.
const UNDER_WAY: u64 = 3_000;
/// The time of a round, in nanoseconds.
const ROUND: u64 = 2_000_000;
/// The rounds in which everything must have come once nothing is dropped any more.
const ROUNDS_TO_THE_END: u32 = 100_000;
/// The rounds between two audits of the edge's tables.
const AUDIT_EVERY: u64 = 1_000;

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Volume {
    /// Packets that reached an application, in both directions.
    pub delivered: u64,
    /// Connections that ended early.
    pub drops: u64,
    /// Connections that resumed a session.
    pub resumes: u64,
    /// The first rule broken, if one was.
    pub violation: Option<Violation>,
}

/// One direction of a session, as its applications see it.
#[derive(Debug, Default)]
struct Lane {
    sent: u64,
    received: u64,
}

struct Player {
    machine: Client,
    id: Option<ClientId>,
    conn: Option<ConnKey>,
    up: Lane,
    down: Lane,
    /// The bytes that the transport has taken and that have not arrived.
    under_way: Vec<u8>,
    loses_reply: bool,
}

/// How a connection is to end in this turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Both sides see it.
    Cut,
    /// The client alone sees it: its next connection takes the session over.
    CutUnseen,
    /// The client hangs up, and what was written arrives.
    HangUp,
}

struct World {
    now: u64,
    rng: Rng,
    edge: Edge,
    backend: Backend,
    players: Vec<Player>,
    /// Connections that the edge has and nobody else.
    forgotten: Vec<ConnKey>,
    outcome: Volume,
}

/// Sends at least so many packets, and waits until they have come.
#[must_use]
pub fn run_volume(seed: u64, packets: u64) -> Volume {
    let mut world = World::new(seed);
    while world.outcome.delivered < packets && !world.is_over() {
        world.round(true);
    }
    for _ in 0..ROUNDS_TO_THE_END {
        if world.is_over() || world.is_through() {
            break;
        }
        world.round(false);
    }
    if !world.is_through() {
        let text = world.players.iter().map(|player| {
            let (machine, up, down) = (&player.machine, &player.up, &player.down);
            format!("{machine:?}, up {up:?}, down {down:?}")
        });
        let text = text.collect::<Vec<_>>().join("; ");
        world.fail("V12", format!("something has not come: {text}"));
    }
    world.edge.audit();
    world.outcome.resumes = world.edge.counters().resumed;
    world.outcome
}

/// Writes the packet with this number, and returns its length.
fn write_packet(player: usize, number: u64, into: &mut [u8; BYTES.1]) -> usize {
    into[..8].copy_from_slice(&(number | (player as u64) << 56).to_le_bytes());
    BYTES.0 + (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize % (BYTES.1 - BYTES.0 + 1)
}

/// Returns whether these are the bytes of the packet with this number.
fn is_packet(player: usize, number: u64, data: &[u8]) -> bool {
    let mut packet = [0; BYTES.1];
    let length = write_packet(player, number, &mut packet);
    data == &packet[..length]
}

impl World {
    fn new(seed: u64) -> World {
        let mut config = EdgeConfig::default();
        unlimited(&mut config);
        let mut rng = Rng::fork(seed, "volume of version 3", 0);
        config.clients.ring_packets = rng.pick(&[64, 512, 8_192]);
        let mut random = [0; 32];
        rng.fill(&mut random);
        let mut edge = Edge::new(config, edge_pair().clone(), random);
        edge.link_up(Time::ZERO);
        let player = |_| {
            let config = ClientConfig::default()
                .with_versions(Versions::V3)
                .with_take_over(true)
                .with_backoff(Duration::from_millis(1), Duration::from_millis(20))
                .expect("in order");
            rng.fill(&mut random);
            Player {
                machine: Client::new(config, random),
                id: None,
                conn: None,
                up: Lane::default(),
                down: Lane::default(),
                under_way: Vec::new(),
                loses_reply: false,
            }
        };
        World {
            now: 0,
            edge,
            backend: Backend::new(BackendConfig::default()),
            players: (0..CLIENTS).map(player).collect(),
            rng,
            forgotten: Vec::new(),
            outcome: Volume::default(),
        }
    }

    fn fail(&mut self, id: &'static str, text: String) {
        self.outcome.violation.get_or_insert(Violation {
            id,
            section: "24",
            at_nanos: self.now,
            text,
        });
    }

    fn is_over(&self) -> bool {
        self.outcome.violation.is_some()
    }

    /// Returns whether everything that was sent has come and is acknowledged.
    fn is_through(&self) -> bool {
        let has_come = |lane: &Lane| lane.sent == lane.received;
        self.players.iter().all(|player| {
            has_come(&player.up)
                && has_come(&player.down)
                && player.machine.acknowledged() == player.up.sent
        })
    }

    fn round(&mut self, sends: bool) {
        self.now += self.rng.below(ROUND) + 1;
        let now = Time::from_nanos(self.now);
        if self.edge.poll_timeout().is_some_and(|due| due.at <= now) {
            self.edge.handle_timeout(now);
        }
        self.edge.skip_listed();
        for player in 0..CLIENTS {
            self.turn(now, player, sends);
        }
        self.serve_forgotten(now);
        self.carry_link(now);
        if self.rng.below(AUDIT_EVERY) == 0 {
            self.edge.audit();
        }
    }

    fn turn(&mut self, now: Time, number: usize, sends: bool) {
        let player = &mut self.players[number];
        if player.machine.poll_timeout().is_some_and(|at| at <= now) {
            player.machine.handle_timeout(now);
        }
        if sends {
            self.send(number);
        }
        // A session whose Join record was lost has not begun, and there is none to resume (SPEC 22(g)).
        let has_begun = self.players[number].up.received > 0;
        let fault = match self.rng.below(64) {
            _ if !sends || !has_begun => None,
            0..8 => Some(Fault::Cut),
            8..10 => Some(Fault::CutUnseen),
            10..12 => Some(Fault::HangUp),
            _ => None,
        };
        self.connect(now, number);
        if let Some(conn) = self.players[number].conn {
            self.exchange(now, number, conn, fault);
        }
        self.hear(number);
    }

    /// Both applications send.
    fn send(&mut self, number: usize) {
        let (up, down) = (self.rng.below(256), self.rng.below(256));
        let player = &mut self.players[number];
        let mut packet = [0; BYTES.1];
        for _ in 0..up {
            let next = player.up.sent + 1;
            let length = write_packet(number, next, &mut packet);
            match player.machine.send(&packet[..length]) {
                Ok(sent) if sent == next => player.up.sent = next,
                Ok(sent) => return self.fail("V1", format!("packet {next} has number {sent}")),
                Err(_) => break,
            }
        }
        // The backend knows a client by its first packet.
        let Some(id) = player.id.filter(|_| player.up.received > 0) else {
            return;
        };
        let room = UNDER_WAY.saturating_sub(player.down.sent - player.down.received);
        for _ in 0..down.min(room) {
            let next = player.down.sent + 1;
            let length = write_packet(number, next, &mut packet);
            if self.backend.send(id, &packet[..length]).is_err() {
                break;
            }
            player.down.sent = next;
        }
    }

    fn connect(&mut self, now: Time, number: usize) {
        let player = &mut self.players[number];
        if player.conn.is_some() || !player.machine.wants_connect(now) {
            return;
        }
        let Ok(conn) = self.edge.handle_accepted(now, [127, 0, 0, 1].into()) else {
            return player.machine.handle_connect_failed(now);
        };
        let mut random = [0; 32];
        self.rng.fill(&mut random);
        player.machine.handle_connected(now, random);
        player.conn = Some(conn);
        player.under_way.clear();
        player.loses_reply = self.rng.below(8) == 0 && player.id.is_some();
    }

    /// Brings what waits from each side to the other, and ends the connection if that is due.
    fn exchange(&mut self, now: Time, number: usize, conn: ConnKey, fault: Option<Fault>) {
        let is_cut = matches!(fault, Some(Fault::Cut | Fault::CutUnseen));
        let player = &mut self.players[number];
        if player.machine.wants_close() {
            return self.lose(now, number, conn, Closed::Eof);
        }
        loop {
            let output = player.machine.output();
            if output.is_empty() {
                break;
            }
            let length = output.len();
            player.under_way.extend_from_slice(output);
            player.machine.handle_written(now, length);
        }
        if is_cut {
            let arrives = self.rng.below(player.under_way.len() as u64 + 1);
            player.under_way.truncate(arrives as usize);
        }
        self.arrive(now, number, conn);
        let loses_reply = self.players[number].loses_reply;
        let mut down = Vec::new();
        let is_closed = self.drain(now, conn, &mut down);
        if loses_reply && !down.is_empty() {
            return self.lose(now, number, conn, Closed::Error);
        }
        if is_cut {
            let arrives = self.rng.below(down.len() as u64 + 1);
            down.truncate(arrives as usize);
        }
        self.read(now, number, &down);
        match fault {
            _ if is_closed => {
                let player = &mut self.players[number];
                player.conn = None;
                player.machine.handle_closed(now, Closed::Eof);
            }
            Some(Fault::Cut) => self.lose(now, number, conn, Closed::Error),
            Some(Fault::CutUnseen) => {
                self.outcome.drops += 1;
                self.forgotten.push(conn);
                let player = &mut self.players[number];
                player.conn = None;
                player.machine.handle_closed(now, Closed::Error);
            }
            Some(Fault::HangUp) => self.players[number].machine.drop_connection(),
            None => {}
        }
    }

    /// Gives the edge what has arrived, as far as it reads now.
    fn arrive(&mut self, now: Time, number: usize, conn: ConnKey) {
        let under_way = &mut self.players[number].under_way;
        let mut read = 0;
        while read < under_way.len() {
            if self.edge.client_duty(conn) == Duty::Entropy {
                let mut random = [0; 32];
                self.rng.fill(&mut random);
                self.edge.handle_entropy(now, conn, random);
            }
            let budget = self.edge.read_budget(conn).min(under_way.len() - read);
            if budget == 0 {
                break;
            }
            let bytes = &under_way[read..read + budget];
            self.edge.handle_client_bytes(now, conn, bytes);
            read += budget;
        }
        under_way.drain(..read);
    }

    /// Takes what the edge has for a connection. Returns whether it has closed it.
    fn drain(&mut self, now: Time, conn: ConnKey, into: &mut Vec<u8>) -> bool {
        loop {
            match self.edge.client_duty(conn) {
                Duty::Entropy => {
                    let mut random = [0; 32];
                    self.rng.fill(&mut random);
                    self.edge.handle_entropy(now, conn, random);
                }
                Duty::Write(output) => {
                    let length = output.iter().map(|part| part.len()).sum();
                    for part in output {
                        into.extend_from_slice(part);
                    }
                    self.edge.handle_client_written(now, conn, length);
                }
                Duty::Close(_) => {
                    self.edge.handle_client_closed(now, conn, Closed::Asked);
                    return true;
                }
                Duty::Read(_) | Duty::Rest | Duty::HandOver(_) => return false,
            }
        }
    }

    fn read(&mut self, now: Time, number: usize, mut input: &[u8]) {
        let player = &mut self.players[number];
        let mut taken = 0;
        let wrong = loop {
            match player.machine.handle_bytes(now, &mut input) {
                None | Some(Event::Resumed { .. } | Event::CaughtUp) => {}
                Some(Event::Packet {
                    data,
                    number: place,
                }) => {
                    player.down.received += 1;
                    let next = player.down.received;
                    if place != next || !is_packet(number, next, data) {
                        break Some(format!(
                            "packet {next} down is {place} of {} bytes",
                            data.len()
                        ));
                    }
                    (taken, self.outcome.delivered) = (place, self.outcome.delivered + 1);
                    continue;
                }
                Some(Event::Connected { id }) if player.id.is_none() => player.id = Some(id),
                Some(other) => break Some(format!("client {number} hears {other:?}")),
            }
            if input.is_empty() {
                break None;
            }
        };
        if let Some(text) = wrong {
            return self.fail("V1", text);
        }
        if taken > 0 {
            player.machine.taken(now, taken);
        }
    }

    /// The connection is gone at both ends.
    fn lose(&mut self, now: Time, number: usize, conn: ConnKey, closed: Closed) {
        self.outcome.drops += 1;
        self.edge.handle_client_closed(now, conn, closed);
        let player = &mut self.players[number];
        player.conn = None;
        player.machine.handle_closed(now, closed);
    }

    fn hear(&mut self, number: usize) {
        let player = &mut self.players[number];
        while let Some(event) = player.machine.poll_event() {
            if matches!(event, Event::Dropped { .. }) {
                continue;
            }
            let text = format!("client {number} hears {event:?}");
            return self.fail("V3", text);
        }
        if player.machine.state() == State::Ended {
            self.fail("V3", format!("the session of client {number} ends"));
        }
    }

    /// Closes what only the edge still has, at some time.
    fn serve_forgotten(&mut self, now: Time) {
        let mut place = 0;
        while place < self.forgotten.len() {
            let conn = self.forgotten[place];
            let is_closed = self.drain(now, conn, &mut Vec::new());
            let learns = self.rng.below(8) == 0;
            if learns && !is_closed {
                self.edge.handle_client_closed(now, conn, Closed::Error);
            }
            if is_closed || learns {
                self.forgotten.swap_remove(place);
            } else {
                place += 1;
            }
        }
    }

    /// Brings everything over the link, in both directions.
    fn carry_link(&mut self, now: Time) {
        let mut wrong = None;
        let (players, backend) = (&mut self.players, &mut self.backend);
        let output = self.edge.link_output();
        for mut part in output {
            while let Ok(Some(event)) = backend.handle_bytes(&mut part) {
                match event {
                    backend::Event::Packet { id, data } => {
                        let of = |player: &Player| player.id == Some(id);
                        let Some(number) = players.iter().position(of) else {
                            wrong = Some(format!("a packet of {id}, which nobody is"));
                            break;
                        };
                        let lane = &mut players[number].up;
                        lane.received += 1;
                        if !is_packet(number, lane.received, data) {
                            let bytes = data.len();
                            wrong = Some(format!("packet {} up has {bytes} bytes", lane.received));
                            break;
                        }
                        self.outcome.delivered += 1;
                    }
                    backend::Event::Resumed { .. } => {}
                    other => wrong = Some(format!("the backend hears {other:?}")),
                }
            }
        }
        let written = output.iter().map(|part| part.len()).sum();
        self.edge.handle_link_written(now, written);
        if let Some(text) = wrong {
            return self.fail("V1", text);
        }
        let down = self.backend.output();
        let length = down.len().min(self.edge.link_read_budget());
        self.edge.handle_link_bytes(now, &down[..length]);
        self.backend.handle_written(length);
    }
}
