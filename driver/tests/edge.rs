//! The driver of an edge, over streams in memory and in virtual time.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::{
    BackendPeer, Chaos, ClientPeer, Clock, MemoryConnector, MemoryListener, Place, Stats,
    TestTimer, World,
};
use voltlane_core::edge::{Edge, EdgeConfig};
use voltlane_core::keys::KeyPair;
use voltlane_core::link::tagged::Flag;
use voltlane_driver::{EdgeDriver, EdgeHandle, Stream as _};

type Driver = EdgeDriver<MemoryListener, MemoryConnector, TestTimer>;

const CAPACITY: usize = 64 * 1024;
const CUT: Chaos = Chaos {
    seed: 0x5eed,
    max_bytes: 700,
    pending_one_in: 3,
};

/// An edge, the place where its clients dial, and the place where it dials its backend.
struct Setup {
    world: World,
    clients: Place,
    backend: Place,
    handle: EdgeHandle,
    /// How often the driver was polled.
    polls: Rc<Cell<usize>>,
    /// Whether its future completed.
    done: Rc<Cell<bool>>,
}

fn setup(config: EdgeConfig, chaos: Chaos) -> Setup {
    setup_with_link(config, chaos, CAPACITY)
}

/// The same, with a link that holds `capacity` bytes.
fn setup_with_link(config: EdgeConfig, chaos: Chaos, capacity: usize) -> Setup {
    let mut world = World::default();
    let (clients, backend) = (Place::default(), Place::default());
    let edge = Edge::new(
        config,
        KeyPair::from_bytes(&[3; 32]).expect("a key"),
        [9; 32],
    );
    let connector = MemoryConnector {
        place: backend.clone(),
        capacity,
        chaos,
    };
    let mut driver: Driver = EdgeDriver::new(
        edge,
        MemoryListener(clients.clone()),
        connector,
        world.clock.timer(),
    );
    let handle = driver.handle();
    let (polls, done) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
    let (counted, ended) = (Rc::clone(&polls), Rc::clone(&done));
    world.spawn(async move {
        poll_fn(|cx| {
            counted.set(counted.get() + 1);
            Pin::new(&mut driver).poll(cx)
        })
        .await;
        ended.set(true);
    });
    Setup {
        world,
        clients,
        backend,
        handle,
        polls,
        done,
    }
}

/// Waits for the driver's end, which must come within `bound`.
async fn ends_within(clock: &Clock, done: &Cell<bool>, bound: Duration) {
    let asked = clock.now();
    while !done.get() {
        clock.sleep(Duration::from_millis(100)).await;
        assert!(clock.now().since(asked) <= bound, "it does not end");
    }
}

/// Lets everything else run until it waits: time passes only then.
async fn settle(clock: &Clock) {
    clock.sleep(Duration::from_millis(1)).await;
}

#[test]
fn every_byte_arrives_however_the_streams_cut_and_stall() {
    const CLIENTS: usize = 20;
    const PACKETS: usize = 40;
    let Setup {
        mut world,
        clients,
        backend,
        ..
    } = setup(EdgeConfig::default(), CUT);
    let mut listener = MemoryListener(backend);
    world.spawn(async move { BackendPeer::accept(&mut listener).await.echo().await });
    let finished = Rc::new(Cell::new(0));
    for seed in 1..=CLIENTS {
        let stream = clients.dial(
            3_000,
            Chaos {
                seed: seed as u64 * 77,
                ..CUT
            },
        );
        let finished = Rc::clone(&finished);
        world.spawn(async move {
            let mut client = ClientPeer::join(stream).await.expect("joined");
            for number in 0..PACKETS {
                // From nothing to several times what a stream holds.
                let packet = vec![(seed + number) as u8; number * number * 7 % 9_000];
                client.send(&packet).await.expect("sent");
                assert_eq!(client.recv().await.expect("received"), Some(packet));
            }
            finished.set(finished.get() + 1);
        });
    }
    let clock = world.clock.clone();
    world.run(async {
        while finished.get() < CLIENTS {
            clock.sleep(Duration::from_millis(1)).await;
            assert!(
                clock.now().as_nanos() < 60_000_000_000,
                "{} of {CLIENTS} are done",
                finished.get()
            );
        }
    });
}

