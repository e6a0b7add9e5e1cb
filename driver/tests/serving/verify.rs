//! Clients that are verified before anything of them is seen.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use voltlane_driver::backend::{Everyone, MAX_VERIFYING, Refuse};

use super::granted::granted;
use super::*;

#[test]
fn nothing_of_a_client_is_seen_before_it_was_verified() {
    let mut setup = Setup::new(CUT);
    let (asked, clock) = (Arc::new(AtomicUsize::new(0)), setup.world.clock.clone());
    let check = move |joined: Joined| {
        // The first one takes its time, and the others need not wait for it.
        let (number, clock) = (asked.fetch_add(1, Ordering::Relaxed), clock.clone());
        async move {
            assert!(joined.token_text().is_empty() && joined.note.is_empty());
            if number == 0 {
                clock.sleep(Duration::from_millis(50)).await;
            }
            Ok(format!("user {number}"))
        }
    };
    let means = setup.means().verify(check);
    let mut backend = Backend::begin(Options::default(), means).expect("options");
    for seed in 1..=2 {
        setup.speaker(seed, &[b"one", b"two", b"three"]);
    }
    let clock = setup.world.clock.clone();
    setup.world.run(async {
        edge_connects(&mut backend).await;
        let start = clock.now();
        for (note, after) in [("user 1", 0), ("user 0", 50)] {
            let joined = match next(&mut backend).await {
                Event::Joined(joined) => joined,
                other => panic!("{other:?}"),
            };
            assert!(clock.now().since(start) >= Duration::from_millis(after));
            assert_eq!((&*joined.note, &*backend.note(joined.id)), (note, note));
            for (number, data) in [&b"one"[..], b"two", b"three"].iter().enumerate() {
                let expected = (joined.id, data.to_vec(), number as u64 + 1);
                assert_eq!(packet(&mut backend).await, expected);
            }
        }
    });
}

#[test]
fn who_is_refused_is_kicked_and_never_seen() {
    let mut setup = Setup::new(Chaos::NONE);
    let check = async |_: Joined| Err(Refuse::new(605, "log in first"));
    let means = setup.means().verify(check);
    let mut backend = Backend::begin(Options::default(), means).expect("options");
    let mut client = setup.client(1);
    let end = Rc::new(RefCell::new(None));
    let ends = Rc::clone(&end);
    setup.world.spawn(async move {
        client.send("let me in").await.expect("sent");
        while let Some(event) = client.recv().await {
            if let client::Event::Ended { end, .. } = event {
                *ends.borrow_mut() = Some(end.code);
            }
        }
    });
    let clock = setup.world.clock.clone();
    setup.world.run(async {
        edge_connects(&mut backend).await;
        while end.borrow().is_none() {
            clock.sleep(Duration::from_millis(1)).await;
            let cx = &mut std::task::Context::from_waker(std::task::Waker::noop());
            let polled = backend.poll_recv(cx);
            assert!(polled.is_pending(), "{polled:?}");
        }
        assert!(backend.clients().is_empty(), "it has ended");
    });
}

#[test]
fn so_many_are_verified_at_a_time_and_the_others_wait_for_their_turn() {
    const CLIENTS: usize = MAX_VERIFYING + 8;
    let mut setup = Setup::new(Chaos::NONE);
    let (running, clock) = (Arc::new(AtomicUsize::new(0)), setup.world.clock.clone());
    let most = Arc::new(AtomicUsize::new(0));
    let highest = Arc::clone(&most);
    let check = move |_: Joined| {
        let (running, most) = (Arc::clone(&running), Arc::clone(&highest));
        let clock = clock.clone();
        async move {
            let now = running.fetch_add(1, Ordering::Relaxed) + 1;
            most.fetch_max(now, Ordering::Relaxed);
            clock.sleep(Duration::from_millis(100)).await;
            running.fetch_sub(1, Ordering::Relaxed);
            Ok(String::from("somebody"))
        }
    };
    let means = setup.means().verify(check);
    let mut backend = Backend::begin(Options::default(), means).expect("options");
    for seed in 0..CLIENTS {
        setup.speaker(seed as u8, &[b"here"]);
    }
    setup.world.run(async {
        let mut joined = 0;
        while joined < CLIENTS {
            joined += usize::from(matches!(next(&mut backend).await, Event::Joined(_)));
        }
        assert_eq!(most.load(Ordering::Relaxed), MAX_VERIFYING);
    });
}

