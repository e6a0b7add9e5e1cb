//! How a turn of the driver reads and writes.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use voltlane_core::edge::EdgeConfig;
use voltlane_core::link::tagged::Flag;

use super::{CAPACITY, CUT, Setup, join, settle, setup, start};
use crate::support::{BackendPeer, Chaos, ClientPeer, Stats};

#[test]
fn every_byte_arrives_however_the_streams_cut_and_stall() {
    const CLIENTS: usize = 20;
    const PACKETS: usize = 40;
    let Setup {
        mut world,
        clock,
        clients,
        mut listener,
        ..
    } = setup(EdgeConfig::default(), CUT);
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
        clock,
        clients,
        mut listener,
        polls,
        ..
    } = setup(EdgeConfig::default(), Chaos::NONE);
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
        clock,
        clients,
        polls,
        ..
    } = setup(EdgeConfig::default(), Chaos::NONE);
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
fn bytes_of_clients_are_passed_on_after_64_kib_and_the_others_follow() {
    const PACKET: usize = 16 * 1024 - 4;
    for (senders, link_writes) in [(4, 1), (5, 2), (8, 2), (9, 3)] {
        let Setup {
            mut world,
            clock,
            clients,
            mut listener,
            ..
        } = start(EdgeConfig::default(), Chaos::NONE, 16 * CAPACITY, &[]);
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
fn another_configuration_holds_from_the_next_turn_on_and_of_two_the_later() {
    let Setup {
        mut world,
        clock,
        clients,
        mut listener,
        handle,
        ..
    } = setup(EdgeConfig::default(), CUT);
    world.run(async {
        let mut link = BackendPeer::accept(&mut listener).await;
        let mut client = join(&clients).await;
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
