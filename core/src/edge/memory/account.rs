//! The memory account: bytes that wait are counted where they are held (SPEC 10.5).
//!
//! Batches under way between a shard and the trunk are with neither, and not counted. The branch bounds them in number and in bytes
//! (SPEC 9.9(g)).
//!
//! It counts bytes of unfinished frames, of queues and of handshakes, not the capacity of their buffers. Most buffers have at most twice
//! the capacity of what waits in them, and are freed when they become empty. Those that are used again are bounded instead: the queue for
//! the link keeps 1 MiB, and each owner of batches keeps a few spare buffers of up to 256 KiB. For capacity that was never used the system
//! has no page. Resident memory beyond the account is measured with the allocator of the program (README, "The bound on memory").

use crate::edge::shares::{Bound, Shares};

/// The share of the permitted memory that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pressure {
    /// Under 80 %.
    None,
    /// From 80 %: clients' bounds shrink to a quarter.
    Tight,
    /// From 90 %: no new sessions.
    Full,
    /// From 95 %: the largest holders fail first.
    Over,
}

/// Returns a function that scales clients' byte bounds.
#[inline]
pub(crate) fn scaled_by(pressure: Pressure) -> impl Fn(usize) -> usize {
    let shift = if pressure >= Pressure::Tight { 2 } else { 0 };
    move |bound| bound >> shift
}

/// Returns the steps at which [`Pressure`] rises. A `max_bytes` of 0 means no limit.
fn steps_of(max_bytes: usize) -> [usize; 3] {
    let max_bytes = if max_bytes == 0 {
        usize::MAX
    } else {
        max_bytes
    };
    [80, 90, 95].map(|percent| max_bytes / 100 * percent + max_bytes % 100 * percent / 100)
}

fn level([tight, full, over]: [usize; 3], held_bytes: usize) -> Pressure {
    match held_bytes {
        bytes if bytes < tight => Pressure::None,
        bytes if bytes < full => Pressure::Tight,
        bytes if bytes < over => Pressure::Full,
        _ => Pressure::Over,
    }
}

/// The memory account.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    /// Bytes held by connections and sessions. Those of the link are added on request.
    counted: usize,
    /// The steps at which [`Pressure`] rises.
    steps: [usize; 3],
}

image!(Account { counted, steps });

impl Account {
    /// Creates an account. A `max_bytes` of 0 means no limit.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Account {
            counted: 0,
            steps: steps_of(max_bytes),
        }
    }

    /// Changes the limit; 0 means none.
    pub(crate) fn set_bound(&mut self, max_bytes: usize) {
        self.steps = steps_of(max_bytes);
    }

    /// Returns the bytes held by all connections and sessions.
    #[inline]
    pub(crate) fn counted(&self) -> usize {
        self.counted
    }

    /// Adds bytes.
    #[inline]
    pub(crate) fn add(&mut self, bytes: usize) {
        self.counted += bytes;
    }

    /// Subtracts bytes.
    #[inline]
    pub(crate) fn subtract(&mut self, bytes: usize) {
        self.counted -= bytes;
    }

    /// Updates a holder from `before` to `after` bytes.
    #[inline]
    pub(crate) fn replace(&mut self, before: usize, after: usize) {
        self.counted = self.counted - before + after;
    }

    /// Returns whether this many bytes are below every step. Checked for every packet: one comparison.
    #[inline]
    pub(crate) fn is_calm(&self, held_bytes: usize) -> bool {
        let [tight, ..] = self.steps;
        held_bytes < tight
    }

    /// Returns the pressure at `held_bytes`.
    pub(crate) fn level(&self, held_bytes: usize, shares: &Shares) -> Pressure {
        if self.is_calm(held_bytes) {
            Pressure::None
        } else if shares.is_alone() {
            level(self.steps, held_bytes)
        } else {
            // Above its own part it depends on what the other shards hold.
            level(steps_of(shares.most(Bound::Memory)), held_bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_rises_at_80_90_and_95_percent() {
        for (max, [tight, full, over]) in [
            (100, [80, 90, 95]),
            (250, [200, 225, 237]),
            (1_999, [1_599, 1_799, 1_899]),
        ] {
            let account = Account::new(max);
            let levels = [0, tight - 1, tight, full - 1, full, over - 1, over, max]
                .map(|bytes| level(account.steps, bytes));
            use Pressure::{Full, None, Over, Tight};
            assert_eq!(
                levels,
                [None, None, Tight, Tight, Full, Full, Over, Over],
                "of {max}"
            );
        }
        assert_eq!(level(steps_of(0), usize::MAX / 100 * 79), Pressure::None);
    }
}
