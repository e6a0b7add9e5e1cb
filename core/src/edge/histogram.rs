//! Counts of how long things took.

use core::time::Duration;

/// The number of bounds of a [`Histogram`].
const BOUNDS: usize = 10;
/// The first bound is this power of two in nanoseconds: 66 µs.
const FIRST_BITS: u32 = 16;
/// Each bound is four times the one before.
const STEP_BITS: u32 = 2;

const fn bound(at: u32) -> Duration {
    Duration::from_nanos(1 << (FIRST_BITS + STEP_BITS * at))
}

/// How long something took, each time: counts of durations within bounds from 66 µs to 17 s, each four times the one before. It takes a few
/// instructions to count one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// The counts within each bound and above the one before, and then beyond the last.
    counts: [u64; BOUNDS + 1],
    nanos: u64,
}

image!(Histogram { counts, nanos });

impl Histogram {
    /// The upper bounds, each inclusive.
    pub const BOUNDS: [Duration; BOUNDS] = [
        bound(0),
        bound(1),
        bound(2),
        bound(3),
        bound(4),
        bound(5),
        bound(6),
        bound(7),
        bound(8),
        bound(9),
    ];

    /// Counts a duration.
    pub fn record(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        // The bits of what is beyond the bound below, so that a bound is inclusive.
        let bits = u64::BITS - nanos.saturating_sub(1).leading_zeros();
        let at = bits.saturating_sub(FIRST_BITS).div_ceil(STEP_BITS);
        let at = usize::try_from(at).unwrap_or(BOUNDS).min(BOUNDS);
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
        }
        self.nanos = self.nanos.saturating_add(nanos);
    }

    /// Returns the counts within each of [`BOUNDS`](Self::BOUNDS) and above the one before, and then beyond the last.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Returns how many durations were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns their sum.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.nanos)
    }

    /// Adds the counts of another one.
    pub fn add(&mut self, other: &Histogram) {
        for (sum, other) in self.counts.iter_mut().zip(other.counts) {
            *sum += other;
        }
        self.nanos = self.nanos.saturating_add(other.nanos);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_within_the_first_bound_that_it_does_not_exceed() {
        let place = |took| {
            let mut histogram = Histogram::default();
            histogram.record(took);
            assert_eq!((histogram.count(), histogram.sum()), (1, took));
            histogram.counts().iter().position(|&count| count == 1)
        };
        assert_eq!(place(Duration::ZERO), Some(0));
        let nano = Duration::from_nanos(1);
        for (at, bound) in Histogram::BOUNDS.into_iter().enumerate() {
            assert_eq!(place(bound - nano), Some(at), "{bound:?}");
            assert_eq!(place(bound), Some(at), "{bound:?}");
            assert_eq!(place(bound + nano), Some(at + 1), "{bound:?}");
        }
        assert_eq!(Histogram::BOUNDS[0], Duration::from_nanos(65_536));
    }

    #[test]
    fn sums_are_those_of_both() {
        let mut one = Histogram::default();
        one.record(Duration::MAX);
        let mut other = Histogram::default();
        other.record(Duration::from_millis(1));
        one.add(&other);
        assert_eq!(one.count(), 2);
        assert_eq!(one.sum(), Duration::from_nanos(u64::MAX), "not beyond");
        assert_eq!((one.counts()[2], one.counts()[BOUNDS]), (1, 1));
    }
}
