//! Clients, which are the core's machines, with their applications and networks.

use std::net::IpAddr;
use std::time::Duration;

use voltlane_core::client::{self as machine, ClientConfig, Event, State, Versions};
use voltlane_core::edge::ConnKey;

use super::setup::Setup;
use super::{World, time};
use crate::engine::pipe::{End, Pipe};
use crate::payload::{self, Direction, Label};
use crate::rng::Rng;
use crate::takes::Takes;

/// A connection of a client, both ends.
pub(super) struct Conn {
    pub(super) client: usize,
    /// The shard that has it, and its key there. Without one it is on its way to a shard, or over.
    pub(super) shard: usize,
    pub(super) key: Option<ConnKey>,
    pub(super) is_over: bool,
    pub(super) hand_overs: u64,
    /// The sessions that had moved when it began.
    pub(super) moves_before: u64,
    pub(super) since: u64,
    pub(super) up: Pipe,
    pub(super) down: Pipe,
    pub(super) is_silent: bool,
    /// Whether the edge learns that it was silent, when a shard has it.
    pub(super) is_lost: bool,
    /// The session that the client has on it.
    pub(super) session: Option<u64>,
}

pub(super) struct Client {
    pub(super) machine: machine::Client,
    pub(super) is_numbered: bool,
    pub(super) conn: Option<usize>,
    /// Which of its sessions it is, and the packets that its application has sent in it.
    life: u32,
    pub(super) sent: u32,
    pub(super) id: Option<u64>,
    /// The packets that its application is busy with.
    pub(super) takes: Takes<u64>,
    pub(super) stalled_until: u64,
    says_goodbye: bool,
}

fn machine_of(setup: &Setup, number: usize, life: u32) -> machine::Client {
    let versions = match number < setup.clients {
        true => Versions::V3,
        false => Versions::V2,
    };
    let config = ClientConfig::default()
        .with_versions(versions)
        .with_backoff(Duration::from_millis(20), Duration::from_millis(500))
        .expect("in order");
    let mut seed = [0; 32];
    let purpose = (number as u64) << 32 | u64::from(life);
    Rng::fork(setup.seed, "client of pins", purpose).fill(&mut seed);
    machine::Client::new(config, seed)
}

impl Client {
    pub(super) fn new(setup: &Setup, number: usize, life: u32) -> Client {
        Client {
            machine: machine_of(setup, number, life),
            is_numbered: number < setup.clients,
            conn: None,
            life,
            sent: 0,
            id: None,
            takes: Takes::default(),
            stalled_until: 0,
            says_goodbye: false,
        }
    }

    pub(super) fn is_established(&self) -> bool {
        self.machine.state() == State::Established
    }

    pub(super) fn wants_turn_at(&self) -> Option<u64> {
        let machine = self.machine.poll_timeout().map(|at| at.as_nanos());
        [machine, self.takes.next_at(), Some(self.stalled_until)]
            .into_iter()
            .flatten()
            .filter(|at| *at > 0)
            .min()
    }
}

impl World {
    pub(super) fn send_up(&mut self, client: usize, bytes: u64) {
        let state = &mut self.clients[client];
        let label = Label {
            direction: Direction::Up,
            owner: client as u32,
            conn: state.life,
            seq: state.sent,
        };
        let data = payload::encode(label, (bytes as usize).max(payload::HEADER_BYTES));
        state.sent += u32::from(state.machine.send(&data).is_ok());
    }

    pub(super) fn say_goodbye(&mut self, client: usize) {
        let state = &mut self.clients[client];
        state.says_goodbye = true;
        if let Some(id) = state.id {
            self.ledger.session(id).said_goodbye = true;
        }
        state.machine.close(time(self.now));
    }

    // ---- the client

