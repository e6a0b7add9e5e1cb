//! Clients, an edge and a backend, joined by transports that hold nothing: a byte reaches its reader once it is written.

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use voltlane_core::backend::{self, Backend, BackendConfig};
use voltlane_core::client::{self, Client, ClientConfig, State};
use voltlane_core::edge::HasLink;
use voltlane_core::edge::{self, ConnKey, Duty, Edge, EdgeConfig};
use voltlane_core::keys::KeyPair;
use voltlane_core::{ClientId, Time};

const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// The number of turns, of a millisecond each, after which a wait has failed.
const MOST_TURNS: usize = 20_000;

pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) edge: Edge,
    pub(crate) backend: Backend,
    pub(crate) backend_listens: bool,
    pub(crate) clients: Vec<Peer>,
    /// What the backend received.
    pub(crate) heard: Vec<Heard>,
    link_is_up: bool,
    rng: ChaCha20Rng,
}

/// A client and its end of a transport.
pub(crate) struct Peer {
    pub(crate) client: Client,
    pub(crate) packets: Vec<Vec<u8>>,
    /// Every other event, by name.
    pub(crate) events: Vec<String>,
    conn: Option<ConnKey>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    Packet(ClientId, Vec<u8>),
    Resumed(ClientId),
    Failed(ClientId, String),
}

impl World {
    pub(crate) fn new(seed: u8, config: EdgeConfig, clients: u8) -> Self {
        let mut rng = ChaCha20Rng::from_seed([seed; 32]);
        let edge = Edge::new(config, KeyPair::generate(&mut rng), [seed ^ 0xff; 32]);
        let clients = (0..clients)
            .map(|n| Peer::new(Client::new(ClientConfig::default(), [n; 32])))
            .collect();
        World {
            now: Time::from_millis(1),
            edge,
            backend: Backend::new(BackendConfig::default()),
            backend_listens: true,
            clients,
            heard: Vec::new(),
            link_is_up: false,
            rng,
        }
    }

    /// Creates an edge that keeps what its clients miss, with `clients` clients that have joined.
    pub(crate) fn joined(seed: u8, clients: u8) -> Self {
        let mut config = EdgeConfig::default();
        config.clients.missed_packets_buffer_size = 1_000;
        config.clients.stale_reap_interval = Duration::ZERO;
        let mut world = World::new(seed, config, clients);
        world.until(|world| {
            world
                .clients
                .iter()
                .all(|peer| peer.client.state() == State::Established)
        });
        world
    }

    pub(crate) fn id(&self, client: usize) -> ClientId {
        self.clients[client].client.id().expect("it has joined")
    }

    /// Takes turns until `done`.
    #[track_caller]
    pub(crate) fn until(&mut self, done: impl Fn(&World) -> bool) {
        for _ in 0..MOST_TURNS {
            if done(self) {
                return;
            }
            self.turn();
        }
        let clients: Vec<_> = self
            .clients
            .iter()
            .map(|peer| (&peer.client, &peer.events))
            .collect();
        panic!(
            "not done after {MOST_TURNS} turns: {clients:?}, {:?}",
            self.edge.gauges()
        );
    }

    /// Breaks the transport of a client. Neither side has notice before.
    pub(crate) fn cut(&mut self, client: usize) {
        let peer = &mut self.clients[client];
        if let Some(conn) = peer.conn.take() {
            self.edge
                .handle_client_closed(self.now, conn, edge::Closed::Error);
            peer.client.handle_closed(self.now, client::Closed::Error);
        }
    }

    pub(crate) fn cut_link(&mut self) {
        if self.link_is_up {
            self.link_is_up = false;
            self.edge.handle_link_closed(self.now, edge::Closed::Error);
            self.backend.handle_closed();
        }
    }

    /// Restarts the edge with the same keys or others. It knows no sessions.
    pub(crate) fn restart_edge(&mut self, keys: KeyPair) {
        self.cut_link();
        for client in 0..self.clients.len() {
            self.cut(client);
        }
        self.edge = Edge::new(EdgeConfig::default(), keys, [77; 32]);
    }

