//! What comes to an edge that no client means to send there now: claims that waited while it slept, and whose clients have gone elsewhere
//! meanwhile; first flights that somebody has recorded; and clients of another cluster with tickets of that.

use std::net::IpAddr;
use std::time::Duration;

use voltlane_core::ClientId;
use voltlane_core::backend::fleet::Fleet;
use voltlane_core::backend::host::HostConfig;
use voltlane_core::client as machine;
use voltlane_core::edge::testkit::Adapter as _;
use voltlane_core::edge::{Closed, ConnKey, Duty, HasLink as _};

use super::World;
use super::users::User;

/// First flights that are remembered at most.
const FLIGHTS: usize = 8;
/// What an edge that sleeps has waiting, at most.
const QUEUED: usize = 8;
/// The code of the kicks of the application.
const KICKED: u16 = 401;
/// Turns in which a client of another cluster has its ticket.
const TURNS: usize = 40;

/// What they have.
#[derive(Default)]
pub(super) struct Strangers {
    /// Bytes of connections to edges that sleep.
    queued: Vec<(usize, Vec<u8>)>,
    /// First flights of clients.
    flights: Vec<Vec<u8>>,
    /// Connections on which nobody listens.
    conns: Vec<(usize, ConnKey)>,
}

impl World {
    /// Connects a client to an edge that sleeps, whose machine takes what is sent. Returns whether it did.
    pub(super) fn queue_at(&mut self, user: usize, random: [u8; 32]) -> bool {
        let now = self.time();
        let node = self.users[user].node;
        let sleeps = self.nodes[node].is_paused && !self.nodes[node].is_dead;
        if !sleeps || self.strangers.queued.len() >= QUEUED || self.rng.chance(50) {
            return false;
        }
        let state = &mut self.users[user];
        state.is_queued = true;
        state.came_to.insert(node);
        state.machine.handle_connected(now, random);
        let bytes = state.machine.output().to_vec();
        state.machine.handle_written(now, bytes.len());
        self.strangers.queued.push((node, bytes));
        self.note(|| format!("client {user} waits for edge {node}"));
        self.reached("claim waits");
        true
    }

    /// Somebody records what a client sends first.
    pub(super) fn record(&mut self, user: usize, bytes: Vec<u8>) {
        let is_claim = self.users[user].is_new && self.users[user].id.is_some();
        if !self.roams || !is_claim {
            return;
        }
        let flights = &mut self.strangers.flights;
        if flights.len() >= FLIGHTS {
            flights.remove(0);
        }
        flights.push(bytes);
    }

    /// Something happens that has to do with tickets.
    pub(super) fn operate_strangers(&mut self) {
        if !self.rng.chance(3) {
            return;
        }
        let node = self.rng.below(self.nodes.len() as u64) as usize;
        let user = self.rng.below(self.users.len() as u64) as usize;
        match self.rng.weighted(&[70, 9, 12]) {
            0 => self.replay(node),
            1 => self.kick(user),
            _ => self.send_foreigner(user),
        }
    }

    /// A recorded flight comes to an edge.
    fn replay(&mut self, node: usize) {
        if self.is_silent(node) || self.strangers.flights.is_empty() {
            return;
        }
        let place = self.rng.below(self.strangers.flights.len() as u64) as usize;
        let flight = self.strangers.flights[place].clone();
        self.reached("flight replayed");
        self.come(node, &flight);
    }

    /// A connection comes to an edge that is awake, with these bytes and no more.
    fn come(&mut self, node: usize, bytes: &[u8]) {
        let now = self.time();
        let edge = &mut self.nodes[node].edge;
        let Ok(conn) = edge.handle_accepted(now, IpAddr::from([203, 0, 113, 200])) else {
            return;
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            let edge = &mut self.nodes[node].edge;
            let count = rest.len().min(edge.read_budget(conn));
            let (next, after) = rest.split_at(count);
            if count > 0 {
                edge.handle_client_bytes(now, conn, next);
            }
            rest = after;
            if !self.tend(node, conn) && count == 0 {
                break;
            }
        }
        self.strangers.conns.push((node, conn));
    }

    /// Gives a connection on which nobody listens what it needs. Returns whether it needed something.
    fn tend(&mut self, node: usize, conn: ConnKey) -> bool {
        let now = self.time();
        let edge = &mut self.nodes[node].edge;
        edge.client_takes(now, conn, 70_000);
        if edge.client_duty(conn) != Duty::Entropy {
            return false;
        }
        let mut random = [0; 32];
        self.rng.fill(&mut random);
        edge.handle_entropy(now, conn, random);
        true
    }

