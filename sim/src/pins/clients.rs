//! Clients, which are the core's machines, with their applications and networks.

use std::net::IpAddr;

use voltlane_core::client::Event;
use voltlane_core::edge::ConnKey;

use super::setup::Setup;
use super::{World, time};
use crate::clients::{Client, Drives, Parts};
use crate::engine::pipe::{End, Pipe};
use crate::ledgered::Runs as _;
use crate::rng::Rng;

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

/// Begins a life of a client.
pub(super) fn begin(setup: &Setup, number: usize, life: u32) -> Client {
    let is_numbered = number < setup.clients;
    Client::new(is_numbered, setup.seed, "client of pins", (number, life))
}

impl Drives for World {
    fn now(&self) -> u64 {
        self.now
    }

    fn parts(&mut self, client: usize) -> Parts<'_> {
        let client = &mut self.clients[client];
        let conn = client.conn.map(|conn| &mut self.conns[conn]);
        let ways = conn.map(|conn| (&mut conn.up, &mut conn.down));
        client.parts(ways, &mut self.wakes)
    }

    fn chunk(&mut self) -> usize {
        self.chunk()
    }

    fn took(&mut self, client: usize, number: u64) {
        if let Some(id) = self.clients[client].id {
            let session = self.ledger.session(id);
            session.came_taken = session.came_taken.max(number);
        }
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

    fn came(&mut self, client: usize, conn: usize, bytes: &[u8]) {
        self.steps += 1;
        self.machine_reads(client, conn, bytes);
        let state = &self.clients[client];
        if let Some(id) = state.id.filter(|_| state.is_numbered) {
            self.ledger.acknowledged(id, state.machine.acknowledged());
        }
    }

    fn writes(&mut self, _: usize, _: &[u8]) {
        self.steps += 1;
    }

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
            self.look_at_expiry(id, code);
            self.ledger.told_end(id, code);
        }
        self.start_over(client);
        true
    }
}

impl World {
    pub(super) fn say_goodbye(&mut self, client: usize) {
        let state = &mut self.clients[client];
        state.says_goodbye = true;
        if let Some(id) = state.id {
            self.ledger.session(id).said_goodbye = true;
        }
        state.machine.close(time(self.now));
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

    /// Begins another session, with nothing of the one before.
    fn start_over(&mut self, client: usize) {
        self.let_go(client);
        let life = self.clients[client].life + 1;
        self.clients[client] = begin(&self.setup, client, life);
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
            self.loses(client, conn);
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