#[test]
fn a_turn_reads_the_ready_ones_once_and_writes_once_for_all() {
    const CLIENTS: usize = 100;
    const ACTIVE: usize = 30;
    let Setup {
        mut world,
        clients,
        backend,
        polls,
        ..
    } = setup(EdgeConfig::default(), Chaos::NONE);
    let mut listener = MemoryListener(backend);
    let clock = world.clock.clone();
    world.run(async {
        let mut link = BackendPeer::accept(&mut listener).await;
        let mut peers = Vec::new();
        let mut edge_ends = Vec::new();
        for _ in 0..CLIENTS {
            let stream = clients.dial(CAPACITY, Chaos::NONE);
            edge_ends.push(Arc::clone(stream.peer_stats()));
            peers.push(ClientPeer::join(stream).await.expect("joined"));
        }
        settle(&clock).await;
        let count = |stats: &Arc<Stats>| {
            (
                stats.reads.load(Ordering::Relaxed),
                stats.writes.load(Ordering::Relaxed),
            )
        };
        let before: Vec<_> = edge_ends.iter().map(count).collect();
        let link_writes = link
            .frames
            .stream
            .peer_stats()
            .writes
            .load(Ordering::Relaxed);
        let polls_before = polls.get();

        for peer in &mut peers[..ACTIVE] {
            peer.send(b"ping").await.expect("sent");
        }
        settle(&clock).await;
        let mut ids = Vec::new();
        for _ in 0..ACTIVE {
            ids.push(link.recv().await.expect("received").expect("a packet").0);
        }
        assert_eq!(
            link.frames
                .stream
                .peer_stats()
                .writes
                .load(Ordering::Relaxed)
                - link_writes,
            1
        );
        // One read with the packet, one that registers the waker; who sent nothing is not touched.
        for (at, stats) in edge_ends.iter().enumerate() {
            let reads = if at < ACTIVE { 2 } else { 0 };
            assert_eq!(
                count(stats),
                (before[at].0 + reads, before[at].1),
                "client {at}"
            );
        }

        for id in ids {
            link.send(id, Flag::Data, b"one").await.expect("sent");
            link.send(id, Flag::Data, b"two").await.expect("sent");
        }
        settle(&clock).await;
        for (at, stats) in edge_ends.iter().enumerate() {
            assert_eq!(
                count(stats).1 - before[at].1,
                usize::from(at < ACTIVE),
                "both packets in one write"
            );
        }
        for peer in &mut peers[..ACTIVE] {
            assert_eq!(
                peer.recv().await.expect("received").as_deref(),
                Some(&b"one"[..])
            );
            assert_eq!(
                peer.recv().await.expect("received").as_deref(),
                Some(&b"two"[..])
            );
        }
        assert!(
            polls.get() - polls_before <= 4,
            "the driver was polled {} times",
            polls.get() - polls_before
        );
    });
}

#[test]
fn a_driver_that_waits_for_nothing_does_nothing() {
    let Setup {
        mut world,
        clients,
        polls,
        ..
    } = setup(EdgeConfig::default(), Chaos::NONE);
    let clock = world.clock.clone();
    world.run(async {
        settle(&clock).await;
        let (polled, accepts) = (polls.get(), clients.accept_calls());
        for _ in 0..50 {
            settle(&clock).await;
        }
        assert_eq!(polls.get(), polled);
        assert_eq!(clients.accept_calls(), accepts);
    });
}

