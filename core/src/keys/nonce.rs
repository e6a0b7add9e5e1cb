//! Nonces that the edge recognises as its own. (SPEC section 5.2)

use core::fmt;

use rand_chacha::ChaCha20Rng;
use rand_core::Rng;
use siphasher::sip::SipHasher24;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The length of a nonce in bytes.
pub const NONCE_BYTES: usize = 24;

const RANDOM_BYTES: usize = 16;

/// Creates nonces that only their creator can recognise.
///
/// A nonce is 16 random bytes followed by their SipHash-2-4 under a secret key. The edge seals challenges with such nonces and refuses
/// responses that use one: the edge sealed them, and the client only echoed them. This needs no memory. A foreign nonce is mistaken for an
/// own one with a probability of 2^-64.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct NonceMint {
    key: [u8; 16],
}

image!(NonceMint { key });

impl NonceMint {
    /// Creates a mint with `key`, which must be drawn for each run.
    #[must_use]
    pub const fn new(key: [u8; 16]) -> Self {
        Self { key }
    }

    /// Draws a nonce.
    #[must_use]
    pub fn mint(&self, rng: &mut ChaCha20Rng) -> [u8; NONCE_BYTES] {
        let mut nonce = [0; NONCE_BYTES];
        let (random, mark) = nonce.split_at_mut(RANDOM_BYTES);
        rng.fill_bytes(random);
        mark.copy_from_slice(&self.mark(random).to_le_bytes());
        nonce
    }

    /// Returns whether this mint created `nonce`, in constant time.
    #[must_use]
    pub fn is_own(&self, nonce: &[u8; NONCE_BYTES]) -> bool {
        let (random, mark) = nonce
            .split_last_chunk()
            .expect("the last 8 of 24 bytes are the mark");
        let mark = u64::from_le_bytes(*mark);
        self.mark(random).ct_eq(&mark).into()
    }

    fn mark(&self, random: &[u8]) -> u64 {
        SipHasher24::new_with_key(&self.key).hash(random)
    }
}

impl fmt::Debug for NonceMint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NonceMint").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rand_core::SeedableRng;

    use super::*;

    #[test]
    fn a_mint_knows_its_own_nonces_and_no_others() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let (mint, other) = (NonceMint::new([2; 16]), NonceMint::new([3; 16]));
        for _ in 0..100 {
            let nonce = mint.mint(&mut rng);
            assert!(mint.is_own(&nonce));
            assert!(!other.is_own(&nonce));
            for bit in 0..NONCE_BYTES * 8 {
                let mut altered = nonce;
                altered[bit / 8] ^= 1 << (bit % 8);
                assert!(!mint.is_own(&altered), "bit {bit}");
            }
        }
    }

    #[test]
    fn the_mark_is_siphash_2_4_little_endian() {
        // The 17th vector of the reference implementation: 16 bytes counting up under a key counting up.
        let counting: [u8; 16] = core::array::from_fn(|at| at as u8);
        let mut nonce = [0; NONCE_BYTES];
        nonce[..16].copy_from_slice(&counting);
        nonce[16..].copy_from_slice(&[0xdb, 0x9b, 0xc2, 0x57, 0x7f, 0xcc, 0x2a, 0x3f]);
        assert!(NonceMint::new(counting).is_own(&nonce));
    }

    #[test]
    fn every_nonce_is_another() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let mint = NonceMint::new([2; 16]);
        let mut nonces: Vec<_> = (0..10_000).map(|_| mint.mint(&mut rng)).collect();
        nonces.sort_unstable();
        nonces.dedup();
        assert_eq!(nonces.len(), 10_000);
    }

    #[test]
    fn the_key_is_wiped_and_not_shown() {
        fn wiped_on_drop<T: ZeroizeOnDrop>() {}
        wiped_on_drop::<NonceMint>();
        assert_eq!(format!("{:?}", NonceMint::new([2; 16])), "NonceMint { .. }");
    }
}
