//! Simulated clients: what the plan's operations make them do, and what they do by themselves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use voltlane_core::edge::Closed;

use super::identity::STRANGER;
use super::peer::{Outcome, Stage};
use super::pipe::take_front;
use super::{Conn, Drop, End, Event, Join, Lane, Mark, Peer, Pipe, Rng, Role, World, trace};
use crate::codec::frame;
use crate::payload::{self, Direction, Label};
use crate::plan::Attempt;

/// The time between two bytes of a slow client, in nanoseconds.
const DRIP: u64 = 40_000_000;
/// How long the network takes to give up a connection whose peer is gone, and in what percentage of cases it does.
const GIVE_UP: u64 = 20_000_000_000;
const GIVE_UP_PERCENT: u64 = 50;

/// Returns an address of source `number`. Every fourth source is this machine. The others are IPv4 addresses and IPv6 networks, in which
/// each connection has a host of its own.
pub(super) fn source_address(number: u64, conn: u32) -> IpAddr {
    match number % 4 {
        0 | 2 => IpAddr::V4(Ipv4Addr::from(0xc000_0200 + number as u32)),
        1 => IpAddr::V6(Ipv6Addr::from_bits(
            (0x2001_0db8_0000_u128 << 80) | (u128::from(number) << 64) | u128::from(conn),
        )),
        _ => IpAddr::V4(Ipv4Addr::from(0x7f00_0000 + number as u32)),
    }
}

/// One simulated client across its connections.
#[derive(Default)]
pub(super) struct Client {
    /// The number of its session's key pair.
    pub(super) identity: usize,
    /// Its session's id, once known.
    pub(super) sid: Option<u64>,
    /// Its latest connection.
    pub(super) conn: Option<u32>,
    pub(super) stalled: bool,
    /// Packets sent and received, over all its sessions.
    pub(super) sent: u32,
    pub(super) received: u64,
    /// The last good response.
    old_response: Option<Vec<u8>>,
    /// Number of bogus packets aimed at it by the backend, and of packets sent to it.
    pub(super) sent_down: u32,
}