    pub(super) fn client_turn(&mut self, client: usize) -> bool {
        let now = self.now;
        let state = &mut self.clients[client];
        let mut moved = false;
        while let Some(number) = state.takes.pop_done(now) {
            state.machine.taken(time(now), number);
            if let Some(id) = state.id {
                let session = self.ledger.session(id);
                session.came_taken = session.came_taken.max(number);
            }
            moved = true;
        }
        let due = state.machine.poll_timeout();
        if due.is_some_and(|at| at.as_nanos() <= now) {
            state.machine.handle_timeout(time(now));
            moved = true;
        }
        if state.machine.wants_close() {
            self.hang_up(client);
            return true;
        }
        if state.conn.is_none() && state.machine.wants_connect(time(now)) {
            self.connect(client);
            moved = true;
        }
        if let Some(conn) = self.clients[client].conn {
            moved |= self.client_reads(client, conn);
        }
        if let Some(conn) = self.clients[client].conn {
            moved |= self.client_writes(client, conn);
        }
        moved | self.hear_ends(client)
    }

    /// Connects to any shard.
    fn connect(&mut self, client: usize) {
        let mut random = [0; 32];
        self.rng.fill(&mut random);
        let now = time(self.now);
        let peer = IpAddr::from([203, 0, 113, client as u8]);
        let shard = self.rng.below(self.shards.len() as u64) as usize;
        let Ok(key) = self.shards[shard].edge.handle_accepted(now, peer) else {
            return self.clients[client].machine.handle_connect_failed(now);
        };
        let number = self.conns.len();
        let setup = &self.setup;
        let pipe = |way: u64| {
            let rng = Rng::fork(setup.seed, "pipe of a client", number as u64 * 2 + way);
            Pipe::new(setup.load.stream, setup.load.delay_us, rng)
        };
        self.conns.push(Conn {
            client,
            shard,
            key: Some(key),
            is_over: false,
            hand_overs: 0,
            moves_before: self.moves,
            since: self.now,
            up: pipe(0),
            down: pipe(1),
            is_silent: false,
            is_lost: false,
            session: None,
        });
        self.live.push(number);
        let state = &mut self.clients[client];
        state.machine.handle_connected(now, random);
        state.conn = Some(number);
    }

    /// The client closes its connection, or gives up opening one.
    fn hang_up(&mut self, client: usize) {
        let now = self.now;
        let state = &mut self.clients[client];
        if let Some(conn) = state.conn.take() {
            let conn = &mut self.conns[conn];
            self.wakes.extend(conn.up.end(now, End::Fin));
            conn.down.discard();
        }
        state.machine.handle_closed(time(now), machine::Closed::Eof);
        self.hear_ends(client);
    }

    fn client_reads(&mut self, client: usize, conn: usize) -> bool {
        let now = self.now;
        if now < self.clients[client].stalled_until {
            return false;
        }
        let most = self.chunk();
        let state = &mut self.conns[conn];
        state.down.advance(now);
        let end = match (state.down.is_reset(now), state.down.readable()) {
            (true, _) => Some(machine::Closed::Error),
            (false, 0) => state.down.ended(now).map(|_| machine::Closed::Eof),
            _ => None,
        };
        if let Some(end) = end {
            self.wakes.extend(state.up.end(now, End::Fin));
            let state = &mut self.clients[client];
            state.conn = None;
            state.machine.handle_closed(time(now), end);
            self.hear_ends(client);
            return true;
        }
        if state.down.readable() == 0 {
            return false;
        }
        let bytes = state.down.read(most);
        self.steps += 1;
        self.machine_reads(client, conn, &bytes);
        let state = &self.clients[client];
        if let Some(id) = state.id.filter(|_| state.is_numbered) {
            self.ledger.acknowledged(id, state.machine.acknowledged());
        }
        true
    }

