//! Keeps the waker of a task that waits.

use std::task::Waker;

/// Stores `waker`, unless the stored one wakes the same task.
#[doc(hidden)]
#[allow(unreachable_pub, reason = "tests and the simulator include this file")]
pub fn register(slot: &mut Option<Waker>, waker: &Waker) {
    slot.get_or_insert_with(|| waker.clone()).clone_from(waker);
}
