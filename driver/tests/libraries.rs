//! The client and the backend library, through a driven edge, over streams in memory and in virtual time.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::support::{
    Chaos, HoldingConnector, MemoryConnector, MemoryListener, Place, TestTimer, World,
};
use voltlane_core::edge::{Edge, EdgeConfig};
use voltlane_core::keys::KeyPair;
use voltlane_driver::backend::{self, BackendConfig};
use voltlane_driver::client::{self, ClientConfig, DropCause, Refusal, SendError};
use voltlane_driver::{EdgeDriver, EdgeHandle};

type Client = client::Client<MemoryConnector, TestTimer>;
type Backend = backend::Backend<MemoryListener, TestTimer>;

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

fn setup(config: EdgeConfig, chaos: Chaos) -> Setup {
    let mut world = World::default();
    let (clients, backend) = (Place::default(), Place::default());
    let edge = start_edge(&mut world, config, &clients, &backend, chaos);
    Setup {
        world,
        clients,
        backend,
        edge,
    }
}

fn start_edge(
    world: &mut World,
    config: EdgeConfig,
    clients: &Place,
    backend: &Place,
    chaos: Chaos,
) -> EdgeHandle {
    let edge = Edge::new(
        config,
        KeyPair::from_bytes(&[3; 32]).expect("a key"),
        [9; 32],
    );
    let connector = MemoryConnector {
        place: backend.clone(),
        capacity: CAPACITY,
        chaos,
    };
    let driver = EdgeDriver::new(
        edge,
        MemoryListener(clients.clone()),
        connector,
        world.clock.timer(),
    );
    let handle = driver.handle();
    world.spawn(driver);
    handle
}

/// Keeps what a client that is away misses.
fn healing() -> EdgeConfig {
    let mut config = EdgeConfig::default();
    config.clients.missed_packets_buffer_size = 1_000;
    config
}

fn client(setup: &Setup, seed: u8, config: ClientConfig, chaos: Chaos) -> Client {
    let connector = MemoryConnector {
        place: setup.clients.clone(),
        capacity: CAPACITY,
        chaos,
    };
    Client::new(config, [seed; 32], connector, setup.world.clock.timer())
}

fn backend(setup: &Setup, config: BackendConfig) -> Backend {
    Backend::with_config(
        config,
        MemoryListener(setup.backend.clone()),
        setup.world.clock.timer(),
    )
}

async fn echo(mut backend: Backend) {
    loop {
        if let backend::Event::Packet { id, data } = backend.recv().await {
            backend.send(id, &data).await.expect("not too long");
        }
    }
}

async fn connected(client: &mut Client) -> voltlane_core::ClientId {
    match client.recv().await {
        Some(client::Event::Connected { id }) => id,
        other => panic!("{other:?}"),
    }
}

async fn packet(client: &mut Client) -> Vec<u8> {
    match client.recv().await {
        Some(client::Event::Packet(data)) => data,
        other => panic!("{other:?}"),
    }
}

fn holding_client(setup: &Setup) -> client::Client<HoldingConnector, TestTimer> {
    let connector = HoldingConnector {
        place: setup.clients.clone(),
        capacity: 128,
    };
    let timer = setup.world.clock.timer();
    client::Client::new(ClientConfig::default(), [1; 32], connector, timer)
}

/// A transport such as TLS takes a whole write and holds what the socket has no room for.
#[test]
fn what_a_clients_transport_holds_goes_without_another_write() {
    let mut setup = setup(EdgeConfig::default(), Chaos::NONE);
    let backend = backend(&setup, BackendConfig::default());
    setup.world.spawn(echo(backend));
    let mut client = holding_client(&setup);
    setup.world.run(async {
        let connected = client.recv().await;
        assert!(matches!(connected, Some(client::Event::Connected { .. })));
        for length in [1, 1_000, 50_000] {
            let data = vec![7; length];
            client.send(&data).await.expect("sent");
            let event = client.recv().await;
            assert!(matches!(event, Some(client::Event::Packet(echo)) if echo == data));
        }
    });
}

#[test]
fn a_flush_waits_for_what_a_clients_transport_holds() {
    let mut setup = setup(EdgeConfig::default(), Chaos::NONE);
    let mut backend = backend(&setup, BackendConfig::default());
    let mut client = holding_client(&setup);
    setup.world.run(async {
        let connected = client.recv().await;
        assert!(matches!(connected, Some(client::Event::Connected { .. })));
        client.send(&[7; 50_000]).await.expect("sent");
        client.flush().await.expect("it has gone");
        // What the transport held would go with it.
        drop(client);
        loop {
            if let backend::Event::Packet { data, .. } = backend.recv().await {
                assert_eq!(data, [7; 50_000]);
                break;
            }
        }
    });
}

