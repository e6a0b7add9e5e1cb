//! The pauses between attempts to connect.

use core::time::Duration;

use rand_core::Rng;

/// Capped exponential backoff with full jitter (SPEC 4.6, 7.6).
///
/// The n-th delay since the last [`reset`](Self::reset) is drawn uniformly from zero to `min * 2^n`, and never exceeds `max`. Full jitter
/// spreads thousands of clients that lost the same edge at the same instant over the whole window; a jitter of a few percent would keep
/// them in one wave.
///
/// The delay is drawn from the caller's generator, so that a seeded run is repeatable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    /// The upper end of the next draw.
    ceiling: Duration,
}

image!(Backoff { min, max, ceiling });

impl Backoff {
    /// Creates a backoff whose first delay is at most `min` and whose every delay is at most `max`.
    ///
    /// A `max` below `min` is treated as `min`.
    #[must_use]
    pub const fn new(min: Duration, max: Duration) -> Self {
        let max = if max.as_nanos() < min.as_nanos() {
            min
        } else {
            max
        };
        Backoff {
            min,
            max,
            ceiling: min,
        }
    }

    /// Changes the range, as for [`new`](Self::new). The current upper end is kept, clamped to the new range.
    pub fn set_range(&mut self, min: Duration, max: Duration) {
        let ceiling = self.ceiling;
        *self = Backoff::new(min, max);
        self.ceiling = ceiling.clamp(self.min, self.max);
    }

    /// Returns the longest delay.
    #[must_use]
    pub const fn max(&self) -> Duration {
        self.max
    }

    /// Draws the delay before the next attempt, and doubles the upper end for the one after it.
    pub fn next_delay(&mut self, rng: &mut impl Rng) -> Duration {
        let delay = uniform_up_to(self.ceiling, rng);
        self.ceiling = self.ceiling.saturating_mul(2).min(self.max);
        delay
    }

    /// Handles that the connection was established: the next delay is drawn like the first one.
    pub fn reset(&mut self) {
        self.ceiling = self.min;
    }
}

/// Draws uniformly from `0..=ceiling` in nanoseconds. A ceiling above 584 years is treated as 584 years.
pub(crate) fn uniform_up_to(ceiling: Duration, rng: &mut impl Rng) -> Duration {
    let ceiling_nanos = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
    // The high word of a 64 x 64 bit product: uniform to one part in 2^64 / ceiling, without a loop.
    let product = u128::from(rng.next_u64()) * (u128::from(ceiling_nanos) + 1);
    Duration::from_nanos(u64::try_from(product >> 64).unwrap_or(ceiling_nanos))
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;

    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(5);

    fn rng(seed: u8) -> ChaCha20Rng {
        ChaCha20Rng::from_seed([seed; 32])
    }

    #[test]
    fn both_ends_of_a_range_are_drawn() {
        let (mut rng, nanosecond) = (rng(3), Duration::from_nanos(1));
        let mut backoff = Backoff::new(nanosecond, nanosecond);
        let drawn: Vec<Duration> = (0..64).map(|_| backoff.next_delay(&mut rng)).collect();
        assert!(drawn.contains(&Duration::ZERO) && drawn.contains(&nanosecond));
        assert!(drawn.iter().all(|&delay| delay <= nanosecond));
    }

    #[test]
    fn each_delay_stays_under_its_doubled_ceiling_and_reaches_near_both_ends() {
        let mut rng = rng(1);
        let ceilings_ms = [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000];
        let mut lowest = [Duration::MAX; 9];
        let mut highest = [Duration::ZERO; 9];
        for _ in 0..2_000 {
            let mut backoff = Backoff::new(MIN, MAX);
            for n in 0..9 {
                let delay = backoff.next_delay(&mut rng);
                lowest[n] = lowest[n].min(delay);
                highest[n] = highest[n].max(delay);
            }
        }
        for n in 0..9 {
            let ceiling = Duration::from_millis(ceilings_ms[n]);
            assert!(
                highest[n] <= ceiling,
                "delay {n}: {:?} > {ceiling:?}",
                highest[n]
            );
            assert!(
                highest[n] > ceiling.mul_f64(0.98),
                "delay {n} never near its ceiling: {:?}",
                highest[n]
            );
            assert!(
                lowest[n] < ceiling.mul_f64(0.02),
                "delay {n} never near zero: {:?}",
                lowest[n]
            );
        }
    }

    #[test]
    fn reset_goes_back_to_the_first_ceiling() {
        let mut rng = rng(2);
        let mut backoff = Backoff::new(MIN, MAX);
        for _ in 0..100 {
            backoff.next_delay(&mut rng);
        }
        backoff.reset();
        assert_eq!(backoff, Backoff::new(MIN, MAX));
        for _ in 0..100 {
            assert!(backoff.next_delay(&mut rng) <= MAX);
            backoff.reset();
            assert!(backoff.next_delay(&mut rng) <= MIN);
            backoff.reset();
        }
    }

    #[test]
    fn another_range_keeps_how_far_the_delays_have_grown_within_it() {
        let mut rng = rng(4);
        let mut backoff = Backoff::new(MIN, MAX);
        for _ in 0..3 {
            backoff.next_delay(&mut rng);
        }
        backoff.set_range(MIN, MAX * 2);
        assert_eq!(backoff.ceiling, MIN * 8);
        backoff.set_range(MIN, MIN * 2);
        assert_eq!(backoff.ceiling, MIN * 2);
        backoff.set_range(MAX, MIN);
        assert_eq!((backoff.ceiling, backoff.max()), (MAX, MAX));
        backoff.reset();
        assert_eq!(backoff, Backoff::new(MAX, MIN));
    }

    #[test]
    fn one_seed_gives_one_sequence_and_another_seed_another() {
        let draw = |seed| -> Vec<Duration> {
            let (mut backoff, mut rng) = (Backoff::new(MIN, MAX), rng(seed));
            (0..16).map(|_| backoff.next_delay(&mut rng)).collect()
        };
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }

    #[test]
    fn bounds_at_the_edges_of_the_type_neither_panic_nor_invert() {
        let mut rng = rng(5);
        let mut never = Backoff::new(Duration::ZERO, Duration::ZERO);
        assert_eq!(never.next_delay(&mut rng), Duration::ZERO);
        assert_eq!(never.next_delay(&mut rng), Duration::ZERO);

        let mut inverted = Backoff::new(MAX, MIN);
        for _ in 0..100 {
            assert!(inverted.next_delay(&mut rng) <= MAX);
        }
        let mut forever = Backoff::new(Duration::MAX, Duration::MAX);
        for _ in 0..100 {
            assert!(forever.next_delay(&mut rng) <= Duration::from_nanos(u64::MAX));
        }
    }
}
