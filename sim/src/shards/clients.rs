//! Clients, and the random operations: what clients and the backend do, and faults of both.

use voltlane_core::edge::ConnKey;

use super::ledger::{Purpose, Session};
use super::stream::{End, Stream, take};
use super::{World, time};
use crate::codec::{self, Hello, frame};
use crate::engine::identity::STRANGER;
use crate::engine::peer::{Outcome, Peer, Role, Stage};
use crate::payload::{self, Direction, Label};
use crate::plan::{Attempt, Join};
use crate::rng::Rng;

/// What strangers do with an id. The last one is a mistake of its owner.
const ATTEMPTS: [Attempt; 8] = [
    Attempt::Echo,
    Attempt::Cross,
    Attempt::Short,
    Attempt::Unknown,
    Attempt::PingOnly,
    Attempt::Stall,
    Attempt::Vanish,
    Attempt::NoPing,
];

/// One client across its connections.
#[derive(Default)]
pub(super) struct Client {
    /// Its session, and its id once known.
    pub(super) session: Option<usize>,
    sid: Option<u64>,
    /// Its latest connection.
    pub(super) conn: Option<u32>,
    /// All connections that it has not closed, including attempts on its session.
    live: Vec<u32>,
    /// It does not read before this time.
    stalled_until: u64,
    /// When it drops its connection. It may come back at once.
    drops_at: Option<(u64, End)>,
}

/// A connection, both ends.
pub(super) struct Conn {
    pub(super) peer: Peer,
    pub(super) up: Stream,
    pub(super) down: Stream,
    pub(super) source: u64,
    /// Its key at its current shard.
    pub(super) key: Option<ConnKey>,
    /// Whether its shard's machine named it, and it was not served since.
    pub(super) told: bool,
    /// Whether its transport takes nothing.
    pub(super) blocked: bool,
    /// Whether its client's host is gone, so that nothing arrives either way.
    pub(super) silent: bool,
    pub(super) hand_overs: u32,
    /// Whether it claims before it has received the edge's key.
    hasty: bool,
}

impl World {
    /// Performs the operations that are due. Returns whether there were any.
    pub(super) fn operate(&mut self) -> bool {
        if self.closing.is_some() {
            return self.close_down();
        }
        if self.now < self.next_op {
            return false;
        }
        if self.ops_left == 0 {
            self.begin_closing();
            return true;
        }
        self.ops_left -= 1;
        self.next_op = self.now + 1 + self.rng.below(self.setup.gap_nanos);
        let kind = self.rng.weighted(&self.setup.weights);
        let client = self.rng.below(self.clients.len() as u64) as usize;
        self.note(|| format!("operation {kind}, client {client}"));
        match kind {
            0 => self.client_sends(client),
            1 => {
                let end = self.rng.pick(&[End::Fin, End::Rst]);
                // While packets are being sent to it.
                let soon = self.now + self.rng.below(30 * self.setup.round_nanos);
                self.clients[client].drops_at = Some((soon, end));
                self.client_sends(client);
                if let Some(session) = self.clients[client].session {
                    for _ in 0..self.rng.between(1, 3) {
                        self.backend_sends(session, self.setup.payload as usize);
                    }
                }
            }
            2 | 3 => self.come_back(client),
            4 => self.attempt(client),
            5 => self.client_half(client),
            6 => self.backend_bursts(),
            7 => self.backend_kicks(),
            8 => self.backend_babbles(),
            9 => {
                let end = self.rng.pick(&[End::Fin, End::Rst]);
                self.backend_drops(end);
            }
            10 => {
                self.backend_breaks_off(&[40, 0, 0, 0, 1, 2, 3]);
                self.backend_drops(End::Fin);
            }
            11 => {
                let longest = self.setup.config.master.max_frame_bytes + 10;
                self.backend_breaks_off(&longest.to_le_bytes());
            }
            12 => self.backend.refuses_until = self.some_time(),
            13 => {
                self.backend.stalled_until = self.some_time();
                if self.setup.heavy {
                    self.crowd_the_backend();
                }
            }
            14 if !self.setup.heavy && self.rng.chance(50) => self.stop_a_thread(),
            14 => {
                let shard = self.some_shard();
                self.shards[shard].paused_until = self.some_time();
                if self.setup.heavy {
                    self.crowd_a_shard();
                }
            }
            _ if self.rng.chance(50) => self.link.paused_until = self.some_time(),
            _ => self.clients[client].stalled_until = self.some_time(),
        }
        true
    }

