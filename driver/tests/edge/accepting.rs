//! Accepting clients.

use std::io::{self, IoSlice};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use voltlane_core::edge::EdgeConfig;
use voltlane_driver::Stream as _;

use super::{CAPACITY, Setup, ends_within, join, settle, setup, start};
use crate::support::{BackendPeer, Chaos, ClientPeer, MemoryListener, Place};

#[test]
fn an_accept_that_fails_rests_and_goes_on() {
    let Setup {
        mut world,
        clock,
        clients,
        polls,
        ..
    } = setup(EdgeConfig::default(), Chaos::NONE);
    world.run(async {
        settle(&clock).await;
        let (polled, accepts, start) = (polls.get(), clients.accept_calls(), clock.now());
        for _ in 0..10 {
            clients.fail(io::Error::from_raw_os_error(24));
        }
        // Died in the backlog: no reason to rest.
        clients.fail(io::ErrorKind::ConnectionAborted.into());
        join(&clients).await;
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
fn the_clients_of_two_listeners_are_accepted_in_turns() {
    const CROWD: usize = 1_000;
    let second = Place::default();
    let Setup {
        mut world,
        clock,
        clients: first,
        handle,
        done,
        ..
    } = start(
        EdgeConfig::default(),
        Chaos::NONE,
        CAPACITY,
        std::slice::from_ref(&second),
    );
    world.run(async {
        settle(&clock).await;
        // A listener that rests holds no other up.
        let started = clock.now();
        first.fail(io::Error::from_raw_os_error(24));
        let at_second = join(&second).await;
        assert_eq!(clock.now(), started);
        let at_first = join(&first).await;
        // Nor does a crowd.
        let accepted = first.accept_calls();
        let crowd: Vec<_> = (0..CROWD)
            .map(|_| first.dial(CAPACITY, Chaos::NONE))
            .collect();
        let in_time = join(&second).await;
        let accepted = first.accept_calls() - accepted;
        assert!(accepted < CROWD / 2, "{accepted} were accepted before it");
        settle(&clock).await;
        // The end closes both.
        let calls = || first.accept_calls() + second.accept_calls();
        handle.shutdown(Duration::ZERO);
        settle(&clock).await;
        let before = calls();
        let late = [&first, &second].map(|place| place.dial(CAPACITY, Chaos::NONE));
        ends_within(&clock, &done, Duration::from_secs(2)).await;
        assert_eq!(calls(), before);
        drop((at_first, at_second, crowd, in_time, late));
    });
}

#[test]
fn a_crowd_comes_in_a_few_at_a_time_while_clients_have_traffic() {
    const CROWD: usize = 640;
    // Others are accepted in each poll: as many as the driver's constants say, and a call that finds none.
    let (beside_traffic, alone) = (6, 64);
    let Setup {
        mut world,
        clock,
        clients,
        mut listener,
        polls,
        ..
    } = setup(EdgeConfig::default(), Chaos::NONE);
    world.spawn(async move { BackendPeer::accept(&mut listener).await.echo().await });
    world.run(async {
        let mut talker = join(&clients).await;
        settle(&clock).await;
        let dial = |_| clients.dial(CAPACITY, Chaos::NONE);
        let crowd: Vec<_> = (0..CROWD).map(dial).collect();
        let (polled, accepted) = (polls.get(), clients.accept_calls());
        let calls = || clients.accept_calls() - accepted;
        while calls() < CROWD / 2 {
            talker.send(b"ping").await.expect("sent");
            let heard = talker.recv().await.expect("received");
            assert_eq!(heard.as_deref(), Some(&b"ping"[..]));
            let most = beside_traffic * (polls.get() - polled + 1);
            assert!(calls() <= most, "{} in {most}", calls());
        }
        // Nobody is slowed who comes where nobody talks.
        clock.sleep(Duration::from_millis(20)).await;
        let more: Vec<_> = (0..CROWD).map(dial).collect();
        let polled = polls.get();
        settle(&clock).await;
        let polled = polls.get() - polled;
        assert!(polled <= 3 * CROWD / alone, "{polled} polls");
        drop((crowd, more));
    });
}

/// Calls a function when it is woken.
struct Calls<F>(F);

impl<F: Fn() + Send + Sync> Wake for Calls<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

/// Another thread may ask for both at any time. Here they are asked for in the middle of a turn, while a client is read.
#[test]
fn a_listener_opens_only_under_the_configuration_requested_before_it() {
    const SMALL: usize = 1_000;
    let Setup {
        mut world,
        clock,
        clients,
        handle,
        openings,
        ..
    } = setup(EdgeConfig::default(), Chaos::NONE);
    world.run(async {
        let stream = clients.dial(SMALL, Chaos::NONE);
        let mut client = ClientPeer::join(stream).await.expect("joined");
        settle(&clock).await;
        let in_effect = Arc::new(OnceLock::new());
        let seen = Arc::clone(&in_effect);
        let asker = Waker::from(Arc::new(Calls(move || {
            handle.reconfigure(EdgeConfig::default());
            let (handle, seen) = (handle.clone(), Arc::clone(&seen));
            openings.open(move || {
                let mut cx = Context::from_waker(Waker::noop());
                let _ = seen.set(handle.poll_done(&mut cx).is_ready());
                Ok(MemoryListener(Place::default()))
            });
        })));
        // Woken when the edge reads.
        let mut cx = Context::from_waker(&asker);
        let bytes = [IoSlice::new(&[0; SMALL])];
        while client.frames.stream.poll_write(&mut cx, &bytes).is_ready() {}
        // The same turn accepts.
        let other = clients.dial(CAPACITY, Chaos::NONE);
        settle(&clock).await;
        assert_eq!(in_effect.get(), Some(&true));
        drop(other);
    });
}

/// A listener that moves to where it cannot be opened stays where it is.
#[test]
fn a_listener_that_cannot_be_opened_replaces_none() {
    let Setup {
        mut world,
        clock,
        clients,
        openings,
        ..
    } = setup(EdgeConfig::default(), Chaos::NONE);
    world.run(async {
        openings.replace(0, || Err(io::ErrorKind::OutOfMemory.into()));
        settle(&clock).await;
        drop(join(&clients).await);
        let moved = Place::default();
        let listener = MemoryListener(moved.clone());
        openings.replace(0, move || Ok(vec![listener]));
        settle(&clock).await;
        drop(join(&moved).await);
        let calls = clients.accept_calls();
        let late = clients.dial(CAPACITY, Chaos::NONE);
        settle(&clock).await;
        assert_eq!(clients.accept_calls(), calls, "the other one is closed");
        drop(late);
    });
}
