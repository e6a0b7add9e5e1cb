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
use voltlane_core::protocol::OfferedVersions;
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
    /// Whether transports to clients hold bytes, which are lost when they break.
    transports_hold: bool,
    /// The bytes that arrive up and down before the transport that carries them breaks, once.
    pub(crate) left_up: usize,
    pub(crate) left_down: usize,
    rng: ChaCha20Rng,
}

/// A client and its end of a transport.
pub(crate) struct Peer {
    pub(crate) client: Client,
    pub(crate) packets: Vec<Vec<u8>>,
    /// Every other event, by name.
    pub(crate) events: Vec<String>,
    /// What the client has stored last.
    pub(crate) stored: Vec<u8>,
    /// After so many more of the steps at which it may be killed the client is.
    pub(crate) steps_left: Option<usize>,
    conn: Option<ConnKey>,
    /// What the transport holds in each direction.
    up: Vec<u8>,
    down: Vec<u8>,
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
            transports_hold: false,
            left_up: usize::MAX,
            left_down: usize::MAX,
            rng,
        }
    }

    /// Like [`joined`](Self::joined), in version 3, with transports that hold bytes.
    pub(crate) fn joined_in_version_3(seed: u8, clients: u8) -> Self {
        let mut world = World::in_version_3(seed);
        for n in 0..clients {
            let config = ClientConfig::default().with_versions(client::Versions::V3);
            world.clients.push(Peer::new(Client::new(config, [n; 32])));
        }
        world.until_established();
        world
    }

    /// Creates an edge of both versions without clients.
    pub(crate) fn in_version_3(seed: u8) -> Self {
        let mut config = EdgeConfig::default();
        config.listener.versions = OfferedVersions::new(&[2, 3]).expect("both are known");
        let mut world = World::new(seed, config, 0);
        world.transports_hold = true;
        world
    }

    fn until_established(&mut self) {
        self.until(|world| {
            let mut clients = world.clients.iter();
            // In version 3 a client is established before the edge has its session.
            let sessions = world.edge.gauges().sessions;
            sessions == world.clients.len()
                && clients.all(|peer| peer.client.state() == State::Established)
        });
    }

    /// Creates an edge that keeps what its clients miss, with `clients` clients that have joined.
    pub(crate) fn joined(seed: u8, clients: u8) -> Self {
        let mut config = EdgeConfig::default();
        config.clients.missed_packets_buffer_size = 1_000;
        config.clients.stale_reap_interval = Duration::ZERO;
        let mut world = World::new(seed, config, clients);
        world.until_established();
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

    /// Kills the process of a client. What it has written arrives up to some byte. Another one goes on with what was stored.
    pub(crate) fn kill(&mut self, client: usize, config: ClientConfig) {
        let now = self.now;
        let conn = self.clients[client].conn;
        if let Some(conn) = conn {
            let arrives = self.some_of(self.clients[client].up.len());
            let arrives = arrives.min(self.edge.read_budget(conn));
            let bytes: Vec<u8> = self.clients[client].up.drain(..arrives).collect();
            self.edge.handle_client_bytes(now, conn, &bytes);
            while let Duty::Entropy = self.edge.client_duty(conn) {
                let mut random = [0; 32];
                self.rng.fill_bytes(&mut random);
                self.edge.handle_entropy(now, conn, random);
            }
            self.edge
                .handle_client_closed(now, conn, edge::Closed::Error);
        }
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let peer = &mut self.clients[client];
        peer.client = if peer.stored.is_empty() {
            Client::new(config, seed)
        } else {
            let saved = client::SavedClient::from_bytes(&peer.stored).expect("it was stored");
            Client::restore_saved(config, seed, saved)
        };
        (peer.conn, peer.steps_left) = (None, None);
        (peer.up, peer.down) = (Vec::new(), Vec::new());
    }

    /// Breaks the transport of a client. Neither side has notice before.
    pub(crate) fn cut(&mut self, client: usize) {
        let peer = &mut self.clients[client];
        (peer.up, peer.down) = (Vec::new(), Vec::new());
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
            let mut random = [0; 32];
            self.rng.fill_bytes(&mut random);
            let peer = &mut self.clients[client];
            (peer.up, peer.down) = (Vec::new(), Vec::new());
            peer.client.handle_connected(now, random);
        }
        let peer = &mut self.clients[client];
        // First, so that the edge writes nothing to a client that no longer reads.
        if peer.client.wants_close()
            && let Some(conn) = peer.conn.take()
        {
            self.edge.handle_client_closed(now, conn, edge::Closed::Eof);
            peer.client.handle_closed(now, client::Closed::Eof);
        }
        if let Some(conn) = peer.conn {
            self.move_up(now, client, conn);
            let peer = &self.clients[client];
            if peer.conn.is_none() || peer.steps_left == Some(0) {
                return;
            }
            while let Duty::Entropy = self.edge.client_duty(conn) {
                let mut random = [0; 32];
                self.rng.fill_bytes(&mut random);
                self.edge.handle_entropy(now, conn, random);
            }
            let output = match self.edge.client_duty(conn) {
                Duty::Write(output) => output.concat(),
                _ => Vec::new(),
            };
            let taken = self.some_of(output.len());
            self.edge.handle_client_written(now, conn, taken);
            self.clients[client].down.extend(&output[..taken]);
            let held = self.clients[client].down.len();
            let arrives = if self.transports_hold {
                self.some_of(held)
            } else {
                held
            };
            let arrives = arrives.min(self.left_down);
            self.left_down -= arrives;
            let peer = &mut self.clients[client];
            let bytes: Vec<u8> = peer.down.drain(..arrives).collect();
            peer.read(now, &bytes);
            if self.left_down == 0 {
                self.left_down = usize::MAX;
                return self.cut(client);
            }
            if let Duty::Close(_) = self.edge.client_duty(conn) {
                self.edge
                    .handle_client_closed(now, conn, edge::Closed::Asked);
                // An orderly end arrives behind what was written.
                let bytes = std::mem::take(&mut peer.down);
                peer.read(now, &bytes);
                peer.client.handle_closed(now, client::Closed::Eof);
                peer.conn = None;
            }
        }
        let peer = &mut self.clients[client];
        while let Some(event) = peer.client.poll_event() {
            peer.events.push(name(event));
        }
        peer.store();
    }
}

