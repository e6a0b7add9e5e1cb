//! The client and the backend library, through a driven edge, over streams in memory and in virtual time.

mod backends;
mod saving;
mod sessions;
mod transports;
mod waits;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use voltlane_core::ClientId;
use voltlane_core::edge::{Edge, EdgeConfig};
use voltlane_core::keys::KeyPair;
use voltlane_core::protocol::OfferedVersions;
use voltlane_driver::backend::{self, Backend, BackendConfig};
use voltlane_driver::client::{Client, ClientConfig, Event, Means, Options, Version, Versions};
use voltlane_driver::{BoxedConnector, Connector, EdgeDriver};

use crate::support::{Chaos, Clock, MemoryConnector, MemoryListener, Place, World};

const CAPACITY: usize = 16 * 1024;
const CUT: Chaos = Chaos {
    seed: 0xca05,
    max_bytes: 900,
    pending_one_in: 4,
};
const BOTH: [Versions; 2] = [Versions::V2, Versions::V3];

struct Setup {
    world: World,
    clients: Place,
    backend: Place,
}

impl Setup {
    /// An edge that speaks both versions, and keeps what a client that is away misses.
    fn new(chaos: Chaos) -> Setup {
        Setup::with(chaos, healing())
    }

    fn with(chaos: Chaos, config: EdgeConfig) -> Setup {
        let mut world = World::default();
        let (clients, backend) = (Place::default(), Place::default());
        let keys = KeyPair::from_bytes(&[3; 32]).expect("a key");
        let connector = MemoryConnector {
            place: backend.clone(),
            capacity: CAPACITY,
            chaos,
        };
        let driver = EdgeDriver::new(
            Edge::new(config, keys, [9; 32]),
            MemoryListener(clients.clone()),
            connector,
            world.clock.timer(),
        );
        world.spawn(driver);
        Setup {
            world,
            clients,
            backend,
        }
    }

    /// What a client needs to reach the edge. `seed` is for all its randomness.
    fn means(&self, seed: u8, chaos: Chaos) -> Means {
        means(&self.clients, &self.world.clock, seed, chaos)
    }

    fn client(&self, seed: u8, versions: Versions) -> Client {
        self.client_with(seed, options(versions), Chaos::NONE)
    }

    fn client_with(&self, seed: u8, options: Options, chaos: Chaos) -> Client {
        Client::begin(options, self.means(seed, chaos)).expect("options that can be")
    }

    fn client_over(&self, connector: impl Connector, versions: Versions) -> Client {
        let means = Means::new(connector, self.world.clock.timer(), entropy(1));
        Client::begin(options(versions), means).expect("options that can be")
    }

    fn backend(&self) -> Backend {
        self.backend_with(BackendConfig::default())
    }

    fn backend_with(&self, config: BackendConfig) -> Backend {
        let listener = MemoryListener(self.backend.clone());
        let means = backend::Means::new(listener, self.world.clock.timer(), [5; 32]);
        let mut options = backend::Options::default();
        options.config = config.into();
        Backend::begin(options, means).expect("options that can be")
    }

    fn echoes(&mut self) {
        let backend = self.backend();
        self.world.spawn(echo(backend));
    }
}

fn means(place: &Place, clock: &Clock, seed: u8, chaos: Chaos) -> Means {
    Means::new(connector(place, chaos), clock.timer(), entropy(seed))
}

fn connector(place: &Place, chaos: Chaos) -> MemoryConnector {
    MemoryConnector {
        place: place.clone(),
        capacity: CAPACITY,
        chaos,
    }
}

fn boxed(place: &Place) -> BoxedConnector {
    BoxedConnector::new(connector(place, Chaos::NONE))
}

/// Returns bytes that are others at each call, and the same in each run.
fn entropy(seed: u8) -> impl FnMut() -> [u8; 32] + Send {
    let mut drawn = 0_u64;
    move || {
        drawn += 1;
        let mut bytes = [seed; 32];
        bytes[..8].copy_from_slice(&drawn.to_le_bytes());
        bytes
    }
}

fn healing() -> EdgeConfig {
    let mut config = EdgeConfig::default();
    config.clients.missed_packets_buffer_size = 1_000;
    config.listener.versions = OfferedVersions::new(&[2, 3]).expect("versions");
    config
}

fn options(versions: Versions) -> Options {
    let mut options = Options::default();
    options.config = ClientConfig::default().with_versions(versions);
    options
}

fn version(versions: Versions) -> Version {
    match versions {
        Versions::V2 => Version::V2,
        _ => Version::V3,
    }
}

async fn echo(mut backend: Backend) {
    while let Some(event) = backend.recv().await {
        if let backend::Event::Packet { id, data, .. } = event {
            backend.send(id, data).await.expect("not too long");
        }
    }
}

async fn connected(client: &mut Client) -> ClientId {
    match client.recv().await {
        Some(Event::Connected { id, .. }) => id,
        other => panic!("{other:?}"),
    }
}

async fn packet(client: &mut Client) -> Vec<u8> {
    match client.recv().await {
        Some(Event::Packet { data, .. }) => data,
        other => panic!("{other:?}"),
    }
}

/// Waits for a packet, whatever happens meanwhile.
async fn any_packet(client: &mut Client) -> Vec<u8> {
    loop {
        match client.recv().await {
            Some(Event::Packet { data, .. }) => return data,
            Some(Event::Ended { end, .. }) => panic!("{end}"),
            Some(_) => {}
            None => panic!("over"),
        }
    }
}

/// Counts what is done, for tasks that are waited for.
#[derive(Clone, Default)]
struct Count(Rc<Cell<usize>>);

impl Count {
    fn add(&self) {
        self.0.set(self.0.get() + 1);
    }

    fn get(&self) -> usize {
        self.0.get()
    }

    /// Waits until it is `count`.
    async fn reaches(&self, count: usize, clock: &Clock) {
        while self.get() < count {
            clock.sleep(Duration::from_millis(1)).await;
        }
    }
}

/// What a task has noted for another one.
type Notes<T> = Rc<RefCell<Vec<T>>>;
