//! The right to poll a future that several threads may poll.

use super::sync::{AtomicU8, Ordering};

/// A poll was requested and has not begun.
const WANTED: u8 = 1;
/// A thread is polling.
const HELD: u8 = 2;

/// The right to poll a future that any of several threads may poll, one at a time.
///
/// A thread that wants a poll calls [`want`](Claim::want). A thread that can poll calls [`take`](Claim::take). If it cannot take the claim
/// it may do something else: either no poll is wanted, or the holder of the claim sees the request when it [gives the claim
/// back](Claim::give_back). Both flags are one word, so that no request is missed.
#[derive(Debug)]
pub(super) struct Claim(AtomicU8);

impl Claim {
    /// Creates a claim that nobody holds. The first poll is wanted.
    pub(super) fn new() -> Self {
        Claim(AtomicU8::new(WANTED))
    }

    /// Requests a poll that begins after this call.
    pub(super) fn want(&self) {
        self.0.fetch_or(WANTED, Ordering::AcqRel);
    }

    /// Takes the claim if a poll is wanted and nobody holds it. The poll that the caller begins now fulfils the request.
    #[must_use]
    pub(super) fn take(&self) -> bool {
        self.0
            .compare_exchange(WANTED, HELD, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Gives the claim back. Returns whether another poll was requested meanwhile, which the caller must take care of.
    #[must_use]
    pub(super) fn give_back(&self) -> bool {
        self.0.fetch_and(!HELD, Ordering::AcqRel) & WANTED != 0
    }
}
