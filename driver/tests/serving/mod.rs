//! The backend library, through a driven edge, over streams in memory and in virtual time.

mod granted;
mod links;
mod many;
mod verify;
mod waits;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use voltlane_core::ClientId;
use voltlane_core::edge::{Edge, EdgeConfig};
use voltlane_core::keys::KeyPair;
use voltlane_driver::backend::{
    Backend, BackendConfig, Code, Event, Joined, Means, Options, SendError,
};
use voltlane_driver::client::{self, Client, ClientConfig, Versions};
use voltlane_driver::{EdgeDriver, EdgeHandle};

use crate::support::{Chaos, MemoryConnector, MemoryListener, Place, World};

const CAPACITY: usize = 16 * 1024;
const CUT: Chaos = Chaos {
    seed: 0xca05,
    max_bytes: 900,
    pending_one_in: 4,
};

struct Setup {
    world: World,
    clients: Place,
    backend: Place,
    edge: EdgeHandle,
}

impl Setup {
    fn new(chaos: Chaos) -> Setup {
        let mut config = EdgeConfig::default();
        config.clients.missed_packets_buffer_size = 1_000;
        Setup::with(chaos, config)
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
        let edge = Edge::new(config, keys, [9; 32]);
        let listener = MemoryListener(clients.clone());
        let driver = EdgeDriver::new(edge, listener, connector, world.clock.timer());
        let edge = driver.handle();
        world.spawn(driver);
        Setup {
            world,
            clients,
            backend,
            edge,
        }
    }

    fn means(&self) -> Means {
        let listener = MemoryListener(self.backend.clone());
        Means::new(listener, self.world.clock.timer(), [5; 32])
    }

    fn backend(&self) -> Backend {
        self.backend_with(Options::default())
    }

    fn backend_with(&self, options: Options) -> Backend {
        Backend::begin(options, self.means()).expect("options that can be")
    }

    fn client(&self, seed: u8) -> Client {
        let connector = MemoryConnector {
            place: self.clients.clone(),
            capacity: CAPACITY,
            chaos: Chaos::NONE,
        };
        let timer = self.world.clock.timer();
        let means = client::Means::new(connector, timer, move || [seed; 32]);
        let mut options = client::Options::default();
        options.config = ClientConfig::default().with_versions(Versions::V2);
        Client::begin(options, means).expect("options that can be")
    }

    /// A client that sends these packets, and counts what comes until it is dropped for good.
    fn speaker(&mut self, seed: u8, packets: &'static [&'static [u8]]) -> Heard {
        let mut client = self.client(seed);
        let heard = Heard::default();
        let hears = Heard::clone(&heard);
        self.world.spawn(async move {
            for packet in packets {
                client.send(packet).await.expect("sent");
            }
            while let Some(event) = client.recv().await {
                if let client::Event::Packet { data, .. } = event {
                    hears.borrow_mut().push(data);
                }
            }
        });
        heard
    }
}

/// What a client has received.
type Heard = Rc<RefCell<Vec<Vec<u8>>>>;

fn small_queue(bytes: usize) -> Options {
    let link = BackendConfig::default().with_queue_bytes(bytes);
    let mut options = Options::default();
    options.config = link.expect("a queue").into();
    options
}

async fn next(backend: &mut Backend) -> Event {
    backend.recv().await.expect("it is not closed")
}

async fn edge_connects(backend: &mut Backend) {
    let event = next(backend).await;
    assert!(matches!(event, Event::EdgeConnected { .. }), "{event:?}");
}

async fn edge_goes(backend: &mut Backend) {
    let event = next(backend).await;
    assert!(matches!(event, Event::EdgeLost { .. }), "{event:?}");
}

async fn joins(backend: &mut Backend) -> ClientId {
    match next(backend).await {
        Event::Joined(Joined { id, again, .. }) => {
            assert!(!again);
            id
        }
        other => panic!("{other:?}"),
    }
}

