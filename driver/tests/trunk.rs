//! The driver of a trunk, over streams in memory and in virtual time.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::num::NonZeroU8;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::support::{BackendPeer, Chaos, MemoryConnector, MemoryListener, Place, World};
use voltlane_core::edge::trunk::Trunk;
use voltlane_core::edge::{EdgeConfig, HasLink};
use voltlane_core::keys::KeyPair;
use voltlane_driver::{EdgeDriver, TrunkDriver};

#[test]
fn a_deadline_while_the_link_closes_does_not_make_the_driver_spin() {
    let (mut world, backend) = (World::default(), Place::default());
    let clock = world.clock.clone();
    let keys = KeyPair::from_bytes(&[3; 32]).expect("a key");
    let config = EdgeConfig::default();
    let (trunk, _) = Trunk::with_shards(&config, &keys, NonZeroU8::MIN, [9; 32]);
    let connector = MemoryConnector {
        place: backend.clone(),
        capacity: 1_024,
        chaos: Chaos::NONE,
    };
    let (mut driver, shards) = TrunkDriver::new(trunk, connector, clock.timer());
    // The only shard has ended.
    drop(shards);
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
    let mut listener = MemoryListener(backend);
    world.run(async {
        let link = BackendPeer::accept(&mut listener).await;
        // It finishes at once, and the backend does not close its end. Meanwhile the given time runs out.
        handle.shutdown(Duration::from_millis(50));
        let (asked, polled) = (clock.now(), polls.get());
        while !done.get() {
            clock.sleep(Duration::from_millis(10)).await;
            let waited = clock.now().since(asked);
            let bound = Duration::from_millis(110);
            assert!(waited <= bound, "it does not wait for long");
        }
        assert!(polls.get() - polled < 5, "{} polls", polls.get() - polled);
        drop(link);
    });
}

/// Runs once, when it is woken.
struct Does(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Wake for Does {
    fn wake(self: Arc<Self>) {
        let does = self.0.lock().expect("not poisoned").take();
        if let Some(does) = does {
            does();
        }
    }
}

/// The shard's thread is faster than the trunk's, which is in the middle of a turn.
#[test]
fn a_shard_that_ends_in_the_turn_of_the_shutdown_does_not_cost_the_link() {
    let (mut world, backend) = (World::default(), Place::default());
    let keys = KeyPair::from_bytes(&[3; 32]).expect("a key");
    let config = EdgeConfig::default();
    let (trunk, mut edges) = Trunk::with_shards(&config, &keys, NonZeroU8::MIN, [9; 32]);
    let connector = MemoryConnector {
        place: backend.clone(),
        capacity: 1_024,
        chaos: Chaos::NONE,
    };
    let (driver, mut shards) = TrunkDriver::new(trunk, connector, world.clock.timer());
    let handle = driver.handle();
    world.spawn(driver);
    let mut shard = Box::pin(EdgeDriver::new(
        edges.pop().expect("there is one"),
        MemoryListener(Place::default()),
        shards.pop().expect("there is one"),
        world.clock.timer(),
    ));
    let mut listener = MemoryListener(backend);
    world.run(async {
        let mut link = BackendPeer::accept(&mut listener).await;
        // It connects, and announces that it has no sessions, which wakes the trunk for this turn.
        poll_fn(|cx| {
            assert!(shard.as_mut().poll(cx).is_pending());
            match shard.edge().link_read_budget() {
                0 => Poll::Pending,
                _ => Poll::Ready(()),
            }
        })
        .await;
        // The trunk reports that the configuration is in effect after it has looked for requests, and before it reads the shards.
        handle.reconfigure(config.master.clone());
        let asks = handle.clone();
        let does = move || {
            asks.shutdown(Duration::from_secs(1));
            drop(shard);
        };
        let waker = Waker::from(Arc::new(Does(Mutex::new(Some(Box::new(does))))));
        let pending = handle.poll_done(&mut Context::from_waker(&waker));
        assert!(pending.is_pending());
        let received = link.recv().await.expect("an orderly end");
        assert_eq!(received, None);
    });
}
