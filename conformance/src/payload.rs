//! Payloads of packets.

/// Returns `length` bytes that show their origin: they differ for another `seed` and at another position.
#[must_use]
pub fn bytes_of(seed: u64, length: usize) -> Vec<u8> {
    // Each word is a function of the seed and its position.
    let mut state = seed.wrapping_mul(GOLDEN);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_add(GOLDEN);
        bytes.extend_from_slice(&mix(state).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Returns random bytes for keys and nonces.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    bytes
}

/// A deterministic generator of numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Creates the generator of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// Returns a number below `bound`, or 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0) % bound.max(1)
    }

    /// Returns a realistic packet size: mostly small, now and then large.
    pub fn size(&mut self) -> usize {
        let most = match self.below(50) {
            0 => 60_000,
            1..=9 => 3_000,
            _ => 100,
        };
        self.below(most) as usize
    }
}

/// 2^64 divided by the golden ratio: its multiples visit every number. (splitmix64)
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Makes every bit depend on every other. (splitmix64)
fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
