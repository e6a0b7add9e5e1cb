//! The driver of an edge, over streams in memory and in virtual time.

mod accepting;
mod clients;
mod doors;
mod ending;
mod errands;
mod link;
mod turns;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use crate::support::{
    Chaos, ClientPeer, Clock, MemoryConnector, MemoryListener, Place, TestTimer, World,
};
use voltlane_core::edge::{Edge, EdgeConfig};
use voltlane_core::keys::KeyPair;
use voltlane_driver::{EdgeDriver, EdgeHandle, Errands, Openings};

type Driver = EdgeDriver<MemoryListener, MemoryConnector, TestTimer>;

const CAPACITY: usize = 64 * 1024;
const CUT: Chaos = Chaos {
    seed: 0x5eed,
    max_bytes: 700,
    pending_one_in: 3,
};

/// An edge, the place where its clients dial, and the place where it dials its backend.
struct Setup {
    world: World,
    clock: Clock,
    clients: Place,
    /// The backend's.
    listener: MemoryListener,
    handle: EdgeHandle,
    openings: Openings<MemoryListener>,
    errands: Errands,
    /// How often the driver was polled.
    polls: Rc<Cell<usize>>,
    /// Whether its future completed.
    done: Rc<Cell<bool>>,
    /// How long packets waited for the link, as of the last poll.
    #[cfg(feature = "figures")]
    waits: Rc<std::cell::RefCell<voltlane_core::edge::Histogram>>,
}

fn setup(config: EdgeConfig, chaos: Chaos) -> Setup {
    start(config, chaos, CAPACITY, &[])
}

/// Starts an edge with a link that holds `capacity` bytes, which listens at `more` places as well.
fn start(config: EdgeConfig, chaos: Chaos, capacity: usize, more: &[Place]) -> Setup {
    let mut world = World::default();
    let (clients, backend) = (Place::default(), Place::default());
    let edge = Edge::new(
        config,
        KeyPair::from_bytes(&[3; 32]).expect("a key"),
        [9; 32],
    );
    let connector = MemoryConnector {
        place: backend.clone(),
        capacity,
        chaos,
    };
    let mut driver: Driver = EdgeDriver::new(
        edge,
        MemoryListener(clients.clone()),
        connector,
        world.clock.timer(),
    );
    for place in more {
        driver = driver.listening_at(MemoryListener(place.clone()));
    }
    let (handle, openings) = (driver.handle(), driver.openings());
    let errands = driver.errands();
    let (polls, done) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
    let (counted, ended) = (Rc::clone(&polls), Rc::clone(&done));
    #[cfg(feature = "figures")]
    let waits = Rc::<std::cell::RefCell<voltlane_core::edge::Histogram>>::default();
    #[cfg(feature = "figures")]
    let waited = Rc::clone(&waits);
    world.spawn(async move {
        poll_fn(|cx| {
            counted.set(counted.get() + 1);
            let polled = Pin::new(&mut driver).poll(cx);
            #[cfg(feature = "figures")]
            waited.replace(driver.link_waits().cloned().unwrap_or_default());
            polled
        })
        .await;
        ended.set(true);
    });
    Setup {
        clock: world.clock.clone(),
        world,
        clients,
        listener: MemoryListener(backend),
        handle,
        openings,
        errands,
        polls,
        done,
        #[cfg(feature = "figures")]
        waits,
    }
}

/// Joins a client at `place`, over a stream that neither cuts nor stalls.
async fn join(place: &Place) -> ClientPeer {
    let stream = place.dial(CAPACITY, Chaos::NONE);
    ClientPeer::join(stream).await.expect("joined")
}

/// Waits for the driver's end, which must come within `bound`.
async fn ends_within(clock: &Clock, done: &Cell<bool>, bound: Duration) {
    let asked = clock.now();
    while !done.get() {
        clock.sleep(Duration::from_millis(100)).await;
        assert!(clock.now().since(asked) <= bound, "it does not end");
    }
}

/// Lets everything else run until it waits: time passes only then.
async fn settle(clock: &Clock) {
    clock.sleep(Duration::from_millis(1)).await;
}