    /// Returns a number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.rng.next_u64() % end.max(1) as u64).expect("below a usize")
    }

    /// Returns how much of `bytes` a transport takes this time: often everything, often a part, sometimes nothing.
    fn some_of(&mut self, bytes: usize) -> usize {
        match self.below(3) {
            0 => bytes,
            1 => self.below(bytes.min(20) + 1),
            _ => self.below(bytes + 1),
        }
    }

    /// Performs one millisecond.
    pub(crate) fn turn(&mut self) {
        self.now = self.now + Duration::from_millis(1);
        if self
            .edge
            .poll_timeout()
            .is_some_and(|deadline| deadline.at <= self.now)
        {
            self.edge.handle_timeout(self.now);
        }
        self.turn_link();
        for client in 0..self.clients.len() {
            self.turn_client(client);
        }
        while self.edge.poll_client().is_some() {}
    }

    fn turn_link(&mut self) {
        if self.backend_listens && self.edge.link_wants_connect(self.now) {
            self.edge.handle_link_connecting(self.now);
            self.edge.handle_link_connected(self.now);
            self.link_is_up = true;
        }
        if !self.link_is_up {
            return;
        }
        let output = self.edge.link_output().concat();
        let taken = self.some_of(output.len());
        let mut input = &output[..taken];
        while let Some(event) = self
            .backend
            .handle_bytes(&mut input)
            .expect("an edge keeps the framing")
        {
            self.heard.push(match event {
                backend::Event::Packet { id, data } => Heard::Packet(id, data.to_vec()),
                backend::Event::Resumed { id } => Heard::Resumed(id),
                backend::Event::Failed { id, reason } => Heard::Failed(id, reason.into_owned()),
                backend::Event::Fault(fault) => panic!("{fault}"),
            });
        }
        self.edge.handle_link_written(self.now, taken);

        let taken = self.some_of(
            self.backend
                .output()
                .len()
                .min(self.edge.link_read_budget()),
        );
        self.edge
            .handle_link_bytes(self.now, &self.backend.output()[..taken]);
        self.backend.handle_written(taken);
        assert!(!self.edge.link_wants_close(), "a backend keeps the framing");
    }

    fn turn_client(&mut self, client: usize) {
        let now = self.now;
        let peer = &mut self.clients[client];
        if peer.client.poll_timeout().is_some_and(|at| at <= now) {
            peer.client.handle_timeout(now);
        }
        if peer.conn.is_none() && peer.client.wants_connect(now) {
            peer.conn = Some(
                self.edge
                    .handle_accepted(now, SOURCE)
                    .expect("within all bounds"),
            );
            peer.client.handle_connected(now, [3; 32]);
        }
        // First, so that the edge writes nothing to a client that no longer reads.
        if peer.client.wants_close()
            && let Some(conn) = peer.conn.take()
        {
            self.edge.handle_client_closed(now, conn, edge::Closed::Eof);
            peer.client.handle_closed(now, client::Closed::Eof);
        }
        if let Some(conn) = peer.conn {
            let budget = self.edge.read_budget(conn).min(peer.client.output().len());
            let taken = self.some_of(budget);
            let peer = &mut self.clients[client];
            self.edge
                .handle_client_bytes(now, conn, &peer.client.output()[..taken]);
            peer.client.handle_written(now, taken);

            let output = match self.edge.client_duty(conn) {
                Duty::Write(output) => output.concat(),
                _ => Vec::new(),
            };
            let taken = self.some_of(output.len());
            self.edge.handle_client_written(now, conn, taken);
            let peer = &mut self.clients[client];
            peer.read(now, &output[..taken]);
            if let Duty::Close(_) = self.edge.client_duty(conn) {
                self.edge
                    .handle_client_closed(now, conn, edge::Closed::ByEdge);
                peer.client.handle_closed(now, client::Closed::Eof);
                peer.conn = None;
            }
        }
        let peer = &mut self.clients[client];
        while let Some(event) = peer.client.poll_event() {
            peer.events.push(name(event));
        }
    }
}

impl Peer {
    pub(crate) fn new(client: Client) -> Self {
        Peer {
            client,
            packets: Vec::new(),
            events: Vec::new(),
            conn: None,
        }
    }

    fn read(&mut self, now: Time, bytes: &[u8]) {
        let mut input = bytes;
        while let Some(event) = self.client.handle_bytes(now, &mut input) {
            match event {
                client::Event::Packet { data, .. } => self.packets.push(data.to_vec()),
                other => self.events.push(name(other)),
            }
        }
    }
}

/// Returns the name of an event, without its figures.
fn name(event: client::Event<'_>) -> String {
    match event {
        client::Event::Connected { .. } => "connected".to_owned(),
        client::Event::Resumed { .. } => "resumed".to_owned(),
        client::Event::Dropped { cause, .. } => format!("dropped: {cause}"),
        client::Event::Refused(refusal) => format!("refused: {refusal:?}"),
        client::Event::Packet { .. } => "packet".to_owned(),
        event => panic!("{event:?} in version 2"),
    }
}