/// Over both versions of the link: one is let in, one is refused, and one waits.
#[test]
fn everyone_and_clients_mean_those_who_were_let_in() {
    for asks in [false, true] {
        let mut setup = Setup::granting(Chaos::NONE);
        let ids = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&ids);
        let check = move |joined: Joined| {
            let mut ids = seen.lock().expect("not poisoned");
            ids.push(joined.id);
            let number = ids.len();
            async move {
                match number {
                    1 => std::future::pending().await,
                    2 => Err(Refuse::new(605, "log in first")),
                    _ => Ok(String::from("user 17")),
                }
            }
        };
        let mut options = Options::default();
        options.asks = asks;
        let means = setup.means().verify(check);
        let mut backend = Backend::begin(options, means).expect("options");
        let clock = setup.world.clock.clone();
        let heard: Vec<_> = (1..=3)
            .map(|seed| setup.speaker(seed, &[b"here"]))
            .collect();
        setup.world.run(async {
            let id = loop {
                if let Event::Joined(joined) = next(&mut backend).await {
                    break joined.id;
                }
            };
            let others = ids.lock().expect("not poisoned").clone();
            assert!(others.len() == 3 && others[2] == id);
            for hidden in &others[..2] {
                assert_eq!(backend.client(*hidden), None);
            }
            let infos = backend.clients();
            assert!(infos.len() == 1 && Some(&infos[0]) == backend.client(id).as_ref());
            backend.send(Everyone, "to all").await.expect("sent");
            backend
                .send(Everyone.without(others[0]), "but one")
                .await
                .expect("sent");
            for _ in 0..100 {
                while backend.try_recv().is_some() {}
                clock.sleep(Duration::from_millis(1)).await;
            }
        });
        let mut all: Vec<_> = heard.iter().map(|heard| heard.borrow().clone()).collect();
        all.sort();
        let told = vec![b"to all".to_vec(), b"but one".to_vec()];
        assert_eq!(all, [vec![], vec![], told]);
    }
}

/// Over version 3 of the link the edge keeps every frame that is not acknowledged, and takes nothing from clients beyond its queue.
#[test]
fn nothing_of_those_who_are_refused_or_end_before_stays_unacknowledged() {
    const CLIENTS: u8 = 48;
    const FRAMES: usize = 16;
    for refuses in [true, false] {
        let mut setup = Setup::granting_with(Chaos::NONE, |config| {
            config.master.channel_capacity = FRAMES;
        });
        let asked = Arc::new(AtomicUsize::new(0));
        let asks = Arc::clone(&asked);
        let check = move |_: Joined| {
            asks.fetch_add(1, Ordering::Relaxed);
            async move {
                if !refuses {
                    std::future::pending::<()>().await;
                }
                Err(Refuse::new(605, "log in first"))
            }
        };
        let mut options = Options::default();
        options.asks = true;
        let means = setup.means().verify(check);
        let mut backend = Backend::begin(options, means).expect("options");
        let clients: Vec<_> = (0..CLIENTS)
            .map(|seed| setup.client_of(seed, Versions::V3))
            .collect();
        let ended = Rc::new(Cell::new(0));
        let ends = Rc::clone(&ended);
        setup.world.spawn(async move {
            // One after the other, so that the queue has room for each of them alone.
            for mut client in clients {
                let event = client.recv().await;
                assert!(matches!(event, Some(client::Event::Connected { .. })));
                client.send("let me in").await.expect("sent");
                if !refuses {
                    client.close().await;
                }
                while client.recv().await.is_some() {}
                ends.set(ends.get() + 1);
            }
        });
        let clock = setup.world.clock.clone();
        setup.world.run(async {
            granted(&mut backend, 0).await;
            assert!(matches!(next(&mut backend).await, Event::CaughtUp { .. }));
            let start = clock.now();
            while ended.get() < usize::from(CLIENTS) {
                let count = ended.get();
                assert!(
                    clock.now().since(start) < Duration::from_secs(60),
                    "{count}"
                );
                clock.sleep(Duration::from_millis(1)).await;
                let cx = &mut std::task::Context::from_waker(std::task::Waker::noop());
                let polled = backend.poll_recv(cx);
                assert!(polled.is_pending(), "{polled:?}");
            }
            assert!(asked.load(Ordering::Relaxed) > 0);
        });
    }
}
