//! A client whose store fails.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use voltlane_core::ClientId;
use voltlane_driver::client::{
    Client, ConnectError, Event, SUSPEND_WITHIN, Saving, SendError, SessionStore, State, Versions,
    Why,
};

use super::{BOTH, Setup, connected, options, packet};
use crate::support::Chaos;

#[derive(Default)]
struct Disk {
    content: Option<Vec<u8>>,
    is_full: bool,
    attempts: usize,
}

/// A store that a test can fill, and read.
#[derive(Clone, Default)]
struct Store(Arc<Mutex<Disk>>);

impl Store {
    fn full() -> Store {
        let store = Store::default();
        store.set_full(true);
        store
    }

    fn set_full(&self, is_full: bool) {
        self.0.lock().unwrap().is_full = is_full;
    }

    fn content(&self) -> Option<Vec<u8>> {
        self.0.lock().unwrap().content.clone()
    }

    fn attempts(&self) -> usize {
        self.0.lock().unwrap().attempts
    }
}

impl SessionStore for Store {
    fn load(&mut self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.lock().unwrap().content.clone())
    }

    fn store(&mut self, content: &[u8]) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        disk.attempts += 1;
        if disk.is_full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        disk.content = Some(content.to_vec());
        Ok(())
    }
}

fn client(setup: &Setup, seed: u8, versions: Versions, store: &Store) -> Client {
    let means = setup.means(seed, Chaos::NONE);
    let means = means.with_store(store.clone(), Saving::Taken);
    Client::begin(options(versions), means).expect("options that can be")
}

/// The session is told once it can be found again, as one that began, however it then comes about.
#[test]
fn a_session_that_cannot_be_stored_is_not_told() {
    for versions in BOTH {
        let mut setup = Setup::new(Chaos::NONE);
        setup.echoes();
        let store = Store::full();
        let mut first = client(&setup, 1, versions, &store);
        let id = setup.world.run(async {
            for attempts in 1..=3 {
                match first.recv().await {
                    Some(Event::Dropped { cause, .. }) => {
                        assert_eq!(cause.why(), Why::Local);
                        let error = cause.io_error().expect("that of the store");
                        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
                    }
                    other => panic!("{versions:?}: {other:?}"),
                }
                assert_eq!(first.id(), ClientId::from_u64(0));
                assert!(store.attempts() >= attempts);
            }
            store.set_full(false);
            // Another session in the place of the first one comes behind a drop.
            let id = loop {
                match first.recv().await {
                    Some(Event::Connected { id, .. }) => break id,
                    Some(Event::Dropped { cause, .. }) => assert_ne!(cause.why(), Why::Local),
                    other => panic!("{versions:?}: {other:?}"),
                }
            };
            assert_eq!(first.id(), id);
            // The edge has it for sure.
            first.send(b"1").await.expect("there is room");
            assert_eq!(packet(&mut first).await, b"1");
            first.drop_connection();
            assert!(matches!(first.recv().await, Some(Event::Dropped { .. })));
            let resumed = first.recv().await;
            assert!(
                matches!(resumed, Some(Event::Resumed { .. })),
                "{resumed:?}"
            );
            id
        });
        drop(first);
        let mut second = client(&setup, 2, versions, &store);
        setup.world.run(async {
            let resumed = second.recv().await;
            assert!(
                matches!(resumed, Some(Event::Resumed { .. })),
                "{resumed:?}"
            );
            assert_eq!(second.id(), id);
        });
    }
}

#[test]
fn a_client_that_cannot_store_its_first_session_says_why_it_gave_up() {
    for versions in BOTH {
        let mut setup = Setup::new(Chaos::NONE);
        setup.echoes();
        let mut options = options(versions);
        options.give_up_after = Some(Duration::from_secs(3));
        let means = setup.means(1, Chaos::NONE);
        let means = means.with_store(Store::full(), Saving::Taken);
        let error = setup.world.run(Client::connect(options, means));
        match error.expect_err("it cannot be kept") {
            ConnectError::Unreachable { last } => {
                assert!(last.to_string().ends_with("no storage space"), "{last}");
            }
            other => panic!("{other}"),
        }
    }
}

/// A disk that fills up later is like a network that is down: the session was told, and comes back.
#[test]
fn a_session_that_was_told_is_resumed_once_it_can_be_stored_again() {
    let mut setup = Setup::new(Chaos::NONE);
    setup.echoes();
    let store = Store::default();
    let mut client = client(&setup, 1, Versions::V3, &store);
    setup.world.run(async {
        let id = connected(&mut client).await;
        client.send(b"1").await.expect("there is room");
        assert_eq!(packet(&mut client).await, b"1");
        store.set_full(true);
        client.send(b"2").await.expect("there is room");
        assert!(matches!(client.recv().await, Some(Event::Dropped { .. })));
        store.set_full(false);
        let resumed = loop {
            match client.recv().await {
                Some(Event::Dropped { .. }) => {}
                other => break other,
            }
        };
        assert!(
            matches!(resumed, Some(Event::Resumed { .. })),
            "{resumed:?}"
        );
        assert_eq!((client.id(), client.state()), (id, State::Established));
    });
}

