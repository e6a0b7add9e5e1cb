//! The backend library, as its application sees it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use voltlane_driver::backend;
use voltlane_driver::client::{Code, Event, Versions};

use super::{CAPACITY, CUT, Notes, Setup, connected, healing, options, packet};
use crate::support::Chaos;

#[test]
fn a_backend_outlives_its_edge_and_what_waits_goes_to_the_next() {
    let mut setup = Setup::new(Chaos::NONE);
    let mut backend = setup.backend();
    let mut client = setup.client(1, Versions::V3);
    let place = setup.backend.clone();
    let joined = Rc::new(Cell::new(None));
    let joins = Rc::clone(&joined);
    let got: Notes<Vec<u8>> = Rc::default();
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
    let mut setup = Setup::new(Chaos::NONE);
    let mut backend = setup.backend();
    let mut client = setup.client(1, Versions::V3);
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
    for (versions, code) in [(Versions::V2, Code::GONE), (Versions::V3, Code::KICKED)] {
        let mut setup = Setup::with(CUT, healing());
        let mut backend = setup.backend();
        let mut client = setup.client_with(1, options(versions), CUT);
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
            let mut drops = 0;
            let end = loop {
                match client.recv().await {
                    Some(Event::Dropped { .. }) => drops += 1,
                    Some(Event::Ended { end, .. }) => break end,
                    other => panic!("{other:?}"),
                }
            };
            assert_eq!(end.code, code);
            // In version 2, challenges that cannot be met look like an edge under attack at first, so the client retries a few times.
            match versions {
                Versions::V2 => assert!((1..10).contains(&drops), "dropped {drops} times"),
                _ => assert_eq!(drops, 0),
            }
        });
    }
}