#[test]
fn clients_wait_for_a_backend_that_is_not_there_and_nothing_is_lost() {
    let mut config = EdgeConfig::default();
    config.master.channel_capacity = 4;
    let Setup {
        mut world,
        clients,
        backend,
        ..
    } = setup(config, CUT);
    backend.refuse(true);
    let sent = Rc::new(Cell::new(0_u32));
    for seed in 1..=3 {
        let stream = clients.dial(500, Chaos { seed, ..CUT });
        let sent = Rc::clone(&sent);
        world.spawn(async move {
            let mut client = ClientPeer::join(stream).await.expect("joined");
            for number in 0..50_u32 {
                client
                    .send(&[&number.to_le_bytes()[..], &[0; 100]].concat())
                    .await
                    .expect("sent");
                sent.set(sent.get() + 1);
            }
            // Stays: an end of the connection would be another story.
            std::future::pending::<()>().await;
        });
    }
    let clock = world.clock.clone();
    world.run(async {
        clock.sleep(Duration::from_secs(8)).await;
        assert!(
            sent.get() < 60,
            "{} packets went nowhere: clients are read though the link is full",
            sent.get()
        );
        backend.refuse(false);
        let mut link = BackendPeer::accept(&mut MemoryListener(backend.clone())).await;
        let mut next = std::collections::BTreeMap::new();
        for _ in 0..150 {
            let (id, flag, data) = link.recv().await.expect("received").expect("a packet");
            assert_eq!(flag, Flag::Data);
            let expected: &mut u32 = next.entry(id).or_default();
            assert_eq!(data[..4], expected.to_le_bytes(), "in order, once");
            *expected += 1;
        }
        assert_eq!(next.into_values().collect::<Vec<_>>(), [50, 50, 50]);
    });
}

#[test]
fn a_lost_link_is_dialled_again_and_clients_stay() {
    let Setup {
        mut world,
        clients,
        backend,
        ..
    } = setup(EdgeConfig::default(), Chaos::NONE);
    let mut listener = MemoryListener(backend);
    world.run(async {
        let mut client = None;
        for round in 0..5_u8 {
            let mut link = BackendPeer::accept(&mut listener).await;
            let client = match &mut client {
                Some(client) => client,
                empty => empty.insert(
                    ClientPeer::join(clients.dial(CAPACITY, Chaos::NONE))
                        .await
                        .expect("joined"),
                ),
            };
            client.send(&[round]).await.expect("sent");
            assert_eq!(
                link.recv().await.expect("received"),
                Some((client.id, Flag::Data, vec![round]))
            );
            // By turns in order and by force.
            if round % 2 == 0 {
                drop(link)
            } else {
                link.frames.stream.abort()
            }
        }
    });
}

#[test]
fn an_accept_that_fails_rests_and_goes_on() {
    let Setup {
        mut world,
        clients,
        polls,
        ..
    } = setup(EdgeConfig::default(), Chaos::NONE);
    let clock = world.clock.clone();
    world.run(async {
        settle(&clock).await;
        let (polled, accepts, start) = (polls.get(), clients.accept_calls(), clock.now());
        for _ in 0..10 {
            clients.fail(io::Error::from_raw_os_error(24));
        }
        // Died in the backlog: no reason to rest.
        clients.fail(io::ErrorKind::ConnectionAborted.into());
        ClientPeer::join(clients.dial(CAPACITY, Chaos::NONE))
            .await
            .expect("joined in the end");
        // 10, 20, 40, .. 640 ms, then 1 s each.
        assert_eq!(clock.now().since(start).as_millis(), 1_270 + 3 * 1_000);
        assert!(
            clients.accept_calls() - accepts <= 14,
            "{} calls",
            clients.accept_calls() - accepts
        );
        assert!(polls.get() - polled <= 20, "{} polls", polls.get() - polled);
    });
}

#[test]
fn a_client_that_leaves_is_gone_and_its_place_serves_the_next() {
    let Setup {
        mut world,
        clients,
        backend,
        ..
    } = setup(EdgeConfig::default(), Chaos::NONE);
    let mut listener = MemoryListener(backend);
    world.run(async {
        let mut link = BackendPeer::accept(&mut listener).await;
        for round in 0..20_u8 {
            let mut client = ClientPeer::join(clients.dial(CAPACITY, Chaos::NONE))
                .await
                .expect("joined");
            client.send(&[round]).await.expect("sent");
            // What was sent before the end counts, however it ends.
            if round % 2 == 0 {
                drop(client)
            } else {
                poll_fn(|cx| client.frames.stream.poll_close(cx))
                    .await
                    .expect("closed")
            }
            assert_eq!(
                link.recv().await.expect("received").expect("a packet").2,
                [round]
            );
        }
    });
}

