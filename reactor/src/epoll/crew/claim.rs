//! Who polls a future that several threads may poll.

use super::sync::{AtomicU8, Ordering};

/// Somebody asked for a poll that has not begun.
const WANTED: u8 = 1;
/// A thread polls it.
const HELD: u8 = 2;

/// The right to poll a future that any of several threads may poll, one at a time.
///
/// Whoever wants it polled calls [`want`](Claim::want), and then lets a thread [`take`](Claim::take) the claim. A thread that fails to
/// take it may go on with something else: either nothing is wanted, or the thread that holds the claim finds the wish when it
/// [gives it back](Claim::give_back). Both are one word, so that no wish falls between the two.
#[derive(Debug)]
pub(super) struct Claim(AtomicU8);

impl Claim {
    /// A claim that nobody holds. The first poll is wanted.
    pub(super) fn new() -> Self {
        Claim(AtomicU8::new(WANTED))
    }

    /// From now on a poll is wanted that begins after this.
    pub(super) fn want(&self) {
        self.0.fetch_or(WANTED, Ordering::AcqRel);
    }

    /// Takes the claim if a poll is wanted and nobody holds it. The wish is fulfilled by the poll that the caller begins now.
    #[must_use]
    pub(super) fn take(&self) -> bool {
        self.0
            .compare_exchange(WANTED, HELD, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Gives the claim back. Returns whether another poll was wanted meanwhile, which the caller has to take care of.
    #[must_use]
    pub(super) fn give_back(&self) -> bool {
        self.0.fetch_and(!HELD, Ordering::AcqRel) & WANTED != 0
    }
}
