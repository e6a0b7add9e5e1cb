//! Work for the machine of a running driver that others ask for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use voltlane_core::Time;
use voltlane_core::edge::Edge;

/// The maximum number of errands that wait for one driver.
pub const MAX_ERRANDS: usize = 64;

/// What a driver knows of its clients beside the machine.
pub trait Peers {
    /// Returns the name that a client has proven to its transport: that in its certificate. `conn` is [`ConnKey::index`] of its connection.
    ///
    /// [`ConnKey::index`]: voltlane_core::edge::ConnKey::index
    fn name_of(&self, conn: usize) -> Option<String>;
}

/// Something to do with the machine between two turns.
type Errand = Box<dyn FnOnce(&mut Edge, Time, &dyn Peers) + Send>;

/// The errands that wait, oldest first.
pub(super) type Waiting = Arc<Mutex<VecDeque<Errand>>>;

/// Asks a running [`EdgeDriver`](super::EdgeDriver) to do something with its machine, from any thread. Cheap to clone, and harmless if it
/// outlives the driver.
#[derive(Clone)]
pub struct Errands {
    waiting: Waiting,
    /// The driver's waker.
    waker: Waker,
}

impl std::fmt::Debug for Errands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Errands")
            .field("waiting", &lock(&self.waiting).len())
            .finish_non_exhaustive()
    }
}

impl Errands {
    pub(super) fn new(waiting: &Waiting, waker: &Waker) -> Self {
        Errands {
            waiting: Arc::clone(waiting),
            waker: waker.clone(),
        }
    }

    /// Has the driver call `errand` in one of its next turns. It does one errand in a turn, so an errand must take no longer than a client may
    /// wait. One that the driver does not come to any more is dropped with the driver and its handles. Returns false if
    /// [`MAX_ERRANDS`] wait already.
    #[must_use]
    pub fn send(&self, errand: impl FnOnce(&mut Edge, Time) + Send + 'static) -> bool {
        self.send_with_peers(move |edge, now, _| errand(edge, now))
    }

    /// Like [`send`](Self::send), for an errand that asks for what the driver knows of a client as well.
    #[must_use]
    pub fn send_with_peers(
        &self,
        errand: impl FnOnce(&mut Edge, Time, &dyn Peers) + Send + 'static,
    ) -> bool {
        let mut waiting = lock(&self.waiting);
        if waiting.len() >= MAX_ERRANDS {
            return false;
        }
        waiting.push_back(Box::new(errand));
        drop(waiting);
        self.waker.wake_by_ref();
        true
    }
}

/// Takes the next errand. Also returns whether there are more.
pub(super) fn next(waiting: &Waiting) -> (Option<Errand>, bool) {
    let mut waiting = lock(waiting);
    let errand = waiting.pop_front();
    (errand, !waiting.is_empty())
}

fn lock(waiting: &Waiting) -> MutexGuard<'_, VecDeque<Errand>> {
    // A push or a pop leaves the line consistent even if something panics.
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