#[test]
fn a_kicked_client_gets_what_was_queued_and_then_the_end() {
    let Setup {
        mut world,
        clients,
        backend,
        ..
    } = setup(EdgeConfig::default(), CUT);
    let mut listener = MemoryListener(backend);
    world.run(async {
        let mut link = BackendPeer::accept(&mut listener).await;
        let mut client = ClientPeer::join(clients.dial(CAPACITY, Chaos::NONE))
            .await
            .expect("joined");
        link.send(client.id, Flag::Data, b"bye")
            .await
            .expect("sent");
        link.send(client.id, Flag::Kick, b"").await.expect("sent");
        assert_eq!(
            client.recv().await.expect("received").as_deref(),
            Some(&b"bye"[..])
        );
        assert_eq!(client.recv().await.expect("in order"), None);
        assert_eq!(
            link.recv().await.expect("received"),
            Some((client.id, Flag::Failure, b"kicked".to_vec()))
        );
    });
}

/// The proof is the first thing that the edge is told of.
#[test]
fn bytes_that_arrived_on_the_old_connection_precede_the_resume() {
    const PACKETS: usize = 20;
    let Setup {
        mut world,
        clients,
        backend,
        ..
    } = setup(EdgeConfig::default(), Chaos::NONE);
    let mut listener = MemoryListener(backend);
    let clock = world.clock.clone();
    world.run(async {
        let mut link = BackendPeer::accept(&mut listener).await;
        let mut client = ClientPeer::join(clients.dial(2 * CAPACITY, Chaos::NONE))
            .await
            .expect("joined");
        let stream = clients.dial(CAPACITY, Chaos::NONE);
        let claimed = client.claim(stream, &[3; 32]).await;
        let (mut frames, proof) = claimed.expect("claimed");
        settle(&clock).await;
        frames.write(&proof).await.expect("written");
        for packet in 0..PACKETS {
            let said = client.send(&[packet as u8; 5_000]).await;
            said.expect("taken by the system");
        }
        for packet in 0..PACKETS {
            let heard = link.recv().await.expect("received").expect("not the end");
            assert_eq!(heard, (client.id, Flag::Data, vec![packet as u8; 5_000]));
        }
        let back = link.recv().await.expect("received").expect("not the end");
        assert_eq!(back, (client.id, Flag::Resumed, Vec::new()));
    });
}

/// The edge is told the time before it knows that the client has read meanwhile.
#[test]
fn a_client_that_read_while_the_process_was_suspended_is_not_late() {
    const PACKETS: usize = 20;
    let Setup {
        mut world,
        clients,
        backend,
        ..
    } = setup(EdgeConfig::default(), Chaos::NONE);
    let mut listener = MemoryListener(backend);
    let clock = world.clock.clone();
    world.run(async {
        let mut link = BackendPeer::accept(&mut listener).await;
        let mut client = ClientPeer::join(clients.dial(CAPACITY, Chaos::NONE))
            .await
            .expect("joined");
        let idler = ClientPeer::join(clients.dial(CAPACITY, Chaos::NONE))
            .await
            .expect("joined");
        // More than the streams hold.
        for id in [client.id, idler.id] {
            for _ in 0..PACKETS {
                let sent = link.send(id, Flag::Data, &[7; 10_000]).await;
                sent.expect("sent");
            }
        }
        settle(&clock).await;
        clock.stand_still(Duration::from_secs(11));
        // The driver's alarm goes off.
        settle(&clock).await;
        for _ in 0..PACKETS {
            let packet = client
                .recv()
                .await
                .expect("not closed")
                .expect("not the end");
            assert_eq!(packet.len(), 10_000);
        }
        // The other client takes nothing, which counts half a second later.
        let late = clock.now();
        let ended = link.recv().await.expect("received").expect("not the end");
        assert_eq!(
            ended,
            (idler.id, Flag::Failure, b"write timed out".to_vec())
        );
        assert!(clock.now().since(late) <= Duration::from_millis(500));
    });
}