/// In version 3 nothing that was sent is lost, and what the application did not come back from comes again.
#[test]
fn a_client_that_is_suspended_goes_on_as_itself() {
    for versions in BOTH {
        for keeps in [false, true] {
            let mut setup = Setup::new(Chaos::NONE);
            setup.echoes();
            let store = Store::default();
            let mut first = match keeps {
                true => client(&setup, 1, versions, &store),
                false => setup.client(1, versions),
            };
            let (id, left) = setup.world.run(async {
                let id = connected(&mut first).await;
                first.send("one").await.expect("sent");
                assert_eq!(packet(&mut first).await, b"one");
                first.send("two").await.expect("sent");
                let sender = first.sender();
                let left = first.suspend().await.expect("it can be kept");
                // It is over for whoever has a handle.
                assert!(matches!(sender.send("x").await, Err(SendError::Ended(_))));
                assert!(matches!(sender.try_send("x"), Err(SendError::Ended(_))));
                assert!(matches!(
                    sender.send_volatile("x"),
                    Err(SendError::Ended(_))
                ));
                assert!(sender.room().await.is_err());
                assert_eq!(sender.close().await.code.to_u16(), 0);
                assert!(!sender.start_over());
                sender.save("x").expect_err("its store is gone");
                (id, left.expect("a session"))
            });
            assert_eq!(format!("{left:?}"), "Suspended { .. }");
            let mut second = match keeps {
                true => {
                    assert_eq!(store.content().as_deref(), Some(left.as_bytes()));
                    client(&setup, 2, versions, &store)
                }
                false => {
                    let mut options = options(versions);
                    options.suspended = Some(left.as_bytes().to_vec());
                    setup.client_with(2, options, Chaos::NONE)
                }
            };
            setup.world.run(async {
                assert_eq!(second.id(), id);
                second.send("three").await.expect("sent");
                let mut got = Vec::new();
                while got.last().is_none_or(|last| last != b"three") {
                    match second.recv().await.expect("an event") {
                        Event::Packet { data, .. } => got.push(data),
                        Event::Resumed { .. } | Event::CaughtUp { .. } => {}
                        other => panic!("{versions:?}: {other:?}"),
                    }
                }
                // It did not come back from the first one. In version 2 what the first connection took may be lost with it.
                match versions {
                    Versions::V3 => assert_eq!(got, [&b"one"[..], b"two", b"three"]),
                    _ => assert!(got.iter().all(|data| data == b"two" || data == b"three")),
                }
                assert_eq!(second.id(), id);
                let end = second.close().await;
                assert!(second.suspend().await.expect("no error").is_none(), "{end}");
            });
        }
    }
}

/// It has no session yet, and a store that fails does not keep it alive.
#[test]
fn a_client_is_suspended_whatever_its_store_says() {
    let mut setup = Setup::new(Chaos::NONE);
    let store = Store::full();
    let early = client(&setup, 1, Versions::V3, &store);
    let left = setup.world.run(early.suspend()).expect("nothing to store");
    assert!(left.is_none());

    setup.echoes();
    store.set_full(false);
    let mut late = client(&setup, 2, Versions::V3, &store);
    setup.world.run(async {
        connected(&mut late).await;
        store.set_full(true);
        let sender = late.sender();
        let error = late.suspend().await.expect_err("the disk is full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(matches!(sender.send("x").await, Err(SendError::Ended(_))));
    });

    let mut both = options(Versions::V3);
    both.suspended = Some(Vec::new());
    let means = setup.means(3, Chaos::NONE);
    let means = means.with_store(store, Saving::Taken);
    let error = Client::begin(both, means).expect_err("one of both");
    assert!(matches!(error, ConnectError::Config(_)), "{error}");
    let mut wrong = options(Versions::V3);
    wrong.suspended = Some(b"no session".to_vec());
    let error = Client::begin(wrong, setup.means(4, Chaos::NONE)).expect_err("no session");
    assert!(
        error.to_string().contains("the suspended session"),
        "{error}"
    );
}

/// In version 2 nothing is kept but the session, so what waits is sent first, and not for ever.
#[test]
fn a_client_of_version_2_is_suspended_behind_what_it_sent() {
    let mut setup = Setup::new(Chaos::NONE);
    setup.echoes();
    let mut first = setup.client(1, Versions::V2);
    let clock = setup.world.clock.clone();
    setup.world.run(async {
        connected(&mut first).await;
        // The edge cannot be reached.
        setup.clients.refuse(true);
        first.drop_connection();
        first.send("lost").await.expect("room");
        let before = clock.now();
        let left = first.suspend().await.expect("it can be kept");
        assert!(left.is_some());
        assert_eq!(clock.now().since(before), SUSPEND_WITHIN);
    });
}
