//! Randomness of a machine that draws seldom.

use core::convert::Infallible;
use core::fmt;

use rand_chacha::ChaCha20Rng;
use rand_core::{SeedableRng, TryRng};
use zeroize::Zeroizing;

/// What a [`ChaCha20Rng`] of the same seed draws. It computes its blocks again for each draw, and so has 48 bytes in place of 320: most of what
/// an idle client would have otherwise.
#[derive(Clone)]
pub(crate) struct Draws {
    seed: Zeroizing<[u8; 32]>,
    /// The words that were drawn.
    drawn: u64,
}

impl Draws {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        Draws { seed, drawn: 0 }
    }

    /// Lends the generator for some draws.
    pub(crate) fn lend<T>(&mut self, draw: impl FnOnce(&mut ChaCha20Rng) -> T) -> T {
        let mut rng = ChaCha20Rng::from_seed(*self.seed);
        rng.set_word_pos(self.drawn.into());
        let drawn = draw(&mut rng);
        self.drawn = u64::try_from(rng.get_word_pos()).expect("nobody draws for that long");
        drawn
    }
}

impl TryRng for Draws {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.lend(TryRng::try_next_u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.lend(TryRng::try_next_u64)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.lend(|rng| rng.try_fill_bytes(bytes))
    }
}

impl fmt::Debug for Draws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draws").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rand_core::Rng;

    use super::*;

    #[test]
    fn draws_what_the_generator_of_its_seed_draws() {
        let (mut draws, mut rng) = (Draws::new([3; 32]), ChaCha20Rng::from_seed([3; 32]));
        for round in 0..300 {
            assert_eq!(draws.next_u64(), rng.next_u64(), "{round}");
            if round % 3 == 0 {
                assert_eq!(draws.next_u32(), rng.next_u32(), "{round}");
            }
            let mut both = [[0; 37]; 2];
            let length = round % 37;
            draws.fill_bytes(&mut both[0][..length]);
            rng.fill_bytes(&mut both[1][..length]);
            assert_eq!(both[0], both[1], "{round}");
        }
        assert_eq!(
            draws.lend(|rng| [rng.next_u64(), rng.next_u64()]),
            [rng.next_u64(), rng.next_u64()]
        );
    }

    #[test]
    fn is_small() {
        assert!(size_of::<Draws>() <= 48);
    }
}