/// A stream that is dropped with unread bytes, or while more arrive, ends in a RST, which destroys what the client has yet to read.
#[test]
fn a_client_that_sends_to_the_end_still_reads_its_last_packets() {
    let Setup {
        mut world,
        clients,
        backend,
        ..
    } = setup(EdgeConfig::default(), Chaos::NONE);
    let mut listener = MemoryListener(backend);
    let clock = world.clock.clone();
    world.run(async {
        let mut link = BackendPeer::accept(&mut listener).await;
        let mut client = ClientPeer::join(clients.dial(CAPACITY, Chaos::NONE))
            .await
            .expect("joined");
        let stats = Arc::clone(client.frames.stream.peer_stats());
        link.send(client.id, Flag::Data, b"bye")
            .await
            .expect("sent");
        link.send(client.id, Flag::Kick, b"").await.expect("sent");
        while stats.writes.load(Ordering::Relaxed) < 3 {
            settle(&clock).await;
        }
        for _ in 0..5 {
            client
                .send(b"on and on")
                .await
                .expect("taken, if only by the system");
            settle(&clock).await;
        }
        assert_eq!(
            client.recv().await.expect("received").as_deref(),
            Some(&b"bye"[..])
        );
        assert_eq!(client.recv().await.expect("in order"), None);
        // It is not kept for ever.
        clock.sleep(Duration::from_secs(2)).await;
        client.send(b"on and on").await.expect_err("gone");
    });
}

#[test]
fn a_shutdown_hands_over_what_is_queued_and_ends() {
    let Setup {
        mut world,
        clients,
        backend,
        handle,
        done,
        ..
    } = setup(EdgeConfig::default(), CUT);
    let mut listener = MemoryListener(backend);
    let clock = world.clock.clone();
    let got = Rc::new(RefCell::new(Vec::new()));
    world.run(async {
        let mut link = BackendPeer::accept(&mut listener).await;
        let mut client = ClientPeer::join(clients.dial(CAPACITY, Chaos::NONE))
            .await
            .expect("joined");
        link.send(client.id, Flag::Data, &[1; 20_000])
            .await
            .expect("sent");
        for number in 0..100_u8 {
            client.send(&[number; 300]).await.expect("sent");
        }
        settle(&clock).await;
        handle.shutdown(Duration::from_secs(5));
        while let Some((_, _, data)) = link.recv().await.expect("in order") {
            got.borrow_mut().push(data[0]);
        }
        drop(link);
        assert_eq!(
            client
                .recv()
                .await
                .expect("received")
                .map(|data| data.len()),
            Some(20_000)
        );
        assert_eq!(client.recv().await.expect("in order"), None);
        while !done.get() {
            settle(&clock).await;
        }
        assert_eq!(*got.borrow(), (0..100).collect::<Vec<_>>());
        assert!(clock.now().as_nanos() < 1_000_000_000, "it need not wait");
    });
}

#[test]
fn another_configuration_holds_from_the_next_turn_on_and_of_two_the_later() {
    let Setup {
        mut world,
        clients,
        backend,
        handle,
        ..
    } = setup(EdgeConfig::default(), CUT);
    let mut listener = MemoryListener(backend);
    let clock = world.clock.clone();
    world.run(async {
        let mut link = BackendPeer::accept(&mut listener).await;
        let mut client = ClientPeer::join(clients.dial(CAPACITY, Chaos::NONE))
            .await
            .expect("joined");
        for (bounds, length) in [([1, 100], 100), ([1_000, 99], 99)] {
            for bound in bounds {
                let mut config = EdgeConfig::default();
                config.clients.max_frame_bytes = bound;
                handle.reconfigure(config);
            }
            client.send(&vec![7; length]).await.expect("sent");
            let packet = link.recv().await.expect("in order").expect("a packet");
            assert_eq!(packet.2.len(), length);
        }
        client.send(&[7; 100]).await.expect("sent");
        assert_eq!(client.recv().await.expect("in order"), None);
        settle(&clock).await;
    });
}

