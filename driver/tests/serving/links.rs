//! Links that come, go, and take each other's place.

use voltlane_driver::backend::CLOSE_WITHIN;

use super::*;

#[test]
fn a_lost_link_is_an_event_and_what_waits_goes_to_the_next() {
    let mut setup = Setup::new(Chaos::NONE);
    let mut backend = setup.backend();
    let heard = setup.speaker(1, &[b"here"]);
    let (place, clock) = (setup.backend.clone(), setup.world.clock.clone());
    setup.world.run(async {
        edge_connects(&mut backend).await;
        let id = joins(&mut backend).await;
        packet(&mut backend).await;
        let sent = backend.send(id, b"first").await.expect("queued");
        backend.acknowledged(sent).await.expect("taken");
        clock.sleep(Duration::from_millis(1)).await;
        // Another edge dials: the old link has nothing more to deliver, and is replaced.
        let other = place.dial(CAPACITY, Chaos::NONE);
        edge_goes(&mut backend).await;
        assert!(!backend.is_connected());
        backend.send(id, b"second").await.expect("queued");
        edge_connects(&mut backend).await;
        // It leaves. The real edge, which was replaced, comes back.
        drop(other);
        edge_goes(&mut backend).await;
        edge_connects(&mut backend).await;
        let sent = backend.send(id, b"third").await.expect("queued");
        assert_eq!(sent.number, 3);
        backend.acknowledged(sent).await.expect("taken");
        clock.sleep(Duration::from_millis(1)).await;
        assert_eq!(*heard.borrow(), [&b"first"[..], b"second", b"third"]);
    });
}

#[test]
fn packets_of_the_old_link_come_before_the_new_one() {
    let mut setup = Setup::new(Chaos::NONE);
    let mut backend = setup.backend();
    let client = setup.client(1);
    let (place, clock, edge) = (
        setup.backend.clone(),
        setup.world.clock.clone(),
        setup.edge.clone(),
    );
    setup.world.spawn(async move {
        for number in 0..50_u8 {
            client.send(&[number; 200]).await.expect("sent");
        }
        client.flush().await.expect("flushed");
        std::future::pending::<()>().await;
    });
    setup.world.run(async {
        edge_connects(&mut backend).await;
        // The backend is slow: 10 kB are in the old stream when its edge ends and another one dials.
        clock.sleep(Duration::from_millis(5)).await;
        edge.shutdown(Duration::from_secs(1));
        let _other = place.dial(CAPACITY, Chaos::NONE);
        clock.sleep(Duration::from_millis(5)).await;
        joins(&mut backend).await;
        for number in 0..50_u8 {
            assert_eq!(packet(&mut backend).await.1, [number; 200]);
        }
        edge_goes(&mut backend).await;
        edge_connects(&mut backend).await;
    });
}

/// A backend that begins again knows nobody.
#[test]
fn who_was_there_before_the_backend_joins_again_with_a_resume() {
    let mut setup = Setup::new(Chaos::NONE);
    let mut first = setup.backend();
    let mut client = setup.client(1);
    let resumes = Rc::new(Cell::new(0));
    let counts = Rc::clone(&resumes);
    let (clock, asked) = (setup.world.clock.clone(), Rc::new(Cell::new(false)));
    let asks = Rc::clone(&asked);
    let sleeper = clock.clone();
    setup.world.spawn(async move {
        client.send(b"here").await.expect("sent");
        client.flush().await.expect("flushed");
        while !asks.get() {
            sleeper.sleep(Duration::from_millis(1)).await;
        }
        client.drop_connection();
        while let Some(event) = client.recv().await {
            if let client::Event::Resumed { .. } = event {
                counts.set(counts.get() + 1);
            }
        }
    });
    let mut second = None;
    let listener = MemoryListener(setup.backend.clone());
    let timer = setup.world.clock.timer();
    setup.world.run(async {
        edge_connects(&mut first).await;
        let id = joins(&mut first).await;
        packet(&mut first).await;
        drop(first);
        let means = Means::new(listener, timer, [6; 32]);
        let backend = second.insert(Backend::begin(Options::default(), means).expect("options"));
        edge_connects(backend).await;
        asked.set(true);
        match next(backend).await {
            Event::Joined(joined) => assert_eq!((joined.id, joined.again), (id, true)),
            other => panic!("{other:?}"),
        }
        assert!(backend.try_recv().is_none(), "it was told once");
        assert_eq!(resumes.get(), 1);
    });
}

#[test]
fn a_closed_backend_gives_what_has_come_and_then_nothing() {
    let mut setup = Setup::new(Chaos::NONE);
    let mut backend = setup.backend();
    let heard = setup.speaker(1, &[b"one", b"two"]);
    let clock = setup.world.clock.clone();
    setup.world.run(async {
        edge_connects(&mut backend).await;
        let id = joins(&mut backend).await;
        // Reads the second packet as well, which waits in the buffer while the backend ends.
        packet(&mut backend).await;
        let handle = backend.handle();
        handle.send(id, "farewell").await.expect("sent");
        handle.close().await;
        let closed = Err(SendError::Closed);
        assert_eq!(handle.send(id, "after").await, closed);
        assert_eq!(handle.try_send(id, "after"), closed);
        assert_eq!(handle.send_volatile(id, "after"), Err(SendError::Closed));
        assert_eq!(handle.kick(id, 401, "").await, Err(SendError::Closed));
        assert_eq!(packet(&mut backend).await.1, b"two");
        assert_eq!(backend.recv().await, None);
        assert_eq!(backend.recv().await, None);
        assert_eq!(backend.try_recv(), None);
        clock.sleep(Duration::from_millis(1)).await;
        assert_eq!(*heard.borrow(), [b"farewell"]);
        handle.close().await;
    });
}

#[test]
fn a_close_waits_no_longer_than_it_may() {
    let mut setup = Setup::new(Chaos::NONE);
    let place = Place::default();
    let listener = MemoryListener(place.clone());
    let means = Means::new(listener, setup.world.clock.timer(), [5; 32]);
    let mut backend = Backend::begin(Options::default(), means).expect("options");
    // A peer that never reads.
    let _peer = place.dial(64, Chaos::NONE);
    let clock = setup.world.clock.clone();
    setup.world.run(async {
        edge_connects(&mut backend).await;
        let id = ClientId::from_u64(1);
        backend.send(id, vec![7; 1_000]).await.expect("queued");
        let start = clock.now();
        backend.close().await;
        assert_eq!(clock.now().since(start), CLOSE_WITHIN);
        assert_eq!(backend.recv().await, None);
    });
}
