//! Rates: token buckets over the machine's own time.

use core::time::Duration;

use crate::time::Time;

/// A token bucket without its rate: whoever asks says how many tokens it holds and how long one takes to come back, so that an
/// idle bucket costs 12 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    /// The time from which on the bucket counts as filling up; at most `now`.
    updated: Time,
    /// Tokens taken and not yet come back.
    taken: u32,
}

impl Bucket {
    pub(super) const fn full(now: Time) -> Self {
        Bucket {
            updated: now,
            taken: 0,
        }
    }

    /// Takes one of `burst` tokens, each of which comes back `every` after it; false when there is none.
    pub(super) fn take(&mut self, now: Time, burst: u32, every: Duration) -> bool {
        let every_nanos = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX).max(1);
        let elapsed_nanos = u64::try_from(now.since(self.updated).as_nanos()).unwrap_or(u64::MAX);
        let back = elapsed_nanos / every_nanos;
        if back >= u64::from(self.taken) {
            (self.taken, self.updated) = (0, now);
        } else {
            // Less than `taken`, a u32; the remainder of the time is kept for the next token.
            self.taken -= u32::try_from(back).unwrap_or(self.taken);
            self.updated = self.updated + Duration::from_nanos(back.saturating_mul(every_nanos));
        }
        if self.taken >= burst {
            return false;
        }
        self.taken += 1;
        true
    }

    /// Whether every token has come back.
    pub(super) fn is_full(&self, now: Time, every: Duration) -> bool {
        now.since(self.updated) >= every.saturating_mul(self.taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_burst_then_one_for_each_interval() {
        let second = Duration::from_secs(1);
        let mut bucket = Bucket::full(Time::ZERO);
        let taken = |bucket: &mut Bucket, millis| {
            (0..20)
                .filter(|_| bucket.take(Time::from_millis(millis), 10, second))
                .count()
        };
        assert_eq!(taken(&mut bucket, 0), 10);
        assert_eq!(taken(&mut bucket, 999), 0);
        assert_eq!(taken(&mut bucket, 1_000), 1);
        assert_eq!(taken(&mut bucket, 3_500), 2);
        assert_eq!(taken(&mut bucket, 4_000), 1, "half a token was kept");
        assert_eq!(taken(&mut bucket, 1_000_000), 10);
        assert!(!bucket.take(Time::MAX, 0, Duration::ZERO));
    }
}
