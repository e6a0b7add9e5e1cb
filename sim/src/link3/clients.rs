//! Clients, which are the core's machines, with their applications and networks, and the adapter of the edge.

use std::net::IpAddr;
use std::time::Duration;

use voltlane_core::client::Event;
use voltlane_core::edge::testkit::Adapter as _;
use voltlane_core::edge::{Closed, ConnKey, Duty};

use super::leaving::Asked;
use super::setup::Setup;
use super::{World, kind, time};
use crate::clients::{Client, Drives, Parts};
use crate::codec::Hello;
use crate::engine::pipe::{End, Pipe};
use crate::ledgered::Runs as _;
use crate::rng::Rng;

/// A connection of a client, both ends.
pub(super) struct Conn {
    pub(super) client: usize,
    pub(super) key: Option<ConnKey>,
    /// The shard that has it.
    pub(super) shard: usize,
    pub(super) up: Pipe,
    pub(super) down: Pipe,
    pub(super) is_silent: bool,
    /// The session that the client has on it.
    pub(super) session: Option<u64>,
    /// When its edge began to end in order.
    pub(super) sent_away_at: Option<u64>,
    /// Whether its client is to leave, and the bytes down that the edge has written and the client has read.
    pub(super) asked: Option<Asked>,
    pub(super) written: u64,
    pub(super) read: u64,
}

/// Begins a life of a client.
pub(super) fn begin(setup: &Setup, number: usize, life: u32) -> Client {
    let is_numbered = number < setup.clients;
    Client::new(
        is_numbered,
        setup.seed,
        "client of the link",
        (number, life),
    )
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

    fn connect(&mut self, client: usize) {
        let mut random = [0; 32];
        self.rng.fill(&mut random);
        let now = time(self.now);
        let peer = IpAddr::from([203, 0, 113, client as u8]);
        let shard = match self.edge.shards() {
            1 => 0,
            shards => self.rng.below(shards as u64) as usize,
        };
        let Ok(key) = self.edge.shard(shard).handle_accepted(now, peer) else {
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
            key: Some(key),
            shard,
            up: pipe(0),
            down: pipe(1),
            is_silent: false,
            session: None,
            sent_away_at: None,
            asked: None,
            written: 0,
            read: 0,
        });
        self.live.push(number);
        let state = &mut self.clients[client];
        state.machine.handle_connected(now, random);
        state.conn = Some(number);
    }

    fn came(&mut self, client: usize, conn: usize, bytes: &[u8]) {
        self.steps += 1;
        let reader = &mut self.clients[client];
        reader.was_established = reader.is_established();
        self.machine_reads(client, conn, bytes);
        self.has_read(client, conn, bytes.len());
        let state = &self.clients[client];
        if let Some(id) = state.id.filter(|_| state.is_numbered) {
            self.ledger.acknowledged(id, state.machine.acknowledged());
        }
    }

    fn is_gone_instead(&mut self, client: usize, conn: usize) -> bool {
        let ping = Hello::Ping.to_frame();
        let state = &mut self.clients[client];
        let output = state.machine.output();
        let proves = output.len() > ping.len() && output.ends_with(&ping);
        let is_gone = proves && !state.is_established() && std::mem::take(&mut state.cuts_proof);
        if is_gone {
            self.cut_proof(client, conn, ping.len());
        }
        is_gone
    }

    fn writes(&mut self, _: usize, _: &[u8]) {
        self.steps += 1;
    }

    fn hear_ends(&mut self, client: usize) -> bool {
        let Some(event) = self.clients[client].machine.poll_event() else {
            return false;
        };
        self.note(|| format!("client {client}: {event:?}"));
        let (code, text) = match event {
            Event::Ended(end) => (Some(end.code.to_u16()), end.text),
            Event::Refused(_) => (None, String::new()),
            Event::Dropped { cause, .. } => {
                self.has_left(client, cause);
                return true;
            }
            _ => return true,
        };
        let state = &mut self.clients[client];
        // An Answer has no text, and a CLOSE has.
        let has_text = state.was_established && state.is_numbered;
        if let (Some(id), Some(code)) = (state.id, code) {
            let session = self.ledger.session(id);
            let is_right = match code {
                401 | 405 | 500.. => {
                    self.ledger.reached("kick told");
                    let session = self.ledger.session(id);
                    let kicked = |(of_kick, said): &(u16, String)| {
                        *of_kick == code && (*said == text || (text.is_empty() && !has_text))
                    };
                    session.kicks.iter().any(kicked) || session.is_lax
                }
                0 | 304 => session.said_goodbye || state.says_goodbye,
                301 | 302 => true,
                _ => session.is_lax,
            };
            if !is_right {
                let text = format!("client {client} ends with {code} {text:?}");
                self.ledger.fail("K9", "36.5(a)", text);
            }
        }
        self.start_over(client);
        true
    }
}