    pub(super) fn some_time(&mut self) -> u64 {
        self.now + self.rng.log_between(100_000, 500_000_000)
    }

    fn some_shard(&mut self) -> usize {
        self.rng.below(self.shards.len() as u64) as usize
    }

    /// Sends more than the trunk takes at once to a shard that does not read for long.
    fn crowd_a_shard(&mut self) {
        let there = |session: &Session| session.heard > 0 && session.current.is_some();
        let Some(session) = self.ledger.sessions.iter().rposition(there) else {
            return;
        };
        let home = self.ledger.sessions[session].id.map_or(0, |id| id >> 56);
        self.shards[home as usize].paused_until = self.now + 300_000_000;
        for _ in 0..60 {
            self.backend_sends(session, self.setup.payload as usize);
        }
    }

    /// Sends more than the trunk takes at once to a backend that does not read.
    fn crowd_the_backend(&mut self) {
        self.backend.stalled_until = self.now + 300_000_000;
        for client in 0..self.clients.len() {
            self.client_sends(client);
        }
    }

    // ---- what the backend does

    pub(super) fn backend_bursts(&mut self) {
        let Some(session) = self.known_session() else {
            return;
        };
        for _ in 0..self.rng.between(1, self.setup.burst) {
            let bytes = self.rng.between(17, self.setup.payload) as usize;
            self.backend_sends(session, bytes);
        }
    }

    /// Returns a session, mostly a client's, sometimes one that may have ended long ago.
    fn known_session(&mut self) -> Option<usize> {
        let client = self.rng.below(self.clients.len() as u64) as usize;
        let heard_of = |&session: &usize| self.ledger.sessions[session].heard > 0;
        let of_client = self.clients[client].session.filter(heard_of);
        if of_client.is_some() && self.rng.chance(80) {
            return of_client;
        }
        let place = self.rng.below(self.ledger.known.len() as u64) as usize;
        let id = self.ledger.known.get(place)?;
        self.ledger.by_id.get(id).copied()
    }

    fn backend_kicks(&mut self) {
        if let Some(id) = self
            .known_session()
            .and_then(|session| self.ledger.sessions[session].id)
        {
            self.backend_tags(id, codec::KICK, &[]);
        }
    }

    /// Sends packets for unassigned ids, at existing shards and at others, and packets too short to name one.
    fn backend_babbles(&mut self) {
        let shard = self.rng.below(2 * self.shards.len() as u64);
        let id = (shard << 56) | 0x77;
        match self.rng.below(3) {
            0 => self.backend_tags(id, codec::KICK, &[]),
            1 => self.backend_tags(id, codec::DATA, b"anybody?"),
            _ => {
                let length = self.rng.below(9) as usize;
                self.backend_says(&frame(&vec![1; length]));
            }
        }
    }

    // ---- what clients do

    fn open(&mut self, client: usize, peer: Peer, session: usize, purpose: Purpose) -> u32 {
        let conn = self.conns.len() as u32;
        let hasty = purpose != Purpose::Join && self.rng.chance(30);
        let source = client as u64 % self.setup.sources;
        self.ledger.watch(session, purpose);
        self.conns.push(Conn {
            peer,
            up: Stream::new(self.setup.client_stream),
            down: Stream::new(self.setup.client_stream),
            source,
            key: None,
            told: false,
            blocked: false,
            silent: false,
            hand_overs: 0,
            hasty,
        });
        let state = &mut self.conns[conn as usize].peer;
        state.start();
        if hasty {
            let claim = Hello::Id(state.claim).to_frame();
            state.outbox.extend(claim);
        }
        self.clients[client].live.push(conn);
        let shard = self.some_shard();
        self.note(|| {
            format!("client {client} opens connection {conn} ({purpose:?}) to shard {shard}")
        });
        if self.shards[shard].finished {
            self.conns[conn as usize].down.end(End::Rst);
            self.conns[conn as usize].up.discard();
        } else {
            self.shards[shard].backlog.push_back(conn);
        }
        conn
    }

    fn peer_rng(&self) -> Rng {
        Rng::fork(self.setup.seed, "peer of shards", self.conns.len() as u64)
    }