impl World<'_> {
    pub(super) fn lane(&self, conn: u32) -> Lane {
        Lane::Client(self.conns[conn as usize].peer.client as u32)
    }

    /// Returns the address that a connection comes from. Once the faults are over, each has an address and a /24 of its own: a healthy
    /// client that has moved is not charged for what a source did.
    fn address(&self, conn: u32, client: usize) -> IpAddr {
        let sources = self.plan.options.sources;
        if sources == 0 || self.healed {
            return IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + (conn << 8)));
        }
        source_address(client as u64 % sources, conn)
    }

    pub(super) fn open(&mut self, mut peer: Peer) -> u32 {
        let conn = self.conns.len() as u32;
        if peer.address.is_unspecified() {
            peer.address = self.address(conn, peer.client);
        }
        let options = &self.plan.options;
        let pipe = |name| {
            let rng = Rng::fork(options.seed, name, conn.into());
            Pipe::new(options.client_socket_bytes, options.delay_max_us, rng)
        };
        let (up, down) = (pipe("up"), pipe("down"));
        let mut rng = Rng::fork(options.seed, "conn", conn.into());
        let accepted = self.now + rng.below(options.delay_max_us * 1_000 + 1);
        self.conns.push(Conn {
            peer,
            up,
            down,
            open: false,
            blocked: false,
            rng,
        });
        self.at(accepted, Event::Accept(conn));
        let state = &mut self.conns[conn as usize];
        state.peer.start();
        let leaves_at_once = state.peer.stage == Stage::Stalled
            && state.peer.outbox.is_empty()
            && state.rng.chance(20);
        self.announce(conn);
        self.pump(conn);
        if leaves_at_once {
            self.leave(conn, End::Fin);
        }
        conn
    }

    /// Opens a connection with a key pair of its own.
    pub(super) fn newcomer(&mut self, role: Role, client: usize, rng: Rng) -> Peer {
        let identity = self.next_identity;
        self.next_identity += 1;
        self.model
            .note_key(&super::identity::identity(identity).public());
        Peer::new(role, client, identity, 0, rng)
    }

    pub(super) fn connect(&mut self, client: usize, join: Join) {
        let identity = self.next_identity;
        let peer = self.newcomer(Role::Join(join), client, self.peer_rng());
        let conn = self.open(peer);
        let state = &mut self.clients[client];
        (state.identity, state.sid, state.conn) = (identity, None, Some(conn));
    }

    pub(super) fn resume(&mut self, client: usize) {
        let Some(sid) = self.clients[client].sid else {
            return self.connect(client, Join::Normal);
        };
        let peer = Peer::new(
            Role::Resume,
            client,
            self.clients[client].identity,
            sid,
            self.peer_rng(),
        );
        let conn = self.open(peer);
        self.clients[client].conn = Some(conn);
    }

    pub(super) fn attempt(&mut self, client: usize, how: Attempt) {
        let state = &self.clients[client];
        let Some(sid) = state.sid else { return };
        // A connection without the session's key cannot open anything. A key pair of its own models that.
        let identity = if how.has_the_key() {
            state.identity
        } else {
            STRANGER
        };
        let old = state.old_response.clone();
        let claim = if how == Attempt::Unknown {
            sid ^ 0x5555
        } else {
            sid
        };
        let peer = Peer::new(Role::Attempt(how), client, identity, claim, self.peer_rng());
        self.open(peer.with_old_response(old));
    }

    pub(super) fn peer_rng(&self) -> Rng {
        Rng::fork(self.plan.options.seed, "peer", self.conns.len() as u64)
    }

    /// Returns the client's latest connection, if it is still usable.
    fn usable(&mut self, client: usize) -> Option<(u32, &mut Conn)> {
        let conn = self.clients[client].conn?;
        let state = &mut self.conns[conn as usize];
        (!state.peer.gone && !state.peer.broken).then_some((conn, state))
    }

    pub(super) fn client_sends(&mut self, client: usize, count: u64, bytes: usize) {
        let first = self.clients[client].sent;
        let Some((conn, state)) = self.usable(client) else {
            return;
        };
        for seq in (first..).take(count as usize) {
            let label = Label {
                direction: Direction::Up,
                owner: client as u32,
                conn,
                seq,
            };
            state.peer.send(&frame(&payload::encode(label, bytes)));
        }
        self.clients[client].sent += count as u32;
        self.pump(conn);
    }

    pub(super) fn client_half(&mut self, client: usize) {
        let Some((conn, state)) = self
            .usable(client)
            .filter(|(_, state)| state.peer.stage == Stage::Established)
        else {
            return;
        };
        let whole = frame(&[9; 40]);
        let cut = 1 + state.rng.below(whole.len() as u64 - 1) as usize;
        state.peer.send(&whole[..cut]);
        state.peer.broken = true;
        self.pump(conn);
    }

    pub(super) fn client_too_long(&mut self, client: usize) {
        let length = self.plan.options.max_up_bytes as u32 + 1;
        let Some((conn, state)) = self.usable(client) else {
            return;
        };
        state.peer.send(&length.to_le_bytes());
        state.peer.broken = true;
        self.pump(conn);
    }

    pub(super) fn client_drops(&mut self, client: usize, how: Drop) {
        let Some(conn) = self.clients[client].conn else {
            return;
        };
        match how {
            Drop::Fin => self.leave(conn, End::Fin),
            Drop::Rst => self.leave(conn, End::Rst),
            Drop::Silent => self.fall_silent(conn),
        }
    }

    pub(super) fn unstall(&mut self, client: usize) {
        self.clients[client].stalled = false;
        for conn in 0..self.conns.len() {
            if self.conns[conn].peer.client == client && !self.conns[conn].peer.gone {
                self.reach_client(conn as u32);
            }
        }
    }

    /// Closes the client's end of `conn`.
    pub(super) fn leave(&mut self, conn: u32, end: End) {
        let now = self.now;
        let state = &mut self.conns[conn as usize];
        if std::mem::replace(&mut state.peer.gone, true) {
            return;
        }
        state.peer.outbox.clear();
        state.peer.later.clear();
        state.down.discard();
        let at = state.up.end(now, end);
        let blocked = state.blocked;
        if let Some(at) = at {
            self.at(at, Event::ToEdge(conn));
        }
        if blocked {
            self.at(now, Event::Writable(conn));
        }
    }

    fn fall_silent(&mut self, conn: u32) {
        let state = &mut self.conns[conn as usize];
        if std::mem::replace(&mut state.peer.gone, true) {
            return;
        }
        state.peer.outbox.clear();
        state.up.go_silent();
        state.down.go_silent();
        if state.rng.chance(GIVE_UP_PERCENT) {
            self.at(self.now + GIVE_UP, Event::GiveUp(conn));
        }
    }

    pub(super) fn give_up(&mut self, conn: u32) {
        self.conn_closed(conn, Closed::Error);
    }

    /// Hands the transport as much as it takes of the client's output.
    pub(super) fn pump(&mut self, conn: u32) {
        let (now, healed) = (self.now, self.healed);
        let state = &mut self.conns[conn as usize];
        if state.peer.gone || state.peer.outbox.is_empty() || state.peer.drips {
            return;
        }
        let slow = state.peer.slow && !healed;
        let most = if slow { 1 } else { usize::MAX };
        let count = state.peer.outbox.len().min(state.up.room()).min(most);
        let bytes = take_front(&mut state.peer.outbox, count);
        let mut arrivals = Vec::new();
        state.up.write(now, &bytes, &mut arrivals);
        let drips = slow && !state.peer.outbox.is_empty();
        state.peer.drips = drips;
        for at in arrivals {
            self.at(at, Event::ToEdge(conn));
        }
        if drips {
            self.at(now + DRIP, Event::Drip(conn));
        }
    }

    pub(super) fn drip(&mut self, conn: u32) {
        self.conns[conn as usize].peer.drips = false;
        self.pump(conn);
    }

    /// Handles bytes or an end that have arrived at the client.
    pub(super) fn reach_client(&mut self, conn: u32) {
        let now = self.now;
        let state = &mut self.conns[conn as usize];
        let client = state.peer.client;
        state.down.advance(now);
        if state.peer.gone || (self.clients[client].stalled && !state.down.is_reset(now)) {
            return;
        }
        let bytes = state.down.read(usize::MAX);
        let outcomes = state.peer.take(&bytes);
        if !bytes.is_empty() && state.blocked {
            self.at(now, Event::Writable(conn));
        }
        for outcome in outcomes {
            self.act(conn, client, outcome);
        }
        let state = &self.conns[conn as usize];
        if !state.peer.gone && state.down.ended(now).is_some() {
            self.edge_left(conn, client);
        } else if !state.peer.slow || state.peer.outbox.len() < 3 {
            self.pump(conn);
        }
    }

    fn act(&mut self, conn: u32, client: usize, outcome: Outcome) {
        let is_latest = self.clients[client].conn == Some(conn);
        match outcome {
            Outcome::Joined(sid) if is_latest => self.clients[client].sid = Some(sid),
            Outcome::Joined(_) if self.conns[conn as usize].peer.leaves => {
                self.leave(conn, End::Fin);
            }
            Outcome::Joined(_) | Outcome::Resumed => {}
            Outcome::GoodResponse(response) => {
                let claim = self.conns[conn as usize].peer.claim;
                self.model.note_response(conn, claim, &response);
                self.clients[client].old_response = Some(response);
            }
            Outcome::Decoy => self.model.note_decoy(self.now, conn),
            Outcome::Leave => self.leave(conn, End::Fin),
            Outcome::Packet(data) => self.client_received(client, &data),
            Outcome::Nonsense(text) => {
                self.model
                    .fail("S15", "8.2", format!("client of conn {conn}: {text}"))
            }
        }
    }

    fn client_received(&mut self, client: usize, data: &[u8]) {
        self.clients[client].received += 1;
        if let Ok(label) = payload::decode(data)
            && (label.direction, label.owner) != (Direction::Down, client as u32)
        {
            self.model.fail(
                "S2",
                "1.4(b)",
                format!("client {client} received {label:?}"),
            );
        }
        self.note(
            Lane::Client(client as u32),
            Lane::Client(client as u32),
            Mark::Packet,
            || format!("got {}", trace::client_bytes(&frame(data))),
        );
    }

    /// Handles that the edge has closed the connection and the client has read everything before that.
    fn edge_left(&mut self, conn: u32, client: usize) {
        let refused = {
            let peer = &self.conns[conn as usize].peer;
            peer.role == Role::Resume && peer.stage == Stage::Ping
        };
        self.leave(conn, End::Fin);
        if refused && self.clients[client].conn == Some(conn) {
            self.clients[client].sid = None;
        }
    }
}