    fn machine_reads(&mut self, client: usize, conn: usize, bytes: &[u8]) {
        let (now, slow) = (self.now, self.setup.load.slow_nanos);
        let mut input = bytes;
        loop {
            let state = &mut self.clients[client];
            let Some(event) = state.machine.handle_bytes(time(now), &mut input) else {
                return;
            };
            match event {
                Event::Packet { data, number } => {
                    if let Some(id) = state.id {
                        self.ledger.came(id, number, data);
                    }
                    if state.is_numbered && number > 0 {
                        state.takes.push(now + self.rng.below(slow), number);
                    }
                }
                Event::Connected { id } => {
                    let id = id.as_u64();
                    state.id = Some(id);
                    self.conns[conn].session = Some(id);
                    let (owner, is_numbered) = ((client, state.life), state.is_numbered);
                    let session = self.ledger.session(id);
                    session.is_numbered = is_numbered;
                    session.began = Some(self.conns[conn].since);
                    session.said_goodbye |= state.says_goodbye;
                    let is_owner = *session.owner.get_or_insert(owner) == owner;
                    if !is_owner {
                        let text = format!("client {client} joins as {id:016x}");
                        self.ledger.fail("N8", "35.2", text);
                    }
                    self.ledger.reached("joined");
                }
                Event::Resumed { id, .. } => {
                    self.conns[conn].session = Some(id.as_u64());
                    self.ledger.reached("resumed");
                    if state.id != Some(id.as_u64()) {
                        let text = format!("client {client} has another id: {id}");
                        self.ledger.fail("N8", "45.6(f)", text);
                    }
                }
                Event::CaughtUp | Event::Skipped { .. } => {}
                other => {
                    let text = format!("client {client}: {other:?}");
                    self.ledger.fail("N2", "24.4", text);
                }
            }
        }
    }

    fn client_writes(&mut self, client: usize, conn: usize) -> bool {
        let now = self.now;
        let most = self.chunk();
        let (state, machine) = (&mut self.conns[conn], &mut self.clients[client].machine);
        let output = machine.output();
        let count = output.len().min(state.up.room()).min(most);
        if count == 0 {
            return false;
        }
        let bytes = output[..count].to_vec();
        machine.handle_written(time(now), count);
        self.steps += 1;
        state.up.write(now, &bytes, &mut self.wakes);
        true
    }

    /// Takes what the machine says of its connections and its session.
    fn hear_ends(&mut self, client: usize) -> bool {
        let Some(event) = self.clients[client].machine.poll_event() else {
            return false;
        };
        self.note(|| format!("client {client}: {event:?}"));
        let code = match event {
            Event::Ended(end) => Some(end.code.to_u16()),
            Event::Refused(_) => None,
            _ => return true,
        };
        let state = &self.clients[client];
        if let (Some(id), Some(code)) = (state.id, code) {
            self.ledger.session(id).said_goodbye |= state.says_goodbye;
            self.ledger.told_end(id, code);
        }
        self.start_over(client);
        true
    }

    /// Begins another session, with nothing of the one before.
    fn start_over(&mut self, client: usize) {
        let state = &mut self.clients[client];
        if let Some(conn) = state.conn.take() {
            let conn = &mut self.conns[conn];
            self.wakes.extend(conn.up.end(self.now, End::Fin));
            conn.down.discard();
        }
        let life = self.clients[client].life + 1;
        self.clients[client] = Client::new(&self.setup, client, life);
    }

    // ---- networks

    /// The network of a connection fails for both ends.
    pub(super) fn reset(&mut self, conn: usize) {
        let state = &mut self.conns[conn];
        for pipe in [&mut state.up, &mut state.down] {
            self.wakes.extend(pipe.end(self.now, End::Rst));
        }
        if std::mem::take(&mut self.conns[conn].is_silent) {
            self.conns[conn].is_lost = true;
            let client = self.conns[conn].client;
            let state = &mut self.clients[client];
            if state.conn == Some(conn) {
                state.conn = None;
                let now = time(self.now);
                state.machine.handle_closed(now, machine::Closed::Error);
                self.hear_ends(client);
            }
        }
    }

    pub(super) fn silence(&mut self, client: usize) {
        if let Some(conn) = self.clients[client].conn {
            let conn = &mut self.conns[conn];
            conn.up.go_silent();
            conn.down.go_silent();
            conn.is_silent = true;
        }
    }
}
