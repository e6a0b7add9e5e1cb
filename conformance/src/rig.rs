//! An edge with its backend.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use rustix::process::Signal;

use crate::{Backend, Client, Edge, Link, Packet, Program, Session};

/// Clients that join to find one for each shard: all of 64 go to one of two only once in 2^63.
const ATTEMPTS: usize = 64;

/// An edge, its backend, and the link between them.
#[derive(Debug)]
pub struct Rig {
    /// The edge.
    pub edge: Edge,
    /// Where the edge connects to.
    pub backend: Backend,
    /// The link that is up.
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

    /// Ends the edge in order, with a backend that goes along with it, and checks that it was in good health.
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

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.edge.address()
    }

    /// A new client that the backend knows.
    #[track_caller]
    pub fn join(&mut self) -> Client {
        let mut client = Client::join(self.address());
        client.send(b"here");
        self.link.expect_data(client.id(), b"here");
        client
    }

    /// Brings a session back; the backend hears of it.
    #[track_caller]
    pub fn resume(&mut self, session: Session) -> Client {
        let client = session.resume(self.address());
        self.link.expect_resumed(client.id());
        client
    }

    /// Sends through both ways and back.
    #[track_caller]
    pub fn round_trip(&mut self, client: &mut Client, data: &[u8]) {
        client.send(data);
        self.link.expect_data(client.id(), data);
        self.link.send(client.id(), data);
        client.expect(data);
    }

    /// Shows that nothing else is on its way to the backend, and that the edge is well: a stranger joins at each shard, and
    /// its packet is the next one on the link.
    #[track_caller]
    pub fn fence(&mut self) {
        let mut strangers = self.strangers();
        for stranger in &mut strangers {
            self.round_trip(stranger, b"fence");
        }
        // The backend may hear of each that it has gone.
        strangers.into_iter().for_each(|s| drop(s.leave()));
    }

    /// The packets on the link up to one more of a stranger at each shard, which shows that no others are on their way.
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

    /// New clients, at least one at each shard. The system chooses where a connection goes, so it takes some attempts.
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