impl World {
    /// Moves bytes from a client to the edge, as many as the transport and the edge take.
    fn move_up(&mut self, now: Time, client: usize, conn: ConnKey) {
        let budget = self.edge.read_budget(conn);
        let room = if self.transports_hold {
            usize::MAX
        } else {
            budget
        };
        // What it cannot write before it has stored something.
        if self.clients[client].client.output().is_empty() && self.clients[client].store() {
            return;
        }
        let waits = self.clients[client].client.output().len();
        let taken = self.some_of(waits.min(room));
        let peer = &mut self.clients[client];
        let written = &peer.client.output()[..taken];
        peer.up.extend_from_slice(written);
        if peer.dies() {
            return;
        }
        peer.client.handle_written(now, taken);
        let held = peer.up.len().min(budget);
        let arrives = if self.transports_hold {
            self.some_of(held)
        } else {
            held
        };
        let arrives = arrives.min(self.left_up);
        self.left_up -= arrives;
        let bytes: Vec<u8> = self.clients[client].up.drain(..arrives).collect();
        self.edge.handle_client_bytes(now, conn, &bytes);
        if self.left_up == 0 {
            self.left_up = usize::MAX;
            self.cut(client);
        }
    }
}

impl Peer {
    pub(crate) fn new(client: Client) -> Self {
        Peer {
            client,
            packets: Vec::new(),
            events: Vec::new(),
            stored: Vec::new(),
            steps_left: None,
            conn: None,
            up: Vec::new(),
            down: Vec::new(),
        }
    }

    /// Returns whether the client is killed here.
    fn dies(&mut self) -> bool {
        match &mut self.steps_left {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }

    /// Stores what is to be stored. Returns whether the client is killed before, within or behind that.
    fn store(&mut self) -> bool {
        if !self.client.wants_save() {
            return false;
        }
        if self.dies() {
            return true;
        }
        self.stored = self.client.to_save().to_vec();
        if self.dies() {
            return true;
        }
        self.client.handle_saved();
        self.dies()
    }

    fn read(&mut self, now: Time, bytes: &[u8]) {
        let mut input = bytes;
        let mut taken = 0;
        while let Some(event) = self.client.handle_bytes(now, &mut input) {
            match event {
                client::Event::Packet { data, number } => {
                    self.packets.push(data.to_vec());
                    taken = number;
                }
                other => self.events.push(name(other)),
            }
        }
        self.client.taken(now, taken);
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
        client::Event::CaughtUp => "caught up".to_owned(),
        client::Event::Ended(end) => format!("ended: {end}"),
        event => panic!("{event:?} of this edge"),
    }
}
