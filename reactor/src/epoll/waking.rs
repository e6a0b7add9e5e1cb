//! Whether a future is to be polled, and whether its thread waits.

use super::sync::{AtomicU8, Ordering};

/// The future is being polled, or wakers are being called.
const RUNNING: u8 = 0;
/// The future must be polled.
const WOKEN: u8 = 1;
/// The thread is waiting: a wake of the future must also wake the thread.
const WAITING: u8 = 2;

/// The state of a future that any thread may wake, and that one thread at a time polls and waits for.
///
/// Both facts are one word, so that no wake falls between a look for wakes and the wait that follows.
#[derive(Debug)]
pub(super) struct Waking(AtomicU8);

impl Waking {
    /// Creates the state of a future that has not been polled yet.
    pub(super) fn new() -> Self {
        Waking(AtomicU8::new(WOKEN))
    }

    /// Wakes the future. Returns whether its thread waits, which the caller must end.
    #[must_use]
    pub(super) fn wake(&self) -> bool {
        self.0.swap(WOKEN, Ordering::AcqRel) == WAITING
    }

    /// Returns whether the future was woken since the last call, and clears that.
    #[must_use]
    pub(super) fn take(&self) -> bool {
        self.0.swap(RUNNING, Ordering::AcqRel) == WOKEN
    }

    /// Makes each wake from now on interrupt the wait. Returns false if the future was woken.
    #[must_use]
    pub(super) fn become_waiting(&self) -> bool {
        self.0
            .compare_exchange(RUNNING, WAITING, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Leaves the waiting state. A wake that came meanwhile is kept.
    pub(super) fn become_running(&self) {
        let _ = self
            .0
            .compare_exchange(WAITING, RUNNING, Ordering::AcqRel, Ordering::Acquire);
    }
}