async fn packet(backend: &mut Backend) -> (ClientId, Vec<u8>, u64) {
    match next(backend).await {
        Event::Packet {
            id, data, number, ..
        } => (id, data, number),
        other => panic!("{other:?}"),
    }
}

/// Waits until a client that has joined speaks. Returns it, and what it says.
async fn speaks(backend: &mut Backend) -> (ClientId, Vec<u8>) {
    loop {
        if let Event::Packet { id, data, .. } = next(backend).await {
            return (id, data);
        }
    }
}

async fn echo(mut backend: Backend) {
    while let Some(event) = backend.recv().await {
        if let Event::Packet { id, data, .. } = event {
            backend.send(id, data).await.expect("not too long");
        }
    }
}

/// Waits until a count is reached.
async fn reaches(count: &Cell<usize>, most: usize, clock: &crate::support::Clock) {
    while count.get() < most {
        clock.sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn packets_go_round_however_the_streams_cut_and_stall() {
    let mut setup = Setup::new(CUT);
    let backend = setup.backend();
    setup.world.spawn(echo(backend));
    let done = Rc::new(Cell::new(0));
    for seed in 1..=8 {
        let mut client = setup.client(seed);
        let done = Rc::clone(&done);
        setup.world.spawn(async move {
            for number in 0..60_usize {
                let data = vec![number as u8 ^ seed; number * number * 11 % 20_000];
                client.send(&data).await.expect("sent");
                loop {
                    match client.recv().await {
                        Some(client::Event::Packet { data: echo, .. }) => {
                            break assert_eq!(echo, data);
                        }
                        Some(client::Event::Connected { .. }) => {}
                        other => panic!("{other:?}"),
                    }
                }
            }
            done.set(done.get() + 1);
        });
    }
    let clock = setup.world.clock.clone();
    setup.world.run(reaches(&done, 8, &clock));
}

#[test]
fn a_client_joins_with_its_first_packet_and_its_packets_have_numbers() {
    let mut setup = Setup::new(Chaos::NONE);
    let mut backend = setup.backend();
    setup.speaker(1, &[b"one", b"", b"three"]);
    setup.world.run(async {
        edge_connects(&mut backend).await;
        assert!(backend.clients().is_empty());
        let id = joins(&mut backend).await;
        assert_eq!(packet(&mut backend).await, (id, b"one".to_vec(), 1));
        assert_eq!(packet(&mut backend).await, (id, b"".to_vec(), 2));
        assert_eq!(packet(&mut backend).await, (id, b"three".to_vec(), 3));
        let info = backend.client(id).expect("it is there");
        assert_eq!(info.ledgers.up.numbered, 3);
        assert_eq!(backend.clients(), [info]);
    });
}

#[test]
fn a_kick_ends_a_client_once_with_its_code_and_text_whatever_is_still_sent() {
    let mut setup = Setup::new(CUT);
    let mut backend = setup.backend();
    let heard = setup.speaker(1, &[b"end me"]);
    let clock = setup.world.clock.clone();
    setup.world.run(async {
        edge_connects(&mut backend).await;
        let id = joins(&mut backend).await;
        packet(&mut backend).await;
        backend.send(id, "as you wish").await.expect("sent");
        backend.kick(id, 600, "you asked").await.expect("a kick");
        // The edge answers each of these: it knows nobody of this name by then.
        for _ in 0..50 {
            backend.send(id, "too late").await.expect("no error");
        }
        match next(&mut backend).await {
            Event::Ended { id: ended, end, .. } => {
                assert_eq!(ended, id);
                assert_eq!((end.code.to_u16(), &*end.text), (600, "you asked"));
                assert_eq!(end.ledgers.down.numbered, 51);
                assert!(end.ledgers.up.is_balanced() && end.ledgers.down.is_balanced());
            }
            other => panic!("{other:?}"),
        }
        // Whatever comes of what was sent is told nobody.
        for _ in 0..50 {
            let sent = backend.send(id, "much too late").await.expect("no error");
            assert_eq!(sent.number, 0);
            let end = backend.acknowledged(sent).await.expect_err("it is over");
            assert_eq!(end.code, Code::KICKED);
            assert!(backend.try_recv().is_none());
            clock.sleep(Duration::from_millis(10)).await;
        }
        backend.kick(id, 401, "").await.expect("it is over");
        assert_eq!(backend.client(id), None);
        assert_eq!(*heard.borrow(), [b"as you wish"]);
    });
}

#[test]
fn a_kick_has_a_code_and_a_text_that_can_be() {
    let mut setup = Setup::new(Chaos::NONE);
    let backend = setup.backend();
    setup.world.run(async {
        let id = ClientId::from_u64(7);
        for code in [0, 400, 402, 499, 700] {
            let error = backend.kick(id, code, "").await;
            assert_eq!(error, Err(SendError::Code { code }));
        }
        for code in [401, 405, 500, 699] {
            assert_eq!(backend.kick(id, code, &"x".repeat(256)).await, Ok(()));
        }
        let error = backend.kick(id, 401, &"x".repeat(257)).await;
        let (length, max) = (257, 256);
        assert_eq!(error, Err(SendError::TooLong { length, max }));
    });
}

#[test]
fn whoever_is_unknown_to_the_edge_ends_for_those_who_have_sent_to_it() {
    let mut setup = Setup::new(Chaos::NONE);
    let mut backend = setup.backend();
    setup.world.run(async {
        let id = ClientId::from_u64(0x77);
        backend.send(id, "is anybody there?").await.expect("sent");
        edge_connects(&mut backend).await;
        match next(&mut backend).await {
            Event::Ended { id: ended, end, .. } => {
                assert_eq!((ended, end.code), (id, Code::GONE));
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn who_is_slower_than_its_ticks_hears_everything_else_as_well() {
    const PACKETS: [&[u8]; 50] = [b"x"; 50];
    let mut setup = Setup::new(Chaos::NONE);
    let mut options = Options::default();
    options.tick = Some(Duration::from_millis(10));
    let mut backend = setup.backend_with(options);
    setup.speaker(1, &PACKETS);
    let clock = setup.world.clock.clone();
    setup.world.run(async {
        let (mut packets, mut ticks) = (0, 0);
        for events in 0..200 {
            match next(&mut backend).await {
                Event::Packet { .. } => packets += 1,
                Event::Tick { .. } => ticks += 1,
                _ => {}
            }
            clock.sleep(Duration::from_millis(25)).await;
            if packets == 50 {
                assert!(ticks > 50 && events < 120, "{ticks} of {events}");
                return;
            }
        }
        panic!("{packets} packets and {ticks} ticks");
    });
}

#[test]
fn a_tick_comes_at_an_even_pace_and_only_to_those_who_wait() {
    let mut setup = Setup::new(Chaos::NONE);
    let mut options = Options::default();
    options.tick = Some(Duration::from_millis(50));
    let mut backend = setup.backend_with(options);
    let clock = setup.world.clock.clone();
    setup.world.run(async {
        let start = clock.now();
        let mut times = Vec::new();
        while times.len() < 4 {
            if let Event::Tick { late, .. } = next(&mut backend).await {
                times.push((clock.now().since(start).as_millis(), late.as_millis()));
            }
        }
        assert_eq!(times, [(50, 0), (100, 0), (150, 0), (200, 0)]);
        clock.sleep(Duration::from_millis(170)).await;
        let late = next(&mut backend).await;
        assert!(matches!(late, Event::Tick { late, .. } if late.as_millis() == 120));
        next(&mut backend).await;
        assert_eq!(clock.now().since(start).as_millis(), 400);
    });
    let mut options = Options::default();
    options.tick = Some(Duration::ZERO);
    let means = Means::new(
        MemoryListener(Place::default()),
        setup.world.clock.timer(),
        [5; 32],
    );
    let error = Backend::begin(options, means).expect_err("no tick at all");
    assert!(error.to_string().contains("every 0 s"), "{error}");
}
