//! The end of an edge.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use voltlane_core::edge::EdgeConfig;
use voltlane_core::link::tagged::Flag;

use super::{CAPACITY, CUT, Setup, ends_within, join, settle, setup};
use crate::support::{BackendPeer, Chaos};

#[test]
fn a_shutdown_hands_over_what_is_queued_and_ends() {
    let Setup {
        mut world,
        clock,
        clients,
        mut listener,
        handle,
        done,
        ..
    } = setup(EdgeConfig::default(), CUT);
    let got = Rc::new(RefCell::new(Vec::new()));
    world.run(async {
        let mut link = BackendPeer::accept(&mut listener).await;
        let mut client = join(&clients).await;
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
fn a_shutdown_ends_even_if_nobody_takes_anything() {
    let Setup {
        mut world,
        clock,
        clients,
        mut listener,
        handle,
        done,
        ..
    } = setup(EdgeConfig::default(), Chaos::NONE);
    world.run(async {
        let link = BackendPeer::accept(&mut listener).await;
        let mut client = join(&clients).await;
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
        clock,
        clients,
        mut listener,
        handle,
        polls,
        done,
        ..
    } = setup(config, Chaos::NONE);
    world.run(async {
        let link = BackendPeer::accept(&mut listener).await;
        let both = [join(&clients).await, join(&clients).await];
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
        clock,
        clients,
        mut listener,
        handle,
        polls,
        done,
        ..
    } = setup(config, Chaos::NONE);
    world.run(async {
        let link = BackendPeer::accept(&mut listener).await;
        let client = join(&clients).await;
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
