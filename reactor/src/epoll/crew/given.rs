//! Where threads leave tenants for each other.

use super::sync::{AtomicUsize, Mutex, MutexGuard, Ordering, PoisonError};

/// What other threads gave to a thread, and the number of all that it has.
#[derive(Debug)]
pub(super) struct Given<T> {
    waiting: Mutex<Vec<T>>,
    /// What the thread has, with what waits for it.
    count: AtomicUsize,
}

impl<T> Given<T> {
    pub(super) fn new() -> Self {
        Given {
            waiting: Mutex::new(Vec::new()),
            count: AtomicUsize::new(0),
        }
    }

    /// Returns how many the thread has, with those that wait for it.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Counts what the thread has from the start.
    pub(super) fn begin_with(&self, count: usize) {
        self.count.store(count, Ordering::Relaxed);
    }

    /// Leaves some for the thread, which must be woken after that.
    pub(super) fn give(&self, mut given: Vec<T>) {
        // Counted first, so that the thread does not seem free in between.
        self.count.fetch_add(given.len(), Ordering::Relaxed);
        self.lock().append(&mut given);
    }

    /// Takes all that wait. The caller is the thread, and has `own` already.
    pub(super) fn take(&self, own: usize) -> Vec<T> {
        if self.count() == own {
            return Vec::new();
        }
        std::mem::take(&mut *self.lock())
    }

    /// Counts what the thread has given away.
    pub(super) fn gave(&self, count: usize) {
        self.count.fetch_sub(count, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        // A push or a swap leaves the list consistent even if something panics.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
