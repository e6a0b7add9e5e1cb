//! An edge with its backend.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use rustix::process::Signal;

use crate::{Backend, Client, Edge, Link, Packet, Program, Session};

/// The number of clients that join to find one for each shard: all of 64 reach the same one of two with a probability of 2^-63.
const ATTEMPTS: usize = 64;

/// An edge, its backend, and the link between them.
#[derive(Debug)]
pub struct Rig {
    /// The edge.
    pub edge: Edge,
    /// The listener that the edge connects to.
    pub backend: Backend,
    /// The current link.
    pub link: Link,
}

impl Rig {
    /// Starts an edge with `config` as its configuration file, and waits for its link.
    #[must_use]
    pub fn start(program: Program, config: &str) -> Rig {
        let backend = Backend::bind();
        let edge = Edge::start(program, backend.address(), config);
        let link = backend.accept();
        Rig {
            edge,
            backend,
            link,
        }
    }

    /// Ends the edge in order, together with its backend, and checks that it was healthy.
    #[track_caller]
    pub fn stop(self) {
        let Rig {
            edge,
            backend,
            link,
        } = self;
        edge.signal(Signal::TERM);
        drop((link, backend));
        edge.expect_end(Some(0));
    }

    /// Returns the address that clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.edge.address()
    }

    /// Joins a client, and makes it known to the backend.
    #[track_caller]
    pub fn join(&mut self) -> Client {
        let mut client = Client::join(self.address());
        client.send(b"here");
        self.link.expect_data(client.id(), b"here");
        client
    }

    /// Resumes a session, and waits for its notice to the backend.
    #[track_caller]
    pub fn resume(&mut self, session: Session) -> Client {
        let client = session.resume(self.address());
        self.link.expect_resumed(client.id());
        client
    }

    /// Sends data both ways.
    #[track_caller]
    pub fn round_trip(&mut self, client: &mut Client, data: &[u8]) {
        client.send(data);
        self.link.expect_data(client.id(), data);
        self.link.send(client.id(), data);
        client.expect(data);
    }

    /// Checks that nothing else is on its way to the backend and that the edge is healthy: a stranger joins at each shard, and its packet
    /// must be the next one on the link.
    #[track_caller]
    pub fn fence(&mut self) {
        let mut strangers = self.strangers();
        for stranger in &mut strangers {
            self.round_trip(stranger, b"fence");
        }
        // The backend may be told when each of them ends.
        strangers.into_iter().for_each(|s| drop(s.leave()));
    }

    /// Returns the packets on the link up to one of a stranger at each shard, which shows that no others are on their way.
    #[track_caller]
    pub fn packets_so_far(&mut self) -> Vec<Packet> {
        let mut strangers = self.strangers();
        for stranger in &mut strangers {
            stranger.send(b"fence");
        }
        let mut packets = Vec::new();
        let mut expected = strangers.len();
        while expected > 0 {
            let packet = self.link.recv();
            match strangers.iter().any(|s| s.id() == packet.id) {
                true => expected -= 1,
                false => packets.push(packet),
            }
        }
        strangers.into_iter().for_each(|s| drop(s.leave()));
        packets
    }

    /// Joins clients until there is at least one at each shard. The system chooses the shard of a connection, so this takes some attempts.
    #[track_caller]
    fn strangers(&self) -> Vec<Client> {
        let mut strangers: Vec<Client> = Vec::new();
        let mut shards = BTreeSet::new();
        while shards.len() < self.edge.shards() {
            assert!(strangers.len() < ATTEMPTS, "all came to {shards:?}");
            let stranger = Client::join(self.address());
            shards.insert(stranger.id().shard());
            strangers.push(stranger);
        }
        strangers
    }
}