    /// An edge that is awake hears what waited for it, and what strangers do.
    pub(super) fn hear_strangers(&mut self, node: usize) {
        let queued = std::mem::take(&mut self.strangers.queued);
        for (of, bytes) in queued {
            if of == node {
                self.reached("claim came late");
                self.come(node, &bytes);
            } else {
                self.strangers.queued.push((of, bytes));
            }
        }
        let conns = std::mem::take(&mut self.strangers.conns);
        for (of, conn) in conns {
            if of != node {
                self.strangers.conns.push((of, conn));
                continue;
            }
            while self.tend(node, conn) {}
            let now = self.time();
            let edge = &mut self.nodes[node].edge;
            let closed = match edge.client_duty(conn) {
                Duty::Close(_) => Some(Closed::Asked),
                _ if self.rng.chance(5) => Some(Closed::Eof),
                _ => None,
            };
            match closed {
                Some(closed) => self.nodes[node]
                    .edge
                    .handle_client_closed(now, conn, closed),
                None => self.strangers.conns.push((of, conn)),
            }
        }
    }

    /// The application ends a session.
    fn kick(&mut self, user: usize) {
        // Where a session has gone to another edge, there is more to forget.
        let seeks_moved = self.rng.chance(50);
        let has_moved = |user: &usize| {
            let id = self.told(*user).filter(|_| seeks_moved);
            id.is_some_and(|id| {
                self.nodes[self.sessions[&id].node].home != ClientId::from_u64(id).home()
            })
        };
        let moved = (0..self.users.len()).find(has_moved);
        let Some(id) = self.told(moved.unwrap_or(user)) else {
            return;
        };
        let kicked = self.fleet.kick(ClientId::from_u64(id), KICKED, "enough");
        if kicked.is_ok() {
            self.reached("kicked");
            self.session(id).is_kicked = true;
            self.note(|| format!("{id:016x} is kicked"));
        }
        // One that has no edge ends at once.
        self.hear_pending();
    }

    /// A client comes that has a ticket of another cluster, of the same key and homes. It takes the place of one that has no session.
    fn send_foreigner(&mut self, user: usize) {
        if self.users[user].conn.is_some() || self.users[user].is_queued {
            return;
        }
        if self.told(user).is_some() {
            return;
        }
        let home = self.nodes[self.users[user].node].home;
        if let Some(foreigner) = self.foreigner(user, home) {
            self.reached("ticket of another cluster");
            self.users[user] = foreigner;
        }
    }

    /// Returns a client that has joined in another cluster, and has a ticket of that.
    fn foreigner(&mut self, user: usize, home: u16) -> Option<User> {
        let now = self.time();
        let mut random = [0; 32];
        self.rng.fill(&mut random);
        let mut edge = self.edge_for(home, random);
        let config = HostConfig::default().asking([9; 16]);
        let mut fleet = Fleet::new(config.with_edges(4).ok()?);
        let link = fleet.handle_connected(now);
        edge.link_up(now);
        let state = &self.users[user];
        let mut one = state.again(state.node);
        self.rng.fill(&mut random);
        let conn = edge
            .handle_accepted(now, IpAddr::from([203, 0, 113, 201]))
            .ok()?;
        one.machine.handle_connected(now, random);
        for turn in 0..TURNS {
            let at = now + Duration::from_millis(turn as u64);
            fleet.handle_timeout(at);
            let down = fleet.output(link).to_vec();
            fleet.handle_written(link, down.len());
            edge.handle_link_bytes(at, &down);
            if edge.poll_timeout().is_some_and(|due| due.at <= at) {
                edge.handle_timeout(at);
            }
            let up = edge.link_output().concat();
            edge.handle_link_written(at, up.len());
            let mut input = &up[..];
            while fleet.handle_bytes(link, at, &mut input).ok()?.is_some() {
                let mark = fleet.mark(link);
                fleet.taken_up(at, mark);
            }
            while fleet.poll_event().is_some() {}
            if edge.client_duty(conn) == Duty::Entropy {
                self.rng.fill(&mut random);
                edge.handle_entropy(at, conn, random);
            }
            let bytes = one.machine.output().to_vec();
            one.machine.handle_written(at, bytes.len());
            edge.handle_client_bytes(at, conn, &bytes);
            let bytes = edge.client_takes(at, conn, 70_000);
            let mut input = &bytes[..];
            while let Some(event) = one.machine.handle_bytes(at, &mut input) {
                if let machine::Event::Connected { id } = event {
                    one.id = Some(id.as_u64());
                    one.machine.send(b"of another cluster").ok()?;
                }
            }
        }
        // Its packet is acknowledged, so it has a ticket.
        if one.machine.acknowledged() == 0 {
            return None;
        }
        one.machine.handle_closed(now, machine::Closed::Error);
        one.is_foreign = true;
        Some(one)
    }
}