/// The process was suspended, or the application computed for long and polled nothing. What came meanwhile counts.
#[test]
fn a_client_that_stood_still_keeps_a_connection_that_brought_something() {
    let mut setup = setup(EdgeConfig::default(), Chaos::NONE);
    let clock = setup.world.clock.clone();
    let backend = backend(&setup, BackendConfig::default());
    setup.world.spawn(echo(backend));
    let config = ClientConfig::default().with_versions(client::Versions::V3);
    let mut client = client(&setup, 1, config, Chaos::NONE);
    setup.world.run(async {
        connected(&mut client).await;
        client.send(b"one").await.expect("sent");
        clock.sleep(Duration::from_millis(10)).await;
        clock.stand_still(Duration::from_secs(180));
        assert_eq!(packet(&mut client).await, b"one");
    });
}

#[test]
fn packets_go_round_however_the_streams_cut_and_stall() {
    let mut setup = setup(EdgeConfig::default(), CUT);
    let backend = backend(&setup, BackendConfig::default());
    setup.world.spawn(echo(backend));
    let done = Rc::new(Cell::new(0));
    for seed in 1..=8 {
        let mut client = client(
            &setup,
            seed,
            ClientConfig::default(),
            Chaos {
                seed: u64::from(seed) * 99,
                ..CUT
            },
        );
        let done = Rc::clone(&done);
        setup.world.spawn(async move {
            connected(&mut client).await;
            for number in 0..60_usize {
                let data = vec![number as u8 ^ seed; number * number * 11 % 20_000];
                client.send(&data).await.expect("sent");
                assert_eq!(packet(&mut client).await, data);
            }
            client.close(Duration::from_secs(1)).await;
            done.set(done.get() + 1);
        });
    }
    let clock = setup.world.clock.clone();
    setup.world.run(async {
        while done.get() < 8 {
            clock.sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn a_dropped_client_comes_back_as_itself_with_all_that_was_sent() {
    let mut setup = setup(healing(), Chaos::NONE);
    let backend = backend(&setup, BackendConfig::default());
    let mut client = client(&setup, 1, ClientConfig::default(), Chaos::NONE);
    setup.world.spawn(echo(backend));
    setup.world.run(async {
        let id = connected(&mut client).await;
        for round in 0..10_u8 {
            client.send(&[round]).await.expect("sent");
            assert_eq!(packet(&mut client).await, [round]);
            client.drop_connection();
            client.send(b"while away").await.expect("it waits");
            match client.recv().await {
                Some(client::Event::Dropped {
                    cause: DropCause::Local,
                    ..
                }) => {}
                other => panic!("{other:?}"),
            }
            assert_eq!(client.recv().await, Some(client::Event::Resumed { id }));
            assert_eq!(packet(&mut client).await, b"while away");
        }
    });
}

#[test]
fn a_saved_session_is_resumed_by_another_process() {
    let mut setup = setup(healing(), Chaos::NONE);
    let mut backend = backend(&setup, BackendConfig::default());
    let mut first = client(&setup, 1, ClientConfig::default(), Chaos::NONE);
    let connector = MemoryConnector {
        place: setup.clients.clone(),
        capacity: CAPACITY,
        chaos: Chaos::NONE,
    };
    let timer = setup.world.clock.timer();
    let heard = Rc::new(RefCell::new(Vec::new()));
    let hears = Rc::clone(&heard);
    setup.world.spawn(async move {
        loop {
            let event = backend.recv().await;
            hears.borrow_mut().push(event);
        }
    });
    setup.world.run(async {
        let id = connected(&mut first).await;
        first.send(b"one").await.expect("sent");
        let saved = first.saved_session().expect("there is a session");
        first.close(Duration::from_secs(1)).await;
        let machine =
            voltlane_core::client::Client::restore(ClientConfig::default(), [2; 32], &saved);
        let mut second = Client::drive(machine, connector, timer);
        assert_eq!(second.recv().await, Some(client::Event::Resumed { id }));
        second.send(b"two").await.expect("sent");
        second.close(Duration::from_secs(1)).await;
        let packet = |data: &[u8]| backend::Event::Packet {
            id,
            data: data.to_vec(),
        };
        let expected = [
            packet(b"one"),
            backend::Event::Resumed { id },
            packet(b"two"),
        ];
        assert_eq!(heard.borrow()[1..], expected);
    });
}

#[test]
fn a_refused_session_is_told_once_and_can_start_over() {
    let mut config = EdgeConfig::default();
    config.clients.stale_timeout = Duration::from_millis(20);
    config.clients.stale_reap_interval = Duration::ZERO;
    let mut setup = setup(config, Chaos::NONE);
    let backend = backend(&setup, BackendConfig::default());
    let mut client = client(&setup, 1, ClientConfig::default(), Chaos::NONE);
    setup.world.spawn(echo(backend));
    let (clock, place) = (setup.world.clock.clone(), setup.clients.clone());
    setup.world.run(async {
        let id = connected(&mut client).await;
        place.refuse(true);
        client.drop_connection();
        assert!(matches!(
            client.recv().await,
            Some(client::Event::Dropped { .. })
        ));
        clock.sleep(Duration::from_millis(50)).await;
        place.refuse(false);
        loop {
            match client.recv().await {
                Some(client::Event::Dropped { .. }) => {}
                Some(client::Event::Refused(Refusal::UnknownOrExpired)) => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(client.recv().await, None);
        assert_eq!(client.recv().await, None);
        assert_eq!(
            client.send(b"x").await,
            Err(SendError::Refused(Refusal::UnknownOrExpired))
        );
        client.start_over();
        assert_ne!(connected(&mut client).await, id);
        client.send(b"anew").await.expect("sent");
        assert_eq!(packet(&mut client).await, b"anew");
    });
}

#[test]
fn a_send_waits_for_room_and_what_comes_meanwhile_is_kept() {
    const PACKETS: u32 = 2_000;
    let mut setup = setup(EdgeConfig::default(), CUT);
    let backend = backend(
        &setup,
        BackendConfig::default()
            .with_queue_bytes(3_000)
            .expect("a queue"),
    );
    let mut client = client(
        &setup,
        1,
        ClientConfig::default()
            .with_queue_packets(4)
            .and_then(|config| config.with_queue_bytes(2_000))
            .expect("a queue"),
        CUT,
    );
    setup.world.spawn(echo(backend));
    setup.world.run(async {
        connected(&mut client).await;
        // Nothing is received until everything is sent: echoes accumulate in the inbox.
        for number in 0..PACKETS {
            client
                .send(&[&number.to_le_bytes()[..], &[0; 300]].concat())
                .await
                .expect("sent");
        }
        for number in 0..PACKETS {
            assert_eq!(packet(&mut client).await[..4], number.to_le_bytes());
        }
    });
}

#[test]
fn a_cancelled_send_or_receive_leaves_nothing_behind_and_loses_nothing() {
    let mut setup = setup(EdgeConfig::default(), CUT);
    let backend = backend(&setup, BackendConfig::default());
    let config = ClientConfig::default().with_queue_packets(2);
    let mut client = client(&setup, 1, config.expect("a queue"), CUT);
    setup.world.spawn(echo(backend));
    setup.world.run(async {
        connected(&mut client).await;
        let (mut sent, mut received) = (0_u32, 0_u32);
        while received < 500 {
            // Each is polled once and dropped, as in a select!. A send that was not ready has queued nothing.
            let cx = &mut Context::from_waker(Waker::noop());
            let data = [&sent.to_le_bytes()[..], &[1; 500]].concat();
            if sent < 500 && pin!(client.send(&data)).poll(cx).is_ready() {
                sent += 1;
            }
            if let Poll::Ready(event) = pin!(client.recv()).poll(cx) {
                let Some(client::Event::Packet(data)) = event else {
                    panic!("{event:?}")
                };
                assert_eq!(data[..4], received.to_le_bytes());
                received += 1;
            }
            yield_now().await;
        }
    });
}

#[test]
fn a_backend_outlives_its_edge_and_what_waits_goes_to_the_next() {
    let mut setup = setup(EdgeConfig::default(), Chaos::NONE);
    let mut backend = backend(&setup, BackendConfig::default());
    let mut client = client(&setup, 1, ClientConfig::default(), Chaos::NONE);
    let place = setup.backend.clone();
    let joined = Rc::new(Cell::new(None));
    let joins = Rc::clone(&joined);
    let got = Rc::new(RefCell::new(Vec::new()));
    let gets = Rc::clone(&got);
    setup.world.spawn(async move {
        joins.set(Some(connected(&mut client).await));
        loop {
            let data = packet(&mut client).await;
            gets.borrow_mut().push(data);
        }
    });
    let clock = setup.world.clock.clone();
    setup.world.run(async {
        assert!(matches!(
            backend.recv().await,
            backend::Event::EdgeConnected { .. }
        ));
        while joined.get().is_none() {
            clock.sleep(Duration::from_millis(1)).await;
        }
        let id = joined.get().expect("joined");
        backend.send(id, b"first").await.expect("queued");
        backend.flush().await;
        clock.sleep(Duration::from_millis(1)).await;
        // Another edge dials: the old link has nothing more to deliver, and is replaced.
        let other = place.dial(CAPACITY, Chaos::NONE);
        assert_eq!(backend.recv().await, backend::Event::EdgeLost);
        backend.send(id, b"second").await.expect("queued");
        assert!(matches!(
            backend.recv().await,
            backend::Event::EdgeConnected { .. }
        ));
        // It leaves. The real edge, which was replaced, comes back. Waiting packets are not lost unless they were taken.
        drop(other);
        assert_eq!(backend.recv().await, backend::Event::EdgeLost);
        assert!(matches!(
            backend.recv().await,
            backend::Event::EdgeConnected { .. }
        ));
        backend.send(id, b"third").await.expect("queued");
        backend.flush().await;
        clock.sleep(Duration::from_millis(1)).await;
        assert_eq!(*got.borrow(), [&b"first"[..], b"second", b"third"]);
    });
}

#[test]
fn packets_of_the_old_link_come_before_the_new_one() {
    let mut setup = setup(EdgeConfig::default(), Chaos::NONE);
    let mut backend = backend(&setup, BackendConfig::default());
    let mut client = client(&setup, 1, ClientConfig::default(), Chaos::NONE);
    let (place, clock, edge) = (
        setup.backend.clone(),
        setup.world.clock.clone(),
        setup.edge.clone(),
    );
    setup.world.spawn(async move {
        connected(&mut client).await;
        for number in 0..50_u8 {
            client.send(&[number; 200]).await.expect("sent");
        }
        client.flush().await.expect("flushed");
        std::future::pending::<()>().await;
    });
    setup.world.run(async {
        assert!(matches!(
            backend.recv().await,
            backend::Event::EdgeConnected { .. }
        ));
        // The backend is slow: 10 kB are in the old stream when its edge ends and another one dials.
        clock.sleep(Duration::from_millis(5)).await;
        edge.shutdown(Duration::from_secs(1));
        let _other = place.dial(CAPACITY, Chaos::NONE);
        clock.sleep(Duration::from_millis(5)).await;
        for number in 0..50_u8 {
            match backend.recv().await {
                backend::Event::Packet { data, .. } => assert_eq!(data, [number; 200]),
                other => panic!("{other:?} before packet {number}"),
            }
        }
        assert_eq!(backend.recv().await, backend::Event::EdgeLost);
        assert!(matches!(
            backend.recv().await,
            backend::Event::EdgeConnected { .. }
        ));
    });
}

#[test]
fn a_kick_ends_a_client_for_good() {
    let mut setup = setup(healing(), CUT);
    let mut backend = backend(&setup, BackendConfig::default());
    let mut client = client(&setup, 1, ClientConfig::default(), CUT);
    setup.world.spawn(async move {
        loop {
            match backend.recv().await {
                backend::Event::Packet { id, data } if data == b"end me" => {
                    backend.send(id, b"as you wish").await.expect("sent");
                    backend.kick(id).await;
                }
                backend::Event::Failed { reason, .. } => assert_eq!(reason, "kicked"),
                backend::Event::Packet { .. } | backend::Event::Resumed { .. } => {
                    panic!("it is gone")
                }
                _ => {}
            }
        }
    });
    setup.world.run(async {
        connected(&mut client).await;
        client.send(b"end me").await.expect("sent");
        assert_eq!(packet(&mut client).await, b"as you wish");
        // Challenges that cannot be met look like an edge under attack at first, so the client retries a few times.
        let mut drops = 0;
        let refusal = loop {
            match client.recv().await {
                Some(client::Event::Dropped { .. }) => drops += 1,
                other => break other,
            }
        };
        assert_eq!(
            refusal,
            Some(client::Event::Refused(Refusal::UnknownOrExpired))
        );
        assert!((1..10).contains(&drops), "dropped {drops} times");
    });
}

async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}