#[test]
fn bytes_of_clients_are_passed_on_after_64_kib_and_the_others_follow() {
    const PACKET: usize = 16 * 1024 - 4;
    for (senders, link_writes) in [(4, 1), (5, 2), (8, 2), (9, 3)] {
        let Setup {
            mut world,
            clients,
            backend,
            ..
        } = setup_with_link(EdgeConfig::default(), Chaos::NONE, 16 * CAPACITY);
        let mut listener = MemoryListener(backend);
        let clock = world.clock.clone();
        world.run(async {
            let mut link = BackendPeer::accept(&mut listener).await;
            let mut peers = Vec::new();
            for _ in 0..senders {
                let stream = clients.dial(CAPACITY, Chaos::NONE);
                peers.push(ClientPeer::join(stream).await.expect("joined"));
            }
            settle(&clock).await;
            let stats = Arc::clone(link.frames.stream.peer_stats());
            let before = stats.writes.load(Ordering::Relaxed);
            for peer in &mut peers {
                peer.send(&[7; PACKET]).await.expect("sent");
            }
            settle(&clock).await;
            let writes = stats.writes.load(Ordering::Relaxed) - before;
            assert_eq!(writes, link_writes, "{senders} packets of 16 KiB");
            for _ in 0..senders {
                let (_, _, data) = link.recv().await.expect("received").expect("a packet");
                assert_eq!(data.len(), PACKET);
            }
        });
    }
}

#[test]
fn a_shutdown_ends_even_if_nobody_takes_anything() {
    let Setup {
        mut world,
        clients,
        backend,
        handle,
        done,
        ..
    } = setup(EdgeConfig::default(), Chaos::NONE);
    let mut listener = MemoryListener(backend);
    let clock = world.clock.clone();
    world.run(async {
        let link = BackendPeer::accept(&mut listener).await;
        let mut client = ClientPeer::join(clients.dial(CAPACITY, Chaos::NONE))
            .await
            .expect("joined");
        for _ in 0..3 {
            client.send(&[0; CAPACITY]).await.expect("sent");
        }
        handle.shutdown(Duration::from_secs(2));
        // It is checked each 100 ms, and the backend has 100 ms to close.
        ends_within(&clock, &done, Duration::from_millis(2_200)).await;
        drop((link, client));
    });
}

#[test]
fn sessions_that_end_when_an_edge_closes_its_connections_do_not_keep_it() {
    let mut config = EdgeConfig::default();
    config.clients.max_stale_clients = 1;
    let Setup {
        mut world,
        clients,
        backend,
        handle,
        polls,
        done,
    } = setup(config, Chaos::NONE);
    let mut listener = MemoryListener(backend);
    let clock = world.clock.clone();
    world.run(async {
        let link = BackendPeer::accept(&mut listener).await;
        let join = async || {
            ClientPeer::join(clients.dial(CAPACITY, Chaos::NONE))
                .await
                .expect("joined")
        };
        let both = [join().await, join().await];
        let polled = polls.get();
        handle.shutdown(Duration::from_secs(30));
        // Closing the second of them makes one too many sessions away: a session ends, and has a final notice.
        ends_within(&clock, &done, Duration::from_secs(2)).await;
        assert!(polls.get() - polled < 10, "{} polls", polls.get() - polled);
        drop((link, both));
    });
}

#[test]
fn a_deadline_while_the_link_closes_does_not_make_the_driver_spin() {
    let mut config = EdgeConfig::default();
    config.clients.stale_timeout = Duration::from_millis(500);
    config.clients.stale_reap_interval = Duration::ZERO;
    let Setup {
        mut world,
        clients,
        backend,
        handle,
        polls,
        done,
    } = setup(config, Chaos::NONE);
    let mut listener = MemoryListener(backend);
    let clock = world.clock.clone();
    world.run(async {
        let link = BackendPeer::accept(&mut listener).await;
        let client = ClientPeer::join(clients.dial(CAPACITY, Chaos::NONE))
            .await
            .expect("joined");
        drop(client);
        settle(&clock).await;
        handle.shutdown(Duration::from_secs(5));
        settle(&clock).await;
        // The edge has finished and waits for its backend, which does not close. Meanwhile the session that is away expires.
        let polled = polls.get();
        ends_within(&clock, &done, Duration::from_secs(2)).await;
        assert!(polls.get() - polled < 5, "{} polls", polls.get() - polled);
        drop(link);
    });
}
