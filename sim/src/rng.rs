//! The simulator's only source of randomness: a small generator that is seeded, forked by purpose, and never the system's.

/// SplitMix64: good enough to draw faults with, and the same stream on every platform.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Creates a generator for `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// Creates a generator for one purpose of a run.
    ///
    /// Every pipe, client and connection has its own, so that removing an operation from a plan does not change what the others draw.
    #[must_use]
    pub fn fork(seed: u64, purpose: &str, number: u64) -> Rng {
        let mut mixed = Rng(seed ^ 0x9e6c_63d0_876a_4f13);
        for byte in purpose.bytes() {
            mixed.0 = mixed.next() ^ u64::from(byte);
        }
        mixed.0 = mixed.next() ^ number;
        Rng(mixed.next())
    }

    /// Returns the next 64 bits.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `bound`, or 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            0
        } else {
            ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
        }
    }

    /// Returns a number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// Returns true with a probability of `percent` in a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Returns one of `choices`, which must not be empty.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// Returns a place in `weights`, each with the probability of its weight. Not all may be 0.
    pub fn weighted(&mut self, weights: &[u64]) -> usize {
        let mut left = self.below(weights.iter().sum());
        let mut place = 0;
        while left >= weights[place] {
            left -= weights[place];
            place += 1;
        }
        place
    }

    /// Returns a number from `low` to `high` whose logarithm is uniform, so that small and large numbers are equally likely.
    pub fn log_between(&mut self, low: u64, high: u64) -> u64 {
        let (low_bits, high_bits) = ((low.max(1) as f64).ln(), (high.max(1) as f64).ln());
        let unit = self.below(1 << 32) as f64 / (1u64 << 32) as f64;
        ((low_bits + (high_bits - low_bits) * unit).exp() as u64).clamp(low, high)
    }

    /// Fills `out` with random bytes.
    pub fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let bytes = self.next().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}