impl World {
    /// A client of version 2 proves itself, and is gone before its Ping: the edge has it back, and the backend is not to be told (SPEC 35.3).
    fn cut_proof(&mut self, client: usize, conn: usize, ping: usize) {
        let output = self.clients[client].machine.output();
        let proof = output[..output.len() - ping].to_vec();
        let state = &mut self.conns[conn];
        if state.up.room() >= proof.len() {
            state.up.write(self.now, &proof, &mut self.wakes);
            self.ledger.reached("gone before its Ping");
        }
        self.hang_up(client);
    }

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
                    // It may join again by itself, under another id, before its goodbye.
                    session.said_goodbye |= state.says_goodbye;
                    session.let_go_at = self.conns[conn].sent_away_at;
                    let is_owner = *session.owner.get_or_insert(owner) == owner;
                    if !is_owner {
                        let text = format!("client {client} joins as {id:016x}");
                        self.ledger.fail("S3", "35.2", text);
                    }
                    self.ledger.reached("joined");
                }
                Event::Resumed { id, .. } => {
                    self.conns[conn].session = Some(id.as_u64());
                    let conn = &self.conns[conn];
                    // The edge may have let go of it meanwhile.
                    if conn.asked.is_none_or(|asked| !asked.is_over) {
                        self.ledger.session(id.as_u64()).let_go_at = conn.sent_away_at;
                    }
                    self.ledger.reached("resumed");
                }
                Event::CaughtUp | Event::Skipped { .. } => {}
                other => {
                    let text = format!("client {client}: {other:?}");
                    self.ledger.fail("K3", "24.4", text);
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
        self.reset_pipes(conn);
        if std::mem::take(&mut self.conns[conn].is_silent) {
            self.close_at_edge(conn, Closed::Error, End::Rst);
            let client = self.conns[conn].client;
            self.loses(client, conn);
        }
    }

    pub(super) fn reset_pipes(&mut self, conn: usize) {
        let state = &mut self.conns[conn];
        for pipe in [&mut state.up, &mut state.down] {
            self.wakes.extend(pipe.end(self.now, End::Rst));
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

    // ---- the adapter of the edge

    pub(super) fn edge_turn(&mut self) -> bool {
        let mut moved = self.connect_edge();
        moved |= self.edge.handle_timeouts(self.now);
        self.look_at_leaving();
        for conn in self.live.clone() {
            moved |= self.serve(conn);
            if self.is_over() {
                return true;
            }
        }
        self.live.retain(|conn| self.conns[*conn].key.is_some());
        moved |= self.edge.exchange(self.now, &mut self.rng);
        for (shard, bytes) in self.edge.take_heard() {
            self.shard_has_heard(shard, &bytes);
        }
        moved |= self.edge_uses_link();
        moved | self.end_in_order()
    }

    fn serve(&mut self, conn: usize) -> bool {
        let Some(key) = self.conns[conn].key else {
            return false;
        };
        let now = time(self.now);
        let shard = self.conns[conn].shard;
        let edge = self.edge.shard(shard);
        match edge.client_duty(key) {
            Duty::Entropy => {
                let mut random = [0; 32];
                self.rng.fill(&mut random);
                edge.handle_entropy(now, key, random);
                return true;
            }
            Duty::Close(kind) => {
                self.close_at_edge(conn, Closed::Asked, kind.into());
                return true;
            }
            Duty::HandOver(to) => {
                self.hand_over(conn, key, to.as_u8().into());
                return true;
            }
            Duty::Write(_) | Duty::Read(_) | Duty::Rest => {}
        }
        let most = self.chunk().min(self.conns[conn].down.room());
        let bytes = self.edge.shard(shard).client_takes(now, key, most);
        let wrote = !bytes.is_empty();
        if wrote {
            self.steps += 1;
            self.hash.add(self.now, kind::DOWN, conn as u64, &bytes);
            let state = &mut self.conns[conn];
            state.written += bytes.len() as u64;
            state.down.write(self.now, &bytes, &mut self.wakes);
        } else if most > 0 {
            self.all_is_written(conn);
        }
        self.read_up(conn) || wrote
    }

    /// Takes a connection to the shard that has its session.
    fn hand_over(&mut self, conn: usize, key: ConnKey, to: usize) {
        let now = time(self.now);
        let state = &mut self.conns[conn];
        let taken = self.edge.shard(state.shard).take_handover(now, key);
        let Some(handover) = taken.filter(|_| to != state.shard && to < self.edge.shards()) else {
            let text = format!("connection {conn} of shard {} goes to {to}", state.shard);
            return self.ledger.fail("S15", "9.9(c)", text);
        };
        self.ledger.reached("handed over");
        state.shard = to;
        state.key = self.edge.shard(to).handle_handover(now, handover).ok();
        if state.key.is_none() {
            state.up.discard();
            self.wakes.extend(state.down.end(self.now, End::Rst));
        }
    }

    fn read_up(&mut self, conn: usize) -> bool {
        let now = self.now;
        let state = &mut self.conns[conn];
        let Some(key) = state.key else { return false };
        state.up.advance(now);
        if state.up.is_reset(now) {
            self.close_at_edge(conn, Closed::Error, End::Rst);
            return true;
        }
        let budget = self.edge.shard(state.shard).read_budget(key);
        if budget == 0 {
            return false;
        }
        let most = self.chunk().min(budget);
        let state = &mut self.conns[conn];
        if state.up.readable() > 0 {
            let bytes = state.up.read(most);
            self.steps += 1;
            self.hash.add(now, kind::UP, conn as u64, &bytes);
            let shard = state.shard;
            self.edge
                .shard(shard)
                .handle_client_bytes(time(now), key, &bytes);
            return true;
        }
        if state.up.ended(now).is_some() {
            self.close_at_edge(conn, Closed::Eof, End::Fin);
            return true;
        }
        false
    }

    /// Ends a connection at the edge.
    pub(super) fn close_at_edge(&mut self, conn: usize, cause: Closed, end: End) {
        let now = self.now;
        let state = &mut self.conns[conn];
        let Some(key) = state.key.take() else { return };
        if let Some(id) = state.session {
            let place = self.edge.inspect(id);
            let away = match &place {
                Some((shard, one)) if one.conn != Some(key.index()) || *shard != state.shard => {
                    one.away
                }
                _ => Some(Duration::ZERO),
            };
            // It may be on another connection meanwhile, or be away already.
            if let Some(away) = away {
                self.ledger.session(id).left_at = Some(now - away.as_nanos() as u64);
            }
        }
        state.up.discard();
        self.wakes.extend(state.down.end(now, end));
        let shard = state.shard;
        self.edge
            .shard(shard)
            .handle_client_closed(time(now), key, cause);
    }
}
