//! Opens and closes listeners of a running driver.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

/// Opens and closes listeners of a running [`EdgeDriver`](super::EdgeDriver), from any thread. Cheap to clone, and harmless if it outlives
/// the driver.
pub struct Openings<L> {
    changes: Changes<L>,
    /// The driver's waker.
    waker: Waker,
}

/// The changes that were asked for since the driver last looked, in order. Their number has no bound but that of the requests.
pub(super) type Changes<L> = Arc<Mutex<Vec<Change<L>>>>;

/// Makes something on the driver's own thread, where its runtime is.
type Make<T> = Box<dyn FnOnce() -> io::Result<T> + Send>;

pub(super) enum Change<L> {
    Open(Make<L>),
    Replace(usize, Make<Vec<L>>),
    Close(usize),
}

impl<L> Clone for Openings<L> {
    fn clone(&self) -> Self {
        Openings {
            changes: Arc::clone(&self.changes),
            waker: self.waker.clone(),
        }
    }
}

impl<L> Openings<L> {
    pub(super) fn new(changes: &Changes<L>, waker: &Waker) -> Self {
        Openings {
            changes: Arc::clone(changes),
            waker: waker.clone(),
        }
    }

    /// Adds a listener. `make` is called on the thread of the driver. If it fails, the log says so. A configuration that was requested
    /// before is in effect first.
    pub fn open(&self, make: impl FnOnce() -> io::Result<L> + Send + 'static) {
        self.ask(Change::Open(Box::new(make)));
    }

    /// Adds listeners in place of those of this number, as [`open`](Self::open) and [`close`](Self::close) do. If they cannot be made, the
    /// log says so, and those of this number stay.
    pub fn replace(
        &self,
        number: usize,
        make: impl FnOnce() -> io::Result<Vec<L>> + Send + 'static,
    ) {
        self.ask(Change::Replace(number, Box::new(make)));
    }

    /// Closes the listeners of this number. The clients that came through them stay.
    pub fn close(&self, number: usize) {
        self.ask(Change::Close(number));
    }

    fn ask(&self, change: Change<L>) {
        lock(&self.changes).push(change);
        self.waker.wake_by_ref();
    }
}

/// Locks the changes.
pub(super) fn lock<L>(changes: &Changes<L>) -> std::sync::MutexGuard<'_, Vec<Change<L>>> {
    // A push or a drain leaves the list consistent even if something panics.
    changes.lock().unwrap_or_else(PoisonError::into_inner)
}
