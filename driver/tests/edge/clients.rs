//! Clients that leave, come back, are kicked or are late.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use voltlane_core::edge::EdgeConfig;
use voltlane_core::link::tagged::Flag;
use voltlane_driver::Stream as _;

use super::{CAPACITY, CUT, Setup, ends_within, join, settle, setup};
use crate::support::{BackendPeer, Chaos, ClientPeer};

#[test]
fn a_client_that_leaves_is_gone_and_its_place_serves_the_next() {
    let Setup {
        mut world,
        clients,
        mut listener,
        ..
    } = setup(EdgeConfig::default(), Chaos::NONE);
    world.run(async {
        let mut link = BackendPeer::accept(&mut listener).await;
        for round in 0..20_u8 {
            let mut client = join(&clients).await;
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
        mut listener,
        ..
    } = setup(EdgeConfig::default(), CUT);
    world.run(async {
        let mut link = BackendPeer::accept(&mut listener).await;
        let mut client = join(&clients).await;
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
        clock,
        clients,
        mut listener,
        ..
    } = setup(EdgeConfig::default(), Chaos::NONE);
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
        clock,
        clients,
        mut listener,
        ..
    } = setup(EdgeConfig::default(), Chaos::NONE);
    world.run(async {
        let mut link = BackendPeer::accept(&mut listener).await;
        let mut client = join(&clients).await;
        let idler = join(&clients).await;
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
        clock,
        clients,
        mut listener,
        ..
    } = setup(EdgeConfig::default(), Chaos::NONE);
    world.run(async {
        let mut link = BackendPeer::accept(&mut listener).await;
        let mut client = join(&clients).await;
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

/// What a transport has taken and holds goes on when the client has room, though the machine has no more to write and the client says
/// nothing.
#[test]
fn what_a_transport_holds_is_flushed_without_another_write() {
    let Setup {
        mut world,
        clients,
        clock,
        mut listener,
        ..
    } = setup(EdgeConfig::default(), Chaos::NONE);
    world.run(async {
        let mut link = BackendPeer::accept(&mut listener).await;
        let mut client = ClientPeer::join(clients.dial_holding(128))
            .await
            .expect("joined");
        for length in [1, 100, 10_000] {
            let data = vec![7; length];
            link.send(client.id, Flag::Data, &data).await.expect("sent");
            settle(&clock).await;
            assert_eq!(client.recv().await.expect("received"), Some(data));
        }
        // Behind what is held, in order.
        for byte in 0..20 {
            link.send(client.id, Flag::Data, &[byte; 300])
                .await
                .expect("sent");
        }
        for byte in 0..20 {
            let data = client.recv().await.expect("received");
            assert_eq!(data, Some(vec![byte; 300]));
        }
    });
}

/// What a transport holds when its stream is closed goes on when there is room.
#[test]
fn what_a_closed_stream_holds_is_sent_when_there_is_room() {
    let Setup {
        mut world,
        clients,
        clock,
        mut listener,
        ..
    } = setup(EdgeConfig::default(), Chaos::NONE);
    world.run(async {
        let mut link = BackendPeer::accept(&mut listener).await;
        let mut client = ClientPeer::join(clients.dial_holding(1_000))
            .await
            .expect("joined");
        let data = vec![7; 1_500];
        link.send(client.id, Flag::Data, &data).await.expect("sent");
        link.send(client.id, Flag::Kick, b"").await.expect("sent");
        settle(&clock).await;
        assert_eq!(client.recv().await.expect("all of it"), Some(data));
        assert_eq!(client.recv().await.expect("in order"), None);
    });
}

/// A shutdown is not over while a transport holds bytes of clients that read slowly, but no longer than it may take.
#[test]
fn a_shutdown_waits_for_what_transports_hold() {
    for reads in [true, false] {
        let Setup {
            mut world,
            clients,
            clock,
            mut listener,
            handle,
            done,
            ..
        } = setup(EdgeConfig::default(), Chaos::NONE);
        world.run(async {
            let mut link = BackendPeer::accept(&mut listener).await;
            let mut client = ClientPeer::join(clients.dial_holding(1_000))
                .await
                .expect("joined");
            let data = vec![7; 1_500];
            link.send(client.id, Flag::Data, &data).await.expect("sent");
            settle(&clock).await;
            handle.shutdown(Duration::from_secs(5));
            drop(link);
            clock.sleep(Duration::from_millis(4_900)).await;
            assert!(!done.get(), "it holds bytes");
            if reads {
                assert_eq!(client.recv().await.expect("all of it"), Some(data));
                settle(&clock).await;
                assert!(done.get());
            }
            ends_within(&clock, &done, Duration::from_millis(200)).await;
        });
    }
}