    /// Connects the client again: to resume its session, or as a new client if it has none.
    pub(super) fn come_back(&mut self, client: usize) {
        let rng = self.peer_rng();
        if let Some(old) = self.clients[client].conn {
            // Its host has another address now, and nobody told the edge.
            self.conns[old as usize].silent = true;
            self.ledger
                .reached("came back with the old connection open");
        }
        let known = self.clients[client].session.zip(self.clients[client].sid);
        let conn = match known {
            Some((session, sid)) => {
                let peer = Peer::new(Role::Resume, client, session, sid, rng);
                self.open(client, peer, session, Purpose::Resume)
            }
            None => {
                let session = self.ledger.begin_session();
                let join = self.rng.pick(&[Join::Normal, Join::Eager]);
                let peer = Peer::new(Role::Join(join), client, session, 0, rng);
                self.clients[client].session = Some(session);
                self.open(client, peer, session, Purpose::Join)
            }
        };
        self.clients[client].conn = Some(conn);
        if self.rng.chance(50) {
            self.client_sends(client);
        }
    }

    fn attempt(&mut self, client: usize) {
        let (Some(session), Some(sid)) = (self.clients[client].session, self.clients[client].sid)
        else {
            return;
        };
        let how = self.rng.pick(&ATTEMPTS);
        let identity = if how == Attempt::NoPing {
            session
        } else {
            STRANGER
        };
        let claim = match how {
            Attempt::Unknown if self.rng.chance(50) => sid ^ (0x80 << 56),
            Attempt::Unknown => sid ^ 0x5555,
            _ => sid,
        };
        if how == Attempt::NoPing
            && let Some(old) = self.clients[client].conn.take()
        {
            self.conns[old as usize].silent = true;
        }
        let rng = self.peer_rng();
        let peer = Peer::new(Role::Attempt(how), client, identity, claim, rng);
        self.open(client, peer, session, Purpose::Attempt);
    }

    /// Returns the client's latest connection, if it is still usable.
    fn usable(&self, client: usize) -> Option<u32> {
        self.clients[client].conn.filter(|&conn| {
            let state = &self.conns[conn as usize];
            !state.silent && !state.peer.gone && !state.peer.broken
        })
    }

    pub(super) fn client_sends(&mut self, client: usize) {
        let (Some(conn), Some(session)) = (self.usable(client), self.clients[client].session)
        else {
            return;
        };
        for _ in 0..self.rng.between(1, self.setup.burst) {
            let bytes = self.rng.between(17, self.setup.payload) as usize;
            let sent = &mut self.ledger.sessions[session].sent;
            let label = Label {
                direction: Direction::Up,
                owner: session as u32,
                conn,
                seq: *sent,
            };
            *sent += 1;
            let peer = &mut self.conns[conn as usize].peer;
            peer.send(&frame(&payload::encode(label, bytes)));
        }
    }

    fn client_half(&mut self, client: usize) {
        let Some(conn) = self.usable(client) else {
            return;
        };
        let state = &mut self.conns[conn as usize];
        if state.peer.stage == Stage::Established {
            let whole = frame(&[9; 40]);
            state.peer.send(&whole[..1 + self.rng.below(43) as usize]);
            state.peer.broken = true;
        }
    }

    pub(super) fn client_drops(&mut self, client: usize, end: End) {
        if let Some(conn) = self.clients[client].conn.take() {
            self.leave(conn, end);
        }
    }

    /// Closes the client's end of `conn`.
    pub(super) fn leave(&mut self, conn: u32, end: End) {
        let state = &mut self.conns[conn as usize];
        let client = state.peer.client;
        if !std::mem::replace(&mut state.peer.gone, true) {
            state.up.end(end);
            state.down.discard();
            self.clients[client].live.retain(|&other| other != conn);
            if self.clients[client].conn == Some(conn) {
                self.clients[client].conn = None;
            }
        }
    }

    pub(super) fn client_turn(&mut self, client: usize) -> bool {
        let mut moved = false;
        let drops_at = &mut self.clients[client].drops_at;
        if let Some((_, end)) = drops_at.take_if(|(at, _)| *at <= self.now) {
            self.client_drops(client, end);
            if self.rng.chance(60) {
                self.come_back(client);
            }
            moved = true;
        }
        for conn in self.clients[client].live.clone() {
            if !self.conns[conn as usize].silent {
                moved |= self.pump(conn);
                moved |= self.now >= self.clients[client].stalled_until && self.hear(conn);
            }
        }
        moved
    }

