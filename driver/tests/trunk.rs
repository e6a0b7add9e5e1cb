//! The driver of a trunk, over streams in memory and in virtual time.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::num::NonZeroU8;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use crate::support::{BackendPeer, Chaos, MemoryConnector, MemoryListener, Place, World};
use voltlane_core::edge::EdgeConfig;
use voltlane_core::edge::trunk::Trunk;
use voltlane_core::keys::KeyPair;
use voltlane_driver::TrunkDriver;

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
