//! Streams whose transport does costly work of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use voltlane_core::edge::EdgeConfig;
use voltlane_core::link::tagged::Flag;

use super::{CAPACITY, Setup, settle, setup};
use crate::support::{BackendPeer, Chaos, ClientPeer, Clock, Frames, Place};

/// Dials `count` connections with a costly handshake, which wait for what their clients send.
async fn dial(setup: (&Place, &Clock), count: usize) -> (Vec<Frames>, Arc<AtomicUsize>) {
    let (place, clock) = setup;
    let permits = Arc::<AtomicUsize>::default();
    let streams = (0..count).map(|_| Frames::new(place.dial_costly(&permits)));
    let peers = streams.collect();
    settle(clock).await;
    (peers, permits)
}

/// Each of them sends the beginning of its opening, at once.
async fn hello(peers: &mut [Frames]) {
    for peer in peers {
        peer.write(&[0]).await.expect("taken");
    }
}

/// A poll is four turns, each of which makes 16 at most.
#[test]
fn a_turn_makes_sixteen_costly_handshakes() {
    for (count, most_polls) in [(16, 1), (64, 1), (65, 2), (640, 10)] {
        let Setup {
            mut world,
            clients,
            clock,
            mut listener,
            polls,
            ..
        } = setup(EdgeConfig::default(), Chaos::NONE);
        world.run(async {
            let _link = BackendPeer::accept(&mut listener).await;
            let (mut peers, permits) = dial((&clients, &clock), count).await;
            let before = polls.get();
            hello(&mut peers).await;
            settle(&clock).await;
            assert_eq!(permits.load(Ordering::Relaxed), count);
            assert_eq!(polls.get() - before, most_polls, "for {count}");
        });
    }
}

#[test]
fn costly_handshakes_beyond_the_rate_wait_and_others_are_served() {
    let mut config = EdgeConfig::default();
    config.limits.handshake_rate = 1;
    config.limits.handshake_burst = 5;
    let Setup {
        mut world,
        clients,
        clock,
        mut listener,
        ..
    } = setup(config, Chaos::NONE);
    world.run(async {
        let mut link = BackendPeer::accept(&mut listener).await;
        let (mut peers, permits) = dial((&clients, &clock), 20).await;
        hello(&mut peers).await;
        settle(&clock).await;
        assert_eq!(permits.load(Ordering::Relaxed), 5, "the burst");
        let mut plain = ClientPeer::join(clients.dial(CAPACITY, Chaos::NONE))
            .await
            .expect("joined");
        link.send(plain.id, Flag::Data, b"meanwhile")
            .await
            .expect("sent");
        let data = plain.recv().await.expect("received");
        assert_eq!(data.as_deref(), Some(&b"meanwhile"[..]));
        clock.sleep(Duration::from_secs(3)).await;
        assert_eq!(permits.load(Ordering::Relaxed), 8, "one a second");
        // At the deadline the others go, and are passed over: their turns are another's.
        clock.sleep(Duration::from_secs(3)).await;
        let before = permits.load(Ordering::Relaxed);
        let (mut peers, later) = dial((&clients, &clock), 1).await;
        hello(&mut peers).await;
        clock.sleep(Duration::from_secs(1)).await;
        assert_eq!(later.load(Ordering::Relaxed), 1);
        assert_eq!(permits.load(Ordering::Relaxed), before);
    });
}

/// The memory of a transport is in the account of the machine.
#[test]
fn what_a_transport_holds_makes_the_largest_holder_fail() {
    let mut config = EdgeConfig::default();
    config.limits.max_memory_bytes = 100_000;
    let Setup {
        mut world,
        clients,
        clock,
        mut listener,
        ..
    } = setup(config, Chaos::NONE);
    world.run(async {
        let mut link = BackendPeer::accept(&mut listener).await;
        let mut client = ClientPeer::join(clients.dial_holding(128))
            .await
            .expect("joined");
        let mut other = ClientPeer::join(clients.dial(CAPACITY, Chaos::NONE))
            .await
            .expect("joined");
        // It takes nothing, and its transport took all of it.
        link.send(client.id, Flag::Data, &[7; 94_000])
            .await
            .expect("sent");
        settle(&clock).await;
        link.send(other.id, Flag::Data, &[7; 10])
            .await
            .expect("sent");
        assert!(other.recv().await.expect("received").is_some());
        link.send(client.id, Flag::Data, &[7; 2_000])
            .await
            .expect("sent");
        settle(&clock).await;
        assert!(client.recv().await.is_err(), "it failed");
        link.send(other.id, Flag::Data, &[7; 10])
            .await
            .expect("sent");
        assert!(other.recv().await.expect("received").is_some());
    });
}