    /// Hands the transport as much as it takes of the client's output.
    fn pump(&mut self, conn: u32) -> bool {
        let most = self.draw_chunk();
        let state = &mut self.conns[conn as usize];
        let bytes = take(&mut state.peer.outbox, state.up.room().min(most));
        state.up.write(&bytes);
        !bytes.is_empty()
    }

    fn hear(&mut self, conn: u32) -> bool {
        let most = self.draw_chunk();
        let state = &mut self.conns[conn as usize];
        let client = state.peer.client;
        if state.down.readable() > 0 {
            let bytes = state.down.read(most);
            let (before, waiting) = (state.peer.stage, state.peer.outbox.len());
            let outcomes = state.peer.take(&bytes);
            if before == Stage::EdgeKey && state.peer.stage != Stage::EdgeKey && state.hasty {
                // It has already sent its claim.
                let claim = Hello::Id(state.peer.claim).to_frame().len();
                state.peer.outbox.drain(waiting..waiting + claim);
            }
            for outcome in outcomes {
                self.act(conn, client, outcome);
            }
            return true;
        }
        let Some(end) = state.down.ended() else {
            return false;
        };
        let refused =
            state.peer.role == Role::Resume && state.peer.stage == Stage::Ping && end == End::Fin;
        let is_latest = self.clients[client].conn == Some(conn);
        self.leave(conn, End::Rst);
        if is_latest && (refused || self.clients[client].sid.is_none()) {
            self.clients[client].session = None;
            self.clients[client].sid = None;
        }
        true
    }

    fn act(&mut self, conn: u32, client: usize, outcome: Outcome) {
        match outcome {
            Outcome::Joined(sid) if self.clients[client].conn == Some(conn) => {
                self.clients[client].sid = Some(sid);
            }
            Outcome::Decoy if self.ledger.watches[conn as usize].purpose == Purpose::Resume => {
                let session = self.ledger.watches[conn as usize].session;
                self.ledger.denied(session);
            }
            Outcome::Leave => self.leave(conn, End::Fin),
            Outcome::Packet(data) => {
                let session = self.ledger.watches[conn as usize].session;
                self.ledger.received(session, &data);
            }
            Outcome::Nonsense(text) => {
                let text = format!("client {client} at connection {conn}: {text}");
                self.ledger.fail("S15", "8.2", text);
            }
            Outcome::Joined(_) | Outcome::Resumed | Outcome::GoodResponse(_) | Outcome::Decoy => {}
        }
    }

    /// Returns whether the client is established and nothing is in its way.
    pub(super) fn is_well(&self, client: usize) -> bool {
        self.usable(client).is_some_and(|conn| {
            let watch = &self.ledger.watches[conn as usize];
            self.conns[conn as usize].peer.stage == Stage::Established
                && watch.established
                && !watch.over
        })
    }

    /// Returns whether the client is in a handshake that may still succeed.
    pub(super) fn is_trying(&self, client: usize) -> bool {
        self.usable(client)
            .is_some_and(|conn| self.conns[conn as usize].peer.stage != Stage::Stalled)
    }

    /// Ends the faults: all hosts are back, and none is slow.
    pub(super) fn heal(&mut self) {
        for client in &mut self.clients {
            client.stalled_until = 0;
            client.drops_at = None;
        }
        for conn in 0..self.conns.len() as u32 {
            if self.conns[conn as usize].silent {
                self.leave(conn, End::Rst);
            }
        }
        for shard in &mut self.shards {
            shard.paused_until = 0;
        }
        for thread in &mut self.threads {
            (thread.stopped_until, thread.slow) = (0, 0);
        }
        self.link.paused_until = 0;
        self.backend.refuses_until = 0;
        self.backend.stalled_until = 0;
    }

    /// Asks every shard and the trunk to shut down in order.
    pub(super) fn shut_down(&mut self, within: std::time::Duration) {
        let now = time(self.now);
        self.machine.handle_shutdown(now, within);
        for shard in &mut self.shards {
            shard.edge.handle_shutdown(now, within);
        }
    }
}
